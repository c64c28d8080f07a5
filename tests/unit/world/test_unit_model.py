"""Any interleaving of operations, writes, crashes, zombies and repeats conserves items and applies at most once; and
without any one of the safeguards, some interleaving does not."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.unit_world import UnitWorld
from world.results import Results
from world.transfer import Outbox, Received
from world.unit import Unit

STEPS = 250
SEEDS = 60


def run(seed: int, *, cas: bool = True) -> None:
    chance = random.Random(seed)
    world = UnitWorld(cas=cas)
    for _ in range(STEPS):
        world.step(chance.randrange(1000), chance.randrange(1000), chance.randrange(1000))
    world.check()
    world.settle()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_items_are_conserved_and_operations_apply_at_most_once(seed: int) -> None:
    run(seed)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 14), st.integers(0, 7), st.integers(0, 7)), max_size=60))
def test_whatever_order_hypothesis_thinks_of(steps: list[tuple[int, int, int]]) -> None:
    world = UnitWorld()
    for step in steps:
        world.step(*step)
        world.check()
    world.settle()


def fails_somewhere(*, cas: bool = True) -> bool:
    for seed in range(10 * SEEDS):
        try:
            run(seed, cas=cas)
        except AssertionError:
            return True
    return False


Patch = tuple[type, str, object]
ABLATIONS: dict[str, Patch] = {
    "saved results": (Results, "find", lambda self, key, digest="": None),
    "received ids": (Received, "applied", lambda self, giver, n: n <= self._floors.get(giver, 0)),
    "received floors": (Received, "applied", lambda self, giver, n: n in self._above.get(giver, ())),
    "deliver only what is committed": (Outbox, "deliverable", lambda self: list(self.entries.values())),
    "a floor below what is open": (Outbox, "floor", property(lambda self: self.last)),
    "outputs wait for their version": (Unit, "awaited", property(lambda self: self.committed)),
    "settled by floor and session": (
        Results,
        "find",
        lambda self, key, digest="": _find_without_settling(self, key),
    ),
}


def _find_without_settling(results: Results, key: object) -> object:
    from world.results import _slot

    row = results.rows.get(key.origin)  # type: ignore[attr-defined]
    saved = row.saved.get(_slot(key)) if row and row.session == key.session else None  # type: ignore[arg-type,attr-defined]
    return saved.outcome if saved else None


@pytest.mark.parametrize("safeguard", ABLATIONS)
def test_without_a_safeguard_something_breaks(safeguard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, name, replacement = ABLATIONS[safeguard]
    monkeypatch.setattr(where, name, replacement)
    assert fails_somewhere(), f"nothing failed without: {safeguard}"


def test_without_compare_and_swap_something_breaks() -> None:
    assert fails_somewhere(cas=False)
