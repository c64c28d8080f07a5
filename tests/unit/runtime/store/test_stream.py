"""Streams to the store: framing, who may open one, what a broken or a silent one leaves, and every bound."""

import asyncio
import contextlib
import struct
from typing import Any

import pytest

from runtime.mesh.api import DeadlineExceeded, Refused, Sender, Unreachable
from runtime.store import link, listener
from runtime.store.api import Ambiguous, Unavailable
from runtime.store.client import StoreClient
from runtime.store.listener import StoreListener
from runtime.store.memory import MemoryStore
from runtime.store.server import StoreServer
from runtime.store.stream import HELLO
from tests.support.aio import run
from tests.support.streams import CLIENT, STORE, Ends, ends, framed, member
from world.limits import COMMAND_MESSAGE_BYTES, RPC_DEADLINE_MS
from world.messages import Message, Ok, Problem, StoreCounter, StoreHello, StoreNumber, encode

MINE = StoreHello(CLIENT, 1, STORE, 1)


def counting(into: StoreListener) -> None:
    """``StoreCounter`` is answered with its delta."""
    into.serve(StoreCounter, lambda _sender, message: StoreNumber(message.delta))


class Silent:
    """Handlers that answer when they are told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[StoreCounter, asyncio.Future[Message]]] = []

    def __call__(self, into: StoreListener) -> None:
        into.serve(StoreCounter, self._take)

    def _take(self, _sender: Sender, message: StoreCounter) -> "asyncio.Future[Message]":
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self.waiting.append((message, answer))
        return answer

    async def called(self, at: Ends, deadline_ms: float = RPC_DEADLINE_MS) -> "asyncio.Task[Message]":
        """A call that has arrived here by a stream and waits for its answer."""
        await at.linked()
        before = len(self.waiting)
        call = asyncio.ensure_future(at.ask(StoreCounter("n:1"), deadline_ms))
        await at.until(lambda: len(self.waiting) > before)
        return call

    def answer(self) -> None:
        message, answer = self.waiting.pop(0)
        answer.set_result(StoreNumber(message.delta))


async def raw(at: Ends, *messages: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that is none of ours."""
    reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
    writer.write(b"".join(messages))
    return reader, writer


def test_calls_go_by_the_mesh_until_a_stream_is_open_and_by_it_from_then_on() -> None:
    async def body() -> None:
        async with ends(counting) as at:
            assert await at.ask(StoreCounter("n:1", 3)) == Ok()
            await at.linked()
            by_mesh = len(at.client.asked)
            answers = await asyncio.gather(*(at.ask(StoreCounter("n:1", n)) for n in range(100)))
            assert answers == [StoreNumber(n) for n in range(100)]
            assert len(at.client.asked) == by_mesh == at.link.statistics.meshed
            assert at.link.statistics.streamed == 100

    run(body())


def test_a_store_without_streams_is_asked_by_the_mesh() -> None:
    async def body() -> None:
        async with ends(counting) as at:
            at.client.book.heard(member("store", STORE, 2), direct=True)
            for _ in range(3):
                assert await at.ask(StoreCounter("n:1")) == Ok()
            assert (at.link.statistics.failed, at.link.statistics.opened) == (0, 0)

    run(body())


def test_refusals_travel_with_code_and_detail() -> None:
    def refusing(into: StoreListener) -> None:
        def refuse(_sender: Sender, _message: StoreCounter) -> Message:
            raise Refused("temporary", "full")

        into.serve(StoreCounter, refuse)

    async def body() -> None:
        async with ends(refusing) as at:
            await at.linked()
            with pytest.raises(Refused) as refused:
                await at.ask(StoreCounter("n:1"))
            assert (refused.value.code, refused.value.detail) == ("temporary", "full")
            with pytest.raises(Refused, match="unhandled"):
                await at.ask(StoreNumber(1))

    run(body())


def test_a_stream_that_breaks_leaves_its_calls_uncertain_and_is_opened_anew() -> None:
    silent = Silent()

    async def body() -> None:
        async with ends(silent) as at:
            call = await silent.called(at)
            for stream in at.listener._streams:
                stream.transport.abort()
            with pytest.raises(Unreachable) as broken:
                await call
            assert broken.value.sent
            assert await at.ask(Ok()) == Ok(), "by the mesh"
            await at.linked()
            assert (at.link.statistics.broken, at.link.statistics.opened) == (1, 2)

    run(body())


