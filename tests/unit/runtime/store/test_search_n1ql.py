"""Searching by Couchbase's query service, against recorded replies: written down after its documented format, because
no query service can run here. What is proved: the requests that are sent, and what is made of each kind of reply. Not
proved: that a server takes the statements."""

from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest

from runtime.store.opening import CouchbaseUrl, Credentials
from runtime.store.search import Found, Hit, Question, SearchRefused
from runtime.store.search_n1ql import N1qlSearch
from tests.support.aio import run

NODES = {
    "rev": 2142,
    "nodesExt": [
        {"services": {"mgmt": 8091, "mgmtSSL": 18091, "kv": 11210, "kvSSL": 11207}, "hostname": "db1.example"},
        {"services": {"mgmt": 8091, "n1ql": 8093, "n1qlSSL": 18093}, "hostname": "db2.example"},
    ],
}
ROW = {"unit": "avatar:281474976710657", "entity": "281474976710657", "name": "Mossy Otter", "server": "gs1"}
METRICS = {"elapsedTime": "7.9ms", "executionTime": "7.8ms", "resultCount": 1, "resultSize": 166}
SUCCESS = {
    "requestID": "9d5f9c53-4b2c-4f9b-9c56-6c7e7e6f2b7e",
    "signature": {"entity": "json", "held": "json", "name": "json", "server": "json", "unit": "json"},
    "results": [ROW | {"held": 12}],
    "status": "success",
    "metrics": METRICS,
}
EMPTY = SUCCESS | {"results": []}
OUT_OF_TIME = {
    "requestID": "9d5f9c53-4b2c-4f9b-9c56-6c7e7e6f2b7f",
    "results": [ROW | {"held": 12}],
    "errors": [{"code": 1080, "msg": "Timeout 2s exceeded", "retry": True}],
    "status": "timeout",
    "metrics": METRICS | {"errorCount": 1},
}
NO_INDEX = {
    "requestID": "9d5f9c53-4b2c-4f9b-9c56-6c7e7e6f2b80",
    "errors": [{"code": 4000, "msg": "No index available on keyspace `default`:`projectk` that matches your query."}],
    "status": "fatal",
    "metrics": METRICS | {"errorCount": 1},
}
DENIED = {
    "requestID": "9d5f9c53-4b2c-4f9b-9c56-6c7e7e6f2b81",
    "errors": [{"code": 13014, "msg": "User does not have credentials to run SELECT queries on default:projectk."}],
    "status": "stopped",
}
URL = CouchbaseUrl(("db0.example:11210", "db1.example"), "projectk")
Answer = Callable[[httpx.Request], httpx.Response]


class Recorded:
    """Replies by path; what was asked."""

    def __init__(self, query: Any, nodes: Any = NODES, status: int = 200) -> None:
        self.asked: list[tuple[str, Any]] = []
        self._replies = {"/pools/default/nodeServices": nodes, "/query/service": query}
        self._status = status

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Basic b3A6c2VjcmV0"
        if request.url.host == "db0.example":
            raise httpx.ConnectError("refused", request=request)
        self.asked.append((str(request.url), msgspec.json.decode(request.content) if request.content else None))
        reply = self._replies[request.url.path]
        return (
            httpx.Response(self._status, content=reply) if isinstance(reply, bytes) else httpx.Response(200, json=reply)
        )


def find(answer: Answer, question: Question, url: CouchbaseUrl = URL) -> Found:
    async def body() -> Found:
        search = N1qlSearch(url, Credentials("op", "secret"), httpx.MockTransport(answer))
        try:
            return await search.find(question)
        finally:
            await search.close()

    return run(body())


def test_the_request_is_read_only_bounded_and_takes_words_as_parameters() -> None:
    recorded = Recorded(SUCCESS)
    found = find(recorded, Question("item", "wood", 10, 50))
    assert found == Found([Hit("avatar:281474976710657", 281474976710657, "Mossy Otter", "gs1", 12)])
    (nodes, _), (query, body) = recorded.asked
    assert nodes == "http://db1.example:8091/pools/default/nodeServices", "the first node did not answer"
    assert query == "http://db2.example:8093/query/service"
    statement = body.pop("statement")
    assert body == {"readonly": True, "timeout": "2000ms", "$item": "wood", "$at_least": 10, "$limit": 51}
    assert statement == (
        "SELECT META(d).id AS unit, e.name AS entity, e.val.name AS name, d.owner AS server, "
        "e.val.items.[$item] AS held FROM `projectk` AS d UNNEST OBJECT_PAIRS(d.data.entities) AS e\n"
        '    WHERE ((META(d).id >= "avatar:" AND META(d).id < "avatar;") OR (META(d).id >= "region:" AND '
        'META(d).id < "region;")) AND e.val.items.[$item] >= $at_least ORDER BY held DESC, name, entity LIMIT $limit'
    )


def test_names_are_compared_in_small_letters_and_over_tls_by_its_ports() -> None:
    recorded = Recorded(SUCCESS | {"results": [ROW, ROW]})
    tls = CouchbaseUrl(("db1.example",), "projectk", tls=True)
    found = find(recorded, Question("player", 'OT"ter`', limit=1), tls)
    assert (len(found.hits), found.more, found.cut) == (1, True, False)
    (nodes, _), (query, body) = recorded.asked
    assert (nodes, query) == (
        "https://db1.example:18091/pools/default/nodeServices",
        "https://db2.example:18093/query/service",
    )
    assert body["$part"] == 'ot"ter`'
    assert '"ter`' not in body["statement"], "what was typed is no part of the statement"
    assert 'META(d).id >= "region:"' not in body["statement"]


def test_what_is_not_there_is_nothing() -> None:
    assert find(Recorded(EMPTY), Question("item", "gold")) == Found([])
    bare = EMPTY | {"results": [{"unit": "region:1,1", "entity": "7", "held": 3, "name": None}]}
    assert find(Recorded(bare), Question("item", "wood")).hits == [Hit("region:1,1", 7, "", "", 3)]


def test_out_of_time_is_told_with_what_was_found() -> None:
    found = find(Recorded(OUT_OF_TIME), Question("item", "wood"))
    assert found.cut
    assert len(found.hits) == 1


@pytest.mark.parametrize(
    ("query", "nodes", "status", "said"),
    [
        (NO_INDEX, NODES, 200, "has no index to search by"),
        (DENIED, NODES, 200, "the query service says 13014"),
        (b"", NODES, 401, "refuses these credentials"),
        (b"<html>", NODES, 200, "cannot be read"),
        (b"x" * (5 << 20), NODES, 200, "too large"),
        (SUCCESS, {"nodesExt": [NODES["nodesExt"][0]]}, 200, "no node of the Couchbase cluster runs the query service"),  # type: ignore[index]
        (SUCCESS, b"[]", 200, "no node of the Couchbase cluster runs the query service"),
    ],
)
def test_whatever_else_comes_is_one_refusal(query: Any, nodes: Any, status: int, said: str) -> None:
    with pytest.raises(SearchRefused, match=said) as refused:
        find(Recorded(query, nodes, status), Question("item", "wood"))
    assert refused.value.code == "search_unavailable"
    assert "secret" not in str(refused.value)


def test_silence_is_a_refusal_too() -> None:
    def silent(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("nothing", request=request)

    with pytest.raises(SearchRefused, match=r"Couchbase does not answer at db1\.example:8091"):
        find(silent, Question("item", "wood"))
