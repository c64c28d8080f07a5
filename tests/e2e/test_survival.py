"""What survives what: power cuts, dead brokers, dead game servers, gateways, logins and stores."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

import httpx
import pytest

from cluster.bots.client import Client, ClientError
from tests.support.aio import run
from tests.support.cluster import Cluster, cluster
from tests.support.ledger import Told, inventory, read_units, violations
from tests.support.players import Player, come_back, eventually, item_of_kind, players, retried
from tests.support.processes import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

GATHERERS = 50
GATHERED_BEFORE_THE_CUT = 150


# -- kill -9 of everything while 50 gather ---------------------------------------------------------------------------
async def gather_until_dead(player: Player, told: Told, items: dict[int, str]) -> None:
    """Gather one node after the other; keep what was acknowledged, and what was asked for without an answer."""
    while True:
        node = player.reachable(60)
        if node is None:
            await asyncio.sleep(0.1)
            continue
        await player.walk_to(node[1], node[2], near_m=player.land.reach_m - 1.5)
        while True:
            result = player.client.begin("gather", target=node[0])
            item = items[node[0] >> 48]
            told.in_doubt[item] += 1
            outcome = await result
            told.in_doubt[item] -= 1
            if not outcome.ok:
                player.land.forget(*node)
                break
            told.acknowledged.update(outcome.value["items"])


async def cut_while_gathering(running: Cluster) -> dict[int, tuple[Told, str]]:
    """Avatar → what its client was told, its refresh token."""
    async with players(running.url, GATHERERS, running.gateways) as crowd:
        items = item_of_kind(running.url)
        told = [Told() for _ in crowd]
        async with asyncio.TaskGroup() as group:
            working = [
                group.create_task(gather_until_dead(player, heard, items))
                for player, heard in zip(crowd, told, strict=True)
            ]
            await eventually(
                lambda: sum(heard.acknowledged.total() for heard in told) >= GATHERED_BEFORE_THE_CUT,
                60,
                "many gathered",
            )
            await asyncio.to_thread(running.kill_everything)
            await eventually(lambda: all(p.client.lost.is_set() for p in crowd), 5, "all connections are lost")
            for task in working:
                task.cancel()
        return {p.client.avatar: (heard, p.client.refresh_token) for p, heard in zip(crowd, told, strict=True)}


async def all_come_back(url: str, tokens: list[str]) -> list[Counter[str]]:
    return [await come_back(url, token) for token in tokens]


def test_a_power_cut_loses_nothing_acknowledged_and_doubles_nothing(tmp_path: Path) -> None:
    with cluster(tmp_path, placement="spread") as running:
        known = run(cut_while_gathering(running))
        told = {avatar: heard for avatar, (heard, _token) in known.items()}
        assert sum(heard.acknowledged.total() for heard in told.values()) >= GATHERED_BEFORE_THE_CUT
        running.start()
        found = run(all_come_back(running.url, [token for _heard, token in known.values()]))
        assert running.stop() == 0
        units = read_units(running.data / "store/world.sqlite")
        assert violations(units, told) == []
        for avatar, seen in zip(known, found, strict=True):
            assert seen == inventory(units, avatar)


def test_the_checker_sees_a_lost_and_a_doubled_item(tmp_path: Path) -> None:
    """The proof is worth something only if it can fail."""
    with cluster(tmp_path, gameservers=1) as running:
        avatar, told = run(gather_some(running.url, 2))
        running.stop()
        units = read_units(running.data / "store/world.sqlite")
        assert violations(units, {avatar: told}) == []
        more = Told(told.acknowledged + Counter({next(iter(told.acknowledged)): 1}))
        assert any("acknowledged" in line for line in violations(units, {avatar: more}))
        region = next(unit for key, unit in units.items() if key.startswith("region:") and unit.data.given)
        region.data.given.clear()
        assert any("is not gained" in line for line in violations(units, {avatar: told}))


async def gather_some(url: str, count: int) -> tuple[int, Told]:
    told = Told()
    async with players(url, 1) as (player,):
        while told.acknowledged.total() < count:
            node = await player.nearest()
            outcome = await player.gather(node)
            if outcome.ok:
                told.acknowledged.update(outcome.value["items"])
            else:
                player.land.forget(*node)
        return player.client.avatar, told


# -- brokers -----------------------------------------------------------------------------------------------------------
def test_without_any_broker_all_goes_on_and_servers_join(tmp_path: Path) -> None:
    with cluster(tmp_path, restart="never", placement="spread", gameservers=2) as running:
        run(without_brokers(running))


async def without_brokers(running: Cluster) -> None:
    async with players(running.url, 2, running.gateways) as (one, other):
        for broker in ("br1", "br2"):
            running.kill(broker)
        wait_until(lambda: not running.processes("broker"), 5, "the brokers are dead")
        assert (await one.gather(await one.nearest())).ok
        x, y = one.client.x, one.client.y
        await other.walk_to(x + 2, y)
        await eventually(lambda: near(one, other.client.avatar, x + 2, y), 5, "players see each other walk")
        member = running.processes("gameserver")[0]["addresses"]["command"]
        ready = await asyncio.to_thread(running.join, "gameserver", "gs4", member)
        assert ready["ready"]
        await eventually_on(running, "gs4")


def near(player: Player, avatar: int, x: float, y: float, within_m: float = 1.5) -> bool:
    seen = player.seen.get(avatar)
    return seen is not None and abs(seen[0] - x) < within_m and abs(seen[1] - y) < within_m


async def eventually_on(running: Cluster, server: str) -> None:
    """New guests log in until one of them plays on this server."""
    for _attempt in range(12):
        async with players(running.url, 1, running.gateways) as (guest,):
            if guest.client.server == server:
                assert (await guest.gather(await guest.nearest())).ok
                return
    raise AssertionError(f"no guest was placed on {server}")


def test_players_of_the_only_game_server_are_told_and_come_back_with_the_next(tmp_path: Path) -> None:
    with cluster(tmp_path, restart="never", gameservers=1, gateways=1, logins=1, brokers=1) as running:
        run(lose_every_game_server(running))


async def lose_every_game_server(running: Cluster) -> None:
    async with players(running.url, 1) as (player,), httpx.AsyncClient(base_url=running.url) as http:
        client = player.client
        assert (await player.gather(await player.nearest())).ok
        had, attaches = dict(client.inventory), client.attaches
        running.kill("gs1")
        await retried_status(http, 503)
        broker = running.processes("broker")[0]["addresses"]["command"]
        await asyncio.to_thread(running.join, "gameserver", "gs7", broker)
        await eventually(lambda: client.attaches > attaches, 30, "attached anew")
        assert (client.server, client.inventory) == ("gs7", had)
        assert not client.lost.is_set()
        await retried_status(http, 200)


async def retried_status(http: httpx.AsyncClient, status: int) -> None:
    async with asyncio.timeout(10):
        while (await http.get("/readyz")).status_code != status:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)


# -- one process of a kind ------------------------------------------------------------
def test_a_dead_game_server_costs_its_players_no_session_and_no_item(shared: Cluster) -> None:
    run(lose_the_game_server(shared))


async def lose_the_game_server(shared: Cluster) -> None:
    async with players(shared.url, 1) as (player,):
        client = player.client
        assert (await player.gather(await player.nearest())).ok
        had, session, attaches = dict(client.inventory), client.session, client.attaches
        server = client.server
        old = shared.kill(server)
        await eventually(lambda: client.attaches > attaches, 30, "attached anew")
        assert client.session == session
        assert not client.lost.is_set()
        assert client.resyncs >= 2
        assert client.inventory == had
        node = await player.nearest()
        outcome = await player.gather(node)
        assert outcome.ok or outcome.code == "depleted", outcome
        await asyncio.to_thread(shared.wait_back, server, old)


def test_a_dead_gateway_costs_a_reconnect_and_no_session(shared: Cluster) -> None:
    run(lose_the_gateway(shared))


async def lose_the_gateway(shared: Cluster) -> None:
    gateways = shared.gateways
    async with players(gateways[1], 1, [gateways[1], gateways[0]]) as (player,):
        client = player.client
        session, avatar = client.session, client.avatar
        old = shared.kill("gw2")
        await eventually(client.lost.is_set, 5, "the connection is lost")
        assert client.may_reconnect
        await retried(client.connect, 10)
        assert (client.session, client.avatar) == (session, avatar)
        assert client.gateways[0] == gateways[0]
        assert (await client.command("inventory")).ok
        await asyncio.to_thread(shared.wait_back, "gw2", old)


def test_a_dead_login_is_not_noticed(shared: Cluster) -> None:
    async def guest() -> None:
        old = shared.kill("lg2")
        async with players(shared.url, 3):
            await asyncio.to_thread(shared.wait_back, "lg2", old)

    run(guest())


def test_a_dead_store_stops_nobody_walking_and_nothing_is_falsely_acknowledged(shared: Cluster) -> None:
    run(lose_the_store(shared))


async def lose_the_store(shared: Cluster) -> None:
    async with players(shared.url, 2, shared.gateways) as (one, other):
        node = await one.nearest()
        await one.walk_to(node[1], node[2], near_m=2.0)
        before = one.client.inventory.copy()
        old = shared.kill("st1")
        x, y = other.client.x, other.client.y
        async with asyncio.TaskGroup() as group:
            group.create_task(other.walk_to(*clear_spot(other, x, y)))
            gathering = group.create_task(one.client.command("gather", target=node[0]))
        outcome = gathering.result()
        await eventually(
            lambda: near(one, other.client.avatar, other.client.x, other.client.y), 5, "walking went on meanwhile"
        )
        assert outcome.ok or outcome.code in ("store_unavailable", "depleted"), outcome
        await asyncio.to_thread(shared.wait_back, "st1", old)
        has = await retried(lambda: inventory_of(one.client), 20)
        gained = Counter(has) - Counter(before)
        assert gained.total() == 1 if outcome.ok else gained.total() <= 1


def clear_spot(player: Player, x: float, y: float) -> tuple[float, float]:
    """A place a few metres away that one can walk to straight."""
    spots = ((x + 5, y), (x - 5, y), (x, y + 5), (x, y - 5))
    return next(spot for spot in spots if player.land.clear(x, y, *spot))


async def inventory_of(client: Client) -> dict[str, int]:
    outcome = await client.command("inventory")
    if not outcome.ok:
        raise ClientError(outcome.code)
    return dict(outcome.value["items"])


def test_a_stopped_process_is_no_dead_cluster(shared: Cluster) -> None:
    """A login that hangs (SIGSTOP) is passed over."""

    async def guests() -> None:
        shared.signal("lg1", signal.SIGSTOP)
        try:
            async with players(shared.url, 3) as crowd:
                assert all(player.client.session for player in crowd)
        finally:
            shared.signal("lg1", signal.SIGCONT)

    run(guests())
