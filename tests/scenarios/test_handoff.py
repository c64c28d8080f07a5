"""Living servers hand units to each other: nothing is lost, nothing happens twice, and the client hardly notices."""

import asyncio
import random

import pytest

from gameserver.server import GameServer
from gameserver.units import Owned
from runtime.mesh.api import Refused
from runtime.store.memory import Faults
from tests.support.game import SEED, Game, Player
from tests.support.virtual import run_virtual
from world.ids import NodeId
from world.limits import AVATAR_LINGER_S, HANDOFF_AHEAD_MS, HANDOFF_OFFER_MS, HANDOFFS_AHEAD, OWNED_CLEAN_MS
from world.messages import GiveAway, HandedOver, HandOffAhead, Moved
from world.terrain import spawn


def held(game: Game, node: str, unit: str) -> Owned:
    owned = game.servers[node].game.table.get(unit)
    assert owned is not None, f"{node} does not hold {unit}"
    return owned


def server(game: Game, node: str) -> GameServer:
    return game.servers[node].game


async def hand(game: Game, unit: str, source: str, to: str) -> bool:
    return await server(game, source).handing.give(held(game, source, unit), NodeId(to))


def items(game: Game, player: Player) -> dict[str, int]:
    stored = game.document(player.unit)["data"]["entities"][str(player.avatar)]
    return dict(stored.get("items", {}))


def listed(game: Game, node: str) -> set[str]:
    """All units in that server's ``owned:`` lists, as stored."""
    lists = [d["units"] for key, d in game.documents("owned").items() if key.startswith(f"owned:{node}:")]
    return {unit for units in lists for unit in units}


def sound(game: Game) -> None:
    assert game.fences.broken == []
    assert game.failures == []


def test_a_walking_avatar_is_handed_over_and_walks_on() -> None:
    async def play() -> None:
        async with Game(2) as game:
            player = await game.player(1, at="gs1")
            x, y = spawn(SEED)
            walking = asyncio.create_task(player.walk(x + 30, y, stop_m=0.5))
            await asyncio.sleep(2.1)
            before = server(game, "gs1").state.position(player.avatar)
            assert await hand(game, player.unit, "gs1", "gs2")
            after = server(game, "gs2").state.position(player.avatar)
            assert (after.x, after.y, after.last_input) == (before.x, before.y, before.last_input)
            assert after.version == before.version + 1
            assert server(game, "gs1").table.get(player.unit) is None
            assert server(game, "gs1").presences.get(player.avatar) is None
            await game.until(lambda: player.server == "gs2", seconds=0.2, what="the client is attached anew")
            assert player.attached is not None
            assert player.attached.epoch == 2
            assert player.attached.resync is None
            await walking
            await asyncio.sleep(0.3)
            end = server(game, "gs2").state.position(player.avatar)
            assert abs(end.x - player.x) < 0.01
            assert end.last_input == player.input
            assert game.document(player.unit)["owner"] == "gs2"
            sound(game)

    run_virtual(play())


def test_numbered_events_go_on_in_their_stream() -> None:
    async def play() -> None:
        async with Game(2) as game:
            player, tree = await game.gatherer(1, at="gs1")
            assert (await player.gather(tree)).ok
            await game.until(lambda: len(player.events) == 1)
            player.follows = False  # what is told just before the hand-off reaches nobody
            player.connection = 9
            await hand(game, player.unit, "gs1", "gs2")
            player.connection, player.follows = 1, True
            again = await player.attach("gs1")
            assert (again.server, again.resync) == ("gs2", None)
            assert (await player.gather(tree)).ok
            await game.until(lambda: len(player.events) == 2)
            assert [n for _, n, _ in player.events] == [1, 2]
            assert len({stream for stream, _, _ in player.events}) == 1
            assert items(game, player) == {"wood": 2} == player.inventory
            sound(game)

    run_virtual(play())


