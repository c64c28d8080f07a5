"""Searching a Couchbase bucket by its query service (N1QL): REST on a connection of its own.

The nodes of the bucket's cluster say which of them run the service (``/pools/default/nodeServices``). Statements are
fixed texts, what the operator typed travels as named parameters, requests are read-only, and the service gets the
time bound too, so that it stops by itself. The bucket needs an index that covers keys; the docs name it.
"""

import ssl
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from runtime.store.opening import CouchbaseUrl, Credentials
from runtime.store.search import ITEM, KINDS_OF_UNITS, Found, Hit, Question, SearchRefused
from world.limits import SEARCH_ANSWER_BYTES, SEARCH_CALL_MS, SEARCH_CONNECT_MS, SEARCH_MS, SEARCH_ROWS

MANAGEMENT_PORTS = {False: 8091, True: 18091}  # by TLS
_SERVICES = {False: "n1ql", True: "n1qlSSL"}
_OUT_OF_TIME = "timeout"  # the query service's status
_NO_INDEX = 4_000  # its code: no index that covers the query
_REFUSED = (401, 403)

_FROM = """FROM {keyspace} AS d UNNEST OBJECT_PAIRS(d.data.entities) AS e
    WHERE ({units})"""
_HOLDERS = (
    "SELECT META(d).id AS unit, e.name AS entity, e.val.name AS name, d.owner AS server, e.val.items.[$item] AS held "
    "{} AND e.val.items.[$item] >= $at_least ORDER BY held DESC, name, entity LIMIT $limit"
)
_NAMED = (
    "SELECT META(d).id AS unit, e.name AS entity, e.val.name AS name, d.owner AS server, 0 AS held "
    "{} AND CONTAINS(LOWER(e.val.name), $part) ORDER BY LOWER(e.val.name), entity LIMIT $limit"
)


class _Row(msgspec.Struct):
    unit: str
    entity: str
    name: str | None = None
    server: str | None = None
    held: int = 0


class _Problem(msgspec.Struct):
    code: int = 0
    msg: str = ""


class _Answer(msgspec.Struct):
    status: str = ""
    results: list[_Row] = []
    errors: list[_Problem] = []


class N1qlSearch:
    """Implements runtime.store.search.Search. ``transport`` stands in for the network in tests."""

    def __init__(
        self, url: CouchbaseUrl, credentials: Credentials, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._url = url
        verify: ssl.SSLContext | bool = True
        if url.certificate is not None:
            verify = ssl.create_default_context(cafile=str(url.certificate))
        self._http = httpx.AsyncClient(
            auth=(credentials.user, credentials.password),
            timeout=httpx.Timeout(SEARCH_CALL_MS / 1_000, connect=SEARCH_CONNECT_MS / 1_000),
            verify=verify,
            trust_env=False,
            transport=transport,
        )

    async def find(self, question: Question) -> Found:
        service = await self._service()
        limit = min(question.limit, SEARCH_ROWS)
        parameters: dict[str, Any] = {"$limit": limit + 1}
        if question.what == ITEM:
            parameters |= {"$item": question.word, "$at_least": question.at_least}
        else:
            parameters["$part"] = question.word.lower()
        body = {
            "statement": self._statement(question.what),
            "readonly": True,
            "timeout": f"{SEARCH_MS}ms",
            **parameters,
        }
        answer = _decoded(await self._ask("POST", f"{service}/query/service", body))
        cut = answer.status == _OUT_OF_TIME
        if answer.errors and not cut:
            raise _why(answer.errors[0])
        hits = [Hit(r.unit, int(r.entity), r.name or "", r.server or "", r.held) for r in answer.results]
        return Found(hits[:limit], len(hits) > limit, cut)

    async def close(self) -> None:
        await self._http.aclose()

    def _statement(self, what: str) -> str:
        """The bucket's name cannot be a parameter; it has no characters that end a quoted name (opening._BUCKET)."""
        keyspace = f"`{self._url.bucket}`"
        kinds = KINDS_OF_UNITS if what == ITEM else KINDS_OF_UNITS[:1]
        units = " OR ".join(f'(META(d).id >= "{kind}:" AND META(d).id < "{kind};")' for kind in kinds)
        return (_HOLDERS if what == ITEM else _NAMED).format(_FROM.format(keyspace=keyspace, units=units))

    async def _service(self) -> str:
        """Base URL of a query service. Raises SearchRefused."""
        scheme = "https" if self._url.tls else "http"
        refusal = SearchRefused("search_unavailable", "no node of the Couchbase cluster answers")
        for host in (_without_port(host) for host in self._url.hosts):
            try:
                found = await self._ask(
                    "GET", f"{scheme}://{host}:{MANAGEMENT_PORTS[self._url.tls]}/pools/default/nodeServices"
                )
            except SearchRefused as error:
                refusal = error
                continue
            for node in _nodes(found):
                port = node.get("services", {}).get(_SERVICES[self._url.tls])
                if port:
                    return f"{scheme}://{node.get('hostname') or host}:{port}"
            raise SearchRefused("search_unavailable", "no node of the Couchbase cluster runs the query service")
        raise refusal

    async def _ask(self, method: str, url: str, body: dict[str, Any] | None = None) -> bytes:
        """Raises SearchRefused."""
        try:
            async with self._http.stream(method, url, json=body) as answer:
                content = await _bounded(answer)
        except httpx.HTTPError as error:
            raise SearchRefused("search_unavailable", f"Couchbase does not answer at {_place(url)}") from error
        if answer.status_code in _REFUSED:
            raise SearchRefused("search_unavailable", "Couchbase refuses these credentials the query service")
        return content


async def _bounded(answer: httpx.Response) -> bytes:
    content = bytearray()
    async for part in answer.aiter_bytes():
        content += part
        if len(content) > SEARCH_ANSWER_BYTES:
            raise SearchRefused("search_unavailable", "Couchbase's answer is too large")
    return bytes(content)


def _decoded(content: bytes) -> _Answer:
    try:
        return msgspec.json.decode(content, type=_Answer)
    except (msgspec.DecodeError, RecursionError) as error:
        raise SearchRefused("search_unavailable", f"Couchbase's answer cannot be read: {error}") from error


def _nodes(content: bytes) -> Sequence[dict[str, Any]]:
    try:
        nodes = msgspec.json.decode(content, type=dict[str, Any]).get("nodesExt", [])
    except (msgspec.DecodeError, RecursionError):
        nodes = []
    return [node for node in nodes if isinstance(node, dict)]


def _why(problem: _Problem) -> SearchRefused:
    if problem.code == _NO_INDEX:
        return SearchRefused("search_unavailable", "the bucket has no index to search by: docs/operations.md names it")
    return SearchRefused("search_unavailable", f"the query service says {problem.code}: {problem.msg}")


def _without_port(host: str) -> str:
    """A connection string's port is of another service."""
    return host if host.endswith("]") else host.rpartition(":")[0] or host


def _place(url: str) -> str:
    return quote(url.partition("://")[2].partition("/")[0], safe=":[]")
