"""One tick's steps over the columns, each an array operation: take inputs, walk, choose who is published.

A row number counts only within its tick. Times named ``now`` are world ms, ``own_ms`` monotonic ms.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gameserver.columns import Columns
from world import frames, grid, motion, runs
from world.limits import INPUT_SILENCE_STOP_MS

Ints = NDArray[np.int64]

APPLY, MOVED, BUSY, REPLACED = 0, 1, 2, 3  # what becomes of a move row
CODES = {MOVED: "moved", BUSY: "busy", REPLACED: "replaced"}


class Unapplied(NamedTuple):
    """A move row that was not applied, for its gateway."""

    avatar: int
    session: int
    connection: int
    code: str


def take_inputs(
    c: Columns, batch: frames.Records, now: float, own_ms: float, walkable: motion.Walkable
) -> list[Unapplied]:
    """Apply MOVE_ROW[n], each avatar's in the order of its inputs; inputs seen already are ignored."""
    rows = c.rows_of(batch["avatar"])
    fate = _fates(c, batch, rows)
    good = (fate == APPLY).nonzero()[0]
    c.heard_own[rows[good]] = own_ms
    good = good[batch["input"][good] > c.last_input[rows[good]]]
    good = good[np.lexsort((batch["input"][good], rows[good]))]
    starts = runs.starts(rows[good])
    rank = np.arange(len(good)) - np.repeat(starts, runs.sizes(starts, len(good)))
    for turn in range(int(rank.max()) + 1 if len(rank) else 0):
        claims = batch[good[rank == turn]]
        _judge(c, rows[good[rank == turn]], claims, now, walkable)
    return _unapplied(batch[fate != APPLY], fate[fate != APPLY])


def _unapplied(rows: frames.Records, fate: Ints) -> list[Unapplied]:
    """Each avatar's attach once."""
    columns = (rows[k].tolist() for k in ("avatar", "session", "connection"))
    told = (Unapplied(a, s, c, CODES[f]) for a, s, c, f in zip(*columns, fate.tolist(), strict=True))
    return list(dict.fromkeys(told))


def _fates(c: Columns, batch: frames.Records, rows: Ints) -> Ints:
    fate = np.full(len(rows), MOVED)
    here = (rows >= 0).nonzero()[0]
    at, said = rows[here], batch[here]
    same = (said["session"] == c.session[at]) & (said["connection"] == c.connection[at])
    older = (said["session"] < c.session[at]) | (
        (said["session"] == c.session[at]) & (said["connection"] < c.connection[at])
    )
    served = same & (c.gateway[at] >= 0) & ~c.frozen[at] & c.avatar[at]
    fate[here] = np.where(served, APPLY, np.where(older, REPLACED, BUSY))
    return fate


def _judge(c: Columns, rows: Ints, said: frames.Records, now: float, walkable: motion.Walkable) -> None:
    """One claim per row. A refused one leaves the avatar standing where it was last checked, and says so."""
    new = said["input"] > c.last_input[rows]  # the same input twice in one batch
    rows, said = rows[new], said[new]
    claims = motion.Claims(*(said[k].astype(np.float64) for k in ("time", "x", "y", "vx", "vy")))
    last = motion.Footing(c.x0[rows], c.y0[rows], c.budget[rows], c.filled_at[rows])
    judged = motion.judge(claims, last, now, walkable)
    yes, no = rows[judged.accepted], rows[~judged.accepted]
    c.last_input[rows] = said["input"]
    stand(c, no, now)
    c.flags[no] = frames.FLAG_CORRECTED
    c.budget[yes], c.filled_at[yes] = judged.budget[judged.accepted], now
    c.x0[yes] = c.at_x[yes] = claims.x[judged.accepted]
    c.y0[yes] = c.at_y[yes] = claims.y[judged.accepted]
    c.vx[yes], c.vy[yes] = claims.vx[judged.accepted], claims.vy[judged.accepted]
    c.t0[yes], c.flags[yes] = judged.time[judged.accepted], 0


def walk(c: Columns, now: float, own_ms: float, walkable: motion.Walkable) -> None:
    """Bring every walker to ``now``; who meets water or the border stops, and who is silent."""
    n = c.count
    rows = (((c.vx[:n] != 0) | (c.vy[:n] != 0)) & ~c.frozen[:n]).nonzero()[0]
    if len(rows):
        before = (c.at_x[rows], c.at_y[rows])
        after = motion.position(c.x0[rows], c.y0[rows], c.vx[rows], c.vy[rows], c.t0[rows], now)
        silent = c.avatar[rows] & ((c.gateway[rows] < 0) | (own_ms - c.heard_own[rows] >= INPUT_SILENCE_STOP_MS))
        moved = motion.advance(before, after, silent, walkable)
        c.at_x[rows], c.at_y[rows] = moved.x, moved.y
        stand(c, rows[moved.stopped], now)
        c.subcell[rows] = grid.subcells_at(c.at_x[rows], c.at_y[rows])
    _place_claimed(c)


def _place_claimed(c: Columns) -> None:
    """Avatars that a claim put somewhere and that stand there."""
    rows = (c.avatar[: c.count] & ~c.frozen[: c.count]).nonzero()[0]
    if len(rows):
        c.subcell[rows] = grid.subcells_at(c.at_x[rows], c.at_y[rows])


def stand(c: Columns, rows: Ints, now: float) -> None:
    """Stop these where they were last checked; the way they walked unclaimed is paid from their budgets."""
    paid = np.hypot(c.at_x[rows] - c.x0[rows], c.at_y[rows] - c.y0[rows])
    c.budget[rows] = motion.fill_budget(c.budget[rows], c.filled_at[rows], now) - paid
    c.filled_at[rows] = now
    c.x0[rows], c.y0[rows], c.t0[rows] = c.at_x[rows], c.at_y[rows], now
    c.vx[rows] = c.vy[rows] = 0.0


def due(c: Columns, now: float) -> Ints:
    """Rows that need a motion record now: new ones, and those observers would misjudge."""
    n = c.count
    # what stands still is told once
    rows: Ints = ((c.avatar[:n] | (c.said_subcell[:n] < 0)) & ~c.frozen[:n]).nonzero()[0]
    if not len(rows):
        return rows
    said = motion.Published(
        c.said_x[rows],
        c.said_y[rows],
        c.said_vx[rows],
        c.said_vy[rows],
        c.said_time[rows],
        c.said_subcell[rows],
        c.said_input[rows],
    )
    actual = motion.Actual(c.at_x[rows], c.at_y[rows], c.vx[rows], c.vy[rows], c.subcell[rows], c.last_input[rows])
    wanted = motion.must_publish(said, actual, now) | (c.flags[rows] != c.said_flags[rows])
    chosen: Ints = rows[wanted]
    return chosen
