"""The composition root without HTTP: sessions, cells and loops together, as the simulation runs them."""

import asyncio

import orjson

from gateway.app import build
from gateway.closing import REPLACED, Closing
from runtime.mesh.api import Sender
from runtime.service import Service
from tests.support.aio import run
from tests.support.virtual import run_virtual
from tests.unit.gateway.support import AVATAR, SERVER, StubMesh, attached, token, with_login
from world import frames
from world.grid import cell_at
from world.ids import NodeId
from world.limits import GATEWAY_FLUSH_MS, OWNER_SILENT_MS
from world.messages import Attach, Detach, Events, Member, Moved, SessionEnded, Views

FROM = Sender(NodeId(SERVER), 3)


class RecordingMesh(StubMesh):
    def __init__(self) -> None:
        super().__init__()
        self.subscribed: set[bytes] = set()

    def subscribe(self, publisher: NodeId, topic: bytes) -> None:
        self.subscribed.add(topic)


class FakeSocket:
    def __init__(self) -> None:
        self.said: list[dict[str, object]] = []
        self.chunks: list[bytes] = []
        self.closed: Closing | None = None

    def say(self, text: bytes) -> None:
        self.said.append(orjson.loads(text))

    def write(self, chunk: bytes) -> None:
        self.chunks.append(chunk)

    def buffered(self) -> int:
        return 0

    def close(self, reason: Closing) -> None:
        self.closed = reason

    def tags(self) -> list[object]:
        return [message["t"] for message in self.said]


async def flushed() -> None:
    await asyncio.sleep(3 * GATEWAY_FLUSH_MS / 1_000)


def test_sight_follows_the_owner_and_events_find_their_client() -> None:
    async def play() -> None:
        service = Service.for_test("gateway", "gw1")
        async with service:
            mesh = with_login(RecordingMesh(), lambda: service.clock.world_ms() / 1_000)
            assert isinstance(mesh, RecordingMesh)
            gateway, socket = build(service, mesh), FakeSocket()
            client = gateway.connect(socket)
            access = token("access", service.clock.world_ms() / 1_000)
            client.text(orjson.dumps({"t": "identify", "protocol": 1, "token": access}))
            await flushed()
            assert socket.tags() == ["hello", "ready", "attached"]
            assert frames.cell_topic(cell_at(4096, 4096)) in mesh.subscribed
            assert socket.chunks, "told what it sees"
            mesh.handlers[Views](FROM, Views([(AVATAR, 100, 5, 1_000.0, 1_000.0, 50.0)]))
            await flushed()
            assert frames.cell_topic(cell_at(1_000, 1_000)) in mesh.subscribed
            mesh.handlers[Events](FROM, Events(AVATAR, 100, 1, 5, 9, [(1, b'{"kind":"x"}')]))
            mesh.handlers[Events](FROM, Events(AVATAR, 101, 1, 5, 9, [(2, b'{"kind":"other session"}')]))
            assert socket.tags()[3:] == ["event"]
            mesh.handlers[SessionEnded](FROM, SessionEnded(AVATAR, 100, 1, "replaced"))
            assert socket.closed is REPLACED
            assert len(gateway) == 0

    run(play())


def test_a_newer_generation_of_the_owner_means_attach_anew() -> None:
    async def play() -> None:
        service = Service.for_test("gateway", "gw1")
        async with service:
            mesh = with_login(StubMesh(), lambda: service.clock.world_ms() / 1_000)
            gateway, socket = build(service, mesh), FakeSocket()
            client = gateway.connect(socket)
            access = token("access", service.clock.world_ms() / 1_000)
            client.text(orjson.dumps({"t": "identify", "protocol": 1, "token": access}))
            await flushed()
            answers = iter([Moved(f"avatar:{AVATAR}", "gs2", 1, 6), attached(server="gs2", generation=1, epoch=6)])
            mesh.answers[Attach] = lambda _m: next(answers)
            mesh.book.all = [m for m in mesh.book.all if m.role != "gameserver"]
            mesh.book.all += [Member("gameserver", n, g, "", status="ready") for n, g in ((SERVER, 4), ("gs2", 1))]
            for changed in mesh.book.changed:
                changed()
            await flushed()
            assert socket.tags()[2:] == ["attached", "detached", "attached"]
            assert socket.said[-1]["server"] == "gs2"
            assert [node for node, message in mesh.sent if isinstance(message, Attach)][-1] == "gs2"

    run(play())


def test_players_of_servers_that_nobody_is_left_to_declare_dead_are_told_and_come_back() -> None:
    async def play() -> None:
        service = Service.for_test("gateway", "gw1")
        async with service:
            mesh = with_login(StubMesh(), lambda: service.clock.world_ms() / 1_000)
            gateway, socket = build(service, mesh), FakeSocket()
            access = token("access", service.clock.world_ms() / 1_000)
            gateway.connect(socket).text(orjson.dumps({"t": "identify", "protocol": 1, "token": access}))
            await flushed()
            assert gateway.ready()
            mesh.book.silent = {SERVER}
            del mesh.answers[Attach]
            assert not gateway.ready()
            await asyncio.sleep(OWNER_SILENT_MS / 1_000 - 0.5)
            assert socket.tags()[2:] == ["attached"], "suspicion alone disturbs nobody"
            await asyncio.sleep(5)
            assert socket.tags()[2:] == ["attached", "detached"]
            mesh.book.silent = set()
            mesh.answers[Attach] = lambda _m: attached()
            await asyncio.sleep(5)
            assert socket.tags()[2:] == ["attached", "detached", "attached"]
            assert gateway.ready()

    run_virtual(play())


def test_a_view_for_a_client_that_is_gone_is_answered_by_its_close() -> None:
    async def play() -> None:
        service = Service.for_test("gateway", "gw1")
        async with service:
            mesh = StubMesh()
            build(service, mesh)
            row = (AVATAR, 100, 5, 1_000.0, 1_000.0, 50.0)
            mesh.handlers[Views](FROM, Views([row, row], [1, 7]))
            assert mesh.sent == [(FROM.node, Detach(AVATAR, 100, 1)), (FROM.node, Detach(AVATAR, 100, 7))]
            mesh.sent.clear()
            mesh.handlers[Views](FROM, Views([row]))  # of a release that does not name connections
            assert mesh.sent == []

    run(play())
