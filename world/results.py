"""Operation keys and the results saved under them: what makes a retry harmless.

Keys are made at the origin and travel unchanged. A command's is (avatar unit, session, number); each mutator call it
makes adds (unit, mutator, ordinal); the world's own is (unit, its epoch, n). A result is saved in the write that holds
its effect. The origin's floor says which numbers it will never ask for again: at or below it a number is *settled*,
pruned and refused; a newer session (or epoch) settles all older ones.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import msgspec

from world.limits import KEY_RETENTION_S, UNIT_ORIGINS, UNIT_RESULTS
from world.messages import Json, Key


class Refusal(Exception):
    """A rule or a safeguard said no, with a documented code; nothing was changed.

    ``version``: the unit version whose commit this answer must wait for (0: none), as it may show uncommitted state.
    """

    def __init__(self, code: str, detail: str = "", version: int = 0) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail
        self.version = version


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """How an operation ended."""

    ok: bool
    value: Json = {}
    code: str = ""
    detail: str = ""

    @staticmethod
    def refused(refusal: Refusal) -> "Outcome":
        return Outcome(False, {}, refusal.code, refusal.detail)


class Saved(msgspec.Struct, frozen=True, array_like=True):
    """An outcome and the fingerprint of the arguments it answered ("" = not known)."""

    digest: str
    outcome: Outcome


class Origin(msgspec.Struct, array_like=True):
    """All a unit remembers of one origin. ``seen_ms``: world time of the ``expire`` after its last use; 0: none yet."""

    session: int
    floor: int = 0
    seen_ms: int = 0
    saved: dict[str, Saved] = {}


def fingerprint(*parts: Any) -> str:
    """A short digest of JSON-able arguments, the same for equal ones whatever the order of their keys."""
    return blake2b(msgspec.json.encode(parts, order="deterministic"), digest_size=9).hexdigest()


def command_key(avatar_unit: str, session: int, number: int, floor: int = 0, digest: str = "") -> Key:
    return Key(origin=avatar_unit, session=session, number=number, floor=floor, digest=digest)


def call_key(command: Key, unit: str, mutator: str, ordinal: int) -> Key:
    """The key of the ``ordinal``-th mutator call that a command makes."""
    return msgspec.structs.replace(command, unit=unit, mutator=mutator, ordinal=ordinal)


def cause_of(key: Key) -> Key:
    """The command a mutator call belongs to."""
    return msgspec.structs.replace(key, unit="", mutator="", ordinal=0)


def _slot(key: Key) -> str:
    return f"{key.number}/{key.mutator}/{key.ordinal}" if key.mutator else str(key.number)


def _number(slot: str) -> int:
    return int(slot.partition("/")[0])


class Results:
    """One unit's saved results, per origin. Bounded: UNIT_RESULTS an origin, UNIT_ORIGINS origins; then ``busy``."""

    def __init__(self, rows: dict[str, Origin] | None = None) -> None:
        self.rows: dict[str, Origin] = rows if rows is not None else {}

    def find(self, key: Key, digest: str = "") -> Outcome | None:
        """The saved outcome, or None where the operation is new.

        Raises Refusal: ``settled`` (its origin moved on), ``key_reused`` (the same key with other arguments)."""
        row = self.rows.get(key.origin)
        if row is None or key.session > row.session:
            return None
        if key.session < row.session or key.number <= row.floor:
            raise Refusal("settled", f"{key.origin} has moved past {key.session}/{key.number}")
        saved = row.saved.get(_slot(key))
        if saved is None:
            return None
        if digest and saved.digest and saved.digest != digest:
            raise Refusal("key_reused", f"{key.session}/{key.number} was used with other arguments")
        return saved.outcome

    def settle(self, origin: str, session: int, floor: int) -> None:
        """A newer session forgets the older one's results; a higher floor those at or below it."""
        row = self.rows.get(origin)
        if row is None:
            return
        if session > row.session:
            self.rows[origin] = Origin(session, floor)
        elif session == row.session and floor > row.floor:
            row.floor = floor
            row.saved = {slot: saved for slot, saved in row.saved.items() if _number(slot) > floor}

    def reserve(self, key: Key) -> None:
        """Make room for one more result of this origin. Raises Refusal ``busy``."""
        self.settle(key.origin, key.session, key.floor)
        row = self.rows.get(key.origin)
        if row is None:
            if len(self.rows) >= UNIT_ORIGINS and not self._evict():
                raise Refusal("busy", "too many unsettled origins")
        elif len(row.saved) >= UNIT_RESULTS:
            raise Refusal("busy", "too many unsettled results")

    def save(self, key: Key, digest: str, outcome: Outcome) -> None:
        """The first outcome stays; one that is settled already is not kept."""
        self.settle(key.origin, key.session, key.floor)
        row = self.rows.setdefault(key.origin, Origin(key.session, key.floor))
        row.seen_ms = 0
        if key.session == row.session and key.number > row.floor:
            row.saved.setdefault(_slot(key), Saved(digest, outcome))

    def expire(self, world_ms: int, keep: str) -> bool:
        """Forget origins not heard for KEY_RETENTION_S, except ``keep`` (a unit's own row). True if any went."""
        old = [o for o, row in self.rows.items() if o != keep and self._stamp(row, world_ms) > KEY_RETENTION_S * 1000]
        self._drop(old)
        return bool(old)

    def _stamp(self, row: Origin, world_ms: int) -> int:
        if not row.seen_ms or row.seen_ms > world_ms:
            row.seen_ms = world_ms
        return world_ms - row.seen_ms

    def _evict(self) -> bool:
        """Room from an origin with nothing unsettled, the longest unheard first."""
        idle = [(row.seen_ms, origin) for origin, row in self.rows.items() if not row.saved and row.seen_ms]
        self._drop([min(idle)[1]] if idle else [])
        return bool(idle)

    def _drop(self, origins: Iterable[str]) -> None:
        for origin in origins:
            del self.rows[origin]
