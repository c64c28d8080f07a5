"""Two releases side by side: what the other one does not know yet, or no longer says, harms nothing."""

import msgspec
import pytest

from world import frames
from world.message_values import Member
from world.messages import BadMessage, BookPage, Deploy, EndSession, HandOff, decode, encode


def test_blocks_of_an_unknown_type_are_skipped_by_their_length() -> None:
    leave = b"\x01" * 20
    blocks = [(200, 1, b"later"), (frames.BLOCK_LEAVE, 1, leave), (201, 0, b"")]
    value = frames.HEAD.pack(frames.SLICE, 3, 7, 2, len(blocks), 1, 9, 1_000)
    for kind, count, payload in blocks:
        value += frames.BLOCK.pack(kind, 0, count, len(payload)) + payload
    piece = frames.read_slice(value)
    assert piece.head.sequence == 9
    assert len(piece.leaves) == 1


def test_fields_appended_to_a_message_are_ignored_by_an_older_reader() -> None:
    sent = msgspec.msgpack.decode(encode(EndSession(7, 3)))
    assert decode(msgspec.msgpack.encode([*sent, "a later field", 9])) == EndSession(7, 3)


def test_fields_that_an_older_sender_does_not_know_have_defaults() -> None:
    """``avatar`` of a hand-off and ``node`` of a deployment were appended once."""
    sent = msgspec.msgpack.decode(encode(HandOff("region:1,2", 4, 9, b"{}")))
    assert decode(msgspec.msgpack.encode(sent[:-1])) == HandOff("region:1,2", 4, 9, b"{}")
    assert decode(msgspec.msgpack.encode([msgspec.msgpack.decode(encode(Deploy()))[0]])) == Deploy()


def test_a_member_of_another_release_is_understood() -> None:
    member = {"role": "login", "id": "lg1", "generation": 3, "command": "tcp://127.0.0.1:1", "later": [1]}
    tag = msgspec.msgpack.decode(encode(BookPage([])))[0]
    page = decode(msgspec.msgpack.encode([tag, [member]]))
    assert page == BookPage([Member("login", "lg1", 3, "tcp://127.0.0.1:1")])
    assert page.members[0].format_max == 1, "who does not say so writes the first format"


def test_a_message_of_an_unknown_kind_is_no_message() -> None:
    with pytest.raises(BadMessage):
        decode(msgspec.msgpack.encode([999, 1, 2]))
