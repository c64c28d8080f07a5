"""A bounded way from the loop into one thread: what SQLite's writer and reader stand on."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Lane(Generic[T]):
    """One thread, fed by the loop: ``work(queue)`` is called there while the queue holds something, and takes some
    of it; ``finish()`` at the end. Neither may raise. Items put in one turn of the loop are seen together.

    While the thread has nothing to do, and ``here()`` says that it will be quick, the loop works the queue off itself:
    to wake a thread and to be woken by it takes as long as a small commit does. Never both at once."""

    def __init__(
        self,
        name: str,
        bound: int,
        work: Callable[[deque[T]], None],
        finish: Callable[[], None],
        here: Callable[[], bool] = lambda: False,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.queue: deque[T] = deque(maxlen=bound)
        self._work = work
        self._finish = finish
        self._here = here
        self._at_work = threading.Lock()  # of the thread or the loop, whoever works the queue off
        self._wake = threading.Lock()  # free: something was put, or it is to stop. A threading.Event costs 40 us more
        self._wake.acquire()
        self._kicked = False
        self._stopping = False
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, *items: T) -> None:
        """On the loop. The caller has checked that there is room."""
        assert len(self.queue) + len(items) <= (self.queue.maxlen or 0)
        self.queue.extend(items)
        if not self._kicked:
            self._kicked = True
            self._loop.call_soon(self._kick)

    def post(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Out of ``work``: call back on the loop, in order. A loop that is closed has nobody left to answer."""
        if threading.get_ident() != self._thread.ident:
            self._loop.call_soon(callback, *arguments)
            return
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *arguments)

    async def stop(self) -> None:
        """Work off what is queued, finish, and end the thread. Nothing may be put after."""
        self._stopping = True
        self._kick()
        await asyncio.shield(self._ended)
        self._thread.join()

    def _kick(self) -> None:
        """Only the loop frees the lock ``_wake`` and only the thread takes it, which then looks at the queue: nothing
        put before is overlooked."""
        self._kicked = False
        if not self._stopping and self._here() and self._at_work.acquire(blocking=False):
            try:
                self._work_off()
            finally:
                self._at_work.release()
        elif self._wake.locked():
            self._wake.release()

    def _work_off(self) -> None:
        while self.queue:
            self._work(self.queue)

    def _run(self) -> None:
        while True:
            self._wake.acquire()
            with self._at_work:
                self._work_off()
            if self._stopping:
                break
        self._finish()
        self.post(self._end)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
