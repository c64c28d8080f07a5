"""The attach table, row by row, and over all numbers."""

import itertools

import pytest

from world.attach import Decision, Owner, Room, Verb, admit, decide, is_current
from world.unit import AttachNumber

HELD = AttachNumber(5, 3, "gw1")
FREE = Room(full=False, better="", least_loaded=False)
FULL = Room(full=True, better="", least_loaded=False)
BETTER = Room(full=True, better="gs2", least_loaded=False)
LEAST = Room(full=True, better="", least_loaded=True)


@pytest.mark.parametrize(
    ("asked", "decision"),
    [
        (AttachNumber(4, 9, "gw1"), Decision.REFUSE),
        (AttachNumber(5, 2, "gw1"), Decision.REFUSE),
        (AttachNumber(5, 3, "gw1"), Decision.RETRY),
        (AttachNumber(5, 3, "gw2"), Decision.REFUSE),
        (AttachNumber(5, 4, "gw2"), Decision.ACCEPT),
        (AttachNumber(6, 1, "gw2"), Decision.ACCEPT),
    ],
)
def test_numbers_decide(asked: AttachNumber, decision: Decision) -> None:
    assert decide(HELD, asked) is decision


@pytest.mark.parametrize(
    ("owner", "asked", "room", "passes", "verdict"),
    [
        (Owner.OTHER, AttachNumber(1, 1, "gw1"), FREE, 0, (Verb.MOVED, "")),
        (Owner.ME, AttachNumber(5, 2, "gw1"), FREE, 0, (Verb.REPLACED, "")),
        (Owner.ME, AttachNumber(5, 3, "gw1"), FULL, 0, (Verb.SERVE, "")),
        (Owner.ME, AttachNumber(6, 1, "gw9"), FULL, 0, (Verb.SERVE, "")),
        (Owner.NOBODY, AttachNumber(5, 2, "gw1"), FREE, 0, (Verb.REPLACED, "")),
        (Owner.NOBODY, AttachNumber(5, 3, "gw1"), FREE, 0, (Verb.TAKE, "")),
        (Owner.NOBODY, AttachNumber(6, 1, "gw1"), BETTER, 0, (Verb.PASS, "gs2")),
        (Owner.NOBODY, AttachNumber(6, 1, "gw1"), BETTER, 1, (Verb.FULL, "")),
        (Owner.NOBODY, AttachNumber(6, 1, "gw1"), FULL, 0, (Verb.FULL, "")),
        (Owner.NOBODY, AttachNumber(6, 1, "gw1"), LEAST, 1, (Verb.TAKE, "")),
    ],
)
def test_the_table(owner: Owner, asked: AttachNumber, room: Room, passes: int, verdict: tuple[Verb, str]) -> None:
    assert admit(owner, HELD, asked, room, passes) == verdict


def test_a_newcomer_without_a_number_is_served() -> None:
    assert decide(AttachNumber(), AttachNumber(1, 1, "gw1")) is Decision.ACCEPT


def test_two_gateways_never_hold_one_number_in_any_order() -> None:
    numbers = [AttachNumber(s, c, g) for s in (1, 2) for c in (1, 2) for g in ("gw1", "gw2")]
    for order in itertools.permutations(numbers, 4):
        held = AttachNumber()
        holders: dict[tuple[int, int], str] = {}
        for asked in order:
            if decide(held, asked) is not Decision.REFUSE:
                assert asked[:2] >= held[:2]
                assert holders.setdefault((asked.session, asked.connection), asked.gateway) == asked.gateway
                held = asked
        assert is_current(held, held)
