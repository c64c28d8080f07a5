"""The operators' routes, over stand-ins: what is asked of whom, and every problem."""

import msgspec
import pytest

from runtime.mesh.api import DeadlineExceeded, Refused, Unreachable
from tests.support.aio import run
from tests.unit.gateway.ops.desk import Desk, code_of, desk
from world.ids import AVATAR_KIND, entity_id
from world.limits import HTTP_BODY_BYTES
from world.messages import (
    AskDeployment,
    Busy,
    Deploy,
    Deployment,
    Drain,
    GiveAway,
    HandedOver,
    Member,
    Message,
    Moved,
    Ok,
    StoreFound,
    StoreSearch,
)

AVATAR = entity_id(AVATAR_KIND, 7)
UNIT = f"avatar:{AVATAR}"


def second(at: Desk, role: str, node: str) -> None:
    at.mesh.book.all.append(Member(role, node, 1, "tcp://127.0.0.1:9", status="ready"))


# -- the token ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "said", ["", "Bearer", "Bearer ", "Bearer wrong-token-of-length", "Basic a-token-of-some-length", "Bearer ü"]
)
def test_nothing_is_answered_without_the_token(said: str) -> None:
    async def play() -> None:
        async with desk() as at:
            for path in ("/v1/ops/nodes", "/v1/ops/nothing", "/v1/ops/openapi.json"):
                answer = await at.http.get(path, headers={b"authorization": said.encode()})
                assert code_of(answer) == (401, "unauthorized")
                assert answer.headers["www-authenticate"].startswith("Bearer ")
            assert at.mesh.sent == []

    run(play())


# -- nodes -------------------------------------------------------------------------------------------------------------
def test_nodes_are_told_as_the_book_knows_them() -> None:
    async def play() -> None:
        async with desk() as at:
            book = at.mesh.book
            load = {"avatars": 3, "seers": {"1,1": 2}, "tick_ms": 1.5}
            book.all[0] = msgspec.structs.replace(book.all[0], load=load, state="tcp://127.0.0.1:4", ready_ms=1)
            book.all[2] = msgspec.structs.replace(book.all[2], load={"clients": 5, "ops": "http://127.0.0.1:9"})
            book.silent = {"lg1"}
            document = (await at.get("/v1/ops/nodes")).json()
            assert [node["id"] for node in document["nodes"]] == ["gs1", "gw1", "lg1"]
            assert document["asked"] == "gw1"
            gs, gw, lg = document["nodes"]
            assert gs["load"] == {"avatars": 3, "tick_ms": 1.5}
            assert gs["endpoints"] == {"command": "tcp://127.0.0.1:2", "state": "tcp://127.0.0.1:4"}
            assert gs["ready_ms"] > 0
            assert (gw["endpoints"]["ops"], gw["load"], gw["silent_ms"]) == ("http://127.0.0.1:9", {"clients": 5}, 0)
            assert (lg["suspected"], lg["silent_ms"], lg["ready_ms"]) == (True, 2_000, None)
            assert (await at.get("/v1/ops/nodes/gs1")).json() == gs | {
                "ready_ms": pytest.approx(gs["ready_ms"], abs=999)
            }
            assert code_of(await at.get("/v1/ops/nodes/gs9")) == (404, "not_found")

    run(play())


def test_draining_asks_the_node_and_spares_the_last_of_its_role() -> None:
    async def play() -> None:
        async with desk() as at:
            at.mesh.answers[Drain] = lambda _m: Ok()
            for node in ("gs1", "gw1", "lg1"):
                assert code_of(await at.post(f"/v1/ops/nodes/{node}:drain")) == (409, "last_of_its_role")
            assert at.mesh.sent == []
            second(at, "gameserver", "gs2")
            answer = await at.post("/v1/ops/nodes/gs1:drain")
            assert (answer.status_code, answer.json()["status"]) == (202, "draining")
            assert at.mesh.sent == [("gs1", Drain())]
            at.mesh.book.silent = {"gs2"}
            assert code_of(await at.post("/v1/ops/nodes/gs1:drain")) == (409, "last_of_its_role")
            forced = await at.post("/v1/ops/nodes/gs1:drain?force=true", {})
            assert forced.status_code == 202
            assert code_of(await at.post("/v1/ops/nodes/gs7:drain")) == (404, "not_found")

    run(play())


