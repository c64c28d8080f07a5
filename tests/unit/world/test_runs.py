import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from world import runs


@given(st.lists(st.integers(0, 5), max_size=30).map(sorted))
def test_runs_are_where_values_change(values: list[int]) -> None:
    begins = runs.starts(np.array(values, np.int64))
    assert begins.tolist() == [i for i, v in enumerate(values) if i == 0 or v != values[i - 1]]
    assert runs.sizes(begins, len(values)).tolist() == [values.count(v) for v in sorted(set(values))]
