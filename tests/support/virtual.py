"""A loop of virtual time: sleeping costs nothing, the order of what is ready is drawn from a seed, runs repeat exactly.

Several simulated processes may share the loop. What runs with ``PROCESS`` set (tasks and callbacks inherit it) belongs
to that process; ``freeze`` makes it stand still as SIGSTOP does: time passes, and nothing of it runs until ``thaw``.

Set PYTHONHASHSEED=0 too where code under test iterates over sets of strings.
"""

import asyncio
import random
import selectors
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
PROCESS: ContextVar[str] = ContextVar("process", default="")  # "": the world around all of them
SAME_TIME_S = 1e-9


class Deadlock(RuntimeError):
    """Nothing is ready and nothing is scheduled: whoever waits now would wait for ever."""


class _NoInput(selectors.SelectSelector):
    """Asked by nobody: nothing comes from outside."""


def _nothing() -> None:
    """What is left of a cancelled turn."""


class _Turn(asyncio.TimerHandle):
    """What is to be run, now or at ``when``, without asyncio's aids for debugging: a simulation makes millions."""

    __slots__ = ()

    def __init__(self, when: float, callback: Callable[..., object], args: Any, context: Context | None) -> None:
        self._when, self._callback, self._args = when, callback, args
        self._context = copy_context() if context is None else context
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled, self._callback, self._args = True, _nothing, ()


class VirtualLoop(asyncio.SelectorEventLoop):
    """``seed`` None keeps asyncio's own order of what is ready. It has timers and turns of its own, for these are
    where a simulation spends its life."""

    def __init__(self, seed: int | None = 0, start_s: float = 1_000.0) -> None:
        self._virtual_s = start_s
        self._shuffler = None if seed is None else random.Random(seed)
        self._timers: list[tuple[float, int, _Turn]] = []  # a heap of (due, serial, timer)
        self._serial = 0
        self._frozen: dict[str, list[_Turn]] = {}  # process -> what it would have done, in order
        self.lost: list[dict[str, Any]] = []  # exceptions that nobody took
        super().__init__(_NoInput())
        self._ready: deque[_Turn]

    def time(self) -> float:
        return self._virtual_s

    def pause(self, seconds: float) -> None:
        """Every process stands still for that long: time passes and nothing runs."""
        self._virtual_s += seconds

    # -- single processes stand still -------------------------------------------------------------------------------
    def freeze(self, process: str) -> None:
        """Nothing of this process runs from now on. Again: no effect."""
        self._frozen.setdefault(process, [])

    def thaw(self, process: str) -> None:
        """What it would have done meanwhile is done now, in the order in which it fell due."""
        self._ready.extend(self._frozen.pop(process, ()))

    def frozen(self, process: str) -> bool:
        return process in self._frozen

    # -- what is to be run ------------------------------------------------------------------------------------------
    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        turn = _Turn(0.0, callback, args, context)
        self._ready.append(turn)
        return turn

    call_soon_threadsafe = call_soon  # there is one thread

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._virtual_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = _Turn(when, callback, args, context)
        self._serial += 1
        heappush(self._timers, (when, self._serial, timer))
        return timer

    # -- turns ------------------------------------------------------------------------------------------------------
    def _run_once(self) -> None:
        """Turns until it is to stop: asyncio's own loop around this one asks for no more. Raises Deadlock."""
        while True:
            self._turn()
            if self._stopping:  # type: ignore[attr-defined]
                return

    def _turn(self) -> None:
        ready, timers = self._ready, self._timers
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            self._pass_time()
        if self._shuffler is not None and len(ready) > 1:
            order = list(ready)
            _shuffle(order, self._shuffler.getrandbits)
            ready.clear()
            ready.extend(order)
        until_s = self._virtual_s + SAME_TIME_S
        while timers and timers[0][0] < until_s:
            timer = heappop(timers)[2]
            if not timer._cancelled:
                ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled or (self._frozen and self._held(handle)):
                continue
            try:
                handle._context.run(handle._callback, *handle._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self.call_exception_handler({"message": "exception in a callback", "exception": error})

    def _held(self, handle: _Turn) -> bool:
        """It belongs to a process that stands still, and waits for it to go on."""
        waiting = self._frozen.get(handle._context.get(PROCESS, ""))
        if waiting is None:
            return False
        waiting.append(handle)
        return True

    def _pass_time(self) -> None:
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heappop(timers)
        if not timers:
            waiting = [task.get_name() for task in asyncio.all_tasks(self)]
            raise Deadlock(f"at {self._virtual_s:.3f} s nothing can happen any more; waiting: {waiting}")
        self._virtual_s = max(self._virtual_s, timers[0][0])

    def close(self) -> None:
        self._timers.clear()
        self._frozen.clear()
        super().close()

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        raise RuntimeError("no threads in virtual time")

    def default_exception_handler(self, context: Mapping[str, Any]) -> None:
        """A lost exception is a failed test, not a line on stderr."""
        self.lost.append(dict(context))


def _shuffle(items: list[_Turn], bits: Callable[[int], int]) -> None:
    """``random.shuffle``, without the calls that it makes for each item."""
    for last in range(len(items) - 1, 0, -1):
        size = (last + 1).bit_length()
        other = bits(size)
        while other > last:
            other = bits(size)
        items[last], items[other] = items[other], items[last]


def run_virtual(coroutine: Coroutine[Any, Any, T], seed: int | None = 0) -> T:
    """Run to the end in virtual time. Raises Deadlock, or AssertionError where an exception was lost."""
    loop = VirtualLoop(seed)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        result = runner.run(coroutine)
    assert not loop.lost, f"lost exceptions: {loop.lost}"
    return result
