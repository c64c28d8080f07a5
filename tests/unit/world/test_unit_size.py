"""How long a unit's document becomes: what would make it too long for the store is refused, and changes nothing."""

import random

import pytest

from tests.support.unit_world import REGION
from tests.unit.world.test_unit import KEY, avatar, near, region, tree_of, write
from world.entity import Entity
from world.ids import entity_id
from world.limits import (
    CLIENT_COMMANDS_IN_FLIGHT,
    KEY_RETENTION_S,
    STORE_VALUE_BYTES,
    TRADE_KINDS,
    UNIT_BYTES,
    UNIT_FULL_BYTES,
    UNIT_HOLDS,
    UNIT_OUTBOX_ENTRIES,
)
from world.message_values import Change, Hold
from world.messages import Deliver
from world.results import Refusal, call_key, command_key
from world.unit import Unit
from world.unit_size import FULL

FAR_M = 100.0


def chop(unit: Unit, tree: Entity, origin: int, number: int, *, floor: int = 0, distance: float = FAR_M) -> str:
    """The code of the refusal, "" where there was none."""
    key = call_key(command_key(f"avatar:{origin}", 1, number, floor, "d" * 18), unit.key, "chop", 0)
    try:
        unit.invoke(tree.id, "chop", {}, key, near(tree, distance))
    except Refusal as refusal:
        return refusal.code
    return ""


def crowd(unit: Unit, *, writes: int) -> int:
    """Chop in vain, as ever more avatars that settle nothing, until the unit is full; how many results it keeps."""
    tree = tree_of(unit)
    for n in range(1, 100_000):
        code = chop(unit, tree, entity_id(1, 1 + n // 100), n % 100 + 1)
        if code == FULL:
            return n
        assert code == "too_far"
        if writes and n % writes == 0:
            write(unit)
    raise AssertionError("it takes everything")


def flood(unit: Unit) -> int:
    """Deliver, from ever more givers, until it is refused; how many were taken."""
    for n in range(1, 100_000):
        try:
            unit.deliver(Deliver(f"region:{n:0100}", 1, n, 0, KEY, unit.epoch, {"wood": 1}))
        except Refusal as refusal:
            if refusal.code == FULL:
                return n - 1
            raise
        if n % 1_000 == 0:
            write(unit)
    raise AssertionError("it takes everything")


@pytest.mark.parametrize("writes", [0, 1_000], ids=["before any write", "with writes between"])
def test_land_takes_no_more_than_the_store_does(writes: int) -> None:
    unit = region()
    kept = crowd(unit, writes=writes)
    before = tree_of(unit).values
    assert chop(unit, tree_of(unit), 7, 1, distance=1.0) == FULL
    assert tree_of(unit).values == before, "nothing was changed"
    assert not unit.outbox.entries
    length = len(write(unit))
    assert length < STORE_VALUE_BYTES
    assert length > UNIT_FULL_BYTES / 3, "and not much less"
    assert kept > 100 * CLIENT_COMMANDS_IN_FLIGHT, "a hundred clients that keep to the rules are served"


def test_land_with_all_its_nodes_and_transfers_is_far_from_full() -> None:
    unit = region()
    for real in unit.entities.values():
        before = real.open()
        for name in real.TABLE.fields:
            setattr(real, name, 1)
        real.close(before, keep=True)
    tree = tree_of(unit)
    for n in range(UNIT_OUTBOX_ENTRIES):
        before = tree.open()
        tree.values["wood"] = 1
        tree.close(before, keep=True)
        assert chop(unit, tree, entity_id(1, n), 1, distance=1.0) == ""
    assert len(write(unit)) < UNIT_FULL_BYTES / 2


def test_a_full_unit_serves_again_once_what_it_kept_is_settled() -> None:
    unit = region()
    crowd(unit, writes=0)
    tree = tree_of(unit)
    for n in range(1, 1 + 100_000 // 100):
        unit.results.settle(f"avatar:{entity_id(1, n)}", 1, 100)
    assert chop(unit, tree, 7, 1) == FULL, "not known yet"
    assert unit.dirty is not None, "but it will be written"
    write(unit)
    assert chop(unit, tree, 7, 1) == "too_far"


def test_a_full_unit_serves_again_once_the_silent_are_forgotten() -> None:
    unit = region()
    crowd(unit, writes=0)
    unit.elapse(1)
    unit.elapse(KEY_RETENTION_S * 1_000 + 2)
    write(unit)
    assert chop(unit, tree_of(unit), 7, 1) == "too_far"


def test_what_was_given_away_is_taken_longer_and_waits_then() -> None:
    unit = avatar()
    delivered = flood(unit)
    assert unit.entities[next(iter(unit.entities))].values["items"] == {"wood": delivered}
    assert unit.size.full
    assert UNIT_FULL_BYTES < unit.size.bound <= UNIT_BYTES
    assert len(write(unit)) < STORE_VALUE_BYTES
    unit.deliver(Deliver(f"region:{1:0100}", 1, 1, 0, KEY, unit.epoch, {"wood": 1}))  # a repeat is answered as ever


def test_transactions_that_commit_fit_in_though_deliveries_have_filled_the_unit() -> None:
    unit = avatar()
    name = next(iter(unit.entities))
    goods = [f"{'goods':_<60}{n:02}" for n in range(UNIT_HOLDS * TRADE_KINDS)]
    for n in range(UNIT_HOLDS):
        into = dict.fromkeys(goods[n * TRADE_KINDS : (n + 1) * TRADE_KINDS], 300 // TRADE_KINDS)
        saves = [(command_key(f"avatar:{entity_id(1, n)}", 1, 1, 0, "d" * 18), {"committed": True})]
        unit.lock(f"{entity_id(1, n)}.1.1.0", Hold([Change(name, {}, into)], saves))
    write(unit)
    flood(unit)
    for tx in list(unit.locks.pending):
        unit.apply(tx)
    assert len(write(unit)) < STORE_VALUE_BYTES


@pytest.mark.parametrize("seed", range(5))
def test_the_bound_is_never_below_what_is_written(seed: int) -> None:
    rng = random.Random(seed)
    unit = region()
    trees = [real for real in unit.entities.values() if real.TABLE.name == "tree"]
    for n in range(1, 600):
        chop(unit, rng.choice(trees), rng.randrange(1 << 52), n, distance=rng.choice([1.0, FAR_M]))
        if rng.random() < 0.3:
            bound = unit.size.bound
            unit.begin_write()
            assert unit.size.bound <= bound
            unit.landed(unit.committed + 1, 1)
            for entry in unit.outbox_entries():
                unit.delivered(entry.n)


def test_a_unit_that_is_read_knows_how_long_it_is() -> None:
    unit = region()
    crowd(unit, writes=0)
    unit.save()
    value = write(unit)
    assert Unit.load(REGION, value, 1, 1).size.bound == len(value)
