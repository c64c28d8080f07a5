"""The supervisor of ``projectk up``: starts the cluster's processes, restarts those that die, stops all in order.

::

    start: brokers, store ──ready──> logins, gateways, game servers ──ready──> the ready file, the ops file, URLs
    a child dies: event, backoff (doubled up to a cap), start again, ready file rewritten;  --restart never: event only
    a child ends by itself, with 0: it was drained; it is left out until a deployment names it
    stop: gateways ─> game servers (save) ─> logins ─> store ─> brokers, each stage bounded, then killed

Whoever starts or ends a child while others watch it holds its lock (``held``): a deployment, or the restart after a
death.
"""

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson

from cluster.supervisor.child import Child, ChildFailed, code_name, start_child
from cluster.supervisor.deployment import Deployments
from cluster.supervisor.member import Cluster
from cluster.supervisor.plan import START_ORDER, STOP_ORDER, Planned
from world.limits import (
    DRAIN_MS,
    PROCESS_STOP_MS,
    RESTART_BACKOFF_CAP_MS,
    RESTART_BACKOFF_MS,
    RESTART_SETTLED_MS,
    ROLL_SLACK_MS,
    STOP_STAGE_MS,
)


class Reporter(Protocol):
    """What the person at the console sees."""

    def planned(self, ids: list[str]) -> None: ...
    def child_ready(self, node_id: str) -> None: ...
    def event(self, text: str) -> None: ...


