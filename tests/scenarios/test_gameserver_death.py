"""Who is declared dead, when, and who ends by itself."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from gameserver.app import begin
from gameserver.documents import Documents
from gameserver.records import OwnedList
from gameserver.server import GameServer
from runtime.mesh.api import Refused, Sender
from runtime.mesh.node import MeshNode
from runtime.service import Service
from runtime.store.client import StoreClient
from runtime.store.memory import Faults, MemoryStore
from runtime.store.server import StoreServer
from tests.support.game import Cable, Game
from tests.support.virtual import VirtualLoop, run_virtual
from world.ids import NodeId
from world.limits import DEATH_AFTER_MS, LOOP_LATE_MS, LOOP_PAUSE_MS, STORE_ALONE_MS, SUSPECT_AFTER_MS
from world.messages import Noted, Ok, Reaped


def state(game: Game, node: str) -> str:
    return str(game.document(f"srv:{node}")["state"])


def ended_by(game: Game) -> list[str]:
    return [type(failure).__name__ for failure in game.failures]


def test_silence_counts_only_while_the_observer_itself_reaches_the_store() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        async with Game(2, store_faults=Faults(random.Random(1))) as game:
            assert game.store.faults is not None
            await asyncio.sleep(3)
            await game.kill("gs1")
            away_s = DEATH_AFTER_MS / 1_000 + 2
            game.store.faults.unavailable.append((loop.time(), loop.time() + away_s))
            await asyncio.sleep(away_s + DEATH_AFTER_MS / 1_000 - 1)
            assert state(game, "gs1") == "alive", "its silence began anew when the store came back"
            await game.until(lambda: state(game, "gs1") == "dead", seconds=5)

    run_virtual(play())


def test_a_server_that_only_renews_slowly_is_not_dead_while_its_heartbeats_come() -> None:
    async def play() -> None:
        async with Game(1) as game:
            cable = Cable(game.store)
            await game.start("gs2", cable)
            await asyncio.sleep(2)
            cable.cut = True
            await asyncio.sleep(DEATH_AFTER_MS / 1_000 + 0.5)
            assert state(game, "gs2") == "alive"

    run_virtual(play())


def test_who_alone_has_lost_the_store_ends() -> None:
    async def play() -> None:
        async with Game(1) as game:
            cable = Cable(game.store)
            await game.start("gs2", cable)
            player = await game.player(1, at="gs2")
            await asyncio.sleep(2)
            cable.cut = True
            await game.until(lambda: ended_by(game) == ["StoreLost"], seconds=STORE_ALONE_MS / 1_000 + 5)
            await player.attach("gs1")
            assert game.owner(player.unit) == "gs1"

    run_virtual(play())


def test_a_newer_process_of_the_same_name_ends_the_older_one() -> None:
    async def play() -> None:
        async with Game(2) as game:
            player = await game.player(1, at="gs1")
            older = game.servers["gs1"]
            game.network.isolate("gs1")  # the old process cannot be told
            newer = await game.start("gs1")
            assert newer.generation == 2
            await game.until(lambda: older.task.done(), seconds=3)
            assert ended_by(game) == ["SelfDead"]
            book = game.servers["gs2"].game.mesh.book
            await game.until(lambda: book.is_dead(newer.service.node_id, 1))
            game.network.heal()
            again = await player.attach("gs2")
            assert again.epoch == 2, "the older generation's unit was free to take"

    run_virtual(play())


def test_whose_list_was_closed_takes_nothing_more_and_ends() -> None:
    async def play() -> None:
        async with Game(1) as game:
            for shard in range(8):
                closed = OwnedList([], closed_by="gs2:1", write_id="theirs")
                game.store.table.put(f"owned:gs1:1:{shard}", msgspec.json.encode(closed))
            task = asyncio.get_running_loop().create_task(game.player(1, at="gs1"))
            await game.until(lambda: ended_by(game) == ["SelfDead"], seconds=3)
            assert game.documents("avatar") == {}
            task.cancel()

    run_virtual(play())


def test_who_waited_for_the_store_itself_declares_nobody_dead() -> None:
    """The store is away less long than a round tries: the round succeeds in the end, and yet nobody could renew."""

    async def play() -> None:
        async with Game(0) as game:
            cables = {name: Cable(game.store) for name in ("gs1", "gs2")}
            for name, cable in cables.items():
                await game.start(name, cable)
            await asyncio.sleep(2)
            game.network.partition("gs1", "gs2")  # gs2 suspects gs1, which lives
            watch = game.servers["gs2"].game.watch
            renewals = watch.renewals
            await game.until(lambda: watch.renewals > renewals)
            await asyncio.sleep(0.1)  # it has looked at everybody
            for cable in cables.values():
                cable.cut = True
            await asyncio.sleep(DEATH_AFTER_MS / 1_000 - 0.2)
            cables["gs2"].cut = False
            await game.until(lambda: watch.renewals > renewals + 1, seconds=2)
            await asyncio.sleep(0.3)
            cables["gs1"].cut = False  # whose next try comes a little later
            await asyncio.sleep(2)
            assert (state(game, "gs1"), state(game, "gs2")) == ("alive", "alive")
            assert game.failures == []

    run_virtual(play())


def test_after_a_pause_nothing_is_sent_before_the_own_record_was_read() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        async with Game(1) as game:
            player = await game.player(1, at="gs1")
            await asyncio.sleep(1)
            server = game.servers["gs1"]
            found = game.store.table.documents["srv:gs1"]
            game.store.table.put("srv:gs1", found.value.replace(b'"alive"', b'"dead"'))
            writes = server.game.table.writes
            loop.pause(LOOP_PAUSE_MS / 1_000 + 1)
            told = len(player.events)
            server.game.presences.tell(player.avatar, {"kind": "whisper"})
            await game.until(lambda: ended_by(game) == ["SelfDead"], seconds=1)
            assert len(player.events) == told
            assert server.game.table.writes == writes

    run_virtual(play())


def test_a_second_pause_during_the_re_reading_means_reading_again() -> None:
    """The first answer was under way while others declared the sleeper dead."""

    async def play() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        async with Game(0) as game:
            cable = Cable(game.store)
            await game.start("gs1", cable)
            player = await game.player(1, at="gs1")
            await asyncio.sleep(1)
            server = game.servers["gs1"]
            cable.faults = Faults(random.Random(1), delay_ms=(100.0, 100.0))
            loop.pause(LOOP_PAUSE_MS / 1_000 + 1)
            await asyncio.sleep(0.12)
            assert not server.game.watch.may_speak(), "the record has been read, the answer is on its way"
            found = game.store.table.documents["srv:gs1"]
            game.store.table.put("srv:gs1", found.value.replace(b'"alive"', b'"dead"'))
            told = len(player.events)
            loop.pause(DEATH_AFTER_MS / 1_000)
            for _ in range(10):
                server.game.presences.tell(player.avatar, {"kind": "whisper"})
                await asyncio.sleep(0.02)
            await game.until(lambda: ended_by(game) == ["SelfDead"], seconds=1)
            assert len(player.events) == told

    run_virtual(play())


def test_after_a_pause_a_living_server_goes_on() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        async with Game(2) as game:
            player = await game.player(1, at="gs1")
            await asyncio.sleep(1)
            loop.pause(LOOP_PAUSE_MS / 1_000 + 1)
            assert (await player.call("say", text="good morning")).ok
            assert all(server.game.watch.may_speak() for server in game.servers.values())
            assert game.failures == []

    run_virtual(play())


# -- proof by the parent -------------------------------------------------------------------------------------------
def heard_notes(game: Game) -> list[tuple[str, str, int, str]]:
    """(by, node, generation, proof) of the deaths that the gateway is told from now on."""
    heard: list[tuple[str, str, int, str]] = []

    def note(sender: Sender, noted: Noted) -> None:
        heard.append((sender.node, *(noted.detail[k] for k in ("node", "generation", "proof"))))

    game.gateway.serve(Noted, note)
    return heard


def test_a_reaped_process_is_dead_at_once_and_its_players_play_on() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        async with Game(2) as game:
            notes = heard_notes(game)
            player = await game.player(1, at="gs1")
            await asyncio.sleep(1)
            began = loop.time()
            await game.kill("gs1")
            for _ in range(2):  # the second is a repeat
                assert await game.gateway.call(NodeId("gs2"), Reaped("gs1", 1)) == Ok()
                assert state(game, "gs1") == "dead", "Ok means that the verdict is in the store"
            again = await player.attach("gs2")
            assert (again.server, again.epoch) == ("gs2", 2)
            assert loop.time() - began < 0.5
            assert game.gateway.book.is_dead(NodeId("gs1"), 1)
            await asyncio.sleep(0.1)
            assert notes == [("gs2", "gs1", 1, "reaped")]

    run_virtual(play())


def test_a_late_word_of_a_reaped_process_does_not_touch_its_successor() -> None:
    async def play() -> None:
        async with Game(2) as game:
            notes = heard_notes(game)
            await game.kill("gs1")
            assert (await game.start("gs1")).generation == 2
            assert await game.gateway.call(NodeId("gs2"), Reaped("gs1", 1)) == Ok()
            with pytest.raises(Refused, match="no_such_target"):
                await game.gateway.call(NodeId("gs1"), Reaped("gs1", 2))
            await asyncio.sleep(DEATH_AFTER_MS / 1_000 + 1)
            assert (state(game, "gs1"), game.failures) == ("alive", [])
            assert notes == [("gs1", "gs1", 1, "newer")]

    run_virtual(play())


def test_another_roles_process_is_dead_by_the_word_and_nothing_is_said_without_the_store() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        async with Game(2, store_faults=Faults(random.Random(1))) as game:
            assert game.store.faults is not None
            other = await game.new_gateway("gw2")
            game.network.crash("gw2")
            assert await game.gateway.call(NodeId("gs1"), Reaped("gw2", other.me.generation)) == Ok()
            assert game.gateway.book.is_dead(NodeId("gw2"), other.me.generation)
            await game.kill("gs1")
            game.store.faults.unavailable.append((loop.time(), loop.time() + 4))
            with pytest.raises(Refused, match="store_unavailable"):
                await game.gateway.call(NodeId("gs2"), Reaped("gs1", 1), deadline_ms=5_000)
            assert not game.gateway.book.is_dead(NodeId("gs1"), 1)
            await asyncio.sleep(3)
            assert await game.gateway.call(NodeId("gs2"), Reaped("gs1", 1)) == Ok()

    run_virtual(play())


# -- who is not to be believed ---------------------------------------------------------------------------------------
@asynccontextmanager
async def apart() -> AsyncIterator[Game]:
    """Three servers, none of which hears another; all reach the store, so nobody may die. The way there is short for
    gs1 and long for the others: after a pause of all, gs1 looks before they have renewed."""
    async with Game(0) as game:
        for n, ms in enumerate((1.0, 300.0, 300.0), 1):
            cable = Cable(game.store)
            cable.faults = Faults(random.Random(n), delay_ms=(ms, ms))
            await game.start(f"gs{n}", cable)
        await asyncio.sleep(1)
        for one in game.servers:
            for other in game.servers:
                if one != other:
                    game.network.partition(one, other)
        await asyncio.sleep(3)
        yield game


@pytest.mark.parametrize("seed", range(3))
def test_servers_that_all_stood_still_declare_nobody_dead(seed: int) -> None:
    """A machine that was suspended: who wakes first has seen no renewal for long."""

    async def play() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        async with apart() as game:
            for _ in range(3):
                loop.pause(DEATH_AFTER_MS / 1_000 + 2)
                await asyncio.sleep(1.3)
            assert [state(game, node) for node in game.servers] == ["alive"] * 3
            assert game.failures == []

    run_virtual(play(), seed)


@pytest.mark.parametrize("seed", range(3))
def test_servers_whose_loops_lag_declare_nobody_dead(seed: int) -> None:
    """No single pause is long enough to be one; together they are longer than a death takes."""

    async def play() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        async with apart() as game:
            for _ in range(3):
                for _ in range(DEATH_AFTER_MS // LOOP_PAUSE_MS + 2):
                    loop.pause((LOOP_PAUSE_MS - 50) / 1_000)
                    await asyncio.sleep(0.001)
                await asyncio.sleep(1.3)
            assert [state(game, node) for node in game.servers] == ["alive"] * 3
            assert game.failures == []

    run_virtual(play(), seed)


def test_an_own_lag_is_not_counted_as_missed_heartbeats() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        async with Game(2) as game:
            await asyncio.sleep(1)
            game.network.partition("gs2", "gs1")
            await asyncio.sleep((SUSPECT_AFTER_MS - LOOP_LATE_MS) / 1_000 - 0.2)
            loop.pause((LOOP_LATE_MS + 300) / 1_000)
            game.network.heal()
            await asyncio.sleep(0)
            book = game.servers["gs1"].game.mesh.book
            game.servers["gs1"].game.mesh.send(NodeId("gs2"), Ok())  # whatever is said or heard first notices the lag
            assert not book.suspected(NodeId("gs2"))

    run_virtual(play())


# -- before its generation is claimed --------------------------------------------------------------------------------


async def store_process(game: Game) -> MeshNode:
    """The game's store behind the mesh, as game servers have it."""
    mesh = await game.network.mesh("store", "st1")
    StoreServer(mesh, game.store, lambda: mesh.me.generation)
    mesh.update_me(status="ready")
    return mesh


