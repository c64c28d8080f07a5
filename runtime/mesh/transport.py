"""What a mesh needs of a network. ``zmq_transport`` is one over ZeroMQ, ``fake`` one in virtual time, with faults."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


class Link(Protocol):
    """One way to one endpoint's command plane, ordered, reconnecting by itself."""

    def send(self, data: bytes) -> bool:
        """False: not taken now (no connection, or its queue is full); ``on_writable`` tells when to try again."""
        ...

    def close(self, linger_ms: int = 0) -> None: ...


class Listening(Protocol):
    """The receiving end of one publisher's channels."""

    def subscribe(self, topic: bytes) -> None: ...

    def unsubscribe(self, topic: bytes) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class Inlets:
    """Where a transport hands in what arrives; set by the mesh before anything can."""

    message: Callable[[bytes], None] = field(default=lambda data: None)
    subscription: Callable[[bytes, bool], None] = field(default=lambda topic, subscribed: None)
    frame: Callable[[str, bytes, bytes], None] = field(default=lambda publisher, topic, body: None)


class Transport(Protocol):
    inlets: Inlets
    command: str  # the advertised endpoint of my command plane
    state: str  # of my state plane; "" where I publish none

    def link(self, endpoint: str, name: str, on_writable: Callable[[], None]) -> Link:
        """``name`` identifies the sender (node and generation). Raises ValueError for an impossible endpoint."""
        ...

    def publish(self, topic: bytes, body: bytes) -> None: ...

    def listen(self, endpoint: str, publisher: str) -> Listening:
        """Raises ValueError for an impossible endpoint."""
        ...

    async def close(self, linger_ms: int = 0) -> None: ...
