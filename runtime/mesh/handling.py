"""Messages into handlers, answers out of them, whatever brought the message and takes the answer back."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Protocol, TypeVar

from runtime.mesh.api import Handler, Refused, Sender
from runtime.mesh.statistics import MeshStatistics
from world.limits import HANDLERS_IN_FLIGHT
from world.messages import Message, Ok, Problem

M = TypeVar("M", bound=Message)
Answer = Callable[[Message], None]


class Spawn(Protocol):
    def __call__(self, coro: Coroutine[Any, Any, Any], name: str) -> object: ...


class Handling:
    """One handler per type of message. ``report(what, error)`` logs a handler's failure."""

    def __init__(self, statistics: MeshStatistics, spawn: Spawn, report: Callable[[str, BaseException], None]) -> None:
        self._statistics, self._spawn, self._report = statistics, spawn, report
        self._handlers: dict[type[Message], Handler] = {}
        self._running = 0  # asynchronous handlers
        self._closed = False

    def serve(self, kind: type[M], handler: Callable[[Sender, M], Message | None | Awaitable[Message | None]]) -> None:
        self._handlers[kind] = handler

    def run(self, sender: Sender, message: Message, answer: Answer) -> bool:
        """``answer(reply)`` follows, now or later, unless this process ends before. False: HANDLERS_IN_FLIGHT run
        already, nothing was done and nothing is answered."""
        handler = self._handlers.get(type(message))
        if handler is None:
            self._statistics.unhandled += 1
            answer(Problem("unhandled", type(message).__name__))
            return True
        try:
            outcome = handler(sender, message)
        except Exception as error:
            answer(self._problem(message, error))
            return True
        if isinstance(outcome, asyncio.Future):
            outcome.add_done_callback(partial(self._ended, message, answer))
        elif inspect.isawaitable(outcome):
            return self._run_later(message, outcome, answer)
        else:
            answer(outcome if outcome is not None else Ok())
        return True

    def close(self) -> None:
        """No task is begun any more."""
        self._closed = True

    def _run_later(self, message: Message, outcome: Awaitable[Message | None], answer: Answer) -> bool:
        if self._running >= HANDLERS_IN_FLIGHT or self._closed:
            self._statistics.handlers_refused += 1
            if inspect.iscoroutine(outcome):
                outcome.close()
            return False
        self._running += 1
        self._spawn(self._finish(message, outcome, answer), name=f"serve-{type(message).__name__}")
        return True

    async def _finish(self, message: Message, outcome: Awaitable[Message | None], answer: Answer) -> None:
        try:
            reply = await outcome
            answer(reply if reply is not None else Ok())
        except Exception as error:
            answer(self._problem(message, error))
        finally:
            self._running -= 1

    def _ended(self, message: Message, answer: Answer, outcome: "asyncio.Future[Message | None]") -> None:
        """A handler's own future. One that was cancelled goes down with its process: nobody is answered."""
        if outcome.cancelled():
            return
        error = outcome.exception()
        if isinstance(error, Exception):
            answer(self._problem(message, error))
        elif error is None:
            reply = outcome.result()
            answer(reply if reply is not None else Ok())

    def _problem(self, message: Message, error: Exception) -> Problem:
        if isinstance(error, Refused):
            return Problem(error.code[:64], error.detail[:1_024])
        self._statistics.handler_errors += 1
        self._report(type(message).__name__, error)
        return Problem("internal")
