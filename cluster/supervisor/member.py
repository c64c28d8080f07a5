"""The supervisor in its own cluster's mesh, as ``sv1``: it hears who is there, says whose process has ended, is asked.

Nothing waits on it. Where it cannot join, or its place in the mesh fails, the processes run on, and it comes back
later. A process that it has seen end is dead without further proof: a living game server is told at once (``Reaped``).
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry

from runtime import log as logs
from runtime.clock import LoopClock
from runtime.mesh.api import Mesh, MeshError
from runtime.mesh.open import open_mesh
from runtime.notes import Notes
from runtime.service import Service
from runtime.settings import Settings
from runtime.store.access import reach_store
from runtime.store.format import raise_to
from world.balance import DEPLOYING
from world.ids import ROLE_PREFIX, NodeId
from world.limits import DEATH_AFTER_MS, REAPED_CALL_MS, RESTART_BACKOFF_CAP_MS, RETRY_AFTER_MS
from world.messages import Member, Reaped

ROLE = "supervisor"
NODE = NodeId(f"{ROLE_PREFIX[ROLE]}1")


class OutOfMesh(RuntimeError):
    """The supervisor has no place in the mesh right now."""


class Cluster(Protocol):
    """What the supervisor knows of its cluster by the mesh, and says there."""

    def member(self, node: str) -> Member | None: ...
    def suspected(self, node: str) -> bool: ...
    def note(self, **detail: str) -> None: ...
    def deploying(self, on: bool) -> None: ...
    def ended(self, node: str, running: Callable[[str], bool]) -> None: ...
    async def raise_format(self) -> tuple[int, int]: ...
    async def live(self, serve: Callable[[Mesh], None], event: Callable[[str], None]) -> None: ...


class MeshMember:
    """A ``Cluster`` while ``live`` runs; before it has joined, it knows nobody and says nothing."""

    def __init__(self, settings: Settings, join: Sequence[str]) -> None:
        data = settings.data.resolve()
        changes: dict[str, object] = {"node_id": NODE, "join": tuple(join), "data": data}
        changes |= {"log_file": data / "logs" / f"{NODE}.log", "command_port": 0, "state_port": 0}
        changes |= {"advertise_command": "", "advertise_state": ""}
        self._settings = settings.model_copy(update=changes)
        self._service: Service | None = None
        self._mesh: Mesh | None = None
        self._notes: Notes | None = None
        self._deploying = False

    async def live(self, serve: Callable[[Mesh], None], event: Callable[[str], None]) -> None:
        """For ever: join, ``serve(mesh)``, and join anew where that failed; ``event`` says so to the console."""
        while True:
            try:
                await self._join(serve)
            except Exception as error:
                event(f"the supervisor is out of the mesh ({error}); the cluster runs on without it")
            finally:
                self._service = self._mesh = self._notes = None
            await asyncio.sleep(RESTART_BACKOFF_CAP_MS / 1_000)

    async def _join(self, serve: Callable[[Mesh], None]) -> None:
        """One membership, until it fails or is cancelled."""
        loop = asyncio.get_running_loop()
        service = Service(
            ROLE,
            NODE,
            self._settings,
            clock=LoopClock(time.time() * 1_000 - loop.time() * 1_000, loop),
            log=logs.configure(self._settings, ROLE, NODE),
            metrics=CollectorRegistry(),
            rng=random.Random(),
        )
        async with service:
            mesh = await open_mesh(
                service, role=ROLE, node_id=NODE, generation=None, publishes_state=False, subscribes_state=False
            )
            serve(mesh)
            self._service, self._mesh, self._notes = service, mesh, Notes(mesh, service.clock)
            mesh.update_me(status="ready", load={DEPLOYING: self._deploying})
            service.log.info("ready", generation=mesh.me.generation)
            try:
                await service.stopping.wait()
            finally:
                self._mesh = None
                service.log.info("stopped")

    # -- what it knows -----------------------------------------------------------------------------------------------
    def member(self, node: str) -> Member | None:
        return None if self._mesh is None else self._mesh.book.get(NodeId(node))

    def suspected(self, node: str) -> bool:
        return self._mesh is None or self._mesh.book.suspected(NodeId(node))

    async def raise_format(self) -> tuple[int, int]:
        """``cluster:format`` up to the newest that every member reads and writes (this one, which touches no document,
        left out): before, after. Raises StoreError, StoreOpenError, OutOfMesh."""
        if self._mesh is None:
            raise OutOfMesh("the supervisor is out of the mesh")
        known = [m.format_max for m in self._mesh.book.members() if m.role != ROLE]
        store = await reach_store(self._settings, self._mesh)
        try:
            return await raise_to(store, min(known))
        finally:
            await store.close()

    # -- what it says ------------------------------------------------------------------------------------------------
    def note(self, **detail: str) -> None:
        """For operators, of a deployment."""
        if self._notes is not None:
            self._notes.note("deploy", **detail)

    def deploying(self, on: bool) -> None:
        """By my place in the book: game servers move nothing for balance meanwhile."""
        self._deploying = on
        if self._mesh is not None:
            self._mesh.update_me(load={DEPLOYING: on})

    def ended(self, node: str, running: Callable[[str], bool]) -> None:
        """Its process is gone. Who left by itself has said goodbye, and is in no book any more. ``running(node)``:
        False for a process that is known not to live, and need not be asked."""
        member = self.member(node)
        if member is not None and self._service is not None and self._mesh is not None:
            self._service.spawn(self._tell(self._mesh, Reaped(node, member.generation), running), f"reaped {node}")

    async def _tell(self, mesh: Mesh, reaped: Reaped, running: Callable[[str], bool]) -> None:
        """One game server after the other, until one has made it true; after DEATH_AFTER_MS its silence is proof."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + DEATH_AFTER_MS / 1_000
        while loop.time() < until_s:
            for member in mesh.book.members("gameserver"):
                if member.id == reaped.node or not running(member.id) or mesh.book.suspected(NodeId(member.id)):
                    continue
                try:
                    await mesh.call(NodeId(member.id), reaped, deadline_ms=REAPED_CALL_MS)
                except MeshError:
                    continue
                return
            await asyncio.sleep(RETRY_AFTER_MS / 1_000)