def test_a_writes_caller_is_told_that_it_is_uncertain() -> None:
    """Not that it failed: it may well be committed. What a drain refuses certainly is not."""
    store = MemoryStore()

    async def body() -> None:
        async with ends() as at:
            server = StoreServer(at.listener, store, lambda: 1)
            await at.linked()
            client = StoreClient(at.link)
            assert await client.insert("a:1", b"") == 1
            store.pause()
            call = asyncio.ensure_future(client.insert("a:2", b""))
            await at.until(lambda: at.listener.statistics.calls == 2)
            for stream in at.listener._streams:
                stream.transport.abort()
            with pytest.raises(Ambiguous):
                await call
            store.resume()
            await at.linked()
            await server.drain()
            with pytest.raises(Unavailable):
                await client.insert("a:3", b"")

    run(body())


def test_a_store_declared_dead_fails_what_waits_for_it() -> None:
    silent = Silent()

    async def body() -> None:
        async with ends(silent) as at:
            call = await silent.called(at)
            at.client.book.declare_dead(STORE, 1)
            with pytest.raises(Unreachable) as dead:
                await call
            assert dead.value.sent

    run(body())


def test_a_client_declared_dead_is_cut_off_and_cannot_come_back() -> None:
    async def body() -> None:
        async with ends(counting) as at:
            await at.linked()
            at.store.book.declare_dead(CLIENT, 1)
            await at.until(lambda: at.link.statistics.broken == 1)
            reader, _writer = await raw(at, framed(HELLO, MINE), framed(1, StoreCounter("n:1")))
            assert b"stranger" in await reader.read()
            assert at.listener.statistics.calls == 0

    run(body())


def test_a_store_that_rose_is_not_asked_by_an_old_stream() -> None:
    """What was meant for its predecessor must not run: a hello names a generation, and streams end with it."""

    async def body() -> None:
        async with ends(counting) as at:
            await at.linked()
            at.store.book.me = member("store", STORE, 2)
            at.store.book.tell_changed()
            await at.until(lambda: at.link.statistics.broken == 1)
            await at.until(lambda: at.link._loop.time() > at.link._again_s)
            await at.ask(Ok())
            await at.until(lambda: at.link.statistics.failed == 1)
            at.told(generation=2)
            await at.linked()
            assert await at.ask(StoreCounter("n:1", 5)) == StoreNumber(5)

    run(body())


@pytest.mark.parametrize(
    ("hello", "said"),
    [
        (StoreHello("gs2", 1, STORE, 1), b"stranger"),
        (StoreHello(CLIENT, 2, STORE, 1), b"stranger"),
        (StoreHello(CLIENT, 1, STORE, 2), b"misdirected"),
        (StoreHello(CLIENT, 1, "st2", 1), b"misdirected"),
        (StoreCounter("n:1"), b"stranger"),
    ],
)
def test_who_is_not_in_the_book_or_means_another_is_refused(hello: Message, said: bytes) -> None:
    async def body() -> None:
        async with ends(counting) as at:
            reader, _writer = await raw(at, framed(HELLO, hello), framed(1, StoreCounter("n:1")))
            assert said in await reader.read()
            assert (at.listener.statistics.refused, at.listener.statistics.calls) == (1, 0)

    run(body())


@pytest.mark.parametrize(
    "rubbish",
    [
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        struct.pack("<IQ", COMMAND_MESSAGE_BYTES + 1, 1),
        struct.pack("<IQ", 3, 1) + b"\xc1\xc1\xc1",
        struct.pack("<IQ", 0, 1),
    ],
)
def test_bytes_that_are_no_message_end_that_stream_alone(rubbish: bytes) -> None:
    async def body() -> None:
        async with ends(counting) as at:
            await at.linked()
            for greeting in (b"", framed(HELLO, MINE)):
                reader, _writer = await raw(at, greeting, rubbish)
                with contextlib.suppress(ConnectionError):
                    await reader.read()  # to its end, orderly or not
            assert at.listener.statistics.malformed == 2
            assert await at.ask(StoreCounter("n:1", 7)) == StoreNumber(7)

    run(body())


