"""Faults on their way: the plan's strikes while players act, then none."""

import asyncio
import random

from tests.simulation.cluster import SimCluster
from tests.simulation.plan import Strike
from tests.simulation.player import Player


class Nemesis:
    """``strike`` in time order; ``relent`` ends everything."""

    def __init__(self, cluster: SimCluster, players: list[Player]) -> None:
        self._cluster = cluster
        self._players = players
        self._rng = random.Random(f"nemesis {cluster.plan.seed}")
        self._hung: set[str] = set()

    def begin(self) -> None:
        """Random faults are on from now, as the plan says."""
        plan, network = self._cluster.plan, self._cluster.network
        network.faults = plan.network
        for node in self._cluster.nodes.values():
            rng = random.Random(f"faults {node.name} {plan.seed}")
            node.store.faults = plan.store_faults(rng)

    async def strike(self) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        async with asyncio.TaskGroup() as group:
            for strike in self._cluster.plan.strikes:
                await asyncio.sleep(max(0.0, began_s + strike.at_s - loop.time()))
                self._cluster.trace.note("nemesis", f"{strike.kind} {strike.target} for {strike.lasts_s:.2f} s")
                group.create_task(getattr(self, f"_{strike.kind}")(strike))
            await asyncio.sleep(max(0.0, began_s + self._cluster.plan.active_s - loop.time()))

    async def _drop(self, strike: Strike) -> None:
        self._players[int(strike.target)].client.drop()

    async def _stall(self, strike: Strike) -> None:
        link = self._players[int(strike.target)].client.link
        if link is not None:
            link.stall(strike.lasts_s)

    async def _crash(self, strike: Strike) -> None:
        self._cluster.crash(strike.target, strike.lasts_s)

    async def _ambush(self, strike: Strike) -> None:
        """At the worst moment: items have just left one unit for another; the owner of either is struck."""
        cluster = self._cluster
        sprung: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
        cluster.watch.ambushes.append(sprung)
        done, _ = await asyncio.wait([sprung], timeout=max(0.1, cluster.plan.active_s - strike.at_s))
        if not done:
            return
        await asyncio.sleep(self._rng.choice((0.005, 0.05, 0.2)) * self._rng.random())
        giver, receiver = sprung.result()
        head = cluster.watch.heads.get(giver if self._rng.random() < 0.3 else receiver)
        if head is not None and head.owner:
            await getattr(self, f"_{strike.target}")(strike._replace(target=head.owner))

    async def _zombie(self, strike: Strike) -> None:
        """A process that hangs: nobody hears of it and the store answers it nothing; then it all goes on, and what it
        had sent to the store is applied late."""
        cluster, node = self._cluster, self._cluster.nodes[strike.target]
        if not node.up:
            return
        node.excused = True
        node.store.pause()
        self._hung.add(node.name)
        cluster.network.isolate(node.name)
        await asyncio.sleep(strike.lasts_s)
        node.store.resume()
        self._hung.discard(node.name)
        await self._heal(node.name)

    async def _heal(self, name: str) -> None:
        network = self._cluster.network
        for other in self._cluster.nodes:
            network.heal(name, other)
            network.heal(other, name)

    async def _partition(self, strike: Strike) -> None:
        """One way."""
        source, target = strike.target.split(">")
        self._cluster.network.partition(source, target)
        await asyncio.sleep(strike.lasts_s)
        if not {source, target} & self._hung:
            self._cluster.network.heal(source, target)

    async def _store_away(self, strike: Strike) -> None:
        now = asyncio.get_running_loop().time()
        for node in self._cluster.nodes.values():
            assert node.store.faults is not None
            node.store.faults.unavailable.append((now, now + strike.lasts_s))

    def relent(self) -> None:
        """No more faults; delays stay."""
        network = self._cluster.network
        network.heal()
        faults = network.faults
        faults.call_loss = faults.call_duplicate = faults.one_way_loss = faults.reorder = 0.0
        faults.frame_loss = faults.subscription_loss = 0.0
        for node in self._cluster.nodes.values():
            store = node.store.faults
            assert store is not None
            store.temporary = store.lost = store.applied = store.late = 0.0
            store.unavailable.clear()
            node.store.resume()
