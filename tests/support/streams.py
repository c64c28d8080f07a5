"""The two ends of a store's stream in one process, over real sockets, with a book each and a mesh that only counts."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from runtime.mesh.book import MemberBook
from runtime.mesh.handling import Handling
from runtime.mesh.statistics import MeshStatistics
from runtime.store.link import StoreLink
from runtime.store.listener import StoreListener
from runtime.store.stream import HEAD
from tests.support.mesh import until
from world.ids import NodeId
from world.limits import RPC_DEADLINE_MS
from world.messages import Member, Message, Ok, encode

STORE, CLIENT = NodeId("st1"), NodeId("gs1")


def framed(number: int, message: Message) -> bytes:
    body = encode(message)
    return HEAD.pack(len(body), number) + body


def member(role: str, node: NodeId, generation: int, store: str = "") -> Member:
    return Member(role, node, generation, "tcp://127.0.0.1:1", status="ready", store=store)


class Side:
    """What an end needs of a mesh. ``asked``: calls that were sent by it; they are answered ``Ok``."""

    def __init__(self, me: Member) -> None:
        self.book = MemberBook(me, lambda: 0.0)
        self.asked: list[Message] = []

    @property
    def me(self) -> Member:
        return self.book.me

    def ask(self, node: NodeId, message: Message, *, deadline_ms: float = RPC_DEADLINE_MS) -> "asyncio.Future[Message]":
        self.asked.append(message)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        answer.set_result(Ok())
        return answer


@dataclass
class Ends:
    store: Side
    client: Side
    listener: StoreListener
    link: StoreLink
    port: int

    def told(self, generation: int = 1) -> None:
        """The client's book shows the store at that generation."""
        self.client.book.heard(member("store", STORE, generation, f"127.0.0.1:{self.port}"), direct=True)

    async def ask(self, message: Message, deadline_ms: float = RPC_DEADLINE_MS) -> Message:
        return await self.link.ask(STORE, message, deadline_ms=deadline_ms)

    async def linked(self) -> None:
        """Ask until a stream is open; what was asked for it went by the mesh."""
        opened = self.link.statistics.opened
        while self.link.statistics.opened == opened:
            await self.ask(Ok())
            await asyncio.sleep(0.002)

    async def until(self, condition: Callable[[], bool]) -> None:
        await until(condition)


@asynccontextmanager
async def ends(serve: Callable[[StoreListener], None] = lambda listener: None) -> AsyncIterator[Ends]:
    """Both know each other. ``serve`` puts handlers into the listener."""
    store, client = Side(member("store", STORE, 1)), Side(member("gameserver", CLIENT, 1))
    tasks: set[asyncio.Task[Any]] = set()

    def spawn(coro: Coroutine[Any, Any, Any], name: str) -> object:
        task = asyncio.get_running_loop().create_task(coro, name=name)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    listener = StoreListener(store, Handling(MeshStatistics(), spawn, lambda what, error: None))
    serve(listener)
    both = Ends(store, client, listener, StoreLink(client), await listener.open("127.0.0.1", 0))
    store.book.heard(client.me, direct=True)
    both.told()
    try:
        yield both
    finally:
        await both.link.close()
        await listener.close()
        for task in tasks:
            task.cancel()
