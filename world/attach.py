"""Attach: login, resume, fail-over and locate alike, decided from numbers alone.

An attach number is (session from a store counter, connection counted by the client), kept in the avatar's document
with the gateway that brought it. ``decide`` compares numbers::

    lower                                 REFUSE  replaced (late closes included)
    equal, another gateway                REFUSE
    equal, same gateway or none recorded  RETRY   serve it again
    higher                                ACCEPT  and end the connection held so far

``admit`` is the whole table, first by who owns the avatar:

=====================  ============================================  ================================================
owner                  numbers, room                                 verdict
=====================  ============================================  ================================================
another, alive         any                                           MOVED to it
me, nobody, or a dead  REFUSE                                        REPLACED
one
me                     RETRY, ACCEPT                                 SERVE
nobody, or a dead one  otherwise; room here                          TAKE by CAS, then admit again as owner
nobody, or a dead one  full here, another better, passes left        PASS to the better one
nobody, or a dead one  full here, nowhere better                     TAKE if this one is least loaded, else FULL
=====================  ============================================  ================================================
"""

from enum import Enum
from typing import NamedTuple

from world.limits import ATTACH_PASSES
from world.unit import AttachNumber


class Decision(Enum):
    ACCEPT = "accept"
    RETRY = "retry"
    REFUSE = "refuse"


def decide(held: AttachNumber, asked: AttachNumber) -> Decision:
    """``held``: the avatar's document's."""
    if asked[:2] > held[:2]:
        return Decision.ACCEPT
    return Decision.RETRY if is_current(held, asked) else Decision.REFUSE


def is_current(held: AttachNumber, number: AttachNumber) -> bool:
    """Whether ``number`` is the one held: only then do its moves, commands and closes count."""
    return held[:2] == number[:2] and (not held.gateway or held.gateway == number.gateway)


class Owner(Enum):
    """Who the avatar's document and the death verdicts say owns it."""

    ME = "me"
    OTHER = "other"  # another server, alive as far as known
    NOBODY = "nobody"  # none, or a dead server or generation


class Verb(Enum):
    SERVE = "serve"
    MOVED = "moved"
    TAKE = "take"
    PASS = "pass"
    REPLACED = "replaced"
    FULL = "full"


class Room(NamedTuple):
    """What this server knows of caps. ``better``: where placement would put the avatar, "" = nowhere else."""

    full: bool
    better: str
    least_loaded: bool


def admit(owner: Owner, held: AttachNumber, asked: AttachNumber, room: Room, passes: int) -> tuple[Verb, str]:
    """The table above; with PASS the server to pass to. ``passes``: how often this attach was passed on."""
    if owner is Owner.OTHER:
        return Verb.MOVED, ""
    if decide(held, asked) is Decision.REFUSE:
        return Verb.REPLACED, ""
    if owner is Owner.ME:
        return Verb.SERVE, ""
    return _without_owner(room, passes)


def _without_owner(room: Room, passes: int) -> tuple[Verb, str]:
    if not room.full:
        return Verb.TAKE, ""
    if room.better and passes < ATTACH_PASSES:
        return Verb.PASS, room.better
    return (Verb.TAKE if room.least_loaded else Verb.FULL), ""
