from typing import Any

import numpy as np
import pytest

from gameserver.ghosts import Ghosts
from world import frames, grid
from world.channels.content import HASH_MASK, content_hashes, property_key
from world.limits import HIDE_AFTER_LEAVE_MS, PUBLISHER_HIDE_MS

E = (1 << 48) + 5
HERE, EAST = grid.subcell_at(100.0, 10.0), grid.subcell_at(130.0, 10.0)
CELL, NEXT_CELL = grid.cell_of_subcell(HERE), grid.cell_of_subcell(EAST)


def fresh(_publisher: int) -> bool:
    return False


def record(epoch: int, version: int, x: float = 100.0, vx: float = 0.0, entity: int = E) -> bytes:
    return frames.motion_block(np.array([(entity, epoch, version, x, 10.0, vx, 0.0, 0, 0)], frames.MOTION))


def left(epoch: int, version: int, next_subcell: int = frames.DESPAWNED) -> bytes:
    return frames.leave_block(np.array([(E, epoch, version, next_subcell)], frames.LEAVE))


def handed(epoch: int, publisher: int) -> bytes:
    return frames.handed_block(np.array([(E, epoch, publisher)], frames.HANDED))


def group(epoch: int, version: int, fields: bytes, number: int = 0) -> bytes:
    return frames.property_block([frames.Property(E, epoch, version, number, fields)])


class Stage:
    def __init__(self, watched: bool = True) -> None:
        self.ghosts = Ghosts(watched=lambda cell: watched)

    def apply(
        self, *blocks: bytes, publisher: int = 1, sub: int = HERE, now: float = 0.0, snapshot: bool = False
    ) -> None:
        cell = grid.cell_of_subcell(sub)
        kind = frames.SNAPSHOT if snapshot else frames.SLICE
        piece = frames.slice_bytes(kind, grid.place_in_cell(sub), cell, publisher, 1, 1, 1_000, blocks)
        self.ghosts.apply(publisher, cell, frames.frame_bytes(cell, publisher, 1, 1, 1_000, [piece]), snapshot, now)

    def empty_snapshot(self, publisher: int = 1, cell: int = CELL) -> None:
        self.ghosts.apply(publisher, cell, frames.frame_bytes(cell, publisher, 1, 1, 1_000, []), True, 0.0)

    def age(self) -> tuple[int, int] | None:
        view = self.ghosts.view(E, 1_000, fresh)
        return None if view is None else (view.epoch, view.motion_version)

    def fields(self, number: int = 0) -> list[Any]:
        view = self.ghosts.view(E, 1_000, fresh)
        assert view is not None
        return view.fields(number)


def test_only_newer_records_apply_by_epoch_and_version_alone() -> None:
    stage = Stage()
    for epoch, version, expected in (
        (2, 5, (2, 5)),
        (2, 4, (2, 5)),
        (1, 9, (2, 5)),
        (2, 6, (2, 6)),
        (3, 1, (3, 1)),
    ):
        stage.apply(record(epoch, version))
        assert stage.age() == expected


def test_the_newest_publisher_counts_whoever_speaks_last() -> None:
    stage = Stage()
    stage.apply(record(3, 1), publisher=2)
    stage.apply(record(2, 90), publisher=1)
    assert stage.age() == (3, 1)
    stage.ghosts.forget(1, CELL)
    assert stage.age() == (3, 1)
    stage.ghosts.forget(2, CELL)
    assert stage.age() is None


def test_a_leave_removes_only_who_still_stands_there_and_is_not_newer() -> None:
    stage = Stage()
    stage.apply(record(1, 5))
    stage.apply(left(1, 4))
    assert stage.age() == (1, 5)
    stage.apply(left(1, 6), sub=HERE - 1)
    assert stage.age() == (1, 5)
    stage.apply(left(1, 6))
    assert stage.age() is None


def test_a_crossing_is_seamless_in_either_order_of_its_two_cells() -> None:
    for leave_first in (True, False):
        stage = Stage()
        stage.apply(record(1, 5))
        steps = [
            lambda s=stage: s.apply(left(1, 6, EAST)),
            lambda s=stage: s.apply(record(1, 6, 130.0), sub=EAST),
        ]
        for step in steps if leave_first else reversed(steps):
            step()
            assert stage.age() is not None
        stage.ghosts.tick(PUBLISHER_HIDE_MS)
        assert stage.age() == (1, 6)
        assert stage.ghosts.hash_of(1, CELL) == (0, 0)
        assert stage.ghosts.hash_of(1, NEXT_CELL)[0] == 1


