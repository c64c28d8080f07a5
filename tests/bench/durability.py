"""``python -m tests.bench durability``: what a ``kill -9`` takes away of each durability class.

A store process and a game server that changes a value of each class every few milliseconds (``durability_writer``).
At a random moment the game server is killed, or both are; what the store holds then is compared with what was set.
*Lost* is how long before the kill the oldest value was set that is not there: the time that is rolled back. Of COMMIT
also: how many values that had been acknowledged are not there.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import apsw
import msgspec
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from gameserver.records import MotionDocument, motion_key
from runtime.store.api import NotFound
from runtime.store.opening import open_store
from tests.bench.durability_writer import TRADER, WALKER, WORKER
from tests.chaos.backing import StoreKind
from tests.support import aio
from tests.support.cluster import START_S, environment
from tests.support.couchbase_mock import CouchbaseMock, couchbase_mock
from tests.support.percentiles import percentile
from tests.support.processes import wait_until
from world.ids import avatar_unit
from world.limits import MOTION_DOCUMENT_MS, WRITE_BEHIND_MS

ROOT = Path(__file__).parents[2]
ALIVE_S = (0.8, 2.0)  # from the first values to the kill
CLASSES = ("volatile", "write_behind", "commit")
STRIKES = ("game server", "game server and store")
WITHIN_MS = {"volatile": 500, "write_behind": WRITE_BEHIND_MS, "commit": None}


@dataclass
class Told:
    """What a writer said of its values, read by a thread: the pipe never fills."""

    generation: int = 0
    set_s: dict[str, list[tuple[int, float]]] = field(default_factory=lambda: {name: [] for name in CLASSES})
    acknowledged: list[tuple[int, float]] = field(default_factory=list)

    def read(self, pipe: Any) -> None:
        for line in pipe:
            words = line.split()
            if len(words) == 3:
                self._note(words[0].decode(), int(words[1]), float(words[2]))

    def _note(self, what: str, n: int, at_s: float) -> None:
        if what == "generation":
            self.generation = n
        elif what == "acknowledged":
            self.acknowledged.append((n, at_s))
        elif what in self.set_s:
            self.set_s[what].append((n, at_s))

    @property
    def all_begun(self) -> bool:
        return all(self.set_s.values()) and bool(self.acknowledged)


@dataclass
class Loss:
    """Of one kill: ms per class, and how many acknowledged values are gone."""

    lost_ms: dict[str, float]
    acknowledged: int
    acknowledged_lost: int


class Stage:
    """The store process on SQLite in one folder; processes are started anew as they are killed."""

    meeting = "store"  # the role the writer joins the mesh by
    strikes: tuple[str, ...] = STRIKES

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.met: subprocess.Popen[bytes] | None = None
        self._endpoint = ""
        self._variables = {"PROJECTK_DATA": str(folder)}

    def start(self) -> None:
        more = dict(self._variables)
        if self._endpoint:
            more["PROJECTK_COMMAND_PORT"] = self._endpoint.rpartition(":")[2]
        self.met = self._launch("cluster.role", [self.meeting], more)
        assert self.met.stdout is not None
        self._endpoint = json.loads(self.met.stdout.readline())["addresses"]["command"]

    @contextmanager
    def writer(self) -> Iterator[tuple["subprocess.Popen[bytes]", Told]]:
        more = {"PROJECTK_JOIN": self._endpoint, **self._variables}
        process, told = self._launch("tests.bench.durability_writer", [], more), Told()
        reader = threading.Thread(target=told.read, args=(process.stdout,), daemon=True)
        reader.start()
        try:
            yield process, told
        finally:
            process.kill()
            process.wait()
            reader.join()

    def _launch(self, module: str, words: list[str], more: dict[str, str]) -> "subprocess.Popen[bytes]":
        with (self.folder / "stderr").open("ab") as errors:
            return subprocess.Popen(
                [sys.executable, "-m", module, *words],
                cwd=ROOT,
                env=environment(**more),
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def stop(self) -> None:
        if self.met is not None:
            self.met.kill()
            self.met.wait()

    def read(self, key: str) -> bytes | None:
        """The document as committed, None where there is none."""
        path = self.folder / "store" / "world.sqlite"
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            rows = connection.execute("SELECT value FROM documents WHERE key = ?", (key,)).fetchall()
        finally:
            connection.close()
        value = rows[0][0] if rows else None
        assert value is None or isinstance(value, bytes)
        return value

    def survivors(self, generation: int) -> dict[str, int]:
        """The value of each class that the store holds; 0: none of this generation."""
        motion = self.read(motion_key("gs1", generation))
        rows = msgspec.json.decode(motion, type=MotionDocument).rows if motion is not None else []
        return {
            "volatile": next((row[2] for row in rows if row[0] == WALKER), 0),
            "write_behind": self._field(WORKER, "behind"),
            "commit": self._field(TRADER, "committed"),
        }

    def _field(self, probe: int, name: str) -> int:
        document = json.loads(self.read(avatar_unit(probe)) or b"{}")
        return int(document["data"]["entities"].get(str(probe), {}).get(name, 0))


class CouchbaseStage(Stage):
    """Couchbase's mock, which game servers reach by themselves, and a broker to join by. The mock stands for the
    database's nodes, which are not killed: it keeps all in memory, and would show nothing of theirs."""

    meeting = "broker"
    strikes = STRIKES[:1]

    def __init__(self, folder: Path, mock: CouchbaseMock) -> None:
        super().__init__(folder)
        self._variables |= mock.environment
        self._mock = mock

    def read(self, key: str) -> bytes | None:
        return aio.run(self._read(key))

    async def _read(self, key: str) -> bytes | None:
        store = await open_store(self._mock.url, self._mock.credentials)
        try:
            return (await store.get(key)).value
        except NotFound:
            return None
        finally:
            await store.close()


