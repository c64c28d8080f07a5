"""What the verbs that open a store themselves share: a stopped world's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from runtime.service import StartRefused
from runtime.store.api import StoreOpenError
from runtime.store.migration import WholeStore
from runtime.store.sqlite import SqliteStore

SQLITE = "sqlite://"  # and an absolute path


class OpenedStore(NamedTuple):
    store: WholeStore
    name: str  # of it, without credentials: equal for whoever opens it from wherever


@asynccontextmanager
async def opened(url: str, *, new: bool = False) -> AsyncIterator[OpenedStore]:
    """``new``: make the file where there is none. Raises StartRefused."""
    path = file_of(url, new=new)
    try:
        store = SqliteStore(path)
    except StoreOpenError as error:
        raise StartRefused(f"{error} A world that runs has to be stopped first.") from error
    try:
        yield OpenedStore(store, f"{SQLITE}{path}")
    finally:
        await store.close()


def file_of(url: str, *, new: bool = False) -> Path:
    """Raises StartRefused."""
    if not url.startswith(SQLITE):
        raise StartRefused(f"{url}: no store like sqlite:///srv/world/store/world.sqlite or couchbase://host/bucket.")
    path = Path(url.removeprefix(SQLITE)).resolve()
    if not new and not path.is_file():
        raise StartRefused(f"{url}: there is no file {path}.")
    return path
