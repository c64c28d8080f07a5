"""Players for tests: protocol clients with what tests ask of them, on one loop of the test's own."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx

from cluster.bots.client import Client, ClientError, Outcome
from cluster.bots.land import Land
from tests.support.processes import POLL_S
from world import frames
from world.limits import BOT_MOVE_MS, WALK_SPEED_M_PER_S

T = TypeVar("T")
_STEP_S = BOT_MOVE_MS / 1_000


class Player:
    """A connected client that remembers where it saw whom, and walks. ``heard``: area events (say, gather)."""

    def __init__(self, http: httpx.AsyncClient, gateways: Sequence[str], land: Land) -> None:
        self.client = Client(http, gateways, on_binary=self._binary)
        self.land = land
        self.seen: dict[int, tuple[float, float, int]] = {}  # entity → x, y, publisher
        self.gone: set[int] = set()
        self.heard: list[dict[str, Any]] = []
        self.properties: dict[int, bytes] = {}  # entity → last JSON fields of group 0

    def _binary(self, payload: bytes) -> None:
        if payload[0] not in (frames.SLICE, frames.SNAPSHOT):
            return
        piece = frames.read_slice(payload)
        self.land.learn(piece.motion)
        for row in piece.motion:
            self.seen[int(row["entity"])] = (float(row["x"]), float(row["y"]), piece.head.publisher)
        for event in piece.events:
            self.heard.append(httpx.Response(200, content=event.body).json())
        for known in piece.properties:
            if known.group == 0:
                self.properties[known.entity] = known.fields

    async def enter(self) -> "Player":
        await self.client.guest()
        await self.client.connect()
        return self

    async def walk_to(self, x: float, y: float, near_m: float = 0.5) -> None:
        """Straight, at walking speed."""
        client = self.client
        while (left_m := math.hypot(x - client.x, y - client.y)) > near_m:
            speed = min(WALK_SPEED_M_PER_S, left_m / _STEP_S)
            vx, vy = (x - client.x) / left_m * speed, (y - client.y) / left_m * speed
            client.move(client.x, client.y, vx, vy)
            await asyncio.sleep(_STEP_S)
            client.x, client.y = client.x + vx * _STEP_S, client.y + vy * _STEP_S
        client.move(client.x, client.y, 0.0, 0.0)

    async def nearest(self, radius_m: float = 100.0) -> tuple[int, float, float]:
        """(entity, x, y) of the nearest thing that grows and can be walked to straight."""
        found = await eventually(lambda: self.reachable(radius_m), 10, "something grows nearby")
        assert found is not None
        return found

    def reachable(self, radius_m: float) -> tuple[int, float, float] | None:
        """What ``nearest`` waits for, as known now."""
        x, y = self.client.x, self.client.y
        return next((n for n in self.land.nodes(x, y, radius_m) if self.land.clear(x, y, n[1], n[2])), None)

    async def gather(self, node: tuple[int, float, float]) -> Outcome:
        """Walk there and gather once."""
        await self.walk_to(node[1], node[2], near_m=self.land.reach_m - 1.5)
        return await self.client.command("gather", target=node[0])


async def eventually(true: Callable[[], T], timeout_s: float, what: str) -> T:
    """Wait until ``true()`` is; its value. Raises AssertionError naming ``what``."""
    try:
        async with asyncio.timeout(timeout_s):
            while not (value := true()):  # noqa: ASYNC110 - what is waited for is in other processes
                await asyncio.sleep(POLL_S)
            return value
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s} s: {what}") from None


async def retried(attempt: Callable[[], Awaitable[T]], timeout_s: float) -> T:
    """Await ``attempt()`` until it succeeds; ClientErrors are tried again until the time is over."""
    deadline_s = asyncio.get_running_loop().time() + timeout_s
    while True:
        try:
            return await attempt()
        except ClientError:
            if asyncio.get_running_loop().time() > deadline_s:
                raise
            await asyncio.sleep(0.2)


@asynccontextmanager
async def players(url: str, count: int, gateways: Sequence[str] = ()) -> AsyncIterator[list[Player]]:
    """``count`` guests, spread over the gateways, attached; closed at the end."""
    async with httpx.AsyncClient() as http:
        land = await Land.fetch(http, url)
        await land.load_around(*land.spawn, 150)
        urls = list(gateways) or [url]
        made = [Player(http, urls[n % len(urls) :] + urls[: n % len(urls)], land) for n in range(count)]
        try:
            for player in made:
                await player.enter()
            yield made
        finally:
            for player in made:
                await player.client.close()


def item_of_kind(url: str) -> dict[int, str]:
    """Entity kind → the item it gives."""
    entities = httpx.get(f"{url}/v1/world").json()["entities"]
    return {entity["kind"]: entity["item"] for entity in entities if entity.get("item")}


async def come_back(url: str, refresh_token: str) -> Counter[str]:
    """The inventory that a returning player finds."""
    async with httpx.AsyncClient() as http:
        client = Client(http, [url])
        client.refresh_token = refresh_token
        await client.refresh()
        await retried(client.connect, 20)
        outcome = await client.command("inventory")
        assert outcome.ok, outcome
        await client.close()
        return Counter(outcome.value["items"])
