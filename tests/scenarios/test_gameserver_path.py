"""The path through whole game servers: attach, walk, gather, leave and come back, on one to three of them."""

import asyncio

import pytest

from runtime.mesh.api import Refused
from tests.support.game import SEED, Game, Player, nearest
from tests.support.virtual import run_virtual
from world.ids import NodeId
from world.limits import AVATAR_LINGER_S, COMMAND_DEADLINE_MS, OVERDUE_LOOK_MS, REGION_IDLE_S, REGION_M
from world.messages import Busy, ClientCommand, CommandResult, Message
from world.terrain import spawn
from world.unit import Unit


def items(game: Game, player: Player) -> dict[str, int]:
    stored = game.document(player.unit)["data"]["entities"][str(player.avatar)]
    return dict(stored.get("items", {}))


async def heard(game: Game, player: Player) -> None:
    await game.until(lambda: player.inventory == {"wood": 1})


@pytest.mark.parametrize("servers", [1, 2, 3])
def test_gather_has_the_same_outcome_wherever_the_real_is(servers: int) -> None:
    async def play() -> None:
        tree, x, y = nearest()
        async with Game(servers) as game:
            first = await game.player(1, at="gs1")  # its server wakes the region
            await game.until(lambda: first.region in game.store.table.documents)
            second = await game.player(2, at=f"gs{servers}")
            assert second.server == f"gs{servers}"
            for player in (first, second):
                await player.walk(x, y)
                result = await player.gather(tree)
                assert (result.ok, result.value) == (True, {"items": {"wood": 1}}), result
                assert items(game, player) == {"wood": 1}, "acknowledged means committed"
                await heard(game, player)
            assert game.owner(first.region) == "gs1"
            server = game.servers[second.server].game
            await game.until(lambda: server.state.find(tree).fields(0) == [3])  # type: ignore[union-attr]
            for _ in range(3):
                assert (await second.gather(tree)).ok
            empty = await first.gather(tree)
            assert (empty.ok, empty.code) == (False, "depleted")
        assert game.failures == []

    run_virtual(play())


def test_a_command_whose_end_is_not_known_in_time_is_answered_and_has_its_effect_once() -> None:
    """What it waits for, here the transfer, has no bound of its own."""

    async def play() -> None:
        async with Game(1) as game:
            player, tree = await game.gatherer(1, at="gs1")
            server, loop = game.servers["gs1"].game, asyncio.get_running_loop()
            drive, server.transfers.drive = server.transfers.drive, lambda owned: None  # type: ignore[method-assign]
            command = ClientCommand(player.avatar, player.session, player.connection, 1, 0, "gather", {"target": tree})

            async def ask() -> Message:
                return await game.gateway.call(NodeId("gs1"), command, deadline_ms=2 * COMMAND_DEADLINE_MS)

            began_s = loop.time()
            answers = await asyncio.gather(ask(), ask())  # the second joins the first
            assert all(isinstance(answer, Busy) for answer in answers), answers
            assert 0 <= loop.time() - began_s - COMMAND_DEADLINE_MS / 1_000 < 2 * OVERDUE_LOOK_MS / 1_000
            await asyncio.sleep(0)
            assert (len(server.commands._running), server.commands._in_flight) == (0, {}), "nothing of it is left"
            owned = server.table.get(player.region)
            assert owned is not None
            server.transfers.drive = drive  # type: ignore[method-assign]
            drive(owned)
            result = await ask()
            assert isinstance(result, CommandResult)
            assert result.value == {"items": {"wood": 1}}
            assert items(game, player) == {"wood": 1}, "once, for all the asking"

    run_virtual(play())


@pytest.mark.parametrize("servers", [1, 2])
def test_refusals_are_the_same_on_real_and_ghost(servers: int) -> None:
    async def play() -> None:
        tree, _, _ = nearest()
        async with Game(servers) as game:
            first = await game.player(1, at="gs1")
            await game.until(lambda: first.region in game.store.table.documents)
            player = await game.player(2, at=f"gs{servers}")
            await game.until(lambda: game.servers[player.server].game.state.find(tree) is not None)
            codes = [
                (await player.gather(tree)).code,
                (await player.gather(first.avatar)).code,
                (await player.gather(12345)).code,
                (await player.call("dance")).code,
                (await player.call("gather")).code,
                (await player.call("say", text="  ")).code,
                (await player.call("gather", number=1, target=tree)).code,  # a repeat
                (await player.call("say", number=1, text="no")).code,
                (await player.call("say", number=3, floor=5, text="no")).code,
            ]
            assert codes == [
                "too_far", "not_gatherable", "no_such_target", "unknown_command", "bad_arguments", "empty_text",
                "too_far", "key_reused", "settled",
            ]  # fmt: skip

    run_virtual(play())


def test_a_repeated_command_has_one_effect_and_one_result() -> None:
    async def play() -> None:
        async with Game(1) as game:
            player, tree = await game.gatherer(1, at="gs1")
            results = [await player.gather(tree, number=7) for _ in range(3)]
            assert [r.value for r in results] == [{"items": {"wood": 1}}] * 3
            assert items(game, player) == {"wood": 1}

    run_virtual(play())


def test_a_number_under_way_is_not_joined_by_another_command() -> None:
    async def play() -> None:
        async with Game(1) as game:
            player, tree = await game.gatherer(1, at="gs1")
            game.store.pause()
            gathering = asyncio.create_task(player.gather(tree, number=7))
            await asyncio.sleep(0.05)
            assert (await player.call("say", number=7, text="no")).code == "key_reused"
            assert (await player.gather(tree + 1, number=7)).code == "key_reused"
            game.store.resume()
            assert (await gathering).value == {"items": {"wood": 1}}

    run_virtual(play())


