"""The whole cluster on Couchbase (its mock, over the wire) instead of SQLite."""

import asyncio
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from runtime.service import EXIT_REFUSED
from runtime.store.opening import open_store
from tests.browser.conftest import ARGUMENTS, CHROMIUM, WINDOW
from tests.browser.pages import PlayPage
from tests.support.aio import run
from tests.support.cluster import Cluster, cluster, projectk
from tests.support.couchbase_mock import CouchbaseMock, couchbase_mock
from tests.support.ledger import Told, inventory, stored_units, violations
from tests.support.players import Player, come_back, eventually, item_of_kind, players
from tests.support.processes import wait_until
from tests.support.require import missing
from world.unit_document import UnitDocument

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

PLAYERS = 4
GATHERED_BEFORE, GATHERED_AFTER = 8, 16
WALK_M = 3.0
SMALL: dict[str, object] = {"gameservers": 2, "gateways": 1, "logins": 1, "brokers": 1, "placement": "spread"}


@pytest.fixture(name="mock")
def _mock() -> Iterator[CouchbaseMock]:
    with couchbase_mock() as mock:
        yield mock


def test_killed_and_restarted_on_couchbase_nothing_is_lost(tmp_path: Path, mock: CouchbaseMock) -> None:
    with cluster(tmp_path, **SMALL, variables=mock.environment) as running:
        assert running.processes("store") == []
        told, tokens = run(gather_while_a_server_dies(running))
        shows_no_credentials(running, mock)
        assert running.stop() == 0
        running.start()
        seen = {avatar: run(come_back(running.url, token)) for avatar, token in tokens.items()}
        browsed = walk_and_gather(running.url)
        assert running.stop() == 0
    units = run(units_of(mock))
    assert violations(units, told) == []
    assert {avatar: inventory(units, avatar) for avatar in told} == seen
    assert inventory(units, browsed).total() >= 1


async def gather_while_a_server_dies(running: Cluster) -> tuple[dict[int, Told], dict[int, str]]:
    """By avatar: what its client was told, and its refresh token."""
    async with players(running.url, PLAYERS, running.gateways) as crowd:
        items = await asyncio.to_thread(item_of_kind, running.url)
        told = [Told() for _ in crowd]
        stop = asyncio.Event()

        def gathered() -> int:
            return sum(heard.acknowledged.total() for heard in told)

        async with asyncio.TaskGroup() as group:
            for player, heard in zip(crowd, told, strict=True):
                group.create_task(gather_until(stop, player, heard, items))
            await eventually(lambda: gathered() >= GATHERED_BEFORE, 60, "some gathered")
            pid = await asyncio.to_thread(running.kill, "gs1")
            await eventually(lambda: gathered() >= GATHERED_AFTER, 60, "they go on gathering")
            stop.set()
        await asyncio.to_thread(running.wait_back, "gs1", pid)
        return (
            {player.client.avatar: heard for player, heard in zip(crowd, told, strict=True)},
            {player.client.avatar: player.client.refresh_token for player in crowd},
        )


async def gather_until(stop: asyncio.Event, player: Player, told: Told, items: dict[int, str]) -> None:
    while not stop.is_set():
        node = player.reachable(60)
        if node is None:
            await asyncio.sleep(0.1)
            continue
        outcome = await player.gather(node)
        if outcome.ok:
            told.acknowledged.update(outcome.value["items"])
        else:
            told.in_doubt[items[node[0] >> 48]] += int(outcome.code == "store_unavailable")
            player.land.forget(*node)


def walk_and_gather(url: str) -> int:
    """A real page: it walks, and clicks what grows until it holds something. Its avatar."""
    if CHROMIUM is None:
        missing("browser", "apt-get install chromium (Debian), or put chromium on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(ARGUMENTS))
        page = PlayPage(browser.new_context(viewport=WINDOW), f"{url}/").open(ready_s=60)
        x, _ = page.position
        page.walk_until(1, 0, f"projectk.position.x - {x} > {WALK_M}")
        page.zoom(-3)
        page.gather(fullest(page))
        avatar = page.avatar
        assert page.complaints == []
        browser.close()
        return avatar


def fullest(page: PlayPage) -> int:
    """Of all that can be clicked on, what has most left: others gather too."""
    nodes = [e for e in page.entities() if e["kind"] in ("tree", "rock", "bush") and page.spot(e["id"])]
    return int(max(nodes, key=lambda node: max(node["fields"].values(), default=0))["id"])


async def units_of(mock: CouchbaseMock) -> dict[str, UnitDocument]:
    store = await open_store(mock.url, mock.credentials)
    try:
        return await stored_units(store)
    finally:
        await store.close()


def shows_no_credentials(running: Cluster, mock: CouchbaseMock) -> None:
    """In no argument of any process, and in no log; and who needs none has none."""
    texts = {path.name: path.read_text(errors="replace") for path in (running.data / "logs").iterdir()}
    texts["up.out"] = running.output()
    for row in running.processes():
        texts[f"arguments of {row['id']}"] = Path(f"/proc/{row['pid']}/cmdline").read_text()
    secret = re.compile(rf"\b({mock.user}|{mock.password})\b")
    assert [name for name, text in texts.items() if secret.search(text)] == []
    (broker,) = running.processes("broker")
    assert "STORE_PASSWORD" not in Path(f"/proc/{broker['pid']}/environ").read_text()


def test_a_wrong_password_ends_the_start_with_one_sentence(tmp_path: Path, mock: CouchbaseMock) -> None:
    done = refused_up(tmp_path, mock.environment | {"PROJECTK_STORE_PASSWORD": "hunter2"})
    said = "refuses these credentials: check PROJECTK_STORE_USER and PROJECTK_STORE_PASSWORD, or their _FILEs."
    assert done.stderr.rstrip().endswith(said)
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("couchbase://127.0.0.1:1/world", "cannot be reached at 127.0.0.1:1: check the hosts"),
        ("{hosts}/elsewhere", "has no bucket elsewhere: create it"),
    ],
    ids=["unreachable", "no bucket"],
)
def test_a_store_that_cannot_be_used_ends_the_start_with_one_sentence(
    tmp_path: Path, mock: CouchbaseMock, url: str, said: str
) -> None:
    hosts = mock.environment["PROJECTK_STORE"].rpartition("/")[0]
    done = refused_up(tmp_path, mock.environment | {"PROJECTK_STORE": url.format(hosts=hosts)})
    (sentence,) = done.stderr.splitlines()
    assert said in sentence


def test_a_bucket_without_replicas_ends_the_start_with_one_sentence(tmp_path: Path) -> None:
    with couchbase_mock(nodes=1, replicas=0) as mock:
        done = refused_up(tmp_path, mock.environment)
    (sentence,) = done.stderr.splitlines()
    assert "keeps one copy only, and durability=persistToMajority needs two" in sentence


def refused_up(folder: Path, variables: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    words = ("up", "--gameservers", "1", "--gateways", "1", "--logins", "1", "--brokers", "1", "--port", "0")
    done = projectk(*words, "--data", str(folder / "var"), cwd=folder, timeout_s=60, **variables)
    assert done.returncode == EXIT_REFUSED, done.stderr
    wait_until(lambda: not (folder / "var" / "ops.json").exists(), 5, "nothing runs")
    return done
