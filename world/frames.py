"""Byte layouts of the state plane: cell frames, slices, digests, and the client's move rows. Little endian, packed.

::

    cell frame (one ZeroMQ message; topic = CELL_TOPIC + cell)      slice (a self-contained client message)
    +--------+-------+-------------------------------+             +--------+-------+--------------------------+
    | 0  u8  | 0x20  | type                          |             | 0  u8  | 0x10  | delta, 0x11 snapshot     |
    | 1  u8  | n     | slices                        |             | 1  u8  | place | sub-cell inside its cell |
    | 2  u16 | cell  |                               |             | 2  u16 | cell  |                          |
    | 4  u16 | publisher number                      |             | 4  u16 | publisher number                 |
    | 6  u16 | 0     |                               |             | 6  u16 | blocks in this slice             |
    | 8  u32 | publisher generation                  |             | 8  u32 | publisher generation             |
    | 12 u32 | sequence (per publisher, cell)        |             | 12 u32 | sequence                         |
    | 16 u64 | world time, ms                        |             | 16 u64 | world time, ms                   |
    +--------+---------------------------------------+             +--------+----------------------------------+
    | n x (u32 length, slice bytes)                  |             | blocks x (u8 type, u8 0, u16 count,      |
    +------------------------------------------------+             |           u32 length, payload)           |
                                                                   +------------------------------------------+
    blocks: 1 motion      count x MOTION (40 bytes each); positions hold at the slice's world time
            2 properties  count x (PROPERTY_HEAD 20 bytes, JSON array of the group's fields in table order)
            3 leave       count x LEAVE (20 bytes each); next = world sub-cell, 0xFFFFFFFF = despawned
            4 area event  count x (EVENT_HEAD 18 bytes, JSON object)
            5 handed      count x HANDED (16 bytes each): epoch + 1 lives on at another publisher
    A reader skips a block of unknown type by its length. A snapshot slice says all that the publisher has in the
    sub-cell: what it does not name of this publisher there is gone. A sub-cell with nothing has no snapshot slice.

    sight (gateway -> client): u8 0x12, u8 0, u16 entered, u16 left, u16 0, then u16 world sub-cells: entered.., left..
    (the client forgets all entities standing in the left ones)
    digest (topic DIGEST_TOPIC): DIGEST_HEAD, then count x DIGEST_ROW
    moves (client -> gateway, one WebSocket binary message): u8 0x01, u8 count, u16 0, count x CLIENT_MOVE
    moves (gateway -> game server, Message MoveBatch): rows of MOVE_ROW
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FRAME, SLICE, SNAPSHOT, DIGEST, CLIENT_MOVES, SIGHT = 0x20, 0x10, 0x11, 0x30, 0x01, 0x12
BLOCK_MOTION, BLOCK_PROPERTIES, BLOCK_LEAVE, BLOCK_EVENT, BLOCK_HANDED = 1, 2, 3, 4, 5
DESPAWNED = 0xFFFFFFFF
FLAG_CORRECTED = 1  # motion flags: the server overruled the input named by last_input

HEAD = struct.Struct("<BBHHHIIQ")  # frames and slices: 24 bytes
LENGTH = struct.Struct("<I")
BLOCK = struct.Struct("<BBHI")
SIGHT_HEAD = struct.Struct("<BBHHH")  # 0x12, 0, entered, left, 0
PROPERTY_HEAD = struct.Struct("<QIIBBH")  # entity, epoch, version, group, 0, length
EVENT_HEAD = struct.Struct("<QIIH")  # entity, epoch, event number, length
DIGEST_HEAD = struct.Struct("<BBHIIQ")  # 0x30, 1 full / 0 answer, publisher, generation, rows, world time

MOTION = np.dtype(
    [
        ("entity", "<u8"),
        ("epoch", "<u4"),
        ("version", "<u4"),
        ("x", "<f4"),
        ("y", "<f4"),
        ("vx", "<f4"),
        ("vy", "<f4"),
        ("last_input", "<u4"),
        ("flags", "<u4"),
    ]
)
LEAVE = np.dtype([("entity", "<u8"), ("epoch", "<u4"), ("version", "<u4"), ("next", "<u4")])
HANDED = np.dtype([("entity", "<u8"), ("epoch", "<u4"), ("publisher", "<u4")])
DIGEST_ROW = np.dtype([("cell", "<u2"), ("zero", "<u2"), ("sequence", "<u4"), ("count", "<u4"), ("hash", "<u8")])
CLIENT_MOVE = np.dtype(
    [("input", "<u4"), ("time", "<u8"), ("x", "<f4"), ("y", "<f4"), ("vx", "<f4"), ("vy", "<f4")]
)  # 28 bytes; time = world ms at which the client stood at x, y and took up velocity vx, vy
MOVE_ROW = np.dtype(
    [
        ("avatar", "<u8"),
        ("session", "<u8"),
        ("connection", "<u4"),
        ("epoch", "<u4"),  # hint
        ("input", "<u4"),
        ("time", "<u8"),
        ("x", "<f4"),
        ("y", "<f4"),
        ("vx", "<f4"),
        ("vy", "<f4"),
    ]
)

CELL_TOPIC = b"PKcell"  # + u16 big endian: 8 bytes, fixed width because topics match by prefix
DIGEST_TOPIC = b"PKdigest"

Records = NDArray[Any]


class BadFrame(ValueError):
    """Bytes that are not of the layout above."""


class Head(NamedTuple):
    kind: int
    place_or_count: int
    cell: int
    publisher: int
    blocks: int
    generation: int
    sequence: int
    world_ms: int


class Property(NamedTuple):
    entity: int
    epoch: int
    version: int
    group: int
    fields: bytes  # JSON array


class AreaEvent(NamedTuple):
    entity: int
    epoch: int
    number: int
    body: bytes  # JSON object


class Slice(NamedTuple):
    head: Head
    motion: Records
    properties: Sequence[Property]
    leaves: Records
    events: Sequence[AreaEvent]
    handed: Records


def cell_topic(cell: int) -> bytes:
    return CELL_TOPIC + cell.to_bytes(2, "big")


def cell_of_topic(topic: bytes) -> int:
    return int.from_bytes(topic[6:8], "big")


def _block(kind: int, count: int, payload: bytes) -> bytes:
    return BLOCK.pack(kind, 0, count, len(payload)) + payload


def motion_block(records: Records) -> bytes:
    return _block(BLOCK_MOTION, len(records), records.tobytes())


def leave_block(records: Records) -> bytes:
    return _block(BLOCK_LEAVE, len(records), records.tobytes())


def handed_block(records: Records) -> bytes:
    return _block(BLOCK_HANDED, len(records), records.tobytes())


def property_block(rows: Sequence[Property]) -> bytes:
    payload = b"".join(
        PROPERTY_HEAD.pack(r.entity, r.epoch, r.version, r.group, 0, len(r.fields)) + r.fields for r in rows
    )
    return _block(BLOCK_PROPERTIES, len(rows), payload)


def event_block(rows: Sequence[AreaEvent]) -> bytes:
    payload = b"".join(EVENT_HEAD.pack(r.entity, r.epoch, r.number, len(r.body)) + r.body for r in rows)
    return _block(BLOCK_EVENT, len(rows), payload)


def slice_bytes(
    kind: int,
    place: int,
    cell: int,
    publisher: int,
    generation: int,
    sequence: int,
    world_ms: int,
    blocks: Sequence[bytes],
) -> bytes:
    return HEAD.pack(kind, place, cell, publisher, len(blocks), generation, sequence, world_ms) + b"".join(blocks)


def frame_bytes(
    cell: int, publisher: int, generation: int, sequence: int, world_ms: int, slices: Sequence[bytes]
) -> bytes:
    parts = [HEAD.pack(FRAME, len(slices), cell, publisher, 0, generation, sequence, world_ms)]
    for piece in slices:
        parts.append(LENGTH.pack(len(piece)))
        parts.append(piece)
    return b"".join(parts)


def read_head(data: bytes | memoryview) -> Head:
    """Raises BadFrame."""
    if len(data) < HEAD.size:
        raise BadFrame(f"{len(data)} bytes are no frame or slice")
    return Head(*HEAD.unpack_from(data))


def split_frame(body: bytes) -> tuple[Head, list[tuple[int, bytes]]]:
    """The frame's head and its slices [(place, slice bytes)], undecoded: what a gateway forwards. Raises BadFrame."""
    head = read_head(body)
    if head.kind != FRAME:
        raise BadFrame(f"type {head.kind:#x} is no cell frame")
    slices, at = [], HEAD.size
    try:
        for _ in range(head.place_or_count):
            (length,) = LENGTH.unpack_from(body, at)
            at += LENGTH.size
            piece = body[at : at + length]
            if len(piece) != length or length < HEAD.size:
                raise BadFrame("slice runs past its frame")
            slices.append((piece[1], piece))
            at += length
    except struct.error as error:
        raise BadFrame(str(error)) from error
    return head, slices


