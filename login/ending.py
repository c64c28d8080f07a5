"""The end of a session, told to its avatar's owner: any game server is asked first, who knows better is followed."""

import asyncio

from runtime.mesh.api import Mesh, MeshError, Refused
from world.clock import Clock
from world.ids import NodeId
from world.limits import END_SESSION_MS, RETRY_AFTER_MS
from world.messages import EndSession, Message, Moved, Ok


async def end_session(mesh: Mesh, clock: Clock, avatar: int, session: int) -> None:
    """Return once the avatar's document refuses all sessions below ``session``; safe to repeat. An avatar that nobody
    has created has none. Raises Refused: store_unavailable, session_not_ended (no owner answers in END_SESSION_MS)."""
    deadline = clock.monotonic_ms() + END_SESSION_MS
    server = ""
    while (left_ms := deadline - clock.monotonic_ms()) > 0:
        answer = await _ask(mesh, server, EndSession(avatar, session), left_ms)
        if isinstance(answer, Ok):
            return
        followed, server = bool(server), answer.server if isinstance(answer, Moved) else ""
        if followed or not server:
            await asyncio.sleep(RETRY_AFTER_MS / 1_000)
    raise Refused("session_not_ended", "the avatar's owner does not answer: repeat")


async def _ask(mesh: Mesh, server: str, ask: EndSession, left_ms: float) -> Message | None:
    """None: nobody answers, or not to this. Raises Refused store_unavailable."""
    try:
        if server:
            return await mesh.call(NodeId(server), ask, deadline_ms=left_ms)
        return await mesh.call_any("gameserver", ask, deadline_ms=left_ms)
    except Refused as refusal:
        if refusal.code == "store_unavailable":
            raise
        return Ok() if refusal.code == "no_such_avatar" else None
    except MeshError:
        return None
