"""ZeroMQ's measured behaviour that the mesh takes precautions against: each fact, and that the precaution holds."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import zmq

from runtime.mesh import open_mesh
from runtime.mesh.node import MeshNode
from runtime.mesh.zmq_transport import Watched, ZmqTransport, end_context
from runtime.service import Service
from tests.support import aio
from tests.support.mesh import ZmqBackend, run_zmq, until
from tests.support.processes import free_port
from world.ids import NodeId
from world.limits import (
    CONNECT_TIMEOUT_MS,
    CONTEXT_END_MS,
    LINK_BATCH_MESSAGES,
    RECONNECT_CAP_MS,
    STATE_SEND_HWM_FRAMES,
    SUSPECT_AFTER_MS,
)
from world.messages import Detach

GS1, GW1 = NodeId("gs1"), NodeId("gw1")
TOPIC = b"PKcell\x00\x07"
Socket = zmq.Socket[bytes]


def topic(n: int) -> bytes:
    return b"PKcell" + n.to_bytes(2, "big")


@pytest.fixture
def context() -> Iterator[zmq.Context[Socket]]:
    made: zmq.Context[Socket] = zmq.Context()
    yield made
    end_context(made, CONTEXT_END_MS)


def bound(context: zmq.Context[Socket], kind: int, options: dict[int, int] | None = None) -> tuple[Socket, str]:
    socket = context.socket(kind)
    for option, value in (options or {}).items():
        socket.set(option, value)
    socket.bind("tcp://127.0.0.1:*")
    return socket, str(socket.get_string(zmq.LAST_ENDPOINT))


def received(socket: Socket, silence_ms: int = 300) -> list[bytes]:
    got: list[bytes] = []
    while socket.poll(silence_ms):
        got.append(socket.recv())
    return got


# -- subscriptions beyond SNDHWM -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sndhwm", "all_arrive"), [(None, False), (0, True)])
def test_a_sub_drops_its_own_subscriptions_beyond_its_sndhwm(
    context: zmq.Context[Socket], sndhwm: int | None, all_arrive: bool
) -> None:
    first, endpoint = bound(context, zmq.XPUB)
    sub = context.socket(zmq.SUB)
    if sndhwm is not None:
        sub.set(zmq.SNDHWM, sndhwm)
    sub.connect(endpoint)
    for n in range(5_000):
        sub.subscribe(topic(n))
    sub.poll(100)
    first.close(0)
    again = context.socket(zmq.XPUB)
    _bind_again(again, endpoint)
    deadline, got = time.monotonic() + 5, 0
    while time.monotonic() < deadline and got < 5_000:
        sub.poll(0)  # resubscription runs in the subscriber's own thread
        if again.poll(300):
            again.recv()
            got += 1
        elif got:
            break
    assert (got == 5_000) == all_arrive
    assert all_arrive or got <= 1_000


def _bind_again(socket: Socket, endpoint: str) -> None:
    deadline = time.monotonic() + 5
    while True:
        try:
            socket.bind(endpoint)
        except zmq.ZMQError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return


def test_5000_subscriptions_survive_a_publishers_restart_on_another_port() -> None:
    async def scenario(backend: ZmqBackend) -> None:
        gateway = await backend.mesh("gateway", "gw1")
        old = await backend.mesh("gameserver", "gs1", 1)
        for n in range(5_000):
            gateway.subscribe(GS1, topic(n))
        await until(lambda: all(old.listeners(topic(n)) == 1 for n in range(5_000)))
        await backend.kill(old)
        new = await backend.mesh("gameserver", "gs1", 2)
        assert new.me.state != old.me.state
        await until(lambda: all(new.listeners(topic(n)) == 1 for n in range(5_000)))
        heard: list[bytes] = []
        gateway.on_frame(lambda publisher, name, body: heard.append(name))
        for n in range(5_000):
            new.publish(topic(n), b"x")
        await until(lambda: len(heard) == 5_000)

    run_zmq(scenario)


# -- a stuck subscriber ----------------------------------------------------------------------------------------------


def test_xpub_nodrop_lets_one_stuck_subscriber_stall_all(context: zmq.Context[Socket]) -> None:
    xpub, endpoint = bound(context, zmq.XPUB, {zmq.XPUB_NODROP: 1, zmq.SNDHWM: 1_000})
    stuck = context.socket(zmq.SUB)
    stuck.set(zmq.RCVHWM, 1)
    stuck.connect(endpoint)
    stuck.subscribe(b"")
    assert xpub.recv() == b"\x01"

    def publish_on() -> None:
        for _ in range(100_000):
            xpub.send(b"x" * 1_000, zmq.DONTWAIT)

    with pytest.raises(zmq.Again):
        publish_on()


def test_a_stuck_subscriber_does_not_stall_others(context: zmq.Context[Socket]) -> None:
    async def scenario(backend: ZmqBackend) -> None:
        publisher = await backend.mesh("gameserver", "gs1", 1)
        healthy = await backend.mesh("gateway", "gw1")
        heard: list[int] = []
        healthy.on_frame(lambda who, name, body: heard.append(int.from_bytes(body[:4], "big")))
        healthy.subscribe(GS1, TOPIC)
        stuck = context.socket(zmq.SUB)
        stuck.set(zmq.RCVHWM, 1)
        stuck.connect(publisher.me.state)
        stuck.subscribe(TOPIC)
        await until(lambda: publisher.listeners(TOPIC) == 2)
        frames, slowest_s = STATE_SEND_HWM_FRAMES + 8_000, 0.0  # far more than the stuck one's queue holds
        for n in range(frames):
            start = time.perf_counter()
            assert publisher.publish(TOPIC, n.to_bytes(4, "big") + bytes(1_000))
            slowest_s = max(slowest_s, time.perf_counter() - start)
            if n % 100 == 99:
                await until(lambda n=n: len(heard) == n + 1)  # type: ignore[misc]
        assert heard == list(range(frames))
        assert slowest_s < 5.0  # a machine that stood still is not what is looked for

    run_zmq(scenario)


# -- the edge-triggered FD -------------------------------------------------------------------------------------------


async def _subscription_noticed(backend: ZmqBackend, *, once_linked: Callable[[], None] = lambda: None) -> bool:
    """A subscription arrives while the loop is busy, and a publish takes the FD's edge away."""
    publisher = await backend.mesh("gameserver", "gs1", 1)
    gateway = await backend.mesh("gateway", "gw1")
    gateway.subscribe(GS1, TOPIC)
    await until(lambda: publisher.listeners(TOPIC) == 1)
    await asyncio.sleep(0.05)
    once_linked()
    for n in range(20):
        gateway.subscribe(GS1, topic(100 + n))
        time.sleep(0.03)  # noqa: ASYNC251 - the loop is busy
        publisher.publish(TOPIC, b"x")
        try:
            await until(lambda n=n: publisher.listeners(topic(100 + n)) == 1, within_ms=200)  # type: ignore[misc]
        except AssertionError:
            return False
    return True


