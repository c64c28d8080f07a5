"""The stories of a hand-off, each with a transcript to read (tests/scenarios/transcripts), and what must be true at its
end whoever dies on the way: one living owner, the client attached to it, what was acknowledged there, motion whole."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from gameserver.units import Owned
from runtime.store.memory import Faults
from tests.support.game import Game, Player, nearest
from tests.support.transcript import Transcript
from tests.support.virtual import run_virtual
from world.ids import NodeId
from world.limits import HANDOFF_OFFER_MS

ROLLBACK_M = 3.0  # half a second of walking (world.limits.MOTION_DOCUMENT_MS) and a little

Story = Callable[[Game, Player, Transcript], Awaitable[None]]


def held(game: Game, node: str, unit: str) -> Owned:
    owned = game.servers[node].game.table.get(unit)
    assert owned is not None
    return owned


def items(game: Game, player: Player) -> dict[str, int]:
    stored = game.document(player.unit)["data"]["entities"][str(player.avatar)]
    return dict(stored.get("items", {}))


def kill(game: Game, node: str) -> None:
    """kill -9, in the middle of a step: what it was doing ends here."""
    server = game.servers.pop(node)
    server.service.crash()
    game.network.crash(node)
    raise asyncio.CancelledError


def tell(name: str, title: str, story: Story, *, end: str) -> None:
    """Run a story: a player of gs1 has gathered and walks; after it both must go on at ``end``."""

    async def play() -> None:
        tree, x, y = nearest()
        faults = Faults(random.Random(1), delay_ms=(1.0, 1.0))
        async with Game(2, store_faults=faults) as game:
            game.network.faults.delay_ms = (1.0, 1.0)
            player = await game.player(1, at="gs1")
            await player.walk(x, y)
            assert (await player.gather(tree)).ok
            await game.until(lambda: len(player.events) == 1)
            await asyncio.sleep(1)
            transcript = Transcript(game, player.unit)
            walking = asyncio.create_task(stroll(game, player))
            await asyncio.sleep(0.45)
            await story(game, player, transcript)
            await game.until(lambda: game.owner(player.unit) == player.server == end, 15, f"the client is at {end}")
            walking.cancel()
            await asyncio.sleep(0.3)
            await judge(game, player, tree, end)
            transcript.check(name, title)

    run_virtual(play(), seed=None)


async def stroll(game: Game, player: Player) -> None:
    """To and fro, a metre or so, five claims a second."""
    while True:
        player.x += 0.3 if player.input // 4 % 2 else -0.3
        player.claim(next(iter(game.servers.values())).service.clock.world_ms())
        await asyncio.sleep(0.2)


async def judge(game: Game, player: Player, tree: int, end: str) -> None:
    assert held(game, end, player.unit).serving
    at = game.servers[end].game.state.position(player.avatar)
    assert abs(at.x - player.x) + abs(at.y - player.y) < ROLLBACK_M
    player.claim(game.servers[end].service.clock.world_ms())
    await asyncio.sleep(0.3)
    assert game.servers[end].game.state.position(player.avatar).last_input == player.input
    state = game.servers[end].game.state
    await game.until(lambda: state.find(tree) is not None, 10, "a dead server's region is taken too")
    assert (await player.call("gather", target=tree)).ok
    assert items(game, player) == {"wood": 2}
    numbers = [n for stream, n, _ in player.events if stream == player.events[-1][0]]
    assert numbers == sorted(set(numbers)), "no event twice"
    assert game.fences.broken == []
    assert {type(f).__name__ for f in game.failures} <= {"SelfDead"}


async def hand_off(game: Game, player: Player) -> bool:
    giving = game.servers["gs1"].game.handing.give(held(game, "gs1", player.unit), NodeId("gs2"))
    task = asyncio.get_running_loop().create_task(giving)
    done, _ = await asyncio.wait([task], timeout=10)
    return bool(done) and not task.cancelled() and task.result()


def cut(game: Game, source: str, target: str) -> None:
    """One way, until the offer was given up."""
    game.network.partition(source, target)
    asyncio.get_running_loop().call_later(HANDOFF_OFFER_MS / 1_000 + 0.5, game.network.heal)


def test_plain() -> None:
    async def story(game: Game, player: Player, transcript: Transcript) -> None:
        assert await hand_off(game, player)

    tell("plain", "An avatar with a walking client goes from gs1 to gs2", story, end="gs2")


@pytest.mark.parametrize("state", ["settling", "offered", "given"])
def test_the_source_dies(state: str) -> None:
    async def story(game: Game, player: Player, transcript: Transcript) -> None:
        transcript.when("gs1", state, partial(kill, game, "gs1"))
        await hand_off(game, player)
        if state != "given":
            await player.attach("gs2")  # as gateways do when they hear of a death

    tell(f"source_dies_{state}", f"The source is killed when it is {state}", story, end="gs2")


@pytest.mark.parametrize("state", ["listing", "committing", "installed"])
def test_the_source_dies_while_the_other_one_is(state: str) -> None:
    async def story(game: Game, player: Player, transcript: Transcript) -> None:
        def strike() -> None:
            try:
                kill(game, "gs1")
            except asyncio.CancelledError:
                transcript.add("gs1  dies")

        transcript.when("gs2", state, strike)
        await hand_off(game, player)

    title = f"The source is killed when the destination is {state}"
    tell(f"source_dies_destination_{state}", title, story, end="gs2")


@pytest.mark.parametrize(("state", "end"), [("listing", "gs1"), ("committing", "gs1"), ("installed", "gs1")])
def test_the_destination_dies(state: str, end: str) -> None:
    async def story(game: Game, player: Player, transcript: Transcript) -> None:
        transcript.when("gs2", state, partial(kill, game, "gs2"))
        await hand_off(game, player)

    tell(f"destination_dies_{state}", f"The destination is killed when it is {state}", story, end=end)


def test_no_answer_then_reclaimed() -> None:
    async def story(game: Game, player: Player, transcript: Transcript) -> None:
        transcript.when("gs1", "offered", partial(cut, game, "gs1", "gs2"))
        assert not await hand_off(game, player)

    tell("no_answer", "The offer is lost; the source waits, changes the token, serves again", story, end="gs1")


def test_the_answer_is_lost() -> None:
    async def story(game: Game, player: Player, transcript: Transcript) -> None:
        transcript.when("gs1", "offered", partial(cut, game, "gs2", "gs1"))
        assert await hand_off(game, player)

    tell("answer_lost", "The answer is lost: the source's own write is overtaken, so it knows", story, end="gs2")


def test_a_late_offer_finds_the_token_changed() -> None:
    async def story(game: Game, player: Player, transcript: Transcript) -> None:
        receiving = game.servers["gs2"].game.receiving
        give_up, commit = asyncio.Event(), receiving._commit

        async def late(offer: object) -> object:
            await give_up.wait()
            return await commit(offer)  # type: ignore[arg-type]

        receiving._commit = late  # type: ignore[method-assign,assignment]
        assert not await hand_off(game, player)
        give_up.set()

    tell("late_commit", "The destination hangs, the source reclaims; then the destination commits", story, end="gs1")


def test_the_store_goes_away_while_it_is_committed() -> None:
    async def story(game: Game, player: Player, transcript: Transcript) -> None:
        assert game.store.faults is not None
        loop = asyncio.get_running_loop()
        window = (loop.time(), loop.time() + 4)
        transcript.when("gs2", "committing", partial(game.store.faults.unavailable.append, window))
        transcript.when("gs1", "reclaiming", lambda: transcript.add("     the store is away until after this"))
        assert not await hand_off(game, player)

    tell("store_away", "The store goes away before the commit: busy until it answers again", story, end="gs1")


def test_no_room() -> None:
    async def story(game: Game, player: Player, transcript: Transcript) -> None:
        game.servers["gs2"].game.receiving._cap = 0
        assert not await hand_off(game, player)

    tell("no_room", "The destination has no room: it says so before anything is frozen", story, end="gs1")


def test_no_room_is_found_out_by_the_offer() -> None:
    async def story(game: Game, player: Player, transcript: Transcript) -> None:
        game.servers["gs2"].game.receiving._cap = 0
        game.forget_announcements("gs2")
        assert not await hand_off(game, player)

    title = "A destination of an older release knows no announcement; its room is gone when the offer comes"
    tell("no_room_unannounced", title, story, end="gs1")