def test_a_node_that_drains_already_is_not_asked_again() -> None:
    async def play() -> None:
        async with desk() as at:
            at.mesh.book.all[0] = msgspec.structs.replace(at.mesh.book.all[0], status="draining")
            assert (await at.post("/v1/ops/nodes/gs1:drain")).status_code == 200
            assert at.mesh.sent == []

    run(play())


@pytest.mark.parametrize(
    ("error", "code"),
    [(Refused("unhandled", "Drain"), (409, "not_drainable")), (Unreachable(), (503, "unreachable"))],
)
def test_a_node_that_does_not_drain(error: Refused | Unreachable, code: tuple[int, str]) -> None:
    async def play() -> None:
        async with desk() as at:
            second(at, "broker", "br1")
            at.mesh.answers[Drain] = lambda _m: error
            assert code_of(await at.post("/v1/ops/nodes/br1:drain")) == code

    run(play())


# -- entities ----------------------------------------------------------------------------------------------------------
def test_a_hand_off_is_followed_to_the_owner_and_waits_while_it_is_busy() -> None:
    async def play() -> None:
        async with desk() as at:
            second(at, "gameserver", "gs2")
            answers = [Moved(UNIT, "gs2", 1, 4), Busy(UNIT, 1), HandedOver(UNIT, "gs3", 1, 5)]
            at.mesh.answers[GiveAway] = lambda _m: answers.pop(0)
            done = await at.post(f"/v1/ops/entities/{AVATAR}:handoff", {"to": "gs3"})
            assert done.json() == {"unit": UNIT, "server": "gs3", "epoch": 5}
            assert [message for _node, message in at.mesh.sent] == [GiveAway(UNIT, "gs3")] * 3
            assert [node for node, _message in at.mesh.sent][1:] == ["gs2", "gs2"]

    run(play())


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Refused("no_such_target"), (404, "no_such_target")),
        (Refused("no_destination"), (409, "no_destination")),
        (Refused("not_taken", "full"), (409, "not_taken")),
        (Refused("store_unavailable"), (503, "store_unavailable")),
        (Refused("something"), (500, "internal")),
        (DeadlineExceeded(), (503, "unreachable")),
        (Moved(UNIT, "", 0, 0), (409, "no_owner")),
    ],
)
def test_hand_offs_that_do_not_happen(answer: Message | Refused | DeadlineExceeded, code: tuple[int, str]) -> None:
    async def play() -> None:
        async with desk() as at:
            at.mesh.answers[GiveAway] = lambda _m: answer
            assert code_of(await at.post(f"/v1/ops/entities/{AVATAR}:handoff")) == code

    run(play())


def test_servers_that_name_each_other_for_ever_end_in_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.ops.entities.OPS_HAND_OFF_MS", 300)

    async def play() -> None:
        async with desk() as at:
            at.mesh.answers[GiveAway] = lambda _m: Moved(UNIT, "gs1", 1, 1)
            assert code_of(await at.post(f"/v1/ops/entities/{AVATAR}:handoff")) == (503, "unreachable")
            assert len(at.mesh.sent) < 50

    run(play())


# -- deployments -------------------------------------------------------------------------------------------------------
def test_deployments_are_the_supervisors() -> None:
    async def play() -> None:
        async with desk() as at:
            assert code_of(await at.post("/v1/ops/deployments")) == (409, "no_supervisor")
            assert code_of(await at.get("/v1/ops/deployments")) == (409, "no_supervisor")
            second(at, "supervisor", "sv1")
            view = {"id": "d1", "state": "running", "steps": []}
            at.mesh.answers[AskDeployment] = lambda m: Refused("no_such_target") if m.id != "d1" else Deployment(view)
            assert (await at.get("/v1/ops/deployments")).json() == {"deployments": []}
            at.mesh.answers[Deploy] = lambda _m: Deployment(view)
            begun = await at.post("/v1/ops/deployments", {})
            assert (begun.status_code, begun.json()) == (202, view)
            assert (await at.get(begun.headers["location"])).json() == view
            assert code_of(await at.get("/v1/ops/deployments/d2")) == (404, "not_found")
            assert code_of(await at.get("/v1/ops/deployments/" + "d" * 200)) == (404, "not_found")
            assert {node for node, _message in at.mesh.sent} == {"sv1"}
            at.mesh.answers[Deploy] = lambda _m: Unreachable()
            assert code_of(await at.post("/v1/ops/deployments")) == (503, "unreachable")

    run(play())


