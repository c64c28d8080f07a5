import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameserver.columns import FIRST_CAPACITY, Columns


@given(st.lists(st.integers(1, 12), max_size=80))
def test_rows_stay_dense_and_found_whatever_comes_and_goes(toggles: list[int]) -> None:
    columns, model = Columns(), dict[int, float]()
    for step, entity in enumerate(toggles):
        if entity in model:
            del model[entity]
            columns.remove(entity)
        else:
            model[entity] = float(step)
            columns.x0[columns.add(entity)] = step
    assert columns.count == len(model)
    assert {e: float(columns.x0[columns.row[e]]) for e in model} == model
    assert sorted(columns.entity[: columns.count].tolist()) == sorted(model)
    asked = np.arange(1, 13, dtype=np.uint64)
    assert (columns.rows_of(asked) >= 0).tolist() == [int(e) in model for e in asked]


def test_capacity_doubles_and_keeps_every_value() -> None:
    columns = Columns()
    for entity in range(FIRST_CAPACITY + 1):
        row = columns.add(entity)  # may replace every array
        columns.y0[row] = entity
    assert columns.capacity == 2 * FIRST_CAPACITY
    assert columns.y0[: columns.count].tolist() == list(range(FIRST_CAPACITY + 1))


def test_a_reused_row_remembers_nothing() -> None:
    columns = Columns()
    columns.session[columns.add(1)] = 9
    columns.remove(1)
    row = columns.add(2)
    assert (columns.session[row], columns.gateway[row], columns.said_subcell[row]) == (0, -1, -1)
    with pytest.raises(ValueError, match="here already"):
        columns.add(2)
