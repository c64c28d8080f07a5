"""One run: a cluster, its bots, the nemesis, and after the stop the judgement."""

import contextlib
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tests.chaos.backing import LOOK_S, SQLITE, Backing, backing
from tests.chaos.checks import check
from tests.chaos.crowd import Crowd
from tests.chaos.dealings import dealings
from tests.chaos.faults import FAULTS
from tests.chaos.figures import Figures, figures, summary
from tests.chaos.history import Log, read
from tests.chaos.proxy import Network
from tests.chaos.rows import Bound, Row
from tests.chaos.stage import Stage, free_row
from tests.chaos.storm import Storm, blow
from tests.chaos.watch import Heads, Pictures
from tests.support.cluster import cluster
from tests.support.percentiles import percentile
from world.limits import STOP_MS

GATEWAYS = 2
DISK_MB = 48
USUAL_S = 6.0  # undisturbed play before the first strike

Say = Callable[[str], None]
Plan = Callable[[random.Random], Iterator[str]] | Storm


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
    store: str = SQLITE
    dealings: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        kinds = {
            kind: {
                "strikes": found.strikes,
                "samples": {metric: summary(values) for metric, values in sorted(found.samples.items())},
                "counts": dict(sorted(found.counts.items())),
            }
            for kind, found in self.figures.items()
        }
        head = {"row": self.name, "store": self.store, "seed": self.seed, "bots": self.bots, "dealings": self.dealings}
        return head | {"faults": kinds, "problems": self.problems, "missed": self.missed, "events": self.events}


def run(name: str, row: Row, plan: Plan, **asked: Any) -> Verdict:
    """``plan``: the faults to come, drawn, or a storm of them; ``asked``: folder, bots, seed, say; ``store``."""
    folder: Path = asked["folder"]
    history = folder / "history"
    history.mkdir()
    gateways = int(row.flags.get("gateways", GATEWAYS))
    flags = {"placement": "spread", "gateways": gateways, "port": free_row(gateways)} | dict(row.flags)
    with contextlib.ExitStack() as stack:
        if row.small_disk:
            stack.enter_context(small_disk(folder / "var"))
        kept = stack.enter_context(backing(asked.get("store", SQLITE), folder / "var"))
        running = stack.enter_context(cluster(folder, **flags, variables=dict(kept.variables)))
        restarts = row.flags.get("restart") != "never"
        log = Log(history / "nemesis.jsonl")
        stage = Stage(running, log, random.Random(asked["seed"]), restarts=restarts, lasts_s=row.lasts_s)
        stage.mock = kept.mock
        if row.proxied:
            stage.join_proxied(stack.enter_context(Network(stage.pids)))
        _play(stage, kept, row, plan, asked["bots"], asked["seed"], asked["say"])
        log.close()
        code = running.stop(timeout_s=2 * STOP_MS / 1_000)
        with contextlib.closing(kept.opening()) as snapshots:
            documents = snapshots.read()
        events = [line for line in running.output().splitlines() if " ended with " in line or "killed" in line]
    return _judged(name, row, documents, code, events, **asked)


def _judged(name: str, row: Row, documents: dict[str, bytes], code: int, events: list[str], **asked: Any) -> Verdict:
    """``code``: the cluster's."""
    (asked["folder"] / "documents.json").write_bytes(
        msgspec.json.encode({key: msgspec.Raw(value) for key, value in sorted(documents.items())})
    )
    entries = read(asked["folder"] / "history")
    asked["say"](f"judging {len(entries)} entries and {len(documents)} documents")
    problems = check(entries, documents) + ([f"the cluster ended with {code}"] if code else [])
    verdict = Verdict(name, asked["seed"], asked["bots"], figures(entries), problems, events=events)
    verdict.store = asked.get("store", SQLITE)
    verdict.dealings = dealings(entries, documents)
    verdict.missed = [sentence for bound in row.bounds if (sentence := missed(bound, verdict.figures))]
    verdict.missed += [f"a process ended: {event}" for event in events if row.nobody_ends]
    return verdict


def _play(stage: Stage, kept: Backing, row: Row, plan: Plan, bots: int, seed: int, say: Say) -> None:
    history = stage.running.folder / "history"
    watches: list[Heads | Pictures] = [
        Heads(kept.opening, Log(history / "heads.jsonl"), LOOK_S[kept.store]),
        Pictures(stage.running.gateways, Log(history / "pictures.jsonl")),
    ]
    for watch in watches:
        watch.start()
    try:
        with Crowd(stage.running.gateways, history, bots, seed, trade=row.trade) as crowd:
            say(f"{bots} bots log in")
            crowd.wait_playing(gathered=bots // 2)
            _strike(stage, row, plan, lambda text: say(f"{text:15}   {crowd.said()}"))
            say("the bots leave")
            stage.note("end")
        if row.trade:
            say("waiting until nothing is on its way")
            stage.settle(kept.opening)
    finally:
        for watch in watches:
            watch.stop()


def _strike(stage: Stage, row: Row, plan: Plan, say: Say) -> None:
    for kind in row.first:
        say(kind)
        FAULTS[kind](stage)
    stage.sleep(min(USUAL_S, row.settle_s))
    if isinstance(plan, Storm):
        blow(plan, stage, lambda: say("storm"))
        stage.sleep(row.settle_s)
        return
    for kind in plan(stage.rng):
        say(kind)
        FAULTS[kind](stage)
        stage.sleep(row.settle_s)


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
