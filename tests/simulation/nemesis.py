"""Faults on their way: the plan's strikes while players act, then none."""

import asyncio
import random

from tests.simulation.cluster import SimCluster
from tests.simulation.plan import Strike
from tests.simulation.player import Player
from world.ids import avatar_unit, region_unit
from world.limits import REGION_M
from world.transaction_document import Intent


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

    async def _trade_ambush(self, strike: Strike) -> None:
        """The creator of a transaction, or the owner of one of its units, at that stage of it."""
        cluster, rng = self._cluster, self._rng
        sprung: asyncio.Future[Intent] = asyncio.get_running_loop().create_future()
        cluster.watch.trades.ambushes[strike.to].append(sprung)
        done, _ = await asyncio.wait([sprung], timeout=max(0.1, cluster.plan.active_s - strike.at_s))
        if not done:
            return
        await asyncio.sleep(rng.choice((0.0, 0.002, 0.05)) * rng.random())
        intent = sprung.result()
        heads = [cluster.watch.heads[unit].owner for unit in intent.parts]
        victim = rng.choice([name for name in (intent.creator, *heads) if name])
        await getattr(self, f"_{strike.target}")(strike._replace(target=victim))

    async def _zombie(self, strike: Strike) -> None:
        """SIGSTOP and SIGCONT: it stands still, and wakes up with the past in its hands."""
        cluster = self._cluster
        if cluster.freeze(strike.target):
            await asyncio.sleep(strike.lasts_s)
            cluster.thaw(strike.target)

    async def _drain(self, strike: Strike) -> None:
        self._cluster.drain(strike.target, strike.lasts_s)

    async def _hand_off(self, strike: Strike) -> None:
        """An operator moves an avatar, or the land under it."""
        await self._cluster.hand_off(self._unit_of(strike), strike.to)

    def _unit_of(self, strike: Strike) -> str:
        kind, _, index = strike.target.partition(" ")
        client = self._players[int(index)].client
        if kind == "avatar":
            return avatar_unit(client.avatar)
        return region_unit(int(client.x // REGION_M), int(client.y // REGION_M))

    async def _hand_off_ambush(self, strike: Strike) -> None:
        """Either side is struck while a unit is on its way, or just as the new owner's commit lands."""
        cluster, rng = self._cluster, self._rng
        unit = self._unit_of(strike)
        head = cluster.watch.heads.get(unit)
        sides = [head.owner if head is not None else "", strike.to]
        landed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        cluster.watch.moves[unit].append(landed)
        async with asyncio.TaskGroup() as group:
            group.create_task(cluster.hand_off(unit, strike.to))
            if rng.random() < 0.5:
                await asyncio.wait([landed], timeout=2.0)
                await asyncio.sleep(rng.choice((0.0, 0.0, 0.02, 0.2)) * rng.random())
            else:
                await asyncio.sleep(rng.random() * rng.choice((0.05, 0.5)))
            victim = rng.choice([side for side in sides if side])
            kind = rng.choice(("crash", "crash", "zombie", "cut_off"))
            await getattr(self, f"_{kind}")(strike._replace(kind=kind, target=victim))

    async def _replace(self, strike: Strike) -> None:
        """The same account comes in at a second place."""
        await self._players[int(strike.target)].replace()

    async def _cut_off(self, strike: Strike) -> None:
        """A process that goes on alone: nobody hears of it and the store answers it nothing; then it all comes back,
        and what it had sent to the store is applied late."""
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
            if strike.target in ("", node.name):
                node.excused |= strike.target == node.name  # unheard at the same time, it is rightly declared dead
                assert node.store.faults is not None
                node.store.faults.unavailable.append((now, now + strike.lasts_s))
        await asyncio.sleep(strike.lasts_s)

    def relent(self) -> None:
        """No more faults; delays stay."""
        network = self._cluster.network
        network.heal()
        for name in self._cluster.nodes:
            self._cluster.thaw(name)
        faults = network.faults
        faults.call_loss = faults.call_duplicate = faults.one_way_loss = faults.reorder = 0.0
        faults.frame_loss = faults.subscription_loss = 0.0
        for node in self._cluster.nodes.values():
            store = node.store.faults
            assert store is not None
            store.temporary = store.lost = store.applied = store.late = 0.0
            store.unavailable.clear()
            node.store.resume()
