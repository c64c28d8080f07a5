"""Hand-off: every order of its messages, writes and deaths; and that each safeguard is needed."""

import pytest

from tests.support.exploring import ends_and_names_each_state
from tests.support.handoff_model import Budget, Model
from world.handoff import (
    DESTINATION,
    ENDS,
    SOURCE,
    Effect,
    Event,
    Owner,
    State,
    destination,
    source,
)
from world.roles import OutOfOrder

ONE_FAULT = [
    Budget(work=2),
    Budget(lose=1, work=1),
    Budget(double=1, work=1),
    Budget(kill_a=1, work=1),
    Budget(kill_b=1, work=1),
    Budget(zombie_a=1, work=1),
]
TWO_FAULTS = [
    Budget(kill_a=1, kill_b=1, work=1),
    Budget(kill_a=1, lose=1, work=1),
    Budget(kill_b=1, lose=1, work=1),
    Budget(zombie_a=1, lose=1, work=0),
    Budget(zombie_a=1, kill_b=1, work=0),
    Budget(kill_a=1, double=1, work=0),
    Budget(kill_b=1, double=1, work=0),
]


def test_no_order_of_events_makes_two_owners_or_none_or_loses_anything() -> None:
    model = Model()
    worlds = sum(model.explore(budget) for budget in ONE_FAULT + TWO_FAULTS)
    assert worlds > 10_000
    assert model.used == {*SOURCE, *DESTINATION}, "every row of the tables is reached"


def explore_all(model: Model) -> None:
    for budget in ONE_FAULT:
        model.explore(budget)


ABLATIONS = {
    "serves on without reclaiming": Model(
        source={**SOURCE, (State.OFFERED, Event.UNANSWERED): (State.SERVING, (Effect.RESUME,))}
    ),
    "answers before it has committed": Model(
        destination={
            **DESTINATION,
            (State.LISTING, Event.LISTED): (State.COMMITTING, (Effect.ANSWER, Effect.COMMIT)),
        }
    ),
    "gives it away before it is taken": Model(
        source={**SOURCE, (State.OFFERED, Event.UNANSWERED): (State.GIVEN, (Effect.GIVE,))}
    ),
    "installs what it could not commit": Model(
        destination={**DESTINATION, (State.COMMITTING, Event.SILENT): (State.INSTALLED, (Effect.INSTALL,))}
    ),
    "installs what was overtaken": Model(
        destination={**DESTINATION, (State.COMMITTING, Event.OVERTAKEN): (State.INSTALLED, (Effect.INSTALL,))}
    ),
    "writes without compare-and-swap": Model(cas=False),
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_without_a_safeguard_some_order_goes_wrong(name: str) -> None:
    with pytest.raises((AssertionError, OutOfOrder)):
        explore_all(ABLATIONS[name])


def test_the_tables_end_and_name_each_state() -> None:
    for table, start in ((SOURCE, State.SERVING), (DESTINATION, State.ASKED)):
        ends_and_names_each_state(table, {start}, ENDS)


def test_roles_follow_their_tables() -> None:
    role = source()
    assert role.step(Event.BEGIN) == (Effect.FREEZE, Effect.SETTLE)
    assert role.step(Event.SETTLED) == (Effect.OFFER,)
    with pytest.raises(OutOfOrder, match="settled while offered"):
        role.step(Event.SETTLED)
    assert role.step(Event.ACCEPTED, Owner("gs2", 1, 6)) == (Effect.GIVE,)
    assert role.owner == Owner("gs2", 1, 6)
    assert role.step(Event.ACCEPTED, Owner("gs3", 1, 7)) == ()
    assert role.owner == Owner("gs2", 1, 6)
    taker = destination()
    assert taker.step(Event.UNFIT) == (Effect.REFUSE,)
    assert taker.state is State.ABORTED
