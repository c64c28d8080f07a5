"""Attach: login, resume, fail-over and locate alike, decided from numbers alone.

An attach number is (session from a store counter, connection counted by the client), kept in the avatar's document
with the gateway that brought it. First who owns the avatar, then whose number is newer:

=====================  ================  ==========================  =========================================
owner                  number            gateway                     decision
=====================  ================  ==========================  =========================================
another, alive         any               any                         MOVED to it
me                     lower             any                         REPLACED (late closes included)
me                     equal             same, or none recorded      SERVE (a retry)
me                     equal             another                     REPLACED
me                     higher            any                         SERVE, and end the connection held so far
none, or a dead one    lower, or equal   as above                    REPLACED
                       from another
none, or a dead one    otherwise         room here                   TAKE by CAS, then decide again as owner
none, or a dead one    otherwise         full here, another better,  PASS to the better one
                                         passes left
none, or a dead one    otherwise         full here, nowhere better   FULL, or TAKE if this one is least loaded
=====================  ================  ==========================  =========================================
"""

from enum import Enum
from typing import NamedTuple

from world.limits import ATTACH_PASSES
from world.unit import AttachNumber


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


class Decision(NamedTuple):
    """``to``: the server of PASS. ``ends``: the connection to end with ``replaced`` on SERVE (None: none)."""

    verb: Verb
    to: str = ""
    ends: AttachNumber | None = None


class Room(NamedTuple):
    """What this server knows of caps. ``better``: where placement would put the avatar, "" = nowhere else."""

    full: bool
    better: str
    least_loaded: bool


def is_current(held: AttachNumber, number: AttachNumber) -> bool:
    """Whether ``number`` is the one held: only then do its moves, commands and closes count."""
    return held[:2] == number[:2] and (not held.gateway or held.gateway == number.gateway)


def outranked(held: AttachNumber, number: AttachNumber) -> bool:
    """Whether an attach under ``number`` is refused as replaced."""
    return number[:2] < held[:2] or (number[:2] == held[:2] and not is_current(held, number))


def decide(owner: Owner, held: AttachNumber, number: AttachNumber, room: Room, passes: int) -> Decision:
    """The table above. ``held``: from the avatar's document; ``passes``: how often this attach was passed on."""
    if owner is Owner.OTHER:
        return Decision(Verb.MOVED)
    if outranked(held, number):
        return Decision(Verb.REPLACED)
    if owner is Owner.ME:
        ends = held if held.session and held[:2] != number[:2] else None
        return Decision(Verb.SERVE, ends=ends)
    return _without_owner(room, passes)


def _without_owner(room: Room, passes: int) -> Decision:
    if not room.full:
        return Decision(Verb.TAKE)
    if room.better and passes < ATTACH_PASSES:
        return Decision(Verb.PASS, to=room.better)
    return Decision(Verb.TAKE if room.least_loaded else Verb.FULL)
