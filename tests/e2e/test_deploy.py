"""A running cluster rolled from this release to the next, under players: nobody fails, nothing is lost, old and new
documents are both read. Then a broken release, which stops at its first process."""

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from cluster.bots.client import Client
from cluster.operators.api import Cluster as Asked
from cluster.operators.found import find
from runtime.settings import read_settings
from tests.e2e.next_release import break_brokers, install
from tests.e2e.next_release.bag_step import down, up
from tests.support.aio import run
from tests.support.cluster import Cluster, cluster
from tests.support.ledger import Told, violations
from tests.support.players import Player, eventually, item_of_kind, players, retried
from world.ids import avatar_unit
from world.limits import AVATAR_LINGER_S, DEATH_AFTER_MS, FORMAT_LOOK_MS, STORE_BUSY_MS
from world.unit_document import UnitDocument

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
SOURCE = ("world", "runtime", "gateway", "gameserver", "login", "broker", "cluster", "web_client")
CROWD = 12
PAUSE_S = 0.5
SHORT_LINGER_S = 3
Json = dict[str, Any]


def copied(into: Path) -> Path:
    """This release's source, to be started and changed there. Avatars leave the world soon after their players: one has
    to be gone before the deployment, and the test would wait for that."""
    for name in SOURCE:
        shutil.copytree(ROOT / name, into / name, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    limits = into / "world" / "limits.py"
    usual = f"AVATAR_LINGER_S: Final = {AVATAR_LINGER_S}\n"
    assert usual in limits.read_text()
    limits.write_text(limits.read_text().replace(usual, f"AVATAR_LINGER_S: Final = {SHORT_LINGER_S}\n"))
    return into


# -- the store's file, read beside the process that owns it --------------------------------------------------------
def stored(running: Cluster, *kinds: str) -> dict[str, Json]:
    connection = apsw.Connection(str(running.data / "store/world.sqlite"), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(STORE_BUSY_MS)  # the store may just be rolled, or move its log into the file
    try:
        rows = connection.execute("SELECT key, value FROM documents")
        return {key: json.loads(value) for key, value in rows if key.partition(":")[0] in kinds}
    finally:
        connection.close()


def cluster_format(running: Cluster) -> int:
    return int(stored(running, "cluster")["cluster:format"]["format"])


def as_of_this_release(documents: dict[str, Json]) -> dict[str, UnitDocument]:
    """What the ledger reads: the next release's documents taken down."""
    older = {key: down(d) | {"format": 1} if d["format"] == 2 else d for key, d in documents.items()}
    return {key: UnitDocument.parse(msgspec.json.encode(d)) for key, d in older.items()}


# -- who plays meanwhile -------------------------------------------------------------------------------------------
@dataclass
class Playing:
    """One player that never stops: what it was told, how its sockets ended."""

    player: Player
    told: Told = field(default_factory=Told)
    closes: list[int] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    brought: list[int] = field(default_factory=list)  # how much each gather brought

    async def gather_on(self, items: dict[int, str]) -> None:
        """About one command a second, most of them with effects in two units."""
        while True:
            await asyncio.sleep(PAUSE_S)
            node = self.player.reachable(100)
            if node is None:
                outcome = await self.player.client.command("inventory")
                self.failed += [] if outcome.ok else [outcome.code]
                continue
            await self.player.walk_to(node[1], node[2], near_m=self.player.land.reach_m - 1.5)
            self.told.in_doubt[items[node[0] >> 48]] += 2
            outcome = await self.player.client.command("gather", target=node[0])
            self.told.in_doubt[items[node[0] >> 48]] -= 2
            if outcome.ok:
                self.told.acknowledged.update(outcome.value["items"])
                self.brought.append(sum(outcome.value["items"].values()))
            else:
                self.player.land.forget(*node)
                self.failed += [outcome.code] if outcome.code != "depleted" else []

    async def stay_connected(self) -> None:
        client = self.player.client
        while True:
            await client.lost.wait()
            self.closes.append(client.close_code)
            await retried(client.connect, 20)


@contextmanager
def asking(running: Cluster) -> Iterator[Asked]:
    """By ops.json, as the commands do."""
    with Asked(find(read_settings(data=running.data))) as asked:
        yield asked


def deployed(running: Cluster) -> tuple[Json, set[tuple[int, ...]], set[int]]:
    """Deploy to the end: the deployment, which formats the game servers spoke at once meanwhile, and which ones
    documents had while the last process was still to come."""
    together: set[tuple[int, ...]] = set()
    written: set[int] = set()
    with asking(running) as asked:
        view = asked.post("/v1/ops/deployments")
        while view["state"] == "running":
            spoken = {n["format_max"] for n in asked.get("/v1/ops/nodes")["nodes"] if n["role"] == "gameserver"}
            together.add(tuple(sorted(spoken)))
            found = {document["format"] for document in stored(running, "avatar", "region").values()}
            view = asked.get(f"/v1/ops/deployments/{view['id']}")
            if view["steps"][-1]["state"] != "ready":
                written |= found
        return view, together, written


# -- the test ------------------------------------------------------------------------------------------------------
def test_a_cluster_rolls_to_the_next_release_under_players_and_stops_at_a_broken_one(tmp_path: Path) -> None:
    source = copied(tmp_path / "release")
    flags = {"placement": "spread", "gameservers": 2, "logins": 1, "brokers": 1}
    with cluster(tmp_path, source=source, **flags) as running:
        told = run(roll(running, source))
        assert running.stop() == 0
        documents = stored(running, "avatar", "region")
    assert {d["format"] for key, d in documents.items() if key.startswith("avatar:")} == {2}
    avatars = {avatar: documents[avatar_unit(avatar)]["data"]["entities"][str(avatar)] for avatar in told}
    assert all("items" not in fields for fields in avatars.values())
    assert any(heard.acknowledged for heard in told.values())
    assert all(avatars[avatar]["bag"] for avatar, heard in told.items() if heard.acknowledged)
    assert violations(as_of_this_release(documents), told) == []


async def roll(running: Cluster, source: Path) -> dict[int, Told]:
    async with players(running.url, CROWD + 1, running.gateways) as (early, *crowd):
        assert (await early.gather(await early.nearest())).ok
        await early.client.close()
        items = await asyncio.to_thread(item_of_kind, running.url)
        everyone = [Playing(player) for player in crowd]
        sessions = [p.client.session for p in crowd]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(task) for p in everyone for task in (p.gather_on(items), p.stay_connected())]
            await eventually(lambda: gathered(everyone) >= 2 * CROWD, 30, "many gathered")
            unit = avatar_unit(early.client.avatar)
            await eventually(lambda: stored(running, "avatar")[unit]["owner"] == "", 30, "who left is nobody's")
            install(source)
            view, together, written = await asyncio.to_thread(deployed, running)
            rolled(running, view, together, written)
            await asyncio.sleep(2 * FORMAT_LOOK_MS / 1_000)  # by then every server has looked, and writes format 2
            for p in everyone:
                p.brought.clear()
            await eventually(lambda: any(2 in p.brought for p in everyone), 30, "the new rule is in force")
            # one that finds nothing left to gather around it has no reason to be written before it leaves
            wrote = [p.player for p in everyone if p.brought]
            await eventually(lambda: all_in_format_2(running, wrote), 20, "avatars are written in format 2")
            await comes_back(running, early.client)
            await stops_at_the_broken(running, source)
            assert [p.failed for p in everyone] == [[]] * CROWD
            await falls_over_at_once(running, crowd)
            for task in tasks:
                task.cancel()
        # who was put back by the death, half a second at most, may stand too far from what it was about to gather
        assert {code for p in everyone for code in p.failed} <= {"too_far"}
        assert {code for p in everyone for code in p.closes} <= {1012}
        assert any(p.closes for p in everyone)
        assert [p.client.session for p in crowd] == sessions
        return {p.player.client.avatar: p.told for p in everyone}


def gathered(everyone: list[Playing]) -> int:
    return sum(p.told.acknowledged.total() for p in everyone)


def rolled(running: Cluster, view: Json, together: set[tuple[int, ...]], written: set[int]) -> None:
    assert (view["state"], view["problem"]) == ("done", "")
    assert [step["id"] for step in view["steps"]] == ["br1", "st1", "lg1", "gw1", "gw2", "gs1", "gs2"]
    assert {step["state"] for step in view["steps"]} == {"ready"}
    assert view["format"] == {"from": 1, "to": 2}
    assert cluster_format(running) == 2
    assert (1, 2) in together, "both releases served side by side"
    assert written == {1}, "and wrote what both read"


def all_in_format_2(running: Cluster, crowd: list[Player]) -> bool:
    documents = stored(running, "avatar")
    return all(documents[avatar_unit(player.client.avatar)]["format"] == 2 for player in crowd)


async def comes_back(running: Cluster, client: Client) -> None:
    """Who left before the deployment: saved in format 1, found again in format 2."""
    unit = avatar_unit(client.avatar)
    before = stored(running, "avatar")[unit]
    assert (before["format"], before["owner"]) == (1, "")
    items = Counter(before["data"]["entities"][str(client.avatar)]["items"])
    assert items.total() == 1
    await client.refresh()
    await retried(lambda: client.connect(resume=False), 20)
    assert client.inventory == items
    await eventually(lambda: "bag" in stored(running, "avatar")[unit]["data"]["entities"][str(client.avatar)], 10, "up")


async def stops_at_the_broken(running: Cluster, source: Path) -> None:
    before = {row["id"]: row["pid"] for row in running.processes()}
    last_words = break_brokers(source)
    view, _, _ = await asyncio.to_thread(deployed, running)
    assert view["state"] == "failed"
    assert last_words in view["problem"]
    assert [step["state"] for step in view["steps"]] == ["failed", *["waiting"] * 6]
    now = {row["id"]: row["pid"] for row in running.processes()}
    assert all(now[node] == pid for node, pid in before.items() if node != "br1")


async def falls_over_at_once(running: Cluster, crowd: list[Player]) -> None:
    """A killed game server is dead by its parent's word, long before anybody may conclude it from silence."""
    node = crowd[0].client.server
    its = [(p.client, p.client.attaches) for p in crowd if p.client.server == node]
    running.kill(node)
    await eventually(lambda: all(c.attaches > n for c, n in its), DEATH_AFTER_MS / 1_000 - 0.5, "attached elsewhere")

    def deaths() -> list[Json]:
        found = []
        for url in (row["addresses"]["ops"] for row in running.processes("gateway")):
            with Asked(find(read_settings(data=running.data, ops_url=url))) as asked:
                found += [note["detail"] for kind, note in asked.events(follow=False) if kind == "death"]
        return found

    said = await asyncio.to_thread(deaths)
    assert (node, "reaped") in {(death["node"], death["proof"]) for death in said}


def test_the_step_of_the_next_release_is_its_own_inverse() -> None:
    """Else the test above would prove little."""
    document = {"data": {"entities": {str(1 << 48 | 7): {"items": {"wood": 2, "stone": 1}}, str(2 << 48): {"wood": 1}}}}
    newer = up(json.loads(json.dumps(document)))
    assert newer["data"]["entities"][str(1 << 48 | 7)] == {"bag": [["wood", 2], ["stone", 1]]}
    assert down(newer) == document
