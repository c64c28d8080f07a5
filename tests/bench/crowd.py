"""The players of the benches ``gathers`` and ``trades``: protocol clients in this process, each of which sends its next
command when the last one is answered, and no more than a client may."""

import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import httpx
import uvloop
from rich.console import Console

from cluster.bots.client import Client, ClientError, Json, Outcome
from gateway.rate import TokenBucket
from tests.bench.measuring import Meter, Phase
from tests.bench.rich_world import Place, write_rich_world
from tests.chaos.snapshot import read_documents
from tests.support.cluster import Cluster, cluster
from tests.support.ledger import Told, violations
from world.audit import audit, settled
from world.limits import BOT_COMMAND_S, CLIENT_MESSAGES_PER_S

SEED = 1  # of the world
PACED_PER_S = CLIENT_MESSAGES_PER_S - 5  # a client's commands: pings and receipts count against its rate too
PACED_BURST = 20
PACE_S = 0.02  # who has sent too much looks again after so long
WARM_S = 3.0
SETTLE_S = 3.0  # regions are woken by those who see them
CONNECTS_AT_ONCE = 8
CLUSTER_STOP_S = 30.0
BASELINE = "inventory"


@dataclass
class Load:
    """What all clients share. ``op``: what they do now, "" nothing new."""

    in_flight: int
    op: str = ""
    latencies_ms: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    refused: Counter[str] = field(default_factory=Counter)
    paced: int = 0  # times that a client waited for its rate


class Asker(Client):
    """A client that always has ``in_flight`` commands ``op`` under way."""

    def __init__(
        self,
        load: Load,
        http: httpx.AsyncClient,
        gateways: Sequence[str],
        rng: random.Random,
        on_event: Callable[[Json], None] = lambda event: None,
    ) -> None:
        super().__init__(http, gateways, rng=rng, on_event=on_event)
        self.load = load
        self.heard = Told()
        self._under_way = 0
        self._waits = False
        self._bucket = TokenBucket(PACED_PER_S, PACED_BURST, 0.0)

    @property
    def busy(self) -> bool:
        return self._under_way > 0

    def arguments(self, op: str) -> Json:
        return {}

    def answered(self, op: str, outcome: Outcome | None) -> None:
        """None: without a result."""

    def may_send(self) -> bool:
        """Takes a place of this client's rate, where there is one."""
        return self._bucket.take(time.monotonic() * 1_000)

    def go_on(self) -> None:
        """Send what may be sent."""
        load = self.load
        while load.op and self._under_way < load.in_flight and not self.lost.is_set():
            if not self.may_send():
                self._pause()
                return
            self._under_way += 1
            result = self.begin(load.op, **self.arguments(load.op))
            result.add_done_callback(partial(self._answered, load.op, time.monotonic()))

    def _pause(self) -> None:
        if not self._waits:
            self._waits = True
            self.load.paced += 1
            asyncio.get_running_loop().call_later(PACE_S, self._resume)

    def _resume(self) -> None:
        self._waits = False
        self.go_on()

    def _answered(self, op: str, asked_s: float, result: "asyncio.Future[Outcome]") -> None:
        self._under_way -= 1
        error = result.exception()
        outcome = result.result() if error is None else None
        if outcome is not None and outcome.ok:
            self.load.latencies_ms[op].append((time.monotonic() - asked_s) * 1_000)
        else:
            self.load.refused[outcome.code if outcome is not None else reason(error)] += 1
        self.answered(op, outcome)
        self.go_on()


def reason(error: BaseException | None) -> str:
    return error.kind if isinstance(error, ClientError) else repr(error)


ClientT = TypeVar("ClientT", bound=Asker)
T = TypeVar("T")


