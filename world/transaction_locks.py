"""What transactions hold of one unit: ``pending``, items that are locked and room that is reserved, and ``done``.

A locked item stays where it is, and visible, until the transaction applies; nothing else may use it. ``done`` are
ids that were applied: a lock that comes late finds its id there and is refused. One leaves ``done`` when its intent is
known to be gone, so that whoever locked by it would find none, and abort it.
"""

from collections.abc import Iterable, Mapping

from world.entity import Container, Entity, Stock
from world.limits import UNIT_DONE_TRANSACTIONS, UNIT_HOLDS
from world.message_values import Change, Hold
from world.results import Refusal


class Locks:
    """One unit's. ``done``: id -> the unit's epoch when it was applied."""

    def __init__(self, pending: Mapping[str, Hold] | None = None, done: Mapping[str, int] | None = None) -> None:
        self.pending: dict[str, Hold] = dict(pending or {})
        self.done: dict[str, int] = dict(done or {})
        self._aged: set[str] = set()  # in ``done`` when it was last looked through

    def check(self, tx: str, hold: Hold, entities: Mapping[int, Entity]) -> None:
        """Raises Refusal: ``settled`` (it is done), ``busy``, ``no_such_target``, ``not_a_container``, ``not_enough``,
        ``no_room``."""
        if tx in self.done:
            raise Refusal("settled", f"{tx} is done")
        if len(self.pending) >= UNIT_HOLDS or len(self.done) >= UNIT_DONE_TRANSACTIONS:
            raise Refusal("busy", "too many transactions are under way")
        for change in hold.changes:
            holder = container(change, entities)
            short = [name for name, count in change.out.items() if holder.free.get(name, 0) < count]
            if short:
                raise Refusal("not_enough", f"{change.entity} has too little {short[0]} that is free")
            if growth(change) > holder.room:
                raise Refusal("no_room", f"{change.entity} has no room for it")

    def add(self, tx: str, hold: Hold, entities: Mapping[int, Entity]) -> None:
        self.pending[tx] = hold
        self.show(entities)

    def show(self, entities: Mapping[int, Entity]) -> None:
        """Tell each container what of it is locked and reserved."""
        locked: dict[int, Stock] = {}
        reserved: dict[int, int] = {}
        for change in (change for hold in self.pending.values() for change in hold.changes):
            held = locked.setdefault(change.entity, {})
            for name, count in change.out.items():
                held[name] = held.get(name, 0) + count
            reserved[change.entity] = reserved.get(change.entity, 0) + growth(change)
        for entity, real in entities.items():
            if isinstance(real, Container):
                real.locked, real.reserved = locked.get(entity, {}), reserved.get(entity, 0)

    def finish(self, tx: str, entities: Mapping[int, Entity], *, done_at: int | None) -> None:
        """It is applied, at this epoch, or (None) undone."""
        del self.pending[tx]
        if done_at is not None:
            self.done[tx] = done_at
        self.show(entities)

    # -- forgetting what is done ---------------------------------------------------------------------------------------
    def old(self) -> list[str]:
        """Ids done that were done already when this was last asked."""
        found = [tx for tx in self.done if tx in self._aged]
        self._aged = set(self.done)
        return found

    def forget(self, ids: Iterable[str]) -> None:
        """Their intents are gone."""
        for tx in ids:
            self.done.pop(tx, None)


def container(change: Change, entities: Mapping[int, Entity]) -> Container:
    """Raises Refusal ``no_such_target``, ``not_a_container``."""
    found = entities.get(change.entity)
    if found is None:
        raise Refusal("no_such_target", str(change.entity))
    if not isinstance(found, Container):
        raise Refusal("not_a_container", f"{found.TABLE.name} holds no items")
    return found


def growth(change: Change) -> int:
    """How many more pieces the entity holds afterwards; room for them is reserved. 0 where it holds fewer."""
    return max(sum(change.into.values()) - sum(change.out.values()), 0)
