"""The checker of conservation: what clients were told against what the store holds, item by item.

Regions count what they ever gave (``given``), avatars what they ever got (``gained``); between the two are only
outbox entries that their receiver has not applied yet.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from runtime.store.api import Store
from world.ids import AVATAR_KIND, avatar_unit, kind_of
from world.limits import STORE_BUSY_MS, STORE_MANY_KEYS
from world.unit_document import UnitDocument


@dataclass(slots=True)
class Told:
    """What one client was told: ``acknowledged`` items of results, and what unanswered commands may have brought."""

    acknowledged: Counter[str] = field(default_factory=Counter)
    in_doubt: Counter[str] = field(default_factory=Counter)
    trades: bool = False  # it may have given and got items: judged with all others that trade, as one


def read_units(database: Path) -> dict[str, UnitDocument]:
    """All avatars and regions of a store file that no process has open."""
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(STORE_BUSY_MS)
    try:
        rows = connection.execute("SELECT key, value FROM documents WHERE key GLOB 'avatar:*' OR key GLOB 'region:*'")
        return {str(key): UnitDocument.parse(value) for key, value in rows}
    finally:
        connection.close()


async def stored_units(store: Store) -> dict[str, UnitDocument]:
    """The same of any store that is at rest."""
    units: dict[str, UnitDocument] = {}
    for kind in ("avatar", "region"):
        after = ""
        while keys := await store.list(kind, after=after, limit=STORE_MANY_KEYS):
            after = keys[-1]
            found = await store.get_many(keys)
            units |= {key: UnitDocument.parse(document.value) for key, document in found.items()}
    return units


def inventory(units: dict[str, UnitDocument], avatar: int) -> Counter[str]:
    assert kind_of(avatar) == AVATAR_KIND
    entity = units[avatar_unit(avatar)].data.entities[str(avatar)]
    return Counter(entity.get("items", {}))


def violations(units: dict[str, UnitDocument], told: dict[int, Told]) -> list[str]:
    """Sentences about every item lost or duplicated; none: all is conserved."""
    wrong = []
    given: Counter[str] = Counter()
    gained: Counter[str] = Counter()
    under_way: Counter[str] = Counter()
    for key, unit in units.items():
        given.update(unit.data.given)
        gained.update(unit.data.gained)
        for entry in unit.outbox.entries:
            floor, above = units[entry.to].received.get(key, (0, [])) if entry.to in units else (0, [])
            if entry.n > floor and entry.n not in above:
                under_way.update(entry.items)
    if given != gained + under_way:
        wrong.append(f"given {dict(given)} is not gained {dict(gained)} + under way {dict(under_way)}")
    pot, traders = Told(), Counter[str]()
    for avatar, heard in told.items():
        has = inventory(units, avatar)
        if heard.trades:
            traders.update(has)
            pot.acknowledged.update(heard.acknowledged)
            pot.in_doubt.update(heard.in_doubt)
        else:
            wrong += _unlike(f"avatar {avatar} has", has, heard)
    return wrong + _unlike("those who trade have", traders, pot)


def _unlike(who: str, has: Counter[str], heard: Told) -> list[str]:
    wrong = []
    for item in {*has, *heard.acknowledged, *heard.in_doubt}:
        least, most = heard.acknowledged[item], heard.acknowledged[item] + heard.in_doubt[item]
        if not least <= has[item] <= most:
            wrong.append(f"{who} {has[item]} {item}: acknowledged {least}, at most {most}")
    return wrong
