"""Sessions through real gateways, logins and game servers: they outlive each process, and end when they are ended."""

import asyncio
import math
import random

import orjson
import pytest

from cluster.bots.client import ClientError
from runtime.mesh.api import Refused
from runtime.store.memory import Faults
from tests.support.game import nearest
from tests.support.virtual import run_virtual
from tests.support.whole import PlayerClient, Whole
from world.ids import avatar_unit
from world.limits import AVATAR_LINGER_S, HTTP_LOGIN_MS, RESUME_TOKEN_S, TOKEN_LEEWAY_S, VIEW_RESEND_MS
from world.messages import Logout, Ok


def attach_number(world: Whole, player: PlayerClient) -> list[object]:
    return list(world.document(avatar_unit(player.avatar))["data"]["attach"])


async def resume_is_refused(player: PlayerClient, code: int) -> None:
    with pytest.raises(ClientError, match=f"closed_{code}"):
        await player.connect(resume=True)


def numbered(player: PlayerClient) -> list[tuple[int, int]]:
    """(stream, n) of all events told, in order."""
    said = [orjson.loads(text) for text in player.said if text.startswith(b'{"t":"event"')]
    return [(event["s"], event["n"]) for event in said]


def results(player: PlayerClient) -> list[int]:
    """The numbers of all results told, in order."""
    return [orjson.loads(text)["n"] for text in player.said if text.startswith(b'{"t":"result"')]


async def at_a_tree(world: Whole, player: PlayerClient) -> int:
    """Walk to the nearest tree; its entity."""
    tree, x, y = nearest(to=(player.x, player.y))
    while (gap := math.hypot(x - player.x, y - player.y)) > 2:
        step = min(1.0, gap)
        player.move(player.x + (x - player.x) / gap * step, player.y + (y - player.y) / gap * step, 0.0, 0.0)
        await asyncio.sleep(0.2)
    await asyncio.sleep(0.6)  # it is in the motion document
    return tree


def wood(world: Whole, player: PlayerClient) -> int:
    stored = world.document(avatar_unit(player.avatar))["data"]["entities"][str(player.avatar)]
    return int(stored.get("items", {}).get("wood", 0))


# -- processes that die ------------------------------------------------------------------------------------------------
def test_a_dead_gateway_costs_no_event_and_no_command() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        async with Whole(2) as world:
            player = await world.newcomer()
            tree = await at_a_tree(world, player)
            for round in (1, 2):
                asked = [player.begin("gather", target=tree) for _ in range(2)]
                await asyncio.sleep(0.01)  # on the way
                died = loop.time()
                dead = player.link.gateway.node_id
                await world.end(dead)
                await player.until(lambda: player.attaches == round + 1, 3.0)  # noqa: B023
                assert loop.time() - died < 3.0
                assert all(outcome.ok for outcome in await asyncio.gather(*asked))
                await world.begin(dead)
            await player.until(lambda: player.inventory == {"wood": 4})
            assert wood(world, player) == 4, "each was done once"
            streams = numbered(player)
            assert streams == [(streams[0][0], n + 1) for n in range(len(streams))], "none lost, none twice"
            assert sorted(results(player)) == [1, 2, 3, 4]
            assert (player.session, player.resyncs) == (1, 1), "one session, told whole once: at its beginning"
            assert world.failures == []

    run_virtual(play())


def test_a_dead_game_server_costs_no_socket_and_every_command_is_done_once() -> None:
    async def play() -> None:
        async with Whole(2) as world:
            player = await world.newcomer()
            tree = await at_a_tree(world, player)
            dead = player.server
            asked = [player.begin("gather", target=tree)]
            await asyncio.sleep(0.01)
            await world.kill(dead)
            x, before = player.x, player.input
            for _ in range(30):  # it walks on by its own lights, and gathers
                x += 0.1
                player.move(x, player.y, 0.5, 0.0)
                await asyncio.sleep(0.1)
            asked.append(player.begin("gather", target=tree))
            await player.until(lambda: player.attaches == 2, 5)
            outcomes = await asyncio.gather(*asked)
            assert [outcome.code for outcome in outcomes if not outcome.ok] in ([], ["unreachable"])
            player.move(player.x, player.y, 0.0, 0.0)
            state = world.servers[player.server].game.state
            await player.until(lambda: state.position(player.avatar).last_input == player.input)
            assert player.input == before + 31
            assert (player.codes, player.server != dead) == ([], True)
            assert wood(world, player) >= sum(outcome.ok for outcome in outcomes)
            assert wood(world, player) <= 2
            assert results(player) == [1, 2]
            assert (player.session, player.resyncs) == (1, 2)

    run_virtual(play())


