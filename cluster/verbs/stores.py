"""What the verbs that open a store themselves share: a stopped world's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, cast

from runtime.service import StartRefused
from runtime.store.api import StoreOpenError
from runtime.store.migration import WholeStore
from runtime.store.opening import SqliteUrl, open_store, parse_store_url


class OpenedStore(NamedTuple):
    store: WholeStore
    name: str  # of it, without credentials: equal for whoever opens it from wherever


@asynccontextmanager
async def opened(address: str, *, new: bool = False) -> AsyncIterator[OpenedStore]:
    """``new``: make the file where there is none. Raises StartRefused."""
    try:
        url = parse_store_url(address)
        if isinstance(url, SqliteUrl) and not new:
            check_file(url.path)
        store = cast(WholeStore, await open_store(url))  # every store can tell all it holds
    except StoreOpenError as error:
        hint = " Stop the world first." if "in use" in str(error) else ""
        raise StartRefused(f"{error}{hint}") from error
    try:
        yield OpenedStore(store, str(url))
    finally:
        await store.close()


def check_file(path: Path) -> None:
    """Raises StoreOpenError: opening would make an empty one."""
    if not path.is_file():
        raise StoreOpenError(f"There is no store {path}.")
