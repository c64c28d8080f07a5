"""The history of a run: who asked what, what they heard, when; and what was done to the cluster meanwhile.

An operation is ``invoke``d, and then ``ok``, ``fail`` (it did not happen, or perhaps did: see ``checks``), or never
answered, which is unknown. ``note`` is something seen. Times are CLOCK_MONOTONIC in s, one clock for all
processes of the machine. One JSON array a line: [t, who, type, op, n, value].
"""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

NEMESIS = -1  # who
STORE = -2
NEWCOMERS = 1_000_000  # and above
FLUSH_LINES = 256


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """``n``: a command's number in its session, else 0."""

    t: float
    who: int
    type: str
    op: str
    n: int = 0
    value: Any = None


class Log:
    """Appends to one file; what is written down survives the process that wrote it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=1 << 16)
        self._lines = 0

    def add(self, who: int, kind: str, op: str, n: int = 0, value: Any = None) -> None:
        self._file.write(msgspec.json.encode(Entry(time.monotonic(), who, kind, op, n, value)) + b"\n")
        self._lines += 1
        if self._lines % FLUSH_LINES == 0:
            self._file.flush()

    def close(self) -> None:
        self._file.close()


def read(folder: Path) -> list[Entry]:
    """All files of a run, in the order of time."""
    entries: list[Entry] = []
    decoder = msgspec.json.Decoder(Entry)
    for path in sorted(folder.glob("*.jsonl")):
        entries += [decoder.decode(line) for line in path.read_bytes().splitlines()]
    return sorted(entries, key=lambda entry: entry.t)


def by_player(entries: Iterable[Entry]) -> dict[int, list[Entry]]:
    players: dict[int, list[Entry]] = {}
    for entry in entries:
        if entry.who >= 0:
            players.setdefault(entry.who, []).append(entry)
    return players
