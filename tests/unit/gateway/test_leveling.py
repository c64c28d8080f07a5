"""A gateway with far more clients than the others sends some of them there, few at a time, none of them twice."""

import asyncio
from collections.abc import Callable

import pytest

import gateway.session
from gateway.app import build
from gateway.closing import RESTARTING
from gateway.gateway import Gateway
from gateway.leveling import Leveling, surplus
from runtime.service import Service
from tests.support.virtual import run_virtual
from tests.unit.gateway.support import StubMesh, ready_members, with_login
from tests.unit.gateway.test_drain import FakeSocket, crowd
from world.balance import DEPLOYING
from world.limits import LEVEL_AGAIN_MS, LEVEL_CLIENTS, LEVEL_LEAST_CLIENTS, LEVEL_MS, LEVEL_STAY_MS
from world.messages import Member

STAY_S = LEVEL_STAY_MS / 1_000


@pytest.fixture(autouse=True)
def quiet_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """These say nothing for minutes."""
    monkeypatch.setattr(gateway.session, "CLIENT_SILENCE_MS", 2 * LEVEL_AGAIN_MS)


class Pair:
    """A gateway, and in its book another one, of which the book says what a test lets it say."""

    def __init__(self, service: Service) -> None:
        self.mesh = with_login(StubMesh(*ready_members()), lambda: service.clock.world_ms() / 1_000)
        self.gate: Gateway = build(service, self.mesh)
        self.service = service
        service.spawn(Leveling(self.gate).keep(), "leveling", loop=True)
        self.say()

    def say(self, *, status: str = "ready", clients: int = 0, deploying: bool = False, silent: bool = False) -> None:
        book = self.mesh.book
        other = Member("gateway", "gw2", 4, "tcp://127.0.0.1:4", status=status, load={"clients": clients})
        supervisor = Member("supervisor", "sv1", 1, "tcp://127.0.0.1:5", load={DEPLOYING: deploying})
        book.all = [*ready_members(), other, supervisor]
        book.silent = {"gw2"} if silent else set()

    async def filled(self, count: int) -> list[FakeSocket]:
        """So many clients, who have been here for LEVEL_STAY_MS."""
        sockets = await crowd(self.gate, self.service, count)
        await asyncio.sleep(STAY_S)
        return sockets


def gone(sockets: list[FakeSocket]) -> int:
    assert all(socket.closed in (None, RESTARTING) for socket in sockets)
    return sum(socket.closed is not None for socket in sockets)


@pytest.mark.parametrize(
    ("mine", "others", "expected"),
    [
        (500, [0], 250),
        (0, [500], 0),
        (300, [0, 0], 200),
        (100, [100, 10], 30),
        (2 * LEVEL_LEAST_CLIENTS, [0], LEVEL_LEAST_CLIENTS),
        (2 * LEVEL_LEAST_CLIENTS - 1, [0], 0),
        (1_000, [850], 0),
        (5_000, [], 0),
    ],
)
def test_what_is_clearly_above_the_average(mine: int, others: list[int], expected: int) -> None:
    assert surplus(mine, others) == expected


def test_half_of_them_go_to_an_empty_gateway_a_few_at_a_time() -> None:
    async def play() -> None:
        service = Service.for_test("gateway", "gw1")
        async with service:
            pair = Pair(service)
            sockets = await crowd(pair.gate, service, 100)
            await asyncio.sleep(STAY_S - 1)
            assert gone(sockets) == 0, "they have only just come"
            went = [0]
            while len(went) < STAY_S:
                await asyncio.sleep(1)
                went.append(gone(sockets))
                pair.say(clients=went[-1])  # they are there now
            assert 100 / 2 - LEVEL_LEAST_CLIENTS <= went[-1] <= 100 / 2
            most_in_two_seconds = max(later - before for before, later in zip(went, went[2:], strict=False))
            assert most_in_two_seconds <= 2 * LEVEL_CLIENTS
            for socket in sockets:
                assert socket.closed is None or socket.moment_s() <= LEVEL_MS / 1_000

    run_virtual(play())


@pytest.mark.parametrize(
    "amiss",
    [
        lambda pair: pair.say(status="draining"),
        lambda pair: pair.say(status="starting"),
        lambda pair: pair.say(deploying=True),
        lambda pair: pair.say(silent=True),
        lambda pair: setattr(pair.gate, "draining", True),
        lambda pair: pair.say(clients=40),
    ],
    ids=["draining", "starting", "deployment", "silent", "myself", "as-many-there"],
)
def test_nobody_is_asked_at_another_time(amiss: Callable[[Pair], None]) -> None:
    async def play() -> None:
        service = Service.for_test("gateway", "gw1")
        async with service:
            pair = Pair(service)
            sockets = await crowd(pair.gate, service, 40)
            amiss(pair)
            await asyncio.sleep(STAY_S)
            await asyncio.sleep(STAY_S)
            assert gone(sockets) == 0
            pair.gate.draining = False
            pair.say()
            await asyncio.sleep(STAY_S)
            assert gone(sockets) > 0, "now it is"

    run_virtual(play())


def test_who_comes_back_stays() -> None:
    """Where a balancer sends them here again, nobody is sent on once more before LEVEL_AGAIN_MS."""

    async def play() -> None:
        service = Service.for_test("gateway", "gw1")
        async with service:
            pair = Pair(service)
            first = await pair.filled(20)
            await asyncio.sleep(STAY_S / 2)
            asked = [n for n, socket in enumerate(first) if socket.closed]
            assert len(asked) >= 20 - 2 * LEVEL_LEAST_CLIENTS
            again = await pair.filled(20)
            await asyncio.sleep(STAY_S / 2)
            assert gone([again[n] for n in asked]) == 0
            await asyncio.sleep(LEVEL_AGAIN_MS / 1_000)
            assert gone([again[n] for n in asked]) > 0

    run_virtual(play())
