"""From cell frames to clients: watchers per sub-cell, one joined chunk per client and flush, slow clients skipped.

Frames come from ``runtime.cells``: nothing of a (publisher, cell) before its snapshot, then deltas in order.
A client is served by bytes only: slices are forwarded as published; a client that comes to see a sub-cell, or read too
slowly for a while, is served from the mirror.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from gateway.mirror import CellMirror, Placed, framed
from world.clock import Clock
from world.frames import sight_bytes, split_frame
from world.grid import cell_of_subcell, place_in_cell, subcell_at, subcell_of_place, subcells_in_sight
from world.limits import (
    CLIENT_BUFFER_BYTES,
    CLIENT_BUFFER_CLOSE_BYTES,
    CLIENT_SLOW_CLOSE_MS,
    SIGHT_HYSTERESIS_M,
)


class Link(Protocol):
    """A client's socket as the fan-out sees it."""

    def write(self, chunk: bytes) -> None:
        """Whole WebSocket messages; buffered, never waits."""
        ...

    def buffered(self) -> int:
        """Bytes written but not yet taken by the network."""
        ...


class Watcher:
    """One client's sight and what waits for its next flush."""

    __slots__ = ("_centre", "link", "pending", "slow_since_ms", "subcells", "told")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.subcells: frozenset[int] = frozenset()
        self.told: frozenset[int] = frozenset()  # the sight as of the last chunk written
        self.pending: list[bytes] = []  # bounded: emptied every flush
        self.slow_since_ms: float | None = None  # skipped since then
        self._centre = (-1, -1)

    def turn(self, x: float, y: float, radius: float) -> frozenset[int] | None:
        """The sub-cells seen from here; None: as before. What was seen stays so a little beyond the radius."""
        centre = (subcell_at(x, y), round(radius))
        if centre == self._centre:
            return None
        self._centre = centre
        kept = self.subcells & subcells_in_sight(centre[0], centre[1] + round(SIGHT_HYSTERESIS_M))
        sight = subcells_in_sight(*centre) | kept
        return None if sight == self.subcells else sight


