"""A worker process of bots: ``python -m cluster.bots.worker '{"url": …, "count": …}'``.

Stdout: one JSON line a second, {"connected": n, "arrived": n, "tally": {…}}, the last with "done": true. The fleet
writes ``measure`` on stdin when every bot is at its place, and closes it to stop.
"""

import asyncio
import random
import sys
import time

import httpx
import msgspec
import orjson
import uvloop

from cluster.bots.bot import Bot, Worker
from cluster.bots.client import ClientError, gateways_of
from cluster.bots.land import EXPLORED_RADII, Land
from cluster.bots.measure import Inputs, Tally
from world.limits import (
    BOT_HTTP_CONNECTIONS,
    BOT_HTTP_S,
    BOT_LEASH_M,
    BOT_OBSERVERS_PER_WORKER,
    BOT_REPORT_MS,
    BOT_STOP_S,
)


class Job(msgspec.Struct, frozen=True):
    """What the fleet asks of one worker: bots ``first`` … ``first + count - 1``."""

    url: str
    first: int
    count: int
    logins_per_s: float
    spread_m: float
    gather_every_s: float
    seed: int
    trade: float = 0.0


async def work(job: Job) -> None:
    limits = httpx.Limits(max_connections=BOT_HTTP_CONNECTIONS, max_keepalive_connections=BOT_HTTP_CONNECTIONS)
    async with httpx.AsyncClient(limits=limits, timeout=BOT_HTTP_S) as http:
        tally = Tally()
        try:
            gateways = await gateways_of(http, job.url)
            land = await Land.fetch(http, job.url)
            await land.load_around(*land.spawn, EXPLORED_RADII * job.spread_m + 2 * BOT_LEASH_M)
            land.explore(job.spread_m)
        except ClientError as error:
            tally.errors[error.kind] += 1
            _say([], tally, done=True)
            print(error, file=sys.stderr)
            return
        worker = Worker(
            http=http,
            gateways=sorted(gateways),
            land=land,
            tally=tally,
            inputs=Inputs(tally),
            rng=random.Random(job.seed + job.first),
            stopping=asyncio.Event(),
            observers=[],
            began_s=asyncio.get_running_loop().time(),
            gather_every_s=job.gather_every_s,
            trade=job.trade,
        )
        await _run(worker, job)


async def _run(worker: Worker, job: Job) -> None:
    every = max(1, job.count // BOT_OBSERVERS_PER_WORKER)
    bots = [Bot(worker, job.first + n, observes=n % every == 0) for n in range(job.count)]
    async with asyncio.TaskGroup() as group:
        commands = group.create_task(_obey(worker))
        reports = group.create_task(_report(worker, bots))
        living = []
        for bot in bots:
            if worker.stopping.is_set():
                break
            living.append(group.create_task(bot.live()))
            await asyncio.sleep(1 / job.logins_per_s)
        await worker.stopping.wait()
        _done, late = await asyncio.wait(living, timeout=BOT_STOP_S) if living else (set(), set())
        for task in late:
            worker.tally.errors["slow_stop"] += 1
            task.cancel()
        commands.cancel()
        reports.cancel()
    _say(bots, worker.tally, done=True)


async def _obey(worker: Worker) -> None:
    """Commands of the fleet; the end of stdin stops."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        if line.strip() == b"measure":
            worker.measuring = True
            worker.tally.cpu_s = -time.process_time()
    worker.tally.cpu_s += time.process_time()
    worker.measuring = False
    worker.stopping.set()


async def _report(worker: Worker, bots: list[Bot]) -> None:
    """Every BOT_REPORT_MS: received bytes and connected time into the tally, and a line out."""
    before = [0] * len(bots)
    while True:
        await asyncio.sleep(BOT_REPORT_MS / 1_000)
        for n, bot in enumerate(bots):
            received = bot.client.received_bytes
            if worker.measuring and bot.connected:
                worker.tally.bytes += max(0, received - before[n])
                worker.tally.client_s += BOT_REPORT_MS / 1_000
            before[n] = received
        _say(bots, worker.tally)


def _say(bots: list[Bot], tally: Tally, done: bool = False) -> None:
    line = {
        "connected": sum(bot.connected for bot in bots),
        "arrived": sum(bot.arrived for bot in bots),
        "tally": tally.to_json(),
        "done": done,
    }
    sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.flush()


def main() -> None:
    job = msgspec.json.decode(sys.argv[1], type=Job)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work(job))


if __name__ == "__main__":
    main()
