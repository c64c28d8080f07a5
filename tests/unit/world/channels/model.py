"""A publisher and a subscriber joined by a lossy network, in virtual ms: the model of the channel tests."""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from world import frames
from world.channels import receiver as rx
from world.channels.publisher import CellPublisher, Summary

CELLS = (5, 6, 7)
STEP_MS = 50


@dataclass
class Faults:
    """Chances per message."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay_ms: int = 0  # state frames: each its own, so they overtake one another
    call_loss: float = 0.0
    lost_subscription: float = 0.0
    digests: bool = True


class Truth:
    """What the publisher has: {cell: {entity: version}}."""

    def __init__(self) -> None:
        self.cells: dict[int, dict[int, int]] = {cell: {} for cell in CELLS}

    def summary(self) -> Summary:
        full = [(c, len(e), content_hash(e)) for c, e in sorted(self.cells.items()) if e]
        return Summary(
            np.array([r[0] for r in full], np.int64),
            np.array([r[1] for r in full], np.int64),
            np.array([r[2] for r in full], np.uint64),
        )


def content_hash(entities: dict[int, int]) -> int:
    return sum(e * 1_000_003 + v * 7_919 for e, v in entities.items()) % 2**64


def slice_of(kind: int, cell: int, generation: int, sequence: int, now: int, rows: dict[int, int]) -> bytes:
    """Entity -> version; version 0 means it left."""
    motion = np.zeros(sum(v > 0 for v in rows.values()), frames.MOTION)
    motion["entity"] = [e for e, v in rows.items() if v]
    motion["version"] = [v for v in rows.values() if v]
    leaves = np.array([(e, 0, 1 << 30, frames.DESPAWNED) for e, v in rows.items() if not v], frames.LEAVE)
    blocks = [frames.motion_block(motion), frames.leave_block(leaves)]
    piece = frames.slice_bytes(kind, 0, cell, 1, generation, sequence, now, blocks)
    return frames.frame_bytes(cell, 1, generation, sequence, now, [piece])


class Net:
    """One publisher (number 1), one subscriber, and what flies between them."""

    def __init__(self, seed: int, faults: Faults, *, hashes: bool = True) -> None:
        self.random = random.Random(seed)
        self.faults = faults
        self.now = 0
        self.flying: list[tuple[float, int, Callable[[], None]]] = []
        self.count = 0
        self.version = 0
        self.truth = Truth()
        self.publisher = CellPublisher(1, 1)
        self.subscribed: set[int] = set()
        self.receiver = rx.CellReceiver(compare_hashes=hashes)
        self.shown: dict[int, dict[int, int]] = {}
        self.before_snapshot: list[int] = []  # cells of which a delta was delivered before any snapshot or empty join
        self.effects: list[rx.Effect] = []
        self.perform(self.receiver.publisher_up(1, 1, 0.0))

    # -- the network
    def later(self, delay: float, what: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.flying, (self.now + delay, self.count, what))

    def state(self, deliver: Callable[[], None]) -> None:
        if self.random.random() < self.faults.loss:
            return
        self.later(self.random.uniform(0, self.faults.delay_ms), deliver)
        if self.random.random() < self.faults.duplicate:
            self.later(self.random.uniform(0, self.faults.delay_ms), deliver)

    def call(self, serve: Callable[[], Callable[[], None]]) -> None:
        if self.random.random() < self.faults.call_loss:
            return
        self.later(2, lambda: self.later(2, serve()))

    # -- the publisher
    def change(self, cell: int, rows: dict[int, int]) -> None:
        held = self.truth.cells[cell]
        for entity, version in rows.items():
            held[entity] = version
            if not version:
                del held[entity]
        sequence = int(self.publisher.advance(np.array([cell]))[0])
        self.publisher.touched(np.array([cell]), self.now)
        if self.publisher.listened(cell):
            body = slice_of(frames.SLICE, cell, 1, sequence, self.now, rows)
            self.publisher.sent(cell, body, self.now)
            self.state(lambda: self.perform(self.receiver.frame(body, self.now)))

    def random_change(self) -> None:
        cell = self.random.choice(CELLS)
        self.version += 1
        entity = self.random.randrange(1, 5)
        gone = entity in self.truth.cells[cell] and self.random.random() < 0.4
        self.change(cell, {entity: 0 if gone else self.version})

    def digest(self) -> None:
        if self.faults.digests:
            self.send_digest(self.publisher.full_digest(self.truth.summary(), self.now, self.now))

    def send_digest(self, body: bytes) -> None:
        self.state(lambda: self.perform(self.receiver.digest(body, self.now, self.hash_of)))

    def hash_of(self, _publisher: int, cell: int) -> tuple[int, int]:
        held = self.shown.get(cell, {})
        return len(held), content_hash(held)

    def subscribe(self, cell: int) -> None:
        if cell not in self.subscribed and self.random.random() >= self.faults.lost_subscription:
            self.subscribed.add(cell)
            self.publisher.subscription(cell, True)
            if self.faults.digests:
                self.send_digest(self.publisher.answer_digest([cell], self.truth.summary(), self.now))

    def unsubscribe(self, cell: int) -> None:
        if cell in self.subscribed:
            self.subscribed.discard(cell)
            self.publisher.subscription(cell, False)

    def serve_snapshot(self, cell: int) -> Callable[[], None]:
        sequence = int(self.publisher.sequences[cell])
        body = slice_of(frames.SNAPSHOT, cell, 1, sequence, self.now, self.truth.cells[cell])
        return lambda: self.perform(self.receiver.snapshot(1, cell, 1, sequence, body, self.now))

    def serve_repair(self, cell: int, after: int) -> Callable[[], None]:
        bodies = self.publisher.frames_after(cell, after, self.now)
        return lambda: self.perform(self.receiver.repaired(1, cell, 1, bodies, self.now))

    # -- the subscriber
    def perform(self, effects: list[rx.Effect]) -> None:
        for effect in effects:
            self.effects.append(effect)
            self._perform(effect)

    def _perform(self, effect: rx.Effect) -> None:
        match effect:
            case rx.Subscribe(_, cell):
                self.later(1, lambda: self.subscribe(cell))
            case rx.Unsubscribe(_, cell):
                self.later(1, lambda: self.unsubscribe(cell))
            case rx.AskSnapshot(_, cell):
                self.call(lambda: self.serve_snapshot(cell))
            case rx.AskRepair(_, cell, after):
                self.call(lambda: self.serve_repair(cell, after))
            case rx.Apply(_, cell, body, snapshot):
                self.show(cell, body, snapshot)
            case rx.Forget(_, cell):
                self.shown[cell] = {}

    def show(self, cell: int, body: bytes, snapshot: bool) -> None:
        held = {} if snapshot else self.shown.setdefault(cell, {})
        for _place, piece in frames.split_frame(body)[1]:
            decoded = frames.read_slice(piece)
            held.update(zip(decoded.motion["entity"].tolist(), decoded.motion["version"].tolist(), strict=True))
            for entity in decoded.leaves["entity"].tolist():
                held.pop(entity, None)
        self.shown[cell] = held

    # -- time
    def run(self, ms: int, changes_per_step: float = 0.0) -> None:
        end = self.now + ms
        while self.now < end:
            self.now += STEP_MS
            while self.flying and self.flying[0][0] <= self.now:
                heapq.heappop(self.flying)[2]()
            if self.random.random() < changes_per_step:
                self.random_change()
            if self.now % 250 == 0:
                self.digest()
            self.perform(self.receiver.tick(self.now))

    def converged(self) -> bool:
        return all(self.shown.get(cell, {}) == self.truth.cells[cell] for cell in CELLS)
