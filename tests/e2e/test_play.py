"""People playing: on different game servers, on any number of them, and a hundred at once."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.aio import run
from tests.support.cluster import Cluster, cluster, projectk
from tests.support.players import Player, eventually, players

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

Step = tuple[Any, ...]
CROWDS = 5


def two_apart(crowd: list[Player]) -> tuple[Player, Player]:
    """Two players whose avatars different game servers own."""
    return crowd[0], next(p for p in crowd[1:] if p.client.server != crowd[0].client.server)


def test_players_of_different_servers_meet_talk_and_share_a_tree(shared: Cluster) -> None:
    run(meet(shared))


async def meet(running: Cluster) -> None:
    async with players(running.url, 3, running.gateways) as crowd:
        one, other = two_apart(crowd)
        await eventually(lambda: other.client.avatar in one.seen, 5, "one sees the other")
        await eventually(lambda: one.client.avatar in other.seen, 5, "the other sees the one")
        assert one.seen[other.client.avatar][2] == int(other.client.server.removeprefix("gs"))
        assert other.seen[one.client.avatar][2] == int(one.client.server.removeprefix("gs"))
        node = await one.nearest()
        for player in (one, other):
            outcome = await player.gather(node)
            assert outcome.ok, outcome
            had = player.client.inventory
            assert sum(had.values()) == 1, had
        assert (await one.client.command("say", text="good morning")).ok
        await eventually(lambda: all("good morning" in said(player) for player in (one, other)), 5, "heard by both")


def said(player: Player) -> list[str]:
    return [event["text"] for event in player.heard if event["kind"] == "say"]


# -- the same outcome on any number of servers -------------------------------------------------------------------------
async def scenario(running: Cluster, apart: bool) -> list[Step]:
    """Two players empty the same nearest thing in turns; look, say and mistakes in between. Everything they are told,
    without ids and names."""
    for _crowd in range(CROWDS):
        async with players(running.url, 4, running.gateways) as crowd:
            one = crowd[0]
            other = next((p for p in crowd[1:] if (p.client.server != one.client.server) == apart), None)
            if other is not None:  # a gateway just started may not have heard of all servers yet
                return await story(one, other)
    raise AssertionError(f"in {CROWDS} crowds no two players were {'apart' if apart else 'together'}")


async def story(one: Player, other: Player) -> list[Step]:
    told: list[Step] = []
    node = await one.nearest()
    for player in (one, other):
        await player.walk_to(node[1], node[2], near_m=2.0)
    for turn in range(8):
        player = (one, other)[turn % 2]
        outcome = await player.client.command("gather", target=node[0])
        told.append(("gather", turn % 2, outcome.ok, outcome.code, outcome.value))
        has = await player.client.command("inventory")
        told.append(("inventory", turn % 2, has.value["items"]))
    far = max(one.land.nodes(one.client.x, one.client.y, 80), key=lambda n: abs(n[1] - one.client.x))
    mistakes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("gather", {"target": far[0]}),
        ("gather", {"target": 12345}),
        ("gather", {"target": other.client.avatar}),
        ("gather", {"aim": 1}),
        ("dance", {}),
        ("say", {"text": "x" * 500}),
    )
    for op, args in mistakes:
        outcome = await one.client.command(op, **args)
        told.append((op, outcome.ok, outcome.code))
    look = await other.client.command("look", target=node[0])
    told.append(("look", look.ok, sorted(look.value)))
    assert (await other.client.command("say", text="it is empty")).ok
    await eventually(lambda: "it is empty" in said(one), 5, "heard")
    return told


def play(folder: Path, gameservers: int, apart: bool) -> list[Step]:
    folder.mkdir()
    few = {"gateways": 1, "logins": 1, "brokers": 1}  # what is compared is the number of game servers
    placement = "spread" if gameservers > 1 else "gather"
    with cluster(folder, gameservers=gameservers, placement=placement, **few) as running:
        return run(scenario(running, apart))


def test_the_same_scenario_has_the_same_outcome_on_one_two_and_three_servers(tmp_path: Path) -> None:
    alone = play(tmp_path / "one", 1, apart=False)
    assert [step[2] for step in alone if step[0] == "gather" and len(step) == 5].count(True) >= 3
    assert ("gather", 1, False, "depleted", {}) in alone
    assert play(tmp_path / "two", 2, apart=True) == alone
    assert play(tmp_path / "three", 3, apart=True) == alone


# -- a hundred ---------------------------------------------------------------------------------------------------------
def test_a_hundred_bots_meet_no_error(tmp_path: Path) -> None:
    with cluster(tmp_path) as running:
        words = (
            "--url",
            running.url,
            "--count",
            "100",
            "--seconds",
            "8",
            "--rate",
            "50",
            "--spread",
            "60",
            "--gather-every",
            "4",
            "--json",
        )
        done = projectk("bots", *words, cwd=tmp_path, timeout_s=200)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout.splitlines()[-1])
        assert report["errors"] == {}, running.logs()
        assert report["logins"] == 100
        assert report["inputs_unseen"] == 0
        assert report["latency_samples"] > 100
        assert report["gathered"] > 30
        assert " ended with " not in running.output()
