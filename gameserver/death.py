"""Who is alive: my own ``srv:`` record renewed, everybody's watched, a silent one declared dead by one CAS.

Death needs three things at once: the record's counter unchanged for DEATH_AFTER_MS of my own clock, all my own
renewals and reads answered during that time, and missed heartbeats (or no such member of the mesh at all). An observer
whose own loop stood still counts anew: the silence may have been its own. Two things are proof at once: a newer
generation, and the word of the parent that has reaped the process. Who finds its own record dead or overtaken ends.
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from gameserver.documents import Documents, Overtaken, sleep_ms
from gameserver.records import ALIVE, DEAD, Claim, ServerRecord, parse, server_key
from runtime.mesh.api import Mesh, Refused, Sender
from runtime.notes import Notes
from runtime.service import Service
from runtime.store.api import Ambiguous, Document, Durability, Unavailable
from world.ids import NodeId
from world.limits import DEATH_AFTER_MS, SRV_RENEW_MS, STORE_ALONE_MS, STORE_CALL_MS, TAKE_TRIES
from world.messages import Message, Ok, Reaped


class SelfDead(RuntimeError):
    """This generation has been declared dead, or a newer one of this server lives: the process must end."""


class StoreLost(RuntimeError):
    """My store calls fail while a peer's succeed: others can serve my units, I cannot."""


@dataclass(slots=True)
class Seen:
    """One server's record as last read, and since when (own clock, ms) its counter stands still."""

    record: ServerRecord
    cas: int
    since_ms: float


