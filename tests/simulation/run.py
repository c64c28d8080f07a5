"""One seed, from an empty store to its verdict, in virtual time."""

import asyncio
import dataclasses
import random
import time
import warnings
from dataclasses import dataclass, field

from tests.simulation.ablations import ablation
from tests.simulation.checks import Monitor, disagreements, verdict
from tests.simulation.cluster import SEED, SimCluster, steady_identities
from tests.simulation.nemesis import Nemesis
from tests.simulation.plan import Plan, draw
from tests.simulation.player import Player
from tests.simulation.trace import Trace
from tests.simulation.watch import epoch_watch, generation_watch, wall_clock_watch
from tests.support.virtual import Deadlock, VirtualLoop
from world.limits import REGION_M
from world.natural import natural
from world.terrain import spawn

POLL_S = 0.2
AGREED_S = 0.5
ENTER_BOUND_S = 30.0


@dataclass
class Report:
    seed: int
    digest: str  # of the trace
    problems: list[str]
    figures: dict[str, float] = field(default_factory=dict)
    text: str = ""

    @property
    def ok(self) -> bool:
        return not self.problems


def simulate(seed: int, without: str = "", keep_trace: bool = False) -> Report:
    """``without``: a safeguard taken out, by its name in ``ablations``."""
    steady_identities()
    plan, trace = draw(seed), Trace(keep_trace)
    if without:  # what is wrong is wrong soon
        plan = dataclasses.replace(plan, calm_bound_s=15.0)
    began = time.process_time()
    loop = VirtualLoop(seed)
    report = Report(seed, "", [])
    try:
        with (
            ablation(without),
            generation_watch(report.problems),
            epoch_watch(report.problems),
            wall_clock_watch(report.problems),
            warnings.catch_warnings(),
            asyncio.Runner(loop_factory=lambda: loop) as runner,
        ):
            warnings.filterwarnings("ignore", "coroutine .* was never awaited")  # killed before its first step
            runner.run(_story(plan, trace, report))
    except Deadlock as deadlock:
        report.problems.append(str(deadlock))
    report.problems += [f"lost exception: {lost.get('exception') or lost.get('message')}" for lost in loop.lost]
    report.digest, report.text = trace.digest, trace.text()
    report.figures["cpu_s"] = time.process_time() - began
    return report


async def _story(plan: Plan, trace: Trace, report: Report) -> None:
    cluster = SimCluster(plan, trace)
    monitor = Monitor(cluster)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    async with asyncio.TaskGroup() as group:
        await cluster.start_all(group)
        players = [_player(cluster, plan, n) for n in range(plan.players)]
        cluster.players = players
        nemesis = Nemesis(cluster, players)
        nemesis.begin()
        extras = [group.create_task(player.live(), name=player.name) for player in players]
        extras.append(group.create_task(monitor.watch(), name="monitor"))
        await nemesis.strike()
        nemesis.relent()
        for player in players:
            player.calm = True
        trace.note("nemesis", "calm")
        calm_s = loop.time()
        problems = await _settle(cluster, players, plan.calm_bound_s)
        report.problems += verdict(cluster, players, monitor) + problems
        report.figures |= _figures(cluster, players, monitor)
        report.figures |= {"virtual_s": loop.time() - began_s, "calm_s": loop.time() - calm_s}
        for task in extras:
            task.cancel()
        await asyncio.wait(extras)
        await cluster.end()


async def _settle(cluster: SimCluster, players: list[Player], bound_s: float) -> list[str]:
    """What is still wrong when the bound is over; empty as soon as all agree, and still do AGREED_S later."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + bound_s
    while True:
        await asyncio.sleep(POLL_S)
        if next(disagreements(cluster, players), None) is None:
            await asyncio.sleep(AGREED_S)
            if next(disagreements(cluster, players), None) is None:
                return []
        if loop.time() > end_s:
            return [f"not calm after {bound_s:.0f} s: {problem}" for problem in disagreements(cluster, players)]


def _player(cluster: SimCluster, plan: Plan, index: int) -> Player:
    return Player(cluster, index, random.Random(f"player {index} {plan.seed}"), _places())


def _places(radius_m: float = 55.0) -> list[tuple[int, float, float]]:
    """(entity, x, y) of what grows around the spawn, nearest first: where players go."""
    x, y = spawn(SEED)
    rows = natural(SEED, int(x // REGION_M), int(y // REGION_M))
    near = sorted(((r.x - x) ** 2 + (r.y - y) ** 2, r.entity, r.x, r.y) for r in rows)
    return [(entity, at_x, at_y) for gap, entity, at_x, at_y in near if gap < radius_m**2]


def _figures(cluster: SimCluster, players: list[Player], monitor: Monitor) -> dict[str, float]:
    told = [t for player in players for t in player.told]
    statistics = cluster.network.statistics
    return {
        "commands": len(told),
        "gathered": sum(t.op == "gather" and t.result is not None and t.result.ok for t in told),
        "traded": len(cluster.watch.trades.committed),
        "trades_aborted": len(cluster.watch.trades.aborted),
        "longest_lock_s": cluster.watch.trades.longest_s,
        "writes": cluster.watch.writes,
        "messages": statistics.delivered,
        "frames": statistics.frames,
        "frames_lost": statistics.frames_lost,
        "stale_seen": monitor.stale_seen,
        "longest_ownerless_s": monitor.longest_ownerless_s,
        "corrections": sum(p.corrections for p in players),
        "killed": sum(node.starts - 1 - node.drains for node in cluster.nodes.values()),
        "drained": sum(node.drains for node in cluster.nodes.values()),
        "handed": len(cluster.watch.handed),
        "rollback_ms": max(p.rollback_ms for p in players),
        "replaced": sum(len(p.replaced) for p in players),
    }
