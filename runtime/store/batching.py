"""The client's writes on their way: what is asked for in one turn of the loop leaves as one message.

A call costs some 200 calls of functions at both ends, a write among others in a message only its own
encoding and a place in a list. The mesh retries the message as it does any call, by its number, and the store sees it
once; each write in it is answered for itself. Writes of durability NONE travel apart: the others' answers wait for the
disk. A store of before MESH_PROTOCOL_BATCHES is sent its writes one by one.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from runtime.mesh.api import DeadlineExceeded, MeshError, Refused, Unreachable
from runtime.store.api import (
    Ambiguous,
    CasMismatch,
    Durability,
    Exists,
    NotFound,
    StoreError,
    Temporary,
    TooLarge,
    Unavailable,
)
from world.ids import NodeId
from world.limits import (
    MESH_PROTOCOL_BATCHES,
    STORE_BATCH_BYTES,
    STORE_BATCH_WRITES,
    STORE_CALL_MS,
    STORE_CLIENT_WRITES,
)
from world.messages import BatchedWrite, Member, Message, Ok, StoreCas, StoreWrite, StoreWrites, StoreWritten

ERRORS: dict[str, type[StoreError]] = {
    error.code: error for error in (NotFound, Exists, CasMismatch, TooLarge, Temporary, Ambiguous, Unavailable)
}
_NEVER_RUN = "unhandled"  # the peer has no handler (yet)

Token = asyncio.Future[int]


class Asking(Protocol):
    """The part of a Mesh that a batch needs."""

    def ask(self, node: NodeId, message: Message, *, deadline_ms: float = ...) -> "asyncio.Future[Message]": ...


@dataclass(slots=True)
class BatchStatistics:
    """Totals since the client was made."""

    writes: int = 0
    messages: int = 0
    largest: int = 0
    refused: int = 0  # STORE_CLIENT_WRITES waited already


class _Batch:
    """Writes of one durability class, asked for in the present turn."""

    def __init__(self) -> None:
        self.writes: list[BatchedWrite] = []
        self.tokens: list[Token] = []
        self.bytes = 0

    def fits(self, size: int) -> bool:
        return not self.writes or (len(self.writes) < STORE_BATCH_WRITES and self.bytes + size <= STORE_BATCH_BYTES)


class Batching:
    """``store()`` names the store at the moment of sending, to whose generation the batch is then bound; it raises
    Unavailable where there is none."""

    def __init__(self, mesh: Asking, store: Callable[[], Member]) -> None:
        self._mesh, self._store = mesh, store
        self.statistics = BatchStatistics()
        self.unanswered = 0
        self._early, self._synced = _Batch(), _Batch()
        self._scheduled = False

    def put(self, write: BatchedWrite) -> Token:
        """The future of its token (0 for a removal). Ends as the Store protocol says. Raises Unavailable when full."""
        if self.unanswered >= STORE_CLIENT_WRITES:
            self.statistics.refused += 1
            raise Unavailable("too many writes in flight")
        loop = asyncio.get_running_loop()
        batch = self._synced if write.durability != Durability.NONE else self._early
        size = len(write.key) + len(write.value)
        if not batch.fits(size):
            batch = self._leave(batch)
        token: Token = loop.create_future()
        batch.writes.append(write)
        batch.tokens.append(token)
        batch.bytes += size
        self.unanswered += 1
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._leave_all)
        return token

    def _leave_all(self) -> None:
        self._scheduled = False
        for batch in (self._synced, self._early):
            if batch.writes:
                self._leave(batch)

    def _leave(self, batch: _Batch) -> _Batch:
        """Send it; the empty one that takes its place."""
        following = _Batch()
        if batch is self._early:
            self._early = following
        else:
            self._synced = following
        try:
            store = self._store()
        except Unavailable as error:
            self._fail(batch.tokens, error)
            return following
        self.statistics.writes += len(batch.writes)
        if store.protocol_max >= MESH_PROTOCOL_BATCHES:
            self._send(store, StoreWrites(store.generation, batch.writes), batch.tokens)
        else:
            for write, token in zip(batch.writes, batch.tokens, strict=True):
                single = StoreWrite(write.op, write.key, write.value, write.cas, write.durability, store.generation)
                self._send(store, single, [token])
        return following

    def _send(self, store: Member, message: StoreWrites | StoreWrite, tokens: list[Token]) -> None:
        self.statistics.messages += 1
        self.statistics.largest = max(self.statistics.largest, len(tokens))
        try:
            answer = self._mesh.ask(NodeId(store.id), message, deadline_ms=STORE_CALL_MS)
        except MeshError as error:
            self._fail(tokens, error_of_write(error))
        else:
            answer.add_done_callback(partial(self._answered, tokens))

    def _answered(self, tokens: list[Token], answer: "asyncio.Future[Message]") -> None:
        if answer.cancelled():
            self._fail(tokens, Ambiguous("given up"))
            return
        error = answer.exception()
        if error is not None:
            self._fail(tokens, error_of_write(error))
            return
        reply = answer.result()
        if isinstance(reply, StoreWritten) and len(reply.tokens) == len(tokens):
            self._deal(tokens, reply)
        elif isinstance(reply, StoreCas | Ok) and len(tokens) == 1:
            self._deal(tokens, StoreWritten([reply.cas if isinstance(reply, StoreCas) else 0]))
        else:
            self._fail(tokens, Ambiguous(f"the store answered {type(reply).__name__}"))

    def _deal(self, tokens: list[Token], reply: StoreWritten) -> None:
        self.unanswered -= len(tokens)
        for place, code, detail in reply.failed:
            if place < len(tokens) and not tokens[place].done():
                tokens[place].set_exception(ERRORS.get(code, Ambiguous)(detail))
        for token, cas in zip(tokens, reply.tokens, strict=True):
            if not token.done():  # failed, or its caller was cancelled
                token.set_result(cas)

    def _fail(self, tokens: list[Token], error: StoreError) -> None:
        self.unanswered -= len(tokens)
        for token in tokens:
            if not token.done():
                token.set_exception(type(error)(*error.args))


def error_of_write(error: BaseException) -> StoreError:
    """What a write's caller may conclude: Unavailable where it certainly did not run, Ambiguous for all others."""
    if isinstance(error, Refused):
        unknown = Unavailable if error.code == _NEVER_RUN else Ambiguous
        return ERRORS.get(error.code, unknown)(str(error))
    if isinstance(error, Unreachable | DeadlineExceeded) and not error.sent:
        return Unavailable(str(error))
    return Ambiguous(str(error))
