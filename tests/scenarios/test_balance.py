"""Living servers share what there is: a new one gets its part, and nobody who plays notices."""

import asyncio
import math
from typing import Any

import orjson
import pytest

from tests.support.game import SEED
from tests.support.virtual import run_virtual
from tests.support.whole import PlayerClient, Whole
from world.balance import DEPLOYING
from world.ids import NodeId
from world.limits import BALANCE_AFTER_MS, BALANCE_MARGIN_AVATARS, BALANCE_MS, HANDOFF_AGAIN_MS
from world.terrain import spawn


def loads(world: Whole) -> dict[str, int]:
    return {name: len(server.game.presences) for name, server in world.servers.items()}


def spread(world: Whole) -> int:
    return max(loads(world).values()) - min(loads(world).values())


async def strolling(player: PlayerClient, n: int) -> None:
    """To and fro, five claims a second, until the session ends."""
    x, y = player.x, player.y
    step = 0
    while not player.lost.is_set():
        step += 1
        away = math.sin(step / 10 + n)
        player.move(x + away, y, math.cos(step / 10 + n) * 0.5, 0.0)
        await asyncio.sleep(0.2)


def noticed(player: PlayerClient) -> list[str]:
    """What a player would see of a session that broke."""
    said = [orjson.loads(text) for text in player.said]
    attached = [m for m in said if m["t"] == "attached"]
    return [f"closed {code}" for code in player.codes] + ["resync" for m in attached[1:] if m.get("resync") is not None]


def test_nothing_moves_for_balance_while_a_deployment_rolls_the_servers() -> None:
    async def play() -> None:
        async with Whole(1, balance="on") as world:
            for n in range(12):
                await world.newcomer(f"gw{n % 2 + 2}")
            supervisor = await world.network.mesh("supervisor", NodeId("sv1"))
            supervisor.update_me(status="ready", load={DEPLOYING: True})
            await world.start("gs2")
            await asyncio.sleep((BALANCE_AFTER_MS + 5 * BALANCE_MS) / 1_000)
            assert loads(world) == {"gs1": 12, "gs2": 0}
            supervisor.update_me(load={DEPLOYING: False})
            await world.until(lambda: spread(world) <= BALANCE_MARGIN_AVATARS, BALANCE_AFTER_MS / 1_000 + 25)

    run_virtual(play())


def test_a_new_server_takes_its_share_and_no_player_notices() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        async with Whole(1, balance="on") as world, asyncio.TaskGroup() as strolls:
            players = [await world.newcomer(f"gw{n % 2 + 2}") for n in range(30)]
            walks = [strolls.create_task(strolling(player, n)) for n, player in enumerate(players[::4])]
            for node in ("gs2", "gs3"):
                await world.start(node)
            await world.until(lambda: spread(world) <= BALANCE_MARGIN_AVATARS, BALANCE_AFTER_MS / 1_000 + 25)
            await world.start("gs4")
            began = loop.time()
            await world.until(lambda: loads(world)["gs4"] >= 4, BALANCE_AFTER_MS / 1_000 + 10)
            assert loop.time() - began < 10 * BALANCE_MS / 1_000
            for walk in walks:
                walk.cancel()
            moved = sum(server.game.balancing.moved for server in world.servers.values())
            await asyncio.sleep(HANDOFF_AGAIN_MS / 1_000 + 5)
            assert spread(world) <= BALANCE_MARGIN_AVATARS
            later = sum(server.game.balancing.moved for server in world.servers.values()) - moved
            assert later <= 8, "it settles"
            for player in players:
                assert noticed(player) == []
                assert (await player.command("say", text="still here")).ok
            assert sum(loads(world).values()) == 30
            assert world.failures == []

    run_virtual(play())


def test_neighbours_on_two_servers_come_together_and_their_land_with_them() -> None:
    async def play() -> None:
        async with Whole(2, balance="on", placement="gather") as world:
            one = await world.player(1, at="gs1")
            two = await world.player(2, at="gs2")
            await world.until(lambda: world.owner(two.unit) == "gs1", BALANCE_AFTER_MS / 1_000 + 10)
            await world.until(lambda: world.owner(one.region) == "gs1")
            x, y = spawn(SEED)
            assert abs(two.x - x) < 200
            assert abs(two.y - y) < 200
            await asyncio.sleep(HANDOFF_AGAIN_MS / 1_000)
            assert (world.owner(one.unit), world.owner(two.unit)) == ("gs1", "gs1")
            assert world.failures == []

    run_virtual(play())


@pytest.mark.parametrize("why", ["spread", "off"])
def test_they_stay_apart_where_the_operator_wants_it(why: str) -> None:
    async def play() -> None:
        settings: dict[str, Any] = {"balance": "on", "placement": "spread"} if why == "spread" else {"balance": "off"}
        async with Whole(2, **settings) as world:
            players = [await world.player(n, at=f"gs{n}") for n in (1, 2)]
            await asyncio.sleep(BALANCE_AFTER_MS / 1_000 + 10)
            assert [world.owner(player.unit) for player in players] == ["gs1", "gs2"]

    run_virtual(play())
