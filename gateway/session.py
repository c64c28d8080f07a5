"""The session core: pure. Inputs are what the client says, what the mesh answers, and time; outputs are effects.

States and what moves between them::

    HELLO ──identify──> CHECKING ──token good──> OPENING ──session number──> ATTACHING <────────┐
      └─────resume────> CHECKING ──token good────────────────────────────────┘ │ attached       │ owner lost, moved
                                                                               v                │ (the socket stays)
                                                                            PLAYING ────────────┘
    any state ── bad input, silence, bye, replaced ──> CLOSED (late answers are ignored, a late attach is undone)

Attaching never gives up while the client lives: it asks any server, follows ``moved``, and waits with backoff.
"""

import random
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from gateway import closing, server_messages
from gateway.client_messages import BadClientMessage, Bye, Command, Identify, Ping, Resume, Seen, decode
from gateway.closing import Closing
from gateway.commands import NEVER, Commands, Sender
from gateway.effects import (
    AskSession,
    CallAttach,
    CallMissed,
    CheckToken,
    Close,
    Count,
    Effect,
    Look,
    Moves,
    Say,
    Tell,
)
from gateway.events import EventStream
from gateway.inputs import BadMoves, Inputs, move_rows
from gateway.rate import TokenBucket
from world.clock import Clock
from world.limits import (
    ATTACH_REDIRECTS,
    ATTACH_RETRY_CAP_MS,
    ATTACH_RETRY_MS,
    BUSY_RETRY_MS,
    CLIENT_MESSAGES_BURST,
    CLIENT_MESSAGES_PER_S,
    CLIENT_SILENCE_MS,
    COMMAND_RETRY_MS,
    EVENT_TAIL_CHECK_MS,
    HANDSHAKE_MS,
    PROTOCOL_MAX,
    PROTOCOL_MIN,
)
from world.messages import (
    Attach,
    Attached,
    Busy,
    CommandResult,
    Detach,
    Events,
    EventsMissed,
    EventsSeen,
    Message,
    Moved,
    SessionOpened,
)

Effects = list[Effect]


class Claims(NamedTuple):
    """What a verified token says."""

    account: str
    avatar: int
    name: str
    session: int = 0  # resume tokens only
    family: str = ""  # access tokens only: the sign-in


class Failed(NamedTuple):
    """A call that brought no answer: the peer's problem code, or unreachable, deadline."""

    code: str


class State(Enum):
    HELLO = "hello"
    CHECKING = "checking"
    OPENING = "opening"
    ATTACHING = "attaching"
    PLAYING = "playing"
    CLOSED = "closed"


class Owner(NamedTuple):
    """The game server that answered the attach."""

    server: str
    generation: int
    epoch: int


_NOBODY = Owner("", 0, 0)
_ENDS = {"replaced": closing.REPLACED, "logged_out": closing.LOGGED_OUT}  # what an owner says of a session, for good


