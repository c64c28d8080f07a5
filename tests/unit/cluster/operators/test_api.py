"""The command line's side: which listener is asked, and what becomes of its answers."""

from collections.abc import Callable
from pathlib import Path

import httpx
import orjson
import pytest

from cluster.operators.api import Cluster, NobodyAnswers, Said
from cluster.operators.found import CannotAsk, Found, find
from runtime.settings import read_settings

Answer = Callable[[httpx.Request], httpx.Response]


def cluster(answer: Answer, *urls: str) -> tuple[Cluster, list[str]]:
    """A cluster whose listeners answer by a function, and the hosts that were asked."""
    asked: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return answer(request)

    return Cluster(Found(urls or ("http://a", "http://b"), "secret", "named"), httpx.MockTransport(handle)), asked


def test_the_next_listener_is_asked_where_one_does_not_answer_and_stays_the_first() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer secret"
        if request.url.host == "a":
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json={"path": request.url.path})

    at, asked = cluster(answer)
    assert at.get("/v1/ops/nodes") == at.get("/v1/ops/nodes") == {"path": "/v1/ops/nodes"}
    assert asked == ["a", "b", "b"]
    at.learn(["http://b", "http://c"])
    assert at.asked == "http://b"


def test_what_may_have_been_done_is_not_asked_again() -> None:
    def answer(_request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("nothing")

    at, asked = cluster(answer)
    with pytest.raises(NobodyAnswers, match="whether it was done is unknown"):
        at.post("/v1/ops/entities/7:handoff", {"to": "gs2"}, again=False)
    assert asked == ["a"]
    with pytest.raises(NobodyAnswers, match="No gateway answers"):
        at.post("/v1/ops/nodes/gs1:drain")
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("response", "error", "said"),
    [
        (httpx.Response(401, json={"code": "unauthorized"}), CannotAsk, "does not accept this token"),
        (httpx.Response(200, text="<html>"), CannotAsk, "is no operators' listener"),
        (
            httpx.Response(409, json={"code": "no_owner", "detail": "it is nobody's"}),
            Said,
            "it is nobody's (no_owner).",
        ),
        (httpx.Response(500, json={"code": "internal"}), Said, "The cluster says internal."),
    ],
)
def test_answers_that_are_none_are_one_sentence(response: httpx.Response, error: type[Exception], said: str) -> None:
    at, asked = cluster(lambda _request: response)
    with pytest.raises(error) as raised:
        at.get("/v1/ops/nodes")
    assert said in str(raised.value)
    assert asked == ["a"]


def test_events_end_with_the_gateway_and_go_on_at_the_next() -> None:
    note = {"n": 1, "kind": "death", "world_ms": 1, "by": "gs1", "detail": {}}
    body = b": nothing new\n\nid: gw1.1.1\nevent: death\ndata: %b\n\n" % orjson.dumps(note)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "a":
            raise httpx.ConnectError("refused")
        return httpx.Response(200, content=body)

    at, asked = cluster(answer)
    assert list(at.events(follow=False)) == [("death", note)]
    assert asked == ["a", "b"]


# -- where to ask ------------------------------------------------------------------------------------------------------
def test_the_data_folder_says_where_to_ask(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "ops.token").write_text("secret\n")
    written = {"urls": ["http://127.0.0.1:1/", "http://127.0.0.1:2"], "token_file": "keys/ops.token", "newer": 1}
    (tmp_path / "ops.json").write_bytes(orjson.dumps(written))
    found = find(read_settings(data=tmp_path))
    assert found[:2] == (("http://127.0.0.1:1", "http://127.0.0.1:2"), "secret")
    named = find(read_settings(data=tmp_path, ops_url="http://127.0.0.1:3/"))
    assert named[:2] == (("http://127.0.0.1:3",), "secret")
    own = tmp_path / "mine"
    own.write_text("my own\n")
    assert find(read_settings(data=tmp_path, ops_token_file=own)).token == "my own"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No cluster runs on"),
        (b"{", "cannot be read"),
        (b'{"urls":["http://a"],"token_file":"t"}', "No such file"),
    ],
)
def test_a_folder_without_a_cluster_is_one_sentence(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "ops.json").write_bytes(content)
    with pytest.raises(CannotAsk) as raised:
        find(read_settings(data=tmp_path))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
