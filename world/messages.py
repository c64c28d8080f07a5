"""The command plane's messages: one table of tags, typed, bounded, encoded as msgpack by msgspec.

Unknown fields are ignored, new fields appended with defaults (mixed versions); numbers are bounded. "Newer" always
means (epoch, version), never time. A ``Key`` is made at the origin and stays the same through every hop and retry.
"""

from functools import reduce
from operator import or_
from typing import Any

import msgspec

from world.handoff_messages import GiveAway as GiveAway
from world.handoff_messages import HandedOver as HandedOver
from world.handoff_messages import HandOff as HandOff
from world.handoff_messages import HandOffAhead as HandOffAhead
from world.message_values import U16 as U16
from world.message_values import U32 as U32
from world.message_values import U53 as U53
from world.message_values import Actor as Actor
from world.message_values import BatchedWrite as BatchedWrite
from world.message_values import DocumentKey as DocumentKey
from world.message_values import HandedAvatar as HandedAvatar
from world.message_values import Items as Items
from world.message_values import Json as Json
from world.message_values import Key as Key
from world.message_values import Member as Member
from world.message_values import Message as Message
from world.message_values import Name as Name
from world.message_values import Short as Short
from world.message_values import Text as Text
from world.store_messages import StoreCas as StoreCas
from world.store_messages import StoreCounter as StoreCounter
from world.store_messages import StoreDocs as StoreDocs
from world.store_messages import StoreFound as StoreFound
from world.store_messages import StoreGet as StoreGet
from world.store_messages import StoreHello as StoreHello
from world.store_messages import StoreKeys as StoreKeys
from world.store_messages import StoreList as StoreList
from world.store_messages import StoreNumber as StoreNumber
from world.store_messages import StoreSearch as StoreSearch
from world.store_messages import StoreWrite as StoreWrite
from world.store_messages import StoreWrites as StoreWrites
from world.store_messages import StoreWritten as StoreWritten
from world.trade_messages import Bargained as Bargained
from world.trade_messages import BargainTold as BargainTold
from world.trade_messages import Decided as Decided
from world.trade_messages import DoBargain as DoBargain
from world.trade_messages import Lock as Lock


# -- general replies -------------------------------------------------------------------------------------------------
class Ok(Message, frozen=True, tag=1): ...


class Problem(Message, frozen=True, tag=2):
    code: Short
    detail: Text = ""


class Moved(Message, frozen=True, tag=3):
    """A non-owner's answer: who owns the unit as far as it knows; server "" = nobody."""

    unit: Name
    server: Short
    generation: U32
    epoch: U32


class Busy(Message, frozen=True, tag=4):
    """The unit cannot serve now (hand-off, write being settled): keep and retry."""

    unit: Name
    retry_ms: U32 = 100


# -- membership ------------------------------------------------------------------------------------------------------
class Join(Message, frozen=True, tag=10):
    """To a broker or any member: here I am; what do you know? Answer: BookPage."""

    me: Member


class BookPage(Message, frozen=True, tag=11):
    members: list[Member]
    dead: list[tuple[str, int]] = []  # (node, generation) verdicts


class Heartbeat(Message, frozen=True, tag=12):
    """From the asyncio loop, every HEARTBEAT_MS, to every peer; ``me`` carries status and load."""

    me: Member
    sent_ms: float  # sender's monotonic clock, echoed
    world_ms: U53 = 0


class HeartbeatEcho(Message, frozen=True, tag=13):
    sent_ms: float
    world_ms: U53
    generation: U32


class Verdict(Message, frozen=True, tag=14):
    node: Short
    generation: U32


class YouAreDead(Message, frozen=True, tag=15):
    node: Short
    highest: U32


# -- login (gateway -> login) ----------------------------------------------------------------------------------------
class LoginGuest(Message, frozen=True, tag=30):
    address: Name = ""  # the client's, for limits and audit


class LoginRefresh(Message, frozen=True, tag=31):
    refresh_token: Name
    address: Name = ""


class Granted(Message, frozen=True, tag=32):
    access_token: Text
    refresh_token: Name
    avatar: U53
    name: Short
    expires_s: U32


class OpenSession(Message, frozen=True, tag=33):
    """A verified access token asks for a new session: number, resume token, placement. ``family``: its sign-in; "" in a
    token of a release that did not name it yet. Problem codes: unauthorized (it has ended), store_unavailable."""

    account: Name
    avatar: U53
    family: Short = ""


