"""What a rule author gets: ``async with transaction(…)`` over avatars and a chest that a region holds, on any servers,
and what it costs."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest import mock

import msgspec
import pytest

import world.unit_document
from tests.bench.bench_trade import Writes
from tests.support.game import SEED, Game
from tests.support.traders import give, stored
from tests.support.virtual import run_virtual
from world.entity import _KINDS, COMMIT, PUBLIC, Container, Stock, entity, field
from world.ids import natural_id
from world.limits import REGION_M
from world.messages import U53, Json
from world.natural import Natural, natural
from world.rules.context import Context
from world.rules.registry import COMMANDS, command
from world.terrain import spawn
from world.transaction import transaction

CHEST = 30
X, Y = (int(v) for v in spawn(SEED))
THERE = natural_id(CHEST, X // REGION_M, Y // REGION_M, 0)


class PoolArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    others: list[U53]
    wood: int = 1


@pytest.fixture(autouse=True)
def with_chests() -> Iterator[None]:
    """A kind with a container, one of it at the spawn, and a rule that puts wood of each into the last one named."""

    class Chest(Container):
        HOLDS = 10
        items: Stock = field(COMMIT, PUBLIC, default={})

    def with_one(seed: int, x: int, y: int) -> Any:
        chest = [Natural(THERE, CHEST, float(X), float(Y))] if (x, y) == (X // REGION_M, Y // REGION_M) else []
        return [*natural(seed, x, y), *chest]

    async def pool(context: Context, args: PoolArgs) -> Json:
        parties = [context.actor, *(context.find(other) for other in args.others)]
        pooled = {"pooled": args.wood * (len(parties) - 1)}
        async with transaction(*parties, result=pooled) as tx:
            for giver in parties[:-1]:
                tx.move(giver, parties[-1], {"wood": args.wood})
        return pooled

    entity(kind=CHEST, name="chest")(Chest)
    command("pool", PoolArgs)(pool)
    with mock.patch.object(world.unit_document, "natural", with_one):
        yield
    del _KINDS[CHEST], COMMANDS["pool"]


def chest(game: Game) -> Json:
    region = game.document(f"region:{X // REGION_M},{Y // REGION_M}")
    return dict(region["data"]["entities"].get(str(THERE), {}).get("items", {}))


@pytest.mark.parametrize("servers", [1, 3])
def test_a_rule_moves_items_between_units(servers: int) -> None:
    async def play() -> None:
        async with Game(servers) as game:
            one = await game.player(1, at="gs1")  # its server wakes the region
            two = await game.player(2, at=f"gs{servers}")
            for player in (one, two):
                give(game, player, {"wood": 4})
                home = game.servers[player.server].game.state
                await game.until(lambda home=home: home.find(THERE) is not None, 5, "the chest is seen")  # type: ignore[misc]
            await game.until(lambda: stored(game, one) == stored(game, two) == {"wood": 4}, 5)
            await game.until(lambda: game.servers[two.server].game.state.find(one.avatar) is not None, 5)
            await asyncio.sleep(1)
            writes = Writes(game)
            assert (await two.call("pool", others=[THERE], wood=3)).value == {"pooled": 3}
            await asyncio.sleep(1)
            assert sum(n for what, n in writes.counts.items() if what != "overtaken") == 3 * 2 + 2
            writes.counts = Counter()
            assert (await two.call("pool", others=[one.avatar, THERE])).value == {"pooled": 2}
            await asyncio.sleep(1)
            assert sum(n for what, n in writes.counts.items() if what != "overtaken") == 3 * 3 + 2
            assert (stored(game, one), stored(game, two), chest(game)) == ({"wood": 3}, {}, {"wood": 5})
            again = await two.call("pool", number=two.number, others=[one.avatar, THERE])
            assert (again.value, chest(game)) == ({"pooled": 2}, {"wood": 5})
            assert (await two.call("pool", others=[THERE])).code == "not_enough"
            give(game, one, {"wood": 9})
            await game.until(lambda: stored(game, one) == {"wood": 12}, 2)
            assert (await one.call("pool", others=[THERE], wood=6)).code == "no_room"
            assert (await one.call("pool", others=[two.avatar, THERE], wood=1)).code == "not_enough"
            await game.until(lambda: not any(d["pending"] for d in game.documents("avatar").values()), 10)
            assert (stored(game, one), chest(game)) == ({"wood": 12}, {"wood": 5})
            assert game.fences.broken == []
        assert game.failures == []

    run_virtual(play())


def test_a_repeat_elsewhere_is_told_the_result() -> None:
    """The server dies when the transaction is committed; the next one does not see the chest yet."""

    async def play() -> None:
        async with Game(3) as game:
            await game.player(1, at="gs1")
            two = await game.player(2, at="gs2")
            give(game, two, {"wood": 4})
            home = game.servers["gs2"].game
            await game.until(lambda: home.state.find(THERE) is not None and stored(game, two) == {"wood": 4}, 5)
            put = game.store.table.put

            def struck(key: str, value: bytes) -> int:
                token = put(key, value)
                if key.startswith("tx:") and b'"committed"' in value and "gs2" in game.servers:
                    server = game.servers.pop("gs2")
                    asyncio.get_running_loop().call_soon(server.service.crash)
                    game.network.crash("gs2")
                return token

            game.store.table.put = struck  # type: ignore[method-assign]
            asking = asyncio.create_task(two.call("pool", others=[THERE], wood=3))
            await game.until(lambda: "gs2" not in game.servers, 5)
            await two.attach("gs3")
            assert (await asking).value == {"pooled": 3}
            await game.until(lambda: chest(game) == {"wood": 3}, 10)
            assert stored(game, two) == {"wood": 1}
            await game.until(lambda: not game.documents("tx"), 30)
            assert game.fences.broken == []

    run_virtual(play())
