"""Couchbase's management REST as one knows it from its documentation: nodes in one process, behind httpx's own
transport or on real ports. It holds what the set-up does (a cluster, members, a rebalance that takes looks, a bucket, a
user) and refuses what a real server refuses: a second clusterInit, wrong passwords, members added twice, a mismatched
rebalance."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

import httpx

Form = dict[str, str]


@dataclass
class FakeNode:
    refuses: int = 0  # connections still refused: it is starting
    cluster: "FakeCluster | None" = None


@dataclass
class FakeCluster:
    admin: tuple[str, str]
    members: dict[str, str] = field(default_factory=dict)  # node → clusterMembership
    balanced: bool = True
    services: dict[str, str] = field(default_factory=dict)
    failover: dict[str, Any] = field(default_factory=lambda: {"enabled": True, "timeout": 120, "count": 0})
    buckets: dict[str, dict[str, Any]] = field(default_factory=dict)
    users: dict[str, Form] = field(default_factory=dict)
    rebalance: list[int] = field(default_factory=list)  # percents still to be told, one a look
    error: str = ""  # of the last rebalance
    ejected: list[str] = field(default_factory=list)


class FakeCouchbase:
    """``handle`` answers a request by its host. ``fails``: error of the next rebalance; ``stalls``: it never ends."""

    def __init__(self, *nodes: str, enterprise: bool = False) -> None:
        self.nodes = {name: FakeNode() for name in nodes}
        self.enterprise = enterprise
        self.fails = ""
        self.stalls = False
        self.percents = [0, 0, 41, 88]  # of every rebalance, one a look
        self.warmup = 2  # looks until a new bucket is served
        self.asked: list[str] = []  # "POST cb1.lan /controller/addNode"
        self.cut_after = ""  # such a request is answered, and then this process loses its connection

    def changes(self) -> list[str]:
        return [line for line in self.asked if not line.startswith("GET")]

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(lambda request: self.handle(request))

    def handle(self, request: httpx.Request) -> httpx.Response:
        name, path = request.url.host, request.url.path
        node = self.nodes.get(name)
        if node is None or node.refuses:
            if node is not None:
                node.refuses -= 1
            raise httpx.ConnectError("connection refused", request=request)
        self.asked.append(f"{request.method} {name} {path}")
        form = dict(parse_qsl(request.content.decode(), keep_blank_values=True))
        status, body = self._answer(node, name, request.method, path, form, _basic(request))
        if self.cut_after and self.asked[-1] == self.cut_after:
            self.cut_after = ""
            raise httpx.ReadError("connection lost", request=request)
        return httpx.Response(status, json=body)

    def _answer(
        self, node: FakeNode, name: str, method: str, path: str, form: Form, auth: tuple[str, str] | None
    ) -> tuple[int, Any]:
        cluster = node.cluster
        if path == "/pools":
            pools = [{"name": "default"}] if cluster else []
            return 200, {
                "pools": pools,
                "isEnterprise": self.enterprise,
                "implementationVersion": "7.6.2-3721",
            }
        if (method, path) == ("POST", "/clusterInit"):
            return self._init(node, name, form)
        if cluster is None:
            return 404, "unknown pool"
        if auth != cluster.admin:
            return 401, []
        return self._member(cluster, method, path, form)

    def _init(self, node: FakeNode, name: str, form: Form) -> tuple[int, Any]:
        if node.cluster is not None:
            return 401, []
        if form["hostname"] != name or "." not in name:
            return 400, [f"Requested name hostname {form['hostname']} is not allowed"]
        if form["indexerStorageMode"] != ("plasma" if self.enterprise else "forestdb"):
            return 400, {"errors": {"indexerStorageMode": "not supported in this edition"}}
        node.cluster = FakeCluster((form["username"], form["password"]), {name: "active"})
        node.cluster.services[name] = form["services"]
        return 200, {"newBaseUri": f"http://{name}:8091/"}

    def _member(self, cluster: FakeCluster, method: str, path: str, form: Form) -> tuple[int, Any]:
        match method, path.removeprefix("/pools/default").split("/"):
            case "GET", [""]:
                return 200, {"nodes": _rows(cluster), "balanced": cluster.balanced}
            case "GET", ["", "tasks"]:
                return 200, [{"type": "loadingSampleBucket", "status": "running"}, self._task(cluster)]
            case "POST", ["", "controller", "addNode"]:
                return self._add(cluster, form)
            case "POST", ["", "controller", "rebalance"]:
                return self._rebalance(cluster, form)
            case "GET", ["", "settings", "autoFailover"]:
                return 200, cluster.failover
            case "POST", ["", "settings", "autoFailover"]:
                return self._failover(cluster, form)
            case "PUT", ["", "settings", "rbac", "users", "local", user]:
                cluster.users[user] = form
                return 200, ""
            case _, ["", "buckets", *_]:
                return self._bucket(cluster, method, path, form)
        return 404, "Object Not Found"

    def _add(self, cluster: FakeCluster, form: Form) -> tuple[int, Any]:
        name = form["hostname"]
        other = self.nodes.get(name)
        if other is None or other.cluster is not None or name in cluster.members:
            return 400, ["Prepare join failed. Node is already part of cluster."]
        other.cluster = cluster
        cluster.members[name] = "inactiveAdded"
        cluster.services[name] = form["services"]
        cluster.balanced = False
        return 200, {"otpNode": f"ns_1@{name}"}

    def _rebalance(self, cluster: FakeCluster, form: Form) -> tuple[int, Any]:
        if sorted(form["knownNodes"].split(",")) != sorted(f"ns_1@{name}" for name in cluster.members):
            return 400, {"mismatch": 1}
        cluster.rebalance = [*self.percents]
        cluster.error, self.fails = self.fails, ""
        return 200, ""

    def _task(self, cluster: FakeCluster) -> dict[str, Any]:
        if cluster.rebalance:
            progress = cluster.rebalance[0] if self.stalls else cluster.rebalance.pop(0)
            if not cluster.rebalance and not cluster.error:
                self._rebalanced(cluster)
            return {"type": "rebalance", "status": "running", "progress": progress + 0.4}
        if cluster.error:
            return {"type": "rebalance", "status": "notRunning", "errorMessage": cluster.error}
        return {"type": "rebalance", "status": "notRunning", "statusIsStale": False}

    def _rebalanced(self, cluster: FakeCluster) -> None:
        for name, membership in list(cluster.members.items()):
            if membership == "inactiveFailed":
                del cluster.members[name]
                cluster.ejected.append(name)
            else:
                cluster.members[name] = "active"
        cluster.balanced = True

    def _failover(self, cluster: FakeCluster, form: Form) -> tuple[int, Any]:
        least = 1 if self.enterprise else 30
        if int(form["timeout"]) < least:
            return 400, {
                "errors": {"timeout": f'The value of "timeout" must be a positive integer between {least} and 3600'}
            }
        cluster.failover = {"enabled": form["enabled"] == "true", "timeout": int(form["timeout"]), "count": 0}
        return 200, ""

    def _bucket(self, cluster: FakeCluster, method: str, path: str, form: Form) -> tuple[int, Any]:
        name = path.removeprefix("/pools/default/buckets").strip("/")
        if method == "POST" and not name:
            if form["name"] in cluster.buckets:
                return 400, {"errors": {"name": "Bucket with given name already exists"}}
            cluster.buckets[form["name"]] = {**form, "replicaNumber": int(form["replicaNumber"]), "looks": 0}
            return 202, ""
        bucket = cluster.buckets.get(name)
        if bucket is None:
            return 404, "Requested resource not found."
        if method == "POST":
            bucket["replicaNumber"] = int(form["replicaNumber"])
            cluster.balanced = False
            return 200, ""
        bucket["looks"] += 1
        status = "healthy" if bucket["looks"] > self.warmup else "warmup"
        served = [{"hostname": f"{n}:8091", "status": status} for n, m in cluster.members.items() if m == "active"]
        return 200, {"name": name, "replicaNumber": bucket["replicaNumber"], "nodes": served}


def _rows(cluster: FakeCluster) -> list[dict[str, str]]:
    return [
        {"hostname": f"{name}:8091", "otpNode": f"ns_1@{name}", "clusterMembership": membership, "status": "healthy"}
        for name, membership in cluster.members.items()
    ]


def _basic(request: httpx.Request) -> tuple[str, str] | None:
    scheme, _, said = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    user, _, password = base64.b64decode(said).decode().partition(":")
    return user, password


@contextmanager
def on_real_ports(fake: FakeCouchbase) -> Iterator[int]:
    """The fake's nodes, named by loopback addresses like 127.0.0.11, on one port that all of them have."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            url = f"http://{self.headers['host']}{self.path}"
            request = httpx.Request(self.command, url, headers=dict(self.headers.items()), content=content)
            with lock:
                answer = fake.handle(request)
            body = json.dumps(answer.json()).encode()
            self.send_response(answer.status_code)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None: ...

    names = list(fake.nodes)
    servers = [ThreadingHTTPServer((names[0], 0), Handler)]
    port = int(servers[0].server_address[1])
    servers += [ThreadingHTTPServer((name, port), Handler) for name in names[1:]]
    for server in servers:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield port
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