@pytest.mark.parametrize("seed", range(6))
def test_commands_under_way_get_one_result_each(seed: int) -> None:
    """Gathering goes on while avatar and region are passed to and fro."""

    async def play() -> None:
        async with Game(3, seed=seed, store_faults=Faults(random.Random(seed), delay_ms=(1.0, 8.0))) as game:
            player, tree = await game.gatherer(1, at="gs1")
            await game.until(lambda: game.owner(player.region) == "gs1")

            async def pass_around(unit: str) -> int:
                given = 0
                for _ in range(12):
                    await asyncio.sleep(game.rng.uniform(0.0, 0.15))
                    source = game.owner(unit)
                    owned = server(game, source).table.get(unit) if source else None
                    to = game.rng.choice([n for n in game.servers if n != source])
                    given += owned is not None and await server(game, source).handing.give(owned, NodeId(to))
                return given

            passing = [asyncio.create_task(pass_around(unit)) for unit in (player.unit, player.region)]
            results = [await player.gather(tree) for _ in range(5)]
            given = [await task for task in passing]
            assert all(n >= 8 for n in given), f"{given} hand-offs"
            await game.until(lambda: player.server == game.owner(player.unit), what="the client has followed")
            await asyncio.sleep(0.5)
            gained = sum(result.ok for result in results)
            assert {result.code for result in results} <= {"", "depleted"}
            assert items(game, player) == {"wood": gained}
            assert len(results) == 5
            repeated = await player.gather(tree, number=1)
            assert repeated == results[0], "its result has moved along"
            region = game.document(player.region)["data"]
            assert region["given"] == {"wood": gained}
            sound(game)

    run_virtual(play(), seed)


def test_a_region_is_handed_over_and_its_watchers_find_it() -> None:
    async def play() -> None:
        async with Game(3) as game:
            player, tree = await game.gatherer(1, at="gs1")
            await game.until(lambda: game.owner(player.region) == "gs1")
            assert await hand(game, player.region, "gs1", "gs2")
            assert (await player.gather(tree)).ok
            assert game.owner(player.region) == "gs2"
            seen = server(game, "gs1").state.find(tree)
            assert seen is not None
            assert seen.publisher == 2
            await asyncio.sleep(40)
            assert game.owner(player.region) == "gs2", "it is wanted there"
            sound(game)

    run_virtual(play())


def test_a_close_during_the_hand_off_goes_after_the_avatar() -> None:
    async def play() -> None:
        async with Game(2) as game:
            player = await game.player(1, at="gs1")
            game.network.faults.delay_ms = (20.0, 20.0)
            giving = asyncio.create_task(hand(game, player.unit, "gs1", "gs2"))
            await asyncio.sleep(0)
            player.follows = False
            player.detach()
            assert await giving
            gone = server(game, "gs2").state
            await game.until(lambda: gone.find(player.avatar) is None, seconds=AVATAR_LINGER_S + 3)
            await game.until(lambda: game.owner(player.unit) == "", seconds=2)
            sound(game)

    run_virtual(play())


def test_a_close_after_the_hand_off_goes_after_the_avatar() -> None:
    async def play() -> None:
        async with Game(2) as game:
            player = await game.player(1, at="gs1")
            player.follows = False
            assert await hand(game, player.unit, "gs1", "gs2")
            player.detach()  # to gs1, which it takes for its owner
            presence = server(game, "gs2").presences.get(player.avatar)
            assert presence is not None
            await game.until(lambda: not presence.attached, seconds=1)

    run_virtual(play())


def test_who_lingers_is_handed_over_and_goes_in_time() -> None:
    async def play() -> None:
        async with Game(2) as game:
            player = await game.player(1, at="gs1")
            player.detach()
            await asyncio.sleep(20)
            assert await hand(game, player.unit, "gs1", "gs2")
            await asyncio.sleep(AVATAR_LINGER_S - 20 - 2)
            assert server(game, "gs2").presences.get(player.avatar) is not None
            await game.until(lambda: game.owner(player.unit) == "", seconds=5)
            sound(game)

    run_virtual(play())


def test_a_full_server_refuses_and_the_owner_goes_on() -> None:
    async def play() -> None:
        async with Game(2, avatars_per_server=1) as game:
            one, two = await game.player(1, at="gs1"), await game.player(2, at="gs2")
            assert not await hand(game, one.unit, "gs1", "gs2")
            assert server(game, "gs2").receiving.refused == 0, "nothing was offered"
            game.forget_announcements("gs2")
            assert not await hand(game, one.unit, "gs1", "gs2")
            assert game.owner(one.unit) == "gs1"
            assert (await one.call("say", text="still here")).ok
            assert server(game, "gs1").handing.reclaimed == 1
            assert server(game, "gs2").presences.get(two.avatar) is not None
            sound(game)

    run_virtual(play())


