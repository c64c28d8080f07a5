"""Documents that game servers keep about themselves.

::

    srv:{id}                            generation, renewed (a counter), state alive | dead
    owned:{id}:{generation}:{shard}     units this generation owns or is about to take: always a superset
    motion:{id}:{generation}            rows (avatar, epoch, version, x, y, last input) of its avatars

Unit documents are ``world.unit``'s; ``OwnerHead`` reads only whose a unit is.
"""

from typing import NamedTuple, TypeVar
from zlib import crc32

import msgspec

from gameserver.documents import NOT_THERE, Documents, Overtaken
from runtime.store.api import Document
from world.ids import NodeId
from world.limits import OWNED_SHARDS
from world.unit import BadDocument

ALIVE, DEAD = "alive", "dead"


class ServerRecord(msgspec.Struct, frozen=True):
    generation: int
    renewed: int = 0
    state: str = ALIVE
    write_id: str = ""


class OwnedList(msgspec.Struct, frozen=True):
    """``closed_by``: "" while its owner writes it; else "{server}:{generation}" of who sweeps it."""

    units: list[str]
    closed_by: str = ""
    write_id: str = ""


MotionRow = tuple[int, int, int, float, float, int]  # avatar, epoch, version, x, y, last input


class MotionDocument(msgspec.Struct, frozen=True):
    rows: list[MotionRow]
    write_id: str = ""


class OwnerHead(msgspec.Struct, frozen=True):
    """What any unit document starts with; owner "": nobody."""

    owner: str = ""
    generation: int = 0
    epoch: int = 0


S = TypeVar("S", bound=msgspec.Struct)


def parse(kind: type[S], key: str, document: Document) -> S:
    """Raises BadDocument."""
    try:
        return msgspec.json.decode(document.value, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadDocument(f"{key}: {error}") from error


def server_key(node: str) -> str:
    return f"srv:{node}"


def owned_key(node: str, generation: int, shard: int) -> str:
    return f"owned:{node}:{generation}:{shard}"


def owned_key_parts(key: str) -> tuple[NodeId, int, int]:
    """(server, generation, shard) of an ``owned:`` key. Raises BadDocument."""
    parts = key.split(":")
    if len(parts) != 4 or not (parts[2].isdecimal() and parts[3].isdecimal()):
        raise BadDocument(key)
    return NodeId(parts[1]), int(parts[2]), int(parts[3])


def motion_key(node: str, generation: int) -> str:
    return f"motion:{node}:{generation}"


def shard_of(unit: str) -> int:
    return crc32(unit.encode()) % OWNED_SHARDS


class Claim(NamedTuple):
    """A life begun."""

    generation: int
    cas: int  # token of the ``srv:`` record
    ended: int = 0  # the generation that had been alive by that record: this claim is the proof of its death


async def claim_generation(documents: Documents, node: str, at_least: int = 1) -> Claim:
    """Begin a life, one generation above the last one's record (or ``at_least``). Waits for the store."""
    key = server_key(node)
    while True:
        found = await documents.read(key)
        last = parse(ServerRecord, key, found) if found is not None else ServerRecord(0, state=DEAD)
        write_id = documents.new_write_id()
        generation = max(last.generation + 1, at_least)
        mine = msgspec.json.encode(ServerRecord(generation, write_id=write_id))
        try:
            cas = await documents.write(key, mine, found.cas if found is not None else NOT_THERE, write_id)
        except Overtaken:
            continue  # the observers' verdict on my last life, or a second process with my name: take what follows
        return Claim(generation, cas, last.generation if last.state == ALIVE else 0)
