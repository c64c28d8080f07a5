"""The interface described for tools: OpenAPI 3.1, made from one table. docs/protocol/11 says it in words."""

from typing import Any, NamedTuple

from gateway.ops import problems as own
from gateway.problems import STATUS
from world.limits import SEARCH_DEFAULT_ROWS, SEARCH_ROWS, SEARCH_WORD_CHARACTERS

_NODE = "[a-z]{2}[0-9]{1,4}"


class _Route(NamedTuple):
    method: str
    path: str
    summary: str
    answers: dict[int, str]  # status -> what it means
    problems: tuple[str, ...] = ()
    query: tuple[tuple[str, dict[str, Any]], ...] = ()
    body: dict[str, Any] | None = None


_FORCE = (("force", {"type": "boolean", "default": False}),)
_TO = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"to": {"type": "string", "pattern": f"^({_NODE})?$"}},
}
_NODE_ONLY = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"node": {"type": "string", "pattern": f"^({_NODE})?$"}},
}
ROUTES = (
    _Route("get", "/v1/ops/nodes", "Every node of the cluster", {200: "the nodes"}),
    _Route("get", "/v1/ops/nodes/{node}", "One node", {200: "the node"}, ("not_found",)),
    _Route(
        "post",
        "/v1/ops/nodes/{node}:drain",
        "Give away what it has, then end it",
        {202: "it has begun", 200: "it was draining already"},
        ("not_found", "last_of_its_role", "not_drainable", "unreachable"),
        _FORCE,
    ),
    _Route(
        "post",
        "/v1/ops/entities/{entity}:handoff",
        "Move the unit of an entity to another game server",
        {200: "unit, server, epoch"},
        ("not_found", "no_such_target", "no_destination", "no_owner", "not_taken", "store_unavailable", "unreachable"),
        body=_TO,
    ),
    _Route(
        "post",
        "/v1/ops/deployments",
        "Roll every process to the code now installed",
        {202: "the deployment; Location says where it is"},
        ("no_such_target", "no_supervisor", "unreachable"),
        body=_NODE_ONLY,
    ),
    _Route("get", "/v1/ops/deployments", "Deployments", {200: "the last one"}, ("no_supervisor", "unreachable")),
    _Route(
        "get",
        "/v1/ops/deployments/{deployment}",
        "One deployment",
        {200: "it"},
        ("not_found", "no_supervisor", "unreachable"),
    ),
    _Route(
        "get",
        "/v1/ops/events",
        "What happens in the cluster, as server-sent events",
        {200: "text/event-stream"},
        ("too_many_readers",),
        (("follow", {"type": "boolean", "default": True}),),
    ),
    _Route(
        "get",
        "/v1/ops/search",
        "Who holds an item, or whose name contains a text, in the documents of the store",
        {200: "the first hits; more: there are others; cut: its time was over before all was looked at"},
        ("too_many_searches", "search_unavailable"),
        (
            ("item", {"type": "string", "minLength": 1, "maxLength": SEARCH_WORD_CHARACTERS}),
            ("at_least", {"type": "integer", "minimum": 1, "default": 1}),
            ("player", {"type": "string", "minLength": 1, "maxLength": SEARCH_WORD_CHARACTERS}),
            ("limit", {"type": "integer", "minimum": 1, "maximum": SEARCH_ROWS, "default": SEARCH_DEFAULT_ROWS}),
        ),
    ),
    _Route("get", "/v1/ops/openapi.json", "This document", {200: "OpenAPI 3.1"}),
)
_PARAMETERS = {
    "node": {"type": "string", "pattern": f"^{_NODE}$"},
    "entity": {"type": "integer", "minimum": 1},
    "deployment": {"type": "string", "maxLength": 64},
}
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/problem"}}}


def _operation(route: _Route) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in _PARAMETERS.items()
        if f"{{{name}}}" in route.path
    ]
    parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in route.query]
    answers: dict[str, Any] = {str(status): {"description": text} for status, text in route.answers.items()}
    codes: dict[int, list[str]] = {}
    for code in ("bad_request", "unauthorized", *route.problems):
        codes.setdefault(own.STATUS.get(code) or STATUS[code], []).append(code)
    for status, names in sorted(codes.items()):
        answers[str(status)] = {"description": ", ".join(names), "content": _PROBLEM}
    operation: dict[str, Any] = {"summary": route.summary, "parameters": parameters, "responses": answers}
    if route.body is not None:
        operation["requestBody"] = {"content": {"application/json": {"schema": route.body}}}
    return operation


def _paths() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method] = _operation(route)
    return paths


DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Project K, operators", "version": "1"},
    "security": [{"token": []}],
    "paths": _paths(),
    "components": {
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        "schemas": {
            "problem": {
                "type": "object",
                "required": ["type", "title", "status", "code"],
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                },
            }
        },
    },
}
