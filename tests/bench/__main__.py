"""``make bench``: 500 bots against a cluster, all on this machine; a report of latency, errors and memory.

``python -m tests.bench [--count 500] [--seconds 60] [--out FILE]``. It measures and asserts nothing but its own health:
figures belong to a machine, and are written down in docs/performance.md with it.

``python -m tests.bench durability``: what a ``kill -9`` takes away of each durability class.
``python -m tests.bench gathers``, ``trades``: so many a second, end to end, and what each costs.
"""

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tests.bench.durability import durability
from tests.bench.gathers import gathers
from tests.bench.trades import trades
from tests.support.cluster import COMMAND, Cluster, cluster, environment
from tests.support.processes import cpu_seconds, resident_bytes

SAMPLE_S = 2.0
OTHERS: dict[str, Callable[..., None]] = {"durability": durability, "gathers": gathers, "trades": trades}


class Watch(threading.Thread):
    """Samples memory (its maximum) and CPU of each process until stopped."""

    def __init__(self, running: Cluster) -> None:
        super().__init__(daemon=True)
        self._pids = {row["id"]: int(row["pid"]) for row in running.processes()}
        self._done = threading.Event()
        self._began_s = time.monotonic()
        self._cpu_before = {node: cpu_seconds(pid) for node, pid in self._pids.items()}
        self.peak_bytes = dict.fromkeys(self._pids, 0)

    def run(self) -> None:
        while not self._done.wait(SAMPLE_S):
            for node, pid in self._pids.items():
                self.peak_bytes[node] = max(self.peak_bytes[node], resident_bytes(pid))

    def result(self) -> list[dict[str, Any]]:
        """Rows {id, memory_mb (highest), cpu_percent (of one core, on average)}."""
        self._done.set()
        elapsed_s = time.monotonic() - self._began_s
        return [
            {
                "id": node,
                "memory_mb": round(self.peak_bytes[node] / 1e6, 1),
                "cpu_percent": round((cpu_seconds(pid) - self._cpu_before[node]) / elapsed_s * 100, 1),
            }
            for node, pid in self._pids.items()
        ]


def bench(
    count: Annotated[int, typer.Option(help="Bots.")] = 500,
    seconds: Annotated[float, typer.Option(help="Measured time, after the bots have spread.")] = 60,
    crowd: Annotated[bool, typer.Option("--crowd", help="All in one place.")] = False,
    gameservers: Annotated[int, typer.Option(help="Game servers.")] = 3,
    placement: Annotated[str, typer.Option(help="gather or spread.")] = "gather",
    out: Annotated[Path | None, typer.Option(help="Write the whole report there as JSON.")] = None,
) -> None:
    """Start a cluster in a new folder, send the bots, print the report."""
    with tempfile.TemporaryDirectory() as folder:
        with cluster(Path(folder), gameservers=gameservers, placement=placement) as running:
            watch = Watch(running)
            watch.start()
            words = ["--url", running.url, "--count", str(count), "--seconds", str(seconds), "--json"]
            bots = subprocess.run(
                [*COMMAND, "bots", *words, *(["--crowd"] if crowd else [])],
                env=environment(),
                stdout=subprocess.PIPE,
                check=False,
            )
            processes = watch.result()
            events = [line for line in running.output().splitlines() if " ended with " in line]
        if not bots.stdout:
            sys.exit("bench: the bots said nothing")
        report = json.loads(bots.stdout.splitlines()[-1])
    report |= {"processes": processes, "events": events, "machine": machine()}
    show(report)
    if out is not None:
        out.write_text(json.dumps(report, indent=2) + "\n")


def machine() -> dict[str, Any]:
    return {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}


def show(report: dict[str, Any]) -> None:
    table = Table("Process", "Memory, MB", "CPU, % of a core", title="Processes", title_justify="left")
    for row in report["processes"]:
        table.add_row(row["id"], f"{row['memory_mb']:.0f}", f"{row['cpu_percent']:.0f}")
    console = Console(highlight=False)
    console.print(table)
    for event in report["events"]:
        console.print(event)
    console.print(f"{report['machine']['cores']} cores, Python {report['machine']['python']}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, which stops the cluster
    if sys.argv[1:2] and sys.argv[1] in OTHERS:
        typer.run(OTHERS[sys.argv.pop(1)])
    else:
        typer.run(bench)
