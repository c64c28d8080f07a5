"""What a ``CellReceiver`` asks its caller to do, in order."""

from typing import NamedTuple


class Subscribe(NamedTuple):
    publisher: int
    cell: int


class Unsubscribe(NamedTuple):
    publisher: int
    cell: int


class AskSnapshot(NamedTuple):
    publisher: int
    cell: int


class AskRepair(NamedTuple):
    publisher: int
    cell: int
    after: int


class Reconnect(NamedTuple):
    publisher: int


class Apply(NamedTuple):
    publisher: int
    cell: int
    body: bytes
    snapshot: bool


class Forget(NamedTuple):
    """All that was delivered of this channel is void."""

    publisher: int
    cell: int


class Hide(NamedTuple):
    """The publisher was silent or dead for PUBLISHER_HIDE_MS; a Forget for each of its channels follows."""

    publisher: int


Effect = Subscribe | Unsubscribe | AskSnapshot | AskRepair | Reconnect | Apply | Forget | Hide
