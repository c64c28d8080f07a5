"""Servers die, stop, come back fewer; the store answers late, ambiguously or not at all. Nothing acknowledged goes."""

import asyncio
import random

import msgspec
import pytest

from runtime.mesh.api import Refused
from runtime.store.api import Document
from runtime.store.memory import Faults
from tests.support.game import SEED, Game, Player, around, nearest
from tests.support.virtual import run_virtual
from world import limits
from world.ids import NodeId
from world.limits import DEATH_AFTER_MS, SWEEP_DELAY_MS
from world.messages import Json
from world.terrain import spawn


def items(game: Game, player: Player) -> Json:
    stored = game.document(player.unit)["data"]["entities"][str(player.avatar)]
    return dict(stored.get("items", {}))


def totals(game: Game) -> tuple[dict[str, int], dict[str, int], int]:
    """(given, gained, entries under way) over all unit documents."""
    given: dict[str, int] = {}
    gained: dict[str, int] = {}
    entries = 0
    for document in (game.documents("avatar") | game.documents("region")).values():
        for name, sums in (("given", given), ("gained", gained)):
            for item, count in document["data"].get(name, {}).items():
                sums[item] = sums.get(item, 0) + count
        entries += len(document["outbox"]["entries"])
    return given, gained, entries


def test_players_of_a_killed_server_attach_anew_and_keep_what_was_acknowledged() -> None:
    async def play() -> None:
        tree, x, y = nearest()
        async with Game(2) as game:
            player = await game.player(1, at="gs1")
            await player.walk(x, y)
            assert (await player.gather(tree)).ok
            await asyncio.sleep(0.6)  # a motion document
            before = player.x, player.y
            await game.kill("gs1")
            again = await player.attach("gs1")
            assert (again.server, again.epoch) == ("gs2", 2)
            assert again.resync == {"name": "Walker1", "inventory": {"wood": 1}}
            assert abs(again.x - before[0]) + abs(again.y - before[1]) < 0.5
            assert again.last_input == player.input
            assert (await player.gather(tree)).ok, "the region was woken by need"
            assert items(game, player) == {"wood": 2}
            assert game.owner(player.region) == "gs2"

    run_virtual(play())


def test_death_takes_its_time_and_only_the_silent_die() -> None:
    async def play() -> None:
        async with Game(2) as game:
            await asyncio.sleep(DEATH_AFTER_MS / 1_000 + 2)
            assert {d["state"] for d in game.documents("srv").values()} == {"alive"}
            await game.kill("gs1")
            await asyncio.sleep(DEATH_AFTER_MS / 1_000 - 1.5)
            assert game.document("srv:gs1")["state"] == "alive"
            await game.until(lambda: game.document("srv:gs1")["state"] == "dead", seconds=4)
            assert game.document("srv:gs2")["state"] == "alive"
            assert game.servers["gs2"].game.mesh.book.is_dead("gs1", 1)  # type: ignore[arg-type]

    run_virtual(play())


def test_nobody_dies_while_all_reach_the_store() -> None:
    async def play() -> None:
        async with Game(2) as game:
            game.network.partition("gs1", "gs2")
            game.network.partition("gs2", "gs1")
            await asyncio.sleep(10)
            assert {d["state"] for d in game.documents("srv").values()} == {"alive"}
            assert game.failures == []

    run_virtual(play())


def test_nobody_dies_while_the_store_is_away() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        async with Game(2, store_faults=Faults(random.Random(1))) as game:
            assert game.store.faults is not None
            tree, x, y = nearest()
            player = await game.player(1, at="gs1")
            await player.walk(x, y)
            await game.until(lambda: game.owner(player.region) == "gs1")
            game.store.faults.unavailable.append((loop.time(), loop.time() + 30))
            refused = await player.gather(tree)
            assert (refused.ok, refused.code) == (False, "store_unavailable")
            assert (await player.call("say", text="still here")).ok, "the world moves on"
            await asyncio.sleep(26)
            await game.until(lambda: items(game, player) == {"wood": 1}, what="what was begun lands once")
            assert (await player.gather(tree)).ok
            assert items(game, player) == {"wood": 2}
            assert {d["state"] for d in game.documents("srv").values()} == {"alive"}
            assert game.failures == []

    run_virtual(play())


