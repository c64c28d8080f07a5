"""The Store protocol: documents under compare-and-swap, the durable plane's only door.

A document is JSON bytes under a key ``{kind}:{rest}`` (at most 250 bytes) with a CAS token of up to 64 bits. Tokens of
one document rise and are never reused, also after a restart or re-insert; those of two documents are not compared.
Every implementation (SQLite behind the store process, memory, Couchbase) passes ``tests/contract``.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, Protocol, runtime_checkable

from world.message_values import BatchedWrite


class Durability(IntEnum):
    """Couchbase's levels. On SQLite every level but NONE waits for the group commit (``synchronous=FULL``);
    NONE is acknowledged once the write is accepted into the open group, and is lost if the process dies first."""

    NONE = 0
    MAJORITY = 1
    MAJORITY_AND_PERSIST_ACTIVE = 2
    PERSIST_TO_MAJORITY = 3


class Document(NamedTuple):
    value: bytes
    cas: int


class StoreError(Exception):
    """Base of all store errors; ``code`` travels on the wire."""

    code = "store"


class NotFound(StoreError):
    code = "not_found"


class Exists(StoreError):
    code = "exists"


class CasMismatch(StoreError):
    code = "cas_mismatch"


class TooLarge(StoreError):
    """A key or value beyond its bound, or a malformed key: the caller's fault, never retried."""

    code = "too_large"


class Temporary(StoreError):
    """Certainly not applied; may be tried again (queue full, disk full, locked)."""

    code = "temporary"


class Ambiguous(StoreError):
    """Perhaps applied, perhaps not: read back and compare the write id."""

    code = "ambiguous"


class Unavailable(StoreError):
    """The store could not be reached; certainly not applied."""

    code = "unavailable"


class StoreOpenError(Exception):
    """A store cannot be opened; its text is one sentence for the operator. Nothing was changed."""


class Store(Protocol):
    """All calls may raise Temporary, Unavailable; writes also Ambiguous, TooLarge. None is retried inside."""

    async def get(self, key: str) -> Document:
        """Raises NotFound."""
        ...

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, Document]:
        """Those of ``keys`` (at most STORE_MANY_KEYS) that exist."""
        ...

    async def insert(self, key: str, value: bytes, *, durability: Durability = Durability.PERSIST_TO_MAJORITY) -> int:
        """The new CAS token. Raises Exists."""
        ...

    async def replace(
        self, key: str, value: bytes, cas: int, *, durability: Durability = Durability.PERSIST_TO_MAJORITY
    ) -> int:
        """The new CAS token. Raises NotFound, CasMismatch."""
        ...

    async def remove(self, key: str, cas: int, *, durability: Durability = Durability.PERSIST_TO_MAJORITY) -> None:
        """Raises NotFound, CasMismatch."""
        ...

    async def list(self, kind: str, *, after: str = "", limit: int = 1_000) -> list[str]:
        """Keys ``{kind}:…`` greater than ``after``, in byte order, at most ``limit`` (<= STORE_LIST_KEYS)."""
        ...

    async def counter(self, key: str, *, delta: int = 1, initial: int = 1) -> int:
        """Atomic: ``initial`` where there was none, else the old value + ``delta``. Not retried blindly: a lost
        answer skips numbers, which callers must allow."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class Batched(Protocol):
    """A store that takes several writes at once, as the store process is sent them."""

    def write_many(self, writes: Sequence[BatchedWrite], answer: Callable[[list[Any]], None]) -> None:
        """``answer(outcomes)`` on the loop once all are known: for each, in order, its token, None of a removal, or
        the StoreError it failed with. At least one. Raises Unavailable, and then does not answer."""
        ...
