"""A scripted gateway inside the browser's own network: the real pages, ground and byte layouts, no process to start.

One avatar, a few companions, the spawn's real trees, rocks and bushes; commands are answered from a table. Scenarios
drive it step by step: ``tick`` publishes one slice per sub-cell, as a game server's tick would.
"""

import json
import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from playwright.sync_api import Page, Route, WebSocketRoute

from gateway.pages import WEB_CLIENT, content_security_policy
from world import frames, grid
from world.describe import describe
from world.ids import entity_id
from world.natural import natural
from world.terrain import ground, spawn

ORIGIN = "http://127.0.0.1:9"
SEED = 1
AVATAR = entity_id(1, 7)
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
VENDOR = WEB_CLIENT.parent / "node_modules/pixi.js/dist"


class FakeGateway:
    """``install`` on a page before it opens ``ORIGIN``."""

    def __init__(self, seed: int = SEED, server: str = "gs2") -> None:
        self.seed = seed
        self.server = server
        self.spawn = spawn(seed)
        self.started = time.monotonic()
        self.ticked_ms = 0
        self.sequence = 0
        self.sockets: list[WebSocketRoute] = []
        self.heard: list[dict[str, Any]] = []
        self.moves: list[Any] = []
        self.companions: dict[int, dict[str, Any]] = {}
        self.stock: dict[int, int] = {}
        self.inventory: dict[str, int] = {}
        self.events = 0
        self.area_events = 0
        self.mute = False
        self.refuse_moves = False
        self.observed: list[dict[str, Any]] = []
        self.rules: dict[str, Callable[[dict[str, Any]], None]] = {}  # op → how a command of it is answered

    @property
    def world_ms(self) -> int:
        return 1_000_000 + int((time.monotonic() - self.started) * 1000)

    # -- HTTP --------------------------------------------------------------------------------------------------------

    def install(self, page: Page) -> None:
        page.context.route(f"{ORIGIN}/**", self._http)
        page.context.route_web_socket(re.compile("/v1/socket$"), self._socket)

    def _http(self, route: Route) -> None:
        path = route.request.url.removeprefix(ORIGIN).split("?")[0]
        if path in ("/", "/observe"):
            html = (WEB_CLIENT / ("play.html" if path == "/" else "observe/index.html")).read_bytes()
            policy = content_security_policy(html, [ORIGIN])
            route.fulfill(body=html, content_type="text/html", headers={"content-security-policy": policy})
        elif path.startswith("/static/"):
            self._file(route, path.removeprefix("/static/"))
        elif found := re.fullmatch(r"/v1/world/ground/(\d+),(\d+)", path):
            tiles = ground(self.seed, int(found[1]), int(found[2])).tobytes()
            route.fulfill(body=tiles, content_type="application/octet-stream")
        elif path == "/v1/observe/stream":
            picture = {"servers": self.observed, "nodes": [], "events": [], "gateway": "gw1", "world_ms": self.world_ms}
            route.fulfill(body=f"data: {json.dumps(picture)}\n\n", content_type="text/event-stream")
        else:
            self._api(route, path)

    def _file(self, route: Route, name: str) -> None:
        vendor = {"vendor/pixi.min.js": "pixi.min.js", "vendor/unsafe-eval.min.js": "packages/unsafe-eval.min.js"}
        path = VENDOR / vendor[name] if name in vendor else WEB_CLIENT / name
        if path.is_file():
            route.fulfill(body=path.read_bytes(), content_type=TYPES.get(path.suffix, "text/plain"))
        else:
            route.fulfill(status=404)

    def _api(self, route: Route, path: str) -> None:
        answers: dict[str, Any] = {
            "/v1/world": describe(self.seed),
            "/v1/gateways": {"gateways": [{"id": "gw1", "url": ORIGIN, "clients": 1}]},
            "/v1/auth/guest": {
                "access_token": "a",
                "refresh_token": "r",
                "avatar": AVATAR,
                "name": "Amber Finch",
                "expires_s": 900,
            },
        }
        if path in answers:
            route.fulfill(json=answers[path])
        elif path == "/v1/auth/logout":
            route.fulfill(status=204)
        else:
            route.fulfill(status=404)

    # -- the socket --------------------------------------------------------------------------------------------------

    def _socket(self, socket: WebSocketRoute) -> None:
        self.sockets.append(socket)
        socket.on_message(lambda message: self._hear(socket, message))
        self._say(
            {"t": "hello", "protocol_min": 1, "protocol_max": 1, "heartbeat_ms": 5000, "gateway": "gw1"}
            | {"world_ms": self.world_ms}
        )

    @property
    def socket(self) -> WebSocketRoute:
        return self.sockets[-1]

    def _send(self, message: str | bytes) -> None:
        if self.sockets:
            self.socket.send(message)

    def _say(self, message: dict[str, Any]) -> None:
        self._send(json.dumps(message))

    def _hear(self, socket: WebSocketRoute, message: str | bytes) -> None:
        if isinstance(message, bytes):
            rows = frames.read_client_moves(message)
            self.moves.extend(rows.copy())
            return
        said = json.loads(message)
        self.heard.append(said)
        if not self.mute and socket is self.socket:
            getattr(self, f"_on_{said['t']}", lambda _said: None)(said)

    def _on_identify(self, _said: dict[str, Any]) -> None:
        self._enter(resync=True)

    def _on_resume(self, _said: dict[str, Any]) -> None:
        self._enter(resync=False)

    def _on_ping(self, said: dict[str, Any]) -> None:
        self._say({"t": "pong", "c": said["c"], "world_ms": self.world_ms})

    def _on_command(self, said: dict[str, Any]) -> None:
        if said["op"] == "gather":
            self._gather(said)
        elif said["op"] == "say":
            self.result(said, {})
            self.area_event(AVATAR, {"kind": "say", "name": "Amber Finch", "text": said["args"]["text"]})
        else:
            self.rules[said["op"]](said)

    def result(self, said: dict[str, Any], value: dict[str, Any]) -> None:
        self._say({"t": "result", "n": said["n"], "ok": True, "value": value})

    def refuse(self, said: dict[str, Any], code: str) -> None:
        self._say({"t": "result", "n": said["n"], "ok": False, "code": code, "detail": ""})

    def event(self, body: dict[str, Any]) -> None:
        """A numbered event, for the avatar alone."""
        self.events += 1
        self._say({"t": "event", "s": 5, "n": self.events, "e": body})

    def _gather(self, said: dict[str, Any]) -> None:
        target = said["args"]["target"]
        item = {2: "wood", 3: "stone", 4: "berries"}[target >> 48]
        self.stock[target] -= 1
        self.inventory[item] = self.inventory.get(item, 0) + 1
        self.event({"kind": "inventory", "items": self.inventory})
        self.result(said, {"items": {item: 1}})
        self.area_event(AVATAR, {"kind": "gather", "target": target, "item": item})

    def _enter(self, *, resync: bool) -> None:
        x, y = self.position()
        ready = {"session": 12, "connection": 1, "resume_token": "t", "avatar": AVATAR, "name": "Amber Finch"}
        self._say({"t": "ready", **ready, "gateway": "gw1", "world_ms": self.world_ms})
        state = {"name": "Amber Finch", "inventory": self.inventory} if resync else None
        attached = {"server": self.server, "epoch": 1, "stream": 5, "event": self.events, "last_input": 0}
        self._say(
            {"t": "attached", **attached, "x": x, "y": y, "radius": 50, "world_ms": self.world_ms, "resync": state}
        )
        shown = sorted(grid.subcells_in_sight(grid.subcell_at(x, y), 50))
        self._send(frames.sight_bytes(shown, []))
        self._snapshot(shown)

    # -- the world ---------------------------------------------------------------------------------------------------

    def position(self) -> tuple[float, float]:
        if not self.moves:
            return self.spawn
        return float(self.moves[-1]["x"]), float(self.moves[-1]["y"])

    def join(
        self, number: int, name: str, dx: float, dy: float, vx: float = 0, vy: float = 0, publisher: int = 1
    ) -> int:
        """A companion at an offset from the spawn; told at the next snapshot or tick."""
        entity = entity_id(1, number)
        at = {"x": self.spawn[0] + dx, "y": self.spawn[1] + dy, "vx": vx, "vy": vy, "version": 1}
        self.companions[entity] = {"name": name, "publisher": publisher, **at}
        return entity

    def _head(self, kind: int, subcell: int, publisher: int, blocks: list[bytes]) -> bytes:
        self.sequence += 1
        place, cell = grid.place_in_cell(subcell), grid.cell_of_subcell(subcell)
        return frames.slice_bytes(kind, place, cell, publisher, 1, self.sequence, self.world_ms, blocks)

    def _motion(self, entity: int, version: int, at: tuple[float, ...], last_input: int = 0, flags: int = 0) -> bytes:
        row = np.array([(entity, 1, version, *at, last_input, flags)], frames.MOTION)
        return frames.motion_block(row)

    def _fields(self, entity: int, version: int, fields: list[Any]) -> bytes:
        return frames.property_block([frames.Property(entity, 1, version, 0, json.dumps(fields).encode())])

    def _snapshot(self, shown: list[int]) -> None:
        seen = set(shown)
        blocks: dict[tuple[int, int], list[bytes]] = {}
        for rx, ry in {grid.region_of_cell(grid.cell_of_subcell(s)) for s in shown}:
            for node in natural(self.seed, rx, ry):
                subcell = grid.subcell_at(node.x, node.y)
                if subcell in seen:
                    holds = {2: 5, 3: 8, 4: 4}[node.kind]
                    left = self.stock.setdefault(node.entity, holds)
                    part = blocks.setdefault((subcell, 3), [])
                    part += [self._motion(node.entity, 1, (node.x, node.y, 0, 0)), self._fields(node.entity, 1, [left])]
        for entity, at in self.companions.items():
            part = blocks.setdefault((grid.subcell_at(at["x"], at["y"]), at["publisher"]), [])
            part += [
                self._motion(entity, at["version"], (at["x"], at["y"], at["vx"], at["vy"])),
                self._fields(entity, 1, [at["name"]]),
            ]
        for (subcell, publisher), part in blocks.items():
            self._send(self._head(frames.SNAPSHOT, subcell, publisher, part))

    def tick(self) -> None:
        """Companions walk on, one's own claims are echoed (or refused)."""
        ms = self.world_ms - self.ticked_ms if self.ticked_ms else 0
        self.ticked_ms = self.world_ms
        for entity, at in self.companions.items():
            at["x"] += at["vx"] * ms / 1000
            at["y"] += at["vy"] * ms / 1000
            at["version"] += 1
            motion = self._motion(entity, at["version"], (at["x"], at["y"], at["vx"], at["vy"]))
            self._send(self._head(frames.SLICE, grid.subcell_at(at["x"], at["y"]), at["publisher"], [motion]))
        if self.moves:
            self._echo()

    def _echo(self) -> None:
        last = self.moves[-1]
        x, y = self.spawn if self.refuse_moves else (float(last["x"]), float(last["y"]))
        speed = (0.0, 0.0) if self.refuse_moves else (float(last["vx"]), float(last["vy"]))
        number = int(last["input"])
        motion = self._motion(AVATAR, number + 1, (x, y, *speed), number, int(self.refuse_moves))
        self._send(self._head(frames.SLICE, grid.subcell_at(x, y), 2, [motion]))

    def area_event(self, entity: int, body: dict[str, Any]) -> None:
        self.area_events += 1
        event = frames.AreaEvent(entity, 1, self.area_events, json.dumps(body).encode())
        x, y = self.position()
        self._send(self._head(frames.SLICE, grid.subcell_at(x, y), 2, [frames.event_block([event])]))

    def set_stock(self, entity: int, left: int, x: float, y: float, version: int) -> None:
        self.stock[entity] = left
        fields = self._fields(entity, version, [left])
        self._send(self._head(frames.SLICE, grid.subcell_at(x, y), 3, [fields]))
