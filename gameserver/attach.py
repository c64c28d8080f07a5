"""Attach and detach: which gateway's connection an avatar serves, and the avatar's coming and going.

One message serves login, resume, fail-over and locate alike::

    held here                     decide by the attach number (session, connection), kept in the avatar's document
    a living server owns it       Moved
    nobody living owns it         taken by CAS, placed where it was last seen, attached
    no room here                  Moved to a server with room, at the cap everywhere to the least loaded one, at most
                                  ATTACH_PASSES times

The answer waits until the attach number is committed. Then the older connection hears ``SessionEnded``.

A logout is an attach that nobody follows: the document's number becomes (a newer session, 0, no gateway), so every
older session and its resume token are refused from then on, wherever they knock.
"""

from collections.abc import Awaitable, Callable

import numpy as np

from gameserver.documents import sleep_ms
from gameserver.motion_document import MotionLog
from gameserver.ownership import Contended, Location, NoSuchUnit, Ownership
from gameserver.presence import Presence, Presences, inventory_of
from gameserver.records import OwnerHead
from gameserver.state import StateSide
from gameserver.units import Fenced, Owned, StoreGone, UnitTable
from runtime.mesh.api import Mesh, Refused, Sender
from runtime.service import Service
from world.attach import Decision, decide
from world.grid import region_at
from world.ids import NodeId, avatar_unit
from world.limits import (
    ATTACH_PASSES,
    AVATAR_LINGER_S,
    LINGER_LOOK_MS,
    RETRY_AFTER_MS,
    SIGHT_M,
)
from world.messages import Attach, Attached, Busy, Detach, EndSession, Message, Moved, Ok, SessionEnded
from world.placement import Candidate, RecentPlacements, candidate_of, place
from world.terrain import Terrain, spawn_place
from world.unit import AttachNumber, Unit

LOGGED_OUT = "logged_out"
NOWHERE = (-1, -1)  # a region that nobody sees: where only load counts
ENDED = 0  # the connection number of a session that exists only to end all older ones


def _why_refused(held: AttachNumber) -> str:
    return LOGGED_OUT if held.connection == ENDED else "replaced"


