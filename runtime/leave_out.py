"""Libraries import what they could use, not what we use: a process that starts need not pay for that."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def leave_out(name: str) -> Iterator[None]:
    """For what is imported within, the package ``name`` is not installed."""
    kept = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]  # so Python says it: the import raises ImportError
    try:
        yield
    finally:
        del sys.modules[name]
        if kept is not None:
            sys.modules[name] = kept