class Session:
    """One socket's conversation. Every input method returns the effects it causes, in order."""

    def __init__(self, gateway: str, clock: Clock, rng: random.Random) -> None:
        now = clock.monotonic_ms()
        self.state = State.HELLO
        self.avatar = 0
        self.session = 0
        self.connection = 0
        self.owner = _NOBODY  # the last one known; current only while PLAYING
        self.wake_ms = now + HANDSHAKE_MS  # ``tick`` has nothing to do before
        self.inputs = Inputs()
        self.events = EventStream()
        self.commands = Commands()
        self._gateway = gateway
        self._clock = clock
        self._rng = rng
        self._bucket = TokenBucket(CLIENT_MESSAGES_PER_S, CLIENT_MESSAGES_BURST, now)
        self._handshake_by_ms = now + HANDSHAKE_MS
        self._heard_ms = now
        self._claims = Claims("", 0, "")
        self._resume: Resume | None = None  # what the client said, until attached once
        self._resume_token = ""
        self._floor = 0
        self._leave = False  # the player said bye
        self._attempt = 0
        self._target = ""  # whom the attach goes to; "": any
        self._redirects = 0
        self._failures = 0
        self._attach_at_ms = NEVER
        self._attach_in_flight = False
        self._moves_at_ms = NEVER  # kept moves are sent again then (the owner was busy)
        self._asking_missed = False
        self._tail_checked_ms = now

    # -- the socket ------------------------------------------------------------------------------------------------
    def opened(self) -> Effects:
        return [Say(server_messages.hello(self._gateway, self._clock.world_ms()))]

    def heard(self) -> Effects:
        """Any frame came: counts against the rate, and as a sign of life. Effects only where the rate is exceeded."""
        now = self._clock.monotonic_ms()
        self._heard_ms = now
        if self.state is not State.CLOSED and not self._bucket.take(now):
            return self._end(closing.RATE_LIMITED)
        return []

    def text(self, data: bytes) -> Effects:
        """A whole text message, valid UTF-8."""
        if self.state is State.CLOSED:
            return []
        try:
            message = decode(data)
        except BadClientMessage as error:
            return self._bad("bad_message", str(error))
        if isinstance(message, Ping):
            return self._ping(message)
        if isinstance(message, Bye):
            self._leave = True
            return self._end(closing.BYE)
        if isinstance(message, Identify | Resume):
            return self._begin(message)
        if self.state not in (State.ATTACHING, State.PLAYING):
            return self._bad("out_of_order", "identify first, and wait for ready")
        return self._command(message) if isinstance(message, Command) else self._seen(message)

    def binary(self, data: bytes) -> Effects:
        """A whole binary message: moves."""
        if self.state is State.CLOSED:
            return []
        if self.state not in (State.ATTACHING, State.PLAYING):
            return self._bad("out_of_order", "identify first, and wait for ready")
        try:
            rows = self.inputs.take(data, self._clock.monotonic_ms())
        except BadMoves as error:
            return self._bad("bad_message", str(error))
        if not rows:
            return [Count("input_repeated")]
        return self._forward(rows) if self.state is State.PLAYING else []

    def closed(self) -> Effects:
        """The socket is gone, or about to go: the owner is told, as far as there is one."""
        if self.state is State.CLOSED:
            return []
        self.state, self.wake_ms = State.CLOSED, NEVER
        return [self._detach(self.owner.server)] if self.owner.server else []

    def close(self, reason: Closing) -> Effects:
        """The gateway's own wish: restarting, full, too slow."""
        return [] if self.state is State.CLOSED else self._end(reason)

    # -- identify and resume -----------------------------------------------------------------------------------------
    def _begin(self, message: Identify | Resume) -> Effects:
        if self.state is not State.HELLO:
            return self._bad("out_of_order", "this socket has identified already")
        if not PROTOCOL_MIN <= message.protocol <= PROTOCOL_MAX:
            return self._end(closing.VERSION)
        self.state = State.CHECKING
        if isinstance(message, Identify):
            self.connection = 1
            return [CheckToken(message.token, "access")]
        self._resume, self.connection, self._floor = message, message.connection, message.floor
        self.inputs.last = message.input
        self.events = EventStream(message.stream, message.event)
        return [CheckToken(message.resume_token, "resume")]

    def token_checked(self, claims: Claims | Failed) -> Effects:
        """Failed: unauthorized (forged, of another kind, expired), or no login could be asked for the key."""
        if self.state is not State.CHECKING:
            return []
        if isinstance(claims, Failed) and claims.code != "unauthorized":
            return self._end(closing.FULL)
        if isinstance(claims, Failed):
            return self._end(closing.UNAUTHORIZED if self._resume is None else closing.SESSION_EXPIRED)
        self._claims, self.avatar = claims, claims.avatar
        if self._resume is None:
            self.state = State.OPENING
            return [AskSession(claims.account, claims.avatar, claims.family)]
        self._resume_token = self._resume.resume_token
        return self._ready(claims.session, "")

    def session_opened(self, answer: SessionOpened | Failed) -> Effects:
        if self.state is not State.OPENING:
            return []
        if isinstance(answer, Failed):
            refused = answer.code in ("unauthorized", "no_such_account")
            return self._end(closing.UNAUTHORIZED if refused else closing.FULL)
        self._resume_token = answer.resume_token
        return self._ready(answer.session, answer.server)

    def _ready(self, session: int, server: str) -> Effects:
        self.session, self.state, self._target = session, State.ATTACHING, server
        said = server_messages.ready(
            session,
            self.connection,
            self._resume_token,
            self.avatar,
            self._claims.name,
            self._gateway,
            self._clock.world_ms(),
        )
        return [Say(said), self._attach()]

    # -- attaching ---------------------------------------------------------------------------------------------------
    def _attach(self) -> CallAttach:
        self._attempt += 1
        self._attach_at_ms, self._attach_in_flight = NEVER, True
        self._plan()
        message = Attach(
            self.avatar,
            self.session,
            self.connection,
            self._claims.name,
            self.events.stream,
            self.events.seen,
            self.inputs.last,
            self._floor,
            self._redirects,
        )
        return CallAttach(self._target, message, self._attempt)

    def attach_answered(self, attempt: int, answer: Message | Failed) -> Effects:
        if self.state is State.CLOSED and isinstance(answer, Attached):
            return [self._detach(answer.server)]
        if self.state is not State.ATTACHING or attempt != self._attempt:
            return []
        self._attach_in_flight = False
        if isinstance(answer, Attached) and answer.epoch >= self.owner.epoch:
            return self._attached(answer)
        if isinstance(answer, Moved) and answer.server and self._redirects < ATTACH_REDIRECTS:
            self._redirects += 1
            self._target = answer.server
            return [self._attach()]
        if isinstance(answer, Busy):
            return self._attach_later(answer.retry_ms)
        if isinstance(answer, Failed) and (ending := self._refused(answer.code)):
            return self._end(ending)
        self._target, self._redirects = "", 0
        return self._attach_later(self._backoff_ms())

    def _refused(self, code: str) -> Closing | None:
        """The close that a refused attach means; None: try again."""
        if code in _ENDS:
            return _ENDS[code]
        if code == "no_such_avatar":
            return closing.UNAUTHORIZED
        never_played = self.owner is _NOBODY and self._resume is None
        return closing.FULL if code == "full" and never_played else None

    def _attach_later(self, after_ms: float) -> Effects:
        self._attach_at_ms = self._clock.monotonic_ms() + after_ms
        self._plan()
        return []

    def _backoff_ms(self) -> float:
        """Doubling from ATTACH_RETRY_MS to its cap, spread, so that a lost server's clients do not come as one."""
        self._failures = min(self._failures + 1, 8)
        return min(ATTACH_RETRY_MS * (1 << (self._failures - 1)), ATTACH_RETRY_CAP_MS) * (0.5 + self._rng.random())

    def _attached(self, answer: Attached) -> Effects:
        self.state = State.PLAYING
        self.owner = Owner(answer.server, answer.generation, answer.epoch)
        self._target, self._redirects, self._failures, self._asking_missed = answer.server, 0, 0, False
        forward = self.events.attached(answer)
        event = forward[0][0] - 1 if forward else self.events.seen
        effects: Effects = [Say(server_messages.attached(answer, event)), Look(answer.x, answer.y, answer.radius)]
        effects += self._say_events(forward)
        kept = self.inputs.after(answer.last_input, self._clock.monotonic_ms())
        self.inputs.last = max(self.inputs.last, answer.last_input)
        if kept:
            effects += self._forward(kept)
        effects += self.commands.send_all(answer.server)
        self._plan()
        return effects

    def _lose_owner(self, reason: str, target: str = "") -> Effects:
        self.state, self._target, self._redirects = State.ATTACHING, target, 0
        self._moves_at_ms = NEVER
        return [Say(server_messages.detached(reason)), self._attach()]

    def server_lost(self, server: str, generation: int) -> Effects:
        """This generation of a game server is dead, or a newer one has come."""
        if self.state is State.PLAYING and (self.owner.server, self.owner.generation) == (server, generation):
            return self._lose_owner("owner_lost")
        if self.state is State.ATTACHING and self._attach_in_flight and self._target == server:
            self._target = ""
            return [self._attach()]
        return []

    def ended(self, connection: int, code: str) -> Effects:
        """The owner says that this attach number is no longer the avatar's."""
        if self.state is State.CLOSED or connection != self.connection:
            return []
        return self._end(_ENDS.get(code, closing.SESSION_EXPIRED))

    # -- moves -------------------------------------------------------------------------------------------------------
    def _forward(self, rows: list[bytes]) -> Effects:
        owner = self.owner
        return [Moves(owner.server, move_rows(self.avatar, self.session, self.connection, owner.epoch, rows))]

    def move_refused(self, connection: int, code: str, server: str, epoch: int, said_by: str = "") -> Effects:
        """A row of ``MoveAnswers``: the owner could not apply a move. When an avatar is handed off both the old owner
        (``moved``) and the new one (``handed``) say so: what they say of the present epoch is no news."""
        if self.state is not State.PLAYING or connection != self.connection:
            return []
        if code == "replaced":
            return self._end(closing.REPLACED)
        handed = code == "handed" or (code == "moved" and said_by not in ("", self.owner.server))
        if handed and epoch <= self.owner.epoch:
            return [Count("moved_stale")]
        if code == "busy":
            self._moves_at_ms = min(self._moves_at_ms, self._clock.monotonic_ms() + BUSY_RETRY_MS)
            self._plan()
            return []
        return self._moved(server, epoch or self.owner.epoch)  # 0: my owner has lost it, and knows of no other

    def _moved(self, server: str, epoch: int) -> Effects:
        if epoch < self.owner.epoch:
            return [Count("moved_stale")]
        return self._lose_owner("moved", server)

    # -- commands ----------------------------------------------------------------------------------------------------
    def _command(self, command: Command) -> Effects:
        self._floor = max(self._floor, command.floor)
        if command.n in self.commands:
            if self.commands.same(command):
                return [Count("command_repeated")]
            reused = CommandResult(command.n, False, "key_reused", "another command waits under this number")
            return [Count("key_reused"), Say(server_messages.result(reused))]
        if self.commands.full():
            refusal = CommandResult(command.n, False, "too_many_commands", "wait for results of earlier ones")
            return [Count("too_many_commands"), Say(server_messages.result(refusal))]
        self.commands.add(command, Sender(self.avatar, self.session, self.connection))
        return [self.commands.send(self.owner.server, command.n)] if self.state is State.PLAYING else []

    def command_answered(self, number: int, attempt: int, answer: Message | Failed) -> Effects:
        if self.state is State.CLOSED:
            return []
        if isinstance(answer, CommandResult):
            return [Say(server_messages.result(answer))] if self.commands.done(number) else []
        if not self.commands.current(number, attempt):
            return []
        if isinstance(answer, Failed) and answer.code not in ("unreachable", "deadline", "unhandled"):
            return self._command_refused(number, answer.code)
        wait_ms = answer.retry_ms if isinstance(answer, Busy) else COMMAND_RETRY_MS
        self.commands.retry_at(number, self._clock.monotonic_ms() + wait_ms)
        self._plan()
        if isinstance(answer, Moved) and self.state is State.PLAYING:
            return self._moved(answer.server, answer.epoch)
        return []

    def _command_refused(self, number: int, code: str) -> Effects:
        if code == "replaced":
            return self._end(closing.REPLACED)
        self.commands.done(number)
        return [Say(server_messages.result(CommandResult(number, False, code)))]

    # -- events ------------------------------------------------------------------------------------------------------
    def owner_events(self, message: Events) -> Effects:
        """Numbered events from a server: of an older epoch dropped, before their ``attached`` kept aside."""
        if self.state is State.CLOSED or (message.session, message.connection) != (self.session, self.connection):
            return []
        if message.epoch < self.owner.epoch:
            return [Count("event_stale")]
        if self.state is not State.PLAYING or message.epoch > self.owner.epoch:
            self.events.early(message)
            return []
        return self._take_events(message)

    def _take_events(self, message: Events) -> Effects:
        forward, missing = self.events.take(message)
        effects = self._say_events(forward)
        return [*effects, Count("event_gap"), *self._ask_missed()] if missing else effects

    def _say_events(self, events: Sequence[tuple[int, bytes]]) -> Effects:
        return [Say(server_messages.event(self.events.stream, n, body)) for n, body in events]

    def _ask_missed(self) -> Effects:
        if self._asking_missed:
            return []
        self._asking_missed = True
        ask = EventsMissed(self.avatar, self.session, self.events.stream, self.events.seen)
        return [CallMissed(self.owner.server, ask)]

    def missed_answered(self, answer: Message | Failed) -> Effects:
        self._asking_missed = False
        if self.state is not State.PLAYING:
            return []
        if isinstance(answer, Events):
            return self._take_events(answer)
        if isinstance(answer, Failed) and answer.code == "resync":
            return self._lose_owner("resync", self.owner.server)
        return self._moved(answer.server, answer.epoch) if isinstance(answer, Moved) else []

    def _seen(self, message: Seen) -> Effects:
        if self.state is not State.PLAYING or message.s != self.events.stream or message.n > self.events.seen:
            return []
        return [Tell(self.owner.server, EventsSeen(self.avatar, self.session, message.s, message.n))]

    def view(self, epoch: int, x: float, y: float, radius: float) -> Effects:
        if self.state is not State.PLAYING or epoch < self.owner.epoch:
            return []
        return [Look(x, y, radius)]

    # -- time --------------------------------------------------------------------------------------------------------
    def _ping(self, message: Ping) -> Effects:
        now = self._clock.monotonic_ms()
        effects: Effects = [Say(server_messages.pong(message.c, self._clock.world_ms()))]
        if self.state is State.PLAYING and now - self._tail_checked_ms >= EVENT_TAIL_CHECK_MS:
            self._tail_checked_ms = now
            effects += self._ask_missed()
        return effects

    def tick(self) -> Effects:
        """Call when ``wake_ms`` has come."""
        now = self._clock.monotonic_ms()
        if self.state is State.HELLO and now >= self._handshake_by_ms:
            return self._end(closing.HANDSHAKE_TIMEOUT)
        if self.state is not State.CLOSED and now >= self._heard_ms + CLIENT_SILENCE_MS:
            return self._end(closing.SILENT)
        effects: Effects = []
        if self.state is State.ATTACHING and now >= self._attach_at_ms:
            effects.append(self._attach())
        if self.state is State.PLAYING:
            effects += self.commands.due(self.owner.server, now)
            if now >= self._moves_at_ms:
                self._moves_at_ms = NEVER
                kept = self.inputs.after(0, now)
                effects += self._forward(kept) if kept else []
        self._plan()
        return effects

    def _plan(self) -> None:
        """Set ``wake_ms`` to the earliest of all deadlines."""
        due = self._heard_ms + CLIENT_SILENCE_MS
        if self.state is State.HELLO:
            due = min(due, self._handshake_by_ms)
        elif self.state is State.ATTACHING:
            due = min(due, self._attach_at_ms)
        elif self.state is State.PLAYING:
            due = min(due, self._moves_at_ms, self.commands.next_ms())
        self.wake_ms = due

    # -- endings -----------------------------------------------------------------------------------------------------
    def _bad(self, code: str, detail: str) -> Effects:
        return [Count(code), Say(server_messages.error(code, detail)), *self._end(closing.BAD_MESSAGE)]

    def _end(self, reason: Closing) -> Effects:
        return [*self.closed(), Close(reason)]

    def _detach(self, server: str) -> Tell:
        return Tell(server, Detach(self.avatar, self.session, self.connection, self._leave))
