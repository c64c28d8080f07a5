"""The simulated network: its faults happen, the mesh masks what it promises to mask, and runs repeat."""

import asyncio
import random
from dataclasses import asdict
from typing import Any, cast

import pytest

from runtime.mesh.api import DeadlineExceeded, Sender
from runtime.mesh.fake import FakeNetwork, Faults
from runtime.mesh.node import MeshNode
from tests.support.mesh import FakeBackend, run_fake, until
from tests.support.virtual import PROCESS, Deadlock, VirtualLoop, run_virtual
from world.ids import NodeId
from world.limits import LOOP_PAUSE_MS, PUBLISHER_RECONNECT_MS, SUSPECT_AFTER_MS
from world.messages import Awake, Detach, Interest, Message

GS1, GS2, GW1 = NodeId("gs1"), NodeId("gs2"), NodeId("gw1")
TOPIC = b"PKcell\x00\x07"
ROUGH = Faults(delay_ms=(1, 80), call_loss=0.25, call_duplicate=0.25, one_way_loss=0.1, reorder=0.1)


async def _rough_calls(network: FakeNetwork) -> list[Any]:
    a = await network.mesh("gameserver", "gs1", 1)
    b = await network.mesh("gateway", "gw1")
    seen: list[int] = []

    async def serve(sender: Sender, message: Interest) -> Message:
        seen.append(message.epoch)
        await asyncio.sleep(network.rng.uniform(0, 0.5))
        return Awake(message.epoch)

    a.serve(Interest, serve)
    calls = (b.call(GS1, Interest("x", n), deadline_ms=60_000) for n in range(100))
    assert await asyncio.gather(*calls) == [Awake(n) for n in range(100)]
    await asyncio.sleep(10)
    assert sorted(seen) == list(range(100)), "once each"
    assert b.statistics.retries > 20
    assert network.statistics.lost > 20
    assert network.statistics.duplicated > 20
    return [seen, asdict(network.statistics), asdict(a.statistics)]


@pytest.mark.parametrize("seed", range(5))
def test_lost_and_doubled_attempts_are_masked_and_runs_repeat(seed: int) -> None:
    async def body() -> list[Any]:
        async with FakeNetwork(random.Random(seed), faults=Faults(**asdict(ROUGH))) as network:
            return await _rough_calls(network)

    assert run_virtual(body(), seed) == run_virtual(body(), seed)


