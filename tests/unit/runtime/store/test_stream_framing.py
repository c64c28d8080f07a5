"""How a stream's bytes become messages again."""

from hypothesis import given
from hypothesis import strategies as st

from runtime.store.stream import Stream
from tests.support.streams import framed
from world.messages import Message, StoreNumber


class Taken(Stream):
    def __init__(self) -> None:
        super().__init__()
        self.got: list[tuple[int, Message]] = []
        self.transport = Open()  # type: ignore[assignment]

    def arrived(self, number: int, message: Message) -> None:
        self.got.append((number, message))


class Open:
    def is_closing(self) -> bool:
        return False


@given(st.lists(st.tuples(st.integers(0, 1 << 53), st.integers(0, 1 << 32)), max_size=8), st.data())
def test_messages_arrive_whole_however_the_bytes_are_cut(sent: list[tuple[int, int]], data: st.DataObject) -> None:
    whole = [(number, StoreNumber(value)) for number, value in sent]
    stream, left = Taken(), b"".join(framed(number, message) for number, message in whole)
    while left:
        size = data.draw(st.integers(1, len(left)))
        stream.data_received(left[:size])
        left = left[size:]
    assert stream.got == whole
