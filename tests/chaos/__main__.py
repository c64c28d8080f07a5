"""``make chaos``: break a real cluster under bots and judge. ``python -m tests.chaos --seconds 600`` mixes all faults;
``--only kill-gameserver --bots 200 --repeat 5`` is one row of docs/reliability.md.
"""

import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from tests.chaos.backing import StoreKind, fitting
from tests.chaos.rows import MIXED, ROWS, Row
from tests.chaos.run import Verdict, run
from tests.chaos.storm import Storm

MIXED_S = 120.0

console = Console(highlight=False, stderr=True)


def chaos(
    only: Annotated[str, typer.Option(help=f"One row: {', '.join(ROWS)}. Without it: all mixed.")] = "",
    seconds: Annotated[
        float,
        typer.Option(help=f"Of mixed faults, else {MIXED_S:.0f}; of a row that can storm."),
    ] = 0,
    store: Annotated[StoreKind, typer.Option(help="What the world is kept in.")] = StoreKind.SQLITE,
    each: Annotated[
        bool, typer.Option(help="A row's storm: every kind on a clock of its own, several at once.")
    ] = False,
    repeat: Annotated[int, typer.Option(help="How often a row's faults strike.")] = 3,
    bots: Annotated[int, typer.Option(help="Players.")] = 100,
    seed: Annotated[int, typer.Option(help="Of what is struck and what the bots do; 0: a new one.")] = 0,
    json: Annotated[Path | None, typer.Option(help="Add the result to this file, a line of JSON.")] = None,
    keep: Annotated[Path | None, typer.Option(help="An empty folder for history, logs and the store.")] = None,
) -> None:
    """Exit code 1 where anything was lost, doubled or forked; bounds that were missed are said and cost nothing."""
    _refuse_nonsense(only, seconds, store)
    if each and not (only and seconds):
        raise typer.BadParameter("it needs --only and --seconds", param_hint="'--each'")
    seed = seed or random.SystemRandom().randrange(1, 1 << 31)
    row = ROWS[only] if only else Row(MIXED, (), {"gameservers": 2}, settle_s=8, proxied=True)
    faults = fitting(row.faults, store)
    seconds = seconds or (0 if only else MIXED_S)
    console.print(f"seed {seed}, {bots} bots, {store}, {only or 'everything'}, {f'{seconds:.0f} s' if seconds else ''}")
    if left_out := [fault for fault in row.faults if fault not in faults]:
        console.print(f"left out, {store} has nothing for them to strike: {', '.join(left_out)}")

    def plan(rng: random.Random) -> Iterator[str]:
        if only:
            yield from faults * repeat
            return
        ends_s = time.monotonic() + seconds
        while time.monotonic() < ends_s:
            yield from rng.sample(faults, 1)

    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        how = Storm(faults, seconds, row.every_s, seed, each) if only and seconds else plan
        verdict = run(only or "mixed", row, how, folder=folder, bots=bots, seed=seed, say=_say, store=store)
    show(verdict)
    if json is not None:
        with json.open("ab") as file:
            file.write(orjson.dumps(verdict.document()) + b"\n")
    raise typer.Exit(1 if verdict.problems else 0)


def _refuse_nonsense(only: str, seconds: float, store: StoreKind) -> None:
    """Raises typer.BadParameter."""
    if only and only not in ROWS:
        raise typer.BadParameter(f"{only!r} is none of {', '.join(ROWS)}", param_hint="'--only'")
    if only and not fitting(ROWS[only].faults, store):
        raise typer.BadParameter(f"{only} has nothing to strike on {store}", param_hint="'--store'")
    if only and seconds and not ROWS[only].every_s[1]:
        raise typer.BadParameter(f"{only} has no clock: use --repeat", param_hint="'--seconds'")
    if only and ROWS[only].small_disk and os.geteuid() != 0:
        raise typer.BadParameter(f"{only} mounts a small disk: that needs root", param_hint="'--only'")


def _say(text: str) -> None:
    console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim] {text}")


def show(verdict: Verdict) -> None:
    document = verdict.document()
    table = Table("Fault", "Figure", "n", "p50", "p99", "max", title=f"{verdict.name}, {verdict.bots} bots")
    for kind, found in document["faults"].items():
        for n, (metric, values) in enumerate(found["samples"].items()):
            cells = [_cell(values[name]) for name in ("n", "p50", "p99", "max")]
            table.add_row(f"{kind} ×{found['strikes']}" if n == 0 else "", metric, *cells)
        counts = ", ".join(f"{name}: {n}" for name, n in found["counts"].items())
        table.add_row("", f"[dim]{counts}[/dim]", end_section=True)
    console.print(table)
    console.print_json(data=document["dealings"])
    for sentence in document["events"]:
        console.print(f"[dim]{sentence}[/dim]")
    for sentence in verdict.missed:
        console.print(f"[yellow]missed[/yellow] {sentence}")
    for sentence in verdict.problems:
        console.print(f"[red]wrong[/red] {sentence}")
    if not verdict.problems:
        console.print("[green]nothing lost, nothing doubled, nothing forked[/green]")


def _cell(value: Any) -> str:
    return "never" if value is None else f"{value:,}"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, which stops the cluster
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(chaos)
    app()
