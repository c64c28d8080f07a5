"""Real clusters for tests: ``projectk up`` on free ports in a folder of its own, stopped by pid."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.support.processes import alive, wait_until
from world.limits import READY_MS

COMMAND = (sys.executable, "-c", "from cluster.cli import main; main()")
START_S = READY_MS / 1_000 + 5
STOP_S = 12.0


def environment(**more: str) -> dict[str, str]:
    """This process's, without PROJECTK_ settings of the person who runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PROJECTK_")} | more


def projectk(*words: str, cwd: Path, timeout_s: float = 60, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end; ``more``: variables of its environment."""
    env = environment(PYTHONPATH=str(Path(__file__).parents[2]), COLUMNS="200", **more)
    return subprocess.run(
        [*COMMAND, *words], cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout_s, check=False
    )


class Cluster:
    """A running ``projectk up``. ``start`` and ``stop`` may be called again: the data stays."""

    def __init__(self, folder: Path, **flags: object) -> None:
        """``flags`` with underscores: ``gameservers=2`` → ``--gameservers 2``; ``source``: another release's folder;
        ``variables``: of the environment."""
        self.folder = folder
        variables = flags.pop("variables", None)
        self._variables: dict[str, str] = variables if isinstance(variables, dict) else {}
        source = flags.pop("source", None)
        self._source = source if isinstance(source, Path) else None
        self.ready_file = folder / "ready.json"
        self.data = folder / "var"
        self._flags = {"port": 0, "data": self.data, "ready_file": self.ready_file} | flags
        self.process: subprocess.Popen[bytes] | None = None
        self.joined: dict[str, subprocess.Popen[bytes]] = {}  # started by hand, until the next stop

    # -- its life
    def start(self) -> Self:
        self.ready_file.unlink(missing_ok=True)  # a killed supervisor's
        words = [w for name, value in self._flags.items() for w in (f"--{name.replace('_', '-')}", str(value))]
        with (self.folder / "up.out").open("ab") as out:
            self.process = subprocess.Popen(
                [*COMMAND, "up", *words],
                env=environment(**self._variables, **({"PYTHONPATH": str(self._source)} if self._source else {})),
                cwd=self._source,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        wait_until(lambda: self.ready_file.exists() or not self.running, START_S, "the cluster is ready")
        assert self.running, f"the cluster did not start:\n{self.output()}{self.logs()}"
        return self

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self, number: int = signal.SIGINT, timeout_s: float = STOP_S) -> int:
        """Signal the supervisor and wait for its end; its exit code."""
        self._stop_joined("gs", "gw", "lg")
        assert self.process is not None
        if self.running:
            self.process.send_signal(number)
        code = self.process.wait(timeout_s)
        self._stop_joined("st", "br")  # what the others still needed
        return code

    def _stop_joined(self, *prefixes: str) -> None:
        for node in [node for node in self.joined if node.startswith(prefixes)]:
            process = self.joined.pop(node)
            process.send_signal(signal.SIGINT)
            process.wait(STOP_S)

    def kill_everything(self) -> None:
        """As a power cut: every process of the cluster, supervisor first, by SIGKILL."""
        pids = [row["pid"] for row in self.processes()] if self.ready_file.exists() else []
        if self.process is not None and self.running:
            self.process.kill()
            self.process.wait()
        for extra in self.joined.values():
            extra.kill()
            extra.wait()
        self.joined.clear()
        for pid in pids:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(alive(pid) for pid in pids), STOP_S, "all killed processes are gone")

    # -- what it says
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.ready_file.read_text())
        return document

    def processes(self, role: str = "") -> list[dict[str, Any]]:
        return [row for row in self.document()["processes"] if role in ("", row["role"])]

    def pid(self, node_id: str) -> int:
        return int(next(row["pid"] for row in self.processes() if row["id"] == node_id))

    @property
    def url(self) -> str:
        return str(self.document()["urls"]["gateways"][0])

    @property
    def gateways(self) -> list[str]:
        return list(self.document()["urls"]["gateways"])

    def signal(self, node_id: str, number: signal.Signals) -> None:
        os.kill(self.pid(node_id), number)

    def kill(self, node_id: str) -> int:
        """SIGKILL one process; the pid it had."""
        pid = self.pid(node_id)
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_back(self, node_id: str, old_pid: int, timeout_s: float = START_S) -> None:
        """Wait until a killed process was started again and is ready."""

        def back() -> bool:
            rows = [row for row in self.processes() if row["id"] == node_id and row["pid"] != old_pid]
            return any(row["addresses"] for row in rows)  # none are known of one that only begins

        wait_until(back, timeout_s, f"{node_id} is back")

    def join(self, role: str, node_id: str, endpoint: str, **flags: object) -> dict[str, Any]:
        """Start one more process by hand, as ``projectk {role} --id … --join …``; its ready document."""
        words = [w for name, value in flags.items() for w in (f"--{name.replace('_', '-')}", str(value))]
        with (self.folder / f"{node_id}.out").open("ab") as errors:
            process = subprocess.Popen(
                [*COMMAND, role, "--id", node_id, "--join", endpoint, *words],
                env=environment(**self._variables),
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self.joined[node_id] = process
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"{node_id} did not start:\n{(self.folder / f'{node_id}.out').read_text()}"
        ready: dict[str, Any] = json.loads(line)
        return ready

    def output(self) -> str:
        return (self.folder / "up.out").read_text()

    def logs(self, last_lines: int = 12) -> str:
        """The end of each process's log, for the message of a failed test."""
        parts = []
        for path in sorted((self.data / "logs").glob("*.*")):
            lines = path.read_text(errors="replace").splitlines()[-last_lines:]
            if lines:
                parts.append(f"== {path.name}\n" + "\n".join(lines))
        return "\n".join(parts)


@contextmanager
def cluster(folder: Path, **flags: object) -> Iterator[Cluster]:
    """A started cluster that is stopped at the end, whatever happens; nothing of it stays alive."""
    running = Cluster(folder, **flags)
    try:
        yield running.start()
    finally:
        pids = [row["pid"] for row in running.processes()] if running.ready_file.exists() else []
        try:
            running.stop()
        except subprocess.TimeoutExpired:
            running.kill_everything()
        for pid in pids:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
