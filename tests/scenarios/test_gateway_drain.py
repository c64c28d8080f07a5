"""A gateway drains under players who walk, gather and talk: all reconnect elsewhere in their sessions, nothing is lost.

The real services over the fake network, in virtual time, without faults: whatever is wrong comes from the drain.
"""

import asyncio
import random

import pytest

import gateway.gateway
from runtime.drain import drainable
from runtime.notes import Notes
from tests.simulation.checks import Monitor, disagreements, verdict
from tests.simulation.cluster import SimCluster
from tests.simulation.plan import Plan
from tests.simulation.player import Player
from tests.simulation.trace import Trace
from tests.support.game import around
from tests.support.virtual import run_virtual
from world.limits import GATEWAY_DRAIN_NOTICE_MS

PLAYERS = 4
CLIENTS_PER_S = 2  # so that the first are long elsewhere, and playing, when the last are sent
SETTLE_S = 20.0


async def settled(cluster: SimCluster, players: list[Player]) -> list[str]:
    async with asyncio.timeout(SETTLE_S):
        while True:
            await asyncio.sleep(0.5)
            if not (wrong := list(disagreements(cluster, players))):
                return wrong


@pytest.mark.parametrize("gateways", [2, 1])
def test_every_client_reconnects_in_its_session_and_loses_nothing(
    gateways: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.gateway, "GATEWAY_DRAIN_CLIENTS_PER_S", CLIENTS_PER_S)

    async def play() -> None:
        plan = Plan(seed=1, gateways=gateways, logins=1, players=PLAYERS, active_s=0.0, placement="spread")
        cluster = SimCluster(plan, Trace(keep=False))
        monitor = Monitor(cluster)
        async with asyncio.TaskGroup() as group:
            await cluster.start_all(group)
            players = [Player(cluster, n, random.Random(n), around(20)) for n in range(PLAYERS)]
            lives = [group.create_task(player.live()) for player in players]
            for player in players:
                await player.entered.wait()
            await asyncio.sleep(2)
            node = cluster.nodes["gw1"]
            assert node.service is not None
            assert node.mesh is not None
            assert node.gateway is not None
            there = [player for n, player in enumerate(players) if n % gateways == 0]
            assert len(node.gateway) == len(there)
            drainable(node.service, node.mesh, Notes(node.mesh, node.service.clock), node.gateway.drain)
            service, began_s = node.service, asyncio.get_running_loop().time()
            service.drain()
            await service.stopping.wait()
            bound_s = GATEWAY_DRAIN_NOTICE_MS / 1_000 + len(there) / CLIENTS_PER_S
            assert asyncio.get_running_loop().time() - began_s <= bound_s + 0.1
            await asyncio.sleep(2)
            for player in players:
                player.calm = True
            await settled(cluster, players)
            for player in players:
                assert player.codes[:1] == ([1012] if player in there else [])
                assert gateways == 1 or len(player.codes) <= 1, "one reconnection, not more"
                assert player.client.resyncs == 1, "nothing was missed: no whole state but the first"
            assert verdict(cluster, players, monitor) == []
            assert sum(1 for player in players for told in player.told if told.result is not None) > 10 * PLAYERS
            for task in lives:
                task.cancel()
            await asyncio.wait(lives)
            await cluster.end()

    run_virtual(play())