def _heads(payload: memoryview, count: int, layout: struct.Struct) -> Iterator[tuple[tuple[Any, ...], bytes]]:
    at = 0
    for _ in range(count):
        fields = layout.unpack_from(payload, at)
        at += layout.size
        body = bytes(payload[at : at + fields[-1]])
        if len(body) != fields[-1]:
            raise BadFrame("record runs past its block")
        at += fields[-1]
        yield fields, body


def _fixed(payload: memoryview, count: int, layout: np.dtype[Any]) -> Records:
    if len(payload) != count * layout.itemsize:
        raise BadFrame(f"{len(payload)} bytes are not {count} records of {layout.itemsize}")
    return np.frombuffer(payload, layout)


_NONE = {k: np.empty(0, t) for k, t in ((BLOCK_MOTION, MOTION), (BLOCK_LEAVE, LEAVE), (BLOCK_HANDED, HANDED))}


def read_slice(data: bytes) -> Slice:
    """Decode one slice whole. Raises BadFrame."""
    head = read_head(data)
    if head.kind not in (SLICE, SNAPSHOT):
        raise BadFrame(f"type {head.kind:#x} is no slice")
    fixed: dict[int, Records] = dict(_NONE)
    properties: list[Property] = []
    events: list[AreaEvent] = []
    try:
        for kind, count, payload in _blocks(data, head.blocks):
            if kind == BLOCK_PROPERTIES:
                properties += [
                    Property(f[0], f[1], f[2], f[3], body) for f, body in _heads(payload, count, PROPERTY_HEAD)
                ]
            elif kind == BLOCK_EVENT:
                events += [AreaEvent(f[0], f[1], f[2], body) for f, body in _heads(payload, count, EVENT_HEAD)]
            elif kind in fixed:
                fixed[kind] = _fixed(payload, count, _NONE[kind].dtype)
    except struct.error as error:
        raise BadFrame(str(error)) from error
    return Slice(head, fixed[BLOCK_MOTION], properties, fixed[BLOCK_LEAVE], events, fixed[BLOCK_HANDED])