class Fanout:
    """All watchers of one gateway, and the mirror that serves them."""

    def __init__(self, clock: Clock, want: Callable[[set[int]], None], too_slow: Callable[[Watcher], None]) -> None:
        self.slices = self.chunks = self.bytes = self.skips = self.fresh = 0  # counted, for the metrics
        self._clock = clock
        self._want = want
        self._too_slow = too_slow
        self._watchers: dict[int, set[Watcher]] = {}  # sub-cell -> who sees it
        self._cells: dict[int, int] = {}  # cell -> (watcher, sub-cell) pairs
        self._cells_changed = False
        self._mirrors: dict[int, dict[int, CellMirror]] = {}  # cell -> publisher -> mirror
        self._dirty: set[Watcher] = set()
        self._slow: set[Watcher] = set()
        self.refresh: set[tuple[int, int]] = set()  # (publisher, cell) whose mirror wants a fresh snapshot

    # -- frames in -----------------------------------------------------------------------------------------------------
    def apply(self, publisher: int, cell: int, body: bytes, snapshot: bool) -> None:
        """A cell frame in order, or a snapshot that replaces all of this publisher in this cell. Raises BadFrame."""
        head, slices = split_frame(body)
        mirror = self._mirrors.get(cell, {}).get(publisher)
        if snapshot and mirror is None:
            mirror = CellMirror(head, slices)
            self._mirrors.setdefault(cell, {})[publisher] = mirror
            self._forward(cell, [(place, m) for place, _ in slices for m in mirror.serve(place)])
        elif snapshot and mirror is not None:
            self._forward(cell, mirror.replace(head, slices))
            self.refresh.discard((publisher, cell))
        else:
            if mirror is None:  # the cell was empty so far, and the publisher's digest has said so
                mirror = self._mirrors.setdefault(cell, {})[publisher] = CellMirror(head, [])
            self._forward(cell, mirror.add(head, slices))
            if mirror.wants_refresh:
                self.refresh.add((publisher, cell))

    def forget(self, publisher: int, cell: int) -> None:
        """Nothing of this publisher is in this cell any more, or the cell is left."""
        mirror = self._mirrors.get(cell, {}).pop(publisher, None)
        self.refresh.discard((publisher, cell))
        if mirror is not None:
            self._forward(cell, mirror.empties(mirror.places()))
        if not self._mirrors.get(cell):
            self._mirrors.pop(cell, None)

    def refreshed(self, publisher: int, cell: int, body: bytes) -> None:
        """The fresh snapshot asked for. Raises BadFrame."""
        mirror = self._mirrors.get(cell, {}).get(publisher)
        if mirror is None:
            return
        waited = not mirror.whole
        head, slices = split_frame(body)
        if not mirror.rebase(head, slices):
            return
        self.refresh.discard((publisher, cell))
        if waited:
            self._forward(cell, [(place, m) for place in sorted(mirror.places()) for m in mirror.serve(place)])

    def _forward(self, cell: int, messages: Iterable[Placed]) -> None:
        for place, message in messages:
            watchers = self._watchers.get(subcell_of_place(cell, place))
            if watchers is None:
                continue
            self.slices += len(watchers)
            for watcher in watchers:
                watcher.pending.append(message)
            self._dirty |= watchers

    # -- watchers ------------------------------------------------------------------------------------------------------
    def look(self, watcher: Watcher, x: float, y: float, radius: float) -> None:
        """The watcher sees this circle from now on: told what came and went, and served what came."""
        sight = watcher.turn(x, y, radius)
        if sight is not None:
            self._see(watcher, sight)

    def leave(self, watcher: Watcher) -> None:
        for subcell in watcher.subcells:
            self._unwatch(watcher, subcell)
        watcher.subcells = frozenset()
        watcher.pending.clear()
        self._dirty.discard(watcher)
        self._slow.discard(watcher)

    def _see(self, watcher: Watcher, sight: frozenset[int]) -> None:
        entered, left = sorted(sight - watcher.subcells), sorted(watcher.subcells - sight)
        watcher.subcells = sight
        for subcell in left:
            self._unwatch(watcher, subcell)
        watcher.pending.append(framed(sight_bytes(entered, left)))
        for subcell in entered:
            self._watch(watcher, subcell)
            watcher.pending += self._serve(subcell)
        self._dirty.add(watcher)

    def _watch(self, watcher: Watcher, subcell: int) -> None:
        self._watchers.setdefault(subcell, set()).add(watcher)
        cell = cell_of_subcell(subcell)
        self._cells_changed |= cell not in self._cells
        self._cells[cell] = self._cells.get(cell, 0) + 1

    def _unwatch(self, watcher: Watcher, subcell: int) -> None:
        watchers = self._watchers[subcell]
        watchers.discard(watcher)
        if not watchers:
            del self._watchers[subcell]
        cell = cell_of_subcell(subcell)
        self._cells[cell] -= 1
        if not self._cells[cell]:
            del self._cells[cell]
            self._cells_changed = True

    def _serve(self, subcell: int) -> list[bytes]:
        """Everything known of a sub-cell, of every publisher."""
        mirrors = self._mirrors.get(cell_of_subcell(subcell))
        if not mirrors:
            return []
        place = place_in_cell(subcell)
        return [message for mirror in mirrors.values() for message in mirror.serve(place)]

    # -- the flush -----------------------------------------------------------------------------------------------------
    def idle(self) -> bool:
        """Nothing to flush."""
        return not (self._dirty or self._slow or self._cells_changed)

    def flush(self) -> None:
        """Write what waits, one chunk per client; tell the subscriber which cells are watched."""
        if self._cells_changed:
            self._cells_changed = False
            self._want(set(self._cells))
        dirty, self._dirty = self._dirty | self._slow, set()
        for watcher in dirty:
            self._flush(watcher)

    def _flush(self, watcher: Watcher) -> None:
        buffered = watcher.link.buffered()
        if watcher.slow_since_ms is not None or buffered > CLIENT_BUFFER_BYTES:
            self._flush_slow(watcher, buffered)
        if watcher.slow_since_ms is None and watcher.pending:
            chunk = b"".join(watcher.pending)
            watcher.pending.clear()
            watcher.told = watcher.subcells
            self.chunks += 1
            self.bytes += len(chunk)
            watcher.link.write(chunk)

    def _flush_slow(self, watcher: Watcher, buffered: int) -> None:
        """Skip it: drop what waits. Once it has read half of its bound away, it starts again from nothing."""
        now = self._clock.monotonic_ms()
        watcher.pending.clear()
        if watcher.slow_since_ms is None:
            watcher.slow_since_ms = now
            self._slow.add(watcher)
            self.skips += 1
        if buffered <= CLIENT_BUFFER_BYTES // 2:
            self._slow.discard(watcher)
            watcher.slow_since_ms = None
            self._start_anew(watcher)
        elif buffered > CLIENT_BUFFER_CLOSE_BYTES or now - watcher.slow_since_ms > CLIENT_SLOW_CLOSE_MS:
            self._too_slow(watcher)

    def _start_anew(self, watcher: Watcher) -> None:
        """What was skipped may have been a leave: the client forgets everything it knows and is served afresh."""
        self.fresh += 1
        subcells = sorted(watcher.subcells)
        watcher.pending = [framed(sight_bytes(subcells, sorted(watcher.told | watcher.subcells)))]
        for subcell in subcells:
            watcher.pending += self._serve(subcell)

    def statistics(self) -> dict[str, int]:
        return {
            "cells": len(self._cells),
            "mirrors": sum(len(m) for m in self._mirrors.values()),
            "mirror_delta_bytes": sum(m.delta_bytes for ms in self._mirrors.values() for m in ms.values()),
            "slow": len(self._slow),
        }
