"""Asking a cluster: any gateway's listener will do, so the next one is asked where one does not answer."""

from collections.abc import Iterator
from typing import Any

import httpx
import orjson

from cluster.operators.found import CannotAsk, Found
from world.limits import OPS_CLI_CONNECT_S, OPS_CLI_READ_S, OPS_KEEP_ALIVE_MS

Json = dict[str, Any]
_UNAUTHORIZED = 401
_ERRORS = 400


class Said(Exception):
    """The cluster's problem document, as one sentence."""

    def __init__(self, problem: Json) -> None:
        detail = str(problem.get("detail", ""))
        self.code = str(problem.get("code", ""))
        super().__init__(f"{detail} ({self.code})." if detail else f"The cluster says {self.code}.")


class NobodyAnswers(CannotAsk):
    """No listener could be reached."""


class Cluster:
    """Use as a context manager. Every method raises NobodyAnswers, CannotAsk (the token is wrong) or Said."""

    def __init__(self, found: Found, transport: httpx.BaseTransport | None = None) -> None:
        """``transport`` stands in for the network in tests."""
        self._urls = list(found.urls)
        self._where = found.where
        headers = {"authorization": f"Bearer {found.token}", "user-agent": "projectk"}
        timeout = httpx.Timeout(OPS_CLI_READ_S, connect=OPS_CLI_CONNECT_S)
        self._http = httpx.Client(headers=headers, timeout=timeout, transport=transport, trust_env=False)

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_error: object) -> None:
        self._http.close()

    @property
    def asked(self) -> str:
        """The listener that answered last."""
        return self._urls[0] if self._urls else ""

    def get(self, path: str) -> Json:
        return self._ask("GET", path, None, again=True)

    def post(self, path: str, body: Json | None = None, *, again: bool = True) -> Json:
        """``again``: may be asked of the next listener though the first may have done it."""
        return self._ask("POST", path, body, again=again)

    def _ask(self, method: str, path: str, body: Json | None, *, again: bool) -> Json:
        for _ in range(len(self._urls)):
            try:
                answer = self._http.request(method, self._urls[0] + path, json=body)
                return self._answer(answer)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                self._turn()
            except httpx.TransportError as error:
                self._turn()
                if not again:
                    raise NobodyAnswers(
                        "The gateway went away before it answered: whether it was done is unknown; "
                        "projectk events tells, and so does projectk status."
                    ) from error
        raise NobodyAnswers(self._nobody())

    def _answer(self, answer: httpx.Response) -> Json:
        if answer.status_code == _UNAUTHORIZED:
            raise CannotAsk(f"{self.asked} does not accept this token: name the right file with --token-file.")
        try:
            document = orjson.loads(answer.content)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise CannotAsk(f"{self.asked} is no operators' listener: projectk status --help says where to find one.")
        if answer.status_code >= _ERRORS:
            raise Said(document)
        return document

    def _turn(self) -> None:
        self._urls.append(self._urls.pop(0))

    def _nobody(self) -> str:
        tried = ", ".join(sorted(self._urls)) or "none known"
        return f"No gateway answers ({tried}; {self._where}): is the cluster running? projectk up starts one."

    def learn(self, urls: list[str]) -> None:
        """More listeners to turn to."""
        self._urls += [url for url in urls if url not in self._urls]

    def events(self, *, follow: bool) -> Iterator[tuple[str, Json]]:
        """(kind, note) from the oldest kept on; ends with the history, or with the gateway that told it."""
        path = f"/v1/ops/events?follow={'true' if follow else 'false'}"
        timeout = httpx.Timeout(2 * OPS_KEEP_ALIVE_MS / 1_000, connect=OPS_CLI_CONNECT_S)
        for _ in range(len(self._urls)):
            try:
                with self._http.stream("GET", self._urls[0] + path, timeout=timeout) as stream:
                    if stream.status_code >= _ERRORS:
                        stream.read()
                        self._answer(stream)
                    yield from _events(stream.iter_lines())
                    return
            except (httpx.ConnectError, httpx.ConnectTimeout):
                self._turn()
            except httpx.TransportError:
                self._turn()
                return
        raise NobodyAnswers(self._nobody())


def _events(lines: Iterator[str]) -> Iterator[tuple[str, Json]]:
    """The events of a stream of server-sent events; comments and unknown fields are skipped."""
    kind = ""
    for line in lines:
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield kind, orjson.loads(line.removeprefix("data: "))