def test_the_next_owner_lists_a_unit_before_it_is_frozen() -> None:
    """What is announced costs no write while the unit is busy."""

    async def play() -> None:
        async with Game(2) as game:
            player = await game.player(1, at="gs1")
            listed_when_frozen: list[bool] = []
            freeze = server(game, "gs1").handing._freeze

            def frozen(owned: Owned) -> None:
                listed_when_frozen.append(player.unit in listed(game, "gs2"))
                freeze(owned)

            server(game, "gs1").handing._freeze = frozen  # type: ignore[method-assign]
            assert await hand(game, player.unit, "gs1", "gs2")
            assert listed_when_frozen == [True]
            sound(game)

    run_virtual(play())


def test_what_was_announced_and_never_offered_leaves_the_list_again() -> None:
    async def play() -> None:
        async with Game(2) as game:
            one, two = await game.player(1, at="gs1"), await game.player(2, at="gs1")
            mesh = game.servers["gs1"].game.handing._mesh
            await mesh.call(NodeId("gs2"), HandOffAhead(one.unit))
            assert one.unit in listed(game, "gs2")
            await asyncio.sleep((HANDOFF_AHEAD_MS + HANDOFF_OFFER_MS) / 1_000 + 0.1)
            assert await hand(game, two.unit, "gs1", "gs2")
            await asyncio.sleep(OWNED_CLEAN_MS / 1_000 + 0.5)
            assert one.unit not in listed(game, "gs2")
            assert two.unit in listed(game, "gs2")
            for n in range(HANDOFFS_AHEAD):
                await mesh.call(NodeId("gs2"), HandOffAhead(f"avatar:{n}"))
            with pytest.raises(Refused, match="busy"):
                await mesh.call(NodeId("gs2"), HandOffAhead(one.unit))

    run_virtual(play())


def test_nothing_is_handed_off_while_the_store_is_silent() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        async with Game(2, store_faults=Faults(random.Random(1))) as game:
            assert game.store.faults is not None
            player = await game.player(1, at="gs1")
            game.store.faults.unavailable.append((loop.time(), loop.time() + 10))
            await asyncio.sleep(2)
            assert not server(game, "gs1").handing.may_give(held(game, "gs1", player.unit))
            assert not await hand(game, player.unit, "gs1", "gs2")
            assert (await player.call("say", text="the world moves on")).ok
            await asyncio.sleep(12)
            assert await hand(game, player.unit, "gs1", "gs2")
            sound(game)

    run_virtual(play())


def test_an_operator_hands_off_and_is_told_where_it_went() -> None:
    async def play() -> None:
        async with Game(3) as game:
            player = await game.player(1, at="gs1")
            told = await game.gateway.call(NodeId("gs1"), GiveAway(player.unit, "gs3"))
            assert told == HandedOver(player.unit, "gs3", 1, 2)
            elsewhere = await game.gateway.call(NodeId("gs2"), GiveAway(player.unit))
            assert isinstance(elsewhere, Moved)
            assert elsewhere.server == "gs3"
            with pytest.raises(Refused, match="no_destination"):
                await game.gateway.call(NodeId("gs3"), GiveAway(player.unit, "gs9"))
            chosen = await game.gateway.call(NodeId("gs3"), GiveAway(player.unit))
            assert isinstance(chosen, HandedOver)
            assert chosen.server in ("gs1", "gs2")
            sound(game)

    run_virtual(play())


def test_of_two_wishes_at_once_one_is_busy() -> None:
    async def play() -> None:
        async with Game(3) as game:
            player = await game.player(1, at="gs1")
            owned = held(game, "gs1", player.unit)
            handing = server(game, "gs1").handing
            given = await asyncio.gather(*(handing.give(owned, NodeId(to)) for to in ("gs2", "gs3")))
            assert sorted(given) == [False, True]
            assert handing.given == 1
            sound(game)

    run_virtual(play())
