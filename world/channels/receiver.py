"""The subscribing half of cell channels: join, order, digests, repair, staleness. Sans-IO, one per subscriber.

A channel is one (publisher, cell). What is delivered of it is a snapshot, then every frame above it in order::

    WAITING   subscribed; frames are buffered. A digest row says whether there is something:
              count 0 -> LIVE (empty at that sequence); else ask for a snapshot -> ASKED.
              Nothing heard for JOIN_RETRY_MS: ask anyway -> ASKED.
    ASKED     a snapshot at S arrives: deliver it, drop buffered <= S, deliver the buffered above -> LIVE.
              Nothing for JOIN_RETRY_MS: ask again; the second time subscribe anew -> WAITING.
    LIVE      the frame applied + 1 is delivered; later ones wait in the buffer. Behind (a gap, or a digest row ahead)
              for REPAIR_AFTER_MS: ask the publisher's ring; the second time in a row subscribe anew -> WAITING.
              Hashes unequal at equal sequence in two digests in a row: ask for a snapshot, meanwhile going on.

Every channel has its own deadlines, so that a silent publisher delays nobody else. The caller performs the effects.
"""

from collections.abc import Callable, Iterable

from world import frames
from world.channels.channel import Channel, Publisher, ReceiverStatistics, State
from world.channels.effects import (
    Apply,
    AskRepair,
    AskSnapshot,
    Effect,
    Forget,
    Hide,
    Reconnect,
    Subscribe,
    Unsubscribe,
)
from world.limits import (
    CELL_LEAVE_MS,
    JOIN_BUFFER_FRAMES,
    JOIN_RETRY_MS,
    LOOP_PAUSE_MS,
    PUBLISHER_HIDE_MS,
    PUBLISHER_RECONNECT_MS,
    REPAIR_AFTER_MS,
    STALE_AFTER_MS,
)

__all__ = [
    "Apply",
    "AskRepair",
    "AskSnapshot",
    "CellReceiver",
    "Effect",
    "Forget",
    "Hashes",
    "Hide",
    "Reconnect",
    "Subscribe",
    "Unsubscribe",
]

EMPTY_DIGESTS = 2  # a cell absent from this many full digests in a row is empty
UNEQUAL_DIGESTS = 2  # hashes unequal this often in a row, at equal sequence: the state diverged


# (publisher, cell) -> (count, hash) of what was applied of it
Hashes = Callable[[int, int], tuple[int, int]]


