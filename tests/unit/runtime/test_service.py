"""The frame of a service: tasks, failures, the order and bounds of a stop; and a real process of one."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from runtime.service import SUPERVISOR_FD, LoopEnded, Service, StartRefused
from tests.support.aio import run
from world.limits import SERVICE_TASKS


def test_callbacks_run_newest_first_while_tasks_still_run() -> None:
    said: list[str] = []

    async def main() -> None:
        async with Service.for_test() as service:
            alive = asyncio.Event()

            async def works() -> None:
                alive.set()
                await asyncio.Event().wait()

            task = service.spawn(works(), "works", loop=True)
            await alive.wait()

            async def first() -> None:
                said.append(f"first, task alive: {not task.done()}")

            async def second() -> None:
                said.append("second")

            async def closed() -> None:
                said.append(f"closed, task alive: {not task.done()}")

            service.on_close(closed)
            service.on_stop(first)
            service.on_stop(second)
        assert task.cancelled()

    run(main())
    assert said == ["second", "first, task alive: True", "closed, task alive: False"]


def test_a_drain_runs_while_all_is_served_and_then_stops() -> None:
    said: list[str] = []

    async def main() -> None:
        async with Service.for_test() as service:

            async def give_away() -> None:
                said.append(f"drain, stopping: {service.stopping.is_set()}")

            async def saved() -> None:
                said.append("stop")

            service.on_drain(give_away)
            service.on_stop(saved)
            service.drain("a test")
            service.drain("again")
            assert service.draining.is_set()
            await service.stopping.wait()

    run(main())
    assert said == ["drain, stopping: False", "stop"]


@pytest.mark.parametrize("how", ["stop", "drain"])
def test_a_stop_gives_up_a_start_that_waits(how: str) -> None:
    said: list[str] = []

    async def main() -> None:
        service = Service.for_test()

        async def start(service: Service) -> None:
            async def closed() -> None:
                said.append("closed")

            service.on_close(closed)
            asyncio.get_running_loop().call_soon(getattr(service, how), "a test")
            await asyncio.Event().wait()  # the store never answers

        life = asyncio.create_task(service.serve(start))
        ended, _ = await asyncio.wait({life}, timeout=5)
        assert ended == {life}
        await life

    run(main())
    assert said == ["closed"]


def test_a_task_that_raises_stops_the_service_with_its_error() -> None:
    async def main() -> None:
        async with Service.for_test(lines=[]) as service:

            async def breaks() -> None:
                raise ValueError("broken")

            service.spawn(breaks(), "breaks")
            await asyncio.Event().wait()

    with pytest.raises(ValueError, match="broken"):
        run(main())


def test_a_loop_that_returns_stops_the_service() -> None:
    async def main() -> None:
        service = Service.for_test(lines=[])

        async def start(service: Service) -> None:
            async def ends() -> None:
                return

            service.spawn(ends(), "ends", loop=True)

        await service.serve(start)

    with pytest.raises(LoopEnded, match="ends returned"):
        run(main())


def test_a_callback_that_hangs_is_bounded_and_the_others_still_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.service.STOP_CALLBACK_MS", 20)
    said: list[str] = []
    lines: list[Any] = []

    async def main() -> None:
        async with Service.for_test(lines=lines) as service:

            async def good() -> None:
                said.append("good")

            async def hangs() -> None:
                await asyncio.Event().wait()

            service.on_stop(good)
            service.on_stop(hangs)

    run(main())
    assert said == ["good"]
    assert any("too long" in line["event"] for line in lines)


def test_a_crash_runs_no_callback_and_cancels_every_task() -> None:
    async def main() -> None:
        service = Service.for_test()
        said: list[str] = []

        async def start(service: Service) -> None:
            async def save() -> None:
                said.append("saved")

            service.on_stop(save)
            service.spawn(asyncio.Event().wait(), "works", loop=True)
            asyncio.get_running_loop().call_soon(service.crash)

        await service.serve(start)
        assert said == []
        with pytest.raises(RuntimeError, match="ended"):
            service.spawn(asyncio.Event().wait(), "late")

    run(main())


def test_tasks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.service.SERVICE_TASKS", 2)
    assert SERVICE_TASKS > 2

    async def main() -> None:
        async with Service.for_test() as service:
            for _ in range(2):
                service.spawn(asyncio.Event().wait(), "works")
            with pytest.raises(RuntimeError, match="too many"):
                service.spawn(asyncio.Event().wait(), "one more")

    run(main())


PROGRAM = """
import sys
from runtime.service import Service, StartRefused, run
from runtime.settings import Settings
async def start(service):
    if "refuse" in sys.argv:
        raise StartRefused("--port 80: no.")
    async def saved():
        print("saved", file=sys.stderr)
    service.on_stop(saved)
    service.ready(command="tcp://127.0.0.1:1")
    if "block" in sys.argv:
        import time
        time.sleep(60)
sys.exit(run("login", Settings(), start))
"""


def _start(*words: str, **more: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more
    )


def _ready(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    document: dict[str, Any] = json.loads(process.stdout.readline())
    return document


def test_a_process_says_ready_and_stops_on_a_signal() -> None:
    process = _start()
    ready = _ready(process)
    assert (ready["ready"], ready["role"], ready["id"], ready["pid"]) == (True, "login", "lg1", process.pid)
    assert ready["addresses"]["command"] == "tcp://127.0.0.1:1"
    assert ready["addresses"]["metrics"].startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (0, b"")
    assert b"saved" in err


def test_a_process_stops_when_its_supervisor_is_gone() -> None:
    read, write = os.pipe()
    process = _start(pass_fds=(read,), env={**os.environ, SUPERVISOR_FD: str(read)})
    os.close(read)
    _ready(process)
    os.close(write)
    _out, err = process.communicate(timeout=10)
    assert process.returncode == 0
    assert b"saved" in err


def test_a_process_whose_loop_hangs_ends_with_its_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    program = PROGRAM.replace("import sys\n", "import sys, runtime.service\nruntime.service.ORPHAN_EXIT_MS = 100\n", 1)
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", program, "block"],
        stdout=subprocess.PIPE,
        pass_fds=(read,),
        env={**os.environ, SUPERVISOR_FD: str(read)},
    )
    os.close(read)
    _ready(process)
    os.close(write)
    assert process.wait(10) == 1
    assert process.stdout is not None
    process.stdout.close()


def test_a_refused_start_is_one_sentence_and_exit_code_2() -> None:
    process = _start("refuse")
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (2, b"")
    assert err.decode().splitlines()[-1] == "projectk: --port 80: no."


def test_start_refused_is_an_ordinary_exception() -> None:
    assert issubclass(StartRefused, Exception)
