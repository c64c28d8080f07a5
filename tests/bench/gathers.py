"""``python -m tests.bench gathers``: acknowledged gathers a second, end to end, and what each costs.

A real cluster; clients over real WebSockets, each of which gathers again as soon as it is answered, from a tree that
does not run out (``rich_world``). Baseline of the same run: the same clients ask for their ``inventory`` as fast, which
takes the same way and writes nothing. Afterwards the cluster is stopped and the books are judged as after chaos:
whatever was acknowledged is in the store, exactly once.
"""

import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import httpx
import orjson
import typer
import uvloop
from rich.console import Console

from cluster.bots.client import Client, ClientError, Outcome
from gateway.rate import TokenBucket
from tests.bench.measuring import Meter, Phase, show_phases
from tests.bench.rich_world import TREES_PER_REGION, Place, places, write_rich_world
from tests.chaos.checks import PERHAPS
from tests.chaos.snapshot import read_documents
from tests.support.cluster import Cluster, cluster
from tests.support.ledger import Told, violations
from world.audit import audit, settled
from world.ids import natural_region
from world.limits import BOT_COMMAND_S, CLIENT_COMMANDS_IN_FLIGHT, CLIENT_MESSAGES_PER_S

SEED = 1
ITEM = "wood"
PACED_PER_S = CLIENT_MESSAGES_PER_S - 5  # a client's commands: pings and receipts count against its rate too
PACED_BURST = 20
PACE_S = 0.02  # who has sent too much looks again after so long
WARM_S = 3.0
SETTLE_S = 3.0  # regions are woken by those who see them
CONNECTS_AT_ONCE = 8
CLUSTER_STOP_S = 30.0


@dataclass
class Load:
    """What all clients share. ``op``: what they do now, "" nothing new."""

    in_flight: int
    op: str = ""
    latencies_ms: dict[str, list[float]] = field(default_factory=lambda: {"gather": [], "inventory": []})
    refused: Counter[str] = field(default_factory=Counter)
    paced: int = 0  # times that a client waited for its rate


class Gatherer(Client):
    """A client that always has ``in_flight`` commands under way."""

    def __init__(self, load: Load, http: httpx.AsyncClient, gateways: list[str], rng: random.Random) -> None:
        super().__init__(http, gateways, rng=rng)
        self._load = load
        self._under_way = 0
        self._waits = False
        self._bucket = TokenBucket(PACED_PER_S, PACED_BURST, 0.0)
        self.tree = 0
        self.heard = Told()

    @property
    def busy(self) -> bool:
        return self._under_way > 0

    def go_on(self) -> None:
        """Send what may be sent."""
        load = self._load
        while load.op and self._under_way < load.in_flight and not self.lost.is_set():
            if not self._bucket.take(time.monotonic() * 1_000):
                self._pause()
                return
            self._under_way += 1
            args = {"target": self.tree} if load.op == "gather" else {}
            self.begin(load.op, **args).add_done_callback(partial(self._answered, load.op, time.monotonic()))

    def _pause(self) -> None:
        if not self._waits:
            self._waits = True
            self._load.paced += 1
            asyncio.get_running_loop().call_later(PACE_S, self._resume)

    def _resume(self) -> None:
        self._waits = False
        self.go_on()

    def _answered(self, op: str, asked_s: float, result: "asyncio.Future[Outcome]") -> None:
        self._under_way -= 1
        error = result.exception()
        if error is None:
            self._judged(op, asked_s, result.result())
        else:
            self._load.refused[error.kind if isinstance(error, ClientError) else repr(error)] += 1
            self.heard.in_doubt[ITEM] += op == "gather"
        self.go_on()

    def _judged(self, op: str, asked_s: float, outcome: Outcome) -> None:
        if outcome.ok:
            self._load.latencies_ms[op].append((time.monotonic() - asked_s) * 1_000)
            if op == "gather":
                self.heard.acknowledged.update(outcome.value["items"])
            return
        self._load.refused[outcome.code] += 1
        self.heard.in_doubt[ITEM] += op == "gather" and outcome.code in PERHAPS


@dataclass(frozen=True)
class Asked:
    clients: int
    in_flight: int
    seconds: float
    regions: int
    spots: list[Place]

    def place(self, avatar: int) -> Place:
        """Where the guest with this avatar stands."""
        return self.spots[((avatar & 0xFFFFFFFF) - 1) % len(self.spots)]


async def play(running: Cluster, asked: Asked) -> tuple[list[Phase], list[Gatherer], dict[str, Any]]:
    """Connect, warm up, measure both, and wait for the last answers."""
    load, meter = Load(asked.in_flight), Meter(running)
    async with httpx.AsyncClient() as http:
        crowd = await enter(running, load, http, asked)
        await asyncio.sleep(SETTLE_S)
        phases = []
        for op, seconds in (("inventory", asked.seconds / 4), ("gather", asked.seconds)):
            await work(load, crowd, op, WARM_S)
            before = await asyncio.to_thread(meter.read)
            skip = len(load.latencies_ms[op])
            await asyncio.sleep(seconds)
            measured = load.latencies_ms[op][skip:]
            phases.append(Phase(op, before, await asyncio.to_thread(meter.read), measured))
            await rest(load, crowd)
        notes = {
            "refused": dict(load.refused),
            "paced": load.paced,
            "lost": sum(client.lost.is_set() for client in crowd),
            "servers": dict(Counter(client.server for client in crowd)),
            "own_region": await own_region(http, running, crowd, asked),
        }
        for client in crowd:
            await client.close()
    return phases, crowd, notes


