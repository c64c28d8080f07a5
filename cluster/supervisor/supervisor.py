"""The supervisor of ``projectk up``: starts the cluster's processes, restarts those that die, stops all in order.

::

    start: brokers, store ──ready──> logins, gateways, game servers ──ready──> the ready file, URLs
    a child dies: event, backoff (doubled up to a cap), start again, ready file rewritten;  --restart never: event only
    stop: gateways ─> game servers (save) ─> logins ─> store ─> brokers, each stage bounded, then killed
"""

import asyncio
import os
import signal
from pathlib import Path
from typing import Protocol

import orjson

from cluster.supervisor.child import Child, ChildFailed, code_name, start_child
from cluster.supervisor.plan import START_ORDER, STOP_ORDER, Planned
from world.limits import RESTART_BACKOFF_CAP_MS, RESTART_BACKOFF_MS, RESTART_SETTLED_MS, STOP_STAGE_MS


class Reporter(Protocol):
    """What the person at the console sees."""

    def planned(self, ids: list[str]) -> None: ...
    def child_ready(self, node_id: str) -> None: ...
    def event(self, text: str) -> None: ...


class Supervisor:
    """``start`` once, then ``supervise`` until cancelled, then ``stop``; ``kill`` at any time."""

    def __init__(
        self, planned: list[Planned], *, restart: bool, ready_file: Path | None, urls: dict[str, object]
    ) -> None:
        self._planned = planned
        self._restart = restart
        self._ready_file = ready_file
        self._urls = urls
        self._children: dict[str, Child] = {}
        self._all_ready = False
        self._pipe_read, self._pipe_write = os.pipe()  # closes with this process: every child then stops
        os.set_inheritable(self._pipe_write, False)

    async def start(self, report: Reporter) -> None:
        """All processes up and ready. Raises ChildFailed (what runs by then is stopped by ``stop``)."""
        report.planned([planned.id for planned in self._planned])
        for wave in START_ORDER:
            started = [await self._start(planned) for planned in self._planned if planned.role in wave]
            await self._all_of(started, report)
        self._all_ready = True
        self._write_ready_file()

    async def supervise(self, report: Reporter) -> None:
        """Watch every child for ever."""
        async with asyncio.TaskGroup() as group:
            for planned in self._planned:
                group.create_task(self._watch(planned, report))

    async def stop(self, report: Reporter) -> None:
        """All processes ended, each stage within its time, in STOP_ORDER."""
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

    async def _start(self, planned: Planned) -> Child:
        child = self._children[planned.id] = await start_child(planned, self._pipe_read)
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
        loop = asyncio.get_running_loop()
        backoff_ms = RESTART_BACKOFF_MS
        while True:
            started_s = loop.time()
            code = await self._children[planned.id].process.wait()
            self._write_ready_file()
            if not self._restart:
                report.event(f"{planned.id} ended with {code_name(code)}; not restarted (--restart never)")
                return
            if (loop.time() - started_s) * 1_000 >= RESTART_SETTLED_MS:
                backoff_ms = RESTART_BACKOFF_MS
            report.event(f"{planned.id} ended with {code_name(code)}; starting it again in {backoff_ms} ms")
            await asyncio.sleep(backoff_ms / 1_000)
            backoff_ms = min(2 * backoff_ms, RESTART_BACKOFF_CAP_MS)
            await self._start_again(planned, report)

    async def _start_again(self, planned: Planned, report: Reporter) -> None:
        child = await self._start(planned)
        try:
            await child.ready()
        except ChildFailed as failed:
            report.event(str(failed))
            child.signal(signal.SIGKILL)
            return
        report.event(f"{planned.id} is back (pid {child.process.pid})")
        self._write_ready_file()

    def _write_ready_file(self) -> None:
        """Atomic: a reader sees the old document or the new one."""
        if self._ready_file is None or not self._all_ready:
            return
        document = {"urls": self._urls, "processes": self.processes()}
        draft = self._ready_file.with_name(self._ready_file.name + ".new")
        draft.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
        draft.replace(self._ready_file)
