"""The state side on a simulated network: what servers, and a gateway's subscriber, come to see of one another."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from prometheus_client import generate_latest

from gameserver.state import StateSide
from runtime.cells import CellSubscriber
from runtime.mesh.fake import FakeNetwork, Faults
from runtime.service import Service
from tests.support.virtual import run_virtual
from world import frames, grid
from world.ids import AVATAR_KIND, NodeId, entity_id
from world.limits import (
    PUBLISHER_HIDE_MS,
    STALE_AFTER_MS,
    TICK_MS,
)
from world.messages import MoveAnswers, Views

ANA, BEN = entity_id(AVATAR_KIND, 1), entity_id(AVATAR_KIND, 2)
TREE = entity_id(2, 77)
GATEWAY = NodeId("gw1")
X, Y = 4_090.0, 4_090.0


def land(xs: Any, ys: Any) -> Any:
    return np.ones(len(xs), np.bool_)


def hint(avatar: int) -> tuple[str, int, int] | None:
    return ("gs2", 1, 9) if avatar == BEN else None


class World:
    """Game servers gs1, gs2, … and one gateway on a fake network."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.network = FakeNetwork(random.Random(seed), faults=Faults())
        self.services: dict[str, Service] = {}
        self.sides: dict[str, StateSide] = {}
        self.views: list[Views] = []
        self.answers: list[MoveAnswers] = []
        self.shown: dict[tuple[int, int], list[bytes]] = {}  # the gateway's mirror
        self.forgotten: list[tuple[int, int]] = []

    async def server(self, node: str, generation: int = 1) -> StateSide:
        service = await self._service("gameserver", node)
        mesh = await self.network.mesh("gameserver", node, generation, service=service)
        side = self.sides[node] = StateSide(service, mesh, land, hint)
        return side

    async def gateway(self) -> CellSubscriber:
        service = await self._service("gateway", GATEWAY)
        mesh = await self.network.mesh("gateway", GATEWAY, 1, service=service)
        mesh.serve(Views, lambda _sender, m: self.views.append(m))
        mesh.serve(MoveAnswers, lambda _sender, m: self.answers.append(m))
        return CellSubscriber(service, mesh, self._apply, lambda p, c: self.forgotten.append((p, c)))

    async def _service(self, role: str, node: str) -> Service:
        service = Service.for_test(role, node)
        await service.__aenter__()
        self.services[node] = service
        return service

    def _apply(self, publisher: int, cell: int, body: bytes, snapshot: bool) -> None:
        mirror = self.shown.setdefault((publisher, cell), [])
        if snapshot:
            mirror.clear()
        mirror.append(body)

    def crash(self, node: str) -> None:
        self.network.crash(node)
        self.services[node].crash()

    async def close(self) -> None:
        for service in reversed(list(self.services.values())):
            service.stopping.set()
            await service.__aexit__(None, None, None)


def play(scene: Callable[[World], Awaitable[None]], seed: int = 0) -> World:
    async def whole() -> World:
        world = World(seed)
        try:
            await scene(world)
        finally:
            await world.close()
        return world

    return run_virtual(whole(), seed)


async def pause(ms: float) -> None:
    await asyncio.sleep(ms / 1_000)


def move(avatar: int, number: int, x: float, vx: float = 0.0, time: int = 0) -> bytes:
    return np.array([(avatar, 7, 1, 1, number, time, x, Y, vx, 0.0)], frames.MOVE_ROW).tobytes()


def test_a_ghost_looks_like_its_real_and_follows_it() -> None:
    async def scene(world: World) -> None:
        one, two = await world.server("gs1"), await world.server("gs2")
        one.add(ANA, 3, X, Y, moves=True, properties=[(0, 1, b'["Ana"]')])
        one.attach(ANA, GATEWAY, 7, 1)
        two.add(BEN, 1, X + 20, Y, moves=True)
        two.add(TREE, 2, X + 21, Y, moves=False, properties=[(0, 4, b"[6]")])
        await pause(1_500)
        real, ghost = one.find(ANA), two.find(ANA)
        assert real is not None
        assert ghost is not None
        assert type(real) is type(ghost)
        assert (ghost.epoch, ghost.x, ghost.fields(0), ghost.kind) == (3, X, ["Ana"], AVATAR_KIND)
        assert (real.publisher, ghost.publisher, ghost.stale) == (None, 1, False)
        tree = one.find(TREE)
        assert tree is not None
        assert tree.fields(0) == [6]
        assert [v.entity for v in one.near(X, Y, 25)] == [v.entity for v in two.near(X, Y, 25)] == [ANA, BEN, TREE]
        assert [v.entity for v in one.near(X, Y, 25, kind=2)] == [TREE]
        one.moves(GATEWAY, move(ANA, 1, X, 6.0, time=world.services["gs1"].clock.world_ms()))
        two.set_properties(TREE, 0, 5, b"[5]")
        await pause(1_000)
        ghost, tree = two.find(ANA), one.find(TREE)
        assert ghost is not None
        assert tree is not None
        assert ghost.x == pytest.approx(X + 6, abs=1.0)
        assert tree.fields(0) == [5]
        one.remove(ANA)
        await pause(300)
        assert two.find(ANA) is None

    play(scene)


