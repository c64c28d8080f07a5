"""A worker process of bots with a history: ``python -m tests.chaos.worker '{"url": …}'``.

Stdout: a JSON line a second, {"connected", "arrived", "gathered", "traded", "done"}. The end of stdin stops it.
"""

import asyncio
import contextlib
import random
import sys
from pathlib import Path

import httpx
import msgspec
import orjson
import uvloop

from cluster.bots.bot import Worker
from cluster.bots.client import ClientError
from cluster.bots.land import EXPLORED_RADII, Land
from cluster.bots.measure import Inputs, Tally
from tests.chaos.history import NEWCOMERS, Log
from tests.chaos.player import ChaosBot, RecordedClient
from world.limits import BOT_HTTP_CONNECTIONS, BOT_HTTP_S, BOT_LEASH_M, BOT_REPORT_MS, BOT_STOP_S

NEWCOMERS_PER_BOT = 10_000  # numbers kept free, so that no two workers give the same


class Job(msgspec.Struct, frozen=True):
    """``newcomers_every_s``: a new guest logs in, asks for its inventory and leaves; 0: none."""

    gateways: list[str]
    history: str
    first: int
    count: int
    logins_per_s: float
    spread_m: float
    gather_every_s: float
    newcomers_every_s: float
    seed: int
    trade: float = 0.0  # share of the bots that trade


async def work(job: Job) -> None:
    log = Log(Path(job.history))
    limits = httpx.Limits(max_connections=BOT_HTTP_CONNECTIONS, max_keepalive_connections=BOT_HTTP_CONNECTIONS)
    async with httpx.AsyncClient(limits=limits, timeout=BOT_HTTP_S) as http:
        url = job.gateways[0]
        land = await Land.fetch(http, url)
        await land.load_around(*land.spawn, EXPLORED_RADII * job.spread_m + 2 * BOT_LEASH_M)
        land.explore(job.spread_m)
        entities = (await http.get(f"{url}/v1/world")).json()["entities"]
        items = {entity["kind"]: entity["item"] for entity in entities if entity.get("item")}
        tally = Tally()
        worker = Worker(
            http=http,
            gateways=job.gateways,
            land=land,
            tally=tally,
            inputs=Inputs(tally),
            rng=random.Random(job.seed * 1_000_003 + job.first),
            stopping=asyncio.Event(),
            observers=[],
            began_s=asyncio.get_running_loop().time(),
            gather_every_s=job.gather_every_s,
            trade=job.trade,
        )
        await _run(worker, job, log, items)
    log.close()


async def _run(worker: Worker, job: Job, log: Log, items: dict[int, str]) -> None:
    bots = [ChaosBot(worker, job.first + n, log, items) for n in range(job.count)]
    async with asyncio.TaskGroup() as group:
        helpers = [group.create_task(_until_told(worker)), group.create_task(_report(worker, bots))]
        if job.newcomers_every_s:
            helpers.append(group.create_task(_newcomers(worker, job, log, items)))
        living = []
        for bot in bots:
            living.append(group.create_task(bot.live()))
            await asyncio.sleep(1 / job.logins_per_s)
        await worker.stopping.wait()
        _done, late = await asyncio.wait(living, timeout=BOT_STOP_S)
        for task in [*late, *helpers]:
            task.cancel()
    _say(bots, worker, done=True)


async def _until_told(worker: Worker) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    worker.stopping.set()


async def _newcomers(worker: Worker, job: Job, log: Log, items: dict[int, str]) -> None:
    """One after the other, each given up where it fails: the next one comes soon."""
    number = 0
    rng = random.Random(job.seed + job.first)
    while not worker.stopping.is_set():
        await asyncio.sleep(job.newcomers_every_s)
        shift = number % len(job.gateways)
        gateways = job.gateways[shift:] + job.gateways[:shift]
        await _newcomer(
            RecordedClient(
                log, NEWCOMERS + job.first * NEWCOMERS_PER_BOT + number, items, worker.http, gateways, rng=rng
            )
        )
        number += 1


async def _newcomer(client: RecordedClient) -> None:
    """As a person: where one gateway does not answer, the next is tried, once each."""
    for _attempt in client.gateways[:]:
        try:
            if not client.avatar:
                await client.guest()
        except ClientError:
            client.gateways.append(client.gateways.pop(0))
            continue
        with contextlib.suppress(ClientError):
            await client.connect()
            await client.command("inventory")
            break
    await client.close()


async def _report(worker: Worker, bots: list[ChaosBot]) -> None:
    while True:
        await asyncio.sleep(BOT_REPORT_MS / 1_000)
        _say(bots, worker)


def _say(bots: list[ChaosBot], worker: Worker, done: bool = False) -> None:
    line = {
        "connected": sum(bot.connected for bot in bots),
        "arrived": sum(bot.arrived for bot in bots),
        "gathered": worker.tally.gathered,
        "traded": worker.tally.traded,
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