async def enter(
    kind: Callable[[Load, httpx.AsyncClient, list[str], random.Random], ClientT],
    load: Load,
    http: httpx.AsyncClient,
    running: Cluster,
    count: int,
) -> list[ClientT]:
    """So many guests, spread over the gateways, attached."""
    urls, slots = running.gateways, asyncio.Semaphore(CONNECTS_AT_ONCE)
    crowd = [kind(load, http, urls[n % len(urls) :] + urls[: n % len(urls)], random.Random(n)) for n in range(count)]

    async def connect(client: ClientT) -> None:
        async with slots:
            await client.guest()
            await client.connect()

    await asyncio.gather(*map(connect, crowd))
    return crowd


async def measure(load: Load, meter: Meter, op: str, seconds: float, begin: Callable[[], None]) -> Phase:
    """Warm up, then count for so many seconds; it goes on after that, until ``rest``."""
    load.op = op
    begin()
    await asyncio.sleep(WARM_S)
    before = await asyncio.to_thread(meter.read)
    skip = len(load.latencies_ms[op])
    await asyncio.sleep(seconds)
    found = load.latencies_ms[op][skip:]
    return Phase(op, before, await asyncio.to_thread(meter.read), found)


async def rest(load: Load, busy: Callable[[], bool]) -> None:
    """Nothing new; wait for the answers."""
    load.op = ""
    for _ in range(int(BOT_COMMAND_S / PACE_S)):
        if not busy():
            return
        await asyncio.sleep(PACE_S)


def notes_of(load: Load, crowd: Sequence[Asker]) -> dict[str, Any]:
    return {
        "refused": dict(load.refused),
        "paced": load.paced,
        "lost": sum(client.lost.is_set() for client in crowd),
        "servers": dict(sorted(Counter(client.server for client in crowd).items())),
    }


def on_rich_cluster(
    play: Callable[[Cluster], Coroutine[Any, Any, T]],
    standing: Sequence[Place],
    carried: Sequence[Mapping[str, int]] = (),
    **flags: object,
) -> tuple[T, dict[str, bytes], list[str]]:
    """On a cluster of its own, in a rich world, until its stop: (what ``play`` came to, the documents that are left,
    what was wrong with the stop). Avatars stay with the servers that they are placed at."""
    with tempfile.TemporaryDirectory() as name, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        folder = Path(name)
        runner.run(write_rich_world(folder / "var", SEED, standing, carried))
        with cluster(folder, **flags, balance="off") as running:
            played = runner.run(play(running))
            code = running.stop(timeout_s=CLUSTER_STOP_S)
            documents = read_documents(running.data / "store" / "world.sqlite")
    return played, documents, [f"the cluster ended with {code}"] if code else []


def judge(told: dict[int, Told], documents: dict[str, bytes]) -> list[str]:
    """What is wrong with the books, in sentences: of the store alone, and against what clients were told."""
    return violations(settled(documents), told) + audit(documents)


def report_of(phases: Sequence[Phase], commands: int, **notes: Any) -> dict[str, Any]:
    """``commands``: of the last phase's deed, for the ratio to the baseline, which is the first."""
    rows = [phase.document() for phase in phases]
    ratio = rows[-1]["per_s"] * commands / max(rows[0]["per_s"], 0.1)
    machine = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    return {"phases": rows, "of_baseline": round(ratio, 3), **notes, "machine": machine}


def show_end(console: Console, report: dict[str, Any], well: str) -> None:
    console.print(
        f"{report['of_baseline']:.2f} of the baseline's commands a second; clients waited {report['paced']} times for "
        f"their rate; refused: {report['refused'] or 'none'}; connections lost: {report['lost']}"
    )
    for problem in report["problems"]:
        console.print(f"[red]wrong[/red] {problem}")
    if not report["problems"]:
        console.print(well)
    console.print(f"{report['machine']['cores']} cores, load {report['machine']['load']} at the end")


def end(report: dict[str, Any], out: Path | None) -> NoReturn:
    """Keep the report where that was asked for; the exit code says whether all was well."""
    if out is not None:
        out.write_text(json.dumps(report, indent=2) + "\n")
    sys.exit(int(bool(report["problems"] or report["lost"])))
