"""What the nemesis acts on: the cluster, its processes by id, the network between game servers, and the log of what
was done."""

import contextlib
import copy
import os
import random
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tests.chaos.history import NEMESIS, STORE, Log
from tests.chaos.holds import held
from tests.chaos.proxy import Network
from tests.chaos.snapshot import Opening, Snapshots, Unreadable
from tests.support.cluster import START_S, Cluster, projectk
from tests.support.couchbase_mock import CouchbaseMock
from tests.support.processes import alive, free_port, wait_until

SETTLE_S = 30.0  # an intent's term, twice, and the sweep's rounds
OPERATION_S = 180.0  # a deployment of everything
UNUSED_PORTS = (20_000, 30_000)
PROXIED = ("gs11", "gs12")  # game servers that reach each other and are reached through proxies


class Stage:
    """``restarts``: the supervisor starts again what dies."""

    def __init__(self, running: Cluster, log: Log, rng: random.Random, *, restarts: bool, lasts_s: float = 0.0) -> None:
        self.running = running
        self.rng = rng
        self.restarts = restarts
        self.network: Network | None = None
        self.mock: CouchbaseMock | None = None
        self._log = log
        self._lasts_s = lasts_s
        self._listeners: dict[str, str] = {}  # operators' listeners of gateways started by hand

    # -- the log
    def struck(self, kind: str, target: str = "") -> None:
        self._log.add(NEMESIS, "invoke", kind, value={"target": target})

    def over(self, kind: str, target: str = "", **more: Any) -> None:
        """Processes run again, or the network is whole: from here the cluster heals by itself."""
        self._log.add(NEMESIS, "ok", kind, value={"target": target, **more})

    def note(self, op: str) -> None:
        """``storm``: from now on kinds strike beside each other; ``end``: what happens now belongs to no fault."""
        self._log.add(NEMESIS, "note", op)

    def settle(self, opening: Opening) -> None:
        """Nobody plays any more: wait, at most SETTLE_S, until nothing in the store is on its way."""
        began_s = time.monotonic()
        with contextlib.closing(opening()) as snapshots, contextlib.suppress(AssertionError):
            wait_until(lambda: _is_quiet(snapshots), SETTLE_S, "nothing is on its way")
        self._log.add(STORE, "note", "settled", value=[round(time.monotonic() - began_s, 1)])

    def beside(self, rng: random.Random) -> "Stage":
        """The same stage with dice of its own, for another thread."""
        other = copy.copy(self)
        other.rng = rng
        return other

    # -- processes
    def pids(self, role: str = "") -> dict[str, int]:
        """Node → pid of what runs, those joined by hand too."""
        pids = {str(row["id"]): int(row["pid"]) for row in self.running.processes(role)}
        prefix = {"gameserver": "gs", "gateway": "gw", "login": "lg", "broker": "br", "store": "st", "": ""}[role]
        joined = {
            node: p.pid for node, p in self.running.joined.items() if node.startswith(prefix) and p.poll() is None
        }
        return {node: pid for node, pid in (pids | joined).items() if alive(pid)}

    def any_of(self, role: str) -> str:
        """Not of PROXIED: they stay for the next partition."""
        return self.rng.choice(sorted(self.pids(role).keys() - set(PROXIED)))

    def kill(self, *nodes: str) -> dict[str, int]:
        """SIGKILL in one go; the pids they had."""
        pids = self.pids()
        for node in nodes:
            os.kill(pids[node], signal.SIGKILL)
        return {node: pids[node] for node in nodes}

    def wait_back(self, killed: Mapping[str, int]) -> None:
        """All of them run again; those that the supervisor does not know, or has let go, by hand."""
        for node, pid in killed.items() if self.restarts else ():
            if node in self.running.joined:
                self.start_by_hand(node)
            else:
                self.running.wait_back(node, pid)

    def start_by_hand(self, node: str) -> None:
        """A game server or gateway that was drained, or was started by hand before."""
        more: dict[str, object] = {"log_file": self.running.data / "logs" / f"{node}.log"}
        if node.startswith("gw"):
            url = self.running.gateways[int(node[2:]) - 1]
            more |= {"port": url.rpartition(":")[2], "data": self.running.data}
        role = {"gs": "gameserver", "gw": "gateway"}[node[:2]]
        ready = self.running.join(role, node, self.member(), **more)
        self._listeners[node] = ready["addresses"].get("ops", "")

    def stopped(self, node: str) -> AbstractContextManager[None]:
        """SIGSTOP within, SIGCONT after, whatever happens."""
        return _stopped(self.pids()[node])

    def unwatched(self) -> AbstractContextManager[None]:
        """The supervisor stands still: it sees no process end, and tells nobody of it."""
        assert self.running.process is not None
        return _stopped(self.running.process.pid)

    def member(self) -> str:
        """A command endpoint to join by: a broker's, or where none is left, a login's."""
        rows = self.running.processes("broker") or self.running.processes("login")
        return str(rows[0]["addresses"]["command"])

    def wait_gone(self, node: str, pid: int) -> None:
        wait_until(lambda: not alive(pid), START_S, f"{node} has ended")

    def operate(self, *words: str) -> None:
        """``projectk`` with these words, for this cluster. Raises AssertionError where it says no."""
        listeners = {row["id"]: row["addresses"]["ops"] for row in self.running.processes("gateway")}
        asked = [url for node, url in (self._listeners | listeners).items() if url and node in self.pids("gateway")]
        found = ("--ops", ",".join(asked), "--token-file", str(self.running.data / "keys" / "ops.token"))
        done = projectk(*words, *found, cwd=self.running.folder, timeout_s=OPERATION_S)
        assert done.returncode == 0, f"projectk {' '.join(words)}: {done.stdout[-500:]}{done.stderr[-500:]}"

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def last(self, seconds: float) -> None:
        """The fault goes on for so long, or as long as this run wants."""
        time.sleep(self._lasts_s or seconds)

    # -- the network
    def join_proxied(self, network: Network) -> None:
        """Start PROXIED, each told to others by the ports of its proxies."""
        self.network = network
        for node in PROXIED:
            command, state = free_port(), free_port()
            self.running.join(
                "gameserver",
                node,
                self.member(),
                command_port=command,
                state_port=state,
                advertise_command=f"tcp://127.0.0.1:{network.listen(node, command)}",
                advertise_state=f"tcp://127.0.0.1:{network.listen(node, state)}",
                log_file=self.running.data / "logs" / f"{node}.log",
            )


def _is_quiet(snapshots: Snapshots) -> bool:
    try:
        return not any(held(snapshots.read()))
    except Unreadable:
        return False


def free_row(count: int) -> int:
    """The first of so many free ports in a row: gateways keep them over a restart of everything. Below those that
    systems give to connections, or one of these might take it meanwhile."""
    while True:
        first = random.randrange(*UNUSED_PORTS)
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as ballast:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while ballast.write(bytes(size)):
                    pass


@contextlib.contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
