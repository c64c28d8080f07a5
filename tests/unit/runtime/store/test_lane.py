"""The way from the loop into a thread: who works the queue off, never two at once, answers in order."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable

from runtime.store.lane import Lane
from tests.support.aio import run
from tests.support.mesh import until


class Work:
    """Notes who did what, and that nobody else was at it meanwhile. ``go``: the thread waits for it, the loop not."""

    def __init__(self) -> None:
        self.done: list[tuple[int, int]] = []  # (item, thread)
        self.begun, self.go = threading.Event(), threading.Event()
        self.go.set()
        self._at_it = threading.Lock()
        self.finished_by = 0

    def __call__(self, queue: deque[int]) -> None:
        assert self._at_it.acquire(blocking=False), "two at once"
        item = queue.popleft()
        if threading.current_thread() is not threading.main_thread():
            self.begun.set()
            assert self.go.wait(10)
        self.done.append((item, threading.get_ident()))
        self._at_it.release()

    def finish(self) -> None:
        self.finished_by = threading.get_ident()

    def lane(self, here: Callable[[], bool]) -> Lane[int]:
        return Lane("test", 100, self, self.finish, here)


def test_the_loop_does_what_is_quick_and_the_thread_the_rest() -> None:
    async def body() -> None:
        work, quick = Work(), [True]
        lane = work.lane(lambda: quick[0])
        lane.put(1, 2)
        await until(lambda: len(work.done) == 2)
        quick[0] = False
        lane.put(3)
        await until(lambda: len(work.done) == 3)
        await lane.stop()
        loop = threading.get_ident()
        assert [(item, thread == loop) for item, thread in work.done] == [(1, True), (2, True), (3, False)]

    run(body())


def test_the_loop_leaves_to_the_thread_what_comes_while_it_works() -> None:
    async def body() -> None:
        work, quick = Work(), [False]
        lane = work.lane(lambda: quick[0])
        work.go.clear()
        lane.put(1)
        await until(work.begun.is_set)
        quick[0] = True
        lane.put(2)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert work.done == []
        work.go.set()
        await until(lambda: len(work.done) == 2)
        assert [item for item, _ in work.done] == [1, 2]
        assert all(thread != threading.get_ident() for _, thread in work.done)
        await lane.stop()

    run(body())


def test_answers_keep_their_order_whoever_worked() -> None:
    async def body() -> None:
        answers: list[int] = []

        def work(queue: deque[int]) -> None:
            lane.post(answers.append, queue.popleft())

        here = [n % 3 > 0 for n in range(2_000)]
        lane: Lane[int] = Lane("test", 3_000, work, lambda: None, lambda: here[min(len(answers), 1_999)])
        for n in range(2_000):
            lane.put(n)
            if n % 5 == 0:
                await asyncio.sleep(0)
        await until(lambda: len(answers) == 2_000)
        assert answers == list(range(2_000))
        await lane.stop()

    run(body())


def test_a_stop_works_off_what_is_queued_on_the_thread() -> None:
    async def body() -> None:
        work = Work()
        lane = work.lane(lambda: True)
        lane.put(1, 2, 3)
        await lane.stop()
        assert [item for item, _ in work.done] == [1, 2, 3]
        assert work.finished_by not in (0, threading.get_ident())

    run(body())
