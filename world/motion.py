"""Motion as a function of time, for many movers at once: judging claims, extrapolating, deciding what to publish.

Everything here is an array operation over float64 columns; times are world ms, positions metres, velocities metres per
second. A mover stands at ``x0 + vx * (t - t0) / 1000``. A client claims (time, x, y, vx, vy): where it stood and what
velocity it took up. Its walking budget is a bucket of metres that fills at walking speed and holds MOVE_BUDGET_MS of
it; claimed distance is paid from it, so that neither speed nor a stalled network's burst exceeds what walking allows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from world.limits import (
    CLAIM_AHEAD_MS,
    ECHO_EVERY_MS,
    EXTRAPOLATION_ERROR_M,
    MOVE_BUDGET_MS,
    MOVE_SLACK_M,
    SPEED_TOLERANCE,
    VELOCITY_CHANGE_M_PER_S,
    WALK_SAMPLE_M,
    WALK_SPEED_M_PER_S,
    WORLD_M,
)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Walkable = Callable[[Floats, Floats], NDArray[Any]]

PACE_M_PER_MS = WALK_SPEED_M_PER_S * SPEED_TOLERANCE / 1_000
BUDGET_M = PACE_M_PER_MS * MOVE_BUDGET_MS
# The longest path a judged claim can have, in samples: what the full bucket and the slack allow.
SAMPLES = int((BUDGET_M + MOVE_SLACK_M) / WALK_SAMPLE_M) + 1


class Claims(NamedTuple):
    """float64[n] each: what clients say."""

    time: Floats
    x: Floats
    y: Floats
    vx: Floats
    vy: Floats


class Footing(NamedTuple):
    """float64[n] each: the last accepted points, the walking budgets in metres and when they were last filled."""

    x: Floats
    y: Floats
    budget: Floats
    filled_at: Floats


class Judged(NamedTuple):
    accepted: Bools
    time: Floats  # the claimed time, held within what the owner believes: [now - MOVE_BUDGET_MS, now + CLAIM_AHEAD_MS]
    budget: Floats  # what is left of it after paying for the accepted ones


def fill_budget(budget: Floats, filled_at: Floats, now: float) -> Floats:
    """Budgets in metres at world time ``now``."""
    return np.minimum(budget + PACE_M_PER_MS * np.maximum(now - filled_at, 0.0), BUDGET_M)


def judge(claims: Claims, last: Footing, now: float, walkable: Walkable) -> Judged:
    """Which claims may stand: finite, inside the world, not too fast, within the budget, walkable all the way."""
    sane = in_world(claims.x, claims.y) & np.isfinite(claims.vx) & np.isfinite(claims.vy) & np.isfinite(claims.time)
    x, y = np.where(sane, claims.x, last.x), np.where(sane, claims.y, last.y)
    speed = np.hypot(np.where(sane, claims.vx, 0.0), np.where(sane, claims.vy, 0.0))
    path = np.hypot(x - last.x, y - last.y)
    budget = fill_budget(last.budget, last.filled_at, now)
    accepted = sane & (speed <= WALK_SPEED_M_PER_S * SPEED_TOLERANCE) & (path <= budget + MOVE_SLACK_M)
    accepted[accepted] = walkable_path(last.x[accepted], last.y[accepted], x[accepted], y[accepted], walkable)
    time = np.where(sane, claims.time, now)
    time = np.minimum(np.maximum(time, now - MOVE_BUDGET_MS), now + CLAIM_AHEAD_MS)
    return Judged(accepted, time, np.where(accepted, budget - path, budget))


def in_world(x: Floats, y: Floats) -> Bools:
    """Finite and inside; NaN compares false."""
    inside: Bools = np.asarray((x >= 0.0) & (x < WORLD_M) & (y >= 0.0) & (y < WORLD_M))
    return inside


def walkable_path(x0: Floats, y0: Floats, x1: Floats, y1: Floats, walkable: Walkable) -> Bools:
    """True where each segment is walkable at every WALK_SAMPLE_M of it and at its end. The start is not asked: who
    stands in a bad place (the ground changed, a restored position) may walk out of it."""
    if not len(x0):
        return np.empty(0, np.bool_)
    steps = np.ceil(np.hypot(x1 - x0, y1 - y0).max() / WALK_SAMPLE_M)
    samples = int(min(max(steps, 1), SAMPLES))
    share = (np.arange(1, samples + 1) / samples)[:, None]
    xs, ys = x0 + (x1 - x0) * share, y0 + (y1 - y0) * share
    good = np.asarray(walkable(xs.ravel(), ys.ravel()), np.bool_).reshape(xs.shape)
    return np.asarray(good.all(axis=0), np.bool_)


def position(x0: Floats, y0: Floats, vx: Floats, vy: Floats, t0: Floats, now: float) -> tuple[Floats, Floats]:
    """Where movers stand at ``now``; before ``t0`` they stand where they start."""
    seconds = np.maximum(now - t0, 0.0) / 1_000
    return x0 + vx * seconds, y0 + vy * seconds


class Advanced(NamedTuple):
    x: Floats
    y: Floats
    stopped: Bools


def advance(before: tuple[Floats, Floats], after: tuple[Floats, Floats], silent: Bools, walkable: Walkable) -> Advanced:
    """A tick's step of walking movers: who would meet water or the world's border stops where it stood before; who
    is silent stops where it came to."""
    inside = in_world(*after)
    free = inside.copy()
    x, y = np.where(inside, after[0], before[0]), np.where(inside, after[1], before[1])
    free[inside] = walkable_path(before[0][inside], before[1][inside], x[inside], y[inside], walkable)
    return Advanced(np.where(free, x, before[0]), np.where(free, y, before[1]), silent | ~free)


class Published(NamedTuple):
    """What observers last heard: float64[n] position, velocity and its world time, int64[n] sub-cell, last input."""

    x: Floats
    y: Floats
    vx: Floats
    vy: Floats
    time: Floats
    subcell: NDArray[np.int64]
    last_input: NDArray[np.uint32]


class Actual(NamedTuple):
    """What is so now: float64[n], int64[n], uint32[n]."""

    x: Floats
    y: Floats
    vx: Floats
    vy: Floats
    subcell: NDArray[np.int64]
    last_input: NDArray[np.uint32]


def must_publish(said: Published, actual: Actual, now: float) -> Bools:
    """Who needs a record now: extrapolation errs, the velocity changed, a border was crossed, or an echo is due."""
    guess_x, guess_y = position(said.x, said.y, said.vx, said.vy, said.time, now)
    errs = np.hypot(guess_x - actual.x, guess_y - actual.y) > EXTRAPOLATION_ERROR_M
    turned = np.hypot(said.vx - actual.vx, said.vy - actual.vy) > VELOCITY_CHANGE_M_PER_S
    echo = (said.last_input != actual.last_input) & (now - said.time >= ECHO_EVERY_MS)
    needed: Bools = errs | turned | (said.subcell != actual.subcell) | echo
    return needed
