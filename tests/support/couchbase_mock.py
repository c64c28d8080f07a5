"""CouchbaseMock, Couchbase's own fake of its key-value service (Java), with a wire shim of ours before each node.

The mock knows no synchronous durability: its frame makes it drop the connection. It has no GET_META either, which
``exists`` needs. The shim reads each request of the memcached binary protocol, strips the durability frame and
remembers it, answers GET_META from GET, refuses sign-ins with a wrong password, and injects what a test asks for: a
status instead of an answer, an answer lost after the request was applied, a durability that the nodes left cannot give.
So what the SDK *sends* is checked; nothing here replicates or persists.

Never call ``get(with_expiry=True)``, ``get(project=…)`` or ``get_all_buckets`` on it: the SDK aborts the process.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from runtime.store.api import Durability
from runtime.store.opening import Credentials
from tests.support.require import missing

NAME = "CouchbaseMock-1.5.25.jar"
ARTIFACT = "com.couchbase.mock:CouchbaseMock:1.5.25"
SHA256 = "87202ed614a693cc47bd505ae821c041dfe776992f0edc25a7e89977004ccde5"
FETCH_S, START_S, COMMAND_S = 300, 60, 30

GET, FLUSH, GET_META, GET_CONFIG, SASL_AUTH, SASL_STEP = 0x00, 0x08, 0xA0, 0xB5, 0x21, 0x22
NOT_MY_VBUCKET, AUTH_ERROR, NO_MEMORY = 0x07, 0x20, 0x82
DURABILITY_IMPOSSIBLE, SYNC_WRITE_IN_PROGRESS, SYNC_WRITE_AMBIGUOUS = 0xA1, 0xA2, 0xA3
_FLEXIBLE_REQUEST, _REQUEST, _FLEXIBLE_RESPONSE, _RESPONSE = 0x08, 0x80, 0x18, 0x81
_HEADER = struct.Struct(">BBHBBHIIQ")  # magic opcode key extras datatype vbucket/status body opaque cas


class Sent(NamedTuple):
    """A durable write as it came over the wire; ``server_ms``: the time that the server is given."""

    opcode: int
    key: str
    level: Durability
    server_ms: int


@dataclass
class Packet:
    magic: int
    opcode: int
    key_bytes: int
    extras_bytes: int
    datatype: int
    status: int  # of an answer; of a request, its vbucket
    opaque: int
    cas: int
    body: bytes

    def pack(self) -> bytes:
        head = (self.magic, self.opcode, self.key_bytes, self.extras_bytes, self.datatype, self.status)
        return _HEADER.pack(*head, len(self.body), self.opaque, self.cas) + self.body

    @property
    def key(self) -> bytes:
        return self.body[self.extras_bytes : self.extras_bytes + self.key_bytes]


def content(packet: Packet) -> bytes:
    """Behind the frames (how long the server took), extras and key."""
    frames, key = 0, packet.key_bytes
    if packet.magic == _FLEXIBLE_RESPONSE:
        frames, key = key >> 8, key & 0xFF
    return packet.body[frames + packet.extras_bytes + key :]


async def read_packet(reader: asyncio.StreamReader) -> Packet:
    magic, opcode, key, extras, datatype, status, size, opaque, cas = _HEADER.unpack(await reader.readexactly(24))
    return Packet(magic, opcode, key, extras, datatype, status, opaque, cas, await reader.readexactly(size))


def jar() -> Path:
    """The mock, fetched by Maven once and checked by its digest. Skips the test where Java or Maven is missing."""
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            missing("couchbase", "apt install default-jre-headless maven")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "couchbase-mock"
    path = cache / NAME
    if not path.exists():
        words = ["-q", "-B", "dependency:copy", f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={cache}"]
        done = subprocess.run(["mvn", *words], capture_output=True, text=True, timeout=FETCH_S, check=False)
        if done.returncode:
            missing("couchbase", f"Maven could not fetch {ARTIFACT}: {done.stdout[-300:]}{done.stderr[-300:]}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise RuntimeError(f"{path} is not the {NAME} that these tests were written for")
    return path


@dataclass
class Shim:
    """Between clients and the mock's nodes, on a thread and loop of its own. Tests change its fields."""

    user: str
    password: str
    ports: dict[int, int] = field(default_factory=dict)  # of the mock's nodes: where clients find them instead
    durable: list[Sent] = field(default_factory=list)
    fail: list[int] = field(default_factory=list)  # statuses that answer the next durable writes, none applied
    lose: int = 0  # the next so many writes are applied, and their connection is cut instead of an answer
    impossible: Durability | None = None  # durable writes of this level and above are answered so

    def __post_init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def listen(self, node: int) -> None:
        async def begin() -> int:
            server = await asyncio.start_server(lambda r, w: Connection(self, node).serve(r, w), "127.0.0.1", 0)
            port: int = server.sockets[0].getsockname()[1]
            return port

        self.ports[node] = asyncio.run_coroutine_threadsafe(begin(), self.loop).result(COMMAND_S)

    def close(self) -> None:
        async def end() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(COMMAND_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(COMMAND_S)
        self.loop.close()


class Connection:
    """One client's connection to one node."""

    def __init__(self, shim: Shim, node: int) -> None:
        self._shim = shim
        self._node = node
        self._metas: set[int] = set()  # opaques of GET_META requests that went on as GET
        self._losing: set[int] = set()  # of writes whose answer is to be lost
        self._said: list[bytes] = []  # of the sign-in: what the client said first, and what the mock answered

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, out = await asyncio.open_connection("127.0.0.1", self._node)
        except OSError:
            writer.close()
            return
        ways = [self._requests(reader, out, writer), self._answers(back, writer)]
        tasks = [asyncio.ensure_future(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.close()
            out.close()

    async def _requests(
        self, reader: asyncio.StreamReader, out: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        while True:
            packet = await read_packet(reader)
            status = self._request(packet)
            if status is None:
                out.write(packet.pack())
                await out.drain()
            else:
                client.write(Packet(_RESPONSE, packet.opcode, 0, 0, 0, status, packet.opaque, 0, b"").pack())

    async def _answers(self, back: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        while True:
            packet = await read_packet(back)
            if packet.opaque in self._losing:
                return
            self._answer(packet)
            client.write(packet.pack())
            await client.drain()

    def _request(self, packet: Packet) -> int | None:
        """Made fit for the mock; or the status that answers it here."""
        if packet.magic == _FLEXIBLE_REQUEST:
            status = self._unframe(packet)
            if status is not None:
                return status
        if packet.opcode == SASL_AUTH:
            self._said = [content(packet)]
        if packet.opcode == SASL_STEP and not self._signs_in(packet):
            return AUTH_ERROR
        if packet.opcode == GET_META:
            packet.opcode, packet.body, packet.extras_bytes = GET, packet.key, 0
            self._metas.add(packet.opaque)
        return None

    def _unframe(self, packet: Packet) -> int | None:
        """Take the framing extras off: kind 1 is durability, of a level and a time in ms."""
        size, packet.key_bytes = packet.key_bytes >> 8, packet.key_bytes & 0xFF
        frames, packet.body = packet.body[:size], packet.body[size:]
        packet.magic = _REQUEST
        while frames:
            kind, length = frames[0] >> 4, frames[0] & 0x0F
            content, frames = frames[1 : 1 + length], frames[1 + length :]
            if kind == 1:
                return self._durable(packet, Durability(content[0]), int.from_bytes(content[1:], "big"))
        return None

    def _durable(self, packet: Packet, level: Durability, server_ms: int) -> int | None:
        shim = self._shim
        shim.durable.append(Sent(packet.opcode, packet.key.decode(), level, server_ms))
        if shim.impossible is not None and level >= shim.impossible:
            return DURABILITY_IMPOSSIBLE
        if shim.fail:
            return shim.fail.pop(0)
        if shim.lose:
            shim.lose -= 1
            self._losing.add(packet.opaque)
        return None

    def _signs_in(self, packet: Packet) -> bool:
        """Is the client's proof that of our password? (The mock takes any.)"""
        method = packet.key.removeprefix(b"SCRAM-").decode().lower()
        first, final = self._said[0].split(b",", 2)[2], content(packet)
        if f"n={self._shim.user},".encode() not in first:
            return False
        proven, _, proof = final.rpartition(b",p=")
        offer = dict(part.split("=", 1) for part in self._said[1].decode().split(","))
        salted = hashlib.pbkdf2_hmac(
            method, self._shim.password.encode(), base64.b64decode(offer["s"]), int(offer["i"])
        )
        client_key = hmac.digest(salted, b"Client Key", method)
        stored = hashlib.new(method, client_key).digest()
        signature = hmac.digest(stored, b",".join((first, self._said[1], proven)), method)
        return bytes(a ^ b for a, b in zip(client_key, signature, strict=True)) == base64.b64decode(proof)

    def _answer(self, packet: Packet) -> None:
        """Made to name the shim's ports, where it is a map of the cluster; GET's answer as GET_META's."""
        if packet.opcode == GET_CONFIG or packet.status == NOT_MY_VBUCKET:
            ports = self._shim.ports
            packet.body = re.sub(
                rb"(?<=[: ])\d+\b", lambda found: b"%d" % ports.get(int(found[0]), int(found[0])), packet.body
            )
        if packet.opcode == SASL_AUTH:
            self._said.append(content(packet))
        if packet.opaque in self._metas:
            self._metas.discard(packet.opaque)
            packet.extras_bytes = 0 if packet.status else 21  # deleted, flags, expiry, sequence, datatype
            packet.magic, packet.opcode, packet.key_bytes, packet.datatype = _RESPONSE, GET_META, 0, 0
            packet.body = bytes(packet.extras_bytes)


class CouchbaseMock:
    """A cluster of fake nodes with one bucket, until ``close``."""

    user, password = "Administrator", "password"

    def __init__(
        self, nodes: int = 3, replicas: int = 2, vbuckets: int = 64, bucket: str = "world", shimmed: bool = True
    ) -> None:
        self.bucket = bucket
        with socket.create_server(("127.0.0.1", 0)) as waiting:
            waiting.settimeout(START_S)
            words = ["--cccp", "--port", "0", "--host", "127.0.0.1", "-n", nodes, "-R", replicas, "-v", vbuckets]
            words += ["-b", f"{bucket}:", "--harakiri-monitor", f"127.0.0.1:{waiting.getsockname()[1]}"]
            self.process = subprocess.Popen(
                ["java", "-Xmx256m", "-jar", str(jar()), *map(str, words)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._control, _ = waiting.accept()  # the mock ends by itself when this closes, even if the tests crash
        self._control.settimeout(COMMAND_S)
        self._asking = threading.Lock()  # one command, and its reply
        self._replies = self._control.makefile("rb")
        b"".join(iter(lambda: self._replies.read(1), b"\0"))  # its REST port, which nobody needs
        self.shim = Shim(self.user, self.password)
        self.ports: list[int] = self.command("get_mcports", bucket=bucket)  # of the nodes themselves
        for port in self.ports if shimmed else ():
            self.shim.listen(port)
        shown = [self.shim.ports.get(port, port) for port in self.ports]
        self.nodes = f"couchbase://{','.join(f'127.0.0.1:{port}' for port in shown)}"  # key-value ports, never REST
        self.url = f"{self.nodes}/{bucket}"

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.user, self.password)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it."""
        return {
            "PROJECTK_STORE": self.url,
            "PROJECTK_STORE_USER": self.user,
            "PROJECTK_STORE_PASSWORD": self.password,
        }

    def command(self, name: str, **payload: object) -> Any:
        """hiccup(msecs, offset=5), truncate(limit), opfail(code, count, servers=[n]), failover(idx, bucket),
        respawn(idx, bucket). msecs, limit or count 0 ends the fault; opfail count -1 lasts until then."""
        with self._asking:
            self._control.sendall(json.dumps({"command": name, "payload": payload}).encode() + b"\n")
            reply = json.loads(self._replies.readline())
        if reply.get("status") != "ok":
            raise RuntimeError(f"{name}: {reply}")
        return reply.get("payload")

    def flush(self) -> None:
        """Every document goes: memcached's own command, to each node."""
        for port in self.ports:
            with socket.create_connection(("127.0.0.1", port), COMMAND_S) as node:
                node.sendall(Packet(_REQUEST, FLUSH, 0, 0, 0, 0, 0, 0, b"").pack())
                answer = node.recv(_HEADER.size, socket.MSG_WAITALL)
            assert answer[6:8] == b"\0\0", answer

    def close(self) -> None:
        self._replies.close()
        self._control.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.shim.close()


@cache
def shared_mock() -> CouchbaseMock:
    """One for all tests of this process that leave it healthy; flush it before. It ends with the process."""
    return CouchbaseMock()


@contextmanager
def couchbase_mock(**how: Any) -> Iterator[CouchbaseMock]:
    """``nodes``, ``replicas``, ``vbuckets``, ``shimmed``."""
    mock = CouchbaseMock(**how)
    try:
        yield mock
    finally:
        mock.close()
