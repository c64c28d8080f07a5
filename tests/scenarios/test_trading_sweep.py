"""Intents that no keeper ends are ended by a sweep, and those aborted are kept for a day, no longer."""

import asyncio

import pytest

from gameserver.documents import NOT_THERE
from tests.support.game import Game
from tests.support.traders import Pair, meet, stored
from tests.support.virtual import run_virtual
from world.limits import TX_ABORTED_KEPT_S, TX_SWEEP_MS, TX_TERM_MS
from world.message_values import Change, Hold
from world.transaction_document import ABORTED, COMMITTED, PENDING, Intent, document_key

ROUNDS_S = (2 * TX_TERM_MS + 3 * TX_SWEEP_MS) / 1_000
KEPT_S = 40


async def put(game: Game, tx: str, intent: Intent) -> None:
    documents = game.servers["gs1"].game.documents
    write_id = documents.new_write_id()
    await documents.write(document_key(tx), intent.encode(write_id), NOT_THERE, write_id)


def parts(pair: Pair) -> dict[str, list[Change]]:
    return {
        pair.a.unit: [Change(pair.a.avatar, {"wood": 2}, {"stone": 1})],
        pair.b.unit: [Change(pair.b.avatar, {"stone": 1}, {"wood": 2})],
    }


def test_an_intent_that_nobody_locked_anything_for_is_aborted() -> None:
    async def play() -> None:
        async with Game(2) as game:
            pair = await meet(game, "gs1", "gs2")
            await put(game, "1.1.1.0", Intent(PENDING, parts(pair), "gs2", 1))
            await asyncio.sleep(TX_TERM_MS / 1_000)
            assert game.document("tx:1.1.1.0")["state"] == PENDING, "its creator may be slow"
            await game.until(lambda: game.document("tx:1.1.1.0")["state"] == ABORTED, ROUNDS_S)
            pair.sound()

    run_virtual(play())


def test_a_hold_without_an_intent_is_denied_and_undone() -> None:
    async def play() -> None:
        async with Game(2) as game:
            pair = await meet(game, "gs1", "gs2")
            owned = game.servers["gs1"].game.table.get(pair.a.unit)
            assert owned is not None
            owned.unit.lock("1.1.1.0", Hold(parts(pair)[pair.a.unit]))
            game.servers["gs1"].game.trading.keepers.keep(owned, "1.1.1.0")
            game.servers["gs1"].game.table.touch(owned)
            await game.until(lambda: bool(game.document(pair.a.unit)["pending"]), 1)
            await game.until(lambda: not game.document(pair.a.unit)["pending"], TX_TERM_MS / 1_000 + 1)
            assert game.document("tx:1.1.1.0")["state"] == ABORTED
            pair.sound()

    run_virtual(play())


def test_a_committed_one_goes_once_every_unit_says_that_it_is_done() -> None:
    """Its last keeper died between its mark and the removal; another unit is not done yet."""

    async def play() -> None:
        async with Game(2) as game:
            pair = await meet(game, "gs1", "gs2")
            for player, node in ((pair.a, "gs1"), (pair.b, "gs2")):
                owned = game.servers[node].game.table.get(player.unit)
                assert owned is not None
                owned.unit.lock("1.1.1.0", Hold(parts(pair)[player.unit]))
                if player is pair.a:
                    owned.unit.apply("1.1.1.0")
                game.servers[node].game.table.touch(owned)
            await put(game, "1.1.1.0", Intent(COMMITTED, parts(pair), "gs9", 1, applied=[pair.a.unit]))
            await asyncio.sleep(ROUNDS_S)
            assert "tx:1.1.1.0" in game.store.table.documents, "B holds it, and nobody has applied it there"
            owned = game.servers["gs2"].game.table.get(pair.b.unit)
            assert owned is not None
            game.servers["gs2"].game.trading.keepers.drive(owned)
            await game.until(lambda: "tx:1.1.1.0" not in game.store.table.documents, ROUNDS_S)
            assert stored(game, pair.b) == {"stone": 2, "wood": 2}
            pair.sound()

    run_virtual(play())


def test_an_aborted_one_is_kept_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shortened one: world time is young here."""
    assert TX_ABORTED_KEPT_S >= 24 * 3_600
    monkeypatch.setattr("gameserver.trading_sweep.TX_ABORTED_KEPT_S", KEPT_S)

    async def play() -> None:
        async with Game(2) as game:
            await put(game, "1.1.1.0", Intent(ABORTED, at_ms=game.servers["gs1"].service.clock.world_ms()))
            await asyncio.sleep(KEPT_S)
            assert "tx:1.1.1.0" in game.store.table.documents
            await game.until(lambda: "tx:1.1.1.0" not in game.store.table.documents, ROUNDS_S)

    run_virtual(play())


def test_what_was_applied_is_forgotten_after_its_intent() -> None:
    async def play() -> None:
        async with Game(2) as game:
            pair = await meet(game, "gs1", "gs2")
            await pair.open()
            await pair.offer({"wood": 1}, {"stone": 1})
            await pair.confirm()
            owned = game.servers["gs1"].game.table.get(pair.a.unit)
            assert owned is not None
            await game.until(lambda: bool(owned.unit.locks.done), 2)
            await game.until(lambda: not owned.unit.locks.done, 120)
            pair.sound()

    run_virtual(play())
