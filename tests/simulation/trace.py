"""What happened, in order: hashed always, so that two runs of a seed can be compared; kept as text when asked for."""

import asyncio
import hashlib
from collections.abc import Iterable
from typing import Any

from structlog.typing import EventDict


class Trace:
    """Every note and every mixed byte goes into ``digest``."""

    def __init__(self, keep: bool = False) -> None:
        self.lines: list[str] | None = [] if keep else None
        self.errors: list[str] = []  # what services logged as errors
        self._hash = hashlib.blake2b(digest_size=12)
        self._start_s: float | None = None

    def note(self, who: str, what: str | bytes) -> None:
        now = asyncio.get_running_loop().time()
        if self._start_s is None:
            self._start_s = now
        line = f"{now - self._start_s:9.4f} {who:8} {what if isinstance(what, str) else what.decode(errors='replace')}"
        self._hash.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    def mix(self, data: bytes) -> None:
        """Bytes that no one would want to read."""
        self._hash.update(data)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def text(self) -> str:
        return "\n".join(self.lines or ())


class LogLines(list[EventDict]):
    """What a service's log is collected into: passed on to the trace, kept nowhere."""

    def __init__(self, trace: Trace, node: str) -> None:
        super().__init__()
        self._trace = trace
        self._node = node

    def append(self, event: EventDict) -> None:
        level, what = event.pop("level"), event.pop("event", "")
        if level == "debug" or what == "tick over budget":  # the latter by the processor's clock
            return
        said = " ".join(f"{key}={_brief(value)}" for key, value in event.items() if key not in ("role", "id"))
        self._trace.note(self._node, f"{level}: {what} {said}")
        if level in ("error", "critical"):
            self._trace.errors.append(f"{self._node}: {what} {said}")


def _brief(value: Any) -> str:
    """Without what differs from run to run: addresses of objects."""
    text = str(value)
    return text if " at 0x" not in text else type(value).__name__


def first(items: Iterable[str], most: int = 8) -> str:
    found = list(items)
    more = f"\n  … and {len(found) - most} more" if len(found) > most else ""
    return "\n  ".join(found[:most]) + more
