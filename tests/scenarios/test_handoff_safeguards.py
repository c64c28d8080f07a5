"""What keeps a hand-off right at its edges, each shown by what goes wrong without it."""

import asyncio
from collections.abc import Callable

import pytest

from gameserver.receiving import Offer
from gameserver.units import Owned
from runtime.mesh.api import Refused, Sender
from runtime.store.api import Document
from tests.support.game import Game, Player
from tests.support.transcript import Transcript
from tests.support.virtual import run_virtual
from world.handoff import Event
from world.ids import NodeId, natural_id
from world.limits import HANDOFF_AHEAD_MS, HANDOFF_OFFER_MS, WAKE_WAIT_MS
from world.messages import (
    Busy,
    CommandResult,
    HandedOver,
    HandOff,
    Interest,
    Invoke,
    Key,
    Message,
    Moved,
)


def held(game: Game, node: str, unit: str) -> Owned:
    owned = game.servers[node].game.table.get(unit)
    assert owned is not None
    return owned


def begin(game: Game, unit: str, source: str = "gs1", to: str = "gs2") -> "asyncio.Task[bool]":
    giving = game.servers[source].game.handing.give(held(game, source, unit), NodeId(to))
    return asyncio.get_running_loop().create_task(giving)


def once_frozen(game: Game, node: str, act: Callable[[], None]) -> None:
    """``act()`` at its next hand-off, behind the announcement and before the offer."""
    handing = game.servers[node].game.handing
    freeze = handing._freeze

    def frozen(owned: Owned) -> None:
        handing._freeze = freeze  # type: ignore[method-assign]
        freeze(owned)
        act()

    handing._freeze = frozen  # type: ignore[method-assign]


def slow(game: Game, node: str, seconds: float) -> None:
    """Its commits of offers take so long before they begin."""
    receiving = game.servers[node].game.receiving
    commit = receiving._commit

    async def later(offer: Offer) -> Event:
        await asyncio.sleep(seconds)
        return await commit(offer)

    receiving._commit = later  # type: ignore[method-assign]


def offers(game: Game, node: str) -> list[HandOff]:
    """All that are made to this server from now on."""
    mesh, receiving = game.servers[node].game.mesh, game.servers[node].game.receiving
    made: list[HandOff] = []

    async def serve(sender: Sender, message: HandOff) -> Message:
        made.append(message)
        return await receiving.serve(sender, message)

    mesh.serve(HandOff, serve)
    return made


def test_an_offered_unit_is_not_written() -> None:
    """A receipt for a transfer comes while the other one commits: written, it would void the offer."""

    async def play() -> None:
        async with Game(2) as game:
            player = await game.player(1, at="gs1")
            slow(game, "gs2", 0.3)
            giving = begin(game, player.unit)
            await asyncio.sleep(0.1)
            owned, version = held(game, "gs1", player.unit), game.document(player.unit)["version"]
            owned.unit.save()
            game.servers["gs1"].game.table.touch(owned)
            await asyncio.sleep(0.1)
            assert game.document(player.unit)["version"] == version
            assert await giving
            assert game.owner(player.unit) == "gs2"

    run_virtual(play())


def test_the_same_offer_again_is_answered_again_and_another_is_refused() -> None:
    async def play() -> None:
        async with Game(2) as game:
            player = await game.player(1, at="gs1")
            made = offers(game, "gs2")
            assert await begin(game, player.unit)
            mesh = game.servers["gs1"].game.mesh
            assert await mesh.call(NodeId("gs2"), made[0]) == HandedOver(player.unit, "gs2", 1, 2)
            assert await begin(game, player.unit, "gs2", "gs1")
            with pytest.raises(Exception, match="overtaken"):
                await mesh.call(NodeId("gs2"), made[0])
            assert game.owner(player.unit) == "gs1"
            assert game.document(player.unit)["epoch"] == 3

    run_virtual(play())


def test_events_that_never_arrived_come_from_the_new_owner() -> None:
    async def play() -> None:
        async with Game(2) as game:
            player = await game.player(1, at="gs1")
            game.network.partition("gs1", "gw1")
            for n in range(3):
                game.servers["gs1"].game.presences.tell(player.avatar, {"kind": "inventory", "items": {"wood": n}})
            await asyncio.sleep(0.1)
            assert player.events == []
            assert await begin(game, player.unit)
            await game.until(lambda: player.server == "gs2", seconds=1)
            assert [n for _, n, _ in player.events] == [1, 2, 3]
            assert player.attached is not None
            assert player.attached.resync is None

    run_virtual(play())


