"""What a game server tells operators of: taken units, late writes, repaired channels."""

import asyncio

import msgspec

from tests.support.game import Game
from tests.support.virtual import run_virtual
from world.messages import Json, Noted


def heard(game: Game) -> list[tuple[str, Json]]:
    """(kind, detail) of all notes that reach the gateway from now on."""
    notes: list[tuple[str, Json]] = []
    game.gateway.serve(Noted, lambda sender, note: notes.append((note.kind, note.detail)))
    return notes


def test_units_of_a_dead_server_are_told_with_their_last_owner() -> None:
    async def play() -> None:
        async with Game(2) as game:
            notes = heard(game)
            player = await game.player(1, at="gs1")
            assert not notes, "a newcomer is no adoption"
            await game.kill("gs1")
            await player.attach("gs2")
            said = ("adoption", {"unit": player.unit, "from": "gs1", "to": "gs2", "epoch": 2})
            await game.until(lambda: said in notes, seconds=1)

    run_virtual(play())


def test_a_write_that_comes_too_late_is_told() -> None:
    async def play() -> None:
        async with Game(1) as game:
            notes = heard(game)
            player = await game.player(1, at="gs1")
            table = game.servers["gs1"].game.table
            owned = table.get(player.unit)
            assert owned is not None
            document = game.document(player.unit) | {"owner": "gs9", "epoch": 2, "write_id": "another"}
            game.store.table.put(player.unit, msgspec.json.encode(document))
            owned.unit.save()
            table.touch(owned)
            said = ("fenced", {"unit": player.unit, "node": "gs1", "epoch": 1})
            await game.until(lambda: said in notes, seconds=1)

    run_virtual(play())


def test_a_channel_taken_anew_is_told() -> None:
    async def play() -> None:
        async with Game(2) as game:
            notes = heard(game)
            player = await game.player(1, at="gs1")
            game.network.faults.subscription_loss = 1.0
            await game.player(2, at="gs2")
            walking = asyncio.create_task(player.walk(player.x + 20, player.y))
            await game.until(lambda: any(kind == "repair" for kind, _ in notes), seconds=10)
            game.network.faults.subscription_loss = 0.0
            detail = next(detail for kind, detail in notes if kind == "repair")
            assert detail.keys() >= {"publisher", "cell", "node"}
            assert {detail["publisher"], detail["node"]} == {"gs1", "gs2"}
            state = game.servers["gs2"].game.state
            await walking
            await game.until(lambda: state.find(player.avatar) is not None, seconds=5)

    run_virtual(play())