def test_a_gateway_hears_cells_it_wants_and_only_those_are_sent() -> None:
    async def scene(world: World) -> None:
        one = await world.server("gs1")
        gateway = await world.gateway()
        near, far = grid.cell_at(X, Y), grid.cell_at(100.0, 100.0)
        one.add(TREE, 1, X, Y, moves=False)
        one.add(ANA, 1, X, Y, moves=True)
        one.add(BEN, 1, 100.0, 100.0, moves=True)
        await pause(300)
        before = one.statistics()["publisher"]
        assert (before["published"], before["suppressed"]) == (0, 2)
        gateway.want([near])
        await pause(300)
        assert gateway.joined(near)
        one.area_event(ANA, b'{"kind":"say"}')
        one.area_event(BEN, b'{"kind":"say"}')
        await pause(300)
        exposed = generate_latest(world.services["gs1"].metrics).decode()
        assert "projectk_publisher_suppressed_total 3.0" in exposed
        assert "projectk_state_ghosts_records_total 0.0" in exposed
        assert "projectk_cells_gaps_total 0.0" in exposed
        after = one.statistics()["publisher"]
        assert (after["published"], after["suppressed"]) == (1, 3)
        assert [key[1] for key in world.shown] == [near]
        assert far not in gateway.cells
        events = [frames.read_slice(s) for _p, s in frames.split_frame(world.shown[1, near][-1])[1]]
        assert [e.body for piece in events for e in piece.events] == [b'{"kind":"say"}']

    play(scene)


def test_an_empty_cell_is_joined_by_an_answer_within_a_round_trip() -> None:
    async def scene(world: World) -> None:
        await world.server("gs1")
        gateway = await world.gateway()
        await pause(100)
        gateway.want([5])
        await pause(20)
        assert gateway.joined(5)
        assert gateway.statistics()["snapshots_asked"] == 0

    play(scene)


def test_inputs_are_answered_only_where_they_were_not_applied() -> None:
    async def scene(world: World) -> None:
        one = await world.server("gs1")
        await world.gateway()
        one.add(ANA, 1, X, Y, moves=True, last_input=4)
        one.attach(ANA, GATEWAY, 7, 1)
        now = world.services["gs1"].clock.world_ms()
        one.moves(GATEWAY, move(ANA, 5, X + 0.5, time=now) + move(BEN, 1, X, time=now))
        await pause(3 * TICK_MS)
        assert (one.position(ANA).x, one.position(ANA).last_input) == (X + 0.5, 5)
        assert [row for m in world.answers for row in m.rows] == [(BEN, 7, 1, "moved", "gs2", 1, 9)]
        with pytest.raises(frames.BadFrame):
            one.moves(GATEWAY, b"short")

    play(scene)


def test_views_follow_the_avatar_and_survive_a_lost_message() -> None:
    async def scene(world: World) -> None:
        one = await world.server("gs1")
        await world.gateway()
        await pause(1_000)
        one.add(ANA, 2, X, Y, moves=True)
        world.network.faults.one_way_loss = 1.0
        one.attach(ANA, GATEWAY, 7, 1)
        await pause(500)
        assert world.views == []
        world.network.faults.one_way_loss = 0.0
        await pause(2_500)
        assert world.views[0].rows == [(ANA, 7, 2, X, Y, 50.0)]
        seen = len(world.views)
        now = world.services["gs1"].clock.world_ms()
        one.moves(GATEWAY, move(ANA, 1, X, 6.0, time=now))
        await pause(1_000)
        assert len(world.views) > seen
        assert world.views[-1].rows[0][3] > X + 3

    play(scene)


def test_a_dead_servers_ghosts_age_are_flagged_and_then_hidden() -> None:
    async def scene(world: World) -> None:
        one, two = await world.server("gs1"), await world.server("gs2")
        one.add(ANA, 1, X, Y, moves=True)
        two.add(BEN, 1, X, Y, moves=True)
        await pause(1_500)
        world.crash("gs1")
        await pause(STALE_AFTER_MS + 300)
        ghost = two.find(ANA)
        assert ghost is not None
        assert ghost.stale
        assert two.ghost_age_ms() >= STALE_AFTER_MS
        await pause(PUBLISHER_HIDE_MS)
        assert two.find(ANA) is None

    play(scene)


