"""The byte mirror and the fan-out: what a client was sent makes it hold what the publishers hold."""

import random
from collections.abc import Callable

import numpy as np
import pytest

import gateway.mirror
from gateway.fanout import Fanout, Watcher
from gateway.mirror import framed
from tests.unit.gateway.support import ManualClock
from world import frames
from world.grid import cell_at, place_in_cell, subcell_at, subcell_of_place, subcells_in_sight
from world.limits import CLIENT_BUFFER_BYTES, CLIENT_BUFFER_CLOSE_BYTES, CLIENT_SLOW_CLOSE_MS, SIGHT_HYSTERESIS_M

X, Y = 4100.0, 4100.0
CELL, SUB = cell_at(X, Y), subcell_at(X, Y)
PLACE = place_in_cell(SUB)


class FakeLink:
    """Splits what it gets into messages again."""

    def __init__(self) -> None:
        self.data = b""
        self.chunks = 0
        self.waiting = 0

    def write(self, chunk: bytes) -> None:
        self.data += chunk
        self.chunks += 1

    def buffered(self) -> int:
        return self.waiting

    def messages(self) -> list[bytes]:
        """Those since the last call."""
        data, self.data = self.data, b""
        found, at = [], 0
        while at < len(data):
            length, at = data[at + 1], at + 2
            if length == 126:
                length, at = int.from_bytes(data[at : at + 2], "big"), at + 2
            elif length == 127:
                length, at = int.from_bytes(data[at : at + 8], "big"), at + 8
            found.append(data[at : at + length])
            at += length
        return found


