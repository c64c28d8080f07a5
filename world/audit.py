"""The checker of invariant 2, items are conserved, over a store's unit documents at rest.

Every unit counts what it ever gave and gained; transfers under way are in outboxes. For all units together, and each
item: given = gained + under way. For each avatar: what it has = gained - given. For each region: what its nodes lack is
no more than it gave (they also grow back). A transfer that its giver never committed was received by nobody. What a
unit holds of a committed transaction counts as applied.
"""

from collections import Counter
from collections.abc import Mapping

from world.entity import added, table_of
from world.transaction_document import COMMITTED, KIND, Intent, document_key, sums
from world.transfer import Received
from world.unit_document import UnitDocument


def audit(documents: Mapping[str, bytes]) -> list[str]:
    """``documents``: every ``avatar:`` and ``region:`` document, and every ``tx:``, read while nothing writes. What is
    wrong, in words; empty when all is well. Raises BadDocument."""
    units = settled(documents)
    problems = _totals(units)
    for key, unit in units.items():
        problems += _holdings(key, unit) + _receipts(key, unit, units)
    return problems


def settled(documents: Mapping[str, bytes]) -> dict[str, UnitDocument]:
    """The units, with what they hold of committed transactions applied. Raises BadDocument."""
    intents = {key: Intent.parse(value) for key, value in documents.items() if key.startswith(f"{KIND}:")}
    units = {key: UnitDocument.parse(value) for key, value in documents.items() if key not in intents}
    for unit in units.values():
        _apply_committed(unit, intents)
    return units


def _apply_committed(unit: UnitDocument, intents: Mapping[str, Intent]) -> None:
    for tx, hold in unit.pending.items():
        intent = intents.get(document_key(tx))
        if intent is None or intent.state != COMMITTED:
            continue
        unit.data.given = added(unit.data.given, sums(hold.changes, incoming=False))
        unit.data.gained = added(unit.data.gained, sums(hold.changes, incoming=True))
        for change in hold.changes:
            fields = unit.data.entities.setdefault(str(change.entity), {})
            out = {name: -count for name, count in change.out.items()}
            fields["items"] = added(added(fields.get("items", {}), change.into), out)


def _totals(units: Mapping[str, UnitDocument]) -> list[str]:
    balance: Counter[str] = Counter()
    for key, unit in units.items():
        balance.update(unit.data.given)
        balance.subtract(unit.data.gained)
        for entry in unit.outbox.entries:
            receiver = units.get(entry.to)
            if receiver is None or not Received(receiver.received).applied(key, entry.n):
                balance.subtract(entry.items)
    return [f"{count} {item} given but neither gained nor under way" for item, count in balance.items() if count]


def _holdings(key: str, unit: UnitDocument) -> list[str]:
    net: Counter[str] = Counter(unit.data.gained)
    net.subtract(unit.data.given)
    if key.startswith("avatar:"):
        items: Counter[str] = Counter(unit.data.entities.get(key.partition(":")[2], {}).get("items", {}))
        return [f"{key} has {items[i]} {i}, not {net[i]}" for i in net.keys() | items.keys() if items[i] != net[i]]
    lacking: Counter[str] = Counter()
    for entity, values in unit.data.entities.items():
        defaults = table_of(int(entity)).defaults
        lacking.update({name: defaults[name] - v for name, v in values.items() if isinstance(defaults.get(name), int)})
    return [f"{key} lacks {n} {i} but gave {-net[i]}" for i, n in lacking.items() if n > -net[i]]


def _receipts(key: str, unit: UnitDocument, units: Mapping[str, UnitDocument]) -> list[str]:
    return [
        f"{key} received {max(above, default=floor)} of {giver}, which gave {units[giver].outbox.last}"
        for giver, (floor, above) in unit.received.items()
        if giver in units and max(above, default=floor) > units[giver].outbox.last
    ]
