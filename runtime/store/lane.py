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
    of it; ``finish()`` at the end. Neither may raise. Items put in one turn of the loop are seen together."""

    def __init__(self, name: str, bound: int, work: Callable[[deque[T]], None], finish: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self.queue: deque[T] = deque(maxlen=bound)
        self._work = work
        self._finish = finish
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
        """On the thread: call back on the loop, in order. A loop that is closed has nobody left to answer."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *arguments)

    async def stop(self) -> None:
        """Work off what is queued, finish, and end the thread. Nothing may be put after."""
        self._stopping = True
        self._kick()
        await asyncio.shield(self._ended)
        self._thread.join()

    def _kick(self) -> None:
        """Only the loop frees the lock and only the thread takes it, which then looks at the queue: nothing put before
        is overlooked."""
        self._kicked = False
        if self._wake.locked():
            self._wake.release()

    def _run(self) -> None:
        while True:
            self._wake.acquire()
            while self.queue:
                self._work(self.queue)
            if self._stopping:
                break
        self._finish()
        self.post(self._end)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
