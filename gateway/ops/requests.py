"""What the routes share: strict queries, JSON answers, the path's node ids."""

import msgspec
import orjson
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response

from gateway.ops.problems import problem


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A body that says nothing: none, or {}."""


class NodeConvertor(Convertor[str]):
    """``{node:node}`` in a path: gs1, gw12."""

    regex = "[a-z]{2}[0-9]{1,4}"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("node", NodeConvertor())


def reply(document: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(
        orjson.dumps(document), status, {"cache-control": "no-store", **(headers or {})}, "application/json"
    )


def query(request: Request, *known: str) -> dict[str, str]:
    """The query's parameters. Raises Problem for another, or for one said twice."""
    given = request.query_params.multi_items()
    names = [name for name, _value in given]
    if len(set(names)) < len(names) or not set(names) <= set(known):
        raise problem("bad_request", f"the query may say {', '.join(known) or 'nothing'}, each once")
    return dict(given)


def flag(request: Request, name: str, default: bool = False) -> bool:
    """``?name=true`` or false; no other parameter. Raises Problem."""
    said = query(request, name).get(name)
    if said not in (None, "true", "false"):
        raise problem("bad_request", f"{name} is true or false")
    return default if said is None else said == "true"