def test_who_leaves_is_saved_at_once_and_comes_back_where_they_were() -> None:
    async def play() -> None:
        async with Game(2) as game:
            player = await game.player(1, at="gs1")
            x, y = spawn(SEED)
            await player.walk(x + 20, y + 3, stop_m=0.5)
            await game.until(lambda: not player.refused)
            player.detach(leave=True)
            await game.until(lambda: game.owner(player.unit) == "", seconds=2)
            assert game.servers["gs1"].game.state.find(player.avatar) is None
            at = player.x, player.y
            player.session, player.connection = 2, 1
            again = await player.attach("gs2")
            assert again.server == "gs2"
            assert again.epoch == 2
            assert abs(again.x - at[0]) + abs(again.y - at[1]) < 0.1
            assert again.resync == {"name": "Walker1", "inventory": {}}

    run_virtual(play())


def test_who_vanishes_lingers_and_then_goes() -> None:
    async def play() -> None:
        async with Game(1) as game:
            player = await game.player(1, at="gs1")
            state = game.servers["gs1"].game.state
            player.detach()
            await game.until(lambda: state.find(player.avatar) is None, seconds=AVATAR_LINGER_S + 3)
            await game.until(lambda: game.owner(player.unit) == "", seconds=2)

    run_virtual(play())


def test_who_comes_back_in_time_misses_no_event() -> None:
    async def play() -> None:
        async with Game(1) as game:
            player, tree = await game.gatherer(1, at="gs1")
            player.detach()
            player.connection = 2  # events of the gather go to the old connection, which nobody reads
            assert (await player.gather(tree)).code in ("", "replaced")
            await game.until(lambda: items(game, player) == {"wood": 1})
            again = await player.attach("gs1")
            assert again.resync is None
            assert [n for n, _ in again.events] == [1]

    run_virtual(play())


def test_a_newer_session_replaces_the_older_one() -> None:
    async def play() -> None:
        async with Game(1) as game:
            player = await game.player(1, at="gs1")
            other = await game.new_gateway("gw2")
            player.gateway, player.session = other, 2
            again = await player.attach("gs1")
            assert again.epoch == 1
            await game.until(lambda: player.ended == [(1, 1, "replaced")])
            player.gateway, player.session = game.gateway, 1
            with pytest.raises(Refused, match="replaced"):
                await player.attach("gs1")
            player.session = 2
            with pytest.raises(Refused, match="replaced"):
                await player.attach("gs1")  # the same number from another gateway
            player.detach()  # a late close of the old connection: (2, 1) is current, so it is older by gateway only

    run_virtual(play())


def test_a_full_server_passes_on_and_a_full_cluster_refuses() -> None:
    async def play() -> None:
        async with Game(2, avatars_per_server=1) as game:
            one = await game.player(1, at="gs1")
            two = await game.player(2, at="gs1")
            assert (one.server, two.server) == ("gs1", "gs2")
            await game.until(lambda: game.gateway.book.get("gs2").load["avatars"] == 1)  # type: ignore[union-attr, arg-type]
            with pytest.raises(Refused, match="full"):
                await game.player(3, at="gs1")

    run_virtual(play())


def test_an_avatar_nobody_created_is_refused() -> None:
    async def play() -> None:
        async with Game(1) as game:
            player = Player(game, 1 << 48 | 99, "", 1)
            with pytest.raises(Refused, match="no_such_avatar"):
                await player.attach("gs1")
            assert game.documents("avatar") == {}

    run_virtual(play())


def test_regions_sleep_when_nobody_wants_them_and_wake_again() -> None:
    async def play() -> None:
        async with Game(2) as game:
            player = await game.player(1, at="gs1")
            await game.until(lambda: game.owner(player.region) == "gs1")
            player.detach(leave=True)
            await game.until(lambda: game.owner(player.region) == "", seconds=REGION_IDLE_S + 5)
            await game.until(
                lambda: not any(doc["units"] for key, doc in game.documents("owned").items() if ":gs1:" in key),
                seconds=5,
            )
            epoch = game.document(player.region)["epoch"]
            player.session = 2
            await player.attach("gs2")
            await game.until(lambda: game.owner(player.region) == "gs2")
            assert game.document(player.region)["epoch"] == epoch + 1

    run_virtual(play())


def test_a_server_at_its_cap_of_regions_passes_wakes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gameserver.interest.REGIONS_PER_SERVER", 1)

    async def play() -> None:
        x, y = 15 * REGION_M, 15 * REGION_M  # where four regions meet
        async with Game(2) as game:
            player = Player(game, 1 << 48 | 5, "Edge", 1)
            game.players[player.avatar] = player
            newcomer = Unit.new_avatar(player.avatar, player.name, x + 3.0, y + 3.0, SEED)
            newcomer.begin_write()
            game.store.table.put(player.unit, newcomer.document("", 0, "placed"))
            await player.attach("gs1")
            await game.until(lambda: len(game.documents("region")) >= 4, what="all that is seen awake")
            owners = [document["owner"] for document in game.documents("region").values()]
            assert set(owners) == {"gs1", "gs2"}
            tree, at_x, at_y = nearest(to=(x + 1.0, y + 1.0))
            await game.until(lambda: game.servers["gs1"].game.state.find(tree) is not None)
            assert (await player.call("look", target=tree)).ok or abs(at_x - x) + abs(at_y - y) > 50

    run_virtual(play())
