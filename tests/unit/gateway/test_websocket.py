"""The socket shell with real sockets: each kind of bad client gets its documented end and a counter, its neighbour
notices nothing."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

import gateway.client
import gateway.fanout
import gateway.headers
import gateway.session
from gateway import closing
from gateway.websocket import GameSocket
from runtime.mesh.api import Sender
from tests.support.aio import run
from tests.unit.gateway.live import UPGRADE, Live, Player, close_code, frame, live
from tests.unit.gateway.support import AVATAR, SERVER
from world import frames
from world.grid import cell_at, place_in_cell, subcell_at
from world.ids import NodeId
from world.limits import CLIENT_FRAGMENTS, CLIENT_MESSAGE_BYTES, HTTP_HEADER_BYTES
from world.messages import ClientCommand, CommandResult, Detach, Events, EventsSeen, Message, MoveBatch

CELL, PLACE = cell_at(4096, 4096), place_in_cell(subcell_at(4096, 4096))


@contextlib.asynccontextmanager
async def with_neighbour() -> AsyncIterator[Live]:
    """A gateway with somebody on it, who must still be well at the end."""
    async with live() as gateway:
        neighbour = await gateway.player(AVATAR + 50)
        yield gateway
        await neighbour.alive()
        await neighbour.socket.close()


def test_a_player_plays_and_the_owner_hears() -> None:
    async def play() -> None:
        async with with_neighbour() as gateway:
            player = await gateway.player(AVATAR)
            assert player.ready["session"] == 101
            await player.socket.send(frames.client_moves([(1, 5, 1.0, 2.0, 0.0, 0.0)]))
            await player.alive()
            await asyncio.sleep(0.05)
            (batch,) = gateway.mesh.told(MoveBatch)
            assert np.frombuffer(batch.rows, frames.MOVE_ROW)["avatar"].tolist() == [AVATAR]
            await player.socket.close()
            await asyncio.sleep(0.05)
            assert Detach(AVATAR, 101, 1, False) in gateway.mesh.told(Detach)
            assert gateway.mesh.told(EventsSeen) == []

    run(play(), uvloop=True)


@pytest.mark.parametrize(
    ("sent", "code", "kind"),
    [
        ([frame(1, b"x" * (CLIENT_MESSAGE_BYTES + 1))], closing.TOO_BIG, "too_big"),
        ([frame(1, b"x" * 3_000, fin=False), frame(0, b"x" * 3_000)], closing.TOO_BIG, "too_big"),
        ([frame(2, b"", fin=False), *[frame(0, b"", fin=False)] * CLIENT_FRAGMENTS], closing.TOO_BIG, "too_big"),
        ([frame(1, b"\xff\xfe")], closing.NOT_UTF8, "not_utf8"),
        ([frame(1, b"[" * 4_000)], closing.BAD_MESSAGE, "bad_message"),
        ([frame(1, b'{"t":"nonsense"}')], closing.BAD_MESSAGE, "bad_message"),
        ([frame(2, b"\x01\x01\0\0")], closing.BAD_MESSAGE, "out_of_order"),
        ([frame(1, b'{"t":"ping"}')] * 200, closing.RATE_LIMITED, None),
        ([frame(9, b"")] * 5_000, closing.RATE_LIMITED, None),
    ],
    ids=["oversized", "oversized-parts", "fragments", "utf8", "nested", "unknown", "order", "rate", "ping-flood"],
)
def test_bad_input(sent: list[bytes], code: closing.Closing, kind: str | None) -> None:
    async def play() -> None:
        async with with_neighbour() as gateway:
            reader, writer = await gateway.raw_socket()
            writer.write(b"".join(sent))
            assert await close_code(reader) == code.code
            assert gateway.counter("closes", code=code.name) == 1
            if kind is not None:
                assert gateway.counter("bad_input", kind=kind) == 1
            writer.close()

    run(play(), uvloop=True)


def test_what_one_message_brings_leaves_as_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command's events and its result, said in two turns of the loop, wake the client once."""
    written: list[bytes] = []

    class Recorded:
        def __init__(self, transport: asyncio.Transport) -> None:
            self._transport = transport

        def write(self, data: bytes) -> None:
            written.append(data)
            self._transport.write(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transport, name)

    made = GameSocket.connection_made
    monkeypatch.setattr(GameSocket, "connection_made", lambda self, transport: made(self, Recorded(transport)))  # type: ignore[arg-type]

    async def play() -> None:
        async with live() as gateway:
            player = await gateway.player(AVATAR)
            events = [(n, b'{"kind":"x"}') for n in (1, 2, 3)]
            told = Events(AVATAR, player.ready["session"], 1, 5, 9, events)
            answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
            gateway.mesh.asked[ClientCommand] = answer
            await player.say(t="command", n=1, op="look")
            await asyncio.sleep(0.05)
            written.clear()
            gateway.mesh.handlers[Events](Sender(NodeId(SERVER), 3), told)  # as in one batch of the mesh
            answer.set_result(CommandResult(1, True))
            assert (await player.until("result"))["ok"]
            (chunk,) = written
            assert chunk.count(b'"t":"event"') == 3

    run(play(), uvloop=True)


