"""Couchbase's management REST API, as far as setting up a cluster needs it: one node asked at a time."""

from collections.abc import Mapping
from typing import Any

import httpx

from runtime.store.opening import Credentials
from world.limits import COUCHBASE_ANSWER_S

Json = dict[str, Any]
_WORDS = 300  # characters of Couchbase's own answer that are shown
PORT, TLS_PORT = 8091, 18091


class SetupFailed(Exception):
    """One sentence for the operator: what is wrong, and what to do. Running the setup again goes on from there."""


class Unanswered(SetupFailed):
    """The node cannot be reached, or did not answer in time."""


class ManagementApi:
    """``admin``: the administrator that the cluster has, or will have."""

    def __init__(self, http: httpx.Client, admin: Credentials, *, tls: bool = False, port: int = 0) -> None:
        self.admin = admin
        self._http = http
        self._auth = httpx.BasicAuth(admin.user, admin.password)
        self._scheme = "https" if tls else "http"
        self._port = port or (TLS_PORT if tls else PORT)

    def edition(self, node: str) -> Json:
        """``/pools``, which needs no password. Raises SetupFailed."""
        answer: Json = self._send("GET", node, "/pools", None, auth=None).json()
        return answer

    def found(self, node: str, path: str) -> Json | None:
        """A document; None where there is none (404). Raises SetupFailed."""
        answer = self._send("GET", node, path, None, auth=self._auth)
        if answer.status_code == 404:
            return None
        document: Json = self._good(node, "GET", path, answer).json()
        return document

    def rows(self, node: str, path: str) -> list[Json]:
        """A list. Raises SetupFailed."""
        answer: list[Json] = self._good(node, "GET", path, self._send("GET", node, path, None, auth=self._auth)).json()
        return answer

    def do(self, method: str, node: str, path: str, form: Mapping[str, str], *, anonymous: bool = False) -> None:
        """Change something. Raises SetupFailed with Couchbase's own words."""
        answer = self._send(method, node, path, form, auth=None if anonymous else self._auth)
        self._good(node, method, path, answer)

    def _send(
        self, method: str, node: str, path: str, form: Mapping[str, str] | None, *, auth: httpx.BasicAuth | None
    ) -> httpx.Response:
        url = f"{self._scheme}://{node}:{self._port}{path}"
        try:
            return self._http.request(method, url, data=form, auth=auth, timeout=COUCHBASE_ANSWER_S)
        except httpx.TransportError as error:
            raise Unanswered(f"{node} does not answer on port {self._port} ({error}).") from error

    def _good(self, node: str, method: str, path: str, answer: httpx.Response) -> httpx.Response:
        if answer.status_code == 401:
            raise SetupFailed(
                f"{node} refuses the administrator {self.admin.user}: the password is not the one that it was set up "
                f"with; correct it here, or change it in Couchbase."
            )
        if not answer.is_success:
            said = " ".join(answer.text.split())[:_WORDS]
            raise SetupFailed(f"{node} answers {answer.status_code} to {method} {path}: {said or 'nothing more'}.")
        return answer
