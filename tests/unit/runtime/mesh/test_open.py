"""``open_mesh``: addresses as the settings say, a proxy between two processes, refusals, metrics."""

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any

import pytest
from prometheus_client import generate_latest

from runtime.mesh import ZmqMesh, open_mesh
from runtime.mesh.api import DeadlineExceeded
from runtime.service import Service, StartRefused
from tests.support import aio
from tests.support.mesh import until
from tests.support.processes import free_port
from world.ids import NodeId
from world.messages import Awake, Detach, Interest

GS1, GW1 = NodeId("gs1"), NodeId("gw1")
TOPIC = b"PKcell\x00\x07"


class Proxy:
    """Forwards TCP to a port and counts bytes to it; ``shut``: nobody is let through from now on."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []
        self._shut = False
        self.forwarded = 0

    def shut(self, on: bool) -> None:
        self._shut = on
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def open(self, stack: AsyncExitStack) -> str:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        stack.callback(server.close)
        return f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._shut:
                raise OSError
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        self._writers += [writer, far_writer]
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pump(reader, far_writer, 1))
            group.create_task(self._pump(far_reader, writer, 0))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: int) -> None:
        try:
            while data := await reader.read(65_536):
                self.forwarded += count * len(data)
                writer.write(data)
        except OSError:
            pass
        writer.close()


async def member(stack: AsyncExitStack, role: str, node: str, **settings: Any) -> tuple[Service, ZmqMesh]:
    service = Service.for_test(role, node, rng=random.Random(), **settings)
    await stack.enter_async_context(service)
    mesh = await open_mesh(
        service, role=role, node_id=NodeId(node), generation=None, publishes_state=role == "gameserver"
    )
    return service, mesh


def test_a_proxy_can_stand_between() -> None:
    async def body() -> None:
        async with AsyncExitStack() as stack:
            ports = free_port(), free_port()
            proxies = [Proxy(port) for port in ports]
            advertised = [await proxy.open(stack) for proxy in proxies]
            _, gs1 = await member(
                stack,
                "gameserver",
                "gs1",
                command_port=ports[0],
                state_port=ports[1],
                advertise_command=advertised[0],
                advertise_state=advertised[1],
            )
            _, gw1 = await member(stack, "gateway", "gw1", join=(gs1.me.command,))
            gs1.serve(Interest, lambda sender, message: Awake(message.epoch))
            assert await gw1.call(GS1, Interest("x" * 100, 1)) == Awake(1)
            gw1.subscribe(GS1, TOPIC)
            await until(lambda: gs1.listeners(TOPIC) == 1)
            assert proxies[0].forwarded > 100
            assert proxies[1].forwarded > 0
            await gw1.close()
            await gs1.close()

    aio.run(body(), uvloop=True)


def test_a_call_that_ended_unsent_does_not_arrive_when_the_way_is_open_again() -> None:
    """Its caller was told that it certainly was not sent, and acts upon it."""

    async def body() -> None:
        async with AsyncExitStack() as stack:
            port = free_port()
            proxy = Proxy(port)
            advertised = await proxy.open(stack)
            _, gs1 = await member(stack, "gameserver", "gs1", command_port=port, advertise_command=advertised)
            _, gw1 = await member(stack, "gateway", "gw1", join=(f"tcp://127.0.0.1:{port}",))
            seen: list[int] = []
            gs1.serve(Interest, lambda sender, message: seen.append(message.epoch))
            await gw1.call(GS1, Interest("x", 1))
            proxy.shut(True)
            await until(lambda: gw1.send(GS1, Detach(1, 0, 0)) and gw1.outbox_depths()[GS1] > 0)
            with pytest.raises(DeadlineExceeded) as caught:
                await gw1.call(GS1, Interest("x", 2), deadline_ms=100)
            assert not caught.value.sent
            proxy.shut(False)
            await gw1.call(GS1, Interest("x", 3))
            assert seen == [1, 3]
            assert gw1.statistics.outbox_settled == 1
            await gw1.close()
            await gs1.close()

    aio.run(body(), uvloop=True)


def test_a_taken_port_is_refused_in_one_sentence() -> None:
    async def body() -> None:
        async with AsyncExitStack() as stack:
            _, gs1 = await member(stack, "gameserver", "gs1")
            with pytest.raises(StartRefused, match="--command-port"):
                await member(stack, "gateway", "gw1", command_port=int(gs1.me.command.rsplit(":", 1)[1]))

    aio.run(body(), uvloop=True)


def test_metrics_tell_of_every_counter_and_peer() -> None:
    async def body() -> None:
        async with AsyncExitStack() as stack:
            service, gs1 = await member(stack, "gameserver", "gs1")
            _, gw1 = await member(stack, "gateway", "gw1", join=(gs1.me.command,))
            await until(lambda: gs1.book.round_trip_ms(GW1) > 0)
            assert not gs1.publish(TOPIC, b"x")
            text = generate_latest(service.metrics).decode()
            assert "projectk_mesh_frames_unheard_total 1.0" in text
            assert 'projectk_mesh_outbox_messages{peer="gw1"} 0.0' in text
            assert 'projectk_mesh_round_trip_ms{peer="gw1"}' in text
            assert 'projectk_mesh_suspected{peer="gw1"} 0.0' in text
            await gw1.close()
            with pytest.raises(RuntimeError, match="subscribes_state"):
                (await _deaf(stack)).subscribe(GS1, TOPIC)

    aio.run(body(), uvloop=True)


async def _deaf(stack: AsyncExitStack) -> ZmqMesh:
    service = await stack.enter_async_context(Service.for_test("login", "lg1"))
    return await open_mesh(
        service, role="login", node_id=NodeId("lg1"), generation=None, publishes_state=False, subscribes_state=False
    )


def test_who_speaks_no_version_of_the_others_is_refused_and_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with AsyncExitStack() as stack:
            _, gs1 = await member(stack, "gameserver", "gs1")
            monkeypatch.setattr("runtime.mesh.open.MESH_PROTOCOL_MIN", 3)
            monkeypatch.setattr("runtime.mesh.open.MESH_PROTOCOL_MAX", 4)
            with pytest.raises(StartRefused, match=r"gateway speaks versions 3 to 4 .* gs1 there only 1 to 2"):
                await member(stack, "gateway", "gw1", join=(gs1.me.command,))
            monkeypatch.setattr("runtime.mesh.open.MESH_PROTOCOL_MIN", 1)
            _, gw2 = await member(stack, "gateway", "gw2", join=(gs1.me.command,))
            await until(lambda: gs1.book.get(NodeId("gw2")) is not None)
            assert gs1.book.get(GW1) is None
            assert gw2.book.get(GS1) is not None

    aio.run(body(), uvloop=True)


def test_a_joiner_that_nobody_answers_says_so_and_goes_on_asking() -> None:
    async def body() -> None:
        async with AsyncExitStack() as stack:
            port = free_port()
            lines: list[Any] = []
            service = Service.for_test("gateway", "gw1", lines=lines, join=(f"tcp://127.0.0.1:{port}",))
            await stack.enter_async_context(service)
            gw1 = await open_mesh(service, role="gateway", node_id=GW1, generation=None, publishes_state=False)
            assert [line["join"] for line in lines if "nobody answers" in line["event"]] == [service.settings.join]
            await member(stack, "gameserver", "gs1", command_port=port)
            await until(lambda: gw1.book.get(GS1) is not None)

    aio.run(body(), uvloop=True)
