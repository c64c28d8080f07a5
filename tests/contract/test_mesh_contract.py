"""What every mesh promises, whatever carries it: one suite for ZeroMQ and for the simulated network."""

import asyncio
from collections.abc import Callable

import pytest

from runtime.mesh.api import DeadlineExceeded, Refused, Sender, Unreachable
from runtime.mesh.node import MeshNode
from tests.support.mesh import Backend, Scenario, run_fake, run_zmq, until
from world.ids import NodeId
from world.limits import COMMAND_MESSAGE_BYTES, LOOP_PAUSE_MS, RPC_RETRY_MS, SUSPECT_AFTER_MS
from world.messages import Awake, CellSnapshot, Detach, Interest, Message, Ok, StoreGet, StoreKeys

GS1, GS2, GW1 = NodeId("gs1"), NodeId("gs2"), NodeId("gw1")
TOPIC = b"PKcell\x00\x07"
OTHER = b"PKcell\x00\x08"

World = Callable[[Scenario], None]


@pytest.fixture(params=[run_zmq, run_fake], ids=["zmq", "fake"])
def world(request: pytest.FixtureRequest) -> World:
    run: World = request.param
    return run


def ids(mesh: MeshNode) -> list[str]:
    return [m.id for m in mesh.book.members()]


def echo(sender: Sender, message: Interest) -> Message:
    return Awake(message.epoch)


# -- membership ------------------------------------------------------------------------------------------------------


def test_who_knows_any_one_member_meets_all(world: World) -> None:
    async def scenario(backend: Backend) -> None:
        a = await backend.mesh("gameserver", "gs1", 7)
        b = await backend.mesh("gameserver", "gs2", 3, by=a)
        c = await backend.mesh("gateway", "gw1", by=a)
        d = await backend.mesh("gateway", "gw2", by=b)
        await until(lambda: all(ids(m) == ["gs1", "gs2", "gw1", "gw2"] for m in (a, b, c, d)))
        assert c.book.highest_generation(GS1) == 7
        assert [m.id for m in d.book.members("gateway")] == ["gw1", "gw2"]
        await until(lambda: c.book.round_trip_ms(GS1) > 0)
        assert not c.book.suspected(GS1)

    world(scenario)


