from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from world import motion
from world.limits import (
    CLAIM_AHEAD_MS,
    ECHO_EVERY_MS,
    MOVE_BUDGET_MS,
    MOVE_SLACK_M,
    WALK_SPEED_M_PER_S,
    WORLD_M,
)

NOW = 1_000_000.0


def land(xs: motion.Floats, ys: motion.Floats) -> NDArray[Any]:
    return np.ones(len(xs), np.bool_)


def pond(xs: motion.Floats, ys: motion.Floats) -> NDArray[Any]:
    """Water where 110 <= x < 112."""
    return (xs < 110.0) | (xs >= 112.0)


def claim(x: float, y: float, vx: float = 0.0, vy: float = 0.0, time: float = NOW) -> motion.Claims:
    return motion.Claims(*(np.array([v], np.float64) for v in (time, x, y, vx, vy)))


def footing(x: float = 100.0, y: float = 100.0, budget: float = 0.0, filled_at: float = NOW) -> motion.Footing:
    return motion.Footing(*(np.array([v], np.float64) for v in (x, y, budget, filled_at)))


def accepted(said: motion.Claims, last: motion.Footing, walkable: motion.Walkable = land) -> bool:
    return bool(motion.judge(said, last, NOW, walkable).accepted[0])


def test_a_step_within_speed_and_time_is_accepted_and_paid() -> None:
    judged = motion.judge(claim(103.0, 100.0, 6.0), footing(filled_at=NOW - 500), NOW, land)
    assert judged.accepted[0]
    assert judged.budget[0] == 0.5 * motion.PACE_M_PER_MS * 1_000 - 3.0


def test_what_is_not_finite_or_outside_or_too_fast_is_refused() -> None:
    rich = footing(budget=motion.BUDGET_M)
    for bad in (float("nan"), float("inf"), -float("inf")):
        assert not accepted(claim(bad, 100.0), rich)
        assert not accepted(claim(100.0, bad), rich)
        assert not accepted(claim(100.0, 100.0, bad), rich)
        assert not accepted(claim(100.0, 100.0, 0.0, bad), rich)
    assert not accepted(claim(-0.1, 100.0), footing(0.0, 100.0))
    assert not accepted(claim(WORLD_M, 100.0), footing(WORLD_M - 0.1, 100.0))
    assert not accepted(claim(100.0, 100.0, WALK_SPEED_M_PER_S * 1.2), rich)
    assert accepted(claim(100.0, 100.0, WALK_SPEED_M_PER_S), rich)


def test_a_budget_is_capped_so_that_waiting_does_not_buy_a_jump() -> None:
    waited = footing(filled_at=NOW - 3_600_000)
    assert accepted(claim(100.0 + motion.BUDGET_M + MOVE_SLACK_M - 0.1, 100.0), waited)
    assert not accepted(claim(100.0 + motion.BUDGET_M + MOVE_SLACK_M + 0.1, 100.0), waited)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=50))
def test_no_sequence_of_claims_goes_farther_than_walking_allows(steps: list[tuple[float, float]]) -> None:
    x = y = 4_000.0
    walked, budget, at = 0.0, motion.BUDGET_M, NOW
    for number, (dx, dy) in enumerate(steps):
        now = NOW + 100.0 * number
        judged = motion.judge(claim(x + dx, y + dy), footing(x, y, budget, at), now, land)
        budget, at = float(judged.budget[0]), now
        if judged.accepted[0]:
            walked += float(np.hypot(dx, dy))
            x, y = x + dx, y + dy
        assert walked <= motion.PACE_M_PER_MS * (now - NOW + MOVE_BUDGET_MS) + MOVE_SLACK_M + 1e-6


def test_a_path_through_water_is_refused_though_its_end_is_dry() -> None:
    rich = footing(108.0, 100.0, budget=motion.BUDGET_M)
    assert not accepted(claim(113.0, 100.0), rich, pond)
    assert not accepted(claim(110.5, 100.0), rich, pond)
    assert accepted(claim(109.5, 100.0), rich, pond)


def test_who_stands_in_water_may_walk_out_of_it() -> None:
    assert accepted(claim(109.9, 100.0), footing(110.1, 100.0, budget=5.0), pond)


def test_a_claimed_time_is_held_within_what_the_owner_believes() -> None:
    times = np.array([0.0, NOW - 100, NOW + 10_000, 2.0**64])
    many = motion.Claims(times, *(np.full(4, v) for v in (100.0, 100.0, 0.0, 0.0)))
    last = motion.Footing(*(np.full(4, v) for v in (100.0, 100.0, 0.0, NOW)))
    held = motion.judge(many, last, NOW, land).time
    assert held.tolist() == [NOW - MOVE_BUDGET_MS, NOW - 100, NOW + CLAIM_AHEAD_MS, NOW + CLAIM_AHEAD_MS]


def test_a_walker_stops_before_water_and_at_the_border_and_when_silent() -> None:
    before = (np.array([109.8, 0.3, 50.0, 50.0]), np.array([100.0, 100.0, 50.0, 50.0]))
    after = (np.array([110.4, -0.3, 50.6, 50.6]), np.array([100.0, 100.0, 50.0, 50.0]))
    moved = motion.advance(before, after, np.array([False, False, True, False]), pond)
    assert moved.stopped.tolist() == [True, True, True, False]
    assert moved.x.tolist() == [109.8, 0.3, 50.6, 50.6]


def published(**changes: float) -> bool:
    """One mover, said to walk east at 6 m/s since NOW, 100 ms ago; changes are to what is so now."""
    said = motion.Published(*(np.array([v]) for v in (100.0, 100.0, 6.0, 0.0, NOW, 7, 3)))
    so = {"x": 100.6, "y": 100.0, "vx": 6.0, "vy": 0.0, "subcell": 7, "last_input": 3} | changes
    now = changes.get("now", NOW + 100)
    so.pop("now", None)
    return bool(motion.must_publish(said, motion.Actual(*(np.array([v]) for v in so.values())), now)[0])


def test_a_record_is_sent_only_when_observers_would_misjudge() -> None:
    assert not published()
    assert not published(x=100.7)
    assert published(x=101.0)
    assert published(vx=0.0)
    assert published(subcell=8)
    assert not published(last_input=4)
    assert published(last_input=4, now=NOW + ECHO_EVERY_MS, x=100.0 + 6.0 * ECHO_EVERY_MS / 1_000)
