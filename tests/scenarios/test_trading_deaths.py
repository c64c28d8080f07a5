"""A trade whose servers die at each step of it: afterwards it is done, wholly, or not at all; nothing stays locked, no
intent stays open, and who asks again is told what became of it. The transcripts are to be read."""

import asyncio

import pytest

from tests.support.game import Game, Player
from tests.support.trade_transcript import TradeTranscript
from tests.support.traders import Pair, meet, stored
from tests.support.virtual import run_virtual
from world.messages import CommandResult

BEFORE, AFTER = {"wood": 3}, {"wood": 1, "stone": 1}  # what A carries
LOCKED_S = 30.0


def kill(game: Game, node: str) -> None:
    """kill -9, in the middle of a step."""
    server = game.servers.pop(node)
    server.service.crash()
    game.network.crash(node)
    raise asyncio.CancelledError


def tell(name: str, title: str, when: tuple[str, str], victim: str, *, done: bool | None) -> None:
    """B, of gs2, confirms second, so that gs2 creates; A is of gs1. ``victim`` dies when one of them comes to a state.
    ``done``: whether the trade must be done then; None: either."""

    async def play() -> None:
        async with Game(3) as game:
            game.network.faults.delay_ms = (1.0, 1.0)
            pair = await meet(game, "gs1", "gs2")
            await pair.open()
            await pair.offer({"wood": 2}, {"stone": 1})
            assert await pair.confirm(pair.a) == [{"committed": False}]
            await pair.until(lambda p: pair.state(p)["version"] == 3, "both see it")
            transcript = TradeTranscript(game, pair)
            transcript.when(*when, lambda: kill(game, victim))
            confirming = asyncio.create_task(pair.confirms(pair.b))
            await revive(game, pair, victim)
            result = await confirming
            await judge(game, pair, result, done)
            transcript.check(name, title)

    run_virtual(play(), seed=None)


async def revive(game: Game, pair: Pair, victim: str) -> None:
    """Who was there attaches anew, as gateways do when they hear of a death."""
    await game.until(lambda: victim not in game.servers, 5, "the moment came")
    mine: list[Player] = [p for p in (pair.a, pair.b) if p.server == victim]
    for player in mine:
        await player.attach("gs3")


async def judge(game: Game, pair: Pair, result: CommandResult, done: bool | None) -> None:
    def over() -> bool:
        units = [game.document(p.unit) for p in (pair.a, pair.b)]
        intents = [d["state"] for d in game.documents("tx").values()]
        return not any(unit["pending"] for unit in units) and set(intents) <= {"aborted"}

    await game.until(over, LOCKED_S, "nothing is locked, no intent is open")
    happened = stored(game, pair.a) != BEFORE
    assert stored(game, pair.a) == (AFTER if happened else BEFORE)
    assert done in (None, happened)
    if result.ok or result.code not in ("store_unavailable", "unreachable"):
        assert result.ok == happened, f"told {result}"
    await pair.until(lambda p: pair.state(p)["state"] in ("committed", "closed", "open"), "both are told an end", 20)
    pair.sound()


def test_the_creator_dies_before_anything_is_written() -> None:
    title = "The creator is killed before the intent is inserted: the command is run anew elsewhere"
    tell("trade_creator_dies_inserting", title, ("gs2", "inserting"), "gs2", done=True)


def test_the_creator_dies_locking() -> None:
    title = "The creator is killed before it locks anything: its intent is in the way of another run"
    tell("trade_creator_dies_locking", title, ("gs2", "locking"), "gs2", done=False)


def test_the_creator_dies_as_it_commits() -> None:
    tell(
        "trade_creator_dies_committing",
        "The creator is killed before its swap",
        ("gs2", "committing"),
        "gs2",
        done=False,
    )


def test_the_creator_dies_right_after_the_commit() -> None:
    title = "The creator is killed when it has committed, and has told nobody"
    tell("trade_creator_dies_committed", title, ("gs2", "committed"), "gs2", done=True)


@pytest.mark.parametrize("state", ["watching A", "applying A", "marking A", "removing A", "done A"])
def test_the_other_owner_dies(state: str) -> None:
    title = f"The owner of A is killed when its keeper is {state.partition(' ')[0]}"
    done = None if state.startswith("watching") else True
    tell(f"trade_owner_dies_{state.partition(' ')[0]}", title, ("gs1", state), "gs1", done=done)


@pytest.mark.parametrize("state", ["applying B", "marking B"])
def test_the_creator_dies_applying(state: str) -> None:
    title = f"The creator is killed when its own keeper is {state.partition(' ')[0]}"
    tell(f"trade_creator_dies_{state.partition(' ')[0]}", title, ("gs2", state), "gs2", done=True)
