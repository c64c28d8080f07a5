"""Frames read by hand: every way the bytes can be cut gives the same frames; what no gateway sends is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from cluster.bots.wire import BINARY, TEXT, BadServerFrame, split_frames
from world.limits import BOT_FRAME_BYTES

PAYLOADS = st.lists(
    st.tuples(st.sampled_from([TEXT, BINARY]), st.one_of(st.binary(max_size=40), st.just(b"x" * 300))),
    max_size=6,
)


def server_bytes(frames: list[tuple[int, bytes]]) -> bytes:
    """As the well-tested library writes them for a server."""
    return b"".join(Frame(Opcode(code), body).serialize(mask=False, extensions=[]) for code, body in frames)


@given(PAYLOADS, st.lists(st.integers(1, 50), max_size=30))
def test_any_cut_gives_the_same_frames(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    data, rest, got = server_bytes(frames), b"", []
    while data:
        size = cuts.pop() if cuts else len(data)
        complete, rest = split_frames(rest + data[:size])
        data = data[size:]
        got += complete
    assert (got, rest) == (frames, b"")


def test_long_frames_have_eight_bytes_of_length() -> None:
    body = b"y" * 70_000
    assert split_frames(server_bytes([(BINARY, body)])) == ([(BINARY, body)], b"")


@pytest.mark.parametrize(
    "data",
    [
        b"\x02\x01x",  # not final: a gateway never fragments
        b"\xc2\x01x",  # reserved bit: compression was not agreed on
        b"\x82\x81\0\0\0\0x",  # masked
        b"\x82\x7f" + (BOT_FRAME_BYTES + 1).to_bytes(8, "big"),
    ],
)
def test_what_no_gateway_sends_is_refused(data: bytes) -> None:
    with pytest.raises(BadServerFrame):
        split_frames(data)
