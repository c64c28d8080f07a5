"""What changed hands in a run, and for how long anything was on its way: the figures beside those of the faults."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tests.chaos.figures import summary
from tests.chaos.history import NEMESIS, STORE, Entry, by_player
from tests.chaos.holds import held
from world.audit import settled
from world.transaction_document import ABORTED, KIND, Intent


def dealings(entries: Sequence[Entry], documents: Mapping[str, bytes]) -> dict[str, Any]:
    """``acknowledged``: items that players were told they had gathered; ``given``: what the land counts to have given;
    ``carried``: what avatars have in the end. ``trades``: how they ended, as players were told; ``held``: of which kind
    → how long at least and at most, s; ``left``: what the stop has left on its way."""
    ends: dict[str, str] = {}
    gathers: Counter[str] = Counter()
    items: Counter[str] = Counter()
    for own in by_player(entries).values():
        for entry in own:
            if entry.op == "trade":
                _note_end(ends, *entry.value)
            elif entry.op == "gather":
                gathers[entry.type] += 1
                items.update(entry.value if entry.type == "ok" else {})
    given, carried = _stocks(documents)
    intents = [Intent.parse(value) for key, value in documents.items() if key.startswith(f"{KIND}:")]
    return {
        "entries": len(entries),
        "strikes": sum(1 for entry in entries if entry.who == NEMESIS and entry.type == "invoke"),
        "gathers": dict(sorted(gathers.items())),
        "acknowledged": dict(sorted(items.items())),
        "given": dict(sorted(given.items())),
        "carried": dict(sorted(carried.items())),
        "trades": dict(sorted(Counter(ends.values()).items())),
        "aborted_intents": sum(1 for intent in intents if intent.state == ABORTED),
        "held": _held(entries),
        "settled_s": next((e.value[0] for e in entries if e.who == STORE and e.op == "settled"), None),
        "left": sorted({kind for kind, _, _ in held(documents)}),
    }


def _note_end(ends: dict[str, str], trade: str, state: str, reason: str) -> None:
    if state == "committed" or (state == "closed" and ends.get(trade) != "committed"):
        ends[trade] = reason or state


def _stocks(documents: Mapping[str, bytes]) -> tuple[Counter[str], Counter[str]]:
    """(Given by regions, carried by avatars)."""
    given: Counter[str] = Counter()
    carried: Counter[str] = Counter()
    for key, unit in settled(documents).items():
        if key.startswith("region:"):
            given.update(unit.data.given)
        else:
            carried.update(unit.data.entities.get(key.partition(":")[2], {}).get("items", {}))
    return given, carried


def _held(entries: Sequence[Entry]) -> dict[str, dict[str, Any]]:
    least: dict[str, list[float]] = {}
    most: dict[str, list[float]] = {}
    for entry in entries:
        if entry.who == STORE and entry.op == "held":
            kind, _, what, least_s, most_s = entry.value
            name = f"{kind} {what}" if kind == "intent" else kind
            least.setdefault(name, []).append(least_s)
            most.setdefault(name, []).append(most_s)
    return {name: {"least_s": summary(least[name]), "most_s": summary(most[name])} for name in sorted(least)}
