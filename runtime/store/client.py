"""The Store protocol spoken to the store process, over the command plane or a stream (runtime.store.link).

What a caller may conclude from a failure is decided here:

    reply Problem(code)                the store's own error, as it says
    no store in the book, never sent   Unavailable: certainly not applied
    sent, no reply                     reads Unavailable; writes and counters Ambiguous: read back, compare write ids
    the store restarted meanwhile      the same: a call is bound to the store's generation at its first sending, the
                                       mesh does not carry it over, and a newer store refuses it as ambiguous, so that
                                       no write applies twice and Exists or CasMismatch never means our own write

Writes leave in batches: see runtime.store.batching.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from runtime.mesh.api import MeshError, Refused
from runtime.store.api import Ambiguous, Document, Durability, NotFound, Unavailable
from runtime.store.batching import ERRORS, Asking, Batching, BatchStatistics, error_of_write
from runtime.store.checks import check_counter, check_key, check_keys, check_list, check_value
from world.ids import NodeId
from world.limits import STORE_CALL_MS
from world.messages import (
    BatchedWrite,
    Member,
    Message,
    StoreCounter,
    StoreDocs,
    StoreGet,
    StoreKeys,
    StoreList,
    StoreNumber,
)

R = TypeVar("R", bound=Message)


class Members(Protocol):
    def members(self, role: str | None = None) -> list[Member]: ...

    def suspected(self, node: NodeId) -> bool: ...


class Link(Asking, Protocol):
    """The part of a Mesh the client needs."""

    @property
    def book(self) -> Members: ...

    async def call(self, node: NodeId, message: Message, *, deadline_ms: float = ...) -> Message: ...


class StoreClient:
    """Implements runtime.store.api.Store. ``mesh``: the service's, which outlives this, or a StoreLink on top of it,
    which ``at_close`` closes."""

    def __init__(self, mesh: Link, at_close: Callable[[], Awaitable[None]] | None = None) -> None:
        self._mesh = mesh
        self._at_close = at_close
        self._closed = False
        self._batching = Batching(mesh, self._store)

    @property
    def statistics(self) -> BatchStatistics:
        """Of the writes."""
        return self._batching.statistics

    @property
    def unanswered_writes(self) -> int:
        return self._batching.unanswered

    async def get(self, key: str) -> Document:
        check_key(key)
        docs = (await self._read(StoreGet([key]), StoreDocs)).docs
        if not docs:
            raise NotFound(key)
        _, value, cas = docs[0]
        return Document(value, cas)

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, Document]:
        check_keys(keys)
        left, found = list(keys), dict[str, Document]()
        while left:
            page = await self._read(StoreGet(left), StoreDocs)
            if page.looked < 1:
                raise Unavailable("the store looked nothing up")
            found.update((key, Document(value, cas)) for key, value, cas in page.docs)
            left = left[page.looked :]
        return found

    async def list(self, kind: str, *, after: str = "", limit: int = 1_000) -> list[str]:
        check_list(kind, after, limit)
        return (await self._read(StoreList(kind, after, limit), StoreKeys)).keys

    async def insert(self, key: str, value: bytes, *, durability: Durability = Durability.PERSIST_TO_MAJORITY) -> int:
        check_key(key)
        check_value(value)
        return await self._batching.put(BatchedWrite("insert", key, value, 0, int(durability)))

    async def replace(
        self, key: str, value: bytes, cas: int, *, durability: Durability = Durability.PERSIST_TO_MAJORITY
    ) -> int:
        check_key(key)
        check_value(value)
        return await self._batching.put(BatchedWrite("replace", key, value, cas, int(durability)))

    async def remove(self, key: str, cas: int, *, durability: Durability = Durability.PERSIST_TO_MAJORITY) -> None:
        check_key(key)
        await self._batching.put(BatchedWrite("remove", key, b"", cas, int(durability)))

    async def counter(self, key: str, *, delta: int = 1, initial: int = 1) -> int:
        check_counter(key, delta, initial)
        message = StoreCounter(key, delta, initial)
        try:
            reply = await self._mesh.call(NodeId(self._store().id), message, deadline_ms=STORE_CALL_MS)
        except MeshError as error:
            raise error_of_write(error) from error
        if not isinstance(reply, StoreNumber):
            raise Ambiguous(f"the store answered {type(reply).__name__}")
        return reply.value

    async def close(self) -> None:
        """Later calls raise Unavailable."""
        self._closed = True
        if self._at_close is not None:
            await self._at_close()

    def _store(self) -> Member:
        """The store as the book knows it, one that answers heartbeats first. Raises Unavailable."""
        if self._closed:
            raise Unavailable("this client is closed")
        known = [member for member in self._mesh.book.members("store") if member.status != "dead"]
        if not known:
            raise Unavailable("no store is known")
        if len(known) == 1:
            return known[0]
        return min(known, key=lambda member: (self._mesh.book.suspected(NodeId(member.id)), member.id))

    async def _read(self, message: Message, expected: type[R]) -> R:
        """Raises the store's error, Unavailable for all others."""
        store = self._store()
        try:
            reply = await self._mesh.call(NodeId(store.id), message, deadline_ms=STORE_CALL_MS)
        except Refused as error:
            raise ERRORS.get(error.code, Unavailable)(str(error)) from error
        except MeshError as error:
            raise Unavailable(str(error)) from error
        if not isinstance(reply, expected):
            raise Unavailable(f"the store answered {type(reply).__name__}")
        return reply
