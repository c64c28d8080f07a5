"""The state plane over a transport: who listens to what of mine, and what I want to hear of whom."""

from collections.abc import Callable

from runtime.mesh.book import MemberBook
from runtime.mesh.statistics import MeshStatistics
from runtime.mesh.transport import Listening, Transport
from world.ids import NodeId
from world.limits import STATE_FRAME_BYTES, TOPIC_BYTES


class Channels:
    """Wanted topics outlive their publishers: a new generation or endpoint gets a new socket with all of them."""

    def __init__(
        self, transport: Transport, book: MemberBook, statistics: MeshStatistics, may_speak: Callable[[], bool]
    ) -> None:
        self._transport, self._book, self._statistics, self._may_speak = transport, book, statistics, may_speak
        self._listeners: dict[bytes, int] = {}
        self._wanted: dict[str, set[bytes]] = {}
        self._open: dict[str, tuple[str, int, Listening]] = {}  # publisher: endpoint, generation, socket
        self._subscription_callbacks: list[Callable[[bytes, bool], None]] = []
        self._closed = False
        self._frame_callbacks: list[Callable[[NodeId, bytes, bytes], None]] = []
        transport.inlets.subscription = self._subscribed
        transport.inlets.frame = self._framed

    # -- as a publisher --------------------------------------------------------------------------------------------
    def publish(self, topic: bytes, body: bytes) -> bool:
        """Raises ValueError for a topic that is not TOPIC_BYTES long or a body above STATE_FRAME_BYTES."""
        if topic not in self._listeners or self._closed:
            self._statistics.frames_unheard += 1
            return False
        _check(topic)
        if len(body) > STATE_FRAME_BYTES:
            raise ValueError(f"a frame of {len(body)} bytes")
        if not self._may_speak():
            self._statistics.held += 1
            return False
        self._transport.publish(topic, body)
        self._statistics.frames_out += 1
        self._statistics.frame_bytes_out += len(body)
        return True

    def listeners(self, topic: bytes) -> int:
        return self._listeners.get(topic, 0)

    def on_subscription(self, callback: Callable[[bytes, bool], None]) -> None:
        self._subscription_callbacks.append(callback)

    def _subscribed(self, topic: bytes, subscribed: bool) -> None:
        if len(topic) != TOPIC_BYTES:
            self._statistics.malformed += 1
            return
        count = self._listeners.get(topic, 0) + (1 if subscribed else -1)
        if count > 0:
            self._listeners[topic] = count
        else:
            self._listeners.pop(topic, None)
        for callback in self._subscription_callbacks:
            callback(topic, subscribed)

    # -- as a subscriber -------------------------------------------------------------------------------------------
    def subscribe(self, publisher: NodeId, topic: bytes) -> None:
        """Raises ValueError for a topic that is not TOPIC_BYTES long."""
        _check(topic)
        wanted = self._wanted.setdefault(publisher, set())
        if topic in wanted:
            return
        wanted.add(topic)
        link = self._open.get(publisher)
        if link is not None:
            link[2].subscribe(topic)
        else:
            self._follow(publisher)

    def unsubscribe(self, publisher: NodeId, topic: bytes) -> None:
        wanted = self._wanted.get(publisher, set())
        if topic not in wanted:
            return
        wanted.discard(topic)
        link = self._open.get(publisher)
        if link is not None:
            link[2].unsubscribe(topic)
        if not wanted:
            del self._wanted[publisher]
            self._shut(publisher)

    def reconnect(self, publisher: NodeId) -> None:
        self._shut(publisher)
        self._follow(publisher)

    def on_frame(self, callback: Callable[[NodeId, bytes, bytes], None]) -> None:
        self._frame_callbacks.append(callback)

    def follow_book(self) -> None:
        for publisher in sorted(set(self._wanted) | set(self._open)):
            self._follow(publisher)

    def _follow(self, publisher: str) -> None:
        if self._closed:
            return
        member = self._book.get(NodeId(publisher))
        link = self._open.get(publisher)
        if link is not None and (member is None or link[:2] != (member.state, member.generation)):
            self._shut(publisher)
            link = None
        if link is not None or member is None or not member.state or publisher not in self._wanted:
            return
        try:
            listening = self._transport.listen(member.state, publisher)
        except ValueError:
            self._statistics.bad_endpoints += 1
            return
        self._open[publisher] = (member.state, member.generation, listening)
        for topic in sorted(self._wanted[publisher]):
            listening.subscribe(topic)

    def _shut(self, publisher: str) -> None:
        link = self._open.pop(publisher, None)
        if link is not None:
            link[2].close()

    def _framed(self, publisher: str, topic: bytes, body: bytes) -> None:
        if publisher not in self._open:
            self._statistics.frames_of_dead += 1
            return
        if topic not in self._wanted.get(publisher, ()):
            return  # under way when it was unsubscribed
        self._statistics.frames_in += 1
        self._statistics.frame_bytes_in += len(body)
        for callback in self._frame_callbacks:
            callback(NodeId(publisher), topic, body)

    def close(self) -> None:
        self._closed = True
        for publisher in list(self._open):
            self._shut(publisher)


def _check(topic: bytes) -> None:
    if len(topic) != TOPIC_BYTES:
        raise ValueError(f"a topic of {len(topic)} bytes: topics match by prefix, all have {TOPIC_BYTES}")
