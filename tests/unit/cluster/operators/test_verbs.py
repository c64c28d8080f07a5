"""The operators' verbs over scripted answers: what is printed, and the exit codes."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from typer.testing import CliRunner, Result

from cluster.cli import app
from cluster.operators.api import Cluster, Json
from cluster.operators.found import CannotAsk, Found
from runtime.store.sqlite import SqliteStore

Answers = dict[tuple[str, str], Callable[[httpx.Request], httpx.Response]]


class Script:
    """Answers by (method, path); what was asked."""

    def __init__(self) -> None:
        self.answers: Answers = {}
        self.asked: list[tuple[str, str, Any]] = []

    def says(self, method: str, path: str, *documents: Json, status: int = 200) -> None:
        """One after the other, the last one again and again."""
        left = list(documents)

        def answer(_request: httpx.Request) -> httpx.Response:
            return httpx.Response(status, json=left.pop(0) if len(left) > 1 else left[0])

        self.answers[method, path] = answer

    def handle(self, request: httpx.Request) -> httpx.Response:
        body = orjson.loads(request.content) if request.content else None
        path = request.url.raw_path.decode()
        self.asked.append((request.method, path, body))
        answer = self.answers.get((request.method, path))
        return answer(request) if answer else httpx.Response(404, json={"code": "not_found", "detail": path})


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Script:
    (tmp_path / "token").write_text("secret")
    monkeypatch.setenv("PROJECTK_OPS_URL", "http://a")
    monkeypatch.setenv("PROJECTK_OPS_TOKEN_FILE", str(tmp_path / "token"))
    made = Script()

    def wired(found: Found) -> Cluster:
        return Cluster(found, httpx.MockTransport(made.handle))

    monkeypatch.setattr("cluster.operators.ask.Cluster", wired)
    for verb in ("status", "drain", "events", "deploy"):
        monkeypatch.setattr(f"cluster.verbs.{verb}.time.sleep", lambda _s: None)
    made.says("GET", "/v1/ops/nodes", LISTING)
    return made


def run(*words: str) -> Result:
    return CliRunner().invoke(app, [*words], env={"COLUMNS": "120"})


def node(name: str, role: str, **more: Any) -> Json:
    common = {"status": "ready", "suspected": False, "silent_ms": 300, "round_trip_ms": 0.4, "ready_ms": 5_000}
    return {"id": name, "role": role, "generation": 3, **common, "endpoints": {}, "load": {}} | more


LISTING = {
    "asked": "gw1",
    "world_ms": 1,
    "nodes": [
        node("gs1", "gameserver", load={"avatars": 7, "tick_ms": 1.5}, ready_ms=7_300_000),
        node("gs2", "gameserver", suspected=True),
        node("gs3", "gameserver", status="draining"),
        node("gw1", "gateway", endpoints={"ops": "http://a"}, load={"clients": 4}),
        node("br1", "broker", ready_ms=None),
    ],
}


def test_status_is_a_table_or_a_document(script: Script) -> None:
    shown = run("status")
    assert shown.exit_code == 0
    lines = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    assert lines[1:] == [
        "br1 broker ready 3 - 0.3 s ago",
        "gw1 gateway ready 3 5 s asked 4 clients",
        "gs1 gameserver ready 3 2 h 0.3 s ago 7 avatars, tick 1.5 ms",
        "gs2 gameserver silent 3 5 s 0.3 s ago",
        "gs3 gameserver draining 3 5 s 0.3 s ago",
    ]
    assert orjson.loads(run("status", "--json").stdout) == LISTING


def test_drain_begins_and_waits_for_the_end_of_that_generation(script: Script) -> None:
    script.says("POST", "/v1/ops/nodes/gs1:drain?force=false", node("gs1", "gameserver"), status=202)
    script.says("GET", "/v1/ops/nodes/gs1", node("gs1", "gameserver"), node("gs1", "gameserver", generation=4))
    done = run("drain", "gs1", "--wait")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "gs1 has ended.")
    assert [path for method, path, _body in script.asked if method == "GET"].count("/v1/ops/nodes/gs1") == 2
    script.says("POST", "/v1/ops/nodes/gs9:drain?force=true", node("gs9", "gameserver"), status=202)
    assert run("drain", "gs9", "--wait", "--force").exit_code == 0, "it left the book"


def test_drain_says_why_not(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = {"code": "last_of_its_role", "detail": "gs1 is the last ready gameserver; ?force=true drains it anyway"}
    script.says("POST", "/v1/ops/nodes/gs1:drain?force=false", problem, status=409)
    refused = run("drain", "gs1")
    assert "the last ready gameserver" in str(refused.exception)
    assert run("drain", "Fred").exit_code == 2
    monkeypatch.setattr("cluster.verbs.drain.DRAIN_MS", -100_000)
    script.says("POST", "/v1/ops/nodes/gs2:drain?force=false", node("gs2", "gameserver"), status=202)
    late = run("drain", "gs2", "--wait")
    assert late.exit_code == 1
    assert "has not ended yet" in late.stderr


def test_handoff_names_the_unit_and_where_it_is(script: Script) -> None:
    done = {"unit": "avatar:281474976710663", "server": "gs2", "epoch": 6}
    script.says("POST", "/v1/ops/entities/281474976710663:handoff", done)
    said = run("handoff", "avatar:281474976710663", "--to", "gs2")
    assert said.stdout == "avatar:281474976710663 is at gs2 now, epoch 6.\n"
    assert script.asked[-1][2] == {"to": "gs2"}
    assert run("handoff", "Ana").exit_code == 2


def test_events_are_lines_and_told_once(script: Script) -> None:
    def stream(*notes: Json) -> bytes:
        return b"".join(b"event: %b\ndata: %b\n\n" % (n["kind"].encode(), orjson.dumps(n)) for n in notes)

    death = {"n": 1, "kind": "death", "world_ms": 0, "by": "gs1", "detail": {"node": "gs2", "generation": 3}}
    again = death | {"n": 9}  # as another gateway numbers it
    other = death | {"n": 10, "world_ms": 1}
    missed = b'event: missed\ndata: {"missed":3}\n\n'
    body = stream(death) + missed + stream(again, other)
    script.answers["GET", "/v1/ops/events?follow=false"] = lambda _r: httpx.Response(200, content=body)
    lines = run("events").stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("death     node=gs2  generation=3")
    assert "3 notes" in lines[1]
    documents = [orjson.loads(line) for line in run("events", "--json").stdout.splitlines()]
    assert documents == [death, {"kind": "missed", "missed": 3}, other]


def steps(*states: str) -> list[Json]:
    return [{"id": f"gs{n + 1}", "role": "gameserver", "state": s, "seconds": 1.5} for n, s in enumerate(states)]


def test_deploy_follows_every_process_over_gateways_that_come_and_go(script: Script) -> None:
    script.says("POST", "/v1/ops/deployments", {"id": "d1", "state": "running", "steps": steps("draining", "waiting")})
    views = [
        {"id": "d1", "state": "running", "steps": steps("draining", "waiting")},
        None,
        {"id": "d1", "state": "running", "steps": steps("ready", "starting")},
        {"id": "d1", "state": "done", "steps": steps("ready", "ready")},
    ]

    def answer(_request: httpx.Request) -> httpx.Response:
        view = views.pop(0)
        if view is None:
            raise httpx.ConnectError("it is rolled itself")
        return httpx.Response(200, json=view)

    script.answers["GET", "/v1/ops/deployments/d1"] = answer
    done = run("deploy")
    assert done.exit_code == 0
    assert [" ".join(line.split()) for line in done.stdout.splitlines()] == [
        "gs1 gameserver draining",
        "gs1 gameserver ready in 1.5 s",
        "gs2 gameserver starting",
        "gs2 gameserver ready in 1.5 s",
        "Every process runs the code now installed.",
    ]


def test_a_deployment_that_stops_ends_with_its_problem(script: Script) -> None:
    view = {"id": "d1", "state": "failed", "problem": "gs2 did not become ready", "steps": steps("ready", "failed")}
    script.says("POST", "/v1/ops/deployments", view)
    failed = run("deploy")
    assert isinstance(failed.exception, CannotAsk)
    assert str(failed.exception) == "The deployment stopped: gs2 did not become ready."
    script.says("POST", "/v1/ops/deployments", {"id": "d2", "state": "running", "steps": []}, status=202)
    assert run("deploy", "--no-follow").stdout == "Deployment d2 has begun.\n"


def test_nobody_to_follow_it_at_ends_the_following(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.verbs.deploy.OPS_CLI_SILENCE_S", -1)

    def gone(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("gone")

    script.says("POST", "/v1/ops/deployments", {"id": "d1", "state": "running", "steps": []}, status=202)
    script.answers["GET", "/v1/ops/deployments/d1"] = gone
    assert "No gateway answers" in str(run("deploy").exception)


# -- search -----------------------------------------------------------------------------------------------------------
HIT = {"entity": 281474976710663, "kind": "avatar", "name": "Mossy Otter", "unit": "avatar:281474976710663"}


def test_search_shows_who_holds_an_item_and_that_there_is_more(script: Script) -> None:
    hits = [HIT | {"server": "gs1", "count": 12}, HIT | {"server": None, "count": 3, "name": ""}]
    found = {"hits": hits, "more": True, "cut": True}
    script.says("GET", "/v1/ops/search?item=wood&limit=2&at_least=3", found)
    done = run("search", "item", "wood", "--at-least", "3", "--limit", "2")
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.output.splitlines()]
    assert lines[0] == ["count", "name", "kind", "entity", "server"]
    assert lines[1] == ["12", "Mossy", "Otter", "avatar", "281474976710663", "gs1"]
    assert lines[2] == ["3", "-", "avatar", "281474976710663", "-"]
    assert "more than these 2" in done.output
    assert "Cut after 2 s" in done.output
    script.says("GET", "/v1/ops/search?player=%C3%84+b&limit=50", {"hits": [], "more": False, "cut": False})
    assert run("search", "player", "Ä b").output == "Nobody.\n"
    assert orjson.loads(run("search", "item", "wood", "--at-least", "3", "--limit", "2", "--json").output) == found


def test_search_reads_the_file_of_a_world_that_is_stopped(tmp_path: Path) -> None:
    async def make() -> None:
        store = SqliteStore(tmp_path / "store" / "world.sqlite")
        document = {
            "owner": "",
            "data": {"entities": {str(HIT["entity"]): {"name": "Mossy Otter", "items": {"wood": 4}}}},
        }
        await store.insert(str(HIT["unit"]), orjson.dumps(document))
        await store.close()

    asyncio.run(make())
    words = ("--offline", "--data", str(tmp_path), "--json")
    found = orjson.loads(run("search", "item", "wood", *words).output)
    assert found == {"hits": [HIT | {"server": None, "count": 4}], "more": False, "cut": False}
    assert orjson.loads(run("search", "player", "OTT", *words).output)["hits"] == [HIT | {"server": None}]
    mistake = run("search", "item", "a b", *words)
    assert str(mistake.exception) == "An item's name is letters, digits and _."
    nothing = run("search", "item", "wood", "--offline", "--data", str(tmp_path / "x"))
    assert "There is no store" in str(nothing.exception)
    assert not (tmp_path / "x").exists()
