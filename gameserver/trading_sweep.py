"""The sweep of intents that no keeper ends, and of those aborted long ago.

One game server, the first by id of those that are ready, looks every TX_SWEEP_MS at a page of all ``tx:`` documents::

    pending      noticed for two terms, by own clock, or of a creator known dead: aborted by CAS
    committed    noticed for a term: every unit is asked whether it is done with it, then the intent is removed
    aborted      at least TX_ABORTED_KEPT_S ago: removed; a repeat of its command is settled by then, or finds it gone
                 and its avatar's unit without it

Two that both believe to be the first do no harm: each step is a CAS.
"""

from collections import OrderedDict

from gameserver.death import DeathWatch
from gameserver.documents import Documents, Overtaken, sleep_ms
from gameserver.records import parse
from gameserver.trading import Trading
from runtime.mesh.api import Mesh
from runtime.service import Service
from runtime.store.api import Ambiguous, Document, Unavailable
from world.ids import NodeId, node_number
from world.limits import (
    STORE_GIVE_UP_MS,
    TX_ABORTED_KEPT_S,
    TX_INTENTS_NOTED,
    TX_SWEEP_KEYS,
    TX_SWEEP_MS,
    TX_TERM_MS,
)
from world.results import Refusal
from world.transaction_document import ABORTED, COMMITTED, KIND, PENDING, Intent
from world.unit_document import BadDocument


class IntentSweep:
    """See the module's text."""

    def __init__(self, service: Service, mesh: Mesh, documents: Documents, watch: DeathWatch, trading: Trading) -> None:
        self._service = service
        self._clock = service.clock
        self._log = service.log
        self._mesh = mesh
        self._documents = documents
        self._watch = watch
        self._trading = trading
        self._after = ""  # the last key of the last page
        self._noted: OrderedDict[tuple[str, str], float] = OrderedDict()  # (key, state) -> since when, own clock
        self._kept: OrderedDict[str, float] = OrderedDict()  # aborted ones: not to be read before, own clock
        self.ended = 0

    async def keep(self) -> None:
        """For ever."""
        while True:
            await sleep_ms(TX_SWEEP_MS * self._service.rng.uniform(0.8, 1.2))
            if self._is_first():
                try:
                    await self.round()
                except (Unavailable, Ambiguous) as problem:
                    self._log.info("intents not looked at", reason=problem.code)

    def _is_first(self) -> bool:
        """Of the ready game servers that are heard, this one included."""
        book, me = self._mesh.book, self._service.node_id
        others = [m.id for m in book.members("gameserver") if m.status == "ready" and not book.suspected(NodeId(m.id))]
        return all(node_number(me) <= node_number(other) for other in others) and self._watch.may_speak()

    async def round(self) -> None:
        """One page. Raises Unavailable, Ambiguous."""
        keys = await self._documents.list_page(KIND, self._after, TX_SWEEP_KEYS, give_up_ms=STORE_GIVE_UP_MS)
        self._after = keys[-1] if len(keys) == TX_SWEEP_KEYS else ""
        now = self._clock.monotonic_ms()
        due = [key for key in keys if self._kept.get(key, 0.0) <= now]
        found = await self._documents.read_many(due, give_up_ms=STORE_GIVE_UP_MS)
        for key, document in found.items():
            try:
                await self._look(key, document, parse(Intent, key, document))
            except (BadDocument, Refusal) as problem:
                self._log.info("intent left as it is", key=key, reason=str(problem))
            except Overtaken:
                continue

    async def _look(self, key: str, document: Document, intent: Intent) -> None:
        """Raises Refusal, Overtaken, Unavailable, Ambiguous."""
        if intent.state == ABORTED:
            await self._forget(key, document, intent)
            return
        noted_ms = self._noticed_ms(key, intent.state)
        dead = self._watch.is_known_dead(intent.creator, intent.generation)
        if intent.state == PENDING and (dead or noted_ms >= 2 * TX_TERM_MS):
            aborted = intent.become(ABORTED, self._clock.world_ms())
            await self._put(key, aborted, document.cas)
            self.ended += 1
        elif intent.state == COMMITTED and noted_ms >= TX_TERM_MS:
            await self._finish(key, document, intent)
            self.ended += 1

    def _noticed_ms(self, key: str, state: str) -> float:
        """For how long it has been seen so."""
        now = self._clock.monotonic_ms()
        since_ms = self._noted.setdefault((key, state), now)
        while len(self._noted) > TX_INTENTS_NOTED:
            self._noted.popitem(last=False)
        return now - since_ms

    async def _finish(self, key: str, document: Document, intent: Intent) -> None:
        """Only once every unit has said, as committed, that it has applied it. Raises Refusal, Unavailable."""
        for unit in intent.parts:
            if unit not in intent.applied:
                await self._trading.tell(key.partition(":")[2], unit, committed=True)
        await self._documents.remove(key, document.cas, give_up_ms=STORE_GIVE_UP_MS)

    async def _forget(self, key: str, document: Document, intent: Intent) -> None:
        left_ms = intent.at_ms + TX_ABORTED_KEPT_S * 1_000 - self._clock.world_ms()
        if left_ms <= 0:
            await self._documents.remove(key, document.cas, give_up_ms=STORE_GIVE_UP_MS)
            return
        self._kept[key] = self._clock.monotonic_ms() + left_ms
        while len(self._kept) > TX_INTENTS_NOTED:
            self._kept.popitem(last=False)

    async def _put(self, key: str, intent: Intent, cas: int) -> None:
        write_id = self._documents.new_write_id()
        await self._documents.write(key, intent.encode(write_id), cas, write_id, give_up_ms=STORE_GIVE_UP_MS)
