"""What must hold of transactions, watched at every write that lands: applied where it is committed and nowhere else,
once by each unit; undone only where it is aborted; nothing is locked for long."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping

from tests.simulation.plan import Plan
from world.transaction_document import ABORTED, COMMITTED, KIND, Intent, sums
from world.unit_document import UnitDocument

LOCK_BOUND_S = 30.0  # while the store answers
STAGES = ("pending", "first lock", "all locked", "committed", "first applied")


class TradeWatch:
    """Told of every write and removal. ``committed``: transactions that are, for good."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._break = note
        self.committed: dict[str, Intent] = {}
        self.aborted: set[str] = set()
        self.applied: defaultdict[str, Counter[str]] = defaultdict(Counter)  # id -> units
        self.holds: dict[str, dict[str, float]] = {}  # unit -> id -> since when, s
        self.longest_s = 0.0
        self.ambushes: defaultdict[str, list[asyncio.Future[Intent]]] = defaultdict(list)  # stage -> told of it
        self._intents: dict[str, Intent] = {}

    # -- intents -------------------------------------------------------------------------------------------------------
    def intent(self, key: str, value: bytes) -> None:
        tx, intent = key.removeprefix(f"{KIND}:"), Intent.parse(value)
        if tx in self.committed and intent.state != COMMITTED:
            self._break(f"{key} was committed, and becomes {intent.state}")
        if tx in self.aborted and intent.state != ABORTED:
            self._break(f"{key} was aborted, and becomes {intent.state}")
        if intent.state == COMMITTED and tx not in self.committed:
            self.committed[tx] = intent
            self._reached("committed", tx)
        elif intent.state == ABORTED:
            self.aborted.add(tx)
        else:
            self._intents[tx] = intent
            self._reached("pending", tx)

    # -- units ---------------------------------------------------------------------------------------------------------
    def unit(self, key: str, document: UnitDocument) -> None:
        now, held = asyncio.get_running_loop().time(), self.holds.setdefault(key, {})
        for tx in held.keys() - document.pending.keys():
            self._ended(tx, key, applied=tx in document.done)
            self.longest_s = max(self.longest_s, now - held.pop(tx))
        for tx in document.pending.keys() - held.keys():
            held[tx] = now
            locked = sum(tx in other for other in self.holds.values())
            self._reached("first lock" if locked == 1 else "all locked", tx)

    def _ended(self, tx: str, unit: str, *, applied: bool) -> None:
        if not applied:
            if tx in self.committed:
                self._break(f"{unit} has undone {tx}, which is committed")
            return
        self.applied[tx][unit] += 1
        if self.applied[tx][unit] > 1:
            self._break(f"{unit} has applied {tx} {self.applied[tx][unit]} times")
        if tx not in self.committed:
            self._break(f"{unit} has applied {tx}, which is not committed")
        self._reached("first applied", tx)

    def _reached(self, stage: str, tx: str) -> None:
        intent = self._intents.get(tx)
        if intent is None:
            return
        for waiting in self.ambushes.pop(stage, ()):
            if not waiting.done():
                waiting.set_result(intent)

    # -- what is asked -------------------------------------------------------------------------------------------------
    def traded(self, unit: str) -> Counter[str]:
        """What transactions have brought this unit, and (below zero) taken from it."""
        net: Counter[str] = Counter()
        for intent in self.committed.values():
            changes = intent.parts.get(unit, [])
            net.update(sums(changes, incoming=True))
            net.subtract(sums(changes, incoming=False))
        return net

    def too_long(self, plan: Plan) -> Iterator[str]:
        """Items locked for longer than the bound, the time without a store not counted."""
        away_s = sum(s.lasts_s for s in plan.strikes if s.kind in ("store_away", "cut_off", "zombie"))
        now = asyncio.get_running_loop().time()
        open_s = [now - since for held in self.holds.values() for since in held.values()]
        longest_s = max([self.longest_s, *open_s])
        if longest_s > LOCK_BOUND_S + away_s:
            yield f"something was locked for {longest_s:.1f} s"


def half_done(watch: TradeWatch, documents: Mapping[str, bytes]) -> Iterator[str]:
    """In the end: every committed transaction is applied by all its units."""
    for tx, intent in watch.committed.items():
        missing = [unit for unit in intent.parts if not watch.applied[tx][unit]]
        if missing:
            yield f"{tx} is committed, and not applied by {missing}"
    for key, value in documents.items():
        if key.startswith(f"{KIND}:") and Intent.parse(value).state != ABORTED:
            yield f"{key} is still there, {Intent.parse(value).state}"