async def enter(running: Cluster, load: Load, http: httpx.AsyncClient, asked: Asked) -> list[Gatherer]:
    urls, slots = running.gateways, asyncio.Semaphore(CONNECTS_AT_ONCE)
    crowd = [
        Gatherer(load, http, urls[n % len(urls) :] + urls[: n % len(urls)], random.Random(n))
        for n in range(asked.clients)
    ]

    async def connect(client: Gatherer) -> None:
        async with slots:
            await client.guest()
            await client.connect()
            client.tree = asked.place(client.avatar).tree

    await asyncio.gather(*map(connect, crowd))
    return crowd


async def work(load: Load, crowd: list[Gatherer], op: str, seconds: float) -> None:
    """Begin with it, and let it run for a while."""
    load.op = op
    for client in crowd:
        client.go_on()
    await asyncio.sleep(seconds)


async def rest(load: Load, crowd: list[Gatherer]) -> None:
    """Nothing new; wait for the answers."""
    load.op = ""
    for _ in range(int(BOT_COMMAND_S / PACE_S)):
        if not any(client.busy for client in crowd):
            return
        await asyncio.sleep(PACE_S)


async def own_region(http: httpx.AsyncClient, running: Cluster, crowd: list[Gatherer], asked: Asked) -> float:
    """Share of the clients whose tree's region is owned by the server that owns their avatar."""
    owner: dict[tuple[int, int], str] = {}
    async with http.stream("GET", f"{running.url}/v1/observe/stream") as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                servers = orjson.loads(line.removeprefix("data: "))["servers"]
                owner = {(x, y): view["server"] for view in servers for x, y, _epoch in view["regions"]}
                break
    return sum(owner.get(natural_region(client.tree)) == client.server for client in crowd) / len(crowd)


def judge(told: dict[int, Told], documents: dict[str, bytes]) -> list[str]:
    """What is wrong with the books, in sentences: of the store alone, and against what clients were told."""
    return violations(settled(documents), told) + audit(documents)


def gathers(
    clients: Annotated[int, typer.Option(min=1, help="Players, each with a connection of its own.")] = 96,
    in_flight: Annotated[
        int, typer.Option(min=1, max=CLIENT_COMMANDS_IN_FLIGHT, help="Commands that a client has under way.")
    ] = 2,
    seconds: Annotated[float, typer.Option(min=1, help="Of gathering; a quarter of it more for the baseline.")] = 30,
    gameservers: Annotated[int, typer.Option(min=1, help="Game servers.")] = 3,
    gateways: Annotated[int, typer.Option(min=1, help="Gateways.")] = 2,
    regions: Annotated[
        int, typer.Option(min=1, help=f"Regions gathered in, {TREES_PER_REGION} trees of each, by all in turn.")
    ] = 12,
    placement: Annotated[
        str, typer.Option(help="gather: avatars with their neighbours; spread: each where it is emptiest.")
    ] = "gather",
    out: Annotated[Path | None, typer.Option(help="Write the whole report there as JSON.")] = None,
) -> None:
    """Let players gather as fast as they are answered, on a cluster of its own; print rates, costs and the judgement.

    A client of the game may send 60 messages a second, so these stay below it each: for more load take more clients.
    The clients run in this process and share the machine with the cluster; the table says what they took.
    Ends with 1 where an acknowledged item is lost or there twice, or a connection was lost.

    Examples:

      python -m tests.bench gathers

      python -m tests.bench gathers --clients 16 --in-flight 1 --seconds 10

      python -m tests.bench gathers --placement spread --out gathers.json
    """
    asked = Asked(clients, in_flight, seconds, regions, places(SEED, regions))
    with tempfile.TemporaryDirectory() as name, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        folder = Path(name)
        standing = [asked.spots[n % len(asked.spots)] for n in range(clients)]
        runner.run(write_rich_world(folder / "var", SEED, standing))
        flags = {"gameservers": gameservers, "gateways": gateways, "placement": placement, "balance": "off"}
        with cluster(folder, **flags) as running:
            phases, crowd, notes = runner.run(play(running, asked))
            code = running.stop(timeout_s=CLUSTER_STOP_S)
            documents = read_documents(running.data / "store" / "world.sqlite")
    problems = judge({client.avatar: client.heard for client in crowd}, documents)
    problems += [f"the cluster ended with {code}"] if code else []
    acknowledged = sum(client.heard.acknowledged.total() for client in crowd)
    report = report_of(phases, notes | {"acknowledged": acknowledged, "problems": problems})
    show(report, asked)
    if out is not None:
        out.write_text(json.dumps(report, indent=2) + "\n")
    sys.exit(int(bool(problems or notes["lost"])))


def report_of(phases: list[Phase], notes: dict[str, Any]) -> dict[str, Any]:
    rows = [phase.document() for phase in phases]
    ratio = rows[1]["per_s"] / max(rows[0]["per_s"], 0.1)
    machine = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    return {"phases": rows, "of_baseline": round(ratio, 3), **notes, "machine": machine}


def show(report: dict[str, Any], asked: Asked) -> None:
    console = Console(highlight=False, width=130)
    console.print(
        f"{asked.clients} clients, {asked.in_flight} in flight each, {asked.regions} regions; avatars by server "
        f"{report['servers']}; {report['own_region']:.0%} gather from a region of their own server"
    )
    show_phases(console, report["phases"])
    console.print(
        f"gathers are {report['of_baseline']:.2f} of the baseline; clients waited {report['paced']} times for their "
        f"rate; refused: {report['refused'] or 'none'}; connections lost: {report['lost']}"
    )
    for problem in report["problems"]:
        console.print(f"[red]wrong[/red] {problem}")
    if not report["problems"]:
        console.print(f"{report['acknowledged']:,} gathers acknowledged, each of them in the store exactly once")
    console.print(f"{report['machine']['cores']} cores, load {report['machine']['load']} at the end")
