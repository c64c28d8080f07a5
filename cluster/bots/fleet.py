"""The worker processes of a bot run: start them, tell them when to measure, sum up what they say."""

import asyncio
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import orjson

from cluster.bots.measure import Tally
from cluster.bots.worker import Job
from world.limits import (
    BOT_CROWD_M,
    BOT_OTHERS_IN_SIGHT,
    BOT_REPORT_LINE_BYTES,
    BOT_REPORT_MS,
    BOT_SHOWN_M,
    BOT_STOP_S,
    BOT_WARMUP_SLACK_S,
    BOT_WORKER_BOTS,
    WALK_SPEED_M_PER_S,
)


@dataclass(frozen=True, slots=True)
class Run:
    """What was asked for. ``seconds`` are measured after the warm-up: logins, and the walk to everyone's place."""

    url: str
    count: int
    seconds: float
    crowd: bool
    logins_per_s: float
    gather_every_s: float
    seed: int
    workers: int = 0  # 0: one for each BOT_WORKER_BOTS
    spread: float = 0  # m; 0: by the number of bots
    trade: float = 0.0  # share of them that trade

    @property
    def spread_m(self) -> float:
        """Radius of the disc in which each bot is shown about BOT_OTHERS_IN_SIGHT others. A client is shown whole
        sub-cells, so a little more than its sight."""
        if self.crowd:
            return BOT_CROWD_M
        if self.spread:
            return self.spread
        return max(BOT_CROWD_M, BOT_SHOWN_M * math.sqrt(self.count / (BOT_OTHERS_IN_SIGHT + 1)))

    @property
    def warmup_s(self) -> float:
        """At most: after this the measurement begins, wherever the bots are."""
        return self.count / self.logins_per_s + 2 * self.spread_m / WALK_SPEED_M_PER_S + BOT_WARMUP_SLACK_S


@dataclass(slots=True)
class Progress:
    """Summed over the workers, as of their last lines."""

    phase: str = "logging in"
    connected: int = 0
    arrived: int = 0
    tally: Tally = field(default_factory=Tally)


class Fleet:
    """``run`` it once."""

    def __init__(self, asked: Run, on_progress: Callable[[Progress], None]) -> None:
        self._asked = asked
        self._on_progress = on_progress
        self._last: dict[int, dict[str, Any]] = {}  # worker → its last line
        self._workers: list[asyncio.subprocess.Process] = []
        self._phase = "logging in"
        self._measuring_since_s = 0.0
        self.measured_s = 0.0

    async def run(self) -> Tally:
        """The sums of all workers. Cancelled: the workers are stopped all the same."""
        count = self._asked.workers or max(1, math.ceil(self._asked.count / BOT_WORKER_BOTS))
        shares = [self._asked.count // count + (n < self._asked.count % count) for n in range(count)]
        try:
            async with asyncio.TaskGroup() as group:
                for n, share in enumerate(shares):
                    worker = await self._start(sum(shares[:n]), share, count)
                    group.create_task(self._read(n, worker))
                lead = group.create_task(self._lead())
                group.create_task(self._watch(lead))
        finally:
            await self._stop_all()
        return self._progress().tally

    async def _start(self, first: int, share: int, workers: int) -> asyncio.subprocess.Process:
        asked = self._asked
        rate = asked.logins_per_s / workers
        job = Job(asked.url, first, share, rate, asked.spread_m, asked.gather_every_s, asked.seed, asked.trade)
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cluster.bots.worker", msgspec.json.encode(job).decode()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=BOT_REPORT_LINE_BYTES,
            start_new_session=True,  # Ctrl-C reaches the fleet only, which closes their stdin
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )
        self._workers.append(worker)
        return worker

    async def _read(self, n: int, worker: asyncio.subprocess.Process) -> None:
        assert worker.stdout is not None
        while line := await worker.stdout.readline():
            self._last[n] = orjson.loads(line)
            self._on_progress(self._progress())
        if not self._last.get(n, {}).get("done"):
            lost = self._last.setdefault(n, {"connected": 0, "arrived": 0, "tally": Tally().to_json()})
            lost["tally"]["errors"]["worker_died"] = 1

    async def _lead(self) -> None:
        """Warm-up, measurement, end."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while loop.time() - began_s < self._asked.warmup_s and self._progress().arrived < self._asked.count:
            await asyncio.sleep(BOT_REPORT_MS / 1_000)
            self._phase = (
                "logging in" if self._progress().tally.logins < self._asked.count else "walking to their places"
            )
        self._phase = "measuring"
        self._tell(b"measure\n")
        self._measuring_since_s = loop.time()
        await asyncio.sleep(self._asked.seconds)
        self.end()

    async def _watch(self, lead: "asyncio.Task[None]") -> None:
        """Do not wait for a run whose workers have all ended."""
        for worker in self._workers:
            await worker.wait()
        lead.cancel()

    def _tell(self, line: bytes) -> None:
        for worker in self._workers:
            if worker.stdin is not None and worker.returncode is None:
                worker.stdin.write(line)

    def end(self) -> None:
        """The workers stop, say their last line and leave; early too."""
        if self._measuring_since_s and not self.measured_s:
            self.measured_s = asyncio.get_running_loop().time() - self._measuring_since_s
        for worker in self._workers:
            if worker.stdin is not None:
                worker.stdin.close()

    async def _stop_all(self) -> None:
        self.end()
        for worker in self._workers:
            try:
                async with asyncio.timeout(BOT_STOP_S):
                    await worker.wait()
            except TimeoutError:
                worker.kill()
                await worker.wait()

    def _progress(self) -> Progress:
        progress = Progress(self._phase)
        for line in self._last.values():
            progress.connected += line["connected"]
            progress.arrived += line["arrived"]
            progress.tally.add(Tally.from_json(line["tally"]))
        return progress
