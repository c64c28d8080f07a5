"""One run: a cluster, its bots, the nemesis, and after the stop the judgement."""

import contextlib
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.checks import check
from tests.chaos.crowd import Crowd
from tests.chaos.faults import FAULTS
from tests.chaos.figures import Figures, figures, percentile, summary
from tests.chaos.history import Log, read
from tests.chaos.proxy import Network
from tests.chaos.rows import Bound, Row
from tests.chaos.stage import Stage, free_row
from tests.chaos.watch import Heads, Pictures, read_documents
from tests.support.cluster import Cluster, cluster
from world.limits import STOP_MS

GATEWAYS = 2
DISK_MB = 48
USUAL_S = 6.0  # undisturbed play before the first strike

Say = Callable[[str], None]


@dataclass(slots=True)
class Verdict:
    """``problems``: of the checkers; ``missed``: bounds."""

    name: str
    seed: int
    bots: int
    figures: dict[str, Figures]
    problems: list[str]
    missed: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        kinds = {
            kind: {
                "strikes": found.strikes,
                "samples": {metric: summary(values) for metric, values in sorted(found.samples.items())},
                "counts": dict(sorted(found.counts.items())),
            }
            for kind, found in self.figures.items()
        }
        head = {"row": self.name, "seed": self.seed, "bots": self.bots}
        return head | {"faults": kinds, "problems": self.problems, "missed": self.missed, "events": self.events}


def run(name: str, row: Row, plan: Callable[[random.Random], Iterator[str]], **asked: Any) -> Verdict:
    """``plan``: the faults to come, drawn; ``asked``: folder, bots, seed, say."""
    folder: Path = asked["folder"]
    rng = random.Random(asked["seed"])
    history = folder / "history"
    history.mkdir()
    gateways = int(row.flags.get("gateways", GATEWAYS))
    flags = {"placement": "spread", "gateways": gateways, "port": free_row(gateways)} | dict(row.flags)
    with contextlib.ExitStack() as stack:
        if row.small_disk:
            stack.enter_context(small_disk(folder / "var"))
        running = stack.enter_context(cluster(folder, **flags))
        restarts = row.flags.get("restart") != "never"
        log = Log(history / "nemesis.jsonl")
        stage = Stage(running, log, rng, restarts=restarts, lasts_s=row.lasts_s)
        if row.proxied:
            stage.join_proxied(stack.enter_context(Network(stage.pids)))
        _play(running, stage, row, plan(rng), asked["bots"], asked["seed"], asked["say"])
        log.close()
        code = running.stop(timeout_s=2 * STOP_MS / 1_000)
        documents = read_documents(running.data / "store/world.sqlite")
        events = [line for line in running.output().splitlines() if " ended with " in line or "killed" in line]
    entries = read(history)
    asked["say"](f"judging {len(entries)} entries")
    problems = check(entries, documents) + ([f"the cluster ended with {code}"] if code else [])
    verdict = Verdict(name, asked["seed"], asked["bots"], figures(entries), problems, events=events)
    verdict.missed = [sentence for bound in row.bounds if (sentence := missed(bound, verdict.figures))]
    verdict.missed += [f"a process ended: {event}" for event in events if row.nobody_ends]
    return verdict


def _play(running: Cluster, stage: Stage, row: Row, plan: Iterator[str], bots: int, seed: int, say: Say) -> None:
    history = running.folder / "history"
    watches: list[Heads | Pictures] = [
        Heads(running.data / "store/world.sqlite", Log(history / "heads.jsonl")),
        Pictures(running.gateways, Log(history / "pictures.jsonl")),
    ]
    for watch in watches:
        watch.start()
    try:
        with Crowd(running.gateways, history, bots, seed, trade=row.trade) as crowd:
            say(f"{bots} bots log in")
            crowd.wait_playing(gathered=bots // 2)
            for kind in row.first:
                say(kind)
                FAULTS[kind](stage)
            stage.sleep(min(USUAL_S, row.settle_s))
            for kind in plan:
                say(
                    f"{kind}   ({crowd.total('connected')} of {bots} connected, {crowd.total('gathered')} gathered, "
                    f"{crowd.total('traded') // 2} trades)"
                )
                FAULTS[kind](stage)
                stage.sleep(row.settle_s)
            say("the bots leave")
            stage.end()
    finally:
        for watch in watches:
            watch.stop()


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A tmpfs there: needs root."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def missed(bound: Bound, by_kind: dict[str, Figures]) -> str:
    """A sentence about a bound that does not hold; "" where it does. What was never measured does not hold."""
    found = by_kind.get(bound.kind)
    if found is None:
        return f"{bound.kind} did not happen"
    if bound.count:
        total = sum(n for name, n in found.counts.items() if name.startswith(bound.metric))
        return f"{bound.kind}: {bound.metric} {total} times, not {bound.most:.0f}" if total > bound.most else ""
    values = found.samples.get(bound.metric)
    if not values:
        return f"{bound.kind}: {bound.metric} was not measured"
    value = percentile(values, bound.at)
    return f"{bound.kind}: {bound.metric} p{bound.at} {value:.2f}, not {bound.most}" if value > bound.most else ""
