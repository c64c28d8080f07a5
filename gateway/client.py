"""One connected client: its session core, its socket and its sight; does what the core says."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from gateway import closing, effects
from gateway.closing import Closing
from gateway.effects import Effect
from gateway.fanout import Link, Watcher
from gateway.session import Failed, Session, State
from runtime.mesh.api import MeshError
from world.ids import NodeId
from world.limits import ATTACH_CALL_MS, CLIENT_BUFFER_CLOSE_BYTES, COMMAND_CALL_MS, OPEN_SESSION_MS
from world.messages import Message, OpenSession, SessionOpened

if TYPE_CHECKING:
    from gateway.gateway import Gateway


class Socket(Link, Protocol):
    """What a client's connection must do; ``gateway.websocket`` is the real one."""

    def say(self, text: bytes) -> None:
        """One text message; buffered, never waits."""
        ...

    def close(self, reason: Closing) -> None:
        """Close frame with this code; the connection is cut CLIENT_CLOSE_MS later at the latest."""
        ...


class Client:
    """Made when a socket has opened; ``gone`` when it has closed, however."""

    def __init__(self, gateway: "Gateway", socket: Socket) -> None:
        self.session = Session(gateway.node_id, gateway.clock, gateway.rng)
        self.watcher = Watcher(socket)
        self.since_ms = gateway.clock.monotonic_ms()
        self._gateway = gateway
        self._socket = socket

    # -- from the socket -----------------------------------------------------------------------------------------------
    def opened(self) -> None:
        self.run(self.session.opened())

    def heard(self) -> bool:
        """A frame came. False: the client is being closed, ignore the frame."""
        if self._socket.buffered() > CLIENT_BUFFER_CLOSE_BYTES:
            self.close(closing.TOO_SLOW)
        else:
            self.run(self.session.heard())
        return self.session.state is not State.CLOSED

    def text(self, data: bytes) -> None:
        self._gateway.counters.text.inc()
        self.run(self.session.text(data))

    def binary(self, data: bytes) -> None:
        self._gateway.counters.binary.inc()
        self.run(self.session.binary(data))

    def gone(self) -> None:
        self.run(self.session.closed())
        self._gateway.forget(self)

    def say(self, text: bytes) -> None:
        """What the gateway itself has to say."""
        self._socket.say(text)

    def close(self, reason: Closing) -> None:
        self.run(self.session.close(reason))

    # -- effects -------------------------------------------------------------------------------------------------------
    def run(self, todo: list[Effect]) -> None:
        """Do what the session core says, in order."""
        for effect in todo:
            self._do(effect)

    def _do(self, effect: Effect) -> None:
        gateway = self._gateway
        match effect:
            case effects.Say(text):
                self._socket.say(text)
            case effects.Moves(server, rows):
                gateway.moves.add(server, rows)
            case effects.Look(x, y, radius):
                gateway.fanout.look(self.watcher, x, y, radius)
            case effects.Count(kind):
                gateway.counters.bad_input.labels(kind).inc()
            case effects.Tell(server, message):
                gateway.mesh.send(NodeId(server), message)
            case effects.Close(reason):
                gateway.counters.closes.labels(reason.name).inc()
                gateway.forget(self)
                self._socket.close(reason)
            case _:
                self._ask(effect)

    def _ask(self, effect: Effect) -> None:
        """Effects that are answered later, each by a task of its own."""
        match effect:
            case effects.CheckToken():
                self._check_token(effect)
            case effects.AskSession():
                self._spawn(self._open_session(effect), "open-session")
            case effects.CallAttach():
                self._gateway.register(self)
                self._spawn(self._attach(effect), "attach")
            case effects.CallCommand():
                self._command(effect)
            case effects.CallMissed():
                self._spawn(self._missed(effect), "missed")

    def _spawn(self, coro: Coroutine[Any, Any, None], name: str) -> None:
        try:
            self._gateway.service.spawn(coro, name)
        except RuntimeError:  # too many tasks, or stopping
            self.close(closing.FULL)

    def _check_token(self, effect: effects.CheckToken) -> None:
        """At once where the key is known, so that a storm of resumes needs no tasks."""
        claims = self._gateway.keys.check(effect.token, effect.purpose)
        if claims is not None:
            self.run(self.session.token_checked(claims))
        else:
            self._spawn(self._fetch_key(effect), "fetch-key")

    async def _fetch_key(self, effect: effects.CheckToken) -> None:
        claims = await self._gateway.keys.fetch_and_check(effect.token, effect.purpose)
        self.run(self.session.token_checked(claims))

    async def _open_session(self, effect: effects.AskSession) -> None:
        ask = OpenSession(effect.account, effect.avatar, effect.family)
        try:
            answer: Message | Failed = await self._gateway.mesh.call_any("login", ask, deadline_ms=OPEN_SESSION_MS)
        except MeshError as error:
            answer = Failed(error.code)
        if isinstance(answer, SessionOpened | Failed):
            self.run(self.session.session_opened(answer))

    async def _attach(self, effect: effects.CallAttach) -> None:
        server = effect.server or self._gateway.any_server()
        answer = await self._call(server, effect.message, ATTACH_CALL_MS)
        self._gateway.counters.attaches.labels(_name(answer)).inc()
        self.run(self.session.attach_answered(effect.attempt, answer))

    def _command(self, effect: effects.CallCommand) -> None:
        """Without a task: there are thousands a second."""
        try:
            asked = self._gateway.mesh.ask(NodeId(effect.server), effect.message, deadline_ms=COMMAND_CALL_MS)
        except MeshError as error:
            self._command_answered(effect, Failed(error.code))
        else:
            asked.add_done_callback(partial(self._command_ended, effect))

    def _command_ended(self, effect: effects.CallCommand, asked: "asyncio.Future[Message]") -> None:
        """The call has ended. One that was cancelled goes down with this process."""
        if asked.cancelled():
            return
        error = asked.exception()
        if error is None:
            self._command_answered(effect, asked.result())
        elif isinstance(error, MeshError):
            self._command_answered(effect, Failed(error.code))
        else:
            self._gateway.service.fail(error)

    def _command_answered(self, effect: effects.CallCommand, answer: Message | Failed) -> None:
        self._gateway.counters.command_answered(_name(answer))
        self.run(self.session.command_answered(effect.message.number, effect.attempt, answer))

    async def _missed(self, effect: effects.CallMissed) -> None:
        answer = await self._call(effect.server, effect.message, ATTACH_CALL_MS)
        self.run(self.session.missed_answered(answer))

    async def _call(self, server: str, message: Message, deadline_ms: float) -> Message | Failed:
        try:
            return await self._gateway.mesh.call(NodeId(server), message, deadline_ms=deadline_ms)
        except MeshError as error:
            return Failed(error.code)


def _name(answer: Message | Failed) -> str:
    """A label of few values: message types and problem codes."""
    return answer.code if isinstance(answer, Failed) else type(answer).__name__.lower()