def test_what_was_said_before_a_close_arrives_before_it() -> None:
    async def play() -> None:
        async with live() as gateway:
            player = await gateway.player(AVATAR)
            await player.say(t="nonsense")
            assert (await player.until("error"))["code"] == "bad_message"
            assert await player.closed() == closing.BAD_MESSAGE.code

    run(play(), uvloop=True)


def test_a_whole_oversized_message_still_gets_its_close_code() -> None:
    """Unread bytes in the kernel must not turn the close into a reset."""

    async def play() -> None:
        async with with_neighbour() as gateway:
            reader, writer = await gateway.raw_socket()
            writer.write(frame(1, b"x" * 2_000_000))
            assert await close_code(reader) == 1009
            writer.close()

    run(play(), uvloop=True)


def test_a_stranger_that_never_identifies_and_a_silent_player(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.session, "HANDSHAKE_MS", 200)
    monkeypatch.setattr(gateway.session, "CLIENT_SILENCE_MS", 400)

    async def play() -> None:
        async with live() as gate:
            player = await gate.player(AVATAR)
            reader, writer = await gate.raw_socket()
            assert await close_code(reader) == closing.HANDSHAKE_TIMEOUT.code
            writer.close()
            await player.say(t="ping", c=1)
            assert await player.closed() == closing.SILENT.code

    run(play(), uvloop=True)


@pytest.mark.parametrize("said", [b"", b"GET /v1/so", b"GET / HTTP/1.1\r\nHost: x\r\nX"])
def test_a_request_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    """Silent connections and slow loris: one byte now and then keeps nothing open."""
    monkeypatch.setattr(gateway.headers, "HANDSHAKE_MS", 300)
    monkeypatch.setattr(gateway.headers, "HTTP_REQUEST_MS", 300)

    async def play() -> None:
        async with with_neighbour() as gate:
            reader, writer = await gate.raw()
            writer.write(said)

            async def trickle() -> None:
                while True:
                    await asyncio.sleep(0.05)
                    writer.write(b"a" if said else b"")

            task = asyncio.ensure_future(trickle())
            async with asyncio.timeout(3):
                answer = await reader.read(-1)
            task.cancel()
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b'"code":"request_timeout"' in answer
            assert gate.counter("http_refused", reason="request_timeout") == 1
            writer.close()

    run(play(), uvloop=True)


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n", UPGRADE[:-2]])
def test_header_flood(start: bytes) -> None:
    async def play() -> None:
        async with with_neighbour() as gate:
            reader, writer = await gate.raw()
            writer.write(start + b"".join(b"X-%d: %b\r\n" % (n, b"y" * 100) for n in range(2_000)))
            head = await reader.read(100)
            assert head.startswith(b"HTTP/1.1 431 ")
            assert gate.counter("http_refused", reason="header_too_large") == 1
            writer.close()

    run(play(), uvloop=True)
    assert HTTP_HEADER_BYTES < 100_000


