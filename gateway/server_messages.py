"""What the gateway says to a client as text: JSON objects tagged ``t`` (docs/protocol/03 and 06)."""

from typing import Any

import orjson

from world.limits import CLIENT_HEARTBEAT_MS, PROTOCOL_MAX, PROTOCOL_MIN
from world.messages import Attached, CommandResult


def _text(tag: str, **fields: Any) -> bytes:
    return orjson.dumps({"t": tag, **fields})


def hello(gateway: str, world_ms: int) -> bytes:
    return _text(
        "hello",
        protocol_min=PROTOCOL_MIN,
        protocol_max=PROTOCOL_MAX,
        heartbeat_ms=CLIENT_HEARTBEAT_MS,
        gateway=gateway,
        world_ms=world_ms,
    )


def ready(
    session: int, connection: int, resume_token: str, avatar: int, name: str, gateway: str, world_ms: int
) -> bytes:
    return _text(
        "ready",
        session=session,
        connection=connection,
        resume_token=resume_token,
        avatar=avatar,
        name=name,
        gateway=gateway,
        world_ms=world_ms,
    )


def attached(answer: Attached, event: int) -> bytes:
    """``event``: the number after which events follow."""
    return _text(
        "attached",
        server=answer.server,
        epoch=answer.epoch,
        stream=answer.stream,
        event=event,
        last_input=answer.last_input,
        x=answer.x,
        y=answer.y,
        radius=answer.radius,
        world_ms=answer.world_ms,
        resync=answer.resync,
    )


def detached(reason: str) -> bytes:
    return _text("detached", reason=reason)


def event(stream: int, number: int, body: bytes) -> bytes:
    """``body``: the event's JSON as its owner made it, spliced in, not decoded."""
    return b'{"t":"event","s":%d,"n":%d,"e":%b}' % (stream, number, body)


def result(answer: CommandResult) -> bytes:
    if answer.ok:
        return _text("result", n=answer.number, ok=True, value=answer.value)
    return _text("result", n=answer.number, ok=False, code=answer.code, detail=answer.detail)


def pong(c: float, world_ms: int) -> bytes:
    return _text("pong", c=c, world_ms=world_ms)


def error(code: str, detail: str) -> bytes:
    return _text("error", code=code, detail=detail)


def reconnect(after_ms: int) -> bytes:
    return _text("reconnect", after_ms=after_ms)
