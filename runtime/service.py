"""A service: the frame around one role's code, in a process of its own or several in one (tests, simulation).

It owns what has exactly one owner per process: the signals, the task group, the stop. Life of a service::

    start(service) ──> running ──stop()──> on_stop callbacks ──> tasks cancelled ──> on_close callbacks
                          ├── drain() ──> on_drain callbacks, everything still served ──> stop()
                          └── a task raised, or a loop returned: failure kept, stop() ──> the same, exit code 1

``drain`` (SIGTERM) is for one process of a cluster that goes on: what it has is given to others first. ``stop``
(SIGINT, or the supervisor's end) is for a whole cluster that stops. Callbacks run newest first, each bounded. Signals,
the supervisor's pipe, threads, uvloop and the wall clock are in ``run`` only: ``Service.for_test`` lives on any loop,
also one of virtual time.
"""

import asyncio
import gc
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self

import orjson
import uvloop
from prometheus_client import CollectorRegistry

from runtime import log as logs
from runtime.addresses import placed
from runtime.clock import LoopClock
from runtime.metrics import LoopLag, ProcessHealth, process_registry, serve_metrics
from runtime.settings import Settings, SettingsError
from world.ids import ROLE_PREFIX, NodeId
from world.limits import (
    DRAIN_MS,
    GC_YOUNG_OBJECTS,
    LOOP_LAG_SAMPLE_MS,
    ORPHAN_EXIT_MS,
    PROCESS_STOP_MS,
    SERVICE_TASKS,
    STOP_CALLBACK_MS,
)

SUPERVISOR_FD = "PROJECTK_SUPERVISOR_FD"  # environment: the inherited pipe whose end of file means: stop
EXIT_OK, EXIT_FAILED, EXIT_REFUSED, EXIT_FORCED = 0, 1, 2, 130

StopCallback = Callable[[], Awaitable[None]]


class StartRefused(Exception):
    """The service cannot start as it was told to (port in use, unwritable folder, …): the text is one sentence for
    the person who started it, and the exit code is 2. Nothing was damaged."""


class LoopEnded(RuntimeError):
    """A task spawned as a loop returned while the service was running."""


