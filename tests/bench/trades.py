"""``python -m tests.bench trades``: trades a second, end to end, and what each costs.

A real cluster; pairs of clients over real WebSockets who trade a piece of wood for a stone again and again, as players
do it: invite, accept, an offer each, a confirmation each. Of every other pair the partner's avatar was handed to
another game server before. Baseline of the same run: the same clients ask for their ``inventory``, six of which are as
many commands as a trade. Afterwards the cluster is stopped and the books are judged: each player holds exactly what
its trades have left it.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console

from cluster.bots.client import ClientError, Json
from cluster.operators.api import Cluster as Operators
from cluster.operators.found import find
from runtime.settings import Settings
from tests.bench.crowd import (
    BASELINE,
    PACE_S,
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
    reason,
    report_of,
    rest,
    show_end,
)
from tests.bench.measuring import Meter, Phase, show_phases, spread
from tests.bench.rich_world import guest_number, places
from tests.support.cluster import Cluster
from world.limits import AVATAR_HOLDS_ITEMS, BOT_COMMAND_S

BRINGS = AVATAR_HOLDS_ITEMS // 2  # pieces: as many trades a pair can make
TRADE, COMMIT = "trade", "commit"  # all of it; from the second confirmation to its result
COMMANDS = 6  # of a trade
REGIONS = 6
FIRST, SECOND = {"wood": 1}, {"stone": 1}  # what the inviter, what the partner gives


class Dealer(Asker):
    """A client that waits for what it is told of its trade."""

    def __init__(self, load: Load, http: httpx.AsyncClient, gateways: Sequence[str], rng: random.Random) -> None:
        super().__init__(load, http, gateways, rng, self._told)
        self._trade: Json = {}
        self._waiter: asyncio.Future[None] | None = None

    def _told(self, event: Json) -> None:
        if event.get("kind") == "trade":
            self._trade = event
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

    async def until(self, true: Callable[[Json], bool]) -> None:
        """What it was told last is so. Raises TimeoutError."""
        async with asyncio.timeout(BOT_COMMAND_S):
            while not true(self._trade):
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter

    async def ask(self, op: str, **args: Any) -> Json:
        """The value. Raises ClientError, its kind the code of a refusal."""
        while not self.may_send():
            self.load.paced += 1
            await asyncio.sleep(PACE_S)
        outcome = await self.command(op, **args)
        if not outcome.ok:
            raise ClientError(outcome.code, outcome.detail)
        return outcome.value


class Pair:
    """Two who trade while the load says so."""

    def __init__(self, inviter: Dealer, partner: Dealer) -> None:
        self.inviter, self.partner = inviter, partner
        self.trades = 0
        self.in_doubt = 0  # trades whose end was not told
        self.trading = False

    @property
    def across(self) -> bool:
        """Their avatars are on two servers."""
        return self.inviter.server != self.partner.server

    async def run(self) -> None:
        load = self.inviter.load
        self.trading = True
        while load.op == TRADE and self.trades + self.in_doubt < BRINGS:
            began_s = time.monotonic()
            try:
                commit_s = await self._trade()
            except (ClientError, TimeoutError) as problem:
                load.refused[reason(problem)] += 1
                await asyncio.sleep(PACE_S)
                continue
            now_s = time.monotonic()
            load.latencies_ms[TRADE].append((now_s - began_s) * 1_000)
            load.latencies_ms[f"{COMMIT} {'across' if self.across else 'on one'}"].append(commit_s * 1_000)
        self.trading = False

    async def _trade(self) -> float:
        """From the second confirmation to its result, s. Raises ClientError, TimeoutError."""
        a, b = self.inviter, self.partner
        trade = (await a.ask("trade_invite", target=b.avatar))["trade"]
        await b.until(lambda told: told.get("trade") == trade)
        await b.ask("trade_accept", trade=trade)
        await a.until(lambda told: told["trade"] == trade and told["state"] == "open")
        await asyncio.gather(
            a.ask("trade_offer", trade=trade, items=FIRST), b.ask("trade_offer", trade=trade, items=SECOND)
        )
        await asyncio.gather(*(side.until(lambda told: told["mine"] and told["theirs"]) for side in (a, b)))
        await a.ask("trade_confirm", trade=trade, version=a._trade["version"])
        began_s = time.monotonic()
        self.in_doubt += 1
        committed = (await b.ask("trade_confirm", trade=trade, version=b._trade["version"]))["committed"]
        self.in_doubt -= 1
        took_s = time.monotonic() - began_s
        self.trades += bool(committed)
        await asyncio.gather(*(side.until(lambda told: told["state"] in ("committed", "closed")) for side in (a, b)))
        return took_s

    def account(self) -> None:
        """What each must have by now, into what it was told."""
        for side, gives, gets in ((self.inviter, FIRST, SECOND), (self.partner, SECOND, FIRST)):
            least = self.trades + self.in_doubt
            side.heard.acknowledged.update(dict.fromkeys(gives, BRINGS - least))
            side.heard.acknowledged.update(dict.fromkeys(gets, self.trades))
            side.heard.in_doubt.update(dict.fromkeys([*gives, *gets], self.in_doubt))


def place_partners(running: Cluster, pairs: Sequence[Pair]) -> None:
    """Every other pair's partner goes to the next game server after its inviter's, the others to the same."""
    servers = [str(row["id"]) for row in running.processes("gameserver")]
    with Operators(find(Settings(data=running.data))) as operators:
        for n, pair in enumerate(pairs):
            there = servers[(servers.index(pair.inviter.server) + n % 2) % len(servers)]
            if pair.partner.server != there:
                operators.post(f"/v1/ops/entities/{pair.partner.avatar}:handoff", {"to": there}, again=False)


async def play(running: Cluster, count: int, seconds: float) -> tuple[list[Phase], list[Pair], dict[str, Any]]:
    """Connect, send every other partner elsewhere, measure both, and let the last trades end."""
    load, meter = Load(1), Meter(running)
    async with httpx.AsyncClient() as http, asyncio.TaskGroup() as group:
        crowd = sorted(await enter(Dealer, load, http, running, 2 * count), key=lambda c: guest_number(c.avatar))
        pairs = [Pair(a, b) for a, b in zip(crowd[::2], crowd[1::2], strict=True)]
        await asyncio.sleep(SETTLE_S)
        await asyncio.to_thread(place_partners, running, pairs)
        await asyncio.sleep(SETTLE_S)

        def ask() -> None:
            for client in crowd:
                client.go_on()

        def trade() -> None:
            for pair in pairs:
                group.create_task(pair.run())

        phases = [await measure(load, meter, BASELINE, seconds / 4, ask)]
        await rest(load, lambda: any(client.busy for client in crowd))
        phases.append(await measure(load, meter, TRADE, seconds, trade))
        await rest(load, lambda: any(pair.trading for pair in pairs))
        notes = {
            **notes_of(load, crowd),
            "across": sum(pair.across for pair in pairs),
            "commits": {name: spread(found) for name, found in load.latencies_ms.items() if name.startswith(COMMIT)},
        }
        for client in crowd:
            await client.close()
    return phases, pairs, notes


def trades(
    pairs: Annotated[int, typer.Option(min=1, help="Of players, each with a connection of its own.")] = 24,
    seconds: Annotated[float, typer.Option(min=1, help="Of trading; a quarter of it more for the baseline.")] = 30,
    gameservers: Annotated[int, typer.Option(min=1, help="Game servers; with one no pair is apart.")] = 3,
    gateways: Annotated[int, typer.Option(min=1, help="Gateways.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Write the whole report there as JSON.")] = None,
) -> None:
    """Let pairs of players trade without a pause, on a cluster of its own; print rates, costs and the judgement.

    The clients run in this process and share the machine with the cluster; the table says what they took.
    Ends with 1 where a piece is lost or there twice, or a connection was lost.

    Examples:

      python -m tests.bench trades

      python -m tests.bench trades --pairs 1 --seconds 10

      python -m tests.bench trades --gameservers 1 --out trades.json
    """
    spots = places(SEED, REGIONS)
    standing = [spots[n // 2 % len(spots)] for n in range(2 * pairs)]
    carried = [{"wood": BRINGS} if n % 2 == 0 else {"stone": BRINGS} for n in range(2 * pairs)]
    (phases, crowd, notes), documents, problems = on_rich_cluster(
        lambda running: play(running, pairs, seconds), standing, carried, gameservers=gameservers, gateways=gateways
    )
    for pair in crowd:
        pair.account()
    problems += judge({side.avatar: side.heard for pair in crowd for side in (pair.inviter, pair.partner)}, documents)
    report = report_of(phases, COMMANDS, **notes, done=sum(pair.trades for pair in crowd), problems=problems)
    show(report, f"{pairs} pairs, {notes['across']} of them on two servers")
    end(report, out)


def show(report: dict[str, Any], asked: str) -> None:
    console = Console(highlight=False, width=130)
    console.print(f"{asked}; avatars by server {report['servers']}")
    show_phases(console, report["phases"])
    for name, found in report["commits"].items():
        console.print(f"{name} server: {', '.join(f'{key} {value}' for key, value in found.items())}")
    show_end(console, report, f"{report['done']:,} trades acknowledged; everybody holds exactly what they have left")
