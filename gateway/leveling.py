"""Clients spread evenly over the gateways again, where one has far more of them than the others: after a rolling
deployment all sit on the gateway that was rolled first, and one that is added would get newcomers only.

Who has more asks a few of its clients at a time to go on elsewhere, by the message that a drain uses: they resume, and
miss nothing. A client that has come within LEVEL_STAY_MS stays, wherever it came from, so that nobody is sent to and
fro; one that was asked and is here again could not or would not go: it is left alone for LEVEL_AGAIN_MS. Nobody is
asked while this gateway drains, while any of them does, is silent, or is not ready yet, or while processes are rolled.
"""

import asyncio
from collections.abc import Sequence

from gateway.client import Client
from gateway.gateway import Gateway
from gateway.session import State
from world.balance import DEPLOYING
from world.ids import NodeId
from world.limits import (
    CLIENTS_PER_GATEWAY,
    LEVEL_AGAIN_MS,
    LEVEL_CLIENTS,
    LEVEL_LEAST_CLIENTS,
    LEVEL_MORE_PERCENTS,
    LEVEL_MS,
    LEVEL_STAY_MS,
)


def surplus(mine: int, others: Sequence[int]) -> int:
    """How many of my clients should be elsewhere: those above the average, where they are clearly more."""
    average = (mine + sum(others)) / (1 + len(others))
    more = mine - average
    return int(more) if more >= max(LEVEL_LEAST_CLIENTS, average * LEVEL_MORE_PERCENTS / 100) else 0


class Leveling:
    """One per gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._asked_ms: dict[int, float] = {}  # avatar -> when; the oldest first, at most CLIENTS_PER_GATEWAY

    async def keep(self) -> None:
        """For ever; not all gateways at once."""
        while True:
            await asyncio.sleep(LEVEL_MS / 1_000 * self._gateway.rng.uniform(0.75, 1.25))
            await self.look()

    async def look(self) -> None:
        """Ask some, and wait until they have gone: the next look counts them where they are."""
        others = self._others()
        if others is None:
            return
        asked = self._chosen(surplus(len(self._gateway), others))
        if asked:
            self._gateway.service.log.info("sending clients to other gateways", clients=len(asked), others=others)
            self._gateway.counters.leveled.inc(len(asked))
            await self._gateway.send_away(asked, LEVEL_MS / 2)

    def _others(self) -> list[int] | None:
        """The other gateways' clients; None: it is not the time."""
        gateway, book = self._gateway, self._gateway.mesh.book
        if gateway.draining or any(member.load.get(DEPLOYING) for member in book.members("supervisor")):
            return None
        others = [m for m in book.members("gateway") if m.id != gateway.node_id and m.status != "dead"]
        if any(m.status != "ready" or book.suspected(NodeId(m.id)) for m in others):
            return None
        return [clients if isinstance(clients := m.load.get("clients"), int) else 0 for m in others]

    def _chosen(self, count: int) -> list[Client]:
        now = self._gateway.clock.monotonic_ms()
        self._asked_ms = {a: at for a, at in self._asked_ms.items() if now - at < LEVEL_AGAIN_MS}
        may_go = [client for client in self._gateway.clients() if self._may_go(client, now)]
        chosen = self._gateway.rng.sample(may_go, min(count, LEVEL_CLIENTS, len(may_go)))
        for client in chosen:
            self._asked_ms[client.session.avatar] = now
        while len(self._asked_ms) > CLIENTS_PER_GATEWAY:
            del self._asked_ms[next(iter(self._asked_ms))]
        return chosen

    def _may_go(self, client: Client, now: float) -> bool:
        session = client.session
        settled = session.state is State.PLAYING and now - client.since_ms >= LEVEL_STAY_MS
        return settled and session.avatar not in self._asked_ms