def test_route_origin_and_subprotocol_are_checked_before_the_upgrade() -> None:
    async def refused(gate: Live, path: str, origin: str | None) -> int:
        with pytest.raises(InvalidStatus) as caught:
            await gate.connect(path, origin)
        return caught.value.response.status_code

    async def play() -> None:
        async with with_neighbour() as gate:
            assert await refused(gate, "/elsewhere", None) == 404
            assert await refused(gate, "/v1/socket", "http://evil.example") == 403
            assert await refused(gate, "/v1/socket", f"http://127.0.0.1:{gate.port}.evil.example") == 403
            reader, writer = await gate.raw()
            writer.write(UPGRADE.replace(b"projectk.v1", b"chat"))
            assert (await reader.read(100)).startswith(b"HTTP/1.1 400 ")
            writer.close()
            reasons = ("not_found", "origin_refused", "handshake")
            assert [gate.counter("upgrades_refused", reason=r) for r in reasons] == [1, 2, 1]
            for good in (f"http://127.0.0.1:{gate.port}", f"http://localhost:{gate.port}", "http://127.0.0.1:8080"):
                await (await gate.connect(origin=good)).close()

    run(play(), uvloop=True)


def _delta(size: int) -> bytes:
    piece = frames.slice_bytes(frames.SLICE, PLACE, CELL, 1, 1, 2, 0, []) + bytes(size)
    return frames.frame_bytes(CELL, 1, 1, 2, 0, [piece])


def test_a_client_that_does_not_read_is_skipped_then_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.fanout, "CLIENT_SLOW_CLOSE_MS", 300)

    async def play() -> None:
        async with live() as gate:
            neighbour = await gate.player(AVATAR + 50)
            reader, writer = await gate.raw_socket()
            raw: socket.socket = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            writer.write(frame(1, b'{"t":"identify","protocol":1,"token":"%b"}' % gate.access().encode()))
            await reader.readuntil(b'"attached"')
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            body = _delta(60_000)
            async with asyncio.timeout(10):
                while not gate.counter("closes", code="too_slow"):
                    gate.gateway.fanout.apply(1, CELL, body, False)
                    await asyncio.sleep(0.02)
                    await _drain(neighbour)
            assert gate.gateway.fanout.skips >= 1
            await neighbour.alive()
            writer.transport.abort()

    run(play(), uvloop=True)


async def _drain(player: Player) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.005):
            while True:
                await player.socket.recv()


def test_a_slow_client_that_reads_again_starts_afresh() -> None:
    async def play() -> None:
        async with live() as gate:
            player = await gate.player(AVATAR)
            fanout = gate.gateway.fanout
            player.socket.transport.pause_reading()
            while not fanout.skips:
                fanout.apply(1, CELL, _delta(60_000), False)
                await asyncio.sleep(0.02)
            snapshot = frames.slice_bytes(frames.SNAPSHOT, PLACE, CELL, 1, 1, 900, 0, [])
            fanout.apply(1, CELL, frames.frame_bytes(CELL, 1, 1, 900, 0, [snapshot]), True)
            player.socket.transport.resume_reading()
            async with asyncio.timeout(5):
                while True:
                    data = await player.socket.recv()
                    if (
                        isinstance(data, bytes)
                        and data[0] == frames.SNAPSHOT
                        and frames.read_head(data).sequence == 900
                    ):
                        break
            assert fanout.fresh == 1

    run(play(), uvloop=True)


def test_one_socket_per_session_the_newer_connection_counts() -> None:
    async def play() -> None:
        async with live() as gate:
            old = await gate.player(AVATAR)
            new = Player(await gate.connect())
            await new.say(t="resume", protocol=1, resume_token=old.ready["resume_token"], connection=2)
            await new.until("attached")
            assert await old.closed() == closing.REPLACED.code
            await new.alive()

    run(play(), uvloop=True)


def test_a_stopping_gateway_sends_everybody_elsewhere() -> None:
    async def play() -> None:
        async with live() as gate:
            player = await gate.player(AVATAR)
            stranger = Player(await gate.connect())
            gate.gateway.close_all()
            assert (await player.until("reconnect"))["after_ms"] == 0
            late = Player(await gate.connect())
            assert [await one.closed() for one in (player, stranger, late)] == [1012, 1012, 1012]

    run(play(), uvloop=True)


def test_a_full_gateway_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.gateway, "CLIENTS_PER_GATEWAY", 1)

    async def play() -> None:
        async with with_neighbour() as gate:
            reader, writer = await gate.raw_socket()
            assert await close_code(reader) == closing.FULL.code
            writer.close()

    run(play(), uvloop=True)
