"""Hand-off of a unit between two living owners: both roles, pure. The shells (``gameserver.handing`` and
``receiving``) do what the effects say and come back with the event that followed.

Theory of operation
-------------------
The store's compare-and-swap decides, nothing else does. The owner resolves its writes, sends the unit's whole document
with the store's token, and from then on writes nothing. The other one commits it with *exactly that token*, owner
itself, epoch + 1. So at most one of them goes on::

    source                              destination                     store
    SERVING   begin
    SETTLING  serves nobody: busy ─────────────────────────── writes ──> token t
    OFFERED   HandOff{t, document} ───> LISTING     owned: list ───────>
              writes nothing            COMMITTING  owner, epoch + 1 ──> t matches: token t'
    GIVEN     drop, tell <─ HandedOver ─ INSTALLED   serves
                     or
    RECLAIMING  no answer, or a refusal: who knows what was or will be committed with t? ──> a write of its own with t
      SERVING   it landed: t is void, whatever offer is still under way ends as overtaken
      GIVEN     it was overtaken: the destination has it

An offer known never to have left needs no reclaiming. While the store is silent the source stays busy and tries on:
it cannot know whether it still owns the unit. A destination to which the store is silent installs nothing: if its
commit lands all the same, the document names it, and it adopts the unit (epoch + 2) when the first message comes.
Whoever dies on the way leaves a document that names the source, or the destination: a dead owner's unit is taken.

Repeats: the same offer again finds the unit INSTALLED by it, and is answered HandedOver again; any other one finds the
token changed.
"""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from world import roles


class Owner(NamedTuple):
    """Who has the unit now."""

    server: str
    generation: int
    epoch: int


class Event(Enum):
    """What happened. Those marked * name an ``Owner``."""

    # -- the source's
    BEGIN = "begin"
    SETTLED = "settled"  # the store holds all of the unit, nothing is in flight
    UNSETTLED = "unsettled"  # not in time; nothing was offered
    LOST = "lost"  # somebody else's already: a write of ours was fenced
    NOT_SENT = "not sent"  # the offer certainly never left
    UNANSWERED = "unanswered"  # refused, or nothing came in time, or the way there is lost
    ACCEPTED = "accepted"  # * HandedOver
    RECLAIMED = "reclaimed"  # the token is changed
    OVERTAKEN = "overtaken"  # * another's document stands there; at the destination too
    # -- the destination's
    OFFERED = "offered"
    UNFIT = "unfit"  # offered, and it cannot be taken here: full, draining, busy, may not speak
    LISTED = "listed"
    COMMITTED = "committed"
    SILENT = "silent"  # the store did not answer in time
    REPEATED = "repeated"  # the same offer once more


class Effect(Enum):
    """What to do. At most the last one of a step takes time, and brings the next event."""

    # -- the source's
    FREEZE = "freeze"  # callers get busy, motion stands still
    SETTLE = "settle"
    OFFER = "offer"
    RESUME = "resume"  # serve again
    RECLAIM = "reclaim"
    GIVE = "give"  # forget the unit; tell its observers, its client's gateway, whoever asks
    # -- the destination's
    PREPARE = "prepare"  # begin to listen to what is seen from there
    LIST = "list"
    UNLIST = "unlist"
    COMMIT = "commit"
    INSTALL = "install"
    ANSWER = "answer"  # HandedOver
    REFUSE = "refuse"  # Problem


class State(Enum):
    # -- the source's
    SERVING = "serving"
    SETTLING = "settling"
    OFFERED = "offered"
    RECLAIMING = "reclaiming"
    GIVEN = "given"
    LOST = "lost"
    # -- the destination's
    ASKED = "asked"
    LISTING = "listing"
    COMMITTING = "committing"
    INSTALLED = "installed"
    ABORTED = "aborted"


Table = Mapping[tuple[State, Event], tuple[State, tuple[Effect, ...]]]

SOURCE: Table = {
    (State.SERVING, Event.BEGIN): (State.SETTLING, (Effect.FREEZE, Effect.SETTLE)),
    (State.SETTLING, Event.SETTLED): (State.OFFERED, (Effect.OFFER,)),
    (State.SETTLING, Event.UNSETTLED): (State.SERVING, (Effect.RESUME,)),
    (State.SETTLING, Event.LOST): (State.LOST, ()),
    (State.OFFERED, Event.ACCEPTED): (State.GIVEN, (Effect.GIVE,)),
    (State.OFFERED, Event.NOT_SENT): (State.SERVING, (Effect.RESUME,)),
    (State.OFFERED, Event.UNANSWERED): (State.RECLAIMING, (Effect.RECLAIM,)),
    (State.RECLAIMING, Event.RECLAIMED): (State.SERVING, (Effect.RESUME,)),
    (State.RECLAIMING, Event.OVERTAKEN): (State.GIVEN, (Effect.GIVE,)),
    # an answer that comes too late: the store has the word
    (State.RECLAIMING, Event.ACCEPTED): (State.RECLAIMING, ()),
    (State.GIVEN, Event.ACCEPTED): (State.GIVEN, ()),
}

DESTINATION: Table = {
    (State.ASKED, Event.OFFERED): (State.LISTING, (Effect.PREPARE, Effect.LIST)),
    (State.ASKED, Event.UNFIT): (State.ABORTED, (Effect.REFUSE,)),
    (State.LISTING, Event.LISTED): (State.COMMITTING, (Effect.COMMIT,)),
    (State.LISTING, Event.SILENT): (State.ABORTED, (Effect.UNLIST, Effect.REFUSE)),
    (State.COMMITTING, Event.COMMITTED): (State.INSTALLED, (Effect.INSTALL, Effect.ANSWER)),
    (State.COMMITTING, Event.OVERTAKEN): (State.ABORTED, (Effect.UNLIST, Effect.REFUSE)),
    (State.COMMITTING, Event.SILENT): (State.ABORTED, (Effect.REFUSE,)),  # it may land yet: listed it stays
    (State.INSTALLED, Event.REPEATED): (State.INSTALLED, (Effect.ANSWER,)),
}

ENDS = frozenset({State.GIVEN, State.LOST, State.INSTALLED, State.ABORTED})


class Role(roles.Role[State, Event, Effect]):
    """One unit's hand-off on one side. ``owner``: who has it, once GIVEN."""

    def __init__(self, table: Table, start: State) -> None:
        super().__init__(table, start)
        self.owner: Owner | None = None

    def step(self, event: Event, owner: Owner | None = None) -> tuple[Effect, ...]:
        """Raises OutOfOrder."""
        effects = super().step(event)
        if self.state is State.GIVEN and self.owner is None:
            self.owner = owner
        return effects


def source() -> Role:
    """The present owner's side of one hand-off; it ends SERVING again, GIVEN or LOST."""
    return Role(SOURCE, State.SERVING)


def destination() -> Role:
    """The next owner's side of one offer; it ends INSTALLED or ABORTED."""
    return Role(DESTINATION, State.ASKED)