def test_a_partition_cuts_one_way_and_kills_nobody() -> None:
    async def scenario(backend: FakeBackend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        b = await backend.mesh("gameserver", "gs2", 1)
        c = await backend.mesh("gateway", "gw1")
        await until(lambda: len(c.book.members()) == 3)
        seen: list[int] = []
        b.serve(Interest, lambda sender, message: seen.append(message.epoch))
        backend.network.partition("gs2", "gs1")
        with pytest.raises(DeadlineExceeded) as caught:
            await a.call(GS2, Interest("x", 1))
        assert caught.value.sent
        assert seen == [1], "it got through, only the answer did not"
        await until(lambda: a.book.suspected(GS2), within_ms=2 * SUSPECT_AFTER_MS)
        assert not b.book.suspected(GS1)
        assert not c.book.suspected(GS2)
        await c.call(GS2, Interest("x", 2))
        backend.network.heal()
        await a.call(GS2, Interest("x", 3))
        assert seen == [1, 2, 3]

    run_fake(scenario)


def test_frames_and_subscriptions_get_lost() -> None:
    async def scenario(backend: FakeBackend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        b = await backend.mesh("gateway", "gw1")
        heard: list[bytes] = []
        b.on_frame(lambda publisher, topic, body: heard.append(body))
        backend.network.faults.subscription_loss = 1.0
        b.subscribe(GS1, TOPIC)
        await asyncio.sleep(PUBLISHER_RECONNECT_MS / 1_000)
        assert a.listeners(TOPIC) == 0
        assert backend.network.statistics.subscriptions_lost == 1
        backend.network.faults.subscription_loss = 0.0
        b.reconnect(GS1)
        await until(lambda: a.listeners(TOPIC) == 1)
        backend.network.faults.frame_loss = 0.5
        for n in range(100):
            a.publish(TOPIC, bytes([n]))
        await asyncio.sleep(1)
        assert 20 < len(heard) < 80
        assert heard == sorted(heard), "the rest keeps its order"
        backend.network.faults.frame_loss = 0.0
        backend.network.faults.state_hwm_frames = 10
        heard.clear()
        for n in range(100):
            a.publish(TOPIC, bytes([n]))
        await asyncio.sleep(1)
        assert heard == [bytes([n]) for n in range(10)], "the newest are dropped"
        assert backend.network.statistics.frames_dropped == 90

    run_fake(scenario)


def test_what_was_under_way_to_a_crashed_member_is_gone() -> None:
    async def scenario(backend: FakeBackend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        b = await backend.mesh("gateway", "gw1")
        await until(lambda: len(a.book.members()) == 2)
        seen: list[int] = []
        a.serve(Detach, lambda sender, message: seen.append(message.avatar))
        b.send(GS1, Detach(1, 0, 0))
        backend.network.crash("gs1")
        again = await backend.mesh("gameserver", "gs1", 2)
        again.serve(Detach, lambda sender, message: seen.append(message.avatar))
        await until(lambda: b.book.highest_generation(GS1) == 2)
        b.send(GS1, Detach(2, 0, 0))
        await asyncio.sleep(5)
        assert seen == [2]
        assert not again.book.suspected(GW1)

    run_fake(scenario)


def test_a_slow_peer_fills_its_queue_then_refuses_and_recovers() -> None:
    async def scenario(backend: FakeBackend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        b = await backend.mesh("gateway", "gw1")
        await until(lambda: len(a.book.members()) == 2)
        seen: list[int] = []
        a.serve(Detach, lambda sender, message: seen.append(message.avatar))
        backend.network.faults.command_hwm_messages = 10
        for n in range(50):
            assert b.send(GS1, Detach(n, 0, 0))
        assert b.outbox_depths()["gs1"] >= 35
        await until(lambda: len(seen) == 50)
        assert seen == list(range(50))
        assert b.outbox_depths()["gs1"] == 0

    run_fake(scenario)


def test_virtual_time_costs_nothing_and_reports_deadlocks() -> None:
    async def sleeper() -> float:
        loop = asyncio.get_running_loop()
        start = loop.time()
        await asyncio.sleep(3_600)
        return loop.time() - start

    async def stuck() -> None:
        await asyncio.Event().wait()

    async def thread() -> None:
        await asyncio.to_thread(print)

    assert run_virtual(sleeper()) == pytest.approx(3_600)
    with pytest.raises(Deadlock):
        run_virtual(stuck())
    with pytest.raises(RuntimeError, match="no threads"):
        run_virtual(thread())


def test_the_seed_orders_what_is_ready() -> None:
    async def order() -> list[int]:
        done: list[int] = []

        async def work(n: int) -> None:
            await asyncio.sleep(0)
            done.append(n)

        await asyncio.gather(*(work(n) for n in range(10)))
        return done

    assert run_virtual(order(), 1) == run_virtual(order(), 1) != run_virtual(order(), 2)
    assert run_virtual(order(), None) == list(range(10))


def test_a_member_that_stands_still_hears_it_all_when_it_goes_on_and_knows_that_it_stood_still() -> None:
    async def scenario(backend: FakeBackend) -> None:
        loop = cast(VirtualLoop, asyncio.get_running_loop())
        a = await backend.mesh("gateway", "gw1")

        async def member() -> MeshNode:
            PROCESS.set("gs1")
            return await backend.mesh("gameserver", "gs1", 1, by=a)

        b = await asyncio.create_task(member())
        seen, pauses = list[int](), list[float]()
        b.serve(Detach, lambda sender, message: seen.append(message.connection))
        b.on_pause(pauses.append)
        await until(lambda: len(a.book.members()) == 2)
        loop.freeze("gs1")
        for n in range(3):
            assert a.send(GS1, Detach(avatar=1, session=1, connection=n))
        await asyncio.sleep((SUSPECT_AFTER_MS + LOOP_PAUSE_MS) / 1_000)
        assert (seen, pauses) == ([], [])
        assert a.book.suspected(GS1)
        loop.thaw("gs1")
        await until(lambda: seen == [0, 1, 2] and not a.book.suspected(GS1))
        assert len(pauses) == 1

    run_fake(scenario)


def test_a_joiner_that_could_measure_nobody_takes_the_clusters_time_when_it_can() -> None:
    """Its own wall clock is an hour off: slewed in, that would be wrong for a day."""

    async def scenario(backend: FakeBackend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        backend.network.faults.one_way_loss = 1.0  # heartbeats; the book comes all the same
        backend.network.faults.delay_ms = (1, 2)
        b = await backend.mesh("gameserver", "gs2", 1, by=a, offset_ms=3_600_000)
        assert b.clock.world_ms() - a.clock.world_ms() > 3_000_000
        backend.network.faults.one_way_loss = 0.0
        await until(lambda: abs(b.clock.world_ms() - a.clock.world_ms()) < 50)
        assert a.clock.world_ms() < 3_000_000

    run_fake(scenario)
