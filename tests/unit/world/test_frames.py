import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import golden_vectors
from world import frames

DOCUMENT: dict[str, Any] = json.loads(golden_vectors.PATH.read_text(encoding="utf-8"))


def test_the_committed_vectors_are_what_the_encoders_make() -> None:
    assert golden_vectors.vectors() == DOCUMENT


@pytest.mark.parametrize("vector", DOCUMENT["vectors"], ids=lambda v: v["name"])
def test_a_golden_vector_decodes_to_its_values(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    _kind, decode = golden_vectors.DECODERS[data[0]]
    assert json.loads(json.dumps(decode(data))) == vector["decoded"]


@pytest.mark.parametrize("vector", DOCUMENT["refused"], ids=lambda v: v["name"])
def test_a_damaged_vector_is_refused(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    reader = frames.read_sight if data[:1] == bytes([frames.SIGHT]) else frames.read_slice
    with pytest.raises(frames.BadFrame):
        reader(data)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_bad_frame(data: bytes) -> None:
    for read in (frames.read_slice, frames.split_frame, frames.read_digest, frames.read_sight):
        for kind in (b"", bytes([frames.SLICE]), bytes([frames.FRAME]), bytes([frames.DIGEST]), bytes([frames.SIGHT])):
            try:
                read(kind + data)
            except frames.BadFrame:
                continue


@given(st.lists(st.integers(0, 65_535), max_size=40), st.lists(st.integers(0, 65_535), max_size=40))
def test_sight_comes_back_as_it_went(entered: list[int], left: list[int]) -> None:
    assert frames.read_sight(frames.sight_bytes(entered, left)) == (entered, left)


@given(st.lists(st.tuples(st.integers(0, (1 << 64) - 1), *[st.integers(0, (1 << 32) - 1)] * 3), min_size=1, max_size=5))
def test_one_entity_hashes_alone_as_among_others(rows: list[tuple[int, int, int, int]]) -> None:
    columns = np.array(rows, np.uint64).T
    assert frames.entity_hash(*columns).tolist() == [frames.entity_hash_of(*row) for row in rows]


def test_the_cell_hash_tells_near_versions_apart_and_does_not_depend_on_order() -> None:
    ids = np.arange(1, 101, dtype=np.uint64)
    ones = np.ones(100, np.uint32)
    whole = frames.entity_hash(ids, ones, ones, ones).sum()
    assert frames.entity_hash(ids[::-1], ones, ones, ones).sum() == whole
    swapped = ones.copy()
    swapped[3], swapped[4] = 2, 0  # the sum of versions is the same
    assert frames.entity_hash(ids, ones, swapped, ones).sum() != whole