def test_after_every_send_the_socket_is_looked_at_again() -> None:
    async def scenario(backend: ZmqBackend) -> None:
        assert await _subscription_noticed(backend)

    run_zmq(scenario)


def test_without_that_look_arrivals_are_stranded(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Watched.check

    def only_at_first(self: Watched) -> None:
        if not hasattr(self, "looked"):
            self.looked = True  # type: ignore[attr-defined]
            real(self)

    async def scenario(backend: ZmqBackend) -> None:
        def no_longer() -> None:  # not before: the first subscription could be stranded just so
            monkeypatch.setattr(Watched, "check", only_at_first)

        assert not await _subscription_noticed(backend, once_linked=no_longer)
        monkeypatch.undo()

    run_zmq(scenario)


def test_a_failing_callback_strands_nothing() -> None:
    async def scenario(backend: ZmqBackend) -> None:
        reported: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
        publisher = await backend.mesh("gameserver", "gs1", 1)
        gateway = await backend.mesh("gateway", "gw1")
        heard: list[bytes] = []

        def on_frame(who: NodeId, name: bytes, body: bytes) -> None:
            heard.append(body)
            if body == b"0":
                raise ValueError("not mine")

        gateway.on_frame(on_frame)
        gateway.subscribe(GS1, TOPIC)
        await until(lambda: publisher.listeners(TOPIC) == 1)
        for n in range(5):
            publisher.publish(TOPIC, b"%d" % n)
        await until(lambda: heard == [b"0", b"1", b"2", b"3", b"4"])
        assert len(reported) == 1

    run_zmq(scenario)


# -- connections that nobody answers ---------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="how a listener goes deaf, and /proc, are Linux's")
def test_a_link_knocks_anew_where_nobody_answers() -> None:
    """The kernel repeats a lost SYN ever more rarely: who waits for that is away for as long as the cut lasted."""

    async def body() -> None:
        deaf = socket.create_server(("127.0.0.1", 0), backlog=0)
        host, port = deaf.getsockname()
        filling = socket.create_connection((host, port))  # its queue is full now: every further SYN is dropped
        transport = ZmqTransport(bind_host="127.0.0.1")
        link = transport.link(f"tcp://{host}:{port}", "gs1:1", lambda: None)
        await until(lambda: len(_knocking(port)) == 1)
        first = _knocking(port)
        await until(lambda: bool(_knocking(port) - first), CONNECT_TIMEOUT_MS + RECONNECT_CAP_MS + 1_000)
        assert not link.send(b"nobody is there")
        filling.close()
        deaf.close()
        whole = ZmqTransport(bind_host=host, command_port=port)
        await until(lambda: link.send(b"hello"))
        link.close()
        await transport.close()
        await whole.close()

    aio.run(body(), uvloop=True)


def _knocking(port: int) -> set[str]:
    """Local addresses of connections to this port whose SYN is not answered yet."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[2].endswith(f":{port:04X}") and row[3] == "02"}


# -- a hung loop -----------------------------------------------------------------------------------------------------

_HUNG = """
import asyncio, sys, time
from runtime.mesh import open_mesh
from runtime.service import Service

async def main():
    service = Service.for_test("gateway", "gw1", join=(sys.argv[1],))
    async with service:
        mesh = await open_mesh(service, role="gateway", node_id="gw1", generation=None, publishes_state=False)
        print(mesh.me.command, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        time.sleep(60)

asyncio.run(main())
"""


def test_a_hung_loop_is_noticed_though_zmtp_answers(context: zmq.Context[Socket]) -> None:
    async def scenario(backend: ZmqBackend) -> None:
        watcher = await backend.mesh("gameserver", "gs1", 1)
        child = subprocess.Popen(  # noqa: ASYNC220 - its first line is waited for in a thread
            [sys.executable, "-c", _HUNG, watcher.me.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            endpoint = (await asyncio.to_thread(child.stdout.readline)).strip()
            await until(lambda: watcher.book.round_trip_ms(GW1) > 0)
            child.stdin.close()  # now hang
            probe = context.socket(zmq.DEALER)
            probe.set(zmq.HEARTBEAT_IVL, 100)
            probe.set(zmq.HEARTBEAT_TIMEOUT, 300)
            events = probe.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            probe.connect(endpoint)
            await until(lambda: watcher.book.suspected(GW1), within_ms=3 * SUSPECT_AFTER_MS)
            assert not events.poll(0), "the I/O thread of the hung process answers ZMTP's own heartbeats"
            probe.disable_monitor()
        finally:
            child.kill()
            await asyncio.to_thread(child.wait)
            child.stdout.close()

    run_zmq(scenario)


# -- a queue outlives its addressee ----------------------------------------------------------------------------------


def test_a_dealer_delivers_to_whoever_listens_at_the_address_now(context: zmq.Context[Socket]) -> None:
    old, endpoint = bound(context, zmq.ROUTER)
    dealer = context.socket(zmq.DEALER)
    dealer.set(zmq.RECONNECT_IVL, 500)
    events = dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    dealer.connect(endpoint)
    dealer.send(b"hello")
    assert old.recv_multipart()[1] == b"hello"
    old.close(0)
    assert events.poll(5_000)
    dealer.send(b"meant for the old one")
    new = context.socket(zmq.ROUTER)
    _bind_again(new, endpoint)
    assert new.poll(5_000)
    assert new.recv_multipart()[1] == b"meant for the old one"
    dealer.disable_monitor()


def test_what_was_meant_for_the_old_incarnation_is_refused_by_the_new() -> None:
    async def open_at(stack: AsyncExitStack, port: int, generation: int) -> MeshNode:
        service = Service.for_test("gameserver", "gs1", command_port=port)
        await stack.enter_async_context(service)
        return await open_mesh(service, role="gameserver", node_id=GS1, generation=generation, publishes_state=False)

    async def body() -> None:
        async with AsyncExitStack() as stack:
            old = await open_at(stack, 0, 1)
            backend = ZmqBackend(stack)
            gateway = await backend.mesh("gateway", "gw1", by=old)
            await until(lambda: old.book.get(GW1) is not None)
            port = int(old.me.command.rsplit(":", 1)[1])
            old.abort()
            await old.close()
            assert gateway.send(GS1, Detach(1, 0, 0))
            new = await open_at(stack, port, 2)
            seen: list[int] = []
            new.serve(Detach, lambda sender, message: seen.append(message.avatar))
            await until(lambda: gateway.book.highest_generation(GS1) == 2)
            assert gateway.send(GS1, Detach(2, 0, 0))
            await until(lambda: 2 in seen)
            assert seen == [2]
            assert new.statistics.misdirected + gateway.statistics.outbox_dropped > 0

    aio.run(body(), uvloop=True)


# -- topics ----------------------------------------------------------------------------------------------------------


def test_topics_match_by_prefix_so_ours_have_one_width(context: zmq.Context[Socket]) -> None:
    xpub, endpoint = bound(context, zmq.XPUB)
    sub = context.socket(zmq.SUB)
    sub.connect(endpoint)
    sub.subscribe(b"7,1")
    assert xpub.recv() == b"\x017,1"
    xpub.send_multipart((b"7,12", b"another cell"))
    assert sub.poll(2_000)
    assert sub.recv_multipart()[0] == b"7,12"

    async def scenario(backend: ZmqBackend) -> None:
        publisher = await backend.mesh("gameserver", "gs1", 1)
        gateway = await backend.mesh("gateway", "gw1")
        with pytest.raises(ValueError, match="3 bytes"):
            gateway.subscribe(GS1, b"7,1")
        stranger = context.socket(zmq.SUB)
        stranger.connect(publisher.me.state)
        stranger.subscribe(b"PK")
        await until(lambda: publisher.statistics.malformed == 1)
        assert not publisher.publish(TOPIC, b"x"), "a prefix of ours listens to nothing of ours"

    run_zmq(scenario)


@pytest.mark.parametrize(("option", "told"), [(zmq.XPUB_VERBOSE, 1), (zmq.XPUB_VERBOSER, 2)])
def test_only_verboser_tells_of_every_unsubscribe(context: zmq.Context[Socket], option: int, told: int) -> None:
    xpub, endpoint = bound(context, zmq.XPUB, {option: 1})
    subs = [context.socket(zmq.SUB) for _ in range(2)]
    for sub in subs:
        sub.connect(endpoint)
        sub.subscribe(TOPIC)
    assert received(xpub) == [b"\x01" + TOPIC] * 2
    subs[0].unsubscribe(TOPIC)
    subs[1].close(0)
    assert received(xpub) == [b"\x00" + TOPIC] * told


def test_what_is_sent_in_one_turn_is_handed_over_once_and_in_order(context: zmq.Context[Socket]) -> None:
    """Handing a message to ZeroMQ's thread wakes it: one by one that costs more than all the rest of a call."""

    async def body() -> None:
        router, endpoint = bound(context, zmq.ROUTER)
        transport = ZmqTransport(bind_host="127.0.0.1")
        link = transport.link(endpoint, "gs1:1", lambda: None)
        await until(lambda: link.send(b"first"))
        said = [b"%d" % n for n in range(LINK_BATCH_MESSAGES + 3)]
        assert all(link.send(data) for data in said)
        link.close(linger_ms=1_000)
        messages: list[list[bytes]] = []
        while sum(map(len, messages)) < len(said) + 1:
            await until(lambda: bool(router.poll(0)))
            messages.append(router.recv_multipart()[1:])
        assert [data for parts in messages for data in parts] == [b"first", *said]
        assert len(messages) <= 3
        await transport.close()

    aio.run(body(), uvloop=True)


# -- a context that does not end ---------------------------------------------------------------------------------


def test_a_context_that_does_not_end_keeps_nobody() -> None:
    context: zmq.Context[Socket] = zmq.Context()
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    unsent = context.socket(zmq.PUSH)
    unsent.set(zmq.LINGER, -1)
    unsent.connect(endpoint)
    unsent.send(b"for nobody yet")
    unsent.close()
    assert not end_context(context, within_ms=50)
    reader: zmq.Context[Socket] = zmq.Context()
    late = reader.socket(zmq.PULL)
    late.bind(endpoint)  # now it may go
    assert late.recv() == b"for nobody yet"
    assert end_context(reader, CONTEXT_END_MS)


# -- a readable FD that nobody reads ---------------------------------------------------------------------------------


def test_a_quiet_link_lets_the_loop_sleep(context: zmq.Context[Socket], monkeypatch: pytest.MonkeyPatch) -> None:
    """An FD stays readable until EVENTS is read: a link that looked only while it was blocked kept the loop awake."""
    looks = 0
    ready = Watched._ready

    def counted(self: Watched) -> None:
        nonlocal looks
        looks += 1
        ready(self)

    monkeypatch.setattr(Watched, "_ready", counted)

    async def body() -> None:
        nonlocal looks
        router, endpoint = bound(context, zmq.ROUTER)
        transport = ZmqTransport(bind_host="127.0.0.1")
        link = transport.link(endpoint, "gs1:1", lambda: None)
        await until(lambda: link.send(b"hello"))
        await until(lambda: bool(router.poll(0)))
        looks = 0
        router.close(0)  # the connection ends, which the link's FD tells
        await asyncio.sleep(0.5)
        assert looks < 50, f"{looks} looks in a quiet half second"
        link.close()
        await transport.close()

    aio.run(body(), uvloop=True)
