"""What a hostile client says over the real path: its documented end, and nobody else notices."""

import asyncio
import math

import httpx
import pytest

from tests.support.aio import run
from tests.support.cluster import Cluster
from tests.support.players import Player, eventually, players
from world.frames import client_moves
from world.limits import CLIENT_MESSAGE_BYTES, CLIENT_MESSAGES_BURST, WALK_SPEED_M_PER_S

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

HUGE = 3.4e38  # about the largest float32
FAR_M = 2.0 * WALK_SPEED_M_PER_S  # farther than an honest budget allows within this test's claims


def test_hostile_moves_move_nobody_and_the_next_good_one_counts(shared: Cluster) -> None:
    run(lie(shared))


async def lie(running: Cluster) -> None:
    async with players(running.url, 2, running.gateways) as (villain, witness):
        client = villain.client
        x, y, now = client.x, client.y, client.world_ms()
        await eventually(lambda: client.avatar in witness.seen, 5, "the witness sees the villain")
        lies = [
            (now, 1e30, 1e30, 0.0, 0.0),
            (now, -1e9, y, 0.0, 0.0),
            (now, x + 500, y, 0.0, 0.0),
            (now, x, y, HUGE, -HUGE),
            (now, x, y, 100.0, 0.0),
            (0, x + 30, y, 0.0, 0.0),
            ((1 << 64) - 1, x + 30, y, 0.0, 0.0),
            (now - 3_600_000, x - 30, y, 0.0, 0.0),
            (now + 3_600_000, x - 30, y, 0.0, 0.0),
        ]
        for said in lies:
            client.input += 1
            client.raw_binary(client_moves([(client.input, *said)]))
            await asyncio.sleep(0.15)
            at_x, at_y, _ = witness.seen[client.avatar]
            assert math.isfinite(at_x + at_y)
            assert math.hypot(at_x - x, at_y - y) < FAR_M, said
        await villain.walk_to(*near_by(villain, x, y))
        await eventually(lambda: stands(witness, villain), 5, "an honest walk is seen")
        assert (await witness.client.command("inventory")).ok


def near_by(player: Player, x: float, y: float) -> tuple[float, float]:
    spots = ((x + 4, y), (x - 4, y), (x, y + 4), (x, y - 4))
    return next(spot for spot in spots if player.land.clear(x, y, *spot))


def stands(witness: Player, other: Player) -> bool:
    x, y, _ = witness.seen[other.client.avatar]
    return math.hypot(x - other.client.x, y - other.client.y) < 1.0


@pytest.mark.parametrize(
    ("kind", "payload", "code"),
    [
        ("binary", client_moves([(1, 1, math.nan, 0.0, 0.0, 0.0)]), 4000),
        ("binary", client_moves([(1, 1, 0.0, math.inf, 0.0, 0.0)]), 4000),
        ("binary", b"\x01\x00\x00\x00", 4000),
        ("text", b'{"t":"command","n":1,"op":"say","args":' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}", 4000),
        ("text", b'{"t":"command","n":1e999,"op":"say"}', 4000),
        ("text", b"x" * (CLIENT_MESSAGE_BYTES + 1), 1009),
        ("text", b"\xff\xfe", 1007),
    ],
)
def test_nonsense_ends_its_own_socket_with_the_documented_code(
    shared: Cluster, kind: str, payload: bytes, code: int
) -> None:
    async def send() -> None:
        async with players(shared.url, 2, shared.gateways[:1]) as (villain, witness):
            say = villain.client.raw_binary if kind == "binary" else villain.client.raw_text
            say(payload)
            await eventually(villain.client.lost.is_set, 5, "the socket is closed")
            assert villain.client.close_code == code
            assert (await witness.client.command("inventory")).ok
            async with httpx.AsyncClient() as http:
                metrics = (await http.get(f"{shared.gateways[0]}/metrics")).text
            assert "projectk_gateway_bad_input_total" in metrics

    run(send())


def test_too_much_at_once_is_rate_limited(shared: Cluster) -> None:
    async def flood() -> None:
        async with players(shared.url, 2, shared.gateways[:1]) as (villain, witness):
            for _ in range(3 * CLIENT_MESSAGES_BURST):
                villain.client.raw_text(b'{"t":"ping","c":1}')
            await eventually(villain.client.lost.is_set, 5, "the socket is closed")
            assert villain.client.close_code == 4004
            assert (await witness.client.command("inventory")).ok

    run(flood())
