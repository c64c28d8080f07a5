"""Who is declared dead, when, and who ends by itself."""

import asyncio
import random

import msgspec

from gameserver.records import OwnedList
from runtime.store.memory import Faults
from tests.support.game import Cable, Game
from tests.support.virtual import VirtualLoop, run_virtual
from world.limits import DEATH_AFTER_MS, LOOP_PAUSE_MS, STORE_ALONE_MS


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