class Service:
    """What every part of a role is handed. Use as ``async with service:`` in tests; ``run`` does in a process."""

    def __init__(
        self,
        role: str,
        node_id: str,
        settings: Settings,
        *,
        clock: LoopClock,
        log: logs.Log,
        metrics: CollectorRegistry,
        rng: random.Random,
        on_ready: Callable[[dict[str, Any]], None] = lambda document: None,
    ) -> None:
        self.role = role
        self.node_id = NodeId(node_id)
        self.settings = settings
        self.clock = clock
        self.log = log
        self.metrics = metrics
        self.rng = rng
        self.draining = asyncio.Event()  # new work is refused, what is here is being given away
        self.stopping = asyncio.Event()
        self.failure: BaseException | None = None  # the first task that failed
        self.addresses: dict[str, str] = {}  # as said by ready()
        self._on_ready = on_ready
        self._said_ready = False
        self._drains: list[StopCallback] = []
        self._callbacks: list[StopCallback] = []
        self._closers: list[StopCallback] = []
        self._group = asyncio.TaskGroup()
        # each with what it runs; ordered, so that simulated runs repeat
        self._tasks: dict[asyncio.Task[Any], Coroutine[Any, Any, Any]] = {}
        self._body: asyncio.Task[Any] | None = None  # whose ``async with`` this is; cancelled on failure
        self._ended = False
        self._starting = False

    @classmethod
    def for_test(
        cls,
        role: str = "gameserver",
        node_id: str = "",
        settings: Settings | None = None,
        *,
        seed: int = 0,
        rng: random.Random | None = None,
        clock: LoopClock | None = None,
        lines: list[logs.Event] | None = None,
        **overrides: Any,
    ) -> Self:
        """A service without threads, signals, wall clock or global state; ``overrides`` are settings. World time
        starts at 1,000,000 ms + the loop's. ``lines`` collects the log (from debug up); else warnings go to stderr."""
        node_id = node_id or f"{ROLE_PREFIX.get(role, 'xx')}1"
        given = {"node_id": node_id} | overrides
        return cls(
            role,
            node_id,
            settings.model_copy(update=given) if settings is not None else Settings(**given),
            clock=clock or LoopClock(1_000_000.0),
            log=logs.plain_log(role, node_id, "debug" if lines is not None else "warning", lines),
            metrics=CollectorRegistry(),
            rng=rng or random.Random(seed),
        )

    # -- for the role's code ---------------------------------------------------------------------------------------
    def spawn(self, coro: Coroutine[Any, Any, Any], name: str, *, loop: bool = False) -> asyncio.Task[Any]:
        """Run ``coro`` in this service's task group. If it raises, or (``loop``) returns while running, the service
        stops with that failure. Raises RuntimeError where SERVICE_TASKS live already, or after the end."""
        if self._ended or len(self._tasks) >= SERVICE_TASKS:
            coro.close()
            raise RuntimeError(f"cannot spawn {name}: {'the service has ended' if self._ended else 'too many tasks'}")
        task = self._group.create_task(self._watch(coro, name, loop), name=f"{self.node_id}:{name}")
        self._tasks[task] = coro
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        coro = self._tasks.pop(task, None)
        if coro is not None and task.cancelled():
            coro.close()  # before its first step: it was never awaited

    def on_drain(self, callback: StopCallback) -> None:
        """Awaited on a drain, before any stop: gives away what is here. Bounds itself, at most DRAIN_MS."""
        self._drains.append(callback)

    def on_stop(self, callback: StopCallback) -> None:
        """Awaited on a graceful stop, newest first, each at most STOP_CALLBACK_MS, tasks still running."""
        self._callbacks.append(callback)

    def on_close(self, callback: StopCallback) -> None:
        """Awaited at the very end, newest first, when no task runs any more: frees what tasks use (sockets)."""
        self._closers.append(callback)

    def ready(self, **addresses: str) -> None:
        """Tell whoever started this process, once all of it serves: one JSON line on stdout."""
        self.addresses.update(addresses)
        if "http" in addresses:
            self.addresses.setdefault("metrics", f"{addresses['http']}/metrics")
        self._said_ready = True
        self.log.info("ready", addresses=self.addresses)
        self._on_ready(
            {"ready": True, "role": self.role, "id": self.node_id, "pid": os.getpid(), "addresses": self.addresses}
        )

    @property
    def stage(self) -> str:
        """One of runtime.metrics.STAGES."""
        if self.stopping.is_set():
            return "stopping"
        if self.draining.is_set():
            return "draining"
        return "ready" if self._said_ready else "starting"

    def drain(self, reason: str = "") -> None:
        """Begin to give away what is here, then stop; safe to call again, and without effect on one that stops."""
        if self.draining.is_set() or self.stopping.is_set():
            return
        self.log.info("draining", reason=reason)
        self.draining.set()
        self.spawn(self._drain(reason), "drain")

    async def _drain(self, reason: str) -> None:
        loop = asyncio.get_running_loop()
        await self._run(self._drains, loop.time() + DRAIN_MS / 1_000, DRAIN_MS)
        self.stop(reason=f"drained: {reason}")

    def stop(self, reason: str = "") -> None:
        """Begin the graceful stop; safe to call again."""
        if not self.stopping.is_set():
            self.log.info("stopping", reason=reason)
            self.stopping.set()
            if self._starting and self.failure is None:
                self._give_up_start()

    def _give_up_start(self) -> None:
        """Unless the start itself says stop: then it goes on to its end."""
        if self._body is not None and self._body is not asyncio.current_task():
            self._body.cancel()

    def fail(self, error: BaseException) -> None:
        """Stop because of ``error``; the first one counts. The process exits with 1 (2 for StartRefused)."""
        if self.failure is None:
            self.failure = error
            if self._body is not None and not self._ended:
                self._body.cancel()
        self.stop(reason=f"failed: {error!r}")

    def crash(self) -> None:
        """As if the process had been killed (simulation): no callback runs, every task is cancelled."""
        self._drains.clear()
        self._callbacks.clear()
        self._closers.clear()
        self._ended = True
        self.stopping.set()
        for task in list(self._tasks):
            task.cancel()

    # -- its life ----------------------------------------------------------------------------------------------------
    async def serve(self, start: Callable[["Service"], Awaitable[None]]) -> None:
        """The whole life: start, run until stop(), stop. Raises the failure, if there was one."""
        async with self:
            await self._start(start)
            await self.stopping.wait()

    async def _start(self, start: Callable[["Service"], Awaitable[None]]) -> None:
        """A stop meanwhile gives the start up: it may be waiting for a store or a cluster that never answers."""
        self._starting = True
        try:
            await start(self)
        except asyncio.CancelledError:
            if self.failure is not None or not self.stopping.is_set():
                raise
            if self._body is not None:
                self._body.uncancel()
        finally:
            self._starting = False

    async def __aenter__(self) -> Self:
        self._body = asyncio.current_task()
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cancelled_by_failure = self.failure is not None and isinstance(error, asyncio.CancelledError)
        if cancelled_by_failure and self._body is not None:
            self._body.uncancel()
        if error is not None and not cancelled_by_failure and self.failure is None and isinstance(error, Exception):
            self.failure = error
        self._body = None
        self.stopping.set()
        deadline_s = asyncio.get_running_loop().time() + PROCESS_STOP_MS / 1_000
        await self._run(self._callbacks, deadline_s, STOP_CALLBACK_MS)
        self._ended = True
        for task in list(self._tasks):
            task.cancel()
        await self._group.__aexit__(None, None, None)
        await self._run(self._closers, deadline_s, STOP_CALLBACK_MS)
        if self.failure is not None and error is not self.failure:
            raise self.failure

    async def _watch(self, coro: Coroutine[Any, Any, Any], name: str, loop: bool) -> Any:
        """A spawned task: cancellation passes, any other end of it that should not be stops the service."""
        try:
            result = await coro
        except Exception as error:  # kept and raised by serve()
            self.log.error("task failed", task=name, exc_info=True)
            self.fail(error)
            return None
        if loop and not self.stopping.is_set():
            self.fail(LoopEnded(f"{name} returned"))
        return result

    async def _run(self, callbacks: list[StopCallback], deadline_s: float, each_ms: float) -> None:
        """Newest first; one that fails or takes too long is logged and does not keep the others from running."""
        while callbacks:
            callback = callbacks.pop()
            name = getattr(callback, "__qualname__", repr(callback))
            left_s = deadline_s - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(max(0.0, min(left_s, each_ms / 1_000))):
                    await callback()
            except TimeoutError:
                self.log.error("stop callback took too long", callback=name)
            except Exception:
                self.log.error("stop callback failed", callback=name, exc_info=True)


