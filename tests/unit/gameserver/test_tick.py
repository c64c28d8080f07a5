from typing import Any

import numpy as np
from numpy.typing import NDArray

from gameserver import tick
from gameserver.columns import Columns
from world import frames, grid, motion
from world.limits import INPUT_SILENCE_STOP_MS

NOW, OWN = 1_000_000.0, 5_000.0
ANA, BEN = 101, 102


def land(xs: motion.Floats, ys: motion.Floats) -> NDArray[Any]:
    return np.ones(len(xs), np.bool_)


def pond(xs: motion.Floats, ys: motion.Floats) -> NDArray[Any]:
    return xs < 110.0


def columns(*avatars: int, x: float = 100.0) -> Columns:
    c = Columns()
    for avatar in avatars:
        row = c.add(avatar)
        c.avatar[row] = True
        c.x0[row] = c.at_x[row] = x
        c.y0[row] = c.at_y[row] = 100.0
        c.t0[row] = c.filled_at[row] = NOW
        c.budget[row] = motion.BUDGET_M
        c.subcell[row] = grid.subcell_at(x, 100.0)
        c.gateway[row], c.session[row], c.connection[row], c.heard_own[row] = 0, 7, 2, OWN
    return c


def move(avatar: int, number: int, x: float, vx: float = 0.0, session: int = 7, connection: int = 2) -> Any:
    return (avatar, session, connection, 1, number, int(NOW), x, 100.0, vx, 0.0)


def take(c: Columns, *rows: Any, now: float = NOW, walkable: motion.Walkable = land) -> list[tick.Unapplied]:
    return tick.take_inputs(c, np.array(list(rows), frames.MOVE_ROW), now, OWN, walkable)


def test_inputs_are_applied_in_their_order_however_they_arrive() -> None:
    c = columns(ANA, BEN)
    assert take(c, move(ANA, 3, 102.0, 1.0), move(BEN, 1, 100.5), move(ANA, 2, 101.0, 6.0), move(ANA, 3, 150.0)) == []
    assert (c.x0[0], c.vx[0], c.last_input[0], c.flags[0]) == (102.0, 1.0, 3, 0)
    assert (c.x0[1], c.last_input[1]) == (100.5, 1)


def test_a_way_around_water_counts_though_its_steps_arrive_in_reverse() -> None:
    def corner(xs: motion.Floats, ys: motion.Floats) -> NDArray[Any]:
        return (xs <= 100.5) | (ys >= 102.0)

    c = columns(ANA)
    steps = [(ANA, 7, 2, 1, n, int(NOW), x, y, 0.0, 0.0) for n, x, y in ((1, 100.0, 102.5), (2, 102.5, 102.5))]
    take(c, *reversed(steps), walkable=corner)
    assert (c.x0[0], c.y0[0], c.last_input[0], c.flags[0]) == (102.5, 102.5, 2, 0)


def test_a_resend_is_ignored() -> None:
    c = columns(ANA)
    take(c, move(ANA, 5, 101.0))
    take(c, move(ANA, 5, 103.0), move(ANA, 4, 103.0))
    assert (c.x0[0], c.last_input[0]) == (101.0, 5)


def test_a_refused_claim_leaves_the_avatar_standing_and_says_so_until_the_next_good_one() -> None:
    c = columns(ANA)
    take(c, move(ANA, 1, 100.0, 6.0))
    tick.walk(c, NOW + 100, OWN, land)
    assert take(c, move(ANA, 2, 900.0, 6.0), now=NOW + 200) == []
    assert (round(float(c.at_x[0]), 3), c.vx[0], c.last_input[0], c.flags[0]) == (100.6, 0.0, 2, frames.FLAG_CORRECTED)
    take(c, move(ANA, 3, 100.6), now=NOW + 300)
    assert c.flags[0] == 0


def test_rows_that_cannot_be_applied_are_answered_once_each() -> None:
    c = columns(ANA, BEN)
    c.frozen[c.row[BEN]] = True
    answers = take(
        c,
        move(ANA, 1, 101.0, connection=1),
        move(ANA, 2, 101.0, connection=1),
        move(ANA, 3, 101.0, session=6, connection=9),
        move(ANA, 4, 101.0, connection=3),
        move(BEN, 1, 101.0),
        move(999, 1, 101.0),
    )
    assert [(a.avatar, a.session, a.connection, a.code) for a in answers] == [
        (ANA, 7, 1, "replaced"),
        (ANA, 6, 9, "replaced"),
        (ANA, 7, 3, "busy"),
        (BEN, 7, 2, "busy"),
        (999, 7, 2, "moved"),
    ]
    assert (c.last_input[0], c.last_input[1]) == (0, 0)


def test_a_detached_avatars_rows_wait() -> None:
    c = columns(ANA)
    c.gateway[0] = -1
    assert [a.code for a in take(c, move(ANA, 1, 101.0))] == ["busy"]


def test_a_walker_stops_at_the_water_and_pays_for_its_way() -> None:
    c = columns(ANA, x=109.0)
    take(c, move(ANA, 1, 109.0, 6.0), walkable=pond)
    for step in range(1, 6):
        tick.walk(c, NOW + 100 * step, OWN, pond)
    assert 109.0 < c.at_x[0] < 110.0
    assert (c.vx[0], c.x0[0]) == (0.0, c.at_x[0])
    assert c.budget[0] < motion.BUDGET_M


def test_a_silent_client_and_a_detached_one_stop() -> None:
    c = columns(ANA, BEN)
    take(c, move(ANA, 1, 100.0, 6.0), move(BEN, 1, 100.0, 6.0))
    c.gateway[c.row[BEN]] = -1
    tick.walk(c, NOW + 100, OWN + INPUT_SILENCE_STOP_MS - 1, land)
    assert c.vx[:2].tolist() == [6.0, 0.0]
    tick.walk(c, NOW + 200, OWN + INPUT_SILENCE_STOP_MS, land)
    assert c.vx[:2].tolist() == [0.0, 0.0]
    assert np.allclose(c.at_x[:2], [101.2, 100.6])


def test_a_frozen_avatar_neither_walks_nor_is_published() -> None:
    c = columns(ANA, BEN)
    take(c, move(ANA, 1, 100.0, 6.0), move(BEN, 1, 100.0, 6.0))
    c.frozen[c.row[ANA]] = True
    tick.walk(c, NOW + 100, OWN, land)
    assert c.at_x[:2].tolist() == [100.0, 100.6]
    assert tick.due(c, NOW + 100).tolist() == [c.row[BEN]]
