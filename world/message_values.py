"""The types and values that messages are made of (``world.messages``). Numbers and texts are bounded."""

from typing import Annotated, Any

import msgspec

U16 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
U32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]
U53 = Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)]
StoreToken = Annotated[int, msgspec.Meta(ge=0)]  # Couchbase's take all of 64 bits, which is what MessagePack carries
Name = Annotated[str, msgspec.Meta(max_length=128)]
Short = Annotated[str, msgspec.Meta(max_length=64)]
Text = Annotated[str, msgspec.Meta(max_length=4_096)]
DocumentKey = Annotated[str, msgspec.Meta(max_length=1_024)]  # the store's own bound is STORE_KEY_BYTES
Json = dict[str, Any]
Items = dict[Short, Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]]


class Message(msgspec.Struct, frozen=True, array_like=True):
    """Base of everything in the table of ``world.messages``; subclasses set ``tag``."""


class Member(msgspec.Struct, frozen=True):
    """One process in the book."""

    role: Short
    id: Short
    generation: U32
    command: Name  # ROUTER endpoint others connect to (the advertised one)
    state: Name = ""  # XPUB endpoint, game servers only
    http: Name = ""  # public base URL, gateways only
    protocol_min: U16 = 1
    protocol_max: U16 = 1
    status: Short = "starting"  # starting | ready | draining | dead
    load: Json = {}  # role's own figures: avatars, cap, seers {"x,y": n}, tick_ms, ghost_age_ms ...
    nonce: U53 = 0  # drawn at each start: tells two processes of one id and generation apart
    format_max: U16 = 1  # the newest format of documents that it reads and writes
    ready_ms: U53 = 0  # world time when it became ready
    store: Name = ""  # the store process only: host:port of the streams it takes (runtime.store.listener)


class BatchedWrite(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One of a ``StoreWrites``; the fields are those of ``StoreWrite``."""

    op: Short
    key: DocumentKey
    value: bytes = b""
    cas: U53 = 0
    durability: U16 = 3


class Key(msgspec.Struct, frozen=True, array_like=True):
    """An operation key. A command's: (avatar, session, number) with empty rest; a mutator call's adds (unit, mutator,
    ordinal); the world's own: origin is the unit, session its epoch, number n."""

    origin: Name  # "avatar:…" or the unit for the world's own
    session: U53
    number: U53
    unit: Name = ""
    mutator: Short = ""
    ordinal: U16 = 0
    floor: U53 = 0  # all command numbers <= floor of this session are settled (not part of identity)
    digest: Short = ""  # fingerprint of the command's op and arguments (not part of identity)


class Change(msgspec.Struct, frozen=True, array_like=True):
    """What one entity gives and gets in a transaction."""

    entity: U53
    out: Items = {}
    into: Items = {}


class Hold(msgspec.Struct, frozen=True, array_like=True):
    """A transaction's part in one unit, held under ``pending`` until it is decided. ``saves``: outcomes to keep with
    its effect, (key, value)."""

    changes: list[Change]
    saves: list[tuple[Key, Json]] = []


class Actor(msgspec.Struct, frozen=True):
    """Facts about who acts, vouched for by the actor's owner."""

    avatar: U53
    epoch: U32
    name: Short
    x: float
    y: float
    reach: float
    tool: Short = ""


class HandedAvatar(msgspec.Struct, frozen=True):
    """What of an avatar lives in memory only, and moves with it: who is attached, its numbered events, its motion."""

    session: U53
    connection: U32
    gateway: Short
    gateway_generation: U32  # 0: nobody is attached
    alone_ms: float  # for how long
    stream: U53
    next_event: U53
    events: list[tuple[U53, bytes, float]]  # n, JSON object, age in ms
    told: Json  # what the last inventory event said
    x: float  # x0 + vx * (t - t0), as in gameserver.columns
    y: float
    t: float  # world ms
    vx: float
    vy: float
    at_x: float  # where the last tick checked that it may stand
    at_y: float
    budget: float
    filled_at: float  # world ms
    version: U32
    last_input: U32
    flags: U32 = 0
    handed_ms: U53 = 0  # world time of its last hand-off for balance
    frozen_ms: U53 = 0  # world time from which on its inputs waited
    trade: Json = {}  # the negotiation that it is in (gameserver.trading_talks)
