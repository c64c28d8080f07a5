"""The supervisor with small processes in the roles' places: start, restart, stop in order, no orphans."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cluster.supervisor.child import ChildFailed
from cluster.supervisor.plan import Planned
from cluster.supervisor.supervisor import Supervisor
from tests.support.aio import run
from tests.support.processes import alive

PROGRAM = """
import sys
from runtime.service import StartRefused, run
from runtime.settings import Settings
how = sys.argv[2]
async def start(service):
    if how == "refuse":
        raise StartRefused("--data x: no.")
    if how == "break":
        raise ValueError("broken")
    async def stopped():
        with open(service.settings.data / "stopped", "a") as file:
            file.write(service.node_id + "\\n")
        if how == "hang":
            import time
            time.sleep(60)
    service.on_stop(stopped)
    service.ready(command="tcp://127.0.0.1:1")
sys.exit(run(sys.argv[1], Settings(), start))
"""


class Recorder:
    def __init__(self) -> None:
        self.ready: list[str] = []
        self.events: list[str] = []
        self.changed = asyncio.Event()

    def planned(self, ids: list[str]) -> None: ...

    def child_ready(self, node_id: str) -> None:
        self.ready.append(node_id)

    def event(self, text: str) -> None:
        self.events.append(text)
        self.changed.set()

    async def said(self, words: str) -> None:
        """Wait until some event contains these words."""
        async with asyncio.timeout(15):
            while not any(words in event for event in self.events):
                self.changed.clear()
                await self.changed.wait()


def small(folder: Path, **how: str) -> list[Planned]:
    """One process of each role; ``how``: role → refuse | break | hang."""
    (folder / "logs").mkdir()
    planned = []
    for role, node in (
        ("broker", "br1"),
        ("store", "st1"),
        ("login", "lg1"),
        ("gateway", "gw1"),
        ("gameserver", "gs1"),
    ):
        settings = {"node_id": node, "data": str(folder), "log_file": str(folder / "logs" / f"{node}.log")}
        command = (sys.executable, "-c", PROGRAM, role, how.get(role, ""))
        planned.append(Planned(role, node, settings, command))
    return planned


def supervised(
    folder: Path, test: Callable[[Supervisor, Recorder], Awaitable[None]], restart: bool = True, **how: str
) -> Recorder:
    """Run ``test`` with a started supervisor, then stop it."""

    async def main() -> Recorder:
        report = Recorder()
        supervisor = Supervisor(
            small(folder, **how), restart=restart, ready_file=folder / "ready.json", urls={"play": "http://x/"}
        )
        try:
            await supervisor.start(report)
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(supervisor.supervise(report))
                await test(supervisor, report)
                watching.cancel()
        finally:
            await supervisor.stop(report)
        return report

    return run(main(), uvloop=True)


def pids(folder: Path) -> dict[str, int]:
    return {row["id"]: row["pid"] for row in json.loads((folder / "ready.json").read_text())["processes"]}


def test_all_start_and_stop_in_order(tmp_path: Path) -> None:
    async def test(_supervisor: Supervisor, report: Recorder) -> None:
        document = json.loads((tmp_path / "ready.json").read_text())
        assert document["urls"] == {"play": "http://x/"}
        assert [row["role"] for row in document["processes"]] == ["broker", "store", "login", "gateway", "gameserver"]
        assert document["processes"][0]["addresses"]["command"] == "tcp://127.0.0.1:1"
        assert sorted(report.ready[:2]) == ["br1", "st1"]
        assert all(alive(pid) for pid in pids(tmp_path).values())

    supervised(tmp_path, test)
    assert (tmp_path / "stopped").read_text().split() == ["gw1", "gs1", "lg1", "st1", "br1"]
    assert not (tmp_path / "ready.json").exists()


def test_a_killed_process_is_started_again_and_the_ready_file_follows(tmp_path: Path) -> None:
    async def test(_supervisor: Supervisor, report: Recorder) -> None:
        before = pids(tmp_path)
        os.kill(before["gs1"], signal.SIGKILL)
        await report.said("gs1 is back")
        assert any("gs1 ended with signal SIGKILL; starting it again" in event for event in report.events)
        after = pids(tmp_path)
        assert after["gs1"] != before["gs1"]
        assert {k: v for k, v in after.items() if k != "gs1"} == {k: v for k, v in before.items() if k != "gs1"}

    supervised(tmp_path, test)


def test_backoff_doubles_while_a_process_keeps_dying(tmp_path: Path) -> None:
    async def test(_supervisor: Supervisor, report: Recorder) -> None:
        for delay in (250, 500):
            os.kill(pids(tmp_path)["lg1"], signal.SIGKILL)
            await report.said(f"starting it again in {delay} ms")
            report.events.clear()
            await report.said("lg1 is back")

    supervised(tmp_path, test)


def test_without_restart_a_dead_process_stays_dead(tmp_path: Path) -> None:
    async def test(_supervisor: Supervisor, report: Recorder) -> None:
        os.kill(pids(tmp_path)["br1"], signal.SIGKILL)
        await report.said("br1 ended with signal SIGKILL; not restarted")
        assert sorted(pids(tmp_path)) == ["gs1", "gw1", "lg1", "st1"]

    supervised(tmp_path, test, restart=False)


def test_a_process_that_hangs_is_killed_within_its_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = {"gateway": 200, "gameserver": 2_000, "login": 2_000, "store": 2_000, "broker": 2_000}
    monkeypatch.setattr("cluster.supervisor.supervisor.STOP_STAGE_MS", stages)

    async def test(_supervisor: Supervisor, _report: Recorder) -> None: ...

    report = supervised(tmp_path, test, gateway="hang")
    assert report.events == ["gw1 did not stop in time and is killed"]
    assert (tmp_path / "stopped").read_text().split() == ["gw1", "gs1", "lg1", "st1", "br1"]


@pytest.mark.parametrize(("how", "said"), [("refuse", "--data x: no."), ("break", "st1 ended with exit code 1")])
def test_a_process_that_cannot_start_is_said(tmp_path: Path, how: str, said: str) -> None:
    async def test(_supervisor: Supervisor, _report: Recorder) -> None:
        raise AssertionError("it started")

    with pytest.raises(ChildFailed, match=said) as failed:
        supervised(tmp_path, test, store=how)
    assert failed.value.refused == (how == "refuse")
    assert not (tmp_path / "ready.json").exists()