def test_who_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "STORE_STREAM_OPEN_MS", 20)

    async def body() -> None:
        async with ends() as at:
            reader, _writer = await raw(at)
            assert await reader.read() == b""
            assert (at.listener.statistics.refused, at.listener.statistics.streams) == (1, 0)

    run(body())


def test_who_greets_is_not_closed_for_saying_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "STORE_STREAM_OPEN_MS", 50)

    async def body() -> None:
        async with ends(counting) as at:
            await at.linked()
            _silent = await raw(at)
            await at.until(lambda: at.listener.statistics.refused == 1)
            assert await at.ask(StoreCounter("n:1", 7)) == StoreNumber(7)

    run(body())


def test_one_stream_too_many_is_closed_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "STORE_STREAMS", 2)

    async def body() -> None:
        async with ends(counting) as at:
            await at.linked()
            _, kept = await raw(at, framed(HELLO, MINE))
            await at.until(lambda: at.listener.statistics.streams == 2)
            reader, _writer = await raw(at, framed(HELLO, MINE))
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            assert await at.ask(StoreCounter("n:1", 7)) == StoreNumber(7)
            kept.close()
            await at.until(lambda: at.listener.statistics.streams == 1)

    run(body())


def test_a_store_that_does_not_answer_the_hello_is_asked_by_the_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "STORE_STREAM_OPEN_MS", 20)
    monkeypatch.setattr(listener, "STORE_STREAMS", 0)  # as good as nobody

    async def body() -> None:
        async with ends() as at, await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0) as mute:
            at.port = mute.sockets[0].getsockname()[1]
            at.told(generation=2)
            assert await at.ask(Ok()) == Ok()
            await at.until(lambda: at.link.statistics.failed == 1)
            assert await at.ask(Ok()) == Ok()

    run(body())


def test_an_address_where_nobody_is_or_that_is_none_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "STORE_STREAM_AGAIN_MS", 20)

    async def body() -> None:
        async with ends(counting) as at:
            for tried, nowhere in enumerate(("127.0.0.1:1", "nonsense", "127.0.0.1:x", "127.0.0.1:99999")):
                at.client.book.heard(member("store", STORE, 2 + tried, nowhere), direct=True)
                await at.until(lambda: at.link._loop.time() > at.link._again_s)
                assert await at.ask(Ok()) == Ok()
                await at.until(lambda wanted=tried + 1: at.link.statistics.failed == wanted)  # type: ignore[misc]
            at.store.book.me = member("store", STORE, 9)
            at.told(generation=9)
            await at.linked()

    run(body())


def test_a_call_without_an_answer_ends_at_its_deadline_and_a_dumb_stream_with_it() -> None:
    silent = Silent()

    async def body() -> None:
        async with ends(silent) as at:
            await at.linked()
            with pytest.raises(DeadlineExceeded) as late:
                await at.ask(StoreCounter("n:1"), deadline_ms=30)
            assert late.value.sent
            assert at.link.statistics.deadlines == 1
            assert await at.ask(Ok()) == Ok(), "by the mesh: nothing had come by the stream since"

    run(body())


def test_a_late_call_does_not_end_a_stream_that_answers_others() -> None:
    silent = Silent()

    async def body() -> None:
        async with ends(silent) as at:
            slow = await silent.called(at, deadline_ms=60)
            with pytest.raises(Refused, match="unhandled"):
                await at.ask(StoreNumber(1))
            with pytest.raises(DeadlineExceeded):
                await slow
            silent.answer()
            await at.until(lambda: at.link.statistics.late == 1)
            quick = asyncio.ensure_future(at.ask(StoreCounter("n:1", 4)))
            await at.until(lambda: len(silent.waiting) == 1)
            silent.answer()
            assert await quick == StoreNumber(4)
            assert at.link.statistics.opened == 1

    run(body())


