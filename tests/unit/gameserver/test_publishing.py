import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameserver import publishing
from gameserver.columns import Columns
from gameserver.publishing import Publishing, motion_frames, sort_key
from world import frames, grid
from world.channels.publisher import CellPublisher
from world.limits import AREA_EVENT_BYTES, CHANGES_PER_TICK, PROPERTY_BYTES, STATE_FRAME_BYTES

NOW = 1_700_000_000_000


class Stage:
    """Columns and their publishing, listened to everywhere unless told otherwise."""

    def __init__(self, listened: bool = True) -> None:
        self.columns = Columns()
        self.core = CellPublisher(3, 5)
        self.core.listeners[:] = int(listened)
        self.publishing = Publishing(self.columns, self.core)
        self.sent: list[tuple[int, frames.Head, list[frames.Slice]]] = []

    def add(self, entity: int, x: float, y: float, epoch: int = 1, version: int = 1) -> None:
        row = self.columns.add(entity)
        self.columns.epoch[row], self.columns.version[row] = epoch, version
        self.place(entity, x, y)

    def place(self, entity: int, x: float, y: float) -> None:
        c, row = self.columns, self.columns.row[entity]
        c.x0[row] = c.at_x[row] = x
        c.y0[row] = c.at_y[row] = y
        c.subcell[row] = grid.subcell_at(x, y)

    def flush(self, *movers: int, now: int = NOW) -> list[frames.Slice]:
        """This tick's slices, in order of sub-cells."""
        self.sent.clear()
        rows = np.array(sorted(self.columns.row[e] for e in movers), np.int64)
        self.publishing.flush(rows, now, 0.0, self._publish)
        slices = [s for _cell, _head, some in self.sent for s in some]
        return sorted(slices, key=lambda s: grid.subcell_of_place(s.head.cell, s.head.place_or_count))

    def _publish(self, cell: int, body: bytes) -> bool:
        head, slices = frames.split_frame(body)
        self.sent.append((cell, head, [frames.read_slice(piece) for _place, piece in slices]))
        return True

    def snapshot(self, cell: int) -> list[frames.Slice]:
        return [frames.read_slice(piece) for piece in self.publishing.snapshot(cell, NOW)]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 700), st.floats(0, 700)), max_size=60))
