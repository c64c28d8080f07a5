"""The documents that judges read, whatever store they are kept in: all avatars, regions and intents.

Only read, beside the cluster: of a SQLite file by a connection that waits for no writer, of Couchbase by a client of
its own. A picture of SQLite is of one moment; one of Couchbase is read document by document, so that two of them may
be of different moments, until the cluster has stopped.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import apsw

from runtime.store.api import Store, StoreError, StoreOpenError, Temporary, Unavailable
from runtime.store.couchbase import CouchbaseStore
from runtime.store.opening import Credentials, open_store
from world.limits import STORE_BUSY_MS, STORE_MANY_KEYS

T = TypeVar("T")

KINDS = ("avatar", "region", "tx")
READ_S = 15.0  # one picture of Couchbase, else it is given up
PAGE_KEYS = 64  # at once: as many calls as a client may have under way
AGAIN_S = 0.1


class Unreadable(Exception):
    """Now: no file yet, one that is being recovered, a node that is away."""


class Snapshots(Protocol):
    """For one thread."""

    def read(self) -> dict[str, bytes]:
        """Raises Unreadable."""
        ...

    def close(self) -> None: ...


Opening = Callable[[], Snapshots]


def read_documents(database: Path) -> dict[str, bytes]:
    """Of a store file, which another process may have open, as of one moment. Raises Unreadable."""
    wanted = " OR ".join(f"key GLOB '{kind}:*'" for kind in KINDS)
    try:
        connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.set_busy_timeout(STORE_BUSY_MS)
            rows = connection.execute(f"SELECT key, value FROM documents WHERE {wanted}")
            return {str(key): bytes(value) for key, value in rows}
        finally:
            connection.close()
    except apsw.Error as error:
        raise Unreadable(str(error)) from error


class SqliteSnapshots:
    """Of a store file."""

    def __init__(self, database: Path) -> None:
        self._database = database

    def read(self) -> dict[str, bytes]:
        return read_documents(self._database)

    def close(self) -> None:
        pass


class StoreSnapshots:
    """Of any store that several processes may open, through the adapter of the cluster; opened when first read."""

    def __init__(self, url: str, credentials: Credentials) -> None:
        self._url = url
        self._credentials = credentials
        self._runner = asyncio.Runner()
        self._store: Store | None = None

    def read(self) -> dict[str, bytes]:
        try:
            return self._runner.run(self._read())
        except (StoreError, StoreOpenError, TimeoutError) as error:
            raise Unreadable(str(error)) from error

    async def _read(self) -> dict[str, bytes]:
        if self._store is None:
            self._store = await open_store(self._url, self._credentials)
        async with asyncio.timeout(READ_S):
            return await stored(self._store)

    def close(self) -> None:
        if self._store is not None:
            self._runner.run(self._store.close())
        self._runner.close()


async def stored(store: Store) -> dict[str, bytes]:
    """All documents of KINDS, page by page; asked again, for ever, while a node refuses. Raises StoreError."""
    found: dict[str, bytes] = {}
    for kind in KINDS:
        keys = await _until_served(partial(_keys, store, kind))
        for begin in range(0, len(keys), PAGE_KEYS):
            documents = await _until_served(partial(store.get_many, keys[begin : begin + PAGE_KEYS]))
            found |= {key: document.value for key, document in documents.items()}
    return found


async def _until_served(call: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await call()
        except (Temporary, Unavailable):
            await asyncio.sleep(AGAIN_S)


async def _keys(store: Store, kind: str) -> list[str]:
    """All there are, and perhaps some that are gone: Couchbase's list looks at each, twice the work."""
    if isinstance(store, CouchbaseStore):
        return await store.index.keys(kind)
    found: list[str] = []
    while page := await store.list(kind, after=found[-1] if found else "", limit=STORE_MANY_KEYS):
        found += page
    return found
