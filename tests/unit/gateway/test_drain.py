"""A gateway that drains: everybody is sent elsewhere, each at the moment it was told, and served until then."""

import asyncio
from typing import Any

import orjson
import pytest

import gateway.gateway
from gateway.app import build
from gateway.closing import RESTARTING, Closing
from gateway.gateway import Gateway
from runtime.mesh.api import Sender
from runtime.service import Service
from tests.support.virtual import run_virtual
from tests.unit.gateway.support import AVATAR, SERVER, StubMesh, token, with_login
from world.ids import NodeId
from world.limits import GATEWAY_DRAIN_CLIENTS_PER_S, GATEWAY_DRAIN_NOTICE_MS, GATEWAY_DRAIN_SPREAD_MS
from world.messages import Events

FROM = Sender(NodeId(SERVER), 3)
CLIENTS = 40
GRAIN_S = 0.002


class FakeSocket:
    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.closed: Closing | None = None
        self.closed_s = 0.0

    def say(self, text: bytes) -> None:
        assert self.closed is None
        self.said.append(orjson.loads(text))

    def write(self, chunk: bytes) -> None: ...

    def buffered(self) -> int:
        return 0

    def close(self, reason: Closing) -> None:
        self.closed, self.closed_s = reason, asyncio.get_running_loop().time()

    def moment_s(self) -> float:
        """After how long it was told to go."""
        (told,) = [m for m in self.said if m["t"] == "reconnect"]
        return float(told["after_ms"]) / 1_000


async def crowd(gate: Gateway, service: Service, count: int) -> list[FakeSocket]:
    """Clients that are attached."""
    sockets = [FakeSocket() for _ in range(count)]
    for n, socket in enumerate(sockets):
        access = token("access", service.clock.world_ms() / 1_000, avatar=AVATAR + n)
        gate.connect(socket).text(orjson.dumps({"t": "identify", "protocol": 1, "token": access}))
    await asyncio.sleep(0.1)
    assert all(socket.said[-1]["t"] == "attached" for socket in sockets)
    return sockets


def test_each_client_goes_at_its_own_moment_and_is_served_until_then() -> None:
    async def play() -> None:
        service = Service.for_test("gateway", "gw1")
        async with service:
            mesh = with_login(StubMesh(), lambda: service.clock.world_ms() / 1_000)
            gate = build(service, mesh)
            sockets = await crowd(gate, service, CLIENTS)
            began_s = asyncio.get_running_loop().time()
            draining = service.spawn(gate.drain(), "drain")
            await asyncio.sleep(0.05)
            assert not gate.ready()
            late = FakeSocket()
            gate.connect(late)
            assert late.closed is RESTARTING, "newcomers are refused"
            assert all(socket.closed is None for socket in sockets), "everybody has notice"
            last = max(range(CLIENTS), key=lambda n: sockets[n].moment_s())
            await asyncio.sleep(sockets[last].moment_s() - 0.1)
            session = next(m["session"] for m in sockets[last].said if m["t"] == "ready")
            mesh.handlers[Events](FROM, Events(AVATAR + last, session, 1, 5, 9, [(1, b'{"kind":"x"}')]))
            assert sockets[last].said[-1]["t"] == "event"
            assert await draining == CLIENTS
            moments = sorted(socket.moment_s() for socket in sockets)
            for socket in sockets:
                assert socket.closed is RESTARTING
                assert socket.closed_s - began_s == pytest.approx(socket.moment_s(), abs=GRAIN_S)
            spread_s = CLIENTS / GATEWAY_DRAIN_CLIENTS_PER_S
            assert moments[0] >= GATEWAY_DRAIN_NOTICE_MS / 1_000
            assert moments[-1] <= GATEWAY_DRAIN_NOTICE_MS / 1_000 + spread_s + GRAIN_S
            assert moments[CLIENTS // 2] - moments[0] > spread_s / 4, "they do not go as one"
            assert len(gate) == 0

    run_virtual(play())


def test_a_drain_is_bounded_whatever_the_number_of_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.gateway, "GATEWAY_DRAIN_CLIENTS_PER_S", 0.01)

    async def play() -> None:
        service = Service.for_test("gateway", "gw1")
        async with service:
            gate = build(service, with_login(StubMesh(), lambda: service.clock.world_ms() / 1_000))
            await crowd(gate, service, 20)
            began_s = asyncio.get_running_loop().time()
            assert await gate.drain() == 20
            took_ms = (asyncio.get_running_loop().time() - began_s) * 1_000
            assert GATEWAY_DRAIN_SPREAD_MS / 2 < took_ms <= GATEWAY_DRAIN_NOTICE_MS + GATEWAY_DRAIN_SPREAD_MS + 1

    run_virtual(play())
