"""The bots' client against a gateway that is not there, or not ready yet."""

import asyncio
from typing import cast

import httpx
import orjson
import pytest

from cluster.bots.client import Client, ClientError
from cluster.bots.wire import Socket
from tests.support.aio import run


class Recorder:
    """A socket that only remembers what was sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send_text(self, payload: bytes) -> None:
        self.sent.append(payload)

    send_binary = send_text

    def abort(self) -> None:
        pass


class Wired(Client):
    """Over a recorder, or over nothing."""

    def __init__(self, refused: bool = False) -> None:
        super().__init__(cast(httpx.AsyncClient, None), ["a", "b"])
        self.refused = refused
        self.recorder = Recorder()

    async def _open(self, url: str) -> None:
        if self.refused:
            raise ConnectionRefusedError(url)
        self.opening(cast(Socket, self.recorder))


def test_a_refused_connection_may_be_tried_again_elsewhere() -> None:
    async def play() -> None:
        client = Wired(refused=True)
        with pytest.raises(ClientError):
            await client.connect()
        assert client.may_reconnect
        assert client.gateways == ["b", "a"]

    run(play())


def test_nothing_is_said_before_there_is_a_session_and_commands_follow_then() -> None:
    async def play() -> None:
        client = Wired()
        connecting = asyncio.ensure_future(client.connect())
        await asyncio.sleep(0)
        client.move(1.0, 2.0, 0.0, 0.0)
        client.begin("say", text="early")
        assert client.recorder.sent == []
        ready = {"t": "ready", "session": 1, "connection": 1, "resume_token": "r", "avatar": 7, "name": "n"}
        attached = {"t": "attached", "server": "gs1", "epoch": 1, "stream": 1, "event": 0, "last_input": 0}
        client.text(orjson.dumps(ready | {"world_ms": 1}))
        client.text(orjson.dumps(attached | {"x": 1.0, "y": 2.0, "world_ms": 1, "resync": None}))
        await connecting
        said = [orjson.loads(p) for p in client.recorder.sent]
        assert [m["op"] for m in said if m["t"] == "command"] == ["say"]
        client.move(1.0, 2.0, 0.0, 0.0)
        assert client.recorder.sent[-1][0] == 1
        client.closed(1012, "restarting")
        assert client.gateways == ["b", "a"], "a gateway that restarts is left"
        connecting = asyncio.ensure_future(client.connect())
        await asyncio.sleep(0)
        client.closed(1012, "restarting")
        with pytest.raises(ClientError):
            await connecting
        assert client.gateways == ["a", "b"], "each is tried once"

    run(play())
