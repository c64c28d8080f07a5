"""The pure parts of the benches of gathers and trades: a bench whose judge is blind measures nothing."""

import asyncio
import math
import random
from collections import Counter
from pathlib import Path

import httpx
import msgspec
import pytest

from tests.bench.crowd import Load, judge
from tests.bench.measuring import Phase, Reading
from tests.bench.rich_world import STOCK, TREES_PER_REGION, avatar_of, places, write_rich_world
from tests.bench.trades import BRINGS, Dealer, Pair
from tests.chaos.snapshot import read_documents
from tests.support.ledger import Told
from tests.support.percentiles import percentile
from world.ids import avatar_unit, region_unit
from world.limits import REACH_M, SIGHT_HYSTERESIS_M, SIGHT_M
from world.unit_document import UnitDocument


def test_a_percentile_is_a_value_that_was_there() -> None:
    ordered = [float(n) for n in range(1, 101)]
    assert [percentile(ordered, p) for p in (0, 50, 95, 99, 100)] == [1, 50, 95, 99, 100]
    assert percentile([7.0], 99) == 7.0
    assert percentile([], 50) == 0.0


def test_a_phase_counts_between_its_readings_only() -> None:
    before = Reading(10.0, {"store": 1.0}, Counter(writes=100, groups=10))
    after = Reading(12.0, {"store": 1.5}, Counter(writes=104, groups=16))
    row = Phase("gather", before, after, [3.0, 1.0, 2.0, 4.0]).document()
    assert (row["per_s"], row["p50_ms"], row["store_writes_each"], row["commits_per_s"]) == (2.0, 2.0, 1.0, 3.0)
    assert (row["cpu_ms_each"], row["cpu_percent"]) == ({"store": 125.0}, {"store": 25.0})


def test_the_trees_are_in_reach_and_most_out_of_each_others_sight() -> None:
    spots = places(1, 3)
    assert len({place.region for place in spots[:3]}) == 3
    assert len({place.tree for place in spots}) == 3 * TREES_PER_REGION
    gaps = [math.dist((a.x, a.y), (b.x, b.y)) for a in spots for b in spots if a is not b]
    assert min(gaps) > SIGHT_M
    assert sum(gap < SIGHT_M + SIGHT_HYSTERESIS_M for gap in gaps) < len(gaps) / 10


@pytest.fixture
def documents(tmp_path: Path) -> dict[str, bytes]:
    """Of a rich world with two guests, who carry something."""
    asyncio.run(write_rich_world(tmp_path / "var", 1, places(1, 2)[:2], [{"wood": 5}, {"stone": 2}]))
    return read_documents(tmp_path / "var" / "store" / "world.sqlite")


def test_a_rich_world_is_one_whose_books_add_up(documents: dict[str, bytes]) -> None:
    told = {avatar_of(0): Told(Counter(wood=5)), avatar_of(1): Told(Counter(stone=2))}
    assert judge(told, documents) == []
    place = places(1, 2)[0]
    region = UnitDocument.parse(documents[region_unit(*place.region)])
    assert region.owner == ""
    assert region.data.entities[str(place.tree)] == {"wood": STOCK}
    avatar = UnitDocument.parse(documents[avatar_unit(avatar_of(0))]).data.entities[str(avatar_of(0))]
    assert math.dist((avatar["x"], avatar["y"]), (place.x, place.y)) < REACH_M / 2


def test_the_judge_finds_what_is_lost_and_what_is_there_twice(documents: dict[str, bytes]) -> None:
    lost = {avatar_of(0): Told(Counter(wood=6)), avatar_of(1): Told(Counter(stone=2))}
    assert judge(lost, documents) == [f"avatar {avatar_of(0)} has 5 wood: acknowledged 6, at most 6"]
    key = avatar_unit(avatar_of(1))
    twice = msgspec.json.decode(documents[key])
    twice["data"]["entities"][str(avatar_of(1))]["items"] = {"stone": 4}
    told = {avatar_of(0): Told(Counter(wood=5)), avatar_of(1): Told(Counter(stone=2))}
    wrong = judge(told, documents | {key: msgspec.json.encode(twice)})
    assert any("has 4 stone" in sentence for sentence in wrong)


def test_a_pair_is_told_to_hold_what_its_trades_left_it() -> None:
    """Also where the end of a trade was not told: it may have been done, or not."""

    async def account() -> Told:
        async with httpx.AsyncClient() as http:
            pair = Pair(*(Dealer(Load(1), http, ["http://nowhere"], random.Random(n)) for n in range(2)))
            pair.trades, pair.in_doubt = 3, 1
            pair.account()
            return pair.inviter.heard

    heard = asyncio.run(account())
    assert heard.acknowledged == Counter(wood=BRINGS - 4, stone=3)
    assert heard.in_doubt == Counter(wood=1, stone=1)