def test_gateway_and_game_server_dead_in_the_same_second() -> None:
    async def play() -> None:
        async with Whole(2) as world:
            player = await world.newcomer()
            tree = await at_a_tree(world, player)
            assert (await player.command("gather", target=tree)).ok
            await world.kill(player.server)
            await asyncio.sleep(0.3)
            await world.end(player.link.gateway.node_id)
            await player.until(lambda: player.resyncs == 2, 8)
            assert (player.session, player.codes, player.inventory) == (1, [1006], {"wood": 1})
            assert (await player.command("gather", target=tree)).ok
            await player.until(lambda: player.inventory == {"wood": 2})
            assert wood(world, player) == 2

    run_virtual(play())


def test_the_same_account_twice_replaces_the_older_session() -> None:
    async def play() -> None:
        async with Whole(2) as world:
            first = await world.newcomer("gw2")
            second = PlayerClient(world, "gw3")
            second.access_token = first.access_token
            await second.connect()
            await first.until(lambda: first.codes == [4002])
            assert not first.may_reconnect
            assert (second.avatar, second.session > first.session) == (first.avatar, True)
            assert (await second.command("say", text="it is me")).ok
            await resume_is_refused(first, 4002)
            assert not second.lost.is_set(), "the older session's knocking harms nothing"

    run_virtual(play())


# -- logout ------------------------------------------------------------------------------------------------------------
def test_logout_ends_the_live_session_and_its_resume_token() -> None:
    async def play() -> None:
        async with Whole(2, logins=2) as world:
            player = await world.newcomer()
            unit = avatar_unit(player.avatar)
            owner = world.owner(unit)
            assert await world.ask_login(Logout(player.refresh_token)) == Ok()
            number = attach_number(world, player)
            assert number[1:] == [0, ""]
            assert int(str(number[0])) > player.session
            await player.until(lambda: player.codes == [4011])
            assert not player.may_reconnect
            await player.until(lambda: world.owner(unit) == "", what="saved and released")
            assert world.servers[owner].game.presences.get(player.avatar) is None
            await resume_is_refused(player, 4011)
            with pytest.raises(ClientError, match="unauthorized"):
                await player.refresh()
            assert world.failures == []

    run_virtual(play())


def test_a_player_whose_gateway_was_not_told_of_the_logout_is_refused_at_the_next_step() -> None:
    async def play() -> None:
        async with Whole(1) as world:
            player = await world.newcomer()
            world.network.partition("gs1", "gw2")
            world.network.partition("gw2", "lg1")
            asked = world.gateways["gw3"].mesh.call_any("login", Logout(player.refresh_token))
            assert await asked == Ok()
            await asyncio.sleep(1)
            assert player.codes == [], "the word was lost"
            world.network.heal()
            await asyncio.sleep(0.6)
            player.move(player.x, player.y, 0.0, 0.0)
            await player.until(lambda: player.codes == [4011], 1)

    run_virtual(play())


def test_an_access_token_opens_no_session_after_its_logout() -> None:
    """Also at a gateway and a login that have never heard of it."""

    async def play() -> None:
        async with Whole(1, logins=2) as world:
            player = await world.newcomer()
            assert await world.ask_login(Logout(player.refresh_token)) == Ok()
            await player.until(lambda: player.lost.is_set())
            for gateway in ("gw2", "gw3"):
                thief = PlayerClient(world, gateway)
                thief.access_token = player.access_token
                with pytest.raises(ClientError, match="closed_4001"):
                    await thief.connect()
            assert attach_number(world, player)[1:] == [0, ""]

    run_virtual(play())


def test_logout_of_an_avatar_that_nobody_owns_or_whose_gateway_is_gone() -> None:
    async def play() -> None:
        async with Whole(2) as world:
            left, stranded = await world.newcomer(), await world.newcomer("gw3")
            left.leave()
            await left.until(lambda: world.owner(avatar_unit(left.avatar)) == "")
            await world.end("gw3")
            stranded.gateways = ["sim://gw3"]
            for player in (left, stranded):
                assert await world.ask_login(Logout(player.refresh_token)) == Ok()
                assert attach_number(world, player)[1:] == [0, ""]
                await player.until(lambda player=player: world.owner(avatar_unit(player.avatar)) == "")  # type: ignore[misc]
                player.gateways = ["sim://gw2"]
                await resume_is_refused(player, 4011)

    run_virtual(play())


