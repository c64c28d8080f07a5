"""Mutator calls, wherever the real is: on a unit held here at once, else by RPC to its owner.

The caller's key travels unchanged through every hop and retry, so a call has its effect at most once::

    held here          the mutator runs, synchronously; the answer waits for the commit
    Moved, Busy        asked again where the unit is said to be, a little later
    nobody owns it     taken here (the need of a command wakes a region)
    unreachable        located anew by the unit's document, until the deadline: Refusal ``unreachable``
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from gameserver.documents import sleep_ms
from gameserver.ownership import Contended, Location, NoSuchUnit, Ownership
from gameserver.units import Fenced, Owned, StoreGone, UnitFull, UnitTable
from runtime.mesh.api import DeadlineExceeded, Mesh, Refused, Sender, Unreachable
from runtime.service import Service
from world.fence import EpochFence
from world.ids import NodeId, avatar_unit, unit_of
from world.limits import RETRY_AFTER_MS, RPC_DEADLINE_MS
from world.messages import Actor, Busy, Invoke, Json, Key, Message, Moved, Returned
from world.results import Refusal

STARTING = "unhandled"  # what the mesh answers for a member that does not serve yet


class Asks(Protocol):
    """A message to a unit's owner, with the epoch it is thought to have."""

    def __call__(self, to_epoch: int, /) -> Message: ...


class Routing:
    """Reach a unit's owner: the one loop behind invocations and deliveries."""

    def __init__(self, service: Service, mesh: Mesh, table: UnitTable, ownership: Ownership) -> None:
        self._clock = service.clock
        self._node = service.node_id
        self._mesh = mesh
        self._table = table
        self._ownership = ownership

    async def reach(
        self,
        unit: str,
        here: Callable[[Owned], Awaitable[Message]],
        ask: Asks,
        deadline_ms: float,
        *,
        take: bool = True,
    ) -> Message:
        """The owner's answer, from ``here`` if that is me. A unit of nobody's is taken, unless ``take`` is False.
        Raises Refusal: the rule's, or unreachable, store_unavailable, unit_full, no_such_target."""
        end = self._clock.monotonic_ms() + deadline_ms
        problem = "unreachable"
        while True:
            try:
                answer = await self._once(unit, here, ask, end, take)
                if not isinstance(answer, Moved | Busy):
                    return answer
                problem = "busy"
            except (Fenced, Contended):
                problem = "busy"
            except UnitFull as full:
                raise Refusal(full.code, unit) from full
            except StoreGone as gone:
                problem = gone.code
            except NoSuchUnit as missing:
                raise Refusal("no_such_target", unit) from missing
            except (Unreachable, DeadlineExceeded):
                self._ownership.locations.forget(unit)
                problem = "unreachable"
            except Refused as refused:
                if refused.code == STARTING:
                    self._ownership.locations.forget(unit)
                elif refused.code != StoreGone.code:
                    raise Refusal(refused.code, refused.detail) from refused
                problem = "unreachable" if refused.code == STARTING else refused.code
            if self._clock.monotonic_ms() + RETRY_AFTER_MS >= end:
                raise Refusal(problem, unit)
            await sleep_ms(RETRY_AFTER_MS)

    async def _once(
        self, unit: str, here: Callable[[Owned], Awaitable[Message]], ask: Asks, end: float, take: bool
    ) -> Message:
        owned = self._table.get(unit)
        if owned is None:
            location = self._ownership.hint(unit) or await self._ownership.locate(unit)
            if location.is_nobody and not take:
                return Busy(unit)
            if location.is_nobody:
                taken = await self._ownership.take(unit)
                owned, location = (taken, location) if isinstance(taken, Owned) else (None, taken)
            if not location.is_nobody and location.server != self._node:
                return await self._ask(unit, location, ask(location.epoch), end)
        if owned is None or not owned.serving:
            return Busy(unit)
        return await here(owned)

    async def _ask(self, unit: str, location: Location, message: Message, end: float) -> Message:
        left = end - self._clock.monotonic_ms()
        answer = await self._mesh.call(location.server, message, deadline_ms=max(1.0, min(left, RPC_DEADLINE_MS)))
        if isinstance(answer, Moved):
            self._ownership.locations.forget(unit)
            if answer.server and answer.epoch >= location.epoch:
                told = Location(NodeId(answer.server), answer.generation, answer.epoch)
                self._ownership.locations.learn(unit, told)
        return answer


class Invoking:
    """Both ends of ``Invoke``."""

    def __init__(self, table: UnitTable, ownership: Ownership, routing: Routing, fence: EpochFence) -> None:
        self._table = table
        self._ownership = ownership
        self._routing = routing
        self._fence = fence

    async def invoke(
        self, entity: int, mutator: str, args: Json, key: Key, actor: Actor | None, deadline_ms: float
    ) -> Json:
        """The mutator's value once its effect is committed. Raises Refusal."""

        async def here(owned: Owned) -> Returned:
            return await self._here(owned, entity, mutator, args, key, actor)

        def ask(to_epoch: int) -> Invoke:
            return Invoke(entity, to_epoch, mutator, args, key, actor)

        answer = await self._routing.reach(unit_of(entity), here, ask, deadline_ms)
        assert isinstance(answer, Returned), answer
        return answer.value

    async def serve(self, _: Sender, message: Invoke) -> Message:
        """Another server's call. Facts vouched for by an owner that has been followed by a newer one are not
        believed. Raises Refused with the rule's code, store_unavailable."""
        unit = unit_of(message.entity)
        actor = message.actor
        if actor is not None and not self._fence.admit(avatar_unit(actor.avatar), actor.epoch):
            return Busy(unit)

        async def here(owned: Owned) -> Returned:
            return await self._here(owned, message.entity, message.mutator, message.args, message.key, message.actor)

        return await serve_unit(self._table, self._ownership, unit, message.to_epoch, here)

    async def _here(
        self, owned: Owned, entity: int, mutator: str, args: Json, key: Key, actor: Actor | None
    ) -> Returned:
        """On the real. A refusal, too, waits for the version it depends on. Raises Refusal, Fenced, StoreGone."""
        try:
            pending = owned.unit.invoke(entity, mutator, args, key, actor)
        except Refusal as refusal:
            await self._table.committed(owned, refusal.version)
            raise
        self._table.touch(owned)
        await self._table.committed(owned, pending.version)
        return Returned(pending.value, owned.unit.epoch, pending.version)


async def serve_unit(
    table: UnitTable,
    ownership: Ownership,
    unit: str,
    to_epoch: int,
    here: Callable[[Owned], Awaitable[Message]],
) -> Message:
    """What an owner does with a message for a unit: serve it, or say where it is. A unit whose document names me,
    though I do not hold it, is adopted. Raises Refused: ``store_unavailable``, ``unit_full``, ``no_such_target``, and
    what ``here`` refuses, with its code."""
    try:
        owned = table.get(unit)
        if owned is not None and to_epoch > owned.unit.epoch and not await ownership.check(owned, to_epoch):
            owned = table.get(unit)
        if owned is None:
            taken = await ownership.adopt(unit)
            if isinstance(taken, Location):
                return taken.moved(unit)
            owned = taken
        return await here(owned) if owned.serving else Busy(unit)
    except StoreGone as gone:
        raise Refused(gone.code) from gone
    except NoSuchUnit as missing:
        raise Refused("no_such_target", unit) from missing
    except (Fenced, Contended):
        return Busy(unit)
    except Refusal as refusal:
        raise Refused(refusal.code, refusal.detail) from refusal
