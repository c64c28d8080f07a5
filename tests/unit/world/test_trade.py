"""A transaction over two units: every order of its messages, writes and deaths; and that each safeguard is needed."""

import pytest

from tests.support.exploring import ends_and_names_each_state
from tests.support.trade_model import Budget, Intent, Model
from world.roles import OutOfOrder
from world.trade import CREATOR, ENDS, KEEPER, Effect, Event, State, creator, keeper

ONE_FAULT = [
    Budget(),
    Budget(kill=1),
    Budget(lose=1),
    Budget(double=1),
    Budget(take_a=1),
    Budget(take_b=1),
]
TWO_FAULTS = [Budget(kill=1, lose=1)]


def test_no_order_of_events_does_it_by_half_or_twice_or_keeps_anything_locked() -> None:
    model = Model()
    worlds = sum(model.explore(budget) for budget in ONE_FAULT + TWO_FAULTS)
    worlds += model.explore(Budget(), Intent("aborted")) + model.explore_late_locks(Budget(forget=2, take_b=1))
    assert worlds > 10_000
    assert model.used == {*CREATOR, *KEEPER}, "every row of the tables is reached"


ABLATIONS = {
    "commits without compare-and-swap": (Model(cas=False), Budget()),
    "applies what it does not hold": (Model(check_pending=False), Budget(double=1)),
    "is locked for what it has applied": (Model(check_done=False), Budget(double=1)),
    "is locked by a former owner": (Model(fence=False), Budget(take_a=1)),
    "answers before it is committed": (
        Model(
            creator={
                **CREATOR,
                (State.LOCKING, Event.ALL_LOCKED): (State.COMMITTING, (Effect.ANSWER, Effect.COMMIT)),
            }
        ),
        Budget(),
    ),
    "unlocks while it is pending": (
        Model(keeper={**KEEPER, (State.READING, Event.SAW_PENDING): (State.UNLOCKING, (Effect.UNLOCK,))}),
        Budget(),
    ),
    "removes it unasked": (
        Model(keeper={**KEEPER, (State.APPLYING, Event.WRITTEN): (State.REMOVING, (Effect.REMOVE,))}),
        Budget(),
    ),
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_without_a_safeguard_some_order_goes_wrong(name: str) -> None:
    model, budget = ABLATIONS[name]
    with pytest.raises((AssertionError, OutOfOrder)):
        model.explore(budget)


def test_the_tables_end_and_name_each_state() -> None:
    for table, starts in ((CREATOR, {State.NEW}), (KEEPER, {State.WATCHING, State.READING})):
        ends_and_names_each_state(table, starts, ENDS)


def test_roles_follow_their_tables() -> None:
    role = creator()
    assert role.step(Event.BEGIN) == (Effect.INSERT,)
    assert role.step(Event.LANDED) == (Effect.LOCK,)
    with pytest.raises(OutOfOrder, match="landed while locking"):
        role.step(Event.LANDED)
    assert role.step(Event.ALL_LOCKED) == (Effect.COMMIT,)
    assert role.state is State.COMMITTING
    assert role.step(Event.LANDED) == (Effect.TELL_COMMITTED, Effect.ANSWER)
    assert role.is_over
    found = keeper(found=True)
    assert found.step(Event.SAW_NONE) == (Effect.DENY,)
    assert keeper(found=False).step(Event.TOLD_COMMITTED) == (Effect.APPLY,)
