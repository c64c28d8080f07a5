"""What a transaction is made of: each entity's change, each unit's hold, and the intent ``tx:{id}``.

An id is the acting avatar, the session and number of its command, and an ordinal: the same for every repeat of the
command, wherever it runs. The intent (JSON)::

    state     pending | committed | aborted
    parts     {unit: [[entity, out, into]]}
    creator, generation      who may lock and commit: the only one
    applied   [unit]         who is done with it, once committed
    at_ms     world time at which it was made or aborted
    write_id
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from world.entity import Stock
from world.ids import avatar_of, avatar_unit, unit_of
from world.message_values import U53, Change, Hold, Json, Key
from world.results import cause_of
from world.upgrades import BadDocument

KIND: Final = "tx"  # of these documents' keys
PENDING: Final = "pending"
COMMITTED: Final = "committed"
ABORTED: Final = "aborted"

Changes = Sequence[Change]


class Intent(msgspec.Struct, frozen=True):
    """See the module's text."""

    state: str
    parts: dict[str, list[Change]] = {}
    creator: str = ""
    generation: int = 0
    applied: list[str] = []
    at_ms: U53 = 0
    write_id: str = ""

    @staticmethod
    def parse(value: bytes) -> "Intent":
        """Raises BadDocument."""
        try:
            return msgspec.json.decode(value, type=Intent)
        except (ValueError, RecursionError) as error:
            raise BadDocument(str(error)) from error

    def encode(self, write_id: str) -> bytes:
        return msgspec.json.encode(msgspec.structs.replace(self, write_id=write_id))

    def become(self, state: str, at_ms: int) -> "Intent":
        return msgspec.structs.replace(self, state=state, at_ms=at_ms)

    def applied_by(self, unit: str) -> "Intent":
        return msgspec.structs.replace(self, applied=sorted({*self.applied, unit}))

    @property
    def is_over(self) -> bool:
        """Committed, and every unit is done with it."""
        return self.state == COMMITTED and set(self.parts) <= set(self.applied)


def transaction_id(key: Key) -> str:
    """Of the transaction that has this key: (command, ordinal)."""
    return f"{avatar_of(key.origin)}.{key.session}.{key.number}.{key.ordinal}"


def is_of(tx: str, command: Key) -> bool:
    """Whether the transaction is one of this command's."""
    return tx.rpartition(".")[0] == transaction_id(command).rpartition(".")[0]


def origin_of(tx: str) -> str:
    """The unit of the avatar whose command it is."""
    return avatar_unit(int(tx.partition(".")[0]))


def document_key(tx: str) -> str:
    return f"{KIND}:{tx}"


def holds_of(changes: Iterable[Change], key: Key, result: Json | None) -> dict[str, Hold]:
    """unit -> what it holds, in the order in which they are locked. The acting avatar's unit takes part even where it
    gives and gets nothing: it keeps the outcome, under the transaction's key and, with a ``result``, the command's."""
    parts: dict[str, list[Change]] = {key.origin: []}
    for change in changes:
        parts.setdefault(unit_of(change.entity), []).append(change)
    saves: list[tuple[Key, Json]] = [(key, {})]
    if result is not None:
        saves.append((cause_of(key), result))
    return {unit: Hold(parts[unit], saves if unit == key.origin else []) for unit in sorted(parts)}


def sums(changes: Iterable[Change], incoming: bool) -> Stock:
    """All that comes in, or goes out, by name."""
    found: Stock = {}
    for change in changes:
        items: Mapping[str, int] = change.into if incoming else change.out
        for name, count in items.items():
            found[name] = found.get(name, 0) + count
    return found
