"""What a rule author writes to move items between units, whoever owns them::

    async with transaction(avatar, chest) as tx:
        tx.move(avatar, chest, {"wood": 3})
        tx.move(chest, avatar, {"stone": 1})

At the end of the block all moves are done, or none, and the rule goes on once that is committed: whatever process dies,
whenever. A refusal in the block, or by it, leaves everything as it was.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from world.handle import Handle
from world.limits import TRADE_KINDS, TRADE_PIECES, TRANSACTION_PARTIES
from world.message_values import Change
from world.messages import Json
from world.results import Refusal


class Transaction:
    """Made by ``transaction``; used by ``async with``, once."""

    def __init__(self, parties: tuple[Handle, ...], result: Json | None) -> None:
        self._parties = {party.id: party for party in parties}
        self._result = result
        self._out: dict[int, dict[str, int]] = {party: {} for party in self._parties}
        self._into: dict[int, dict[str, int]] = {party: {} for party in self._parties}

    def move(self, giver: Handle, receiver: Handle, items: Mapping[str, int]) -> None:
        """Count ``items`` {name: pieces} among what ``giver`` gives to ``receiver``. Raises Refusal ``bad_arguments``
        for counts below 1, too many kinds or pieces; KeyError for who takes no part."""
        for name, count in items.items():
            if not 1 <= count <= TRADE_PIECES:
                raise Refusal("bad_arguments", f"{count} {name}"[:64])
            self._out[giver.id][name] = self._out[giver.id].get(name, 0) + count
            self._into[receiver.id][name] = self._into[receiver.id].get(name, 0) + count
        if any(len(sums) > TRADE_KINDS for sums in (*self._out.values(), *self._into.values())):
            raise Refusal("bad_arguments", "too many kinds of items")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        changes = [Change(party, self._out[party], self._into[party]) for party in self._parties]
        changes = [change for change in changes if change.out or change.into]
        if kind is None and changes:
            scope = next(iter(self._parties.values())).scope
            await scope.transact(changes, self._result)


def transaction(*parties: Handle, result: Json | None = None) -> Transaction:
    """A transaction between two or more entities that hold items (``world.entity.Container``), up to
    TRANSACTION_PARTIES, on any servers.

    ``result``: the value that the rule will return. Saved with the effect, it is what a repeat of the command is
    answered, by whomever, without running the rule again. Without it (because there is more to do afterwards) a repeat
    runs the rule again, which may find the world changed; this block then has no second effect.

    Raises Refusal at the end of the block: ``not_enough`` (of what is not locked by another one), ``no_room``,
    ``not_a_container``, ``no_such_target``; ``busy`` (another one has aborted it; nothing happened); ``unreachable``,
    ``store_unavailable`` (not in time).

    It costs 3 n + 2 durable writes for n units: the intent's insert, n locks, the commit, n applications, n - 1 marks,
    the intent's removal; the acting avatar's unit is always one of the n. The rule waits for 2 + n of them one after
    the other, and for the applications, which go together. A lock that is refused costs the insert, the abort and an
    undo for each unit locked. A gather, one way, costs 3.
    """
    if not 2 <= len({party.id for party in parties}) <= TRANSACTION_PARTIES:
        raise ValueError(f"a transaction is between 2 to {TRANSACTION_PARTIES} entities")
    return Transaction(parties, result)