def test_logout_without_the_store_says_so_and_a_repeat_finishes_it() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        async with Whole(1, store_faults=Faults(random.Random(1))) as world:
            assert world.store.faults is not None
            player = await world.newcomer()
            world.store.faults.unavailable.append((loop.time(), loop.time() + 8))
            with pytest.raises(Refused, match="store_unavailable"):
                await world.ask_login(Logout(player.refresh_token))
            assert player.codes == []
            await asyncio.sleep(8)
            assert await world.ask_login(Logout(player.refresh_token)) == Ok()
            await player.until(lambda: player.codes == [4011])
            await resume_is_refused(player, 4011)

    run_virtual(play())


def test_a_login_that_dies_between_revoking_and_ending_is_finished_by_the_other() -> None:
    async def play() -> None:
        async with Whole(1, logins=2) as world:
            player = await world.newcomer()
            world.network.partition("lg1", "gs1")
            world.network.partition("lg2", "gs1")
            with pytest.raises(Refused, match="session_not_ended"):
                await world.ask_login(Logout(player.refresh_token), HTTP_LOGIN_MS)
            revoked = [d for d in world.documents("family").values() if d["revoked"]]
            assert [d["ended"] > player.session for d in revoked] == [True]
            assert player.codes == []
            await world.end("lg1")
            world.network.heal()
            assert await world.ask_login(Logout(player.refresh_token), 2 * HTTP_LOGIN_MS) == Ok()
            await player.until(lambda: player.codes == [4011])
            assert attach_number(world, player)[0] == revoked[0]["ended"]

    run_virtual(play())


def test_resume_tokens_expire() -> None:
    async def play() -> None:
        async with Whole(1) as world:
            player = await world.newcomer()
            session = player.session
            world.pass_days(RESUME_TOKEN_S - TOKEN_LEEWAY_S)
            player.drop()
            await player.until(lambda: player.attaches == 2)
            assert player.session == session
            world.pass_days(2 * TOKEN_LEEWAY_S + 1)
            player.drop()
            await player.until(lambda: player.attaches == 3, what="it has identified anew")
            assert player.codes == [1006, 1006, 4008, 4001]
            assert player.session > session

    run_virtual(play())


# -- closes that are lost -------------------------------------------------------------------------------------------
def test_a_lost_close_is_said_again() -> None:
    """Its gateway lives, its client does not come back: the avatar lingers and leaves."""

    async def play() -> None:
        async with Whole(1) as world:
            player = await world.newcomer()
            presences = world.servers["gs1"].game.presences
            player.gateways = ["sim://nowhere"]
            world.network.partition("gw2", "gs1")
            player.drop()
            await asyncio.sleep(0.5)
            world.network.heal()
            presence = presences.get(player.avatar)
            assert presence is not None
            assert presence.attached, "the close was lost"
            await player.until(lambda: not presence.attached, VIEW_RESEND_MS / 1_000 + 0.5)
            await player.until(lambda: presences.get(player.avatar) is None, AVATAR_LINGER_S + 3)
            assert world.failures == []

    run_virtual(play())


def test_a_late_close_of_the_old_socket_harms_nothing() -> None:
    """The client is at another gateway long before the first one notices, and says so."""

    async def play() -> None:
        async with Whole(2) as world:
            player = await world.newcomer("gw2")
            owner = world.servers[player.server].game
            close_late = player.vanish()
            await player.until(lambda: player.attaches == 2)
            assert (player.session, player.connection, player.link.gateway.node_id) == (1, 2, "gw3")
            close_late()
            await asyncio.sleep(VIEW_RESEND_MS / 1_000 + 0.5)
            presence = owner.presences.get(player.avatar)
            assert presence is not None
            assert (presence.attached, presence.gateway) == (True, "gw3")
            assert (await player.command("say", text="still here")).ok
            assert not player.lost.is_set()

    run_virtual(play())


# -- no room -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(3))
def test_at_the_cap_everywhere_the_least_loaded_adopts_whoever_is_asked(seed: int) -> None:
    async def play() -> None:
        async with Whole(3, avatars_per_server=3, placement="spread") as world:
            players = [await world.newcomer() for _ in range(9)]
            await players[0].until(lambda: {len(s.game.presences) for s in world.servers.values()} == {3})
            with pytest.raises(ClientError, match="closed_4009"):
                await world.newcomer()
            for gateway in world.gateways.values():
                gateway.any_server = lambda: "gs1"  # type: ignore[method-assign]
            await world.kill("gs3")
            living = [s.game for s in world.servers.values()]
            await players[0].until(lambda: sum(len(g.presences) for g in living) == 9, 15)
            assert sorted(len(g.presences) for g in living) == [4, 5]
            assert all(player.codes == [] for player in players), "their sockets stayed open"
            assert world.failures == []

    run_virtual(play(), seed)
