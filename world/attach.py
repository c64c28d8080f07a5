"""Attach: login, resume, fail-over and locate alike, decided from numbers alone.

An attach number is (session from a store counter, connection counted by the client), kept in the avatar's document
with the gateway that brought it. ``decide`` compares numbers::

    lower                                 REFUSE  replaced (late closes included)
    equal, another gateway                REFUSE
    equal, same gateway or none recorded  RETRY   serve it again
    higher                                ACCEPT  and end the connection held so far
"""

from enum import Enum

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
