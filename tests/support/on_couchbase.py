"""What tests of the Couchbase adapter share: a store on the mock's emptied bucket."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from runtime.store.api import Unavailable
from runtime.store.couchbase import CouchbaseStore
from runtime.store.couchbase_index import COUNTERS, KINDS
from runtime.store.opening import CouchbaseUrl, open_couchbase, parse_store_url
from tests.support.aio import run
from tests.support.couchbase_mock import CouchbaseMock, shared_mock

T = TypeVar("T")
Test = Callable[[CouchbaseStore, CouchbaseMock], Awaitable[None]]


def url_of(mock: CouchbaseMock, query: str = "") -> CouchbaseUrl:
    url = parse_store_url(mock.url + query)
    assert isinstance(url, CouchbaseUrl)
    return url


def on_couchbase(test: Test, mock: CouchbaseMock | None = None, query: str = "") -> None:
    """Runs it on the shared mock, which it leaves healthy, or on its own."""
    mock = mock or shared_mock()
    mock.flush()

    async def body() -> None:
        store = await open_couchbase(url_of(mock, query), mock.credentials)
        await store.index.name(KINDS, "a")  # once a process, and not what tests count
        await store.index.name(COUNTERS, "n:1")
        mock.shim.durable.clear()
        try:
            await test(store, mock)
        finally:
            await store.close()

    run(body())
    shim = mock.shim
    assert (shim.lose, shim.fail, shim.impossible) == (0, [], None)


async def again(call: Callable[[], Awaitable[T]]) -> T:
    """Until the cut connection is back."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await call()
            except Unavailable:
                await asyncio.sleep(0.05)