class Supervisor:
    """``start`` once, then ``supervise`` until cancelled, then ``stop``; ``kill`` at any time. ``member``: its place in
    the mesh. ``files``: documents for others, there while all is ready."""

    def __init__(
        self,
        planned: list[Planned],
        *,
        restart: bool,
        ready_file: Path | None,
        urls: dict[str, object],
        member: Cluster | None = None,
        files: dict[Path, dict[str, Any]] | None = None,
    ) -> None:
        self._planned = planned
        self._restart = restart
        self._ready_file = ready_file
        self._urls = urls
        self._member = member
        self.deployments: Deployments | None = None  # once started, with a place in the mesh
        self._files = files or {}
        self._children: dict[str, Child] = {}
        self._locks = {p.id: asyncio.Lock() for p in planned}
        self._gone: set[str] = set()  # ended for good: drained, or dead under --restart never
        self._begun = {p.id: asyncio.Event() for p in planned}
        self._all_ready = False
        self._pipe_read, self._pipe_write = os.pipe()  # closes with this process: every child then stops
        os.set_inheritable(self._pipe_write, False)

    async def start(self, report: Reporter) -> None:
        """All processes up and ready. Raises ChildFailed (what runs by then is stopped by ``stop``)."""
        report.planned([planned.id for planned in self._planned])
        for path in self._files:
            path.unlink(missing_ok=True)  # a killed supervisor's
        for wave in START_ORDER:
            started = [await self._start(planned) for planned in self._planned if planned.role in wave]
            await self._all_of(started, report)
        self._all_ready = True
        if self._member is not None:
            self.deployments = Deployments(self, self._member, report.event)
        for path, document in self._files.items():
            _write(path, document, mode=0o600)
        self._write_ready_file()

    async def supervise(self, report: Reporter) -> None:
        """Watch every child for ever, and do what operators ask for."""
        async with asyncio.TaskGroup() as group:
            for planned in self._planned:
                group.create_task(self._watch(planned, report))
            if self._member is not None and self.deployments is not None:
                group.create_task(self.deployments.run())
                group.create_task(self._member.live(self.deployments.serve, report.event))

    async def stop(self, report: Reporter) -> None:
        """All processes ended, each stage within its time, in STOP_ORDER."""
        for path in self._files:
            path.unlink(missing_ok=True)
        for role in STOP_ORDER:
            stage = [c for c in self._children.values() if c.planned.role == role and c.running]
            for child in stage:
                child.signal(signal.SIGINT)  # SIGTERM would drain: give away to processes that stop as well
            try:
                async with asyncio.timeout(STOP_STAGE_MS[role] / 1_000):
                    await asyncio.gather(*(child.process.wait() for child in stage))
            except TimeoutError:
                for child in stage:
                    if child.running:
                        report.event(f"{child.planned.id} did not stop in time and is killed")
                        child.signal(signal.SIGKILL)
                await asyncio.gather(*(child.process.wait() for child in stage))
        if self._ready_file is not None:
            self._ready_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """End every child at once, unsaved."""
        for child in self._children.values():
            if child.running:
                child.signal(signal.SIGKILL)

    def processes(self) -> list[dict[str, object]]:
        """Rows of the ready file: those running now, in the order of the plan."""
        children = (self._children.get(planned.id) for planned in self._planned)
        return [child.describe() for child in children if child is not None and child.running]

    # -- for a deployment ----------------------------------------------------------------------------------------------
    def known(self, node: str) -> Planned | None:
        return next((planned for planned in self._planned if planned.id == node), None)

    def rolled(self) -> Sequence[Planned]:
        return [planned for planned in self._planned if planned.id not in self._gone]

    def held(self, node: str) -> asyncio.Lock:
        return self._locks[node]

    async def end(self, node: str) -> None:
        child = self._children[node]
        child.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout((DRAIN_MS + PROCESS_STOP_MS + ROLL_SLACK_MS) / 1_000):
                await child.process.wait()
        except TimeoutError:
            child.signal(signal.SIGKILL)
            await child.process.wait()

    async def begin(self, node: str) -> None:
        child = await self._start(self._children[node].planned)
        try:
            await child.ready()
        except ChildFailed:
            child.signal(signal.SIGKILL)
            await child.process.wait()
            raise
        self._write_ready_file()

    # -- children ------------------------------------------------------------------------------------------------------
    async def _start(self, planned: Planned) -> Child:
        child = self._children[planned.id] = await start_child(planned, self._pipe_read)
        self._gone.discard(planned.id)
        self._begun[planned.id].set()
        return child

    async def _all_of(self, started: list[Child], report: Reporter) -> None:
        """All of a wave ready. Raises ChildFailed: the first that failed; the others are not waited for."""
        try:
            async with asyncio.TaskGroup() as group:
                for child in started:
                    group.create_task(self._ready(child, report))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _ready(self, child: Child, report: Reporter) -> None:
        await child.ready()
        report.child_ready(child.planned.id)

    async def _watch(self, planned: Planned, report: Reporter) -> None:
        """One child, life after life."""
        backoff_ms = RESTART_BACKOFF_MS
        while True:
            child = await self._ended(planned)
            if self._children[planned.id] is not child:
                continue  # a deployment has ended it, and started the next
            code = child.process.returncode
            if not self._goes_on(planned, code, report):
                await self._begun[planned.id].wait()
                continue
            if child.served_ms >= RESTART_SETTLED_MS:
                backoff_ms = RESTART_BACKOFF_MS
            report.event(f"{planned.id} ended with {code_name(code)}; starting it again in {backoff_ms} ms")
            await asyncio.sleep(backoff_ms / 1_000)
            backoff_ms = min(2 * backoff_ms, RESTART_BACKOFF_CAP_MS)
            async with self.held(planned.id):
                if self._children[planned.id] is child:
                    await self._start_again(planned, report)

    async def _ended(self, planned: Planned) -> Child:
        """A child that has ended, told to the mesh, once nobody else has it in hand."""
        child = self._children[planned.id]
        await child.process.wait()
        if self._member is not None:
            self._member.ended(planned.id, self._may_run)
        self._write_ready_file()
        async with self.held(planned.id):
            return child

    def _may_run(self, node: str) -> bool:
        """False for a child of mine that does not run."""
        child = self._children.get(node)
        return child is None or child.running

    def _goes_on(self, planned: Planned, code: int | None, report: Reporter) -> bool:
        """Whether it is to be started again."""
        if code == 0:
            report.event(f"{planned.id} was drained and is not started again")
        elif not self._restart:
            report.event(f"{planned.id} ended with {code_name(code)}; not restarted (--restart never)")
        else:
            return True
        self._gone.add(planned.id)
        self._begun[planned.id].clear()
        return False

    async def _start_again(self, planned: Planned, report: Reporter) -> None:
        try:
            await self.begin(planned.id)
        except ChildFailed as failed:
            report.event(str(failed))
            return
        report.event(f"{planned.id} is back (pid {self._children[planned.id].process.pid})")

    def _write_ready_file(self) -> None:
        if self._ready_file is not None and self._all_ready:
            _write(self._ready_file, {"urls": self._urls, "processes": self.processes()})


def _write(path: Path, document: dict[str, Any], mode: int = 0o644) -> None:
    """Atomic: a reader sees the old document or the new one."""
    draft = path.with_name(path.name + ".new")
    draft.touch(mode)
    draft.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    draft.replace(path)
