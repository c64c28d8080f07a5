"""How soon two members of the mesh hear each other again after a network that dropped packets, one way or both.

``python -m tests.bench.bench_partition [--seconds 10,30,58] [--pairs 2]``: needs root and iproute2. Each pair has a
network of its own::

    [namespace: gs1] v0 ===== v0 [namespace: gs2]

A cut gives one's neighbour entry for the other a hardware address that nobody has: packets leave that way and are
dropped without a word, and TCP of both ends repeats, waits longer, gives up, as it does over a real network.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Annotated

import typer
from rich.console import Console
from rich.table import Table

from tests.support.cluster import environment
from tests.support.percentiles import percentile
from world.limits import MEMBER_FORGET_MS, STALE_AFTER_MS, SUSPECT_AFTER_MS

ROOT = Path(__file__).parents[2]
WAYS = {"one way": ((0, 1),), "the other way": ((1, 0),), "both ways": ((0, 1), (1, 0))}
HOSTS = ("10.77.0.1", "10.77.0.2")
NOBODY = "02:00:00:00:00:99"
USUAL_S = 4.0  # before the cut
WATCHED_S = 6.0  # after it at least; else as long as the cut was: a doubling pause ends by then
WELL_S = 1.0  # healed since it is well for so long
LIMITS_MS = {
    "heard": SUSPECT_AFTER_MS,
    "cells fresh": STALE_AFTER_MS,
    "calls answered": SUSPECT_AFTER_MS,
    "a store's calls answered": SUSPECT_AFTER_MS,
}


def ip(*words: str) -> str:
    """Raises CalledProcessError."""
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


class Pair:
    """Two namespaces with a member in each; ``rows``: what each said (see ``partition_member``)."""

    def __init__(self, name: str, folder: Path) -> None:
        self.rows: tuple[list[list[float]], ...] = ([], [])
        self._spaces = [f"{name}{letter}" for letter in "ab"]
        self._folder = folder
        self._addresses: list[str] = []
        self._members: list[subprocess.Popen[bytes]] = []

    def build(self) -> None:
        for space in self._spaces:
            ip("netns", "add", space)
        ip(
            "link",
            "add",
            "v0",
            "netns",
            self._spaces[0],
            "type",
            "veth",
            "peer",
            "name",
            "v0",
            "netns",
            self._spaces[1],
        )
        for space, host in zip(self._spaces, HOSTS, strict=True):
            ip("-n", space, "addr", "add", f"{host}/24", "dev", "v0")
            for device in ("lo", "v0"):
                ip("-n", space, "link", "set", device, "up")
            self._addresses.append(json.loads(ip("-n", space, "-j", "link", "show", "v0"))[0]["address"])
        self.heal()
        joined = self._start(0)
        self._start(1, PROJECTK_JOIN=joined)

    def _start(self, n: int, **more: str) -> str:
        """Its command endpoint."""
        named = {"PROJECTK_NODE_ID": f"gs{n + 1}", "PROJECTK_BIND_HOST": HOSTS[n], "PROJECTK_DATA": str(self._folder)}
        command = ["ip", "netns", "exec", self._spaces[n], sys.executable, "-m", "tests.bench.partition_member"]
        with (self._folder / "stderr").open("ab") as errors:
            member = subprocess.Popen(
                command, cwd=ROOT, env=environment(**named, **more), stdout=subprocess.PIPE, stderr=errors
            )
        self._members.append(member)
        assert member.stdout is not None
        ready = member.stdout.readline()
        if not ready:
            raise SystemExit((self._folder / "stderr").read_text()[-4_000:])
        threading.Thread(target=self._read, args=(member.stdout, self.rows[n]), daemon=True).start()
        return str(json.loads(ready)["addresses"]["command"])

    def _read(self, lines: IO[bytes], rows: list[list[float]]) -> None:
        rows.extend(map(json.loads, lines))

    def cut(self, source: int, target: int) -> None:
        self._lead(source, target, NOBODY)

    def heal(self) -> None:
        for source, target in WAYS["both ways"]:
            self._lead(source, target, self._addresses[target])

    def _lead(self, source: int, target: int, address: str) -> None:
        entry = (HOSTS[target], "lladdr", address, "dev", "v0", "nud", "permanent")
        ip("-n", self._spaces[source], "neigh", "replace", *entry)

    def close(self) -> None:
        for member in self._members:
            member.terminate()
        for member in self._members:
            member.wait()
        for space in self._spaces:
            subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)


def healed_s(rows: list[list[float]], column: int, limit_ms: float, over_s: float) -> float:
    """From the end of the cut until it is well and stays so for WELL_S; infinite: not while it was watched."""
    since_s: float | None = None
    for row in rows:
        if row[0] < over_s:
            continue
        if row[column] > limit_ms:
            since_s = None
        elif since_s is None:
            since_s = row[0]
        if since_s is not None and row[0] - since_s >= WELL_S:
            return since_s - over_s
    return float("inf")


@contextmanager
def built(ways: list[str]) -> Iterator[list[Pair]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pairs = [Pair(f"pk{os.getpid()}-{n}", folder) for n in range(len(ways))]
        for pair in pairs:
            stack.callback(pair.close)
            pair.build()
        yield pairs


def strike(ways: list[str], seconds: float) -> dict[str, list[dict[str, float]]]:
    """Way → what each member of each pair measured; all pairs are cut at once."""
    with built(ways) as pairs:
        time.sleep(USUAL_S)
        for way, pair in zip(ways, pairs, strict=True):
            for source, target in WAYS[way]:
                pair.cut(source, target)
        time.sleep(seconds)
        for pair in pairs:
            pair.heal()
        over_s = time.monotonic()
        time.sleep(max(WATCHED_S, seconds))
        found: dict[str, list[dict[str, float]]] = {}
        for way, pair in zip(ways, pairs, strict=True):
            for rows in pair.rows:
                measured = {name: healed_s(rows, n, ms, over_s) for n, (name, ms) in enumerate(LIMITS_MS.items(), 1)}
                found.setdefault(way, []).append(measured)
    return found


def main(
    seconds: Annotated[
        str, typer.Option(help="How long the cuts last; longer than a member is remembered is another matter.")
    ] = "10,30,58",
    pairs: Annotated[int, typer.Option(min=1, help="Of each way, at once.")] = 2,
) -> None:
    if os.geteuid() != 0:
        raise typer.BadParameter("network namespaces need root")
    table = Table("Cut, s", "Way", "Healed after it, s", "p50", "max", "of")
    for lasts_s in map(float, seconds.split(",")):
        if lasts_s * 1_000 >= MEMBER_FORGET_MS:
            raise typer.BadParameter(f"after {MEMBER_FORGET_MS} ms a member is forgotten", param_hint="--seconds")
        for way, found in strike(list(WAYS) * pairs, lasts_s).items():
            for name in LIMITS_MS:
                values = sorted(measured[name] for measured in found)
                cells = [f"{percentile(values, 50):.2f}", f"{values[-1]:.2f}", str(len(values))]
                table.add_row(f"{lasts_s:g}", way, name, *cells)
    Console(highlight=False).print(table)


if __name__ == "__main__":
    typer.run(main)
