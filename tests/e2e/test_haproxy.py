"""The balancer's own configuration file in front of real gateways, under TLS, found by name as in Docker's networks:
players are spread, a drained gateway is left by them and gets nobody new, a killed one's players go on at the other,
and a client's address is believed from the balancer only."""

import asyncio
import datetime
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cluster.bots.client import Client, ClientError
from cluster.verbs.healthcheck import check
from runtime.settings import read_settings
from tests.support.cluster import Cluster, cluster
from tests.support.names import name_server
from tests.support.players import eventually
from tests.support.processes import wait_until
from tests.support.require import missing

ROOT = Path(__file__).parents[2]
GATEWAYS = {"gw2": "127.0.0.2", "gw3": "127.0.0.3"}  # ids by address; one port on both, as two containers have it
PLAYERS = 8
CLIENT = "127.0.0.77"  # where players connect from

pytestmark = pytest.mark.cluster


def free_port(*hosts: str) -> int:
    """Free on all of these addresses."""
    for _ in range(50):
        with socket.create_server((hosts[0], 0)) as first:
            port = int(first.getsockname()[1])
            if all(_is_free(host, port) for host in hosts[1:]):
                return port
    raise AssertionError("no port is free on all addresses")


def _is_free(host: str, port: int) -> bool:
    try:
        socket.create_server((host, port)).close()
    except OSError:
        return False
    return True


def certificate(folder: Path) -> tuple[Path, Path]:
    """Self-signed, for localhost: (what clients trust, that and its key as the balancer wants them)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    trusted, both = folder / "trusted.pem", folder / "tls.pem"
    trusted.write_bytes(public)
    both.write_bytes(public + private)
    return trusted, both


class Stage:
    """The cluster, its two gateways behind the balancer, the balancer."""

    def __init__(self, running: Cluster, folder: Path) -> None:
        self.cluster = running
        self.folder = folder
        self.trusted, self.tls = certificate(folder)
        self.gateway_port = free_port(*GATEWAYS.values())
        self.https, self.http, self.status = (free_port("127.0.0.1") for _ in range(3))
        self.url = f"https://localhost:{self.https}"
        self.balancer: subprocess.Popen[bytes] | None = None

    def start_gateway(self, node: str) -> None:
        """As a replica: it is told its network, and finds its id."""
        broker = next(row["addresses"]["command"] for row in self.cluster.processes("broker"))
        ready = self.cluster.join(
            "gateway", "auto", broker,
            bind_host=f"{GATEWAYS[node]}/24", host=GATEWAYS[node], port=self.gateway_port, advertise_http=self.url,
            trusted_proxies="127.0.0.1/32", data=self.folder / node, log_level="debug",
            log_file=self.folder / f"{node}.log",
        )  # fmt: skip
        self.cluster.joined[node] = self.cluster.joined.pop("auto")
        assert ready["id"] == node

    def start_balancer(self, resolver: int) -> None:
        variables = {
            "LB_RESOLVER": f"127.0.0.1:{resolver}",
            "LB_GATEWAYS": f"gateway:{self.gateway_port}",
            "LB_CERTIFICATE": str(self.tls),
            "LB_MAXCONN": "500",
            "LB_HTTPS_PORT": str(self.https),
            "LB_HTTP_PORT": str(self.http),
            "LB_STATUS_PORT": str(self.status),
        }
        with (self.folder / "haproxy.out").open("wb") as out:
            self.balancer = subprocess.Popen(
                [haproxy(), "-db", "-f", str(ROOT / "deploy" / "haproxy.cfg")],
                env=os.environ | variables, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        wait_until(lambda: self.up() == set(GATEWAYS.values()), 10, "the balancer sees both gateways")

    def up(self) -> set[str]:
        """Addresses of gateways that the balancer gives new clients to."""
        try:
            table = httpx.get(f"http://127.0.0.1:{self.status}/stats;csv", timeout=2).text.splitlines()
        except httpx.HTTPError:
            return set()
        head = table[0].lstrip("# ").split(",")
        rows = [dict(zip(head, line.split(","), strict=False)) for line in table[1:]]
        return {row["addr"].partition(":")[0] for row in rows if row.get("addr") and row["status"].startswith("UP")}

    def log(self, node: str) -> str:
        return (self.folder / f"{node}.log").read_text()

    def stop(self) -> None:
        if self.balancer is not None:
            self.balancer.kill()
            self.balancer.wait()


def haproxy() -> str:
    return shutil.which("haproxy") or missing("haproxy", "apt install haproxy")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    haproxy()
    folder = tmp_path_factory.mktemp("haproxy")
    with (
        pytest.MonkeyPatch.context() as patch,
        cluster(folder, gateways=1, gameservers=1, logins=1, brokers=1) as running,
        name_server("gateway", list(GATEWAYS.values())) as resolver,
    ):
        made = Stage(running, folder)
        patch.setenv("SSL_CERT_FILE", str(made.trusted))  # what the bots' sockets trust
        try:
            for node in GATEWAYS:
                made.start_gateway(node)
            made.start_balancer(resolver)
            yield made
        finally:
            made.stop()


class Walker:
    """A player behind the balancer, who comes back whenever the socket closes. ``gateways``: by whom it was greeted."""

    def __init__(self, stage: Stage, http: httpx.AsyncClient) -> None:
        self.client = Client(http, [stage.url], on_message=self._heard)
        self.gateways: list[str] = []

    def _heard(self, message: dict[str, Any]) -> None:
        if message["t"] == "hello":
            self.gateways.append(message["gateway"])

    @property
    def gateway(self) -> str:
        return self.gateways[-1] if self.gateways else ""

    async def live(self) -> None:
        await self.client.guest()
        while True:
            try:
                await self.client.connect()
                await self.client.lost.wait()
            except ClientError:
                await asyncio.sleep(0.1)


@asynccontextmanager
async def walkers(stage: Stage, count: int) -> AsyncIterator[list[Walker]]:
    trust = ssl.create_default_context(cafile=str(stage.trusted))
    async with httpx.AsyncClient(verify=trust) as http, asyncio.TaskGroup() as group:
        made = [Walker(stage, http) for _ in range(count)]
        lives = [group.create_task(walker.live()) for walker in made]
        try:
            yield made
        finally:
            for life in lives:
                life.cancel()
            await asyncio.gather(*(walker.client.close() for walker in made))


def all_at(made: list[Walker], node: str) -> bool:
    return all(walker.gateway == node and not walker.client.lost.is_set() for walker in made)


def test_what_is_inner_stays_inside_and_plain_http_is_sent_to_tls(stage: Stage) -> None:
    trust = ssl.create_default_context(cafile=str(stage.trusted))
    with httpx.Client(verify=trust) as http:
        for path in ("/metrics", "/readyz", "/livez", "/%6detrics", "/metrics?x=1"):
            assert http.get(stage.url + path).status_code == 404, path
        page = http.get(stage.url)
        assert (page.status_code, page.headers["strict-transport-security"]) == (200, "max-age=31536000")
        assert f"wss://localhost:{stage.https}" in page.headers["content-security-policy"]
        listed = {row["url"] for row in http.get(f"{stage.url}/v1/gateways").json()["gateways"]}
        assert stage.url in listed
        sent = http.get(f"http://localhost:{stage.http}/observe?x=1")
        assert (sent.status_code, sent.headers["location"]) == (308, "https://localhost/observe?x=1")
    assert negotiated(stage) == "h2"
    assert httpx.get(f"http://127.0.0.1:{stage.status}/healthz").status_code == 200


def negotiated(stage: Stage) -> str | None:
    context = ssl.create_default_context(cafile=str(stage.trusted))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", stage.https), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        return secure.selected_alpn_protocol()


def test_replicas_have_ids_by_their_addresses_and_are_well(stage: Stage) -> None:
    for node, address in GATEWAYS.items():
        health = check(read_settings(host=address, port=stage.gateway_port), "gateway")
        assert health == (True, f"{node} (gateway) is ready.")


def test_a_clients_address_is_believed_from_the_balancer_only(stage: Stage) -> None:
    forged = {"x-forwarded-for": "198.51.100.7", "forwarded": "for=198.51.100.8"}
    trust = ssl.create_default_context(cafile=str(stage.trusted))
    with httpx.Client(transport=httpx.HTTPTransport(verify=trust, local_address=CLIENT)) as through:
        assert through.post(f"{stage.url}/v1/auth/guest", json={}, headers=forged).status_code == 200
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.88")) as directly:
        url = f"http://{GATEWAYS['gw2']}:{stage.gateway_port}/v1/auth/guest"
        assert directly.post(url, json={}, headers=forged).status_code == 200
    assert sorted(addresses(stage.log("gw2") + stage.log("gw3"))) == [CLIENT, "127.0.0.88"]


def addresses(log: str) -> list[str]:
    """Whom guests came from, by the gateways' logs."""

    rows = [json.loads(line) for line in log.splitlines()]
    return [row["address"] for row in rows if row["event"] == "guest"]


