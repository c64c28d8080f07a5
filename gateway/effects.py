"""What a session core wants done. The core decides, ``gateway.client`` does; replies come back as the core's inputs."""

from typing import NamedTuple

from gateway.closing import Closing
from world.messages import Attach, ClientCommand, EventsMissed, Message


class Say(NamedTuple):
    """Send this text to the client."""

    text: bytes


class Close(NamedTuple):
    """Close the socket; nothing follows."""

    closing: Closing


class CheckToken(NamedTuple):
    """Answer: ``Session.token_checked``."""

    token: str
    purpose: str  # access | resume


class AskSession(NamedTuple):
    """Ask any login for a session. Answer: ``Session.session_opened``."""

    account: str
    avatar: int
    family: str = ""


class CallAttach(NamedTuple):
    """Answer: ``Session.attach_answered`` with the same attempt. ``server`` "": any."""

    server: str
    message: Attach
    attempt: int


class CallCommand(NamedTuple):
    """Answer: ``Session.command_answered`` with the same number and attempt."""

    server: str
    message: ClientCommand
    attempt: int


class CallMissed(NamedTuple):
    """Answer: ``Session.missed_answered``."""

    server: str
    message: EventsMissed


class Tell(NamedTuple):
    """One way."""

    server: str
    message: Message


class Moves(NamedTuple):
    """MOVE_ROW[n] for the owner, joined with other clients' until the next flush."""

    server: str
    rows: bytes


class Look(NamedTuple):
    """The client sees this circle from now on."""

    x: float
    y: float
    radius: float


class Count(NamedTuple):
    """Raise a counter: input that was refused, ignored or doubled."""

    kind: str


Effect = Say | Close | CheckToken | AskSession | CallAttach | CallCommand | CallMissed | Tell | Moves | Look | Count