# -- requests that are wrong -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("GET", "/v1/ops/nothing", b"", (404, "not_found")),
        ("GET", "/v1/ops/nodes/Fred", b"", (404, "not_found")),
        ("POST", "/v1/ops/nodes", b"", (405, "method_not_allowed")),
        ("GET", "/v1/ops/nodes/gs1:drain", b"", (405, "method_not_allowed")),
        ("DELETE", "/v1/ops/nodes/gs1", b"", (405, "method_not_allowed")),
        ("POST", "/v1/ops/nodes/gs1:drain?force=yes", b"", (400, "bad_request")),
        ("POST", "/v1/ops/nodes/gs1:drain?now=true", b"", (400, "bad_request")),
        ("POST", "/v1/ops/nodes/gs1:drain?force=true&force=true", b"", (400, "bad_request")),
        ("POST", "/v1/ops/nodes/gs1:drain", b'{"force":true}', (400, "bad_request")),
        ("POST", "/v1/ops/nodes/gs1:drain", b" " * (HTTP_BODY_BYTES + 1), (413, "too_large")),
        ("POST", f"/v1/ops/entities/{AVATAR}:handoff", b'{"to":"mars"}', (400, "bad_request")),
        ("POST", f"/v1/ops/entities/{AVATAR}:handoff", b'{"to":"gs2","now":1}', (400, "bad_request")),
        ("POST", f"/v1/ops/entities/{AVATAR}:handoff", b"[" * 5_000, (400, "bad_request")),
        ("POST", "/v1/ops/entities/7:handoff", b"", (404, "not_found")),
        ("POST", f"/v1/ops/entities/{1 << 70}:handoff", b"", (404, "not_found")),
        ("POST", "/v1/ops/entities/ana:handoff", b"", (404, "not_found")),
        ("POST", "/v1/ops/deployments", b'{"to":"gs2"}', (400, "bad_request")),
        ("GET", "/v1/ops/events?follow=maybe", b"", (400, "bad_request")),
    ],
)
def test_wrong_requests_are_problems_and_reach_nobody(
    method: str, path: str, body: bytes, code: tuple[int, str]
) -> None:
    async def play() -> None:
        async with desk() as at:
            assert code_of(await at.http.request(method, path, content=body)) == code
            assert at.mesh.sent == []

    run(play())


# -- search -----------------------------------------------------------------------------------------------------------
def test_a_search_is_asked_of_the_store_and_told() -> None:
    async def play() -> None:
        async with desk() as at:
            second(at, "store", "st1")
            row = (UNIT, AVATAR, "Mossy Otter", "gs1", 12)
            at.mesh.answers[StoreSearch] = lambda _m: StoreFound([row], more=True)
            answer = await at.get("/v1/ops/search?item=wood&at_least=10&limit=1")
            hit = {"entity": AVATAR, "kind": "avatar", "name": "Mossy Otter", "unit": UNIT, "server": "gs1"}
            assert answer.json() == {"hits": [hit | {"count": 12}], "more": True, "cut": False}
            assert at.mesh.sent == [("st1", StoreSearch("item", "wood", 10, 1))]
            at.mesh.answers[StoreSearch] = lambda _m: StoreFound([(UNIT, AVATAR, "Mossy Otter", "", 0)], cut=True)
            answer = await at.get("/v1/ops/search?player=OTT")
            assert answer.json() == {"hits": [hit | {"server": None}], "more": False, "cut": True}

    run(play())


def test_a_search_that_cannot_be_is_a_problem() -> None:
    async def play() -> None:
        async with desk() as at:
            assert code_of(await at.get("/v1/ops/search?item=wood")) == (503, "search_unavailable")  # no store
            second(at, "store", "st1")
            for query in (
                "",
                "item=wood&player=x",
                "item=",
                "item=a%22b",
                "item=wood&limit=0",
                "player=x&at_least=1",
                "x=1",
            ):
                assert code_of(await at.get(f"/v1/ops/search?{query}")) == (400, "bad_request")
            assert at.mesh.sent == []
            at.mesh.answers[StoreSearch] = lambda _m: Refused("too_many_searches", "2 searches are under way")
            busy = await at.get("/v1/ops/search?item=wood")
            assert code_of(busy) == (503, "too_many_searches")
            assert busy.headers["retry-after"] == "1"
            at.mesh.answers[StoreSearch] = lambda _m: Unreachable()
            assert code_of(await at.get("/v1/ops/search?item=wood")) == (503, "search_unavailable")

    run(play())