def test_players_are_spread_leave_a_drained_gateway_and_survive_a_killed_one(stage: Stage) -> None:
    asyncio.run(_story(stage))


async def _story(stage: Stage) -> None:
    async with walkers(stage, PLAYERS) as made:
        await eventually(lambda: all(w.client.attaches and not w.client.lost.is_set() for w in made), 15, "all play")
        at = Counter(walker.gateway for walker in made)
        assert set(at) == set(GATEWAYS)
        assert min(at.values()) >= PLAYERS // 4, at
        sessions = [walker.client.session for walker in made]

        drained = stage.cluster.joined.pop("gw2")
        drained.send_signal(signal.SIGTERM)
        await eventually(lambda: all_at(made, "gw3"), 15, "all have left the drained gateway")
        await eventually(lambda: stage.up() == {GATEWAYS["gw3"]}, 5, "the balancer gives it nobody new")
        assert await asyncio.to_thread(drained.wait, 10) == 0

        await asyncio.to_thread(stage.start_gateway, "gw2")
        await eventually(lambda: stage.up() == set(GATEWAYS.values()), 10, "the new gateway is seen")
        killed = stage.cluster.joined.pop("gw3")
        killed.kill()
        await asyncio.to_thread(killed.wait)
        await eventually(lambda: all_at(made, "gw2"), 15, "all have come back after the kill")

        assert [walker.client.session for walker in made] == sessions, "everybody resumed the session he had"