class SessionOpened(Message, frozen=True, tag=34):
    session: U53
    resume_token: Text
    server: Short  # placement: the game server to attach at ("" = none ready)


class SigningKeys(Message, frozen=True, tag=35):
    """Ask any login for all public keys."""


class PublicKeys(Message, frozen=True, tag=36):
    """``complete`` False: the store could not name them all just now."""

    keys: dict[Short, Name]  # kid -> base64 raw Ed25519 public key
    complete: bool = True


class Logout(Message, frozen=True, tag=37):
    refresh_token: Name


class EndSession(Message, frozen=True, tag=38):
    """Login -> any game server: the player has logged out; all sessions below ``session`` are over, for ever. Answer:
    Ok once the avatar's document says so | Moved | Busy; Problem codes: no_such_avatar, store_unavailable."""

    avatar: U53
    session: U53


# -- sessions (gateway <-> game server) ------------------------------------------------------------------------------
class Attach(Message, frozen=True, tag=40):
    """Login, resume, fail-over and locate alike. Attach number = (session, connection). Answer: Attached | Moved |
    Busy; Problem codes: replaced (a newer session or connection holds the avatar), logged_out, no_such_avatar, full,
    store_unavailable."""

    avatar: U53
    session: U53
    connection: U32
    name: Short = ""
    last_stream: U53 = 0  # what the client has seen of the numbered events
    last_event: U53 = 0
    last_input: U32 = 0
    command_floor: U53 = 0
    passes: U16 = 0


class Attached(Message, frozen=True, tag=41):
    """``resync`` is set where the stream is new or the ring no longer holds what was missed: the avatar's whole own
    state ({name, inventory, …}); else ``events`` are the missed ones [(n, JSON bytes)]."""

    avatar: U53
    server: Short
    generation: U32
    epoch: U32
    stream: U53
    next_event: U53
    last_input: U32
    x: float
    y: float
    world_ms: U53
    radius: float
    events: list[tuple[U53, bytes]] = []
    resync: Json | None = None


class Detach(Message, frozen=True, tag=42):
    """The socket closed (leave: by the player's wish, no linger). A lower attach number is ignored."""

    avatar: U53
    session: U53
    connection: U32
    leave: bool = False


class MoveBatch(Message, frozen=True, tag=43):
    """One way, per (gateway, game server), rows of ``world.frames.MOVE_ROW`` as bytes."""

    rows: bytes


class MoveAnswers(Message, frozen=True, tag=44):
    """One way back, only for rows not applied: (avatar, session, connection, code) with code moved | busy | replaced;
    for moved: server, generation, epoch. Unasked, from the new owner after a hand-off: code handed, and the same."""

    rows: list[tuple[U53, U53, U32, Short, Short, U32, U32]]


class ClientCommand(Message, frozen=True, tag=45):
    """A call; answer: CommandResult | Moved | Busy. The gateway keeps it until the result and resends after Moved,
    Busy, Unreachable with the same (session, number)."""

    avatar: U53
    session: U53
    connection: U32
    number: U53
    floor: U53  # all results <= floor were seen
    op: Short
    args: Json


class CommandResult(Message, frozen=True, tag=46):
    number: U53
    ok: bool
    code: Short = ""  # when not ok: a documented error code
    detail: Text = ""
    value: Json = {}


class Events(Message, frozen=True, tag=47):
    """One way, game server -> gateway: numbered events of one avatar, JSON bytes each."""

    avatar: U53
    session: U53
    connection: U32
    epoch: U32
    stream: U53
    items: list[tuple[U53, bytes]]


class EventsSeen(Message, frozen=True, tag=48):
    """One way, gateway -> owner: the client has seen all events <= n of the stream (trims the ring)."""

    avatar: U53
    session: U53
    stream: U53
    n: U53


class Views(Message, frozen=True, tag=49):
    """One way, game server -> gateway: where its clients look: (avatar, session, epoch, x, y, radius)."""

    rows: list[tuple[U53, U53, U32, float, float, float]]
    connections: list[U32] = []  # of the rows, in their order


class SessionEnded(Message, frozen=True, tag=50):
    """One way, game server -> gateway: close that client's socket (code: replaced, kicked, …)."""

    avatar: U53
    session: U53
    connection: U32
    code: Short


class EventsMissed(Message, frozen=True, tag=51):
    """Gateway -> owner, a call: events after ``n`` of ``stream`` again. Answer: Attached-like ``Events`` or Problem
    ``resync`` (the ring no longer holds them: attach anew)."""

    avatar: U53
    session: U53
    stream: U53
    n: U53


