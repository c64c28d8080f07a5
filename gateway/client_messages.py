"""What a client may say as text: tagged JSON objects, every field bounded, unknown fields refused.

Arguments of commands are scalars, or one list or object of scalars: deeper nesting has no use and costs recursion
at every hop, so it is refused here.
"""

from typing import Annotated, Any

import msgspec

from world.messages import U32, U53

Integer = Annotated[int, msgspec.Meta(ge=-(1 << 53), le=1 << 53)]
String = Annotated[str, msgspec.Meta(max_length=1_024)]
Scalar = bool | Integer | float | String | None
ArgumentName = Annotated[str, msgspec.Meta(max_length=32)]
Argument = (
    bool
    | Integer
    | float
    | String
    | Annotated[list[Scalar], msgspec.Meta(max_length=64)]
    | Annotated[dict[ArgumentName, Scalar], msgspec.Meta(max_length=64)]
    | None
)
Arguments = Annotated[dict[ArgumentName, Argument], msgspec.Meta(max_length=16)]
Token = Annotated[str, msgspec.Meta(min_length=1, max_length=2_048)]
ClientName = Annotated[str, msgspec.Meta(max_length=64)]
Operation = Annotated[str, msgspec.Meta(min_length=1, max_length=32, pattern="^[a-z_]+$")]
Number = Annotated[int, msgspec.Meta(ge=1, le=(1 << 53) - 1)]


class ClientMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="t"):
    """Base of everything in the table."""


class Identify(ClientMessage, frozen=True, tag="identify"):
    protocol: U32
    token: Token
    client: ClientName = ""


class Resume(ClientMessage, frozen=True, tag="resume"):
    """``stream``, ``event``: the last numbered event seen; ``input``: the last move sent; ``floor``: results seen."""

    protocol: U32
    resume_token: Token
    connection: Annotated[int, msgspec.Meta(ge=2, le=0xFFFFFFFF)]
    stream: U53 = 0
    event: U53 = 0
    input: U32 = 0
    floor: U53 = 0
    client: ClientName = ""


class Ping(ClientMessage, frozen=True, tag="ping"):
    c: Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)] = 0.0


class Command(ClientMessage, frozen=True, tag="command"):
    n: Number
    op: Operation
    floor: U53 = 0
    args: Arguments = {}


class Seen(ClientMessage, frozen=True, tag="seen"):
    s: U53
    n: U53


class Bye(ClientMessage, frozen=True, tag="bye"): ...


AnyClientMessage = Identify | Resume | Ping | Command | Seen | Bye
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(AnyClientMessage)


class BadClientMessage(ValueError):
    """Text that is no message of the table."""


def decode(data: bytes) -> AnyClientMessage:
    """Raises BadClientMessage; never anything else, whatever the bytes."""
    try:
        message: AnyClientMessage = _decoder.decode(data)
    except (ValueError, RecursionError) as error:
        raise BadClientMessage(str(error)[:200]) from error
    return message