def test_a_republished_entity_is_not_hidden_with_its_dead_publisher() -> None:
    async def scene(world: World) -> None:
        one, two, three = [await world.server(f"gs{n}") for n in (1, 2, 3)]
        one.add(ANA, 1, X, Y, moves=True)
        two.add(BEN, 1, X, Y, moves=True)
        await pause(1_500)
        world.crash("gs1")
        three.add(ANA, 2, X, Y, moves=True)
        for _ in range(80):
            await pause(100)
            ghost = two.find(ANA)
            assert ghost is not None
        ghost = two.find(ANA)
        assert ghost is not None
        assert (ghost.epoch, ghost.publisher, ghost.stale) == (2, 3, False)

    play(scene)


def test_seers_motion_rows_and_the_observers_picture() -> None:
    async def scene(world: World) -> None:
        one = await world.server("gs1")
        one.add(ANA, 2, 128.0, 128.0, moves=True, motion_version=8, properties=[(0, 1, b'["Ana"]')])
        one.add(TREE, 1, 130.0, 128.0, moves=False)
        await pause(200)
        assert one.seers() == {(0, 0): 1}
        assert one.motion_rows() == [[ANA, 2, 8, 128.0, 128.0, 0]]
        assert one.motion_rows() == []
        picture = one.observe()
        assert picture["avatars"] == [[ANA, "Ana", 128.0, 128.0]]
        assert picture["cells"] == [grid.cell_at(128.0, 128.0)]
        assert set(picture["cells"]) <= set(picture["sight"])

    play(scene)


def test_motion_rows_follow_a_straight_walk_though_no_record_is_published() -> None:
    async def scene(world: World) -> None:
        one = await world.server("gs1")
        one.add(ANA, 2, X, Y, moves=True)
        one.attach(ANA, GATEWAY, 7, 1)
        one.moves(GATEWAY, move(ANA, 1, X, 6.0, time=world.services["gs1"].clock.world_ms()))
        await pause(300)
        (before,) = one.motion_rows()
        await pause(500)
        (after,) = one.motion_rows()
        assert after[2] == before[2]  # the same version
        assert after[3] == pytest.approx(before[3] + 3.0, abs=0.7)

    play(scene)


def test_a_frozen_avatar_takes_no_input() -> None:
    async def scene(world: World) -> None:
        one = await world.server("gs1")
        await world.gateway()
        one.add(ANA, 1, X, Y, moves=True)
        one.attach(ANA, GATEWAY, 7, 1)
        one.freeze(ANA, True)
        one.moves(GATEWAY, move(ANA, 1, X + 0.5, time=world.services["gs1"].clock.world_ms()))
        await pause(3 * TICK_MS)
        assert one.position(ANA).x == X
        assert [row[3] for m in world.answers for row in m.rows] == ["busy"]

    play(scene)


@pytest.mark.parametrize("seed", range(3))
def test_ghosts_converge_to_their_reals_after_faults_stop(seed: int) -> None:
    async def scene(world: World) -> None:
        sides = [await world.server(f"gs{n}") for n in (1, 2, 3)]
        avatars = [entity_id(AVATAR_KIND, n) for n in range(1, 10)]
        for n, avatar in enumerate(avatars):
            sides[n % 3].add(avatar, 1, X + world.random.uniform(-40, 40), Y, moves=True)
            sides[n % 3].attach(avatar, GATEWAY, 7, 1)
        faults = world.network.faults
        faults.frame_loss, faults.subscription_loss, faults.call_loss, faults.one_way_loss = 0.3, 0.3, 0.2, 0.0
        for number in range(1, 60):
            for n, avatar in enumerate(avatars):
                at = sides[n % 3].position(avatar)
                now = world.services["gs1"].clock.world_ms()
                sides[n % 3].moves(GATEWAY, move(avatar, number, at.x, world.random.choice([-6.0, 0.0, 6.0]), now))
                if world.random.random() < 0.1:
                    sides[n % 3].set_properties(avatar, 0, number, b"[%d]" % number)
            await pause(100)
        faults.frame_loss = faults.subscription_loss = faults.call_loss = 0.0
        await pause(5_000)
        for n, avatar in enumerate(avatars):
            real = sides[n % 3].find(avatar)
            assert real is not None
            for side in sides:
                seen = side.find(avatar)
                assert seen is not None
                assert not seen.stale
                assert (seen.epoch, seen.motion_version, seen.groups) == (1, real.motion_version, real.groups)
                assert abs(seen.x - real.x) < 0.01

    play(scene, seed)
