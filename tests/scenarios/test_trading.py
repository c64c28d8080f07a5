"""Two players trade, on one server and on two, whatever happens meanwhile."""

import asyncio
import random

import pytest

from runtime.store.memory import Faults
from tests.support.game import Game, Player
from tests.support.traders import Pair, give, meet, stored
from tests.support.virtual import run_virtual
from world.ids import NodeId
from world.limits import AVATAR_HOLDS_ITEMS, TRADE_IDLE_S, TRADE_INVITE_S, TRADE_REACH_M, TRADE_SILENT_MS, TRADE_STAY_M
from world.messages import CommandResult


async def hand(game: Game, unit: str, source: str, to: str) -> bool:
    owned = game.servers[source].game.table.get(unit)
    assert owned is not None
    return await game.servers[source].game.handing.give(owned, NodeId(to))


@pytest.mark.parametrize("servers", [1, 2])
def test_a_trade(servers: int) -> None:
    async def play() -> None:
        async with Game(servers) as game:
            pair = await meet(game, "gs1", f"gs{servers}")
            await pair.open()
            await pair.offer({"wood": 2}, {"stone": 1})
            assert await pair.confirm() == [{"committed": False}, {"committed": True}]
            await pair.until_state("committed")
            await game.until(lambda: not game.documents("tx"), 5, "the intent is gone")
            assert stored(game, pair.a) == {"wood": 1, "stone": 1}
            assert stored(game, pair.b) == {"stone": 2, "wood": 2}
            assert pair.a.inventory == stored(game, pair.a)
            assert pair.b.inventory == stored(game, pair.b)
            states = [e["state"] for _, _, e in pair.b.events if e["kind"] == "trade"]
            assert [states[0], states[-2:]] == ["invited", ["committing", "committed"]]
            assert (await pair.confirms(pair.b, number=pair.b.number)).value == {"committed": True}, "a repeat"
            pair.sound()

    run_virtual(play())


def test_who_confirms_has_seen_what_it_is_for() -> None:
    async def play() -> None:
        async with Game(2) as game:
            pair = await meet(game, "gs1", "gs2")
            await pair.open()
            await pair.offer({"wood": 1}, {"stone": 1})
            assert await pair.confirm(pair.a) == [{"committed": False}]
            seen = pair.state(pair.b)["version"]
            await pair.a.call("trade_offer", trade=pair.trade, items={})
            late = await pair.b.call("trade_confirm", trade=pair.trade, version=seen)
            assert (late.ok, late.code) == (False, "trade_changed")
            await pair.until(lambda p: pair.state(p)["version"] == seen + 1, "both see the new offer")
            assert not pair.state(pair.b)["they_confirmed"]
            assert await pair.confirm() == [{"committed": False}, {"committed": True}]
            assert stored(game, pair.a) == {"wood": 3, "stone": 1}
            pair.sound()

    run_virtual(play())


def test_both_confirm_at_once() -> None:
    async def play() -> None:
        async with Game(2) as game:
            pair = await meet(game, "gs1", "gs2")
            await pair.open()
            await pair.offer({"wood": 3}, {"stone": 3})
            said = await asyncio.gather(pair.confirms(pair.a), pair.confirms(pair.b))
            assert sorted(r.value["committed"] for r in said) == [False, True]
            await game.until(lambda: stored(game, pair.a).get("stone") == 3, 5, "it is done")
            pair.sound()

    run_virtual(play())


@pytest.mark.parametrize("servers", [1, 2])
@pytest.mark.parametrize("ahead_ms", [-1_000.0, -0.1, 0.0, 0.1, 1_000.0])
def test_two_who_invite_each_other_are_in_one_trade(servers: int, ahead_ms: float) -> None:
    """A is ahead of B by so long; less than a message takes between two servers: their invitations cross."""

    async def play() -> None:
        async with Game(servers) as game:
            pair = await meet(game, "gs1", f"gs{servers}")

            async def invite(one: Player, other: Player, after_ms: float) -> CommandResult:
                await asyncio.sleep(max(after_ms, 0) / 1_000)
                return await one.call("trade_invite", target=other.avatar)

            said = await asyncio.gather(invite(pair.a, pair.b, -ahead_ms), invite(pair.b, pair.a, ahead_ms))
            assert [r.code for r in said] == ["", ""]
            assert said[0].value == said[1].value
            pair.trade = said[0].value["trade"]
            if servers == 2 and ahead_ms > -1:
                assert pair.trade.startswith(f"{pair.a.avatar}."), "the lower one's stands"
            await pair.until_state("open")
            assert {pair.state(p)["trade"] for p in (pair.a, pair.b)} == {pair.trade}
            again = await pair.b.call("trade_invite", number=pair.b.number, target=pair.a.avatar)
            assert again.value == {"trade": pair.trade}, "a repeat"
            await pair.offer({"wood": 1}, {"stone": 1})
            assert await pair.confirm() == [{"committed": False}, {"committed": True}]
            await pair.until_state("committed")
            pair.sound()

    run_virtual(play())


