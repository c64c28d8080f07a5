"""What travels around every message of the command plane: from whom, to whom (generations included), and what for."""

from typing import Annotated, Final

import msgspec

from world.messages import U32, U53, Short

ONE_WAY: Final = 0
CALL: Final = 1
REPLY: Final = 2


class Envelope(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``to``/``to_generation``: a mismatch is refused, because a socket delivers to whoever listens at the address now.
    An empty ``to`` (joining an endpoint whose node is not known yet) goes to anyone."""

    origin: Short
    generation: U32  # the sender's; 0: it only asks for the book before it takes one
    to: Short
    to_generation: U32
    kind: Annotated[int, msgspec.Meta(ge=0, le=2)]
    number: U53  # call number of the caller, echoed in the reply; 0 for one-way messages
    floor: U53  # calls of the sender to this peer numbered <= floor are settled: their replies may be forgotten
    ttl_ms: U32  # calls: what is left until the caller's deadline
    body: bytes  # world.messages, encoded


class BadEnvelope(ValueError):
    """Bytes that are no envelope."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


def encode(envelope: Envelope) -> bytes:
    return _encoder.encode(envelope)


def decode(data: bytes) -> Envelope:
    """Raises BadEnvelope."""
    try:
        return _decoder.decode(data)
    except (ValueError, RecursionError) as error:
        raise BadEnvelope(str(error)) from error