def test_who_left_for_a_watched_cell_and_does_not_arrive_is_hidden() -> None:
    stage = Stage()
    stage.apply(record(1, 5))
    stage.apply(left(1, 6, EAST), now=1_000.0)
    stage.ghosts.tick(1_000.0 + HIDE_AFTER_LEAVE_MS - 1)
    assert stage.age() == (1, 5)
    stage.ghosts.tick(1_000.0 + HIDE_AFTER_LEAVE_MS)
    assert stage.age() is None


def test_who_left_for_an_unwatched_cell_or_despawned_goes_at_once() -> None:
    unwatched = Stage(watched=False)
    unwatched.apply(record(1, 5))
    unwatched.apply(left(1, 6, EAST))
    assert unwatched.age() is None


def test_a_handed_over_entity_is_kept_until_its_new_publisher_speaks() -> None:
    stage = Stage()
    stage.apply(record(1, 5))
    stage.apply(handed(2, 7))
    assert stage.age() == (1, 5)
    assert stage.ghosts.hash_of(1, CELL) == (0, 0)
    stage.apply(record(2, 1), publisher=7)
    stage.ghosts.tick(2 * PUBLISHER_HIDE_MS)
    assert stage.age() == (2, 1)


def test_a_snapshot_replaces_all_of_that_publisher_in_the_cell_and_of_no_other() -> None:
    stage = Stage()
    stage.apply(record(1, 5))
    stage.empty_snapshot(publisher=2)
    assert stage.age() == (1, 5)
    stage.empty_snapshot(publisher=1)
    assert stage.age() is None
    stage.apply(record(1, 6), snapshot=True)
    assert stage.age() == (1, 6)


def test_properties_and_motion_have_versions_of_their_own() -> None:
    stage = Stage()
    stage.apply(record(1, 5), group(1, 3, b"[6]"))
    stage.apply(group(1, 2, b"[9]"))
    stage.apply(record(1, 6))
    assert stage.fields() == [6]
    stage.apply(group(1, 4, b"[5]"), group(1, 1, b'["x"]', number=1))
    assert (stage.fields(), stage.fields(1), stage.fields(2)) == ([5], ["x"], [])
    stage.apply(record(2, 1), group(2, 1, b"[1]"))
    assert (stage.fields(), stage.fields(1)) == ([1], [])


def test_the_hash_is_that_of_what_the_publisher_said_and_changes_with_each_version() -> None:
    stage = Stage()
    stage.apply(record(9, 1), publisher=2)  # counts; yet publisher 1's row is hashed as publisher 1 said it
    stage.apply(record(1, 5), group(1, 3, b"[6]"))
    rows = [(E, 1, 5, property_key({0: (3, b"")}))]
    assert stage.ghosts.hash_of(1, CELL) == hash_of(rows)
    stage.apply(record(1, 2, entity=E + 1))
    stage.apply(group(1, 4, b"[5]"))
    rows = [(E, 1, 5, property_key({0: (4, b"")})), (E + 1, 1, 2, 0)]
    assert stage.ghosts.hash_of(1, CELL) == hash_of(rows)
    stage.apply(record(1, 6), group(2, 1, b"[5]"))
    rows[0] = (E, 1, 6, property_key({0: (1, b"")}))
    assert stage.ghosts.hash_of(1, CELL) == hash_of(rows)


def hash_of(rows: list[tuple[int, int, int, int]]) -> tuple[int, int]:
    """As a publisher reckons it: all anew, each time."""
    return len(rows), sum(content_hashes(rows)) & HASH_MASK


def test_positions_are_brought_forward_but_not_for_ever() -> None:
    stage = Stage()
    stage.apply(record(1, 5, x=100.0, vx=2.0))
    for world_ms, x in (
        (900, 100.0),
        (1_500, 101.0),
        (1_000 + 2 * PUBLISHER_HIDE_MS, 100.0 + 2 * PUBLISHER_HIDE_MS / 1_000),
    ):
        view = stage.ghosts.view(E, world_ms, lambda publisher: True)
        assert view is not None
        assert view.x == pytest.approx(x)
        assert view.stale


def test_near_finds_ghosts_by_where_they_stand_now() -> None:
    stage = Stage()
    stage.apply(record(1, 5, x=127.5, vx=4.0))
    near = stage.ghosts.near
    assert [g.entity for g in near(131.5, 10.0, 0.1, None, 2_000)] == [E]
    assert list(near(127.5, 10.0, 0.1, None, 2_000)) == []
    assert list(near(131.5, 10.0, 0.1, 2, 2_000)) == []


def test_a_bad_slice_is_refused() -> None:
    stage = Stage()
    with pytest.raises(frames.BadFrame):
        stage.apply(b"\x01\x00\x09\x00\x28\x00\x00\x00" + bytes(40))