def test_who_is_refused_because_invitations_have_met_need_not_have_heard_of_the_other() -> None:
    """A's owner has to look for B first, so its refusal arrives before its own invitation."""

    async def play() -> None:
        async with Game(2, store_faults=Faults(random.Random(1), delay_ms=(20.0, 20.0))) as game:
            pair = await meet(game, "gs1", "gs2")
            game.servers["gs1"].game.ownership.locations.forget(pair.b.unit)
            said = await asyncio.gather(
                pair.a.call("trade_invite", target=pair.b.avatar), pair.b.call("trade_invite", target=pair.a.avatar)
            )
            assert [r.code for r in said] == ["", ""]
            assert said[0].value == said[1].value
            await pair.until_state("open")

    run_virtual(play())


def test_an_invitation_that_the_invited_ones_server_has_lost_becomes_the_acceptance_of_its_own() -> None:
    async def play() -> None:
        async with Game(2) as game:
            pair = await meet(game, "gs1", "gs2")
            lost = await pair.b.call("trade_invite", target=pair.a.avatar)
            assert lost.ok
            game.servers["gs1"].game.talks._seats.clear()
            assert (await pair.invite()).ok
            await pair.until_state("open")
            told = [(e["trade"], e["state"]) for _, _, e in pair.b.events if e["kind"] == "trade"]
            old = lost.value["trade"]
            assert told == [(old, "inviting"), (old, "closed"), (pair.trade, "open")]

    run_virtual(play())


def test_a_repeated_invitation_that_accepted_is_answered_the_same_though_nobody_remembers_its_result() -> None:
    async def play() -> None:
        async with Game(2) as game:
            pair = await meet(game, "gs1", "gs2")
            said = await asyncio.gather(
                pair.a.call("trade_invite", target=pair.b.avatar), pair.b.call("trade_invite", target=pair.a.avatar)
            )
            owned = game.servers["gs2"].game.table.get(pair.b.unit)
            assert owned is not None
            owned.unit.results.rows.clear()
            again = await pair.b.call("trade_invite", number=pair.b.number, target=pair.a.avatar)
            assert again.value == said[1].value
            assert pair.state(pair.b)["state"] == "open"

    run_virtual(play())


def test_refusals() -> None:
    async def play() -> None:
        async with Game(2) as game:
            pair = await meet(game, "gs1", "gs2")
            third = await game.player(3, at="gs1")
            await game.until(lambda: game.servers["gs2"].game.state.find(third.avatar) is not None, 5, "C is seen")

            async def code(player: object, op: str, **args: object) -> str:
                return (await player.call(op, **args)).code  # type: ignore[attr-defined,no-any-return]

            assert await code(pair.a, "trade_invite", target=pair.a.avatar) == "no_such_target"
            assert await code(pair.a, "trade_accept", trade="nonsense") == "trade_closed"
            assert await code(pair.a, "trade_accept", trade=f"{pair.a.avatar}.1.99") == "trade_closed"
            assert (await pair.invite()).ok
            assert await code(third, "trade_invite", target=pair.b.avatar) == "trade_busy"
            assert await code(pair.a, "trade_invite", target=third.avatar) == "trade_busy"
            assert await code(third, "trade_accept", trade=pair.trade) == "trade_closed"
            assert await code(pair.a, "trade_accept", trade=pair.trade) == "trade_closed"
            assert await code(pair.b, "trade_offer", trade=pair.trade, items={"stone": 1}) == "trade_closed"
            assert await code(pair.b, "trade_accept", trade=pair.trade) == ""
            assert await code(pair.b, "trade_offer", trade=pair.trade, items={"stone": 4}) == "not_enough"
            assert await code(pair.b, "trade_offer", trade=pair.trade, items={"stone": 0}) == "bad_arguments"
            assert await code(pair.b, "trade_cancel", trade=pair.trade) == ""
            await pair.until_state("closed")
            assert pair.state(pair.a)["reason"] == "cancelled"
            assert (await pair.invite()).ok
            assert await code(pair.b, "trade_cancel", trade=pair.trade) == ""
            await pair.until_state("closed")
            assert pair.state(pair.a)["reason"] == "declined"
            pair.sound()

    run_virtual(play())


def test_what_is_gone_or_has_no_room_is_found_at_the_commit() -> None:
    async def play() -> None:
        async with Game(2) as game:
            pair = await meet(game, "gs1", "gs2")
            await pair.open()
            await pair.offer({"wood": 1}, {"stone": 3})
            give(game, pair.a, {"berries": AVATAR_HOLDS_ITEMS - 3})
            await game.until(lambda: "berries" in stored(game, pair.a), 2)
            assert await pair.confirm() == [{"committed": False}, "no_room"]
            await pair.until_state("closed")
            assert pair.state(pair.a)["reason"] == "no_room"
            assert [d["state"] for d in game.documents("tx").values()] == ["aborted"]
            await game.until(lambda: not any(game.document(p.unit)["pending"] for p in (pair.a, pair.b)), 2)
            assert stored(game, pair.b) == {"stone": 3}

    run_virtual(play())