class Town:
    """A fan-out and what it asks of others."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.wanted: list[set[int]] = []
        self.slow: list[Watcher] = []
        self.fanout = Fanout(self.clock, self.wanted.append, self.slow.append)

    def watcher(self, x: float = X, y: float = Y) -> tuple[Watcher, FakeLink]:
        link = FakeLink()
        watcher = Watcher(link)
        self.fanout.look(watcher, x, y, 50)
        self.fanout.flush()
        link.messages()
        return watcher, link

    def delta(self, sequence: int, *places: int, publisher: int = 1, size: int = 0) -> None:
        self.fanout.apply(publisher, CELL, frame(frames.SLICE, sequence, places, publisher, size), False)

    def snapshot(self, sequence: int, *places: int, publisher: int = 1) -> None:
        self.fanout.apply(publisher, CELL, frame(frames.SNAPSHOT, sequence, places, publisher), True)


def frame(kind: int, sequence: int, places: tuple[int, ...], publisher: int = 1, size: int = 0) -> bytes:
    slices = [frames.slice_bytes(kind, place, CELL, publisher, 1, sequence, 0, []) + bytes(size) for place in places]
    return frames.frame_bytes(CELL, publisher, 1, sequence, 0, slices)


def told(link: FakeLink) -> list[tuple[int, int, int]]:
    """(kind, place, sequence) of the slices it got."""
    heads = [frames.read_head(m) for m in link.messages() if m[0] != frames.SIGHT]
    return [(h.kind, h.place_or_count, h.sequence) for h in heads]


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_messages_are_framed_as_rfc_6455_says(length: int) -> None:
    from websockets.frames import Frame, Opcode

    payload = bytes(length)
    assert framed(payload) == Frame(Opcode.BINARY, payload).serialize(mask=False)


def test_a_newcomer_gets_snapshot_then_deltas_of_what_it_sees_only() -> None:
    town = Town()
    town.snapshot(5, PLACE)
    town.delta(6, PLACE)
    link = FakeLink()
    watcher = Watcher(link)
    town.fanout.look(watcher, X, Y, 50)
    town.fanout.flush()
    sight, *slices = link.messages()
    entered, left = frames.read_sight(sight)
    assert set(entered) == subcells_in_sight(SUB, 50)
    assert left == []
    assert [(s[0], frames.read_head(s).sequence) for s in slices] == [(0x11, 5), (0x10, 6)]
    assert link.chunks == 1, "one chunk per flush"
    assert town.wanted[-1] == {*(c for c in town.wanted[-1])} >= {CELL}


def test_slices_reach_those_who_see_them_once_per_flush() -> None:
    town = Town()
    town.snapshot(1, PLACE)
    _near, link = town.watcher()
    _far, far = town.watcher(X + 1_000, Y)
    chunks = link.chunks
    town.delta(2, PLACE)
    town.delta(3, PLACE, publisher=2)
    town.fanout.flush()
    assert told(link) == [(0x10, PLACE, 2), (0x10, PLACE, 3)]
    assert link.chunks == chunks + 1
    assert told(far) == []


def test_the_same_bytes_object_goes_to_everybody() -> None:
    town = Town()
    town.snapshot(1, PLACE)
    first, _ = town.watcher()
    second, _ = town.watcher()
    town.delta(2, PLACE)
    assert first.pending[-1] is second.pending[-1], "framed once, not per client"


def test_a_fresh_snapshot_empties_what_it_no_longer_names() -> None:
    town = Town()
    town.snapshot(1, PLACE)
    _, link = town.watcher()
    town.snapshot(4)
    town.fanout.flush()
    (message,) = link.messages()
    head = frames.read_head(message)
    assert (head.kind, head.place_or_count, head.blocks, head.sequence) == (0x11, PLACE, 0, 4)


def test_a_forgotten_publisher_is_cleared_and_no_other() -> None:
    town = Town()
    town.snapshot(1, PLACE)
    town.snapshot(9, PLACE, publisher=2)
    _, link = town.watcher()
    town.fanout.forget(1, CELL)
    town.fanout.flush()
    heads = [frames.read_head(m) for m in link.messages()]
    assert [(h.publisher, h.blocks) for h in heads] == [(1, 0)]
    _, newcomer = town.watcher()
    assert town.fanout.statistics()["mirrors"] == 1
    assert newcomer.messages() == []


def test_an_empty_cell_needs_no_snapshot_before_its_first_frame() -> None:
    town = Town()
    _, link = town.watcher()
    town.delta(1, PLACE)
    town.fanout.flush()
    assert told(link) == [(0x10, PLACE, 1)]


def test_sight_has_hysteresis_and_leaving_unwatches() -> None:
    town = Town()
    watcher, link = town.watcher()
    before = watcher.subcells
    town.fanout.look(watcher, X + 32, Y, 50)
    assert watcher.subcells >= before & subcells_in_sight(subcell_at(X + 32, Y), 50 + round(SIGHT_HYSTERESIS_M))
    town.fanout.flush()
    entered, left = frames.read_sight(link.messages()[0])
    assert set(entered) == watcher.subcells - before
    assert left == sorted(before - watcher.subcells)
    chunks = link.chunks
    town.fanout.look(watcher, X + 33, Y, 50)
    town.fanout.flush()
    assert link.chunks == chunks, "nothing is said while the sub-cell stays the same"
    town.fanout.leave(watcher)
    town.fanout.flush()
    assert town.wanted[-1] == set()
    town.delta(1, PLACE)
    assert watcher.pending == []


def test_deltas_are_bounded_a_refresh_replaces_them() -> None:
    town = Town()
    town.snapshot(1, PLACE)
    for sequence in range(2, 40):
        town.delta(sequence, PLACE, size=2_000)
    assert town.fanout.refresh == {(1, CELL)}
    town.delta(40, PLACE)
    town.fanout.refreshed(1, CELL, frame(frames.SNAPSHOT, 39, (PLACE,)))
    assert town.fanout.refresh == set()
    link = FakeLink()
    town.fanout.look(Watcher(link), X, Y, 50)
    town.fanout.flush()
    assert told(link) == [(0x11, PLACE, 39), (0x10, PLACE, 40)]


def test_a_snapshot_for_all_ends_the_wish_for_one() -> None:
    town = Town()
    for sequence in range(1, 40):
        town.delta(sequence, PLACE, size=2_000)
    assert town.fanout.refresh == {(1, CELL)}
    town.snapshot(40, PLACE)
    assert town.fanout.refresh == set()


def test_an_overflowing_mirror_serves_nobody_half() -> None:
    town = Town()
    town.snapshot(1, PLACE)
    _, old = town.watcher()
    sequence = 15  # the first whose bytes are too many
    for n in range(2, sequence + 1):
        town.delta(n, PLACE, size=20_000)
    town.fanout.flush()
    old.messages()
    newcomer = FakeLink()
    town.fanout.look(Watcher(newcomer), X, Y, 50)
    town.fanout.flush()
    assert told(newcomer) == []
    town.fanout.refreshed(1, CELL, frame(frames.SNAPSHOT, sequence - 1, (PLACE,)))
    town.fanout.flush()
    assert told(newcomer) == [], "older than what was dropped"
    town.fanout.refreshed(1, CELL, frame(frames.SNAPSHOT, sequence, (PLACE,)))
    town.fanout.flush()
    assert told(newcomer) == [(0x11, PLACE, sequence)]


def test_a_slow_client_is_skipped_and_served_afresh() -> None:
    town = Town()
    town.snapshot(1, PLACE)
    watcher, link = town.watcher()
    before = watcher.subcells
    link.waiting = CLIENT_BUFFER_BYTES + 1
    town.fanout.look(watcher, X + 64, Y, 50)
    town.delta(2, PLACE)
    town.fanout.flush()
    assert watcher.pending == []
    assert told(link) == []
    town.delta(3, PLACE)
    link.waiting = CLIENT_BUFFER_BYTES // 2
    town.fanout.flush()
    sight, *slices = link.messages()
    entered, left = frames.read_sight(sight)
    assert set(entered) == watcher.subcells
    assert set(left) >= before
    assert [frames.read_head(s).sequence for s in slices] == [1, 2, 3]
    assert town.slow == []


@pytest.mark.parametrize(("waiting", "ms"), [(CLIENT_BUFFER_BYTES + 1, CLIENT_SLOW_CLOSE_MS + 1),
                                             (CLIENT_BUFFER_CLOSE_BYTES + 1, 0)])  # fmt: skip
def test_too_slow(waiting: int, ms: int) -> None:
    town = Town()
    watcher, link = town.watcher()
    link.waiting = waiting
    town.delta(1, PLACE)
    town.fanout.flush()
    town.clock.now_ms += ms
    town.fanout.flush()
    assert town.slow[-1] is watcher


class Holder:
    """A client's picture: entities by sub-cell and publisher, by the protocol's rules."""

    def __init__(self) -> None:
        self.held: dict[tuple[int, int], int] = {}  # (publisher, sub-cell) -> version

    def take(self, message: bytes) -> None:
        if message[0] == frames.SIGHT:
            _entered, left = frames.read_sight(message)
            self.held = {key: v for key, v in self.held.items() if key[1] not in left}
            return
        piece = frames.read_slice(message)
        key = (piece.head.publisher, subcell_of_place(piece.head.cell, piece.head.place_or_count))
        if piece.head.kind == frames.SNAPSHOT:
            self.held.pop(key, None)
        for row in piece.motion:
            self.held[key] = max(int(row["version"]), self.held.get(key, 0))
        if len(piece.leaves) and self.held.get(key, -1) <= int(piece.leaves[0]["version"]):
            self.held.pop(key, None)


class Publisher:
    """One entity per place, with versions; frames as a game server makes them."""

    def __init__(self, number: int, rng: random.Random) -> None:
        self.number, self.rng, self.sequence = number, rng, 0
        self.versions: dict[int, int] = {}
        self.version = 0

    def _frame(self, kind: int, blocks: dict[int, list[bytes]]) -> bytes:
        slices = [
            frames.slice_bytes(kind, place, CELL, self.number, 1, self.sequence, 0, b) for place, b in blocks.items()
        ]
        return frames.frame_bytes(CELL, self.number, 1, self.sequence, 0, slices)

    def _motion(self, version: int) -> bytes:
        return frames.motion_block(np.array([(1, 1, version, 0, 0, 0, 0, 0, 0)], frames.MOTION))

    def step(self) -> bytes:
        self.sequence += 1
        self.version += 1
        place = self.rng.randrange(16)
        if place in self.versions and self.rng.random() < 0.5:
            del self.versions[place]
            leave = np.array([(1, 1, self.version, frames.DESPAWNED)], frames.LEAVE)
            return self._frame(frames.SLICE, {place: [frames.leave_block(leave)]})
        self.versions[place] = self.version
        return self._frame(frames.SLICE, {place: [self._motion(self.version)]})

    def snapshot(self) -> bytes:
        return self._frame(frames.SNAPSHOT, {p: [self._motion(v)] for p, v in self.versions.items()})


@pytest.mark.parametrize("seed", range(40))
def test_a_client_holds_what_the_publishers_hold(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random walks, slow readers, refreshes, snapshots and forgotten publishers; at the end the pictures are equal."""
    monkeypatch.setattr(gateway.mirror, "MIRROR_DELTA_BYTES", 600)
    monkeypatch.setattr(gateway.mirror, "MIRROR_OVERFLOW_BYTES", 1_500)
    rng = random.Random(seed)
    town, holder, link = Town(), Holder(), FakeLink()
    watcher = Watcher(link)
    publishers = {n: Publisher(n, rng) for n in (1, 2)}
    gone: set[int] = set()

    def walk() -> None:
        town.fanout.look(watcher, X + rng.uniform(-150, 150), Y + rng.uniform(-150, 150), 50)

    def publish() -> None:
        publisher = rng.choice(list(publishers.values()))
        body = publisher.step()
        if publisher.number in gone:
            gone.discard(publisher.number)
            town.fanout.apply(publisher.number, CELL, publisher.snapshot(), True)
        else:
            town.fanout.apply(publisher.number, CELL, body, False)

    def refresh() -> None:
        for number, cell in sorted(town.fanout.refresh):
            town.fanout.refreshed(number, cell, publishers[number].snapshot())

    def flush() -> None:
        link.waiting = CLIENT_BUFFER_BYTES + 1 if rng.random() < 0.3 else 0
        town.fanout.flush()

    def forget() -> None:
        number = rng.choice((1, 2))
        gone.add(number)
        town.fanout.forget(number, CELL)

    def replace() -> None:
        number = rng.choice((1, 2))
        gone.discard(number)
        town.fanout.apply(number, CELL, publishers[number].snapshot(), True)

    actions: list[Callable[[], None]] = [publish] * 8 + [walk, refresh, flush, flush, replace]
    for _ in range(400):
        rng.choice(actions)()
        if rng.random() < 0.01:
            forget()
    for number in sorted(gone):
        town.fanout.apply(number, CELL, publishers[number].snapshot(), True)
    walk()
    refresh()
    link.waiting = 0
    town.fanout.flush()
    town.fanout.flush()
    for message in link.messages():
        holder.take(message)
    expected = {
        (p.number, subcell_of_place(CELL, place)): version
        for p in publishers.values()
        for place, version in p.versions.items()
        if subcell_of_place(CELL, place) in watcher.subcells
    }
    assert holder.held == expected
