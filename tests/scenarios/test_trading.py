"""Two players trade, on one server and on two, whatever happens meanwhile."""

import pytest

from tests.support.game import Game
from tests.support.traders import meet, stored
from tests.support.virtual import run_virtual


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
