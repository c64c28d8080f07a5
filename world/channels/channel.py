"""The records of a ``CellReceiver``: its channels, publishers and counters."""

from dataclasses import dataclass, field
from enum import Enum


class State(Enum):
    WAITING = 1
    ASKED = 2
    LIVE = 3


@dataclass(slots=True)
class Channel:
    """One cell of one publisher."""

    state: State = State.WAITING
    applied: int = 0  # sequence of the last frame or snapshot delivered
    applied_world_ms: int = 0
    known: int = 0  # highest sequence a frame or digest showed
    holds: bool = False  # something was delivered and not yet forgotten
    buffer: dict[int, bytes] = field(default_factory=dict)
    deadline: float = 0.0  # when the current wait ends
    asks: int = 0
    resync: bool = False  # LIVE, and a snapshot is under way because hashes differed
    behind_since: float | None = None
    repairing: bool = False
    strikes: int = 0  # times behind in a row without a frame delivered through the subscription
    absent: int = 0
    unequal: int = 0


@dataclass(slots=True)
class Publisher:
    """One publisher as this subscriber knows it."""

    generation: int
    heard_ms: float  # own time of the last digest, or of its (new) appearance: silence counts from here
    alive: bool = True
    digest_ms: float = 0.0  # own time of the last digest: what is shown of it is as old as that
    reconnected_ms: float = 0.0
    digest_world_ms: int = 0
    hidden: bool = False
    channels: dict[int, Channel] = field(default_factory=dict)


@dataclass(slots=True)
class ReceiverStatistics:
    """Counters since the start."""

    applied: int = 0
    snapshots: int = 0
    duplicates: int = 0
    dropped_dead: int = 0  # frames and digests of dead or older generations
    gaps: int = 0
    repairs_asked: int = 0
    repaired: int = 0
    snapshots_asked: int = 0
    resubscribed: int = 0
    diverged: int = 0
    overflows: int = 0  # buffers that held JOIN_BUFFER_FRAMES
    reconnects: int = 0
    hidden: int = 0
