"""``projectk healthcheck``: one sentence, 0 for who is well, 1 for all else."""

import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from cluster.verbs.healthcheck import check, judge
from runtime.metrics import ProcessHealth, serve_metrics
from runtime.settings import read_settings
from tests.support.cluster import environment

ROOT = Path(__file__).parents[3]


class Process:
    """The metrics of a game server in a stage that the test chooses."""

    def __init__(self) -> None:
        self.stage = "ready"
        self.registry = CollectorRegistry()
        self.health = ProcessHealth(self.registry, "gameserver", "gs7", lambda: self.stage)

    def text(self) -> str:
        return generate_latest(self.registry).decode()


@pytest.mark.parametrize(
    ("stage", "well"), [("starting", False), ("ready", True), ("draining", True), ("stopping", False)]
)
def test_ready_and_draining_are_well(stage: str, well: bool) -> None:
    process = Process()
    process.stage = stage
    assert judge(process.text(), "gameserver") == (well, f"gs7 (gameserver) is {stage}.")
    assert judge(process.text(), "").well is well


def test_a_loop_that_hangs_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process()
    now_s = process.health._ran_s
    monkeypatch.setattr("runtime.metrics.time.monotonic", lambda: now_s + 7.26)
    assert judge(process.text(), "gameserver") == (False, "gs7 (gameserver) hangs: its loop has not run for 7.3 s.")
    process.health.loop_ran()
    assert judge(process.text(), "gameserver").well


def test_somebody_else_is_not_who_should_be_there() -> None:
    assert judge(Process().text(), "login") == (False, "gs7 answers there, which is a gameserver and no login.")
    assert judge("# nothing\n", "login").well is False


@pytest.fixture
def served() -> int:
    return int(serve_metrics(Process().registry).split(":")[2].partition("/")[0])


def test_it_asks_where_the_settings_say(served: int) -> None:
    assert check(read_settings(metrics_port=served), "gameserver").well
    assert check(read_settings(metrics_port=served, metrics_host="127.0.0.0/8"), "").well
    assert check(read_settings(port=served), "gateway").sentence.startswith("gs7 answers there, which is a gameserver")
    nobody = check(read_settings(metrics_port=1), "login")
    assert (nobody.well, nobody.sentence.startswith("No metrics from 127.0.0.1:1: ")) == (False, True)
    assert "set PROJECTK_METRICS_PORT" in check(read_settings(), "login").sentence
    assert "no role 'dancer'" in check(read_settings(), "dancer").sentence


def test_the_command_ends_with_0_or_1_and_loads_little(served: int) -> None:
    def run(*words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", "from cluster.entry import main; main()", "healthcheck", *words],
            cwd=ROOT, env=environment(**variables), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    well = run("gameserver", PROJECTK_METRICS_PORT=str(served))
    assert (well.returncode, well.stdout) == (0, "gs7 (gameserver) is ready.\n")
    wrong = run(PROJECTK_METRICS_PORT="many")
    assert (wrong.returncode, len(wrong.stdout.splitlines())) == (1, 1)
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys; import cluster.verbs.healthcheck; print(*sys.modules)"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    ).stdout.split()  # fmt: skip
    assert not {"numpy", "zmq", "httpx", "cluster.cli"} & set(loaded)