def test_a_command_that_ends_in_the_middle_is_run_again_by_the_next_owner() -> None:
    """Its result, told by the old owner, would not have moved along: a repeat could end otherwise."""

    async def play() -> None:
        async with Game(3) as game:
            keeper = await game.player(1, at="gs3")  # owns the region
            await game.until(lambda: game.owner(keeper.region) == "gs3")
            player = await game.player(2, at="gs1")
            transcript = Transcript(game, player.unit)
            x, y = (int(part) for part in player.region.removeprefix("region:").split(","))
            nothing = natural_id(2, x, y, 999_999)
            looking = asyncio.create_task(player.gather(nothing))  # waits WAKE_WAIT_MS for what is not there
            await asyncio.sleep(WAKE_WAIT_MS / 1_000 - 0.3)
            slow(game, "gs2", 0.5)
            giving = begin(game, player.unit)
            assert HANDOFF_OFFER_MS > 500
            result = await looking
            assert await giving
            assert (result.ok, result.code) == (False, "no_such_target")
            answers = [line for line in transcript.lines if "CommandResult" in line]
            assert answers == ["gs2  -> gw1  CommandResult no_such_target"]
            repeated = await player.gather(nothing, number=1)
            assert repeated == CommandResult(1, False, result.code, result.detail)

    run_virtual(play())


def test_who_knows_more_hears_busy_until_it_is_decided() -> None:
    async def play() -> None:
        async with Game(3) as game:
            player = await game.player(1, at="gs1")
            once_frozen(game, "gs1", lambda: game.network.partition("gs2", "gs1"))  # the answer is lost
            giving = begin(game, player.unit)
            await game.until(lambda: game.owner(player.unit) == "gs2", seconds=1)
            assert not giving.done()
            ask = Invoke(player.avatar, 2, "none", {}, Key("region:1,1", 1, 1))
            answer = await game.servers["gs3"].game.mesh.call(NodeId("gs1"), ask)
            assert answer == Busy(player.unit)
            assert held(game, "gs1", player.unit).offered
            game.network.heal()
            assert await giving
            answer = await game.servers["gs3"].game.mesh.call(NodeId("gs1"), ask)
            assert isinstance(answer, Moved)
            assert answer.server == "gs2"

    run_virtual(play())


def test_a_document_that_nobody_can_read_costs_only_its_own_unit() -> None:
    async def play() -> None:
        async with Game(2) as game:
            player, other = await game.player(1, at="gs1"), await game.player(2, at="gs1")
            once_frozen(game, "gs1", lambda: game.network.partition("gs1", "gs2"))
            giving = begin(game, player.unit)
            await asyncio.sleep(0.1)
            game.store.table.documents[player.unit] = Document(b'{"owner": 5}', 99)
            assert not await giving
            game.network.heal()
            assert game.servers["gs1"].game.table.get(player.unit) is None
            assert await begin(game, other.unit)
            assert game.failures == []

    run_virtual(play())


@pytest.mark.parametrize("silent", ["gs2", "the store"])
def test_nothing_is_frozen_for_a_destination_that_does_not_answer_ahead(silent: str) -> None:
    """Nor for one whose store does not: what was offered would stand still until it does."""

    async def play() -> None:
        async with Game(2) as game:
            player = await game.player(1, at="gs1")
            froze: list[bool] = []
            once_frozen(game, "gs1", lambda: froze.append(True))
            if silent == "gs2":
                game.network.partition("gs1", "gs2")
            else:
                game.store.pause()
            assert not await begin(game, player.unit)
            assert held(game, "gs1", player.unit).serving
            assert froze == []
            game.network.heal()
            game.store.resume()
            await asyncio.sleep(HANDOFF_AHEAD_MS / 1_000)
            assert await begin(game, player.unit)
            assert froze == [True]

    run_virtual(play())


