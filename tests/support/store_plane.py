"""A command plane of one process for the store's tests: real codec, real refusals, faults on demand."""

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from runtime.mesh.api import DeadlineExceeded, Refused, Sender, Unreachable
from runtime.store.api import Store
from runtime.store.client import StoreClient
from runtime.store.memory import MemoryStore
from runtime.store.opening import CouchbaseUrl, open_store, parse_store_url, read_credentials
from runtime.store.server import StoreServer
from runtime.store.sqlite import SqliteStore
from tests.support.couchbase_mock import shared_mock
from world.ids import NodeId
from world.limits import MESH_PROTOCOL_MAX, RPC_DEADLINE_MS
from world.messages import Member, Message, Ok, Problem, decode, encode

CLUSTER = "PROJECTK_TEST_COUCHBASE"
ME = Sender(NodeId("gs1"), 1)


class PlaneBook:
    """The members the test says there are."""

    def __init__(self) -> None:
        self.known: list[Member] = []

    def members(self, role: str | None = None) -> list[Member]:
        return [member for member in self.known if role in (None, member.role)]

    def suspected(self, node: NodeId) -> bool:
        return False


class Plane:
    """Client's and server's end at once. ``lose_request``/``lose_reply``: the next call's, once. A call whose answer
    is lost fails at its deadline, which is not waited for."""

    def __init__(self) -> None:
        self.book = PlaneBook()
        self.handlers: dict[type[Message], Callable[[Sender, Any], Any]] = {}
        self.lose_request = False
        self.lose_reply = False
        self.unsent = False
        self.before_arrival: Callable[[], Awaitable[None]] | None = None

    def serve(self, kind: type[Any], handler: Callable[[Sender, Any], Any]) -> None:
        self.handlers[kind] = handler

    def joined(self, generation: int, protocol: int = MESH_PROTOCOL_MAX) -> None:
        """The store, of a release that speaks the mesh's protocol up to ``protocol``."""
        address = "tcp://127.0.0.1:1"
        self.book.known = [Member("store", "st1", generation, address, protocol_max=protocol, status="ready")]

    async def call(self, node: NodeId, message: Message, *, deadline_ms: float = RPC_DEADLINE_MS) -> Message:
        if self.unsent:
            raise Unreachable("outbox full", sent=False)
        request = decode(encode(message))
        await asyncio.sleep(0)
        if self.before_arrival is not None:
            hook, self.before_arrival = self.before_arrival, None
            await hook()
        if self.lose_request:
            self.lose_request = False
            raise DeadlineExceeded("lost", sent=True)
        reply = decode(encode(await self._handle(request)))
        if self.lose_reply:
            self.lose_reply = False
            raise DeadlineExceeded("lost", sent=True)
        if isinstance(reply, Problem):
            raise Refused(reply.code, reply.detail)
        return reply

    def ask(self, node: NodeId, message: Message, *, deadline_ms: float = RPC_DEADLINE_MS) -> "asyncio.Future[Message]":
        return asyncio.ensure_future(self.call(node, message, deadline_ms=deadline_ms))

    async def _handle(self, request: Message) -> Message:
        handler = self.handlers.get(type(request))
        if handler is None:
            return Problem("unhandled")
        try:
            outcome = handler(ME, request)
            reply: Message | None = await outcome if inspect.isawaitable(outcome) else outcome
        except Refused as error:
            return Problem(error.code, error.detail)
        return reply if reply is not None else Ok()


def plane_over(store: Store, generation: int = 1) -> Plane:
    plane = Plane()
    StoreServer(plane, store, lambda: generation)
    plane.joined(generation)
    return plane


@asynccontextmanager
async def memory(_folder: Path) -> AsyncIterator[Store]:
    store = MemoryStore()
    yield store
    await store.close()


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[Store]:
    store = SqliteStore(folder / "world.sqlite")
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def couchbase(_folder: Path) -> AsyncIterator[Store]:
    """On the mock, over the wire; empty."""
    mock = shared_mock()
    mock.flush()
    store = await open_store(mock.url, mock.credentials)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def couchbase_cluster(_folder: Path) -> AsyncIterator[Store]:
    """On the real cluster that PROJECTK_TEST_COUCHBASE names; its bucket is emptied, and must allow that."""
    from acouchbase.cluster import AsyncCluster
    from couchbase.auth import PasswordAuthenticator
    from couchbase.options import ClusterOptions

    url, credentials = parse_store_url(os.environ[CLUSTER]), read_credentials()
    assert isinstance(url, CouchbaseUrl)
    cluster = AsyncCluster(url.nodes, ClusterOptions(PasswordAuthenticator(credentials.user, credentials.password)))
    await cluster.buckets().flush_bucket(url.bucket)
    await cluster.close()
    store = await open_store(url, credentials)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def client(folder: Path) -> AsyncIterator[Store]:
    async with sqlite(folder) as store:
        yield StoreClient(plane_over(store, 1))