class CellReceiver:
    """All channels of one subscriber. Times are the caller's monotonic ms; every input returns effects in order."""

    def __init__(self, compare_hashes: bool) -> None:
        self.compare_hashes = compare_hashes
        self.statistics = ReceiverStatistics()
        self.publishers: dict[int, Publisher] = {}
        # Channels in use: cell -> None while wanted, else the time at which it is left.
        self.cells: dict[int, float | None] = {}
        self._dead: dict[int, int] = {}  # publisher -> highest generation known dead
        self._ticked_ms: float | None = None
        # After a pause of our own, silence is judged only once what waited in the sockets was read.
        self._judge_after_ms = 0.0

    # -- what the caller wants ---------------------------------------------------------------------------------------
    def want(self, cells: Iterable[int], now_ms: float) -> list[Effect]:
        """From now on exactly these; others are left after CELL_LEAVE_MS."""
        wanted = set(cells)
        effects: list[Effect] = []
        for cell in self.cells:
            if cell not in wanted and self.cells[cell] is None:
                self.cells[cell] = now_ms + CELL_LEAVE_MS
        for cell in wanted:
            if cell not in self.cells:
                for number, publisher in self.publishers.items():
                    if publisher.alive:
                        effects += self._open(number, publisher, cell, now_ms)
            self.cells[cell] = None
        return effects

    def _open(self, number: int, publisher: Publisher, cell: int, now_ms: float) -> list[Effect]:
        publisher.channels[cell] = Channel(deadline=now_ms + JOIN_RETRY_MS)
        return [Subscribe(number, cell)]

    # -- who publishes -----------------------------------------------------------------------------------------------
    def publisher_up(self, number: int, generation: int, now_ms: float) -> list[Effect]:
        """A publisher is known to live at this generation; a lower one than known, or a dead one, is ignored."""
        if generation <= self._dead.get(number, -1):
            return []
        publisher = self.publishers.get(number)
        if publisher is None:
            publisher = self.publishers[number] = Publisher(generation, now_ms, digest_ms=now_ms, reconnected_ms=now_ms)
            return [e for cell in self.cells for e in self._open(number, publisher, cell, now_ms)]
        if generation < publisher.generation or (generation == publisher.generation and publisher.alive):
            return []
        return self._renew(number, publisher, generation, now_ms)

    def _renew(self, number: int, publisher: Publisher, generation: int, now_ms: float) -> list[Effect]:
        """It came back, or started anew: join everything again; what was shown stays until its snapshot, and grows
        stale until a digest comes."""
        publisher.generation, publisher.alive, publisher.hidden = generation, True, False
        publisher.heard_ms = publisher.reconnected_ms = now_ms
        publisher.digest_world_ms = 0
        effects: list[Effect] = []
        for cell in self.cells:
            held = publisher.channels.get(cell)
            effects += self._open(number, publisher, cell, now_ms)
            publisher.channels[cell].holds = held is not None and held.holds
        return effects

    def publisher_gone(self, number: int) -> list[Effect]:
        """It left the book: no more of it is expected; what it said is hidden after PUBLISHER_HIDE_MS of silence."""
        publisher = self.publishers.get(number)
        if publisher is not None:
            publisher.alive = False
        return []

    def publisher_dead(self, number: int, generation: int) -> list[Effect]:
        """A verdict: this generation's frames and digests are dropped from now on."""
        self._dead[number] = max(generation, self._dead.get(number, -1))
        publisher = self.publishers.get(number)
        return self.publisher_gone(number) if publisher is not None and publisher.generation <= generation else []

    def _fenced(self, number: int, generation: int) -> bool:
        publisher = self.publishers.get(number)
        fenced = (
            publisher is None or not publisher.alive or generation < publisher.generation
        ) or generation <= self._dead.get(number, -1)
        self.statistics.dropped_dead += fenced
        return fenced

    # -- frames ------------------------------------------------------------------------------------------------------
    def frame(self, body: bytes, now_ms: float) -> list[Effect]:
        """A cell frame from a subscription. Raises BadFrame."""
        head = frames.read_head(body)
        if head.kind != frames.FRAME:
            raise frames.BadFrame(f"type {head.kind:#x} is no cell frame")
        effects: list[Effect] = []
        if self._newer_generation(head.publisher, head.generation):
            effects += self.publisher_up(head.publisher, head.generation, now_ms)
        if self._fenced(head.publisher, head.generation):
            return effects
        channel = self.publishers[head.publisher].channels.get(head.cell)
        if channel is None:
            return effects
        return effects + self._take(channel, head, body, now_ms, subscribed=True)

    def _newer_generation(self, number: int, generation: int) -> bool:
        publisher = self.publishers.get(number)
        return publisher is not None and generation > publisher.generation

    def _take(
        self, channel: Channel, head: frames.Head, body: bytes, now_ms: float, *, subscribed: bool
    ) -> list[Effect]:
        channel.known = max(channel.known, head.sequence)
        live = channel.state is State.LIVE
        if live and head.sequence <= channel.applied:
            self.statistics.duplicates += 1
            return []
        if live and head.sequence == channel.applied + 1 and subscribed:
            channel.strikes = 0
        channel.buffer[head.sequence] = body
        if len(channel.buffer) > JOIN_BUFFER_FRAMES:
            return self._overflow(channel, head, now_ms)
        return self._drain(head.publisher, head.cell, channel, now_ms) if live else []

    def _overflow(self, channel: Channel, head: frames.Head, now_ms: float) -> list[Effect]:
        self.statistics.overflows += 1
        channel.buffer.clear()
        return self._ask_snapshot(head.publisher, head.cell, channel, now_ms)

    def _drain(self, number: int, cell: int, channel: Channel, now_ms: float) -> list[Effect]:
        effects: list[Effect] = []
        while (body := channel.buffer.get(channel.applied + 1)) is not None:
            channel.applied += 1
            if not channel.resync:  # else kept: to be delivered again above the snapshot
                del channel.buffer[channel.applied]
            effects.append(self._apply(number, cell, channel, body, snapshot=False))
        self._judge_behind(channel, now_ms)
        return effects

    def _apply(self, number: int, cell: int, channel: Channel, body: bytes, *, snapshot: bool) -> Apply:
        channel.applied_world_ms = max(channel.applied_world_ms, frames.read_head(body).world_ms)
        channel.holds, channel.absent, channel.unequal = True, 0, 0
        if snapshot:
            self.statistics.snapshots += 1
        else:
            self.statistics.applied += 1
        return Apply(number, cell, body, snapshot)

    def _judge_behind(self, channel: Channel, now_ms: float) -> None:
        if channel.known <= channel.applied:
            channel.behind_since, channel.repairing = None, False
        elif channel.behind_since is None:
            self.statistics.gaps += 1
            channel.behind_since = now_ms

    # -- snapshots and repairs ---------------------------------------------------------------------------------------
    def _ask_snapshot(self, number: int, cell: int, channel: Channel, now_ms: float) -> list[Effect]:
        if channel.state is State.LIVE:
            channel.resync = True
        else:
            channel.state = State.ASKED
        channel.deadline = now_ms + JOIN_RETRY_MS
        channel.asks += 1
        self.statistics.snapshots_asked += 1
        return [AskSnapshot(number, cell)]

    def snapshot(
        self, number: int, cell: int, generation: int, sequence: int, body: bytes, now_ms: float
    ) -> list[Effect]:
        """The publisher's answer to AskSnapshot, ``body`` a frame of snapshot slices at ``sequence``."""
        if self._fenced(number, generation) or generation != self.publishers[number].generation:
            return []
        channel = self.publishers[number].channels.get(cell)
        if channel is None or not self._usable(channel, sequence):
            return []
        for old in [s for s in channel.buffer if s <= sequence]:
            del channel.buffer[old]
        channel.state, channel.resync, channel.asks = State.LIVE, False, 0
        channel.applied, channel.known = sequence, max(channel.known, sequence)
        channel.behind_since, channel.repairing = None, False
        effects: list[Effect] = [self._apply(number, cell, channel, body, snapshot=True)]
        return effects + self._drain(number, cell, channel, now_ms)

    def _usable(self, channel: Channel, sequence: int) -> bool:
        """A live channel never steps back: what was delivered above the snapshot must be at hand to deliver again."""
        if channel.state is not State.LIVE or sequence >= channel.applied:
            return True
        return channel.resync and all(s in channel.buffer for s in range(sequence + 1, channel.applied + 1))

    def repaired(self, number: int, cell: int, generation: int, bodies: list[bytes], now_ms: float) -> list[Effect]:
        """The publisher's answer to AskRepair: the frames, or none where its ring lacks them. Raises BadFrame."""
        if self._fenced(number, generation) or generation != self.publishers[number].generation:
            return []
        channel = self.publishers[number].channels.get(cell)
        if channel is None or channel.state is not State.LIVE:
            return []
        if not bodies:
            return self._ask_snapshot(number, cell, channel, now_ms) if channel.repairing else []
        effects: list[Effect] = []
        for body in bodies:
            effects += self._take(channel, frames.read_head(body), body, now_ms, subscribed=False)
        self.statistics.repaired += 1
        return effects

    # -- digests -----------------------------------------------------------------------------------------------------
    def digest(self, body: bytes, now_ms: float, hashes: Hashes | None = None) -> list[Effect]:
        """A digest message. ``hashes`` is asked only where this receiver compares hashes. Raises BadFrame."""
        digest = frames.read_digest(body)
        number = digest.publisher
        effects: list[Effect] = []
        if self._newer_generation(number, digest.generation):
            effects += self.publisher_up(number, digest.generation, now_ms)
        if self._fenced(number, digest.generation):
            return effects
        publisher = self.publishers[number]
        publisher.heard_ms = publisher.digest_ms = now_ms
        publisher.hidden = False
        if digest.world_ms < publisher.digest_world_ms:
            return effects  # overtaken by a later one
        publisher.digest_world_ms = digest.world_ms
        compare = self.compare_hashes and hashes is not None
        for cell, _zero, sequence, count, value in digest.rows.tolist():
            channel = publisher.channels.get(cell)
            if channel is None:
                continue
            channel.absent = 0
            if compare or sequence != channel.applied or channel.state is not State.LIVE:  # else in step: nearly all
                effects += self._row(number, cell, channel, sequence, (count, value), now_ms, hashes)
        if digest.full:
            effects += self._absences(number, publisher, set(digest.rows["cell"].tolist()), digest.world_ms)
        return effects

    def _row(
        self,
        number: int,
        cell: int,
        channel: Channel,
        sequence: int,
        content: tuple[int, int],
        now_ms: float,
        hashes: Hashes | None,
    ) -> list[Effect]:
        channel.known = max(channel.known, sequence)
        if channel.state is State.WAITING:
            if content[0]:
                return self._ask_snapshot(number, cell, channel, now_ms)
            return self._join_empty(number, cell, channel, sequence, now_ms)
        if channel.state is State.LIVE:
            self._judge_behind(channel, now_ms)
            if sequence == channel.applied and self.compare_hashes and hashes is not None:
                return self._compare(number, cell, channel, content, hashes(number, cell), now_ms)
        return []

    def _join_empty(self, number: int, cell: int, channel: Channel, sequence: int, now_ms: float) -> list[Effect]:
        channel.state, channel.applied, channel.asks = State.LIVE, sequence, 0
        for old in [s for s in channel.buffer if s <= sequence]:
            del channel.buffer[old]
        effects: list[Effect] = [Forget(number, cell)] if channel.holds else []
        channel.holds = False
        return effects + self._drain(number, cell, channel, now_ms)

    def _compare(
        self, number: int, cell: int, channel: Channel, theirs: tuple[int, int], mine: tuple[int, int], now_ms: float
    ) -> list[Effect]:
        if theirs == mine:
            channel.unequal = 0
            return []
        channel.unequal += 1
        if channel.unequal < UNEQUAL_DIGESTS or channel.resync:
            return []
        self.statistics.diverged += 1
        return self._ask_snapshot(number, cell, channel, now_ms)

    def _absences(self, number: int, publisher: Publisher, named: set[int], world_ms: int) -> list[Effect]:
        effects: list[Effect] = []
        for cell, channel in publisher.channels.items():
            if cell in named or not channel.holds or world_ms < channel.applied_world_ms:
                continue
            channel.absent += 1
            if channel.absent >= EMPTY_DIGESTS:
                channel.holds = False
                effects.append(Forget(number, cell))
        return effects

    # -- time --------------------------------------------------------------------------------------------------------
    def tick(self, now_ms: float) -> list[Effect]:
        """Everything that is due; call it every few tens of ms."""
        if self._ticked_ms is not None and now_ms - self._ticked_ms > LOOP_PAUSE_MS:
            self._judge_after_ms = now_ms + STALE_AFTER_MS
        self._ticked_ms = now_ms
        effects = self._leave(now_ms)
        for number, publisher in self.publishers.items():
            if now_ms >= self._judge_after_ms:
                effects += self._silence(number, publisher, now_ms)
            if publisher.alive and not publisher.hidden:
                for cell, channel in publisher.channels.items():
                    if channel.state is not State.LIVE or channel.behind_since is not None or channel.resync:
                        effects += self._due(number, cell, channel, now_ms)
        return effects

    def _leave(self, now_ms: float) -> list[Effect]:
        effects: list[Effect] = []
        for cell in [c for c, until in self.cells.items() if until is not None and until <= now_ms]:
            del self.cells[cell]
            for number, publisher in self.publishers.items():
                channel = publisher.channels.pop(cell, None)
                if channel is not None:
                    effects.append(Unsubscribe(number, cell))
                    effects += [Forget(number, cell)] if channel.holds else []
        return effects

    def _silence(self, number: int, publisher: Publisher, now_ms: float) -> list[Effect]:
        effects: list[Effect] = []
        silent = now_ms - publisher.heard_ms
        since = now_ms - max(publisher.heard_ms, publisher.reconnected_ms)
        if publisher.alive and since >= PUBLISHER_RECONNECT_MS:
            publisher.reconnected_ms = now_ms
            self.statistics.reconnects += 1
            effects.append(Reconnect(number))
        if silent >= PUBLISHER_HIDE_MS and not publisher.hidden:
            effects += self._hide(number, publisher, now_ms)
        return effects

    def _hide(self, number: int, publisher: Publisher, now_ms: float) -> list[Effect]:
        """Forget what it said; should it be heard again, every channel joins anew."""
        publisher.hidden = True
        self.statistics.hidden += 1
        effects: list[Effect] = [Hide(number)]
        for cell, channel in publisher.channels.items():
            effects += [Forget(number, cell)] if channel.holds else []
            publisher.channels[cell] = Channel(deadline=now_ms + JOIN_RETRY_MS)
        return effects

    def _due(self, number: int, cell: int, channel: Channel, now_ms: float) -> list[Effect]:
        if channel.state is State.LIVE:
            if channel.resync and channel.deadline <= now_ms:
                channel.buffer = {s: b for s, b in channel.buffer.items() if s > channel.applied}
                return self._ask_snapshot(number, cell, channel, now_ms)
            if channel.behind_since is not None and now_ms - channel.behind_since >= REPAIR_AFTER_MS:
                return self._repair(number, cell, channel, now_ms)
            return []
        if channel.deadline > now_ms:
            return []
        if channel.asks >= 2:
            return self._resubscribe(number, cell, channel, now_ms)
        return self._ask_snapshot(number, cell, channel, now_ms)

    def _repair(self, number: int, cell: int, channel: Channel, now_ms: float) -> list[Effect]:
        if channel.repairing and channel.deadline > now_ms:
            return []  # the answer is under way
        channel.strikes += 1
        if channel.strikes > 1:
            return self._resubscribe(number, cell, channel, now_ms)
        channel.repairing = True
        channel.deadline = now_ms + JOIN_RETRY_MS
        self.statistics.repairs_asked += 1
        return [AskRepair(number, cell, channel.applied)]

    def _resubscribe(self, number: int, cell: int, channel: Channel, now_ms: float) -> list[Effect]:
        """The subscription may be lost: join anew; what was delivered stays shown until the snapshot."""
        self.statistics.resubscribed += 1
        fresh = Channel(deadline=now_ms + JOIN_RETRY_MS, holds=channel.holds, known=channel.known)
        fresh.applied_world_ms, fresh.strikes = channel.applied_world_ms, channel.strikes
        self.publishers[number].channels[cell] = fresh
        return [Unsubscribe(number, cell), Subscribe(number, cell)]

    # -- what others may know ----------------------------------------------------------------------------------------
    def staleness_ms(self, number: int, now_ms: float) -> float:
        """Own time since the last digest of this publisher; infinite for an unknown one."""
        publisher = self.publishers.get(number)
        return float("inf") if publisher is None else now_ms - publisher.digest_ms

    def joined(self, cell: int) -> bool:
        """True when every living publisher's part of the cell was delivered, or is known to be empty."""
        return all(
            (channel := p.channels.get(cell)) is not None and channel.state is State.LIVE
            for p in self.publishers.values()
            if p.alive and not p.hidden
        )
