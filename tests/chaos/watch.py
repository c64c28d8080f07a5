"""What is seen of a run besides its clients: the heads of all units in the store file, and the observers' picture.

Both only read: the file as a second process may (its writer is never waited for), the picture as /observe does.
"""

import contextlib
import math
import threading
import time
from pathlib import Path
from typing import Any

import apsw
import httpx
import msgspec
import orjson

from tests.chaos.history import STORE, Log
from world.limits import STORE_BUSY_MS
from world.unit_document import BadDocument, Head

HEADS_EVERY_S = 1.0
PICTURE_TIMEOUT_S = 3.0
GHOST_OFF_M = 6.0  # a fresh ghost is less than this from where its real one stands: one tick, one picture apart


def read_documents(database: Path) -> dict[str, bytes]:
    """All avatars, regions and intents of transactions, as of one moment. Raises apsw.Error."""
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(STORE_BUSY_MS)
    try:
        rows = connection.execute(
            "SELECT key, value FROM documents WHERE key GLOB 'avatar:*' OR key GLOB 'region:*' OR key GLOB 'tx:*'"
        )
        return {str(key): bytes(value) for key, value in rows}
    finally:
        connection.close()


class _Holds(msgspec.Struct):
    pending: dict[str, msgspec.Raw] = {}


class Heads(threading.Thread):
    """Each change of a unit's head as ``note head [owner, generation, epoch, version]``, value's first the unit; what
    was seen locked more than once as ``note locked [unit, transaction, s]``, at its end."""

    def __init__(self, database: Path, log: Log) -> None:
        super().__init__(daemon=True, name="heads")
        self._database = database
        self._log = log
        self._done = threading.Event()
        self._known: dict[str, tuple[str, int, int, int]] = {}
        self._locked: dict[tuple[str, str], float] = {}  # (unit, transaction) -> first seen, monotonic s

    def run(self) -> None:
        while not self._done.wait(HEADS_EVERY_S):
            with contextlib.suppress(apsw.Error):  # no file yet, or one that is being recovered
                self._look()

    def _look(self) -> None:
        documents = {k: v for k, v in read_documents(self._database).items() if not k.startswith("tx:")}
        self._look_at_locks(documents)
        for key, value in documents.items():
            with contextlib.suppress(BadDocument):
                head = Head.parse(value)
                seen = (head.owner, head.generation, head.epoch, head.version)
                if self._known.get(key) != seen:
                    self._known[key] = seen
                    self._log.add(STORE, "note", "head", value=[key, *seen])

    def _look_at_locks(self, documents: dict[str, bytes]) -> None:
        now_s = time.monotonic()
        held = {
            (key, tx)
            for key, value in documents.items()
            if b'"pending":{}' not in value
            for tx in msgspec.json.decode(value, type=_Holds).pending
        }
        for pair in self._locked.keys() - held:
            self._log.add(STORE, "note", "locked", value=[*pair, round(now_s - self._locked.pop(pair), 1)])
        for pair in held - self._locked.keys():
            self._locked[pair] = now_s

    def stop(self) -> None:
        self._done.set()
        self.join(PICTURE_TIMEOUT_S)
        for (unit, tx), since_s in self._locked.items():
            self._log.add(STORE, "note", "locked", value=[unit, tx, round(time.monotonic() - since_s, 1)])


class Pictures(threading.Thread):
    """Twice a second ``note picture {server: [generation, ghost age ms, ghosts that are off]}``; a region's owner is
    ``note region [x, y, epoch, server, generation]`` when it changes."""

    def __init__(self, gateways: list[str], log: Log) -> None:
        super().__init__(daemon=True, name="pictures")
        self._gateways = gateways
        self._log = log
        self._done = threading.Event()
        self._regions: set[tuple[Any, ...]] = set()

    def run(self) -> None:
        turn = 0
        while not self._done.is_set():
            url = self._gateways[turn % len(self._gateways)]
            with contextlib.suppress(httpx.HTTPError, ValueError):
                self._follow(url)
            turn += 1
            self._done.wait(0.2)

    def _follow(self, url: str) -> None:
        with httpx.stream("GET", f"{url}/v1/observe/stream", timeout=PICTURE_TIMEOUT_S) as answer:
            for line in answer.iter_lines():
                if self._done.is_set():
                    return
                if line.startswith("data: "):
                    self._picture(orjson.loads(line.removeprefix("data: "))["servers"])

    def _picture(self, servers: list[dict[str, Any]]) -> None:
        real = {avatar[0]: (avatar[2], avatar[3]) for view in servers for avatar in view["avatars"]}
        summary = {}
        for view in servers:
            off = sum(1 for ghost in view["ghosts"] if ghost[0] in real and _off(ghost, real[ghost[0]]))
            summary[view["server"]] = [view["generation"], view["ghost_age_ms"], off]
            for x, y, epoch in view["regions"]:
                seen = (x, y, epoch, view["server"], view["generation"])
                if seen not in self._regions:
                    self._regions.add(seen)
                    self._log.add(STORE, "note", "region", value=list(seen))
        self._log.add(STORE, "note", "picture", value=summary)

    def stop(self) -> None:
        self._done.set()
        self.join(2 * PICTURE_TIMEOUT_S)


def _off(ghost: list[Any], real: tuple[float, float]) -> bool:
    return math.hypot(ghost[1] - real[0], ghost[2] - real[1]) > GHOST_OFF_M
