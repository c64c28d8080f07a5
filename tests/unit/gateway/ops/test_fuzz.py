"""Whatever is asked, the answer is a documented one, and only what was meant reaches the mesh."""

import asyncio
import re
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.ops import problems as own
from gateway.ops.openapi import DOCUMENT, ROUTES
from gateway.problems import STATUS
from tests.support.aio import run
from tests.unit.gateway.ops.desk import desk
from world.messages import (
    AskDeployment,
    Deploy,
    Deployment,
    Drain,
    GiveAway,
    HandedOver,
    Member,
    Ok,
    StoreFound,
    StoreSearch,
)

WORDS = [
    "v1",
    "ops",
    "nodes",
    "entities",
    "deployments",
    "events",
    "gs1",
    "gs2",
    "gw9",
    "sv1",
    "281474976710663",
    "0",
    "..",
    "%2e",
    "%00",
]
segment = st.one_of(st.sampled_from(WORDS), st.text("abz019:.%-_ü", min_size=1, max_size=8))
action = st.sampled_from(["", "", ":drain", ":handoff", ":dance"])
paths = st.one_of(
    st.sampled_from([route.path for route in ROUTES]),
    st.builds(lambda part, name, act: f"/v1/ops/{part}/{name}{act}", st.sampled_from(WORDS), segment, action),
    st.builds(lambda parts: "/" + "/".join(parts), st.lists(segment, max_size=4)),
)
queries = st.sampled_from(
    ["", "?follow=false", "?force=true", "?force=maybe", "?x=1", "?force=true&force=true", "?item=wood", "?player=%00"]
)
bodies = st.one_of(
    st.just(b""),
    st.just(b"{}"),
    st.sampled_from([b'{"to":"gs2"}', b'{"to":7}', b"[]", b"null"]),
    st.binary(max_size=40),
)
methods = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
ALLOWED = {200, 202} | set(STATUS.values()) | set(own.STATUS.values())
ANSWERS: dict[type, Any] = {
    Drain: lambda _m: Ok(),
    GiveAway: lambda m: HandedOver(m.unit, m.to or "gs2", 1, 2),
    StoreSearch: lambda _m: StoreFound([]),
    Deploy: lambda _m: Deployment({"id": "d1"}),
    AskDeployment: lambda _m: Deployment({"id": "d1"}),
}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(asked=st.lists(st.tuples(methods, paths, queries, bodies), min_size=1, max_size=6))
def test_every_answer_is_documented(asked: list[tuple[str, str, str, bytes]]) -> None:
    async def play() -> None:
        async with desk() as at:
            at.mesh.book.all += [
                Member("gameserver", "gs2", 1, "", status="ready"),
                Member("supervisor", "sv1", 1, "", status="ready"),
            ]
            at.mesh.answers.update(ANSWERS)
            at.note("death", node="gs3")
            for method, path, query, body in asked:
                endless = path == "/v1/ops/events" and query != "?follow=false"
                await _ask(at.http, method, path, "?follow=false" if endless and not query else query, body)
            for node, message in at.mesh.sent:
                assert isinstance(message, Drain | GiveAway | Deploy | AskDeployment)
                assert node in ("gs1", "gs2", "lg1", "gw1", "sv1")

    run(play())


async def _ask(http: httpx.AsyncClient, method: str, path: str, query: str, body: bytes) -> None:
    async with asyncio.timeout(5):
        answer = await http.request(method, path + query, content=body)
    assert answer.status_code in ALLOWED - {500}, f"{method} {path}{query} {body!r}: {answer.status_code} {answer.text}"
    assert "access-control-allow-origin" not in answer.headers
    if answer.status_code >= 400 and method != "HEAD":
        assert answer.json()["status"] == answer.status_code
        assert (own.STATUS | STATUS)[answer.json()["code"]] == answer.status_code


def test_the_description_is_of_the_routes_that_there_are() -> None:
    async def play() -> None:
        async with desk() as at:
            document = (await at.get("/v1/ops/openapi.json")).json()
            assert document == DOCUMENT
            for path, operations in document["paths"].items():
                shown = re.sub(
                    r"\{(\w+)\}", lambda m: {"node": "gs1", "entity": "281474976710663"}.get(m[1], "d1"), path
                )
                for method in ("get", "post"):
                    query = "?follow=false" if path.endswith("/events") else ""
                    answer = await at.http.request(method, shown + query)
                    assert (answer.status_code == 405) == (method not in operations), f"{method} {path}"
                    assert answer.status_code != 404

    run(play())
