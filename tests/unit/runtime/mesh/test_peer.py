"""The bounded outbox of one peer."""

from collections.abc import Callable

import pytest

from runtime.mesh import peer as module
from runtime.mesh.peer import Peer
from runtime.mesh.statistics import MeshStatistics
from runtime.mesh.transport import Inlets, Listening
from world.limits import OUTBOX_EXPIRE_MS


class Line:
    """A link that takes ``room`` more messages."""

    def __init__(self) -> None:
        self.room = 0
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> bool:
        if self.room <= 0:
            return False
        self.room -= 1
        self.sent.append(data)
        return True

    def close(self, linger_ms: int = 0) -> None:
        self.room = 0


class Net:
    """A transport of one link."""

    def __init__(self) -> None:
        self.inlets, self.command, self.state = Inlets(), "", ""
        self.line = Line()
        self.now = 0.0
        self.taken: list[int] = []
        self.settled: set[int] = set()
        self.statistics = MeshStatistics()
        self.peer = Peer(
            self,
            "fake://x",
            "gw1:1",
            "gs1",
            1,
            "gameserver",
            lambda: self.now,
            self.statistics,
            self.taken.append,
            lambda call: call not in self.settled,
        )

    def link(self, endpoint: str, name: str, on_writable: Callable[[], None]) -> Line:
        return self.line

    def listen(self, endpoint: str, publisher: str) -> Listening:
        raise NotImplementedError

    def publish(self, topic: bytes, body: bytes) -> None:
        raise NotImplementedError

    async def close(self, linger_ms: int = 0) -> None:
        raise NotImplementedError


def test_what_is_not_taken_waits_in_order() -> None:
    net = Net()
    net.line.room = 1
    assert net.peer.send(b"1") is True
    assert net.peer.send(b"2", call=9) is None
    assert net.peer.send(b"2", call=9) is None, "one attempt of a call waits at most"
    assert net.peer.send(b"heartbeat", queue=False) is False
    assert net.peer.depth == 1
    net.line.room = 5
    assert net.peer.send(b"3") is True
    assert net.line.sent == [b"1", b"2", b"3"]
    assert net.taken == [9]
    assert net.peer.send(b"2", call=9) is True


def test_a_full_outbox_refuses_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PEER_OUTBOX_MESSAGES", 3)
    net = Net()
    assert [net.peer.send(b"%d" % n) for n in range(5)] == [None, None, None, False, False]
    assert net.statistics.outbox_refused == 2
    net.line.room = 9
    net.peer.flush()
    assert net.line.sent == [b"0", b"1", b"2"]


def test_a_full_outbox_is_counted_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PEER_OUTBOX_BYTES", 100)
    net = Net()
    assert [net.peer.send(bytes(40)) for _ in range(3)] == [None, None, False]


def test_what_waited_too_long_is_dropped_unsent() -> None:
    net = Net()
    net.peer.send(b"old")
    net.now = OUTBOX_EXPIRE_MS + 1
    net.peer.send(b"new")
    net.line.room = 9
    net.peer.flush()
    assert net.line.sent == [b"new"]
    assert net.statistics.outbox_expired == 1


def test_a_call_that_was_given_up_never_leaves() -> None:
    net = Net()
    net.peer.send(b"offer", call=9)
    net.peer.send(b"another", call=10)
    net.settled.add(9)
    net.line.room = 9
    net.peer.flush()
    assert net.line.sent == [b"another"]
    assert net.taken == [10]
    assert net.statistics.outbox_settled == 1


def test_a_closed_peer_drops_and_counts() -> None:
    net = Net()
    net.peer.send(b"x")
    net.peer.close()
    net.line.room = 9
    net.peer.flush()
    assert net.line.sent == []
    assert net.statistics.outbox_dropped == 1
