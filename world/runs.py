"""Runs of equal values in an ordered array, by the cheapest operations: most arrays here are a few rows long."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def starts(ordered: NDArray[Any]) -> Ints:
    """int[n] in order -> int64[m]: where each run of equal values begins."""
    first = np.empty(len(ordered), np.bool_)
    first[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return first.nonzero()[0]


def sizes(begins: Ints, total: int) -> Ints:
    """int64[m] beginnings of the runs of ``total`` rows -> int64[m]: how long each is."""
    ends = np.empty_like(begins)
    ends[:-1] = begins[1:]
    ends[-1:] = total
    found: Ints = ends - begins
    return found