def _blocks(data: bytes, blocks: int) -> Iterator[tuple[int, int, memoryview]]:
    view, at = memoryview(data), HEAD.size
    for _ in range(blocks):
        kind, _zero, count, length = BLOCK.unpack_from(view, at)
        at += BLOCK.size
        payload = view[at : at + length]
        if len(payload) != length:
            raise BadFrame("block runs past its slice")
        at += length
        yield kind, count, payload


def digest_bytes(full: bool, publisher: int, generation: int, world_ms: int, rows: Records) -> bytes:
    return DIGEST_HEAD.pack(DIGEST, int(full), publisher, generation, len(rows), world_ms) + rows.tobytes()


class Digest(NamedTuple):
    full: bool
    publisher: int
    generation: int
    world_ms: int
    rows: Records  # DIGEST_ROW[n]


def read_digest(body: bytes) -> Digest:
    """Raises BadFrame."""
    try:
        kind, full, publisher, generation, count, world_ms = DIGEST_HEAD.unpack_from(body)
    except struct.error as error:
        raise BadFrame(str(error)) from error
    if kind != DIGEST:
        raise BadFrame(f"type {kind:#x} is no digest")
    rows = _fixed(memoryview(body)[DIGEST_HEAD.size :], count, DIGEST_ROW)
    return Digest(bool(full), publisher, generation, world_ms, rows)


_MIX, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = (1 << 64) - 1


def entity_hash(entity: Records, epoch: Records, motion_version: Records, property_version: Records) -> Records:
    """uint64[n] per entity; a cell's hash is their sum mod 2**64 (order does not matter, additions are cheap).

    Mixing by splitmix64's finalizer (Steele, Lea, Flood 2014), so that near versions do not cancel in the sum.
    """
    with np.errstate(over="ignore"):
        h = entity.astype(np.uint64)
        for column in (epoch, motion_version, property_version):
            h = (h ^ column.astype(np.uint64)) + np.uint64(_MIX)
            h = (h ^ (h >> np.uint64(30))) * np.uint64(_FIRST)
            h = (h ^ (h >> np.uint64(27))) * np.uint64(_SECOND)
            h = h ^ (h >> np.uint64(31))
    return h


def entity_hash_of(entity: int, epoch: int, motion_version: int, property_version: int) -> int:
    """The same of a single one."""
    h = entity
    for value in (epoch, motion_version, property_version):
        h = ((h ^ value) + _MIX) & _MASK
        h = ((h ^ (h >> 30)) * _FIRST) & _MASK
        h = ((h ^ (h >> 27)) * _SECOND) & _MASK
        h ^= h >> 31
    return h


def client_moves(rows: Iterable[tuple[int, int, float, float, float, float]]) -> bytes:
    records = np.array(list(rows), CLIENT_MOVE)
    return bytes((CLIENT_MOVES, len(records), 0, 0)) + records.tobytes()


def read_client_moves(data: bytes) -> Records:
    """CLIENT_MOVE[n], 1 <= n <= 16. Raises BadFrame. Values are not checked here (finite, bounds: the owner does)."""
    if len(data) < 4 or data[0] != CLIENT_MOVES or not 1 <= data[1] <= 16:
        raise BadFrame("no move message")
    return _fixed(memoryview(data)[4:], data[1], CLIENT_MOVE)


def sight_bytes(entered: Sequence[int], left: Sequence[int]) -> bytes:
    """World sub-cells that came into a client's sight, and those that went out of it."""
    head = SIGHT_HEAD.pack(SIGHT, 0, len(entered), len(left), 0)
    return head + np.array([*entered, *left], "<u2").tobytes()


def read_sight(data: bytes) -> tuple[list[int], list[int]]:
    """(entered, left) as ``sight_bytes`` takes them. Raises BadFrame."""
    if len(data) < SIGHT_HEAD.size or data[0] != SIGHT:
        raise BadFrame("no sight message")
    _kind, _zero, entered, left, _pad = SIGHT_HEAD.unpack_from(data)
    if len(data) != SIGHT_HEAD.size + 2 * (entered + left):
        raise BadFrame("sight message of a wrong length")
    cells = np.frombuffer(data, "<u2", offset=SIGHT_HEAD.size).tolist()
    return cells[:entered], cells[entered:]
