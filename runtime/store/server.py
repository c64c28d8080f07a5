"""The store process's side of its clients' calls: messages in, Store calls, messages or refusals out."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar, cast

from runtime.mesh.api import Refused, Sender
from runtime.metrics import Distribution
from runtime.store.api import Ambiguous, Batched, Document, Durability, Store, StoreError, TooLarge, Unavailable
from runtime.store.checks import check_keys
from world.limits import STORE_BATCH_WRITES, STORE_PAGE_BYTES, STORE_PAGE_KEYS
from world.messages import (
    BatchedWrite,
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
    StoreWrites,
    StoreWritten,
)

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)  # up to STORE_BATCH_WRITES
M = TypeVar("M", bound=Message)
MessageHandler = Callable[[Sender, M], Message | None | Awaitable[Message | None]]


class Handlers(Protocol):
    """The part of a Mesh, or of a StoreListener, that the server needs."""

    def serve(self, kind: type[M], handler: MessageHandler[M]) -> None: ...


class Everywhere:
    """Each handler at several places."""

    def __init__(self, *places: Handlers) -> None:
        self._places = places

    def serve(self, kind: type[M], handler: MessageHandler[M]) -> None:
        for place in self._places:
            place.serve(kind, handler)


class StoreServer:
    """Serves ``store`` to every member of the mesh. ``generation()`` is this member's at present: writes first sent to
    another one are refused as ambiguous (0 in a write: any)."""

    def __init__(self, mesh: Handlers, store: Store, generation: Callable[[], int]) -> None:
        self.store = store
        self._batched = store if isinstance(store, Batched) else None  # a look at every method: once, not per message
        self.generation = generation
        self.calls: dict[str, int] = {}  # answered, by message type
        self.refusals: dict[str, int] = {}  # by code
        self.batches = Distribution("projectk_store_batch_writes", "Writes of one message", BATCH_BUCKETS)
        self._running = 0
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._serve(mesh, StoreGet, self._get)
        self._serve(mesh, StoreWrite, self._write)
        self._serve(mesh, StoreList, self._list)
        self._serve(mesh, StoreCounter, self._counter)
        mesh.serve(StoreWrites, self._writes)

    async def drain(self) -> None:
        """Refuse what comes from now on, answer what runs."""
        self._draining = True
        await self._idle.wait()
        await asyncio.sleep(0)  # the answers are handed to the mesh in the same turn

    def _serve(self, mesh: Handlers, kind: type[M], handle: Callable[[M], Awaitable[Message]]) -> None:
        async def answer(_sender: Sender, message: M) -> Message:
            self._begin()
            try:
                reply = await handle(message)
            except StoreError as error:
                raise self._refusal(error) from error
            finally:
                self._end()
            self._count(kind)
            return reply

        mesh.serve(kind, answer)

    def _begin(self) -> None:
        """One more runs. Raises Refused while draining."""
        if self._draining:
            raise Refused(Unavailable.code, "the store is stopping")
        self._running += 1
        self._idle.clear()

    def _end(self) -> None:
        self._running -= 1
        if not self._running:
            self._idle.set()

    def _count(self, kind: type[Message]) -> None:
        self.calls[kind.__name__] = self.calls.get(kind.__name__, 0) + 1

    def _refusal(self, error: StoreError) -> Refused:
        self.refusals[error.code] = self.refusals.get(error.code, 0) + 1
        return Refused(error.code, str(error))

    async def _get(self, message: StoreGet) -> Message:
        """As many documents as fit a page. Looked up a few at a time, so that large ones do not pile up here."""
        check_keys(message.keys)
        docs: list[tuple[str, bytes, int]] = []
        looked, size = 0, 0
        for start in range(0, len(message.keys), STORE_PAGE_KEYS):
            found = await self._look_up(message.keys[start : start + STORE_PAGE_KEYS])
            for key, document in found:
                size += len(document.value) if document is not None else 0
                if docs and size > STORE_PAGE_BYTES:
                    return StoreDocs(docs, looked)
                looked += 1
                if document is not None:
                    docs.append((key, document.value, document.cas))
        return StoreDocs(docs, looked)

    async def _look_up(self, keys: list[str]) -> list[tuple[str, Document | None]]:
        found = await self.store.get_many(keys)
        return [(key, found.get(key)) for key in keys]

    async def _write(self, message: StoreWrite) -> Message:
        self._check_generation(message.generation)
        write = BatchedWrite(message.op, message.key, message.value, message.cas, message.durability)
        token = await self._apply(write)
        return Ok() if token is None else StoreCas(token)

    def _check_generation(self, sent_to: int) -> None:
        """Raises Ambiguous."""
        if sent_to not in (0, self.generation()):
            raise Ambiguous(f"sent to generation {sent_to}, this is {self.generation()}")

    async def _apply(self, write: BatchedWrite) -> int | None:
        """The new token, None of a removal."""
        durability = Durability(min(Durability.PERSIST_TO_MAJORITY, write.durability))
        if write.op == "insert":
            return await self.store.insert(write.key, write.value, durability=durability)
        if write.op == "replace":
            return await self.store.replace(write.key, write.value, write.cas, durability=durability)
        if write.op == "remove":
            await self.store.remove(write.key, write.cas, durability=durability)
            return None
        raise TooLarge(f"no such write: {write.op}")

    def _writes(self, _sender: Sender, message: StoreWrites) -> "Message | asyncio.Future[Message]":
        """No task and no coroutine per write: the store's own future of all of them ends the call."""
        if not 0 < len(message.writes) <= STORE_BATCH_WRITES:
            raise Refused(TooLarge.code, f"{len(message.writes)} writes at once")
        self._begin()
        self.batches.saw(len(message.writes))
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        try:
            self._check_generation(message.generation)
            self._write_many(message.writes, answer)
        except StoreError as error:
            self._end()
            raise self._refusal(error) from error
        return answer

    def _write_many(self, writes: list[BatchedWrite], answer: "asyncio.Future[Message]") -> None:
        if self._batched is not None:
            self._batched.write_many(writes, partial(self._written, answer))
        else:
            outcomes = asyncio.gather(*(self._outcome(write) for write in writes))
            outcomes.add_done_callback(partial(self._gathered, answer))

    async def _outcome(self, write: BatchedWrite) -> int | None | StoreError:
        try:
            return await self._apply(write)
        except StoreError as error:
            return error

    def _gathered(self, answer: "asyncio.Future[Message]", outcomes: "asyncio.Future[list[Any]]") -> None:
        """Of a store that takes one write at a time."""
        if not outcomes.cancelled() and outcomes.exception() is None:
            self._written(answer, outcomes.result())
            return
        self._end()
        if answer.done() or outcomes.cancelled():
            answer.cancel()
        else:
            answer.set_exception(cast(BaseException, outcomes.exception()))

    def _written(self, answer: "asyncio.Future[Message]", outcomes: list[Any]) -> None:
        self._end()
        if not answer.done():  # cancelled: nobody is to be answered
            self._count(StoreWrites)
            answer.set_result(self._report(outcomes))

    def _report(self, outcomes: list[Any]) -> StoreWritten:
        """Of a whole message; failures are rare."""
        failed: list[tuple[int, str, str]] = []
        tokens = [outcome if type(outcome) is int else 0 for outcome in outcomes]
        for place, outcome in enumerate(outcomes) if 0 in tokens else ():
            if isinstance(outcome, StoreError):
                refusal = self._refusal(outcome)
                failed.append((place, refusal.code, refusal.detail[:1_024]))
        return StoreWritten(tokens, failed)

    async def _list(self, message: StoreList) -> Message:
        return StoreKeys(await self.store.list(message.kind, after=message.after, limit=message.limit))

    async def _counter(self, message: StoreCounter) -> Message:
        return StoreNumber(await self.store.counter(message.key, delta=message.delta, initial=message.initial))
