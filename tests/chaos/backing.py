"""What the cluster of a run keeps its world in: the store process with its SQLite file, or Couchbase's mock.

The mock keeps all in memory, so that it is never killed itself. Nor do its nodes fail over: it does not replicate what
it acknowledges, so that documents go back to what they were, which proves nothing. They are slow, refuse, and lose
answers. Faults need what they strike: those of the other store are left out, and said to be.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

from tests.chaos.rows import ON_COUCHBASE
from tests.chaos.snapshot import Opening, SqliteSnapshots, StoreSnapshots
from tests.support.couchbase_mock import CouchbaseMock, couchbase_mock


class StoreKind(StrEnum):
    SQLITE = "sqlite"
    MOCK = "mock"


SQLITE, MOCK = StoreKind
OF_THE_PROCESS = frozenset({"kill-store", "pause-store", "store-away", "store-dead", "fill-disk"})
OF_THE_NODES = frozenset(ON_COUCHBASE)
# Between two pictures of all documents: thousands of requests on the mock.
LOOK_S: Mapping[str, float] = {SQLITE: 1.0, MOCK: 3.0}


@dataclass(frozen=True, slots=True)
class Backing:
    """``variables``: of the environment of the cluster's processes."""

    store: str
    opening: Opening
    mock: CouchbaseMock | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def backing(store: str, data: Path) -> Iterator[Backing]:
    """``data``: the cluster's folder."""
    if store == SQLITE:
        yield Backing(store, partial(SqliteSnapshots, data / "store/world.sqlite"))
        return
    with couchbase_mock() as mock:
        yield Backing(store, partial(StoreSnapshots, mock.url, mock.credentials), mock, mock.environment)


def fitting(faults: Iterable[str], store: str) -> tuple[str, ...]:
    """Those that this store can have."""
    unfit = OF_THE_PROCESS if store == MOCK else OF_THE_NODES
    return tuple(fault for fault in faults if fault not in unfit)
