"""The bots of a run: worker processes, started, watched until they play, stopped."""

import contextlib
import math
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

import msgspec

from tests.chaos.worker import Job
from tests.support.cluster import environment
from tests.support.processes import wait_until
from world.limits import BOT_OTHERS_IN_SIGHT, BOT_SHOWN_M, BOT_STOP_S, BOT_WORKER_BOTS

LOGINS_PER_S = 40.0
GATHER_EVERY_S = 3.0
SMALLEST_SPREAD_M = 30.0
_ENTER_S = 120.0  # to log in, and then to walk where things grow


class Crowd:
    """``newcomers_every_s``: besides the bots, one new guest after the other looks in. ``trade``: the share of the bots
    that trade."""

    def __init__(
        self,
        gateways: list[str],
        history: Path,
        bots: int,
        seed: int,
        newcomers_every_s: float = 1.0,
        trade: float = 0.0,
    ) -> None:
        self._bots = bots
        self._lines: dict[int, dict[str, Any]] = {}
        spread_m = max(SMALLEST_SPREAD_M, BOT_SHOWN_M * math.sqrt(bots / (BOT_OTHERS_IN_SIGHT + 1)) / 2)
        count = max(1, math.ceil(2 * bots / BOT_WORKER_BOTS))
        shares = [bots // count + (n < bots % count) for n in range(count)]
        self._jobs = [
            Job(
                gateways,
                str(history / f"worker{n}.jsonl"),
                sum(shares[:n]),
                share,
                LOGINS_PER_S / count,
                spread_m,
                GATHER_EVERY_S,
                newcomers_every_s if n == 0 else 0.0,
                seed,
                trade,
            )
            for n, share in enumerate(shares)
        ]
        self._errors = history / "workers.stderr"
        self._workers: list[subprocess.Popen[bytes]] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        for n, job in enumerate(self._jobs):
            with self._errors.open("ab") as errors:
                worker = subprocess.Popen(
                    [sys.executable, "-m", "tests.chaos.worker", msgspec.json.encode(job).decode()],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,
                    env=environment(OPENBLAS_NUM_THREADS="1", PYTHONPATH=str(Path(__file__).parents[2])),
                )
            self._workers.append(worker)
            thread = threading.Thread(target=self._read, args=(n, worker), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def _read(self, n: int, worker: "subprocess.Popen[bytes]") -> None:
        assert worker.stdout is not None
        for line in worker.stdout:
            self._lines[n] = msgspec.json.decode(line)

    def total(self, name: str) -> int:
        return sum(int(line[name]) for line in self._lines.values())

    def said(self) -> str:
        """How they are, in words."""
        return (
            f"({self.total('connected')} of {self._bots} connected, {self.total('gathered')} gathered, "
            f"{self.total('traded') // 2} trades)"
        )

    def wait_playing(self, gathered: int) -> None:
        """All connected, and so many items gathered together. Raises AssertionError."""
        wait_until(lambda: self.total("connected") >= self._bots, _ENTER_S, f"{self._bots} bots are connected")
        wait_until(lambda: self.total("gathered") >= gathered, _ENTER_S, f"{gathered} items are gathered")

    def stop(self) -> None:
        """They leave; the history is complete then. Raises AssertionError where a worker failed."""
        for worker in self._workers:
            assert worker.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                worker.stdin.close()
        for worker in self._workers:
            try:
                worker.wait(2 * BOT_STOP_S)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        for thread in self._threads:
            thread.join(BOT_STOP_S)
        codes = [worker.returncode for worker in self._workers]
        self._workers.clear()
        assert not any(codes), f"workers ended with {codes}: {self._errors.read_text()[-2_000:]}"