def test_a_server_declared_dead_while_it_hung_ends_and_sends_nothing() -> None:
    async def play() -> None:
        async with Game(2) as game:
            player = await game.player(1, at="gs1")
            game.network.isolate("gs1")
            zombie = game.servers["gs1"].game
            key = "srv:gs1"
            await game.until(lambda: game.document(key)["state"] == "alive")
            found = game.store.table.documents[key]
            game.store.table.put(key, found.value.replace(b'"alive"', b'"dead"'))
            again = await player.attach("gs2")
            assert again.server == "gs2"
            await game.until(lambda: len(game.failures) == 1, seconds=3)
            assert type(game.failures[0]).__name__ == "SelfDead"
            assert game.owner(player.unit) == "gs2"
            assert zombie.table.writes > 0

    run_virtual(play())


def test_a_write_after_the_unit_was_taken_is_fenced_and_the_unit_dropped() -> None:
    async def play() -> None:
        async with Game(1) as game:
            player = await game.player(1, at="gs1")
            server = game.servers["gs1"].game
            found = game.document(player.unit)
            found.update(owner="gs9", generation=1, epoch=found["epoch"] + 1, write_id="another")
            game.store.table.put(player.unit, msgspec.json.encode(found))
            owned = server.table.get(player.unit)
            assert owned is not None
            owned.unit.save()
            server.table.touch(owned)
            await game.until(lambda: server.table.get(player.unit) is None, seconds=1)
            assert server.table.fenced == 1
            assert server.state.find(player.avatar) is None
            assert game.document(player.unit)["write_id"] == "another"

    run_virtual(play())