def test_packed_motion_frames_read_back_as_packed_one_by_one(places: list[tuple[float, float]]) -> None:
    """Against the plain encoders of world/frames.py."""
    records = np.zeros(len(places), frames.MOTION)
    records["entity"] = np.arange(len(places)) + (1 << 48)
    records["x"], records["y"] = [p[0] for p in places], [p[1] for p in places]
    subcells = grid.subcells_at(np.array([p[0] for p in places]), np.array([p[1] for p in places]))
    order = np.argsort(sort_key(subcells), kind="stable")
    keys, records = sort_key(subcells)[order], records[order]
    sequences = {int(cell): int(cell) % 97 + 1 for cell in keys // publishing.PLACES}
    plain = []
    for cell in sorted(sequences):
        slices = [
            frames.slice_bytes(
                frames.SLICE, key % 16, cell, 3, 5, sequences[cell], NOW, [frames.motion_block(records[keys == key])]
            )
            for key in sorted(set(keys[keys // 16 == cell].tolist()))
        ]
        plain.append((cell, frames.frame_bytes(cell, 3, 5, sequences[cell], NOW, slices)))
    assert motion_frames(keys, records, sequences, 3, 5, NOW) == plain


def test_each_cell_is_one_frame_with_a_slice_per_subcell() -> None:
    stage = Stage()
    for entity, x in ((1, 10.0), (2, 40.0), (3, 12.0), (4, 200.0)):
        stage.add(entity, x, 10.0)
    slices = stage.flush(1, 2, 3, 4)
    assert [head.place_or_count for _cell, head, _slices in stage.sent] == [2, 1]
    assert [s.motion["entity"].tolist() for s in slices] == [[1, 3], [2], [4]]
    assert [s.head.sequence for s in slices] == [1, 1, 1]


def test_a_crossing_writes_a_full_record_to_the_new_and_a_leave_to_the_old() -> None:
    stage = Stage()
    stage.add(1, 120.0, 10.0)
    stage.publishing.set_property(1, 0, 4, b'["Ana"]')
    stage.flush(1)
    stage.place(1, 130.0, 10.0)
    old, new = stage.flush(1)
    assert (old.head.cell, new.head.cell) == (0, 1)
    assert old.leaves.tolist() == [(1, 1, 2, grid.subcell_at(130.0, 10.0))]
    assert new.motion["version"].tolist() == [2]
    assert [(p.version, p.fields) for p in new.properties] == [(4, b'["Ana"]')]


def test_a_property_change_alone_travels_without_motion() -> None:
    stage = Stage()
    stage.add(1, 10.0, 10.0)
    stage.flush(1)
    assert stage.publishing.set_property(1, 0, 2, b"[5]")
    assert not stage.publishing.set_property(1, 0, 2, b"[6]")
    (piece,) = stage.flush()
    assert len(piece.motion) == 0
    assert [p.fields for p in piece.properties] == [b"[5]"]
    assert stage.flush() == []


def test_leaving_and_coming_back_at_a_higher_epoch_in_one_tick_says_both() -> None:
    stage = Stage()
    stage.add(1, 10.0, 10.0, epoch=1)
    stage.flush(1)
    stage.publishing.leave(1, frames.DESPAWNED)
    stage.columns.remove(1)
    stage.add(1, 10.0, 10.0, epoch=2)
    (piece,) = stage.flush(1)
    assert piece.leaves.tolist() == [(1, 1, 2, frames.DESPAWNED)]
    assert piece.motion["epoch"].tolist() == [2]


def test_events_and_hand_overs_ride_in_the_entitys_slice() -> None:
    stage = Stage()
    stage.add(1, 10.0, 10.0)
    stage.add(2, 10.0, 10.0)
    stage.flush(1, 2)
    stage.publishing.event(1, b'{"kind":"say"}')
    stage.publishing.hand(2, 9, 4)
    stage.columns.remove(2)
    (piece,) = stage.flush()
    assert [(e.entity, e.number, e.body) for e in piece.events] == [(1, 1, b'{"kind":"say"}')]
    assert piece.handed.tolist() == [(2, 9, 4)]
    assert len(piece.leaves) == 0


def test_nothing_is_built_for_a_cell_nobody_listens_to_yet_its_sequence_goes_on() -> None:
    stage = Stage(listened=False)
    stage.core.subscription(1, True)
    for entity, x in ((1, 10.0), (2, 200.0)):
        stage.add(entity, x, 10.0)
    stage.publishing.set_property(1, 0, 1, b"[]")
    stage.flush(1, 2)
    assert [cell for cell, _head, _slices in stage.sent] == [1]
    assert stage.core.sequences[:2].tolist() == [1, 1]
    assert (stage.core.statistics.published, stage.core.statistics.suppressed) == (1, 1)


def test_a_snapshot_says_all_that_was_published_and_nothing_else() -> None:
    stage = Stage()
    stage.add(1, 10.0, 10.0)
    stage.add(2, 40.0, 10.0)
    stage.publishing.set_property(2, 0, 3, b"[1]")
    stage.flush(1, 2)
    stage.add(9, 10.0, 10.0)  # not yet published
    first, second = stage.snapshot(0)
    assert (first.motion["entity"].tolist(), second.motion["entity"].tolist()) == ([1], [2])
    assert [p.fields for p in second.properties] == [b"[1]"]
    assert first.head.sequence == int(stage.core.sequences[0])
    assert stage.snapshot(7) == []


def test_beyond_the_bound_a_change_costs_a_sequence_so_that_observers_take_a_snapshot() -> None:
    stage = Stage()
    stage.add(1, 10.0, 10.0)
    stage.flush(1)
    stage.publishing._room = 0
    stage.publishing.set_property(1, 0, 1, b"[1]")
    assert stage.flush() == []
    assert stage.core.sequences[0] == 2
    assert stage.publishing.changes_lost == 1
    assert stage.core.frames_after(0, 1, 0.0) == []
    assert stage.publishing._room == CHANGES_PER_TICK


def test_who_goes_and_comes_back_without_a_group_in_one_tick_is_published_without_it() -> None:
    stage = Stage()
    stage.add(1, 10.0, 10.0)
    stage.flush(1)
    stage.publishing.set_property(1, 1, 1, b"[1]")
    stage.publishing.leave(1, frames.DESPAWNED)
    stage.columns.remove(1)
    stage.add(1, 10.0, 10.0, epoch=2)
    (piece,) = stage.flush(1)
    assert list(piece.properties) == []


def test_a_frame_beyond_the_bound_is_not_sent_and_its_sequence_is_spent() -> None:
    stage = Stage()
    stage.add(1, 10.0, 10.0)
    stage.flush(1)
    for _ in range(STATE_FRAME_BYTES // AREA_EVENT_BYTES + 1):
        stage.publishing.event(1, b"x" * AREA_EVENT_BYTES)
    assert stage.flush() == []
    assert (stage.publishing.frames_oversized, int(stage.core.sequences[0])) == (1, 2)
    with pytest.raises(ValueError, match="bytes"):
        stage.publishing.event(1, b"x" * (AREA_EVENT_BYTES + 1))
    with pytest.raises(ValueError, match="bytes"):
        stage.publishing.set_property(1, 0, 9, b"x" * (PROPERTY_BYTES + 1))
