"""The store process's side of the command plane: messages in, Store calls, messages or refusals out."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from runtime.mesh.api import Refused, Sender
from runtime.store.api import Ambiguous, Document, Durability, Store, StoreError, TooLarge, Unavailable
from runtime.store.checks import check_keys
from world.limits import STORE_PAGE_BYTES, STORE_PAGE_KEYS
from world.messages import (
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

M = TypeVar("M", bound=Message)
MessageHandler = Callable[[Sender, M], Message | None | Awaitable[Message | None]]


class Handlers(Protocol):
    """The part of a Mesh the server needs."""

    def serve(self, kind: type[M], handler: MessageHandler[M]) -> None: ...


class StoreServer:
    """Serves ``store`` to every member of the mesh. ``generation()`` is this member's at present: writes first sent to
    another one are refused as ambiguous (0 in a write: any)."""

    def __init__(self, mesh: Handlers, store: Store, generation: Callable[[], int]) -> None:
        self.store = store
        self.generation = generation
        self.calls: dict[str, int] = {}  # answered, by message type
        self.refusals: dict[str, int] = {}  # by code
        self._running = 0
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._serve(mesh, StoreGet, self._get)
        self._serve(mesh, StoreWrite, self._write)
        self._serve(mesh, StoreList, self._list)
        self._serve(mesh, StoreCounter, self._counter)

    async def drain(self) -> None:
        """Refuse what comes from now on, answer what runs."""
        self._draining = True
        await self._idle.wait()
        await asyncio.sleep(0)  # the answers are handed to the mesh in the same turn

    def _serve(self, mesh: Handlers, kind: type[M], handle: Callable[[M], Awaitable[Message]]) -> None:
        async def answer(_sender: Sender, message: M) -> Message:
            if self._draining:
                raise Refused(Unavailable.code, "the store is stopping")
            self._running += 1
            self._idle.clear()
            try:
                reply = await handle(message)
            except StoreError as error:
                self.refusals[error.code] = self.refusals.get(error.code, 0) + 1
                raise Refused(error.code, str(error)) from error
            finally:
                self._running -= 1
                if not self._running:
                    self._idle.set()
            self.calls[kind.__name__] = self.calls.get(kind.__name__, 0) + 1
            return reply

        mesh.serve(kind, answer)

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
        if message.generation not in (0, self.generation()):
            raise Ambiguous(f"sent to generation {message.generation}, this is {self.generation()}")
        level = min(Durability.PERSIST_TO_MAJORITY, max(Durability.NONE, message.durability))
        durability = Durability(level)
        if message.op == "insert":
            return StoreCas(await self.store.insert(message.key, message.value, durability=durability))
        if message.op == "replace":
            return StoreCas(await self.store.replace(message.key, message.value, message.cas, durability=durability))
        if message.op == "remove":
            await self.store.remove(message.key, message.cas, durability=durability)
            return Ok()
        raise TooLarge(f"no such write: {message.op}")

    async def _list(self, message: StoreList) -> Message:
        return StoreKeys(await self.store.list(message.kind, after=message.after, limit=message.limit))

    async def _counter(self, message: StoreCounter) -> Message:
        return StoreNumber(await self.store.counter(message.key, delta=message.delta, initial=message.initial))
