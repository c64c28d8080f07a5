"""What a publisher's cell holds, as a number: publisher and subscriber compute it alike. Pure.

Motion and properties count by (epoch, version); area events do not, they leave nothing behind.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from world.frames import entity_hash, entity_hash_of

HASH_MASK = (1 << 64) - 1
_ARRAY_ROWS = 16  # from so many on arrays are faster
_GROUP, _VERSION = 0x9E3779B1, 0x85EBCA6B  # odd constants that spread small numbers (Knuth; xxHash)


def property_key(groups: Mapping[int, tuple[int, Any]]) -> int:
    """{group: (version, …)} -> 32 bits that change with every version; 0 for none; the order does not matter."""
    return sum(((group + 1) * _GROUP ^ version) * _VERSION for group, (version, _fields) in groups.items()) & 0xFFFFFFFF


def content_hashes(rows: Iterable[tuple[int, int, int, int]]) -> list[int]:
    """(entity, epoch, motion version, property key) rows -> the hash of each; their sum & HASH_MASK is the hash of the
    whole, as a digest row gives it."""
    given = list(rows)
    if len(given) < _ARRAY_ROWS:
        return [entity_hash_of(*row) for row in given]
    table = np.array(given, np.uint64).reshape(-1, 4)
    hashes: list[int] = entity_hash(*table.T).tolist()
    return hashes
