"""HTTP errors: RFC 9457 problem documents with a documented ``code`` (docs/protocol/02)."""

from http import HTTPStatus

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

STATUS = {
    "bad_request": 400,
    "unauthorized": 401,
    "not_found": 404,
    "method_not_allowed": 405,
    "too_large": 413,
    "rate_limited": 429,
    "internal": 500,
    "login_unavailable": 503,
    "session_not_ended": 503,
    "store_unavailable": 503,
    "too_many_observers": 503,
}
_CODE_OF_STATUS = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


class Problem(Exception):
    """Raised by a route; answered as a problem document."""

    def __init__(self, code: str, detail: str = "", retry_after_s: int = 0, status: int = 0) -> None:
        """``status`` 0: that of the table."""
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.status = status


def problem_response(code: str, detail: str = "", retry_after_s: int = 0, status: int = 0) -> Response:
    status = status or STATUS.get(code, 500)
    document = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "code": code}
    if detail:
        document["detail"] = detail
    headers = {"retry-after": str(retry_after_s)} if retry_after_s else None
    return Response(orjson.dumps(document), status, headers, "application/problem+json")


async def on_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(error.code, error.detail, error.retry_after_s, error.status)


async def on_http_exception(_request: Request, error: Exception) -> Response:
    """Starlette's own: no such route, wrong method."""
    assert isinstance(error, HTTPException)
    return problem_response(_CODE_OF_STATUS.get(error.status_code, "bad_request"))


async def on_error(_request: Request, _error: Exception) -> Response:
    return problem_response("internal")
