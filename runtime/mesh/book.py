"""The book: who is in the mesh, at which generation, heard from when, and who is dead. Pure: time is handed in.

Rules of merging, all of them::

    a generation at or below a death verdict, or below the highest known    ignored: it is dead
    a higher generation than the known one                                  replaces it; the old one is dead
    the same generation, said by the member itself                          newest word counts
    the same generation, said by another (a page)                           ignored: it may be old
    the same generation, said by itself with another nonce                  an impostor: must go above
    no protocol version in common                                           never merged: it cannot be understood
    my own id                                                               never merged; above mine: I am dead
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from world.ids import NodeId
from world.limits import BOOK_MEMBERS, SUSPECT_AFTER_MS
from world.messages import Member


class Heard(Enum):
    """What came of somebody's word about a member."""

    NEW = "new"  # unknown node, or a newer generation of a known one
    SAME = "same"
    DEAD = "dead"  # of a dead generation, or an impostor: it must be told
    FULL = "full"
    FOREIGN = "foreign"  # speaks no protocol version of mine


@dataclass(slots=True)
class _Entry:
    member: Member
    heard_ms: float | None = None  # last sign of life from itself; None: only others told of it
    added_ms: float = 0.0
    round_trip_ms: float = 0.0


class MemberBook:
    """Implements ``runtime.mesh.api.Book``. ``now_ms`` reads the owner's monotonic clock."""

    def __init__(self, me: Member, now_ms: Callable[[], float]) -> None:
        self.me = me
        self._now_ms = now_ms
        self._entries: dict[str, _Entry] = {}
        self._dead: dict[str, int] = {}  # node: every generation <= this one is dead
        self.foreign: Member | None = None  # the last one heard of that speaks no protocol version of mine
        self._mine_seen = 0  # highest generation of my own id that others spoke of
        self._changed: list[Callable[[], None]] = []
        self._on_dead: list[Callable[[NodeId, int], None]] = []
        self._on_self_dead: list[Callable[[int], None]] = []
        self.on_verdict: Callable[[NodeId, int], None] = lambda node, generation: None  # spreads a new verdict

    # -- what services ask -----------------------------------------------------------------------------------------
    def members(self, role: str | None = None) -> list[Member]:
        known = [e.member for e in self._entries.values() if role is None or e.member.role == role]
        known = [m for m in known if self._dead.get(m.id, 0) < m.generation]
        if self.me.generation and (role is None or self.me.role == role):
            known.append(self.me)
        if len(known) > 1:
            known.sort(key=_id)
        return known

    def get(self, node: NodeId) -> Member | None:
        if node == self.me.id:
            return self.me
        entry = self._entries.get(node)
        if entry is None or self._dead.get(node, 0) >= entry.member.generation:
            return None
        return entry.member

    def suspected(self, node: NodeId) -> bool:
        if node == self.me.id:
            return False
        entry = self._entries.get(node)
        if entry is None:
            return True
        last_ms = entry.added_ms if entry.heard_ms is None else entry.heard_ms
        return self._now_ms() - last_ms > SUSPECT_AFTER_MS

    def silent_ms(self, node: NodeId) -> float:
        """How long since its last sign of life (or since we were told of it)."""
        entry = self._entries.get(node)
        if entry is None:
            return float("inf")
        return self._now_ms() - (entry.added_ms if entry.heard_ms is None else entry.heard_ms)

    def highest_generation(self, node: NodeId) -> int:
        entry = self._entries.get(node)
        known = entry.member.generation if entry is not None else 0
        if node == self.me.id:
            known = max(self.me.generation, self._mine_seen)
        return max(known, self._dead.get(node, 0))

    def is_dead(self, node: NodeId, generation: int) -> bool:
        if self._dead.get(node, 0) >= generation:
            return True
        entry = self._entries.get(node)
        return entry is not None and entry.member.generation > generation

    def round_trip_ms(self, node: NodeId) -> float:
        entry = self._entries.get(node)
        return entry.round_trip_ms if entry is not None else 0.0

    def on_change(self, callback: Callable[[], None]) -> None:
        self._changed.append(callback)

    def on_dead(self, callback: Callable[[NodeId, int], None]) -> None:
        self._on_dead.append(callback)

    def on_self_dead(self, callback: Callable[[int], None]) -> None:
        self._on_self_dead.append(callback)

    def declare_dead(self, node: NodeId, generation: int) -> None:
        self.verdict(node, generation)

    # -- what the mesh tells it ------------------------------------------------------------------------------------
    def verdict(self, node: NodeId, generation: int) -> bool:
        """A death verdict, ours or heard. True: it was news."""
        if node == self.me.id:
            self.saw_mine(generation)
            if 0 < self.me.generation <= generation:
                self.self_dead(generation)
            return False
        if generation < 1 or self._dead.get(node, 0) >= generation:
            return False
        if node not in self._dead and len(self._dead) >= BOOK_MEMBERS:
            return False
        entry = self._entries.get(node)
        superseded = entry is not None and entry.member.generation > generation
        self._dead[node] = generation
        if superseded:
            return False  # its death was told when the newer generation came
        self.on_verdict(node, generation)
        self._tell_dead(node, generation)
        self._tell_changed()
        return True

    def self_dead(self, highest: int) -> None:
        """Somebody holds my generation for dead, or knows a higher one."""
        for callback in list(self._on_self_dead):
            callback(highest)

    def heard(self, member: Member, *, direct: bool) -> Heard:
        """A member's word about itself (``direct``) or another's page about it."""
        node = NodeId(member.id)
        if node == self.me.id:
            return self._heard_of_me(member)
        if member.generation < 1 or self.is_dead(node, member.generation):
            return Heard.DEAD
        if member.protocol_min > self.me.protocol_max or member.protocol_max < self.me.protocol_min:
            self.foreign = member
            return Heard.FOREIGN
        if direct and member.status == "dead":
            self.verdict(node, member.generation)
            return Heard.SAME
        entry = self._entries.get(node)
        if entry is None or entry.member.generation < member.generation:
            return self._add(node, member, entry, direct)
        if not direct:
            return Heard.SAME
        if member.nonce != entry.member.nonce and entry.member.nonce:
            return Heard.DEAD
        entry.heard_ms = self._now_ms()
        changed = _identity(member) != _identity(entry.member)
        entry.member = member
        if changed:
            self._tell_changed()
        return Heard.SAME

    def _heard_of_me(self, member: Member) -> Heard:
        self.saw_mine(member.generation)
        if not self.me.generation:
            return Heard.SAME
        impostor = member.generation == self.me.generation and member.nonce != self.me.nonce
        if member.generation > self.me.generation or (impostor and member.nonce > self.me.nonce):
            self.self_dead(member.generation)
            return Heard.SAME
        return Heard.DEAD if impostor or member.generation < self.me.generation else Heard.SAME

    def _add(self, node: NodeId, member: Member, old: _Entry | None, direct: bool) -> Heard:
        if old is None and len(self._entries) >= BOOK_MEMBERS:
            return Heard.FULL
        now = self._now_ms()
        self._entries[node] = _Entry(member, now if direct else None, now)
        if old is not None and self._dead.get(node, 0) < old.member.generation:
            self._dead[node] = old.member.generation
            self._tell_dead(node, old.member.generation)
        self._tell_changed()
        return Heard.NEW

    def saw_mine(self, generation: int) -> None:
        """Somebody spoke of, or to, this generation of me."""
        self._mine_seen = max(self._mine_seen, generation)

    def knows(self, node: str, generation: int) -> bool:
        """It is in the book, dead or alive."""
        entry = self._entries.get(node)
        return entry is not None and entry.member.generation == generation

    def forget_silent(self, after_ms: float) -> list[str]:
        """Members silent for longer leave; that their generation existed is remembered as long as a verdict is.
        Who left."""
        silent = [node for node in self._entries if self.silent_ms(NodeId(node)) > after_ms]
        for node in silent:
            generation = self._entries.pop(node).member.generation
            if len(self._dead) < BOOK_MEMBERS:
                self._dead[node] = max(self._dead.get(node, 0), generation - 1)
        if silent:
            self._tell_changed()
        return silent

    def alive(self, node: str, generation: int) -> None:
        """Any sign of life from that member's own loop."""
        entry = self._entries.get(node)
        if entry is not None and entry.member.generation == generation:
            entry.heard_ms = self._now_ms()

    def answered(self, node: str, round_trip_ms: float) -> None:
        """Rises smoothly (by 1/8, as TCP's in RFC 6298) and falls at once: after a partition all echoes that were held
        back come together, and would make a healed peer look slow for many seconds."""
        entry = self._entries.get(node)
        if entry is not None:
            old = entry.round_trip_ms
            smooth = old + (round_trip_ms - old) / 8 if old else round_trip_ms
            entry.round_trip_ms = min(round_trip_ms, smooth)

    def pardon(self, paused_ms: float) -> None:
        """We ourselves stood still that long: nobody's silence meanwhile counts."""
        for entry in self._entries.values():
            if entry.heard_ms is not None:
                entry.heard_ms += paused_ms
            entry.added_ms += paused_ms

    def merge(self, members: Iterable[Member], dead: Iterable[tuple[str, int]]) -> None:
        """A page of somebody else's book."""
        for node, generation in dead:
            self.verdict(NodeId(node), generation)
        for member in members:
            if member.generation > 0:
                self.heard(member, direct=False)

    def verdicts(self) -> list[tuple[str, int]]:
        return sorted(self._dead.items())

    def _tell_changed(self) -> None:
        for callback in list(self._changed):
            callback()

    def tell_changed(self) -> None:
        """I changed myself."""
        self._tell_changed()

    def _tell_dead(self, node: NodeId, generation: int) -> None:
        for callback in list(self._on_dead):
            callback(node, generation)


def _id(member: Member) -> str:
    return member.id


def _identity(member: Member) -> tuple[str, ...]:
    """What a change of counts as a change of the book (load does not)."""
    return (member.command, member.state, member.http, member.store, member.status)
