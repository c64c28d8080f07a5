"""Formats of documents: the steps from each to the next, and back.

::

    store: cluster:format = 1                    release whose FORMAT is 2
    document of format 1 ──up(1)──> what the code knows, always FORMAT ──down(1)──> document of format 1
    … the deploy has ended, cluster:format = 2
    document of format 1 ──up(1)──> … ──> document of format 2

A release knows one shape of a document in memory, its FORMAT, and reads all from FORMAT_MIN on. What it *writes* is
what the cluster has agreed on (``runtime.store.format``), so that the older processes of a deploy under way read it.

A step works on plain JSON objects and is given one document: ``up`` and ``down`` may change it or answer another one,
``down(up(d)) == d``. The head of a unit's document (owner, generation, epoch, version, write_id), and whether its
``outbox.entries`` and ``pending`` are empty, are read without any step: every format keeps them. ``write`` of the
others likewise.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from world.limits import FORMAT, FORMAT_MIN
from world.message_values import Json

FIRST_FORMAT = 1  # of documents that do not say


class BadDocument(ValueError):
    """Bytes that are no document of their kind: a damaged store, or a newer format."""


class Step(NamedTuple):
    """From one format to the next, and back, of one kind of document."""

    up: Callable[[Json], Json]
    down: Callable[[Json], Json]


Steps = Mapping[int, Mapping[str, Step]]

# format n → kind (unit, account, family, token) → the step between n and n + 1; kinds that stay as they are have none
STEPS: Steps = {}


class _Format(msgspec.Struct):
    format: int = FIRST_FORMAT


class Formats:
    """What one release can read and write: ``oldest`` to ``newest``."""

    def __init__(self, steps: Steps, oldest: int, newest: int) -> None:
        """Raises ValueError where a step is missing."""
        missing = [n for n in range(oldest, newest) if n not in steps]
        if missing:
            raise ValueError(f"no step from format {missing[0]} to {missing[0] + 1}")
        self._steps = steps
        self.oldest = oldest
        self.newest = newest

    def read(self, kind: str, value: bytes) -> bytes:
        """The document in the newest format, whatever it was stored in. Raises BadDocument."""
        found = self._format_of(value)
        if found == self.newest:
            return value
        if found > self.newest:
            raise BadDocument(
                f"the document has format {found}, and this release reads {self.oldest} to {self.newest}: "
                "it was written by a newer release"
            )
        if found < self.oldest:
            raise BadDocument(f"the document has format {found}, and this release reads none below {self.oldest}")
        document = self._decode(value)
        for n in range(found, self.newest):
            step = self._steps[n].get(kind)
            document = document if step is None else self._stepped(step.up, document, n)
        return self._encode(document, self.newest)

    def write(self, kind: str, value: bytes, at: int) -> bytes:
        """A document of the newest format as one of format ``at``, which this release can write."""
        assert self.oldest <= at <= self.newest, f"format {at} of {self.oldest} to {self.newest}"
        if at == self.newest:
            return value
        document = self._decode(value)
        for n in reversed(range(at, self.newest)):
            step = self._steps[n].get(kind)
            document = document if step is None else step.down(document)
        return self._encode(document, at)

    def _format_of(self, value: bytes) -> int:
        try:
            return msgspec.json.decode(value, type=_Format).format
        except (ValueError, RecursionError) as error:
            raise BadDocument(str(error)) from error

    def _decode(self, value: bytes) -> Json:
        try:
            return msgspec.json.decode(value, type=Json)
        except (ValueError, RecursionError) as error:
            raise BadDocument(str(error)) from error

    def _stepped(self, up: Callable[[Json], Json], document: Json, n: int) -> Json:
        """A damaged document costs its own unit, not the process."""
        try:
            return up(document)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise BadDocument(f"no document of format {n}: {error!r}") from error

    def _encode(self, document: Json, at: int) -> bytes:
        return msgspec.json.encode(document | {"format": at})


FORMATS = Formats(STEPS, FORMAT_MIN, FORMAT)