class Attaching:
    """The shell around ``world.attach``."""

    def __init__(
        self,
        service: Service,
        mesh: Mesh,
        table: UnitTable,
        presences: Presences,
        state: StateSide,
        motion: MotionLog,
        terrain: Terrain,
        cap: int,
    ) -> None:
        self._service = service
        self._clock = service.clock
        self._log = service.log
        self._mesh = mesh
        self._table = table
        self._presences = presences
        self._state = state
        self._motion = motion
        self._terrain = terrain
        self._cap = cap
        self._passed = RecentPlacements()
        self._coming: set[int] = set()  # avatars whose attach has been let in
        self.ownership: Ownership  # this and the next by ``connect``: each needs the other
        self._wake: Callable[[], None]
        self.on_attached: Callable[[Presence, bool], None] = lambda presence, anew: None  # anew: events were missed

    def connect(self, ownership: Ownership, wake: Callable[[], None]) -> None:
        """``wake()`` looks at once for regions that a newly attached avatar sees."""
        self.ownership, self._wake = ownership, wake

    # -- attach ------------------------------------------------------------------------------------------------------
    async def attach(self, sender: Sender, message: Attach) -> Message:
        """Answers Attached, Moved, Busy; raises Refused: replaced, logged_out, no_such_avatar, full,
        store_unavailable."""
        return await self._answered(message.avatar, self._attach(sender, message))

    async def _answered(self, avatar: int, work: Awaitable[Message]) -> Message:
        """Raises Refused: no_such_avatar, store_unavailable."""
        try:
            return await work
        except (StoreGone, NoSuchUnit) as problem:
            raise Refused(problem.code) from problem
        except (Fenced, Contended):
            return Busy(avatar_unit(avatar), RETRY_AFTER_MS)

    async def _attach(self, sender: Sender, message: Attach) -> Message:
        unit = avatar_unit(message.avatar)
        if self._service.stopping.is_set():
            return Busy(unit, RETRY_AFTER_MS)
        crowded = self._service.draining.is_set() or self._avatars() >= self._cap
        if self._presences.get(message.avatar) is None and crowded:
            elsewhere = await self._make_room(unit, message)
            if elsewhere is not None:
                return elsewhere
        self._coming.add(message.avatar)
        try:
            return await self._let_in(sender, message, unit)
        finally:
            self._coming.discard(message.avatar)

    def _avatars(self) -> int:
        """In the world here, or about to be."""
        return len(self._presences) + sum(self._presences.get(avatar) is None for avatar in self._coming)

    async def _let_in(self, sender: Sender, message: Attach, unit: str) -> Message:
        owned = self._table.get(unit)
        if owned is None:
            taken = await self.ownership.take(unit, message.name)
            if isinstance(taken, Location):
                return taken.moved(unit)
            owned = taken
        if not owned.serving:
            return Busy(unit, RETRY_AFTER_MS)
        return await self._attach_here(sender, message, owned)

    async def _make_room(self, unit: str, message: Attach) -> Moved | Busy | None:
        """At the cap, or draining: the living owner, else a server with room; at the cap everywhere the least loaded
        takes who was in the world already. None: it comes in here. Raises Refused ``full``."""
        location = await self.ownership.locate(unit)
        if not location.is_nobody and location.server != self._service.node_id:
            return location.moved(unit)
        newcomer = message.last_stream == 0
        chosen = place(self._candidates(), "spread", adopt=not newcomer)
        passed = message.passes >= ATTACH_PASSES
        if self._service.draining.is_set() and (chosen is None or passed):
            return Busy(unit, RETRY_AFTER_MS)
        if chosen is None or (newcomer and passed):
            raise Refused("full")
        if chosen == self._service.node_id or passed:
            return None
        self._passed.add(chosen, NOWHERE, self._clock.monotonic_ms())
        return Moved(unit, chosen, self._mesh.book.highest_generation(NodeId(chosen)), 0)

    def _candidates(self) -> list[Candidate]:
        """I, unless I drain, and the others that are ready and heard of; those whom I have just passed on counted."""
        book, me = self._mesh.book, self._service.node_id
        others = [m for m in book.members("gameserver") if m.id != me and m.status == "ready"]
        draining = self._service.draining.is_set()
        candidates = [] if draining else [Candidate(me, self._avatars(), self._cap, 0)]
        candidates += [
            candidate_of(m.id, m.load, NOWHERE, self._cap) for m in others if not book.suspected(NodeId(m.id))
        ]
        return self._passed.counted(candidates, NOWHERE, self._clock.monotonic_ms())

    async def _attach_here(self, sender: Sender, message: Attach, owned: Owned) -> Message:
        asked = AttachNumber(message.session, message.connection, sender.node)
        held = owned.unit.attach_number
        decision = decide(held, asked)
        if decision is Decision.REFUSE:
            await self._table.committed(owned, owned.unit.awaited)
            raise Refused(_why_refused(held))
        if decision is Decision.ACCEPT or not held.gateway:
            owned.unit.attach_number = asked
            self._table.touch(owned)
        presence = self._appear(owned, message.avatar, asked, sender.generation)
        await self._table.committed(owned, owned.unit.awaited)
        if decision is Decision.ACCEPT and held.gateway and held[:2] != asked[:2]:
            self._mesh.send(
                NodeId(held.gateway), SessionEnded(message.avatar, held.session, held.connection, "replaced")
            )
        if not owned.serving:
            raise Fenced(owned.key)
        if owned.unit.attach_number != asked or self._presences.get(message.avatar) is not presence:
            raise Refused(_why_refused(owned.unit.attach_number))  # newer than this one, which was being written
        self._state.attach(message.avatar, sender.node, message.session, message.connection)
        self._wake()
        if presence.on_attached is not None:
            presence.on_attached()
            presence.on_attached = None
        answer = self._answer(presence, message)
        self.on_attached(presence, answer.resync is not None and message.last_stream > 0)
        return answer

    def _answer(self, presence: Presence, message: Attach) -> Attached:
        unit, ring = presence.owned.unit, presence.ring
        events = ring.after(message.last_event) if message.last_stream == ring.stream else None
        view = unit.view(presence.avatar)
        motion = self._state.position(presence.avatar)
        own_state = {"name": view.values["name"], "inventory": inventory_of(presence.owned, presence.avatar)}
        return Attached(
            avatar=presence.avatar,
            server=self._service.node_id,
            generation=self._mesh.me.generation,
            epoch=unit.epoch,
            stream=ring.stream,
            next_event=ring.next_n,
            last_input=motion.last_input,
            x=motion.x,
            y=motion.y,
            world_ms=self._clock.world_ms(),
            radius=SIGHT_M,
            events=events or [],
            resync=own_state if events is None else None,
        )

    # -- coming ------------------------------------------------------------------------------------------------------
    def _appear(self, owned: Owned, avatar: int, number: AttachNumber, gateway_generation: int) -> Presence:
        """In the world, with this connection as the one that is told."""
        presence = self._presences.get(avatar)
        if presence is not None:
            presence.number = number
            presence.gateway_generation = gateway_generation
            presence.leaving = False
            presence.alone_since_ms = self._clock.monotonic_ms()
            return presence
        view = owned.unit.view(avatar)
        at = (view.x, view.y) if self._stands(view.x, view.y) else spawn_place(self._terrain.seed, avatar)
        self._state.add(
            avatar,
            owned.unit.epoch,
            *at,
            moves=True,
            motion_version=owned.motion_version + 1,
            last_input=owned.last_input,
            properties=[(p.group, p.version, p.body) for p in owned.unit.properties()],
        )
        return self._presences.appear(avatar, owned, number, gateway_generation)

    def create(self, unit: str, name: str) -> Unit:
        """A newcomer's unit, near the spawn. Raises NoSuchUnit without a name."""
        if not name:
            raise NoSuchUnit(unit)
        avatar = int(unit.partition(":")[2])
        x, y = spawn_place(self._terrain.seed, avatar)
        return Unit.new_avatar(avatar, name, x, y, self._terrain.seed)

    async def restore(self, unit: Unit, head: OwnerHead) -> int:
        """Before a take: the position of a last owner that did not release it; the last input applied there."""
        avatar = next(iter(unit.entities))
        if not head.owner:
            return 0
        row = await self._motion.row(head.owner, head.generation, avatar, head.epoch)
        if row is None:
            return 0
        _, _, _, x, y, last_input = row
        if self._stands(x, y):
            unit.place(avatar, x, y)
        return last_input

    def _stands(self, x: float, y: float) -> bool:
        return bool(self._terrain.walkable(np.array([x]), np.array([y]))[0])

    # -- logout ------------------------------------------------------------------------------------------------------
    async def end_session(self, _: Sender, message: EndSession) -> Message:
        """All sessions below this one are over, for ever. Ok once the document says so, and to a repeat; Moved, Busy.
        Raises Refused: no_such_avatar, store_unavailable."""
        return await self._answered(message.avatar, self._end_session(message))

    async def _end_session(self, message: EndSession) -> Message:
        unit = avatar_unit(message.avatar)
        if self._service.stopping.is_set():
            return Busy(unit, RETRY_AFTER_MS)
        owned = self._table.get(unit)
        taken = owned or await self.ownership.take(unit)
        if isinstance(taken, Location):
            return taken.moved(unit)
        if not taken.serving:
            return Busy(unit, RETRY_AFTER_MS)
        if taken.unit.attach_number.session < message.session:
            taken.unit.attach_number = AttachNumber(message.session, ENDED, "")
            self._table.touch(taken)
        await self._table.committed(taken, taken.unit.awaited)
        if not taken.serving:
            raise Fenced(unit)  # being handed on, or released: a repeat ends what is left of it
        presence = self._presences.get(message.avatar)
        if presence is not None and presence.number.session < message.session:
            self._log_out(presence)
        elif owned is None and presence is None and taken.unit.may_sleep:
            self._service.spawn(self.ownership.release(taken), f"release {unit}")
        return Ok()

    def _log_out(self, presence: Presence) -> None:
        """Its player hears why, and the avatar leaves the world."""
        if presence.attached:
            number = presence.number
            ended = SessionEnded(presence.avatar, number.session, number.connection, LOGGED_OUT)
            self._mesh.send(presence.gateway, ended)
        self.remove(presence)

    # -- going -------------------------------------------------------------------------------------------------------
    def detach(self, sender: Sender, message: Detach) -> None:
        """The socket closed. Late closes of older connections are ignored; one for an avatar that was handed on goes
        after it."""
        presence = self._presences.get(message.avatar)
        if presence is None:
            self._send_after(sender, message)
            return
        if (message.session, message.connection) < presence.number[:2]:
            return
        if not presence.owned.serving:  # being handed off: for whoever has it in the end
            presence.closed = message
            return
        self.closed(presence, message)

    def _send_after(self, sender: Sender, message: Detach) -> None:
        said_by, owner = self._mesh.book.get(sender.node), self.ownership.hint(avatar_unit(message.avatar))
        if owner is not None and owner.server != self._service.node_id and said_by and said_by.role == "gateway":
            self._mesh.send(owner.server, message)

    def closed(self, presence: Presence, message: Detach) -> None:
        """Its client is gone."""
        self._alone(presence)
        presence.leaving = message.leave
        if message.leave:
            self.remove(presence)

    def _alone(self, presence: Presence) -> None:
        presence.gateway_generation = 0
        presence.alone_since_ms = self._clock.monotonic_ms()
        self._state.detach(presence.avatar)

    async def linger(self) -> None:
        """For ever: avatars whose client is gone leave the world after AVATAR_LINGER_S."""
        while True:
            await sleep_ms(LINGER_LOOK_MS)
            for presence in self._presences:
                self._look_after(presence)

    def _look_after(self, presence: Presence) -> None:
        now = self._clock.monotonic_ms()
        if presence.attached:
            if self._gateway_is_over(presence) and presence.owned.serving:
                self._alone(presence)
            elif self._mesh.book.get(presence.gateway) is not None and not self._mesh.book.suspected(presence.gateway):
                presence.alone_since_ms = now
        if now - presence.alone_since_ms > AVATAR_LINGER_S * 1_000 and presence.owned.serving:
            self.remove(presence)

    def _gateway_is_over(self, presence: Presence) -> bool:
        """Its process ended: dead by verdict, or a newer one has its name."""
        book, gateway = self._mesh.book, presence.gateway
        newer = book.highest_generation(gateway) > presence.gateway_generation
        return newer or book.is_dead(gateway, presence.gateway_generation)

    def remove(self, presence: Presence) -> None:
        """Out of the world, saved where it stands, released."""
        owned = presence.owned
        self.settle(presence)
        self._state.remove(presence.avatar)
        self._presences.vanish(presence.avatar)
        self._motion.forget(presence.avatar)
        owned.unit.save()
        self._table.touch(owned)
        if owned.unit.has_intents or self._service.stopping.is_set():
            return  # idle release, or the end of the stop, comes back to it
        self._service.spawn(self.ownership.release(owned), f"release {owned.key}")

    def region_of(self, owned: Owned) -> tuple[int, int]:
        """Where an avatar stands, in the world or saved."""
        avatar, real = next(iter(owned.unit.entities.items()))
        at = self._state.position(avatar) if self._presences.get(avatar) is not None else real
        return region_at(at.x, at.y)

    def settle(self, presence: Presence) -> None:
        """Where it stands goes into its unit."""
        motion = self._state.position(presence.avatar)
        presence.owned.unit.place(presence.avatar, motion.x, motion.y)
        presence.owned.motion_version, presence.owned.last_input = motion.version, motion.last_input

    def dropped(self, owned: Owned, avatar: int) -> None:
        """The unit is not mine any more: nothing of it is shown or sent from here."""
        if self._presences.vanish(avatar) is not None:
            self._state.remove(avatar)
        self._motion.forget(avatar)