# -- units (game server <-> game server) -----------------------------------------------------------------------------
class Interest(Message, frozen=True, tag=60):
    """I own seers of this region, which the store says you own at ``epoch``. Answer: Awake | Moved | Busy."""

    unit: Name
    epoch: U32


class Awake(Message, frozen=True, tag=61):
    epoch: U32


class Invoke(Message, frozen=True, tag=62):
    """A mutator call on a real elsewhere. ``key`` carries (command key, unit, mutator, ordinal). ``to_epoch`` is a
    hint. Answer: Returned | Moved | Busy; Problem codes are the rule's refusals (documented per rule)."""

    entity: U53
    to_epoch: U32
    mutator: Short
    args: Json
    key: Key
    actor: Actor | None = None


class Returned(Message, frozen=True, tag=63):
    """The mutator's value, after the write that holds its effect was committed."""

    value: Json
    epoch: U32
    version: U53


class Deliver(Message, frozen=True, tag=64):
    """A transfer's second half, id (giver, n). ``floor``: all n <= floor have left the giver's outbox for good.
    ``cause`` is the command that caused it, whose ``result`` the receiver saves in the same write.
    Answer: Ok (applied or already applied, committed) | Moved | Busy."""

    giver: Name
    giver_epoch: U32
    n: U53
    floor: U53
    unit: Name  # the receiver
    to_epoch: U32
    items: Items
    cause: Key | None = None
    result: Json = {}


# -- the state plane's helpers (any subscriber -> publisher) ---------------------------------------------------------
class AskSnapshot(Message, frozen=True, tag=70):
    """Answer: CellSnapshot."""

    cell: U16


class CellSnapshot(Message, frozen=True, tag=71):
    """``body``: a cell frame (world.frames) whose slices are snapshots, at ``sequence``."""

    cell: U16
    generation: U32
    sequence: U32
    body: bytes


class AskRepair(Message, frozen=True, tag=72):
    """Frames after ``after`` up to the newest. Answer: CellFrames (empty ``bodies``: gone, ask a snapshot)."""

    cell: U16
    after: U32


class CellFrames(Message, frozen=True, tag=73):
    cell: U16
    generation: U32
    bodies: list[bytes]


class AskObserve(Message, frozen=True, tag=80):
    """Gateway -> game server: the observer page's read-only picture; wakes nothing. Answer: Observed."""


class Observed(Message, frozen=True, tag=81):
    """Columns as JSON: {server, generation, tick_ms, ghost_age_ms, regions: [[x, y, epoch]],
    avatars: [[id, name, x, y]], ghosts: [[id, x, y, publisher]], sight: [cell…], cells: [cell…]}."""

    view: Json


# -- operators -------------------------------------------------------------------------------------------------------
class Drain(Message, frozen=True, tag=90):
    """To any process: end gracefully, as by SIGTERM. Answer: Ok at once; the book shows ``draining``, then its end."""


class Noted(Message, frozen=True, tag=91):
    """One way, anybody -> every gateway: something an operator wants to know of. ``kind``: see ``runtime.notes``."""

    kind: Short
    world_ms: U53
    detail: Json


class Reaped(Message, frozen=True, tag=92):
    """Supervisor -> any game server: the process of this generation has ended, its parent has seen it. Immediate
    proof of death. Answer: Ok once the verdict is in the store."""

    node: Short
    generation: U32


class Deploy(Message, frozen=True, tag=93):
    """Gateway -> supervisor: roll all, or only ``node``, though drained. Answer: Deployment; Problem no_such_target."""

    node: Short = ""


class AskDeployment(Message, frozen=True, tag=94):
    """Gateway -> supervisor: the deployment of this id, "" for the last. Answer: Deployment; Problem no_such_target."""

    id: Short = ""


class Deployment(Message, frozen=True, tag=95):
    """As docs/protocol/11 shows it; the deployment that runs, or ran last."""

    view: Json


ALL: tuple[type[Message], ...] = tuple(
    t for t in list(globals().values()) if isinstance(t, type) and issubclass(t, Message) and t is not Message
)
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(reduce(or_, ALL))
_encoder = msgspec.msgpack.Encoder()


class BadMessage(ValueError):
    """Bytes that are no message of the table."""


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def decode(data: bytes | memoryview) -> Message:
    """Raises BadMessage."""
    try:
        message: Message = _decoder.decode(data)
    except (ValueError, RecursionError) as error:
        raise BadMessage(str(error)) from error
    return message
