"""Run one coroutine to its end on a fresh loop: what every asynchronous test calls."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T], *, uvloop: bool = False) -> T:
    if uvloop:
        import uvloop as fast

        with asyncio.Runner(loop_factory=fast.new_event_loop) as runner:
            return runner.run(coroutine)
    with asyncio.Runner() as runner:
        return runner.run(coroutine)
