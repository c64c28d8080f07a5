"""``projectk up`` as an operator meets it: ready file, stop, restart, orphans, bad circumstances."""

import json
import os
import pty
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.support.cluster import COMMAND, STOP_S, Cluster, cluster, environment, projectk
from tests.support.processes import alive, wait_until
from world.limits import ORPHAN_EXIT_MS, STOP_MS

pytestmark = pytest.mark.cluster


def test_it_says_what_is_ready_serves_it_and_stops_in_time(tmp_path: Path) -> None:
    with cluster(tmp_path) as running:
        roles = [row["role"] for row in running.processes()]
        assert sorted(roles) == sorted(
            ["broker"] * 2 + ["login"] * 2 + ["gateway"] * 2 + ["gameserver"] * 3 + ["store"]
        )
        urls = running.document()["urls"]
        wait_until(lambda: "Ctrl-C" in running.output(), STOP_S, "the URLs are printed")
        assert f"Play     {urls['play']}" in running.output()
        assert f"Observe  {urls['observe']}" in running.output()
        for url in (urls["play"], urls["observe"], *(f"{gateway}/readyz" for gateway in urls["gateways"])):
            assert httpx.get(url).status_code == 200
        for row in running.processes():
            assert "process_resident_memory_bytes" in httpx.get(row["addresses"]["metrics"]).text
        assert "projectk_loop_lag_seconds" in httpx.get(running.processes("gameserver")[0]["addresses"]["metrics"]).text
        pids = [row["pid"] for row in running.processes()]
        began_s = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - began_s < STOP_MS / 1_000 + 1
        assert not any(alive(pid) for pid in pids)
        assert "killed" not in running.output()
        assert not running.ready_file.exists()
        for log in (tmp_path / "var/logs").glob("*.log"):
            last = json.loads(log.read_text().splitlines()[-1])
            assert last["event"] == "stopped", f"{log.name}: {last}"
    other = projectk("up", "--port", "0", "--data", str(tmp_path / "var"), "--world-seed", "2", cwd=tmp_path)
    assert other.returncode == 2
    assert other.stderr.startswith("projectk: --world-seed 2: this world was made with --world-seed 1;")
    assert len(other.stderr.strip().splitlines()) == 1


def test_ctrl_c_at_the_keyboard_stops_it_once(tmp_path: Path) -> None:
    """The terminal sends SIGINT to the whole foreground group: the children must not get it. The ready file may be
    wished for in a folder that is not there yet."""
    ready = tmp_path / "var" / "ready.json"
    few = ["--gameservers", "1", "--gateways", "1", "--logins", "1", "--brokers", "1"]
    command = [*COMMAND, "up", "--port", "0", "--data", str(tmp_path / "var"), "--ready-file", str(ready), *few]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(command[0], command, environment())
    try:
        wait_until(ready.exists, 35, "ready")
        children = [row["pid"] for row in json.loads(ready.read_text())["processes"]]
        os.write(terminal, b"\x03")
        output = b""
        while True:
            try:
                output += os.read(terminal, 65_536)
            except OSError:
                break
        _pid, status = os.waitpid(pid, 0)
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert b"Stopped." in output
    assert not any(alive(child) for child in children)


def test_a_second_ctrl_c_ends_everything_at_once(tmp_path: Path) -> None:
    with cluster(tmp_path, gameservers=1, gateways=1, logins=1, brokers=1) as running:
        pids = [row["pid"] for row in running.processes()]
        os.kill(running.pid("st1"), signal.SIGSTOP)  # so that the first one cannot end by itself
        assert running.process is not None
        running.process.send_signal(signal.SIGINT)
        wait_until(lambda: "Saving the world" in running.output(), STOP_S, "the first Ctrl-C was heard")
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(STOP_S) == 130
        wait_until(lambda: not any(alive(pid) for pid in pids), STOP_S, "nothing is left")


def test_a_killed_supervisor_leaves_no_orphan(tmp_path: Path) -> None:
    with cluster(tmp_path, gameservers=1, gateways=1, logins=1, brokers=1) as running:
        pids = [row["pid"] for row in running.processes()]
        assert running.process is not None
        running.process.kill()
        running.process.wait()
        wait_until(lambda: not any(alive(pid) for pid in pids), ORPHAN_EXIT_MS / 1_000 + 5, "no orphan is left")
        running.start()  # and nothing stands in the way of the next one
        assert running.stop() == 0


@pytest.mark.parametrize("node", ["gs2", "gw2", "lg1", "br1", "st1"])
def test_whatever_is_killed_comes_back(shared: Cluster, node: str) -> None:
    old = shared.kill(node)
    shared.wait_back(node, old)
    assert f"{node} ended with signal SIGKILL; starting it again" in shared.output()
    assert httpx.get(f"{shared.url}/readyz").status_code == 200


def test_a_second_cluster_does_not_disturb_the_first(shared: Cluster, tmp_path: Path) -> None:
    port = int(shared.url.rsplit(":", 1)[1])
    busy = projectk("up", "--port", str(port), "--data", str(tmp_path / "other"), cwd=tmp_path)
    assert (busy.returncode, busy.stdout) == (2, "")
    assert busy.stderr == f"projectk: --port: port {port} on 127.0.0.1 is in use; choose another, or 0 for free ones.\n"
    same = projectk("up", "--port", "0", "--data", str(shared.data), cwd=tmp_path)
    assert same.returncode == 2
    assert "is running on it" in same.stderr
    assert httpx.get(f"{shared.url}/readyz").status_code == 200


def test_a_corrupt_database_is_said_and_not_touched(tmp_path: Path) -> None:
    database = tmp_path / "var/store/world.sqlite"
    database.parent.mkdir(parents=True)
    database.write_bytes(b"this is no database, " * 500)
    before = database.read_bytes()
    done = projectk("up", "--port", "0", "--data", str(tmp_path / "var"), cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "world.sqlite" in done.stderr
    assert database.read_bytes() == before


def test_a_damaged_signing_key_is_said_and_not_touched(tmp_path: Path) -> None:
    key = tmp_path / "var/keys/lg2.pem"
    key.parent.mkdir(parents=True)
    key.write_text("no key")
    done = projectk("up", "--port", "0", "--data", str(tmp_path / "var"), cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert f"The signing key {key} cannot be used" in done.stderr
    assert key.read_text() == "no key"


def test_a_port_taken_while_a_role_runs_alone_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        for words in (
            ["broker", "--command-port", str(port)],
            ["gateway", "--port", str(port), "--join", "tcp://127.0.0.1:1"],
        ):
            done = projectk(*words, cwd=tmp_path)
            assert done.returncode == 2
            assert f"port {port} on 127.0.0.1 is in use" in done.stderr


def test_a_role_alone_prints_one_ready_line_and_stops_on_ctrl_c(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "broker", "--id", "br7"], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as broker:
        assert broker.stdout is not None
        ready = json.loads(broker.stdout.readline())
        assert (ready["ready"], ready["role"], ready["id"], ready["pid"]) == (True, "broker", "br7", broker.pid)
        broker.send_signal(signal.SIGINT)
        assert broker.stdout.read() == b""
        assert broker.wait(STOP_S) == 0
