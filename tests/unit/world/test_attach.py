"""The attach table, row by row, and over all numbers."""

import itertools

import pytest

from world.attach import Decision, decide, is_current
from world.unit import AttachNumber

HELD = AttachNumber(5, 3, "gw1")


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