class DeathWatch:
    """One per game server. ``on_death(server, generation)`` is called once per generation found dead."""

    def __init__(
        self,
        service: Service,
        documents: Documents,
        mesh: Mesh,
        claim: Claim,
        notes: Notes,
        on_death: Callable[[NodeId, int], None],
    ) -> None:
        self._service = service
        self._clock = service.clock
        self._log = service.log
        self._documents = documents
        self._mesh = mesh
        self._book = mesh.book
        self.node = service.node_id
        self.generation = claim.generation
        self.renewals = 0  # those that landed
        self._renewed = 0
        self._cas = claim.cas
        self._ended = claim.ended
        self._notes = notes
        self._on_death = on_death
        self._seen: dict[str, Seen] = {}
        self._told: dict[str, int] = {}  # server -> highest generation told dead
        self._silenced = False
        self._pauses = 0
        self._peers_at_failure: dict[str, int] = {}
        self._retired = False
        mesh.book.on_self_dead(self._self_dead)
        mesh.on_late(lambda ms: self._start_anew())
        mesh.on_pause(self._paused)

    # -- what others ask ---------------------------------------------------------------------------------------------
    def may_speak(self) -> bool:
        """False after the loop paused over LOOP_PAUSE_MS, until my own record has been read again: in the pause
        others may have declared me dead."""
        return not self._silenced

    async def is_alive(self, server: str, generation: int) -> bool:
        """By its ``srv:`` record, read again where the known one cannot tell. Raises Unavailable."""
        if self._book.is_dead(NodeId(server), generation):
            return False
        seen = self._seen.get(server)
        if seen is None or seen.record.generation < generation:
            await self._look(server)
            seen = self._seen.get(server)
        return seen is not None and seen.record.generation == generation and seen.record.state == ALIVE

    def is_known_dead(self, server: str, generation: int) -> bool:
        """Without asking the store: a newer generation or a verdict is known."""
        seen = self._seen.get(server)
        if seen is not None and (seen.record.generation, seen.record.state == DEAD) >= (generation, True):
            return True
        return self._book.is_dead(NodeId(server), generation)

    async def is_dead(self, server: str, generation: int) -> bool:
        """As ``is_known_dead``, for a server not heard of also by its record (none: dead). Raises Unavailable."""
        if server not in self._seen:
            await self._look(server)
        return server not in self._seen or self.is_known_dead(server, generation)

    # -- loops -------------------------------------------------------------------------------------------------------
    async def watch(self) -> None:
        """Renew and observe for ever. Raises SelfDead, StoreLost."""
        if self._ended:
            self._note_death(self.node, self._ended, "newer")
        while True:
            await self.round()
            await sleep_ms(SRV_RENEW_MS)

    async def round(self) -> None:
        """One renewal and one look at everybody. Raises SelfDead, StoreLost."""
        began_ms = self._clock.monotonic_ms()
        try:
            await self.renew()
            await self._observe(began_ms)
        except (Unavailable, Ambiguous):
            self._start_anew()
            self._judge_store()
            return
        self._peers_at_failure.clear()

    async def renew(self) -> None:
        """My counter one up, by CAS. Raises SelfDead, Unavailable, Ambiguous."""
        self._renewed += 1
        self.renewals += await self._write_own(ALIVE, STORE_CALL_MS)

    async def retire(self, give_up_ms: float) -> None:
        """Mark my own generation dead: the end of a graceful stop. Raises as ``renew``."""
        self._retired = True
        while not await self._write_own(DEAD, give_up_ms):
            self._log.info("own record moved on, retiring again")

    async def confirm_self(self) -> None:
        """Read my own record. Raises SelfDead where it is not mine alive any more; waits for the store."""
        found = await self._documents.read(server_key(self.node))
        if found is None:
            raise SelfDead(f"{self.node}: no record")
        self._check_own(found)

    def _paused(self, ms: float) -> None:
        """The loop stood still: hold everything until my record has been read again."""
        self._pauses += 1
        if self._silenced:
            return
        self._log.warning("loop paused", ms=round(ms))
        self._silenced = True
        self._mesh.hold()
        self._service.spawn(self._speak_again(), "re-read own record")

    async def _speak_again(self) -> None:
        """A read during which the loop stood still once more says how it was before."""
        pauses = 0
        while pauses != self._pauses:
            pauses = self._pauses
            await self.confirm_self()
        self._silenced = False
        self._mesh.release()

    # -- own record --------------------------------------------------------------------------------------------------
    async def _write_own(self, state: str, give_up_ms: float) -> bool:
        """False where an earlier write of mine, given up as ambiguous, had landed instead: its token is known now."""
        key = server_key(self.node)
        write_id = self._documents.new_write_id()
        record = ServerRecord(self.generation, self._renewed, state, write_id)
        try:
            self._cas = await self._documents.write(
                key,
                msgspec.json.encode(record),
                self._cas,
                write_id,
                give_up_ms=give_up_ms,
                durability=Durability.MAJORITY,
            )
        except Overtaken as overtaken:
            if overtaken.found is None:
                raise SelfDead(f"{self.node}: no record") from overtaken
            self._check_own(overtaken.found)
            return parse(ServerRecord, key, overtaken.found).state == state == DEAD
        return True

    def _check_own(self, found: Document) -> None:
        """Raises SelfDead unless the record is of this living generation; then its token is the one to go on with
        (an earlier renewal given up as ambiguous has landed)."""
        record = parse(ServerRecord, server_key(self.node), found)
        if record.generation != self.generation or (record.state != ALIVE and not self._retired):
            raise SelfDead(f"{self.node}:{self.generation} finds {record.generation} {record.state}")
        self._cas = found.cas

    def _self_dead(self, highest: int) -> None:
        if not self._service.stopping.is_set():
            self._service.fail(SelfDead(f"{self.node}:{self.generation}: the mesh knows {highest}"))

    # -- the others' ---------------------------------------------------------------------------------------------------
    async def _observe(self, began_ms: float) -> None:
        """A round that took longer than a renewal may wait judges nobody: the store did not answer for a while, and
        others' renewals may have waited as mine did."""
        keys = [key for key in await self._documents.list("srv", give_up_ms=STORE_CALL_MS) if key != self._own_key]
        found = await self._documents.read_many(keys, give_up_ms=STORE_CALL_MS)
        for key, document in found.items():
            self._note(NodeId(key.removeprefix("srv:")), document)
        if self._clock.monotonic_ms() - began_ms > SRV_RENEW_MS:
            self._start_anew()
        for server, seen in list(self._seen.items()):
            if seen.record.state == ALIVE and self._silent(server, seen):
                await self._declare(NodeId(server), seen, "silence")

    @property
    def _own_key(self) -> str:
        return server_key(self.node)

    async def _look(self, server: str) -> None:
        found = await self._documents.read(server_key(server), give_up_ms=STORE_CALL_MS)
        if found is not None:
            self._note(NodeId(server), found)

    def _note(self, server: NodeId, document: Document) -> None:
        """Keep what was read. Old reads that arrive late (lower generation or counter) are ignored."""
        record = parse(ServerRecord, server_key(server), document)
        seen = self._seen.get(server)
        now = self._clock.monotonic_ms()
        if seen is None:
            self._seen[server] = Seen(record, document.cas, now)
        elif _order(record) > _order(seen.record):
            if record.generation > seen.record.generation:
                self._tell(server, seen.record.generation)
            self._seen[server] = Seen(record, document.cas, now)
        if self._seen[server].record.state == DEAD:
            self._tell(server, self._seen[server].record.generation)

    def _silent(self, server: str, seen: Seen) -> bool:
        if self._clock.monotonic_ms() - seen.since_ms < DEATH_AFTER_MS:
            return False
        member = self._book.get(NodeId(server))
        gone = member is None or member.generation < seen.record.generation
        return gone or self._book.suspected(NodeId(server))

    async def reaped(self, _: Sender, message: Reaped) -> Message:
        """Its parent has seen that process end. Ok once the record says so, and to a repeat; a process without a
        record (another role's) is dead by the word alone. Raises Refused ``store_unavailable``, ``no_such_target``: it
        is said of me, who lives."""
        node, generation = NodeId(message.node), message.generation
        if node == self.node and generation >= self.generation:
            raise Refused("no_such_target", f"{node}:{generation} answers you")
        try:
            for _try in range(TAKE_TRIES):
                if await self._bury(node, generation):
                    return Ok()
        except (Unavailable, Ambiguous) as error:
            raise Refused("store_unavailable", str(error)) from error
        raise Refused("store_unavailable", f"{server_key(node)} is being written")

    async def _bury(self, node: NodeId, generation: int) -> bool:
        """One look at the record of a process that has ended, and one CAS where it is needed. False: the record was
        written meanwhile. Raises Unavailable, Ambiguous."""
        found = await self._documents.read(server_key(node), give_up_ms=STORE_CALL_MS)
        record = parse(ServerRecord, server_key(node), found) if found is not None else ServerRecord(0)
        if found is not None:
            self._note(node, found)
        if record.generation < generation:
            self._book.declare_dead(node, generation)
            return True
        if found is not None and record.generation == generation and record.state == ALIVE:
            await self._declare(node, Seen(record, found.cas, 0.0), "reaped")
            return self.is_known_dead(node, generation)
        return True

    async def _declare(self, server: NodeId, seen: Seen, proof: str) -> None:
        """Alive to dead by CAS: whoever moved the record first is right. Raises Unavailable, Ambiguous."""
        write_id = self._documents.new_write_id()
        verdict = ServerRecord(seen.record.generation, seen.record.renewed, DEAD, write_id)
        key = server_key(server)
        try:
            cas = await self._documents.write(
                key, msgspec.json.encode(verdict), seen.cas, write_id, give_up_ms=STORE_CALL_MS
            )
        except Overtaken as overtaken:
            if overtaken.found is not None:
                self._note(server, overtaken.found)
            return
        self._note(server, Document(msgspec.json.encode(verdict), cas))
        self._note_death(server, seen.record.generation, proof)

    def _note_death(self, server: NodeId, generation: int, proof: str) -> None:
        """By the one who made it true, so that operators read it once."""
        self._log.warning("declared dead", server=server, generation=generation, proof=proof)
        self._notes.note("death", node=server, generation=generation, by=self.node, proof=proof)

    def _tell(self, server: NodeId, generation: int) -> None:
        if self._told.get(server, 0) >= generation:
            return
        self._told[server] = generation
        self._book.declare_dead(server, generation)
        self._on_death(server, generation)

    # -- my own store calls failing ------------------------------------------------------------------------------------
    def _start_anew(self) -> None:
        """A round that failed, or a loop of mine that stood still, proves nothing about others: their silence is
        counted from now."""
        now = self._clock.monotonic_ms()
        for seen in self._seen.values():
            seen.since_ms = now

    def _judge_store(self) -> None:
        """Raises StoreLost where my calls fail for STORE_ALONE_MS while a peer's renewals (told in its load) go on."""
        renewals = {m.id: int(m.load.get("renewed", 0)) for m in self._book.members("gameserver") if m.id != self.node}
        if not self._peers_at_failure:
            self._peers_at_failure = renewals
        ahead = [peer for peer, n in renewals.items() if n > self._peers_at_failure.get(peer, n) + 2]
        if ahead and self._documents.failing_ms() > STORE_ALONE_MS:
            raise StoreLost(f"{self.node}: the store answers {ahead[0]} and not me")


def _order(record: ServerRecord) -> tuple[int, bool, int]:
    """Later in a server's lives, or in one life, is greater."""
    return record.generation, record.state == DEAD, record.renewed
