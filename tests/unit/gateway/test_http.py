"""The gateway's HTTP: routes, problems, caps, origins, the pages' policy, the observe stream."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

import gateway.http
from gateway.noted import NoteRing
from gateway.observe import ObserveHub
from gateway.origins import Origins
from gateway.pages import content_security_policy
from runtime.clock import LoopClock
from runtime.mesh.api import DeadlineExceeded, MeshError, Refused, Sender, Unreachable
from tests.support.aio import run
from tests.support.virtual import run_virtual
from tests.unit.gateway.live import Live, live
from tests.unit.gateway.support import StubBook, StubMesh
from world.ids import NodeId
from world.limits import HTTP_BODY_BYTES, HTTP_PIPELINED_REQUESTS, OBSERVE_EVENTS, OBSERVE_MS
from world.messages import AskObserve, Granted, LoginGuest, LoginRefresh, Logout, Member, Message, Noted, Observed, Ok

GRANTED = Granted("access", "refresh", 7, "Ana", 900)


async def client(gate: Live) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=gate.url, timeout=5)


def test_guest_refresh_logout() -> None:
    async def play() -> None:
        async with live() as gate, await client(gate) as http:
            gate.mesh.answers[LoginGuest] = lambda _m: GRANTED
            gate.mesh.answers[LoginRefresh] = lambda m: GRANTED if m.refresh_token == "r" else Refused("unauthorized")
            gate.mesh.answers[Logout] = lambda _m: Ok()
            answer = await http.post("/v1/auth/guest", json={})
            assert answer.json() == {
                "access_token": "access", "refresh_token": "refresh", "avatar": 7, "name": "Ana", "expires_s": 900,
            }  # fmt: skip
            assert answer.headers["cache-control"] == "no-store"
            assert (await http.post("/v1/auth/guest")).status_code == 200
            assert (await http.post("/v1/auth/refresh", json={"refresh_token": "r"})).status_code == 200
            bad = await http.post("/v1/auth/refresh", json={"refresh_token": "x"})
            assert (bad.status_code, bad.json()["code"]) == (401, "unauthorized")
            assert bad.headers["content-type"] == "application/problem+json"
            assert (await http.post("/v1/auth/logout", json={"refresh_token": "r"})).status_code == 204

    run(play(), uvloop=True)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/v1/auth/guest", b"{", 400, "bad_request"),
        ("POST", "/v1/auth/guest", b'{"name":"x"}', 400, "bad_request"),
        ("POST", "/v1/auth/guest", b"[" * 5_000, 400, "bad_request"),
        ("POST", "/v1/auth/refresh", b"{}", 400, "bad_request"),
        ("POST", "/v1/auth/refresh", b'{"refresh_token":"' + b"x" * 200 + b'"}', 400, "bad_request"),
        ("POST", "/v1/auth/refresh", b" " * (HTTP_BODY_BYTES + 1), 413, "too_large"),
        ("GET", "/v1/auth/guest", b"", 405, "method_not_allowed"),
        ("GET", "/v1/nothing", b"", 404, "not_found"),
        ("GET", "/v1/world/ground/32,0", b"", 404, "not_found"),
        ("GET", "/v1/world/ground/a,b", b"", 404, "not_found"),
        ("GET", "/static/package.json", b"", 404, "not_found"),
        ("GET", "/static/node_modules/pixi.js/package.json", b"", 404, "not_found"),
        ("GET", "/static/%2e%2e/pyproject.toml", b"", 404, "not_found"),
        ("GET", "/static/vendor/other.js", b"", 404, "not_found"),
    ],
)
def test_problems(method: str, path: str, body: bytes, status: int, code: str) -> None:
    async def play() -> None:
        async with live() as gate, await client(gate) as http:
            answer = await http.request(method, path, content=body)
            assert (answer.status_code, answer.json()["code"]) == (status, code)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status

    run(play(), uvloop=True)


def test_a_body_without_length_is_capped_while_it_comes() -> None:
    async def endless() -> None:
        async with live() as gate, await client(gate) as http:

            async def pieces() -> AsyncIterator[bytes]:
                for _ in range(40):
                    yield b" " * 1_000

            answer = await http.post("/v1/auth/guest", content=pieces())
            assert (answer.status_code, answer.json()["code"]) == (413, "too_large")

    run(endless(), uvloop=True)


def test_too_many_guests_from_one_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.http, "GUESTS_BURST", 2)
    monkeypatch.setattr(gateway.http, "GUESTS_PER_S", 0.001)

    async def play() -> None:
        async with live() as gate, await client(gate) as http:
            gate.mesh.answers[LoginGuest] = lambda _m: GRANTED
            codes = [(await http.post("/v1/auth/guest")).status_code for _ in range(3)]
            assert codes == [200, 200, 429]
            assert gate.counter("http_refused", reason="guest_rate") == 1

    run(play(), uvloop=True)


@pytest.mark.parametrize(
    ("error", "code"),
    [(DeadlineExceeded(), "login_unavailable"), (Refused("store_unavailable"), "store_unavailable")],
)
def test_no_login_or_no_store(error: DeadlineExceeded | Refused, code: str) -> None:
    async def play() -> None:
        async with live() as gate, await client(gate) as http:
            gate.mesh.answers[LoginGuest] = lambda _m: error
            answer = await http.post("/v1/auth/guest")
            assert (answer.status_code, answer.json()["code"]) == (503, code)

    run(play(), uvloop=True)


@pytest.mark.parametrize("error", [Unreachable("no login is in the book"), Refused("store_unavailable", "unavailable")])
def test_a_login_or_its_store_started_anew_is_waited_for(error: MeshError) -> None:
    async def play() -> None:
        async with live() as gate, await client(gate) as http:
            answers: Iterator[Message | MeshError] = iter([error, error, GRANTED])
            gate.mesh.answers[LoginGuest] = lambda _m: next(answers)
            assert (await http.post("/v1/auth/guest")).status_code == 200

    run(play(), uvloop=True)


@pytest.mark.parametrize("error", [Unreachable(sent=True), Refused("store_unavailable", "ambiguous")])
def test_what_may_have_happened_is_not_asked_for_again(error: MeshError) -> None:
    async def play() -> None:
        async with live() as gate, await client(gate) as http:
            gate.mesh.answers[LoginGuest] = lambda _m: error
            assert (await http.post("/v1/auth/guest")).status_code == 503
            assert gate.mesh.calls[LoginGuest] == 1

    run(play(), uvloop=True)


def test_reading_the_world_and_the_book() -> None:
    async def play() -> None:
        async with live(world_seed=1) as gate, await client(gate) as http:
            assert (await http.get("/v1/world")).json() == {"seed": 1}
            ground = await http.get("/v1/world/ground/3,4?seed=1")
            assert ground.content == bytes([3, 4]) * 2_048
            assert "immutable" in ground.headers["cache-control"]
            assert (await http.get("/v1/world/ground/3,4")).headers["cache-control"] == "no-cache"
            assert (await http.get("/v1/gateways")).json() == {
                "gateways": [{"id": "gw1", "url": "http://127.0.0.1:8080", "clients": 0}]
            }
            assert "projectk_gateway_clients 0.0" in (await http.get("/metrics")).text
            assert (await http.get("/livez")).status_code == 200
            assert (await http.get("/readyz")).status_code == 200
            gate.mesh.book.all = [m for m in gate.mesh.book.all if m.role != "login"]
            assert (await http.get("/readyz")).status_code == 503

    run(play(), uvloop=True)


def test_cors_follows_the_book() -> None:
    async def play() -> None:
        async with live(public_origins=("https://play.example",)) as gate, await client(gate) as http:

            async def allowed(origin: str) -> str | None:
                headers = {"origin": origin, "access-control-request-method": "POST"}
                await http.options("/v1/auth/guest", headers=headers)
                answer = await http.get("/v1/gateways", headers=headers)
                granted: str | None = answer.headers.get("access-control-allow-origin")
                return granted

            assert await allowed("https://play.example") == "https://play.example"
            assert await allowed("http://127.0.0.1:8080") == "http://127.0.0.1:8080"
            assert await allowed("https://evil.example") is None
            assert await allowed("http://127.0.0.1:9") is None
            gate.mesh.book.all.append(Member("gateway", "gw2", 1, "", http="http://127.0.0.1:9"))
            assert await allowed("http://127.0.0.1:9") == "http://127.0.0.1:9"

    run(play(), uvloop=True)


def test_pages_of_a_dead_gateway_go_on_at_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.origins.ORIGINS_KEPT", 2)
    gateways = [Member("gateway", f"gw{n}", 1, "", http=f"http://10.0.0.{n}:8080") for n in range(4)]
    book = StubBook(gateways[1], gateways[2])
    origins = Origins(book, (), "http://10.0.0.9:8080")
    book.all = [gateways[2]]  # gw1 is killed; nobody has asked for anything yet
    book.changed[0]()
    assert origins.allowed("http://10.0.0.1:8080")
    book.all = [gateways[3]]
    assert origins.allowed("http://10.0.0.2:8080")
    assert origins.allowed("http://10.0.0.3:8080")
    assert not origins.allowed("http://10.0.0.1:8080"), "bounded: the one longest gone"
    assert origins.allowed("http://10.0.0.9:8080")


def test_pages_say_what_is_missing_and_carry_a_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "web_client"
    folder.mkdir()
    inline = b'{"imports":{"a":"/static/a.js"}}'
    (folder / "play.html").write_bytes(b'<script type="importmap">' + inline + b"</script><script src='/static/a.js'>")
    (folder / "a.js").write_text("1")
    monkeypatch.setattr("gateway.pages.WEB_CLIENT", folder)
    monkeypatch.setattr("gateway.pages.Pages.__init__.__defaults__", (folder,))

    async def play() -> None:
        async with live() as gate, await client(gate) as http:
            missing = await http.get("/")
            assert missing.status_code == 503
            assert "make setup" in missing.text
            dist = tmp_path / "node_modules" / "pixi.js" / "dist"
            (dist / "packages").mkdir(parents=True)
            (dist / "pixi.min.js").write_text("pixi")
            (dist / "packages" / "unsafe-eval.min.js").write_text("eval")
            page = await http.get("/")
            assert page.status_code == 200
            policy = page.headers["content-security-policy"]
            digest = base64.b64encode(hashlib.sha256(inline).digest()).decode()
            assert f"script-src 'self' 'sha256-{digest}';" in policy
            assert "unsafe" not in policy
            assert page.headers["x-content-type-options"] == "nosniff"
            assert (await http.get("/static/vendor/pixi.min.js")).text == "pixi"
            assert (await http.get("/static/a.js")).headers["cache-control"] == "no-cache"

    run(play(), uvloop=True)


def test_policy_names_the_other_gateways() -> None:
    policy = content_security_policy(b"", ["http://127.0.0.1:8081"])
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "connect-src 'self' http://127.0.0.1:8081 ws://127.0.0.1:8081;" in policy


def test_observing_asks_only_while_somebody_watches() -> None:
    async def play() -> None:
        async with live() as gate, await client(gate) as http:
            gate.mesh.answers[AskObserve] = lambda _m: Observed({"server": "gs1"})
            await asyncio.sleep(0.05)
            assert gate.mesh.calls[AskObserve] == 0
            async with http.stream("GET", "/v1/observe/stream") as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
                async for line in stream.aiter_lines():
                    assert line.startswith('data: {"servers":[{"server":"gs1"}],"nodes":[{"id":"')
                    break
            await asyncio.sleep(0.1)
            assert len(gate.observers) == 0
            asked = gate.mesh.calls[AskObserve]
            await asyncio.sleep(0.7)
            assert gate.mesh.calls[AskObserve] <= asked + 1

    run(play(), uvloop=True)


def test_a_picture_tells_of_all_processes_and_of_what_happened() -> None:
    async def play() -> None:
        async with live() as gate:
            gate.mesh.book.silent = {"gs1"}  # does not answer, too
            for n in range(OBSERVE_EVENTS + 1):
                gate.gateway.noted.hear(Sender(NodeId("gs2"), 1), Noted("handoff", n, {"unit": f"avatar:{n}"}))
            gate.gateway.noted.hear(Sender(NodeId("gs2"), 1), Noted("repair", 99, {}))
            picture = await gate.observers.picture()
            assert picture["servers"] == []
            assert picture["gateway"] == "gw1"
            assert {node["id"]: node["suspected"] for node in picture["nodes"]} == {
                "gs1": True, "lg1": False, "gw1": False,
            }  # fmt: skip
            assert picture["nodes"][0] == {
                "id": "gs1", "role": "gameserver", "generation": 3, "status": "ready", "suspected": True,
            }  # fmt: skip
            assert [event["world_ms"] for event in picture["events"]] == list(range(1, OBSERVE_EVENTS + 1))
            assert picture["events"][-1]["detail"] == {"unit": f"avatar:{OBSERVE_EVENTS}"}

    run(play(), uvloop=True)


def test_pictures_keep_their_pace_though_a_server_does_not_answer() -> None:
    async def play() -> None:
        mesh, clock = HangingMesh(), LoopClock(1_000_000.0)
        hub = ObserveHub(mesh, clock, NoteRing())
        stream = hub.watch()
        async with asyncio.TaskGroup() as group:
            loop = group.create_task(hub.loop())
            for _ in range(4):
                await anext(stream)
            assert clock.monotonic_ms() - mesh.first_ms <= 4 * OBSERVE_MS + 1
            loop.cancel()

    run_virtual(play())


class HangingMesh(StubMesh):
    """Its calls end with their deadlines."""

    first_ms = 0.0

    async def call(self, node: NodeId, message: Message, *, deadline_ms: float = 0) -> Message:
        now_ms = asyncio.get_running_loop().time() * 1_000
        self.first_ms = self.first_ms or now_ms
        await asyncio.sleep(deadline_ms / 1_000)
        raise DeadlineExceeded


def test_observers_are_bounded_and_slow_ones_get_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.observe.OBSERVERS_PER_GATEWAY", 1)

    async def play() -> None:
        async with live() as gate, await client(gate) as http:
            hub: ObserveHub = gate.observers
            stream = hub.watch()
            refused = await http.get("/v1/observe/stream")
            assert (refused.status_code, refused.json()["code"]) == (503, "too_many_observers")
            hub._tell(b"old")
            hub._tell(b"new")
            assert await anext(stream) == b"new"

    run(play(), uvloop=True)


def test_pipelined_requests_are_bounded() -> None:
    async def play() -> None:
        async with live() as gate:
            reader, writer = await gate.raw()
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * (HTTP_PIPELINED_REQUESTS * 20))
            async with asyncio.timeout(5):
                await reader.read(-1)
            assert gate.counter("http_refused", reason="too_many_requests_at_once") == 1
            writer.close()

    run(play(), uvloop=True)