def test_joiners_by_different_members_meet_without_a_broker(world: World) -> None:
    async def scenario(backend: Backend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        b = await backend.mesh("gameserver", "gs2", 1, by=a)
        joiners = await asyncio.gather(*(backend.mesh("gateway", f"gw{n}", by=(a, b)[n % 2]) for n in range(6)))
        await until(lambda: all(len(m.book.members()) == 8 for m in (a, b, *joiners)))

    world(scenario)


def test_a_change_of_status_is_told_at_once(world: World) -> None:
    async def scenario(backend: Backend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        b = await backend.mesh("gateway", "gw1")
        await until(lambda: not a.book.suspected(GW1) and b.book.round_trip_ms(GS1) > 0)
        b.update_me(status="ready", load={"clients": 3})
        await until(lambda: a.book.members("gateway")[0].status == "ready", within_ms=300)
        assert a.book.members("gateway")[0].load == {"clients": 3}
        with pytest.raises(TypeError):
            b.update_me(generation=9)

    world(scenario)


def test_a_killed_member_is_suspected_and_a_stopped_one_leaves(world: World) -> None:
    async def scenario(backend: Backend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        b = await backend.mesh("gateway", "gw1")
        c = await backend.mesh("gateway", "gw2")
        await until(lambda: len(ids(a)) == 3)
        left: list[tuple[str, int]] = []
        a.book.on_dead(lambda node, generation: left.append((node, generation)))
        await c.close()
        await until(lambda: left == [("gw2", 1)], within_ms=300)
        assert ids(a) == ["gs1", "gw1"]
        await backend.kill(b)
        await until(lambda: a.book.suspected(GW1), within_ms=2 * SUSPECT_AFTER_MS)
        assert left == [("gw2", 1)], "suspicion is not death"
        assert ids(a) == ["gs1", "gw1"]

    world(scenario)


def test_a_restarted_process_replaces_the_old_one(world: World) -> None:
    async def scenario(backend: Backend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        old = await backend.mesh("gateway", "gw1")
        await until(lambda: len(ids(a)) == 2)
        dead: list[tuple[str, int]] = []
        a.book.on_dead(lambda node, generation: dead.append((node, generation)))
        await backend.kill(old)
        new = await backend.mesh("gateway", "gw1", by=a)
        assert new.me.generation == 2, "one above what the book shows"
        await until(lambda: a.book.highest_generation(GW1) == 2)
        assert dead == [("gw1", 1)]
        new.serve(Interest, echo)
        assert await a.call(GW1, Interest("region:0,0", 5)) == Awake(5)

    world(scenario)


def test_a_generation_taken_blindly_is_raised(world: World) -> None:
    async def scenario(backend: Backend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        old = await backend.mesh("broker", "br1", 4)
        await until(lambda: len(ids(a)) == 2)
        await backend.kill(old)
        new = await backend.mesh("broker", "br1", 4, by=a)  # as one that could ask nobody
        await until(lambda: new.me.generation == 5 and a.book.highest_generation(NodeId("br1")) == 5)
        new.serve(Interest, echo)
        assert await a.call(NodeId("br1"), Interest("x", 1)) == Awake(1)

    world(scenario)


# -- verdicts --------------------------------------------------------------------------------------------------------


def test_a_death_verdict_silences_a_game_server_everywhere(world: World) -> None:
    async def scenario(backend: Backend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        b = await backend.mesh("gameserver", "gs2", 6)
        c = await backend.mesh("gateway", "gw1")
        await until(lambda: all(len(ids(m)) == 3 for m in (a, b, c)))
        served: list[int] = []
        c.serve(Interest, lambda sender, message: served.append(message.epoch))
        told: list[int] = []
        b.book.on_self_dead(told.append)
        a.book.declare_dead(GS2, 6)
        await until(lambda: c.book.is_dead(GS2, 6) and bool(told))
        assert told[0] == 6
        assert c.book.members("gameserver") == [a.me]
        with pytest.raises(DeadlineExceeded):
            await b.call(GW1, Interest("x", 1), deadline_ms=RPC_RETRY_MS)
        with pytest.raises(Unreachable) as caught:
            await c.call(GS2, Interest("x", 1))
        assert not caught.value.sent
        assert served == []
        assert c.statistics.of_dead > 0

    world(scenario)


def test_another_role_declared_dead_comes_back_above(world: World) -> None:
    async def scenario(backend: Backend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        b = await backend.mesh("gateway", "gw1")
        await until(lambda: len(ids(a)) == 2)
        a.serve(Interest, echo)
        a.book.declare_dead(GW1, 1)
        await until(lambda: b.me.generation == 2 and a.book.highest_generation(GW1) == 2)
        assert await b.call(GS1, Interest("x", 3)) == Awake(3)

    world(scenario)


# -- calls -----------------------------------------------------------------------------------------------------------


def test_calls_answer_refuse_and_fail(world: World) -> None:
    async def scenario(backend: Backend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        b = await backend.mesh("gateway", "gw1")

        async def slow(sender: Sender, message: StoreGet) -> Message:
            await asyncio.sleep(0.01)
            return StoreKeys([f"{sender.node}/{sender.generation}", *message.keys])

        def refuse(sender: Sender, message: Interest) -> Message:
            if message.epoch:
                raise Refused("too_far", "12 m")
            raise KeyError(message.unit)

        a.serve(StoreGet, slow)
        a.serve(Interest, refuse)
        a.serve(Detach, lambda sender, message: None)
        assert await b.call(GS1, StoreGet(["x"])) == StoreKeys(["gw1/1", "x"])
        assert await b.call(GS1, Detach(1, 2, 3)) == Ok()
        with pytest.raises(Refused, match="too_far: 12 m"):
            await b.call(GS1, Interest("x", 1))
        with pytest.raises(Refused, match="internal"):
            await b.call(GS1, Interest("x", 0))
        with pytest.raises(Refused, match="unhandled"):
            await b.call(GS1, Awake(1))
        assert a.statistics.handler_errors == 1
        with pytest.raises(Unreachable):
            await b.call(GS2, Interest("x", 1))
        assert await a.call(GS1, StoreGet([])) == StoreKeys(["gs1/1"]), "I may call myself"

    world(scenario)


def test_messages_beyond_the_bound_are_refused(world: World) -> None:
    async def scenario(backend: Backend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        b = await backend.mesh("gateway", "gw1")
        await until(lambda: len(ids(a)) == 2)
        a.serve(StoreGet, lambda sender, message: CellSnapshot(0, 0, 0, bytes(COMMAND_MESSAGE_BYTES)))
        with pytest.raises(Refused, match="reply_too_big"):
            await b.call(GS1, StoreGet([]))
        with pytest.raises(Refused, match="too_big"):
            await b.call(GS1, CellSnapshot(0, 0, 0, bytes(COMMAND_MESSAGE_BYTES)))
        assert not b.send(GS1, CellSnapshot(0, 0, 0, bytes(COMMAND_MESSAGE_BYTES)))

    world(scenario)


def test_a_closed_mesh_says_nothing_and_fails_its_calls(world: World) -> None:
    async def scenario(backend: Backend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        b = await backend.mesh("gateway", "gw1")
        b.subscribe(GS1, TOPIC)
        await until(lambda: a.listeners(TOPIC) == 1)

        async def never(sender: Sender, message: Interest) -> Message:
            await asyncio.sleep(3_600)
            return Ok()

        b.serve(Interest, never)
        call = asyncio.ensure_future(a.call(GW1, Interest("x", 1)))
        await asyncio.sleep(0.05)
        await a.close()
        with pytest.raises(Unreachable) as caught:
            await call
        assert caught.value.sent
        assert not a.publish(TOPIC, b"x")
        assert not a.send(GW1, Detach(1, 0, 0))
        a.subscribe(GW1, TOPIC)
        with pytest.raises(Unreachable):
            await a.call(GW1, Interest("x", 1))
        await a.close()

    world(scenario)


def test_a_slow_handler_sees_a_call_once(world: World) -> None:
    async def scenario(backend: Backend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        b = await backend.mesh("gateway", "gw1")
        seen: list[int] = []

        async def slow(sender: Sender, message: Interest) -> Message:
            seen.append(message.epoch)
            await until(lambda: a.statistics.repeated >= 40)  # twice each
            return Awake(message.epoch)

        a.serve(Interest, slow)
        replies = await asyncio.gather(*(b.call(GS1, Interest("x", n)) for n in range(20)))
        assert replies == [Awake(n) for n in range(20)]
        assert sorted(seen) == list(range(20))
        assert b.statistics.retries >= 40
        await until(lambda: a.replies_remembered == 0)  # the next heartbeat's floor settles them

    world(scenario)


def test_a_call_ends_at_its_deadline(world: World) -> None:
    async def scenario(backend: Backend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        b = await backend.mesh("gateway", "gw1")

        async def never(sender: Sender, message: Interest) -> Message:
            await asyncio.sleep(3_600)
            return Ok()

        a.serve(Interest, never)
        loop = asyncio.get_running_loop()
        start = loop.time()
        with pytest.raises(DeadlineExceeded) as caught:
            await b.call(GS1, Interest("x", 1), deadline_ms=250)
        assert 0.24 < loop.time() - start < 5.0  # a busy machine comes late
        assert caught.value.sent
        assert b.calls_in_flight == 0

    world(scenario)


def test_a_call_does_not_outlive_its_targets_generation(world: World) -> None:
    """A store that answers a repeated write from scratch would do it twice."""

    async def scenario(backend: Backend) -> None:
        a = await backend.mesh("store", "st1", 1)
        b = await backend.mesh("gateway", "gw1")
        arrived = asyncio.Event()

        async def never(sender: Sender, message: Interest) -> Message:
            arrived.set()
            await asyncio.sleep(3_600)
            return Ok()

        a.serve(Interest, never)
        call = asyncio.ensure_future(b.call(NodeId("st1"), Interest("x", 1), deadline_ms=60_000))
        await arrived.wait()
        await backend.kill(a)
        again = await backend.mesh("store", "st1", by=b)
        seen: list[Message] = []
        again.serve(Interest, lambda sender, message: seen.append(message))
        with pytest.raises(Unreachable) as caught:
            await call
        assert caught.value.sent
        assert seen == []

    world(scenario)


def test_any_of_a_role_in_turn_past_the_silent_one(world: World) -> None:
    async def scenario(backend: Backend) -> None:
        logins = [await backend.mesh("login", f"lg{n}") for n in (1, 2, 3)]
        b = await backend.mesh("gateway", "gw1")
        served: list[str] = []

        def server(mesh: MeshNode) -> Callable[[Sender, Interest], Message]:
            def serve(sender: Sender, message: Interest) -> Message:
                served.append(mesh.me.id)
                return Awake(1)

            return serve

        async def never(sender: Sender, message: Interest) -> Message:
            await asyncio.sleep(3_600)
            return Ok()

        for login in logins:
            login.serve(Interest, server(login))
        with pytest.raises(Unreachable):
            await b.call_any("login", Interest("x", 1))  # none is ready
        for login in logins[:2]:
            login.update_me(status="ready")
        await until(lambda: [m.status for m in b.book.members("login")] == ["ready", "ready", "starting"])
        for _ in range(4):
            await b.call_any("login", Interest("x", 1))
        assert sorted(served) == ["lg1", "lg1", "lg2", "lg2"]
        logins[0].serve(Interest, never)
        served.clear()
        for _ in range(2):
            assert await b.call_any("login", Interest("x", 1), deadline_ms=1_000) == Awake(1)
        assert served == ["lg2", "lg2"]

    world(scenario)


def test_one_way_messages_keep_their_order(world: World) -> None:
    async def scenario(backend: Backend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        b = await backend.mesh("gateway", "gw1")
        await until(lambda: len(ids(a)) == 2)
        seen: list[int] = []
        a.serve(Detach, lambda sender, message: seen.append(message.avatar))
        for n in range(1_500):
            assert b.send(GS1, Detach(n, 0, 0))
        await until(lambda: len(seen) == 1_500)
        assert seen == list(range(1_500))
        assert not b.send(GS2, Detach(0, 0, 0))

    world(scenario)


def test_garbage_is_counted_and_hurts_nobody(world: World) -> None:
    async def scenario(backend: Backend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        b = await backend.mesh("gateway", "gw1")
        a.serve(Interest, echo)
        for data in (b"", b"\xff" * 100, b"\x91" * 5_000, b"\xdd\xff\xff\xff\xff", b"\x99" + b"\x00" * 9):
            a._transport.inlets.message(data)
        assert a.statistics.malformed == 5
        assert await b.call(GS1, Interest("x", 1)) == Awake(1)

    world(scenario)


# -- the state plane -------------------------------------------------------------------------------------------------


class Ear:
    def __init__(self, mesh: MeshNode) -> None:
        self.heard: list[tuple[str, bytes, bytes]] = []
        mesh.on_frame(lambda publisher, topic, body: self.heard.append((publisher, topic, body)))


def test_frames_go_only_where_somebody_listens(world: World) -> None:
    async def scenario(backend: Backend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        b = await backend.mesh("gateway", "gw1")
        c = await backend.mesh("gateway", "gw2")
        changes: list[tuple[bytes, bool]] = []
        a.on_subscription(lambda topic, on: changes.append((topic, on)))
        ear_b, ear_c = Ear(b), Ear(c)
        assert not a.publish(TOPIC, b"nobody")
        for mesh in (b, b, c):
            mesh.subscribe(GS1, TOPIC)  # twice is once
        await until(lambda: a.listeners(TOPIC) == 2)
        assert changes == [(TOPIC, True)] * 2
        assert a.publish(TOPIC, b"one")
        assert not a.publish(OTHER, b"nobody")
        await until(lambda: len(ear_b.heard) == len(ear_c.heard) == 1)
        assert ear_b.heard == [("gs1", TOPIC, b"one")]
        b.unsubscribe(GS1, TOPIC)
        await until(lambda: a.listeners(TOPIC) == 1)
        assert changes[2:] == [(TOPIC, False)]
        assert a.publish(TOPIC, b"two")
        await until(lambda: len(ear_c.heard) == 2)
        await backend.kill(c)
        await until(lambda: a.listeners(TOPIC) == 0)
        assert not a.publish(TOPIC, b"three")
        assert len(ear_b.heard) == 1
        assert a.statistics.frames_out == 2
        assert a.statistics.frames_unheard == 3
        with pytest.raises(ValueError, match="7 bytes"):
            b.subscribe(GS1, b"PKcell7")

    world(scenario)


def test_subscriptions_outlive_the_publisher_and_reconnects(world: World) -> None:
    async def scenario(backend: Backend) -> None:
        b = await backend.mesh("gateway", "gw1")
        b.subscribe(GS1, TOPIC)  # before it is there
        b.subscribe(GS1, OTHER)
        ear = Ear(b)
        old = await backend.mesh("gameserver", "gs1", 1)
        await until(lambda: old.listeners(TOPIC) == 1 and old.listeners(OTHER) == 1)
        changes: list[tuple[bytes, bool]] = []
        old.on_subscription(lambda topic, on: changes.append((topic, on)))
        b.reconnect(GS1)
        await until(lambda: sorted(changes) == [(TOPIC, False), (TOPIC, True), (OTHER, False), (OTHER, True)])
        await backend.kill(old)
        new = await backend.mesh("gameserver", "gs1", 2, by=b)
        await until(lambda: new.listeners(TOPIC) == 1 and new.listeners(OTHER) == 1)
        new.publish(OTHER, b"again")
        await until(lambda: ear.heard == [("gs1", OTHER, b"again")])

    world(scenario)


# -- time ------------------------------------------------------------------------------------------------------------


def test_a_joiner_takes_the_clusters_time_and_all_meet(world: World) -> None:
    async def scenario(backend: Backend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        b = await backend.mesh("gameserver", "gs2", 1, offset_ms=60_000)
        # not slewed, which takes minutes; how near is a matter of the first round trip, long on a busy machine
        assert abs(a.clock.world_ms() - b.clock.world_ms()) < 500, "stepped before it is ready"
        b.clock.step(b.clock.offset_ms() + 40)
        before = a.clock.world_ms()
        await until(lambda: abs(a.clock.world_ms() - b.clock.world_ms()) <= 5)
        assert a.clock.world_ms() >= before

    world(scenario)


def test_a_paused_loop_is_noticed_before_it_speaks(world: World) -> None:
    async def scenario(backend: Backend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        b = await backend.mesh("gateway", "gw1")
        st = await backend.mesh("store", "st1")
        await until(lambda: len(ids(a)) == 3 and a.book.round_trip_ms(GW1) > 0)
        b.subscribe(GS1, TOPIC)
        st.serve(Interest, echo)
        await until(lambda: a.listeners(TOPIC) == 1)
        seen: list[int] = []
        b.serve(Detach, lambda sender, message: seen.append(message.avatar))
        pauses: list[float] = []

        def on_pause(ms: float) -> None:
            pauses.append(ms)
            a.hold()

        a.on_pause(on_pause)
        backend.pause((LOOP_PAUSE_MS + 300) / 1_000)
        assert not a.send(GW1, Detach(1, 0, 0)), "the first word after the pause is held already"
        assert len(pauses) == 1
        assert pauses[0] > LOOP_PAUSE_MS
        assert not a.publish(TOPIC, b"x")
        assert not a.book.suspected(GW1), "my own pause is nobody's silence"
        assert await a.call(NodeId("st1"), Interest("x", 2)) == Awake(2)
        a.release()
        assert a.send(GW1, Detach(2, 0, 0))
        await until(lambda: seen == [2])

    world(scenario)
