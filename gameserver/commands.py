"""Client commands: run on arrival, once per key, answered when what they did is committed.

A repeat finds the saved result (in the avatar's unit), or joins the run in flight, or runs again with the same keys,
which has no second effect anywhere. A command whose end is not known within COMMAND_DEADLINE_MS is answered ``Busy``:
the gateway keeps it and asks again. ``store_unavailable`` and ``unreachable`` are answers about the wait, not about
the effect: what was begun may still land, once.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from prometheus_client import Counter as Metric

from gameserver.overdue import Overdue
from gameserver.ownership import Ownership
from gameserver.presence import Presences
from gameserver.units import Fenced, Owned, StoreGone, UnitTable
from runtime.mesh.api import Refused, Sender
from runtime.service import Service
from world.handle import Runtime
from world.ids import avatar_unit, unit_of
from world.limits import CLIENT_COMMANDS_IN_FLIGHT, COMMAND_DEADLINE_MS, COMMANDS_IN_FLIGHT, RETRY_AFTER_MS
from world.messages import Busy, ClientCommand, CommandResult, Key, Message, Moved
from world.results import Outcome, Refusal, command_key
from world.rules import COMMANDS, Context, SavedBy, digest, perform
from world.unit_size import FULL

TRANSIENT = frozenset({"busy", "unreachable", "store_unavailable", "moved", FULL})  # about now, not about the command

Place = tuple[int, int, int]  # avatar, session, number


@dataclass(slots=True, eq=False)
class Run:
    """One command under way. ``ended``: its answer, however it ends."""

    owned: Owned
    message: ClientCommand
    key: Key
    ended: asyncio.Future[Message]
    deadline_ms: float  # own time
    task: asyncio.Task[None] = field(init=False)


class Commands:
    """Serves ``ClientCommand``. ``awake(entity)`` waits for a target whose region is just being woken; False: its
    owner is not heard. An earlier attempt may have reached it, so nothing definite may be said.
    ``settled(owned, key)`` waits for what an earlier run of the command has begun, and what of it lies in the unit."""

    def __init__(
        self,
        service: Service,
        table: UnitTable,
        presences: Presences,
        ownership: Ownership,
        runtime: Runtime,
        awake: Callable[[int], Awaitable[bool]],
        store_silent_ms: Callable[[], float],
        may_speak: Callable[[], bool],
        settled: Callable[[Owned, Key], Awaitable[None]],
    ) -> None:
        self._service = service
        self._table = table
        self._presences = presences
        self._ownership = ownership
        self._runtime = runtime
        self._awake = awake
        self._store_silent_ms = store_silent_ms
        self._may_speak = may_speak
        self._settled = settled
        self._running: dict[Place, Run] = {}
        self._overdue = Overdue(self._end_overdue)
        self._in_flight: Counter[int] = Counter()  # avatar -> commands running, at most CLIENT_COMMANDS_IN_FLIGHT
        self._awaiting: dict[Owned, dict[Key, asyncio.Future[None]]] = {}  # results that a transfer will bring
        self._metric = _metric(service.metrics)

    def serve(self, sender: Sender, message: ClientCommand) -> Message | Awaitable[Message]:
        """CommandResult, Moved or Busy. Raises Refused: replaced. Most of the time a future, for which the mesh makes
        no task; of those an avatar has at most CLIENT_COMMANDS_IN_FLIGHT, all have COMMANDS_IN_FLIGHT."""
        unit = avatar_unit(message.avatar)
        if self._service.stopping.is_set() or not self._may_speak():
            return Busy(unit, RETRY_AFTER_MS)
        owned, presence = self._table.get(unit), self._presences.get(message.avatar)
        if owned is None or presence is None:
            return self._elsewhere(unit)
        if not owned.serving:
            return Busy(unit, RETRY_AFTER_MS)
        if (message.session, message.connection) < presence.number[:2]:
            raise Refused("replaced")
        if message.session > presence.number.session:
            return Busy(unit, RETRY_AFTER_MS)  # its attach is on the way
        return self._answer(owned, message)

    async def _elsewhere(self, unit: str) -> Message:
        try:
            location = self._ownership.hint(unit) or await self._ownership.locate(unit)
        except StoreGone:
            return Busy(unit, RETRY_AFTER_MS)
        return self._spoken(unit, location.moved(unit))

    def _spoken(self, unit: str, answer: Message) -> Message:
        """What may be said, now that it is known."""
        return answer if self._may_speak() else Busy(unit, RETRY_AFTER_MS)

    def _answer(self, owned: Owned, message: ClientCommand) -> Message | Awaitable[Message]:
        key = command_key(owned.key, message.session, message.number, message.floor, digest(message.op, message.args))
        owned.unit.results.settle(key.origin, key.session, key.floor)
        try:
            saved = owned.unit.result(key)
        except Refusal as refusal:
            return self._again(owned, message, Outcome.refused(refusal), owned.unit.awaited)
        if saved is not None:
            return self._again(owned, message, *saved)
        place = (message.avatar, message.session, message.number)
        run = self._running.get(place)
        if run is None:
            if len(self._running) >= COMMANDS_IN_FLIGHT:
                return Busy(owned.key, RETRY_AFTER_MS)
            if self._in_flight[message.avatar] >= CLIENT_COMMANDS_IN_FLIGHT:
                return self._result(message, Outcome(False, {}, "busy", "too many commands at once"))
            run = self._begin(place, owned, message, key)
        if run.key.digest != key.digest:
            return self._result(message, Outcome(False, {}, "key_reused", f"{message.number} is under way for another"))
        return run.ended

    async def _again(self, owned: Owned, message: ClientCommand, outcome: Outcome, version: int) -> Message:
        """How it ended before, once that is committed."""
        try:
            await self._table.committed(owned, version)
        except (Fenced, StoreGone):
            return Busy(owned.key, RETRY_AFTER_MS)
        return self._spoken(owned.key, self._result(message, outcome))

    # -- running one ---------------------------------------------------------------------------------------------------
    def _begin(self, place: Place, owned: Owned, message: ClientCommand, key: Key) -> Run:
        loop = asyncio.get_running_loop()
        run = Run(owned, message, key, loop.create_future(), self._service.clock.monotonic_ms() + COMMAND_DEADLINE_MS)
        run.task = self._service.spawn(self._run_into(run, place), f"command {message.op}")
        self._running[place] = run
        self._in_flight[message.avatar] += 1
        self._overdue.begin()
        return run

    def _end_overdue(self) -> bool:
        """Their effects may still come; whether others run."""
        now = self._service.clock.monotonic_ms()
        for run in self._running.values():  # in the order in which they began
            if run.deadline_ms > now:
                break
            if not run.ended.done():
                run.ended.set_result(self._spoken(run.owned.key, self._unknown(run)))
                run.task.cancel()
        return bool(self._running)

    async def _run_into(self, run: Run, place: Place) -> None:
        try:
            answer = self._spoken(run.owned.key, await self._run(run))
            if not run.ended.done():
                run.ended.set_result(answer)
        finally:
            run.ended.cancel()  # no-op where it has a result
            avatar = run.message.avatar
            del self._running[place]
            self._in_flight[avatar] -= 1
            if not self._in_flight[avatar]:
                del self._in_flight[avatar]

    async def _run(self, run: Run) -> Message:
        owned, message, key = run.owned, run.message, run.key
        try:
            await self._settled(owned, key)
            outcome = await self._saved(owned, key) or await self._perform(message, key)
            if outcome.ok and _brings(message.op):
                outcome = await self._brought(owned, key)
        except (Fenced, StoreGone):
            return self._unknown(run)
        except Refusal as refusal:  # settled while it ran: a newer session has come
            outcome = Outcome.refused(refusal)
        if outcome.code == FULL:  # nothing happened, whoever has the avatar's unit by now
            return self._result(message, outcome)
        if outcome.code == "moved" or owned.gone:
            return Moved(owned.key, "", 0, owned.unit.epoch)
        if not owned.serving:  # being handed off: whoever has the unit in the end runs it again, with the same keys
            return Busy(owned.key, RETRY_AFTER_MS)
        if not (outcome.ok and _brings(message.op)):  # which the transfer saved
            self._remember(owned, key, outcome)
        return self._result(message, outcome)

    def _unknown(self, run: Run) -> Message:
        """How it ended is not known, and nobody waits for that any more."""
        if not run.owned.gone and self._store_silent_ms() > 0:
            return self._result(run.message, Outcome(False, {}, StoreGone.code))
        return Busy(run.owned.key, RETRY_AFTER_MS)

    async def _saved(self, owned: Owned, key: Key) -> Outcome | None:
        """What an earlier run's transaction has saved meanwhile, once that is committed."""
        found = owned.unit.result(key)
        if found is not None:
            await self._table.committed(owned, found[1])
        return found and found[0]

    async def _perform(self, message: ClientCommand, key: Key) -> Outcome:
        target = message.args.get("target")
        if isinstance(target, int) and not await self._awake(target):
            return Outcome(False, {}, "unreachable", f"{unit_of(target)} is in sight, and its owner is not heard")
        owned = self._table.get(avatar_unit(message.avatar))
        if owned is not None and owned.unit.size.full and _brings(message.op):
            return Outcome(False, {}, FULL, "too much is kept of the avatar already")
        try:
            return Outcome(True, await perform(Context(self._runtime, message.avatar, key), message.op, message.args))
        except Refusal as refusal:
            return Outcome.refused(refusal)

    def _remember(self, owned: Owned, key: Key, outcome: Outcome) -> None:
        """For repeats; kept with the unit, which is not written for it."""
        if outcome.code in TRANSIENT:
            return
        try:
            owned.unit.record_result(key, outcome, durable=False)
        except Refusal:
            self._service.log.info("result not remembered", unit=owned.key, number=key.number)

    # -- results that transfers bring ----------------------------------------------------------------------------------
    async def _brought(self, owned: Owned, key: Key) -> Outcome:
        """The outcome that the caused delivery saved, once it is committed. Raises Fenced."""
        while True:
            found = owned.unit.result(key)
            if found is not None:
                outcome, version = found
                try:
                    await self._table.committed(owned, version)
                except StoreGone as gone:
                    return Outcome(False, {}, gone.code)
                return outcome
            if owned.gone:
                raise Fenced(owned.key)
            future = self._awaiting.setdefault(owned, {}).setdefault(key, asyncio.get_running_loop().create_future())
            try:
                await future
            finally:
                self._forget(owned, key)

    def _forget(self, owned: Owned, key: Key) -> None:
        waiting = self._awaiting.get(owned, {})
        waiting.pop(key, None)
        if not waiting:
            self._awaiting.pop(owned, None)

    def landed(self, owned: Owned) -> None:
        """The avatar's unit was committed (or is gone): look again for results awaited."""
        for future in self._awaiting.get(owned, {}).values():
            if not future.done():
                future.set_result(None)

    def _result(self, message: ClientCommand, outcome: Outcome) -> CommandResult:
        op = message.op if message.op in COMMANDS else "unknown"
        self._metric.labels(op, "ok" if outcome.ok else outcome.code).inc()
        return CommandResult(message.number, outcome.ok, outcome.code, outcome.detail, outcome.value)


def _brings(op: str) -> bool:
    """Whether a transfer is to bring something to the actor's unit."""
    return op in COMMANDS and COMMANDS[op].saved_by is SavedBy.TRANSFER


def _metric(registry: CollectorRegistry) -> Metric:
    return Metric("projectk_commands", "Client commands answered", ["op", "code"], registry=registry)
