"""The Store protocol spoken to the store process over the command plane.

What a caller may conclude from a failure is decided here:

    reply Problem(code)                the store's own error, as it says
    no store in the book, never sent   Unavailable: certainly not applied
    sent, no reply                     reads Unavailable; writes and counters Ambiguous: read back, compare write ids
    the store restarted meanwhile      the same: a call is bound to the store's generation at its first sending, the
                                       mesh does not carry it over, and a newer store refuses it as ambiguous, so that
                                       no write applies twice and Exists or CasMismatch never means our own write
"""

from collections.abc import Mapping, Sequence
from typing import NoReturn, Protocol, TypeVar

from runtime.mesh.api import DeadlineExceeded, MeshError, Refused, Unreachable
from runtime.store.api import (
    Ambiguous,
    CasMismatch,
    Document,
    Durability,
    Exists,
    NotFound,
    StoreError,
    Temporary,
    TooLarge,
    Unavailable,
)
from runtime.store.checks import check_counter, check_key, check_keys, check_list, check_value
from world.ids import NodeId
from world.limits import STORE_CALL_MS
from world.messages import (
    Member,
    Message,
    Ok,
    StoreCas,
    StoreCounter,
    StoreDocs,
    StoreGet,
    StoreKeys,
    StoreList,
    StoreNumber,
    StoreWrite,
)

ERRORS: dict[str, type[StoreError]] = {
    error.code: error for error in (NotFound, Exists, CasMismatch, TooLarge, Temporary, Ambiguous, Unavailable)
}
_NEVER_RUN = "unhandled"  # the peer has no handler (yet)

R = TypeVar("R", bound=Message)


class Members(Protocol):
    def members(self, role: str | None = None) -> list[Member]: ...

    def suspected(self, node: NodeId) -> bool: ...


class Link(Protocol):
    """The part of a Mesh the client needs."""

    @property
    def book(self) -> Members: ...

    async def call(self, node: NodeId, message: Message, *, deadline_ms: float = ...) -> Message: ...


class StoreClient:
    """Implements runtime.store.api.Store. The mesh belongs to the service and outlives it."""

    def __init__(self, mesh: Link) -> None:
        self._mesh = mesh
        self._closed = False

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
        return await self._put("insert", key, value, 0, durability)

    async def replace(
        self, key: str, value: bytes, cas: int, *, durability: Durability = Durability.PERSIST_TO_MAJORITY
    ) -> int:
        check_key(key)
        check_value(value)
        return await self._put("replace", key, value, cas, durability)

    async def remove(self, key: str, cas: int, *, durability: Durability = Durability.PERSIST_TO_MAJORITY) -> None:
        check_key(key)
        store = self._store()
        await self._write(store, StoreWrite("remove", key, b"", cas, int(durability), store.generation), Ok)

    async def counter(self, key: str, *, delta: int = 1, initial: int = 1) -> int:
        check_counter(key, delta, initial)
        return (await self._write(self._store(), StoreCounter(key, delta, initial), StoreNumber)).value

    async def close(self) -> None:
        """Later calls raise Unavailable."""
        self._closed = True

    def _store(self) -> Member:
        """The store as the book knows it, one that answers heartbeats first. Raises Unavailable."""
        if self._closed:
            raise Unavailable("this client is closed")
        known = [member for member in self._mesh.book.members("store") if member.status != "dead"]
        if not known:
            raise Unavailable("no store is known")
        return min(known, key=lambda member: (self._mesh.book.suspected(NodeId(member.id)), member.id))

    async def _put(self, op: str, key: str, value: bytes, cas: int, durability: Durability) -> int:
        store = self._store()
        message = StoreWrite(op, key, value, cas, int(durability), store.generation)
        return (await self._write(store, message, StoreCas)).cas

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

    async def _write(self, store: Member, message: Message, expected: type[R]) -> R:
        """Raises the store's error, Unavailable where it certainly did not run, Ambiguous for all others."""
        try:
            reply = await self._mesh.call(NodeId(store.id), message, deadline_ms=STORE_CALL_MS)
        except MeshError as error:
            _raise_for_write(error)
        if not isinstance(reply, expected):
            raise Ambiguous(f"the store answered {type(reply).__name__}")
        return reply


def _raise_for_write(error: MeshError) -> NoReturn:
    if isinstance(error, Refused):
        unknown = Unavailable if error.code == _NEVER_RUN else Ambiguous
        raise ERRORS.get(error.code, unknown)(str(error)) from error
    if isinstance(error, Unreachable | DeadlineExceeded) and not error.sent:
        raise Unavailable(str(error)) from error
    raise Ambiguous(str(error)) from error
