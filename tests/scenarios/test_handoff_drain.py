"""A server that drains gives all it has to the others, and ends; nobody notices but for the name on the badge."""

import asyncio
import random

import pytest

from runtime.mesh.api import MeshError
from runtime.store.memory import Faults
from tests.support.game import SEED, Game, Player, nearest
from tests.support.virtual import run_virtual
from world.ids import NodeId
from world.messages import Busy, Drain, Message, Moved, Noted
from world.terrain import spawn


def items(game: Game, player: Player) -> dict[str, int]:
    stored = game.document(player.unit)["data"]["entities"][str(player.avatar)]
    return dict(stored.get("items", {}))


def released(game: Game, node: str) -> None:
    """Nothing names it any more."""
    assert game.document(f"srv:{node}")["state"] == "dead"
    documents = game.documents("avatar") | game.documents("region")
    assert not [key for key, document in documents.items() if document["owner"] == node]
    assert not [d["units"] for k, d in game.documents("owned").items() if k.startswith(f"owned:{node}:") and d["units"]]
    assert game.failures == []
    assert game.fences.broken == []


def test_everything_goes_to_the_others_while_players_walk_and_gather() -> None:
    async def play() -> None:
        tree, x, y = nearest()
        notes: list[Noted] = []
        async with Game(3) as game:
            game.gateway.serve(Noted, lambda sender, note: notes.append(note))
            players = [await game.player(n, at="gs1") for n in range(1, 7)]
            await game.until(lambda: game.owner(players[0].region) == "gs1")
            walks = [asyncio.create_task(p.walk(x, y, stop_m=0.5)) for p in players]
            await asyncio.sleep(0.5)
            draining = asyncio.create_task(game.drain("gs1"))
            await asyncio.gather(*walks)
            results = [await p.gather(tree) for p in players]
            await draining
            assert sorted(r.code for r in results) == ["", "", "", "", "", "depleted"]
            owners = {game.owner(p.unit) for p in players}
            assert len(owners) == 1, "who see each other stay together"
            assert owners <= {"gs2", "gs3"}
            assert game.owner(players[0].region) in owners
            for player, result in zip(players, results, strict=True):
                assert player.attached is not None
                assert (player.attached.epoch, player.attached.resync) == (2, None)
                at = game.servers[player.server].game.state.position(player.avatar)
                assert abs(at.x - player.x) + abs(at.y - player.y) < 0.01
                assert sum(items(game, player).values()) == result.ok
            released(game, "gs1")
            said = [(note.kind, note.detail.get("state")) for note in notes]
            assert said[0] == ("drain", "began")
            assert said[-1] == ("drain", "done")
            assert said.count(("handoff", None)) == notes[-1].detail["units"] >= 7

    run_virtual(play())


def test_the_only_server_saves_and_releases() -> None:
    async def play() -> None:
        async with Game(1) as game:
            player = await game.player(1, at="gs1")
            x, y = spawn(SEED)
            await player.walk(x + 5, y, stop_m=0.5)
            began = asyncio.get_running_loop().time()
            await game.drain("gs1")
            assert asyncio.get_running_loop().time() - began < 3
            released(game, "gs1")
            await game.start("gs1")
            again = await player.attach("gs1")
            assert abs(again.x - player.x) + abs(again.y - player.y) < 0.5

    run_virtual(play())


def test_what_nobody_has_room_for_is_released_and_adopted_on_need() -> None:
    async def play() -> None:
        async with Game(2, avatars_per_server=2) as game:
            players = [await game.player(n, at="gs1") for n in (1, 2)]
            other = await game.player(3, at="gs2")
            await asyncio.sleep(1)
            await game.drain("gs1")
            released(game, "gs1")
            assert sorted(game.owner(p.unit) for p in players) == ["", "gs2"]
            for player in players:
                await player.attach("gs2")
            assert {game.owner(p.unit) for p in (*players, other)} == {"gs2"}

    run_virtual(play())


@pytest.mark.parametrize(("cap", "answer"), [(1, Busy), (9, Moved)])
def test_newcomers_are_sent_elsewhere_meanwhile(cap: int, answer: type[Message]) -> None:
    async def play() -> None:
        async with Game(2, avatars_per_server=cap) as game:
            player = await game.player(1, at="gs2")
            await game.player(2, at="gs1")
            await asyncio.sleep(1)
            server = game.servers["gs1"]
            server.service.drain("test")
            await asyncio.sleep(0.01)
            newcomer = Player(game, player.avatar + 7, "Newcomer", 1)
            said = await game.gateway.call(NodeId("gs1"), newcomer.attach_message())
            assert type(said) is answer
            assert newcomer.unit not in game.documents("avatar")
            await game.until(lambda: server.task.done(), seconds=10)

    run_virtual(play())


def test_operators_drain_by_message_and_gateways_see_it_in_the_book() -> None:
    async def play() -> None:
        async with Game(2) as game:
            player = await game.player(1, at="gs1")
            server = game.servers["gs1"]
            await game.gateway.call(NodeId("gs1"), Drain())
            await game.until(lambda: game.owner(player.unit) == "gs2", seconds=2)
            await game.until(lambda: server.task.done(), seconds=5)
            released(game, "gs1")
            with pytest.raises(MeshError):
                await game.gateway.call(NodeId("gs1"), Drain(), deadline_ms=500)

    run_virtual(play())


def test_a_drain_waits_for_a_store_that_is_away() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        async with Game(2, store_faults=Faults(random.Random(1))) as game:
            assert game.store.faults is not None
            player = await game.player(1, at="gs1")
            game.store.faults.unavailable.append((loop.time(), loop.time() + 8))
            await asyncio.sleep(2)
            began = loop.time()
            draining = asyncio.create_task(game.drain("gs1"))
            await asyncio.sleep(3)
            assert (await player.call("say", text="still here")).ok
            await draining
            assert 5 < loop.time() - began < 15
            assert game.owner(player.unit) == "gs2"
            assert player.attached is not None
            assert player.attached.resync is None
            released(game, "gs1")

    run_virtual(play())