@pytest.mark.parametrize(
    ("reason", "seconds"),
    [("timeout", TRADE_INVITE_S + 5), ("timeout", TRADE_IDLE_S + 5), ("too_far", 20.0), ("left", 5.0)],
)
def test_a_trade_ends_by_itself(reason: str, seconds: float) -> None:
    async def play() -> None:
        async with Game(2) as game:
            pair = await meet(game, "gs1", "gs2")
            if seconds == TRADE_INVITE_S + 5:
                assert (await pair.invite()).ok
            else:
                await pair.open()
            if reason == "too_far":
                await pair.b.walk(pair.b.x + TRADE_STAY_M + 8, pair.b.y)
            told = [pair.a] if reason == "left" else [pair.a, pair.b]
            if reason == "left":
                pair.b.detach(leave=True)
            await game.until(lambda: all(pair.state(p)["state"] == "closed" for p in told), seconds, reason)
            assert {pair.state(p)["reason"] for p in told} == {reason}
            pair.sound()

    run_virtual(play())


def test_who_is_far_is_not_invited() -> None:
    async def play() -> None:
        async with Game(2) as game:
            pair = await meet(game, "gs1", "gs2")
            await pair.b.walk(pair.b.x + TRADE_REACH_M + 6, pair.b.y)
            await asyncio.sleep(0.5)
            assert (await pair.invite()).code == "too_far"

    run_virtual(play())


@pytest.mark.parametrize("who", ["a", "b"])
@pytest.mark.parametrize("when", ["invited", "open", "confirmed"])
def test_a_hand_off_takes_its_part_along(who: str, when: str) -> None:
    async def play() -> None:
        async with Game(3) as game:
            pair = await meet(game, "gs1", "gs2")
            player = getattr(pair, who)

            async def move() -> None:
                assert await hand(game, player.unit, player.server, "gs3")
                await game.until(lambda: player.server == "gs3", 2)

            if when == "invited":
                assert (await pair.invite()).ok
                await move()
                assert (await pair.b.call("trade_accept", trade=pair.trade)).ok
                await pair.until_state("open")
            else:
                await pair.open()
            if when == "open":
                await move()
            await pair.offer({"wood": 2}, {"stone": 1})
            assert await pair.confirm(pair.a) == [{"committed": False}]
            await pair.until(lambda p: pair.state(p)["version"] == 3, "both see it")
            if when == "confirmed":
                await move()
            await asyncio.sleep(2 * TRADE_SILENT_MS / 1_000)
            assert await pair.confirm(pair.b) == [{"committed": True}]
            await pair.until_state("committed")
            pair.sound()

    run_virtual(play())


@pytest.mark.parametrize("dead", ["gs1", "gs2"])
def test_a_server_that_dies_closes_it_for_both(dead: str) -> None:
    async def play() -> None:
        async with Game(3) as game:
            pair = await meet(game, "gs1", "gs2")
            await pair.open()
            await pair.offer({"wood": 2}, {"stone": 1})
            await game.kill(dead)
            victim, other = (pair.a, pair.b) if dead == "gs1" else (pair.b, pair.a)
            await victim.attach("gs3")
            await game.until(lambda: pair.state(victim)["state"] == "closed", 2, "told at once, who attaches anew")
            await game.until(lambda: pair.state(other)["state"] == "closed", 15, "the other one finds out")
            assert {pair.state(p)["reason"] for p in (victim, other)} == {"lost"}
            late = await pair.confirms(other)
            assert late.code == "trade_closed"
            pair.sound()

    run_virtual(play())


def test_a_client_that_comes_back_goes_on() -> None:
    """Its events tell it the state; nothing is told twice."""

    async def play() -> None:
        async with Game(2) as game:
            pair: Pair = await meet(game, "gs1", "gs2")
            await pair.open()
            await pair.a.attach("gs2")
            await pair.offer({"wood": 2}, {"stone": 1})
            assert await pair.confirm() == [{"committed": False}, {"committed": True}]
            numbers = [n for _, n, _ in pair.a.events]
            assert numbers == sorted(numbers)
            pair.sound()

    run_virtual(play())


def test_a_page_loaded_anew_is_told_of_the_trade_it_is_in() -> None:
    async def play() -> None:
        async with Game(2) as game:
            pair = await meet(game, "gs1", "gs2")
            await pair.open()
            await pair.offer({"wood": 2}, {"stone": 1})
            loaded = await game.player(1, at="gs1", session=2)  # knows of no event
            await game.until(lambda: pair.state(loaded).get("state") == "open", 2, "it is told")
            assert pair.state(loaded)["mine"] == {"wood": 2}
            pair.a = loaded
            assert await pair.confirm() == [{"committed": False}, {"committed": True}]
            await pair.until_state("committed")
            pair.sound()

    run_virtual(play())