@contextmanager
def staged(store: StoreKind) -> Iterator[Stage]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        if store is StoreKind.SQLITE:
            stage = Stage(Path(folder))
        else:
            stage = CouchbaseStage(Path(folder), stack.enter_context(couchbase_mock()))
        stage.start()
        try:
            yield stage
        finally:
            stage.stop()


def strike(stage: Stage, both: bool, alive_s: float) -> Loss:
    """One life and its end."""
    with stage.writer() as (process, told):
        try:
            wait_until(
                lambda: told.all_begun or process.poll() is not None, 2 * START_S, "every class is being written"
            )
            assert process.poll() is None, "the game server ended"
        except AssertionError as error:
            raise SystemExit(f"{error}: {told}\n{(stage.folder / 'stderr').read_text()[-4_000:]}") from None
        time.sleep(alive_s)
        killed_s = time.monotonic()
        if both and stage.met is not None:
            stage.met.kill()
        process.kill()
    if both:
        assert stage.met is not None
        stage.met.wait()
        stage.start()
    return judge(told, stage.survivors(told.generation), killed_s)


def judge(told: Told, there: dict[str, int], killed_s: float) -> Loss:
    lost_ms = {}
    for name in CLASSES:
        gone = [at_s for n, at_s in told.set_s[name] if n > there[name] and at_s <= killed_s]
        lost_ms[name] = (killed_s - min(gone)) * 1_000 if gone else 0.0
    acknowledged_lost = sum(n > there["commit"] for n, _ in told.acknowledged)
    return Loss(lost_ms, len(told.acknowledged), acknowledged_lost)


def durability(
    kills: Annotated[int, typer.Option(min=1, help="Of each kind.")] = 25,
    seed: Annotated[int, typer.Option(help="Draws the moments.")] = 0,
    store: Annotated[StoreKind, typer.Option(help="The mock needs java and mvn; only game servers die there.")] = (
        StoreKind.SQLITE
    ),
    out: Annotated[Path | None, typer.Option(help="Write all figures there as JSON.")] = None,
) -> None:
    """Kill a game server, then a game server and its store, again and again; report what was lost."""
    rng = random.Random(seed)
    losses: dict[str, list[Loss]] = {}
    with staged(store) as stage:
        try:
            for name in stage.strikes:
                losses[name] = []
                for _ in track(range(kills), f"kill the {name}", console=Console(stderr=True)):
                    losses[name].append(strike(stage, name == STRIKES[1], rng.uniform(*ALIVE_S)))
        finally:
            show({name: rows for name, rows in losses.items() if rows})
    if out is not None:
        out.write_text(
            json.dumps({name: [vars(loss) for loss in rows] for name, rows in losses.items()}, indent=1) + "\n"
        )
    sys.exit(int(any(loss.acknowledged_lost for rows in losses.values() for loss in rows)))


def show(losses: dict[str, list[Loss]]) -> None:
    table = Table("killed", "class", "lost p50, ms", "p99", "max", "bound", "acknowledged, lost", "kills")
    for strike_name, rows in losses.items():
        for name in CLASSES:
            values = [loss.lost_ms[name] for loss in rows]
            bound = WITHIN_MS[name]
            acknowledged = (
                f"{sum(loss.acknowledged for loss in rows):,}, {sum(loss.acknowledged_lost for loss in rows)}"
            )
            table.add_row(
                strike_name,
                name,
                *(f"{percentile(values, percent):.0f}" for percent in (50, 99, 100)),
                f"{bound}" if bound is not None else "acknowledged: none",
                acknowledged if name == "commit" else "",
                str(len(rows)),
            )
    console = Console(highlight=False, width=120)
    console.print(table)
    console.print(f"motion document every {MOTION_DOCUMENT_MS} ms, write-behind every {WRITE_BEHIND_MS} ms")
    console.print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