def test_more_calls_than_a_stream_holds_go_by_the_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "STORE_STREAM_CALLS", 2)
    silent = Silent()

    async def body() -> None:
        async with ends(silent) as at:
            await at.linked()
            calls = [asyncio.ensure_future(at.ask(StoreCounter("n:1", n))) for n in range(2)]
            await at.until(lambda: len(silent.waiting) == 2)
            assert await at.ask(StoreCounter("n:1")) == Ok()
            silent.answer()
            silent.answer()
            assert await asyncio.gather(*calls) == [StoreNumber(0), StoreNumber(1)]

    run(body())


def test_bytes_that_the_store_does_not_take_turn_calls_to_the_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "STORE_STREAM_BYTES", 1)
    silent = Silent()

    async def body() -> None:
        async with ends(silent) as at:
            await at.linked()
            (stream,) = at.listener._streams
            stream.pause(True)
            sent = 0
            while at.link._stream is not None and at.link._stream.has_room:
                asyncio.ensure_future(at.ask(Problem("x", "y" * 4_000))).add_done_callback(_looked_at)
                sent += 1
                await asyncio.sleep(0)
            assert await at.ask(Ok()) == Ok()
            assert sent < 10_000

    run(body())


def _looked_at(answer: "asyncio.Future[Any]") -> None:
    if not answer.cancelled():
        answer.exception()


def test_a_client_that_asks_too_much_at_once_is_read_from_no_more_until_it_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "STORE_STREAM_CALLS", 4)
    silent = Silent()
    size = 60_000  # bytes of a call: a few fill what is read at once

    async def body() -> None:
        async with ends(silent) as at:
            at.listener.serve(Problem, silent._take)  # type: ignore[arg-type]
            _, writer = await raw(at, framed(HELLO, MINE))
            for number in range(1, 200):
                writer.write(struct.pack("<IQ", size, number) + padded(size))
            await at.until(lambda: at.listener.statistics.paused == 1)
            assert len(silent.waiting) == 4
            while silent.waiting:
                silent.waiting.pop()[1].set_result(Ok())
            await at.until(lambda: at.listener.statistics.paused == 2)
            writer.close()

    run(body())


def padded(size: int) -> bytes:
    """A message of that size: unknown trailing fields are ignored."""
    head = encode(Problem("x"))
    filled = b"\x94" + head[1:] + b"\xc5" + struct.pack(">H", size - len(head) - 3)
    return filled + bytes(size - len(filled))


def test_a_client_that_does_not_read_is_read_from_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "STORE_STREAM_BYTES", 1 << 16)

    def generous(into: StoreListener) -> None:
        into.serve(StoreCounter, lambda _sender, _message: Problem("x", "y" * 4_000))

    async def body() -> None:
        async with ends(generous) as at:
            await at.linked()
            reader, writer = await raw(at, framed(HELLO, MINE))
            for number in range(1, 20_000):
                writer.write(framed(number, StoreCounter("n:1")))
            await at.until(lambda: at.listener.statistics.paused == 1)
            stuck = next(s for s in at.listener._streams if s.paused)
            assert stuck.transport.get_write_buffer_size() < 1 << 17
            with pytest.raises(Refused):
                await at.ask(StoreCounter("n:1"))  # another client is served
            while at.listener.statistics.calls < 20_000:
                await reader.read(1 << 20)
            writer.close()

    run(body())


def test_what_was_answered_leaves_before_the_listener_closes() -> None:
    async def body() -> None:
        async with ends(counting) as at:
            await at.linked()
            call = at.link.ask(STORE, StoreCounter("n:1", 3))
            await at.until(lambda: at.listener.statistics.calls == 1)
            await at.listener.close()
            assert await call == StoreNumber(3)

    run(body())


def test_a_closed_link_asks_by_the_mesh_and_leaves_what_waits_uncertain() -> None:
    silent = Silent()

    async def body() -> None:
        async with ends(silent) as at:
            call = await silent.called(at)
            await at.link.close()
            with pytest.raises(Unreachable) as ended:
                await call
            assert ended.value.sent
            assert await at.ask(Ok()) == Ok()
            await at.until(lambda: at.listener.statistics.streams == 0)

    run(body())
