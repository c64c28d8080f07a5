"""A loop of virtual time: sleeping costs nothing, the order of what is ready is drawn from a seed, runs repeat exactly.

Set PYTHONHASHSEED=0 too where code under test iterates over sets of strings.
"""

import asyncio
import random
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class Deadlock(RuntimeError):
    """Nothing is ready and nothing is scheduled: whoever waits now would wait for ever."""


class _NoInput(selectors.SelectSelector):
    """Never waits: hands the time it should have waited to the loop's clock."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.loop.pass_time(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """``seed`` None keeps asyncio's own order of what is ready."""

    def __init__(self, seed: int | None = 0, start_s: float = 1_000.0) -> None:
        selector = _NoInput()
        selector.loop = self
        self._virtual_s = start_s
        self._shuffler = None if seed is None else random.Random(seed)
        self.lost: list[dict[str, Any]] = []  # exceptions that nobody took
        super().__init__(selector)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._virtual_s

    def pause(self, seconds: float) -> None:
        """The process stands still for that long: time passes and nothing runs."""
        self._virtual_s += seconds

    def pass_time(self, timeout: float | None) -> None:
        """Raises Deadlock."""
        if timeout is None:
            waiting = [task.get_name() for task in asyncio.all_tasks(self)]
            raise Deadlock(f"at {self._virtual_s:.3f} s nothing can happen any more; waiting: {waiting}")
        if timeout > 0:
            self._virtual_s += timeout
        ready = self._ready  # type: ignore[attr-defined]
        if self._shuffler is not None and len(ready) > 1:
            order = list(ready)
            self._shuffler.shuffle(order)
            ready.clear()
            ready.extend(order)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        raise RuntimeError("no threads in virtual time")

    def default_exception_handler(self, context: Mapping[str, Any]) -> None:
        """A lost exception is a failed test, not a line on stderr."""
        self.lost.append(dict(context))


def run_virtual(coroutine: Coroutine[Any, Any, T], seed: int | None = 0) -> T:
    """Run to the end in virtual time. Raises Deadlock, or AssertionError where an exception was lost."""
    loop = VirtualLoop(seed)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        result = runner.run(coroutine)
    assert not loop.lost, f"lost exceptions: {loop.lost}"
    return result
