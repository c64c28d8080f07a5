"""The supervisor with small processes in the roles' places: start, restart, stop in order, no orphans."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cluster.supervisor.child import Child, ChildFailed
from cluster.supervisor.plan import Planned
from cluster.supervisor.supervisor import Supervisor
from runtime.mesh.api import Mesh, Refused
from runtime.store.api import Unavailable
from tests.support.aio import run
from tests.support.processes import alive
from world.messages import Member

PROGRAM = """
import sys
from runtime.service import StartRefused, run
from runtime.settings import read_settings
settings = read_settings()
release = settings.data / "release"
how = sys.argv[2] or (release.read_text() if release.exists() else "")
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
sys.exit(run(sys.argv[1], settings, start))
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
        async with asyncio.timeout(60):
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


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is served here, who would have to be taken in between two steps of a deployment."""
    monkeypatch.setattr("cluster.supervisor.deployment.DEPLOY_REST_MS", 0)


class Book:
    """A ``Cluster`` whose processes are in the book as soon as they run; each life has the next generation."""

    def __init__(self) -> None:
        self.processes: Callable[[], list[dict[str, object]]] = list
        self.lives: dict[str, list[object]] = {}
        self.told: list[tuple[str, str]] = []  # (node, state) of a deployment
        self.at_once: list[int] = []  # how many ran, at each of these
        self.reaped: list[str] = []
        self.told_deploying: list[bool] = []
        self.raised = 0

    def member(self, node: str) -> Member | None:
        for row in self.processes():
            if row["id"] == node:
                lives = self.lives.setdefault(node, [])
                lives += [row["pid"]] if row["pid"] not in lives else []
                return Member(str(row["role"]), node, len(lives), "", status="ready")
        return None

    def suspected(self, node: str) -> bool:
        return False

    def deploying(self, on: bool) -> None:
        self.told_deploying.append(on)

    def note(self, **detail: str) -> None:
        self.told.append((detail["node"], detail["state"]))
        self.at_once.append(len(self.processes()))

    def ended(self, node: str, running: Callable[[str], bool]) -> None:
        assert not running(node)
        self.reaped.append(node)

    async def raise_format(self) -> tuple[int, int]:
        self.raised += 1
        if self.raised == 1:
            raise Unavailable("rolled just now")
        return 1, 2

    async def live(self, serve: Callable[[Mesh], None], event: Callable[[str], None]) -> None:
        await asyncio.Event().wait()


def supervised(
    folder: Path,
    test: Callable[[Supervisor, Recorder], Awaitable[None]],
    restart: bool = True,
    book: Book | None = None,
    **how: str,
) -> Recorder:
    """Run ``test`` with a started supervisor, then stop it."""

    async def main() -> Recorder:
        report = Recorder()
        supervisor = Supervisor(
            small(folder, **how),
            restart=restart,
            ready_file=folder / "ready.json",
            urls={"play": "http://x/"},
            member=book,
            files={folder / "ops.json": {"urls": ["http://y"]}},
        )
        if book is not None:
            book.processes = supervisor.processes
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
        assert json.loads((tmp_path / "ops.json").read_text()) == {"urls": ["http://y"]}
        assert (tmp_path / "ops.json").stat().st_mode & 0o777 == 0o600

    supervised(tmp_path, test)
    assert (tmp_path / "stopped").read_text().split() == ["gw1", "gs1", "lg1", "st1", "br1"]
    assert not (tmp_path / "ready.json").exists()
    assert not (tmp_path / "ops.json").exists()


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


@pytest.mark.parametrize(
    ("settled_ms", "delays"), [(60_000, (250, 500)), (0, (250, 250))], ids=["at once", "after it has served for long"]
)
def test_backoff_doubles_while_a_process_keeps_dying(
    settled_ms: int, delays: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.supervisor.supervisor.RESTART_SETTLED_MS", settled_ms)

    async def test(_supervisor: Supervisor, report: Recorder) -> None:
        for delay in delays:
            os.kill(pids(tmp_path)["lg1"], signal.SIGKILL)
            await report.said(f"starting it again in {delay} ms")
            report.events.clear()
            await report.said("lg1 is back")

    supervised(tmp_path, test)


def test_only_the_time_that_a_process_was_ready_counts_as_served(tmp_path: Path) -> None:
    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print('{\"addresses\": {}}')", stdout=asyncio.subprocess.PIPE
        )
        child = Child(small(tmp_path)[0], process, tmp_path / "stderr")
        await asyncio.sleep(0.05)
        assert child.served_ms == 0
        await child.ready()
        await asyncio.sleep(0.06)  # a clock of whole milliseconds may count one less than was slept
        assert child.served_ms >= 50
        await process.wait()

    run(scenario(), uvloop=True)


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


# -- drained, reaped, deployed -----------------------------------------------------------------------------------
def test_who_was_drained_is_left_out_and_whose_process_ends_is_told_at_once(tmp_path: Path) -> None:
    book = Book()

    async def test(supervisor: Supervisor, report: Recorder) -> None:
        os.kill(pids(tmp_path)["lg1"], signal.SIGTERM)
        await report.said("lg1 was drained and is not started again")
        assert sorted(pids(tmp_path)) == ["br1", "gs1", "gw1", "st1"]
        os.kill(pids(tmp_path)["gs1"], signal.SIGKILL)
        await report.said("gs1 is back")
        assert book.reaped == ["lg1", "gs1"]
        assert [planned.id for planned in supervisor.rolled()] == ["br1", "st1", "gw1", "gs1"]
        assert supervisor.deployments is not None
        with pytest.raises(Refused, match="no_such_target"):
            supervisor.deployments.begin("lg2")
        supervisor.deployments.begin("lg1")
        await report.said("deployed lg1")
        report.events.clear()
        os.kill(pids(tmp_path)["lg1"], signal.SIGKILL)
        await report.said("lg1 is back")

    supervised(tmp_path, test, book=book)


def test_a_deployment_starts_every_process_anew_one_at_a_time(tmp_path: Path) -> None:
    book = Book()

    async def test(supervisor: Supervisor, report: Recorder) -> None:
        before = pids(tmp_path)
        assert supervisor.deployments is not None
        roll = supervisor.deployments.begin()
        assert supervisor.deployments.begin() is roll, "one at a time"
        await report.said("documents go from format 1 to 2")
        after = pids(tmp_path)
        assert all(after[node] != before[node] for node in before)
        order = ["br1", "st1", "lg1", "gw1", "gs1"]
        assert book.told_deploying == [True, False], "nothing moves for balance meanwhile"
        assert book.told == [*((n, s) for n in order for s in ("draining", "starting", "ready")), ("", "done")]
        assert min(book.at_once) == 4
        assert roll.view()["state"] == "done"
        assert roll.view()["format"] == {"from": 1, "to": 2}
        assert [(step["id"], step["state"]) for step in roll.view()["steps"]] == [(node, "ready") for node in order]
        assert not any("starting it again" in event for event in report.events), "nobody else had a hand in it"
        os.kill(after["gs1"], signal.SIGKILL)
        await report.said("gs1 is back")

    supervised(tmp_path, test, book=book)
    assert (tmp_path / "stopped").read_text().split()[:5] == ["br1", "st1", "lg1", "gw1", "gs1"]


def test_a_deployment_stops_at_the_first_that_fails_which_comes_back_with_the_old_release(tmp_path: Path) -> None:
    book = Book()

    async def test(supervisor: Supervisor, report: Recorder) -> None:
        before = pids(tmp_path)
        (tmp_path / "release").write_text("break")
        assert supervisor.deployments is not None
        roll = supervisor.deployments.begin()
        await report.said("the deployment has failed and stopped: br1 ended with exit code 1 before it was ready")
        assert [step["state"] for step in roll.view()["steps"]] == ["failed", *["waiting"] * 4]
        assert book.told_deploying == [True, False]
        assert (roll.state, book.told[-1]) == ("failed", ("", "failed"))
        now = pids(tmp_path)
        assert all(now[node] == before[node] for node in ("st1", "lg1", "gw1", "gs1"))
        (tmp_path / "release").unlink()
        await report.said("br1 is back")
        assert supervisor.deployments.begin() is not roll
        await report.said("deployed gs1")

    supervised(tmp_path, test, book=book)


def test_a_deployment_waits_for_who_is_missing(tmp_path: Path) -> None:
    """A process that fell by itself counts: nobody else leaves before it is back."""
    book = Book()

    async def test(supervisor: Supervisor, report: Recorder) -> None:
        os.kill(pids(tmp_path)["gs1"], signal.SIGKILL)
        await report.said("starting it again")
        assert supervisor.deployments is not None
        supervisor.deployments.begin()
        await report.said("deployed br1")
        await report.said("gs1 is back")
        assert min(book.at_once) == 4, "only br1 itself was away meanwhile"

    supervised(tmp_path, test, book=book)
