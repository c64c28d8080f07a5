"""``python -m tests.bench gathers``: acknowledged gathers a second, end to end, and what each costs.

A real cluster; clients over real WebSockets, each of which gathers again as soon as it is answered, from a tree that
does not run out (``rich_world``). Baseline of the same run: the same clients ask for their ``inventory`` as fast, which
takes the same way and writes nothing. Afterwards the cluster is stopped and the books are judged as after chaos:
whatever was acknowledged is in the store, exactly once.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import httpx
import orjson
import typer
from rich.console import Console

from cluster.bots.client import Json, Outcome
from tests.bench.crowd import (
    BASELINE,
    SEED,
    SETTLE_S,
    Asker,
    Load,
    end,
    enter,
    judge,
    measure,
    notes_of,
    on_rich_cluster,
    report_of,
    rest,
    show_end,
)
from tests.bench.measuring import Meter, Phase, show_phases
from tests.bench.rich_world import TREES_PER_REGION, Place, guest_number, places
from tests.chaos.checks import PERHAPS
from tests.support.cluster import Cluster
from world.ids import natural_region
from world.limits import CLIENT_COMMANDS_IN_FLIGHT

GATHER, ITEM = "gather", "wood"


class Gatherer(Asker):
    """Gathers from ``tree``, and remembers what it was told of that."""

    tree = 0

    def arguments(self, op: str) -> Json:
        return {"target": self.tree} if op == GATHER else {}

    def answered(self, op: str, outcome: Outcome | None) -> None:
        if op != GATHER:
            return
        if outcome is not None and outcome.ok:
            self.heard.acknowledged.update(outcome.value["items"])
        elif outcome is None or outcome.code in PERHAPS:
            self.heard.in_doubt[ITEM] += 1


async def play(
    running: Cluster, standing: Sequence[Place], in_flight: int, seconds: float
) -> tuple[list[Phase], list[Gatherer], dict[str, Any]]:
    """Connect, measure both, and wait for the last answers."""
    load, meter = Load(in_flight), Meter(running)
    async with httpx.AsyncClient() as http:
        crowd = await enter(Gatherer, load, http, running, len(standing))
        for client in crowd:
            client.tree = standing[guest_number(client.avatar)].tree
        await asyncio.sleep(SETTLE_S)

        def begin() -> None:
            for client in crowd:
                client.go_on()

        phases = []
        for op, lasts_s in ((BASELINE, seconds / 4), (GATHER, seconds)):
            phases.append(await measure(load, meter, op, lasts_s, begin))
            await rest(load, lambda: any(client.busy for client in crowd))
        notes = {
            **notes_of(load, crowd),
            "own_region": await own_region(http, running, crowd),
        }
        for client in crowd:
            await client.close()
    return phases, crowd, notes


async def own_region(http: httpx.AsyncClient, running: Cluster, crowd: Sequence[Gatherer]) -> float:
    """Share of the clients whose tree's region is owned by the server that owns their avatar."""
    owner: dict[tuple[int, int], str] = {}
    async with http.stream("GET", f"{running.url}/v1/observe/stream") as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                servers = orjson.loads(line.removeprefix("data: "))["servers"]
                owner = {(x, y): view["server"] for view in servers for x, y, _epoch in view["regions"]}
                break
    return sum(owner.get(natural_region(client.tree)) == client.server for client in crowd) / len(crowd)


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
    spots = places(SEED, regions)
    standing = [spots[n % len(spots)] for n in range(clients)]
    (phases, crowd, notes), documents, problems = on_rich_cluster(
        lambda running: play(running, standing, in_flight, seconds),
        standing,
        gameservers=gameservers,
        gateways=gateways,
        placement=placement,
    )
    problems += judge({client.avatar: client.heard for client in crowd}, documents)
    acknowledged = sum(client.heard.acknowledged.total() for client in crowd)
    report = report_of(phases, 1, **notes, acknowledged=acknowledged, problems=problems)
    show(report, f"{clients} clients, {in_flight} in flight each, {regions} regions")
    end(report, out)


def show(report: dict[str, Any], asked: str) -> None:
    console = Console(highlight=False, width=130)
    console.print(
        f"{asked}; avatars by server {report['servers']}; {report['own_region']:.0%} gather from a region of their own "
        "server"
    )
    show_phases(console, report["phases"])
    show_end(
        console, report, f"{report['acknowledged']:,} gathers acknowledged, each of them in the store exactly once"
    )