def test_an_offer_that_never_left_is_not_taken_later() -> None:
    """Its source serves on without a write of its own: a copy that then reached the other one would make a second
    owner, with all that the first has done meanwhile undone."""

    async def play() -> None:
        async with Game(2) as game:
            player = await game.player(1, at="gs1")
            made = offers(game, "gs2")
            once_frozen(game, "gs1", lambda: game.network.disconnect("gs1", "gs2"))
            assert not await begin(game, player.unit)
            assert game.servers["gs1"].game.handing.aborted == 1
            game.network.heal()
            await asyncio.sleep(1)
            assert made == []
            assert game.owner(player.unit) == "gs1"
            assert game.servers["gs2"].game.table.get(player.unit) is None
            assert await begin(game, player.unit)
            assert game.failures == []

    run_virtual(play())


@pytest.mark.parametrize("taken", [True, False])
def test_no_event_is_numbered_twice(taken: bool) -> None:
    """News of a trade, say, come when the numbers have gone along with the offer. The next owner has the state of the
    trade and tells it; where the offer is not taken, its source does."""

    async def play() -> None:
        async with Game(2) as game:
            player = await game.player(1, at="gs1")
            if taken:
                slow(game, "gs2", 0.3)
            else:
                refuse_after(game, "gs2", 0.3)
            giving = begin(game, player.unit)
            await asyncio.sleep(0.15)
            assert held(game, "gs1", player.unit).offered
            game.servers["gs1"].game.presences.tell(player.avatar, {"kind": "news"})
            assert await giving is taken
            owner = "gs2" if taken else "gs1"
            await game.until(lambda: player.server == owner and not game.following(player))
            game.servers[owner].game.presences.tell(player.avatar, {"kind": "later"})
            await game.until(lambda: any(e["kind"] == "later" for _, _, e in player.events))
            numbers = [(stream, n) for stream, n, _ in player.events]
            assert numbers == sorted(set(numbers))
            assert any(e["kind"] == "news" for _, _, e in player.events) is not taken

    run_virtual(play())


def refuse_after(game: Game, node: str, seconds: float) -> None:
    """It takes no offer, and says so late."""

    async def serve(_: Sender, message: HandOff) -> Message:
        await asyncio.sleep(seconds)
        raise Refused("full")

    game.servers[node].game.mesh.serve(HandOff, serve)


def test_who_finds_its_own_list_closed_ends() -> None:
    """It was declared dead, and somebody sweeps what it owned."""

    async def play() -> None:
        async with Game(2) as game:
            player = await game.player(1, at="gs1")
            lists = game.servers["gs2"].game.lists
            await lists.hold("region:1,1")
            for key in [k for k in game.store.table.documents if k.startswith("owned:gs2:")]:
                game.store.table.put(key, b'{"units": [], "closed_by": "gs1:1", "write_id": "another"}')
            for shard in lists._shards:
                shard._cas = 1
            assert not await begin(game, player.unit)
            assert [type(failure).__name__ for failure in game.failures] == ["SelfDead"]
            assert game.owner(player.unit) == "gs1"

    run_virtual(play())


def test_a_draining_server_wakes_nothing_for_others() -> None:
    async def play() -> None:
        async with Game(2) as game:
            player = await game.player(1, at="gs1")
            slow(game, "gs2", 0.2)
            game.servers["gs1"].service.drain("test")
            answer = await game.servers["gs2"].game.mesh.call(NodeId("gs1"), Interest("region:1,1", 0))
            assert isinstance(answer, Moved)
            assert "region:1,1" not in game.documents("region")
            await game.until(lambda: game.owner(player.unit) == "gs2")

    run_virtual(play())


def test_a_stop_waits_for_hand_offs_under_way_on_either_side() -> None:
    async def play() -> None:
        for stopping in ("gs1", "gs2"):
            async with Game(2) as game:
                player: Player = await game.player(1, at="gs1")
                slow(game, "gs2", 0.3)
                giving = begin(game, player.unit)
                await asyncio.sleep(0.1)
                await game.stop(stopping)
                assert game.owner(player.unit) == ("gs2" if stopping == "gs1" else "")
                async with asyncio.timeout(0.1):
                    assert await giving
                assert game.document(f"srv:{stopping}")["state"] == "dead"
                assert game.failures == []

    run_virtual(play())
