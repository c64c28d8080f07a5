"""The event stream: history, resuming, live, slow and too many readers."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import orjson
import pytest

from gateway.gateway import Gateway
from gateway.ops.events import EventStream
from runtime.notes import KINDS
from runtime.service import Service
from tests.support.aio import run
from tests.unit.gateway.ops.desk import FROM, Desk, code_of, desk, live_desk
from tests.unit.gateway.support import StubMesh
from world.limits import OPS_EVENTS_KEPT
from world.messages import Json, Noted


def told(text: str) -> list[tuple[str, Json]]:
    """(event, data) of a stream's whole text."""
    found = []
    for piece in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in piece.splitlines() if not line.startswith(":"))
        if "data" in fields:
            found.append((fields["event"], orjson.loads(fields["data"])))
    return found


async def history(at: Desk, last: str = "") -> list[tuple[str, Json]]:
    answer = await at.http.get("/v1/ops/events?follow=false", headers={b"last-event-id": last.encode()})
    assert answer.headers["content-type"].startswith("text/event-stream")
    return told(answer.text)


def test_every_kind_is_told_with_its_detail() -> None:
    async def play() -> None:
        async with desk() as at:
            for n, kind in enumerate(KINDS):
                at.note(kind, node=f"gs{n}")
            events = await history(at)
            assert [kind for kind, _data in events] == list(KINDS)
            assert events[0][1] == {"n": 1, "kind": "death", "world_ms": 1, "by": "gs1", "detail": {"node": "gs0"}}

    run(play())


def test_a_reader_goes_on_where_it_was_at_the_same_gateway_only() -> None:
    async def play() -> None:
        async with desk() as at:
            for n in range(5):
                at.note("repair", cell=n)

            async def numbers(last: str) -> list[int]:
                return [data["n"] for _kind, data in await history(at, last)]

            assert await numbers("gw1.1.3") == [4, 5]
            assert await numbers("gw1.1.5") == await numbers("gw1.1.99") == []
            for other in ("gw2.1.3", "gw1.2.3", "gw1.1.x", "gw1.1.²", "gw1.1.-3", "nonsense", "gw1.1." + "9" * 40):
                assert await numbers(other) in ([1, 2, 3, 4, 5], [])
            assert await numbers("gw2.1.3") == [1, 2, 3, 4, 5]

    run(play())


async def lines(stream: httpx.Response) -> AsyncIterator[str]:
    async for line in stream.aiter_lines():
        if line:
            yield line


def test_what_comes_is_told_at_once_and_a_quiet_stream_stays_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.ops.events.OPS_KEEP_ALIVE_MS", 50)

    async def play() -> None:
        async with live_desk() as at, at.http.stream("GET", "/v1/ops/events") as stream:
            reading = lines(stream)
            assert await anext(reading) == ": nothing new"
            at.note("handoff", unit="avatar:7")
            found = [line async for line in _until(reading, "data: ")]
            assert found[-3:-1] == ["id: gw1.1.1", "event: handoff"]
            at.gateway.noted.close()
            async with asyncio.timeout(2):
                assert all([line.startswith(":") async for line in reading]), "the stream ends with the gateway"

    run(play(), uvloop=True)


async def _until(reading: AsyncIterator[str], start: str) -> AsyncIterator[str]:
    async for line in reading:
        yield line
        if line.startswith(start):
            return


def test_a_slow_reader_is_told_how_many_it_missed() -> None:
    async def play() -> None:
        service = Service.for_test("gateway", "gw1")
        async with service:
            gateway = Gateway(service, StubMesh())
            stream = EventStream(gateway)._stream(0, True)
            gateway.noted.hear(FROM, Noted("repair", 1, {}))
            assert b"id: gw1.1.1" in await anext(stream)
            for n in range(OPS_EVENTS_KEPT + 4):
                gateway.noted.hear(FROM, Noted("repair", n, {}))
            piece = await anext(stream)
            assert piece.startswith(b'event: missed\ndata: {"missed":4}\n\nid: gw1.1.6\n')
            assert service.metrics.get_sample_value("projectk_gateway_ops_events_missed_total") == 4

    run(play())


def test_readers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.ops.events.OPS_READERS", 1)

    async def play() -> None:
        async with live_desk() as at:
            at.note("death", node="gs1")
            async with at.http.stream("GET", "/v1/ops/events") as stream:
                await anext(lines(stream))
                refused = await at.http.get("/v1/ops/events")
                assert code_of(refused) == (503, "too_many_readers")
            await asyncio.sleep(0.1)
            assert (await at.http.get("/v1/ops/events?follow=false")).status_code == 200

    run(play(), uvloop=True)