async def beginning(game: Game, service: Service, mesh: MeshNode) -> GameServer:
    begun: list[GameServer] = []

    async def start(service: Service) -> None:
        begun.append(await begin(service, mesh, StoreClient(mesh)))
        service.stop("it has begun")

    await service.serve(start)
    return begun[0]


def test_a_verdict_on_a_former_life_does_not_keep_a_starting_server_from_the_store() -> None:
    """The book of a fresh cluster tells a joiner nothing of its former lives: somebody reads of one in the store before
    the joiner does."""

    async def play() -> None:
        async with Game(1, store_faults=Faults(random.Random(1))) as game:
            loop, faults = asyncio.get_running_loop(), game.store.faults
            assert faults is not None
            process = await store_process(game)
            service = Service.for_test("gameserver", "gs2", world_seed=1)
            mesh = await game.network.mesh("gameserver", "gs2", service=service)
            faults.unavailable.append((loop.time(), loop.time() + 2))
            starting = asyncio.create_task(beginning(game, service, mesh))
            await game.until(lambda: process.book.highest_generation(NodeId("gs2")) == 1, seconds=1)
            process.book.declare_dead(NodeId("gs2"), 1)
            async with asyncio.timeout(10):
                begun = await starting
            assert begun.watch.generation == mesh.me.generation == 2

    run_virtual(play())


def test_a_server_claims_again_where_the_mesh_rose_above_its_claim() -> None:
    async def play() -> None:
        async with Game(1) as game:
            process = await store_process(game)
            service = Service.for_test("gameserver", "gs2", world_seed=1)
            mesh = await game.network.mesh("gameserver", "gs2", service=service)
            write = game.store.table.put
            told: list[str] = []

            def put(key: str, value: bytes) -> int:
                if key == "srv:gs2" and not told:
                    told.append(key)
                    mesh.book.verdict(NodeId("gs2"), 6)
                return write(key, value)

            game.store.table.put = put  # type: ignore[method-assign]
            begun = await beginning(game, service, mesh)
            assert told
            assert begun.watch.generation == mesh.me.generation == 7
            assert process.book.highest_generation(NodeId("gs2")) == 7

    run_virtual(play())


def test_write_ids_before_the_claim_are_of_this_life_only() -> None:
    """Else a claim whose answer was lost could take the record of a life that ended right after its own claim for its
    own."""
    first, second = (Documents(Service.for_test(), MemoryStore(), life=life) for life in (11, 12))
    assert first.new_write_id() != second.new_write_id()
