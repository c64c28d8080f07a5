"""What is seen of a run besides its clients: the heads of all units in the store, and the observers' picture.

Both only read: the store beside the cluster (``tests.chaos.snapshot``), the picture as /observe does.
"""

import contextlib
import math
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpx
import orjson

from tests.chaos.history import STORE, Log
from tests.chaos.holds import Holds, Lasted
from tests.chaos.snapshot import READ_S, Opening, Unreadable
from world.transaction_document import KIND
from world.unit_document import BadDocument, Head

OFF_NOTED = 4
PICTURE_TIMEOUT_S = 3.0
JOIN_S = READ_S + 2 * PICTURE_TIMEOUT_S  # what a watch may be in the middle of
GHOST_OFF_M = 6.0  # a fresh ghost is less than this from where its real one stands: one tick, one picture apart


class Watch(threading.Thread):
    """``watch`` until ``stop``, which raises what it has failed with: a blind judge finds nothing."""

    def __init__(self, log: Log) -> None:
        super().__init__(daemon=True)
        self._log = log
        self._done = threading.Event()
        self._failure: Exception | None = None

    def watch(self) -> None:
        raise NotImplementedError

    def run(self) -> None:
        try:
            self.watch()
        except Exception as error:
            self._failure = error

    def stop(self) -> None:
        self._done.set()
        self.join(JOIN_S)
        self.last_words()
        self._log.close()
        if self._failure is not None:
            raise AssertionError("a watch of the run went blind") from self._failure

    def last_words(self) -> None:
        """Into the log, at the end."""


class Heads(Watch):
    """Each change of a unit's head as ``note head [unit, owner, generation, epoch, version]``; what was held, once it
    no longer is, or at the end, as ``note held [kind, where, what, least s, most s]`` (``tests.chaos.holds``)."""

    def __init__(self, opening: Opening, log: Log, every_s: float) -> None:
        super().__init__(log)
        self._opening = opening
        self._every_s = every_s
        self._known: dict[str, tuple[str, int, int, int]] = {}
        self._holds = Holds()

    def watch(self) -> None:
        with contextlib.closing(self._opening()) as snapshots:
            while not self._done.wait(self._every_s):
                with contextlib.suppress(Unreadable):
                    began_s = time.monotonic()
                    self._look(snapshots.read(), began_s)

    def _look(self, documents: Mapping[str, bytes], began_s: float) -> None:
        self._held(self._holds.look(documents, began_s, time.monotonic()))
        for key, value in documents.items():
            if key.startswith(f"{KIND}:"):
                continue
            with contextlib.suppress(BadDocument):
                head = Head.parse(value)
                seen = (head.owner, head.generation, head.epoch, head.version)
                if self._known.get(key) != seen:
                    self._known[key] = seen
                    self._log.add(STORE, "note", "head", value=[key, *seen])

    def _held(self, gone: Iterable[Lasted]) -> None:
        for lasted in gone:
            self._log.add(
                STORE, "note", "held", value=[*lasted.hold, round(lasted.least_s, 1), round(lasted.most_s, 1)]
            )

    def last_words(self) -> None:
        self._held(self._holds.left(time.monotonic()))


class Pictures(Watch):
    """Twice a second ``note picture {server: [generation, ghost age ms, ghosts that are off]}``, and where some are off
    ``note off [server, avatar, x, y, publisher, real server, x, y]`` for the first OFF_NOTED of a server; a region's
    owner is ``note region [x, y, epoch, server, generation]`` when it changes."""

    def __init__(self, gateways: list[str], log: Log) -> None:
        super().__init__(log)
        self._gateways = gateways
        self._regions: set[tuple[Any, ...]] = set()

    def watch(self) -> None:
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
        real = {a: (view["server"], x, y) for view in servers for a, _name, x, y in view["avatars"]}
        summary = {}
        for view in servers:
            off = [ghost for ghost in view["ghosts"] if ghost[0] in real and _off(ghost, real[ghost[0]])]
            summary[view["server"]] = [view["generation"], view["ghost_age_ms"], len(off)]
            for ghost in off[:OFF_NOTED]:
                self._log.add(STORE, "note", "off", value=[view["server"], *ghost, *real[ghost[0]]])
            for x, y, epoch in view["regions"]:
                seen = (x, y, epoch, view["server"], view["generation"])
                if seen not in self._regions:
                    self._regions.add(seen)
                    self._log.add(STORE, "note", "region", value=list(seen))
        self._log.add(STORE, "note", "picture", value=summary)


def _off(ghost: list[Any], real: tuple[str, float, float]) -> bool:
    return math.hypot(ghost[1] - real[1], ghost[2] - real[2]) > GHOST_OFF_M