def test_land_too_large_for_the_store_is_read_anew_and_its_server_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the bounds of a unit prevent; if it happens all the same, only what was not acknowledged is undone."""

    async def play() -> None:
        async with Game(1) as game:
            player, tree = await game.gatherer(1, at="gs1")
            assert (await player.gather(tree)).ok
            before = game.document(player.region)
            monkeypatch.setattr(limits, "STORE_VALUE_BYTES", len(game.store.table.documents[player.region].value))
            refused = await player.gather(tree)
            assert (refused.ok, refused.code) == (False, "unit_full")
            await game.until(lambda: game.document(player.region)["epoch"] == before["epoch"] + 1, seconds=1)
            assert game.document(player.region)["data"] == before["data"]
            monkeypatch.undo()
            assert (await player.gather(tree)).ok
            await game.until(lambda: items(game, player) == {"wood": 2}, seconds=1)
            assert not game.failures
            assert game.servers["gs1"].game.table.too_large >= 1

    run_virtual(play())


def test_a_graceful_stop_saves_releases_and_says_so() -> None:
    async def play() -> None:
        async with Game(2) as game:
            player = await game.player(1, at="gs1")
            x, y = spawn(SEED)
            await player.walk(x + 15, y, stop_m=0.5)
            await asyncio.sleep(0.2)
            await game.stop("gs1")
            assert game.document("srv:gs1")["state"] == "dead"
            assert game.owner(player.unit) == ""
            assert all(not d["units"] for k, d in game.documents("owned").items() if k.startswith("owned:gs1:1:"))
            assert all(d["owner"] != "gs1" for d in game.documents("region").values())
            again = await player.attach("gs2")
            assert abs(again.x - player.x) + abs(again.y - player.y) < 0.1

    run_virtual(play())


def test_a_cluster_restarted_with_fewer_servers_sweeps_what_the_others_owned() -> None:
    async def play() -> None:
        tree, x, y = nearest()
        async with Game(3) as game:
            players = [await game.player(n, at=f"gs{n}") for n in (1, 2, 3)]
            for player in players:
                await player.walk(x, y)
                assert (await player.gather(tree)).ok
            for node in ("gs1", "gs2", "gs3"):
                await game.kill(node)
            await game.start("gs1")
            await game.until(
                lambda: all(game.owner(p.unit) in ("", "gs1") for p in players),
                seconds=(DEATH_AFTER_MS + SWEEP_DELAY_MS) / 1_000 + 20,
            )
            await game.until(lambda: {k.split(":")[1] for k in game.documents("owned")} <= {"gs1"}, seconds=20)
            await game.until(lambda: not any(k.endswith(":1") for k in game.documents("motion")), seconds=20)
            for player in players:
                player.session += 1
                again = await player.attach("gs1")
                assert again.resync is not None
                assert again.resync["inventory"] == {"wood": 1}
                assert abs(again.x - player.x) + abs(again.y - player.y) < 3.5

    run_virtual(play())


def test_what_a_server_that_never_comes_back_owned_is_taken_on_need_without_waiting_for_the_sweep() -> None:
    async def play() -> None:
        async with Game(2) as game:
            player, tree = await game.gatherer(1, at="gs2")
            assert (await player.gather(tree)).ok
            assert game.owner(player.unit) == game.owner(player.region) == "gs2"
            for node in ("gs1", "gs2"):
                await game.kill(node)
            await game.start("gs1")
            player.session += 1
            await player.attach("gs1", seconds=DEATH_AFTER_MS / 1_000 + 3)
            assert (await player.call("gather", seconds=6, target=tree)).ok
            assert game.owner(player.unit) == game.owner(player.region) == "gs1"

    run_virtual(play())


def test_an_unreadable_document_costs_only_its_own_unit() -> None:
    async def play() -> None:
        async with Game(2) as game:
            sound, damaged = await game.player(1, at="gs1"), await game.player(2, at="gs1")
            await game.kill("gs1")
            game.store.table.documents[damaged.unit] = Document(b'{"owner": 5}', 99)
            await sound.attach("gs2")
            with pytest.raises(Refused, match="store_unavailable"):
                await game.gateway.call(NodeId("gs2"), damaged.attach_message(), deadline_ms=6_000)
            await game.until(lambda: not any(":gs1:" in k for k in game.documents("owned")), 30, "gs1 is swept")
            assert game.servers["gs2"].failure is None
            assert (await sound.call("inventory")).ok
            assert game.store.table.get(damaged.unit) == Document(b'{"owner": 5}', 99), "left as it is"

    run_virtual(play())


def test_an_open_outbox_of_a_dead_server_is_driven_by_the_sweep() -> None:
    async def play() -> None:
        tree, x, y = nearest()
        async with Game(3) as game:
            keeper = await game.player(1, at="gs1")  # owns the region
            await game.until(lambda: game.owner(keeper.region) == "gs1")
            player = await game.player(2, at="gs2")
            await player.walk(x, y)
            game.network.partition("gs1", "gs2")  # the answer and the delivery are lost, the outbox stays
            task = asyncio.get_running_loop().create_task(player.gather(tree))
            await game.until(lambda: totals(game)[2] == 1)
            assert items(game, player) == {}
            await game.kill("gs1")
            game.network.heal()
            result = await task
            assert result.ok
            assert items(game, player) == {"wood": 1}
            await game.until(lambda: totals(game)[2] == 0, seconds=30)
            given, gained, _ = totals(game)
            assert given == gained == {"wood": 1}

    run_virtual(play())


def test_what_may_have_happened_is_not_denied_once_its_owner_is_out_of_sight() -> None:
    """The first attempt reaches the owner, its answer is lost; until the next attempt the target has been hidden."""

    async def play() -> None:
        tree, x, y = nearest()
        async with Game(2) as game:
            keeper = await game.player(1, at="gs1")
            await game.until(lambda: game.owner(keeper.region) == "gs1")
            player = await game.player(2, at="gs2")
            await player.walk(x, y)
            game.network.partition("gs1", "gs2")
            refused = await player.gather(tree)
            assert (refused.ok, refused.code) == (False, "unreachable")
            assert game.servers["gs2"].game.state.find(tree) is None, "hidden by then"
            game.network.heal()
            await game.until(lambda: items(game, player) == {"wood": 1}, what="what was begun lands")
            denied = await player.gather(tree + 1_000)
            assert (denied.ok, denied.code) == (False, "no_such_target")

    run_virtual(play())


GATHERS = 4


class Trouble:
    """Kills servers at the worst moment, or makes zombies of them: declared dead while they still serve."""

    def __init__(self, game: Game, group: asyncio.TaskGroup) -> None:
        self.game, self.group, self.left, self.busy = game, group, 6, False

    def at(self, node: str) -> None:
        if self.left and node in self.game.servers and not self.busy:
            self.left, self.busy = self.left - 1, True
            self.group.create_task(self._strike(node, zombie=self.game.rng.random() < 0.3))

    async def _strike(self, node: str, zombie: bool) -> None:
        game = self.game
        if zombie:
            key = f"srv:{node}"
            game.network.isolate(node)
            game.network.heal(node, "gw1")
            game.network.heal("gw1", node)
            game.store.table.put(key, game.store.table.documents[key].value.replace(b'"alive"', b'"dead"'))
            server = game.servers[node]
            await game.until(lambda: server.task.done(), seconds=10, what="the zombie ends")
            game.servers.pop(node)
            game.network.heal()
        else:
            await game.kill(node)
        await asyncio.sleep(game.rng.uniform(0, 3))
        await game.start(node)
        self.busy = False


@pytest.mark.parametrize("seed", range(8))
def test_items_are_conserved_under_kills_zombies_and_an_ambiguous_store(seed: int) -> None:
    """Players gather; servers are killed the moment they have acknowledged; a tenth of all writes is ambiguous."""

    async def play() -> None:
        faults = Faults(random.Random(seed), temporary=0.02, lost=0.04, applied=0.04, late=0.03, delay_ms=(0.5, 60.0))
        acknowledged: dict[int, int] = {}
        async with Game(3, seed=seed, store_faults=faults) as game, asyncio.TaskGroup() as group:
            game.network.faults.call_loss = 0.03
            game.network.faults.call_duplicate = 0.1
            trouble = Trouble(game, group)

            async def life(n: int, target: int, x: float, y: float) -> None:
                player = await game.player(n, at=f"gs{n % 3 + 1}")
                await player.walk(x, y)
                for _ in range(GATHERS):
                    if game.rng.random() < 0.2:
                        asyncio.get_running_loop().call_later(game.rng.uniform(0, 0.2), trouble.at, player.server)
                    result = await player.gather(target, seconds=120)
                    acknowledged[player.avatar] = acknowledged.get(player.avatar, 0) + result.ok
                    if game.rng.random() < 0.5:
                        trouble.at(player.server)
                    await asyncio.sleep(game.rng.uniform(0.1, 6))

            async with asyncio.TaskGroup() as lives:
                for n, target in enumerate(around(3), 1):
                    lives.create_task(life(n, *target))
            await game.until(lambda: totals(game)[2] == 0, seconds=60, what="every outbox is empty")
            await asyncio.sleep(10)
            trouble.left = 0
            given, gained, _ = totals(game)
            assert given == gained, f"seed {seed}"
            for player in game.players.values():
                assert acknowledged[player.avatar] <= sum(items(game, player).values()) <= GATHERS, f"seed {seed}"
            assert game.fences.broken == [], f"seed {seed}"
            assert {type(f).__name__ for f in game.failures} <= {"SelfDead"}, f"seed {seed}"

    run_virtual(play(), seed)