def run(
    role: str,
    settings: Settings,
    start: Callable[[Service], Awaitable[None]],
    *,
    refused: tuple[type[Exception], ...] = (),
) -> int:
    """Run one role as this process until it stops; the exit code: 0 stopped, 1 failed, 2 refused to start.
    Exceptions of type StartRefused or ``refused`` are said as one sentence on stderr."""
    try:
        settings = placed(settings, role)
    except SettingsError as error:
        return _refuse(str(error))
    node_id = settings.node_id
    try:
        log = logs.configure(settings, role, node_id)
    except OSError as error:
        return _refuse(f"--log-file: cannot write {settings.log_file} ({error.strerror}).")
    known: tuple[type[Exception], ...] = (StartRefused, *refused)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_process(role, node_id, settings, log, start))
    except known as error:
        log.error("refused to start", reason=str(error))
        return _refuse(str(error))
    except Exception:
        log.critical("failed", exc_info=True)
        return EXIT_FAILED
    log.info("stopped")
    return EXIT_OK


def _refuse(sentence: str) -> int:
    print(f"projectk: {sentence}", file=sys.stderr)
    return EXIT_REFUSED


async def _process(
    role: str, node_id: str, settings: Settings, log: logs.Log, start: Callable[[Service], Awaitable[None]]
) -> None:
    loop = asyncio.get_running_loop()
    service = Service(
        role,
        node_id,
        settings,
        clock=LoopClock(time.time() * 1_000 - loop.time() * 1_000, loop),
        log=log,
        metrics=process_registry(),
        rng=random.Random(),
        on_ready=_print_ready,
    )
    _own_signals(service)
    _follow_supervisor(service, loop)
    health = ProcessHealth(service.metrics, role, node_id, lambda: service.stage)
    if role != "gateway":  # which serves /metrics on its own port
        service.addresses["metrics"] = _open_metrics(service)

    async def begin(service: Service) -> None:
        service.spawn(_measure_lag(service, health), "loop-lag", loop=True)
        await start(service)
        gc.freeze()  # what lives now lives on: keep it out of every later collection
        gc.set_threshold(GC_YOUNG_OBJECTS)  # hardly anything here is a cycle; a burst of messages is no reason to look

    await service.serve(begin)


def _print_ready(document: dict[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(document).decode() + "\n")
    sys.stdout.flush()


def _own_signals(service: Service) -> None:
    """TERM drains, then stops; INT stops at once, gracefully; another one while stopping ends the process."""

    def stop(name: str) -> None:
        if service.stopping.is_set():
            os._exit(EXIT_FORCED)
        service.stop(reason=name)

    def drain(name: str) -> None:
        if service.draining.is_set() or service.stopping.is_set():
            stop(name)
        else:
            service.drain(reason=name)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, drain, signal.SIGTERM.name)
    loop.add_signal_handler(signal.SIGINT, stop, signal.SIGINT.name)


def _follow_supervisor(service: Service, loop: asyncio.AbstractEventLoop) -> None:
    """Stop when the supervisor's end of the inherited pipe closes, however it died. A thread waits for it, so that
    a process whose loop hangs does not stay behind either."""
    said = os.environ.pop(SUPERVISOR_FD, "")
    if not said:
        return

    def wait() -> None:
        while os.read(int(said), 64):
            pass
        try:
            loop.call_soon_threadsafe(service.stop, "the supervisor is gone")
        except RuntimeError:
            return  # the loop has closed: this process is ending anyway
        time.sleep(ORPHAN_EXIT_MS / 1_000)
        os._exit(EXIT_FAILED)

    threading.Thread(target=wait, name="supervisor-pipe", daemon=True).start()


def _open_metrics(service: Service) -> str:
    """Raises StartRefused."""
    host, port = service.settings.metrics_host, service.settings.metrics_port
    try:
        return serve_metrics(service.metrics, host, port)
    except OSError as error:
        raise StartRefused(f"The metrics cannot be served on {host}:{port} ({error.strerror}).") from error


async def _measure_lag(service: Service, health: ProcessHealth) -> None:
    lag = LoopLag(service.metrics)
    every_s = LOOP_LAG_SAMPLE_MS / 1_000
    while True:
        health.loop_ran()
        due_ms = service.clock.monotonic_ms() + LOOP_LAG_SAMPLE_MS
        await asyncio.sleep(every_s)
        lag.saw(max(0.0, (service.clock.monotonic_ms() - due_ms) / 1_000))
