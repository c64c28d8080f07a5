"""An operator at a running cluster: looks, sends a game server and a gateway away, and nobody who plays is harmed."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from cluster.operators.api import Cluster as Asked
from cluster.operators.found import find
from runtime.settings import read_settings
from tests.support.aio import run
from tests.support.cluster import START_S, Cluster, cluster, projectk
from tests.support.players import Player, eventually, players

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]


def listeners(running: Cluster) -> str:
    return ",".join(row["addresses"]["ops"] for row in running.processes("gateway"))


async def asked(running: Cluster, *words: str) -> str:
    """A command to its end, which must be a good one; what it said."""
    flags = ("--ops", listeners(running), "--data", str(running.data))
    done = await asyncio.to_thread(projectk, *words, *flags, cwd=running.folder, timeout_s=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def gathers(player: Player) -> None:
    outcome = await player.gather(await player.nearest())
    assert outcome.ok or outcome.code == "depleted", outcome


def test_players_stay_while_a_game_server_and_a_gateway_are_drained(tmp_path: Path) -> None:
    with cluster(tmp_path, gameservers=2, gateways=2, logins=1, brokers=1, placement="spread") as running:
        run(drains(running))


async def drains(running: Cluster) -> None:
    table = await asked(running, "status")
    assert [line.split()[:3] for line in table.splitlines() if line.startswith("gs2")] == [
        ["gs2", "gameserver", "ready"]
    ]
    async with players(running.url, 4, running.gateways) as crowd:
        await asyncio.gather(*map(gathers, crowd))
        await finds(running, crowd)
        node = crowd[0].client.server
        before = [(p.client.session, p.client.connection, dict(p.client.inventory)) for p in crowd]
        assert f"{node} has ended." in await asked(running, "drain", node, "--wait")
        await eventually(lambda: all(p.client.server != node for p in crowd), 5, "its players are elsewhere")
        assert [(p.client.session, p.client.connection, p.client.inventory) for p in crowd] == before, (
            "no socket closed"
        )
        assert not any(player.client.lost.is_set() for player in crowd)
        await asyncio.gather(*map(gathers, crowd))
        kinds = [(note["kind"], note["detail"].get("state")) for note in await told(running)]
        await gateway_drains(running, crowd)
    assert ("drain", "began") in kinds
    assert ("handoff", None) in kinds


async def finds(running: Cluster, crowd: list[Player]) -> None:
    """The store is searched while people play: who holds what they gathered, and a player by a part of the name."""
    client = next(player.client for player in crowd if player.client.inventory)
    item, count = next(iter(client.inventory.items()))
    hits = json.loads(await asked(running, "search", "item", item, "--at-least", str(count), "--json"))["hits"]
    assert (client.avatar, count) in [(hit["entity"], hit["count"]) for hit in hits]
    named = await asked(running, "search", "player", client.name[1:].upper())
    assert str(client.avatar) in named


async def gateway_drains(running: Cluster, crowd: list[Player]) -> None:
    """All of its clients come back in their sessions, at the other one, and miss nothing."""
    before = [(p.client.session, p.client.resyncs, dict(p.client.inventory)) for p in crowd]
    there = [p for p in crowd if p.client.gateways[0] == running.gateways[0]]
    assert there
    draining = asyncio.ensure_future(asked(running, "drain", "gw1"))
    await asyncio.gather(*map(sent_elsewhere, there))
    assert all(player.client.gateways[0] == running.gateways[1] for player in there)
    assert [(p.client.session, p.client.resyncs, p.client.inventory) for p in crowd] == before
    await asyncio.gather(draining, *map(gathers, crowd))


async def sent_elsewhere(player: Player) -> None:
    await asyncio.wait_for(player.client.lost.wait(), START_S)
    assert player.client.close_code == 1012
    await player.client.connect()


async def told(running: Cluster) -> list[dict[str, Any]]:
    """What all gateways have kept of the cluster's news."""

    def read() -> list[dict[str, Any]]:
        found = []
        for url in listeners(running).split(","):
            with Asked(find(read_settings(data=running.data, ops_url=url))) as cluster:
                found += [note for _kind, note in cluster.events(follow=False)]
        return found

    return await asyncio.to_thread(read)
