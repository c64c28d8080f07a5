"""A transaction over several units: the creator's role and a keeper's, pure. The shell (``gameserver.trading``) does
what the effects say and comes back with the event that followed.

Theory of operation
-------------------
The intent ``tx:{id}`` decides, and one compare-and-swap on it is the only commit::

    creator                             intent                  each unit, by its owner
    INSERTING ───────────────────────── insert ──> pending
    LOCKING   Lock, unit after unit ──────────────────────────> pending: items locked, room reserved (committed)
    COMMITTING ──────────────────────── swap ────> committed
    COMMITTED answers; Decided ───────────────────────────────> applied, the id is under done (committed)
                                        swap ────> applied: +unit <── each for itself
                                        removed  <── the last one

Only its creator locks and commits, in one run: the owner of the acting avatar, whose unit takes part and refuses to be
locked for it under another epoch. Others may only abort or apply. So an owner of that avatar who finds nothing of a
command's transaction in its unit knows that no run of it has committed, or ever will.

Each hold has a keeper: whoever owns the unit. It hears the decision, or waits a term by its own clock, reads the intent
and, where that is still pending, aborts it by the same compare-and-swap. Where there is none (it was over and is gone:
this lock came late) it inserts it aborted *first*, so that nobody can commit it, then unlocks. The hold lies in the
unit's document: who has the unit next goes on with it.

A sweep finds what has no holds: an intent whose creator died before the first lock, or between the last mark and the
removal; and removes those aborted long ago (``gameserver.trading_sweep``).
"""

from collections.abc import Mapping
from enum import Enum

from world import roles


class Event(Enum):
    """What happened."""

    BEGIN = "begin"
    # -- of a write of the intent
    LANDED = "landed"
    OVERTAKEN = "overtaken"  # another's intent stands there, or none
    SILENT = "silent"  # the store did not answer in time, and nothing was locked yet
    # -- the creator's
    LOCKED = "locked"  # one more, and there are others
    ALL_LOCKED = "all locked"
    REFUSED = "refused"  # a unit cannot be locked, or its owner is not heard
    # -- a keeper's
    TOLD_COMMITTED = "told committed"
    TOLD_ABORTED = "told aborted"
    OVERDUE = "overdue"  # watched for a term, or the creator is known dead
    SAW_PENDING = "saw pending"  # and not watched for a term yet
    SAW_OVERDUE = "saw overdue"  # pending, and overdue
    SAW_COMMITTED = "saw committed"
    SAW_ABORTED = "saw aborted"
    SAW_NONE = "saw none"
    WRITTEN = "written"  # the unit's document says so
    LAST = "last"  # all units are marked but this one
    LOST = "lost"  # the unit is not mine any more


class Effect(Enum):
    """What to do. The last one of a step may take time, and then brings the next event."""

    # -- the creator's
    INSERT = "insert"  # pending
    LOCK = "lock"  # the next unit
    COMMIT = "commit"
    ABORT = "abort"
    ANSWER = "answer"  # it is committed, for good
    TELL_COMMITTED = "tell committed"
    TELL_ABORTED = "tell aborted"
    # -- a keeper's, ABORT too
    WAIT = "wait"  # for the decision, a term at most
    READ = "read"
    DENY = "deny"  # insert aborted
    APPLY = "apply"
    UNLOCK = "unlock"
    MARK = "mark"  # this unit has applied
    REMOVE = "remove"


class State(Enum):
    # -- the creator's
    NEW = "new"
    INSERTING = "inserting"
    LOCKING = "locking"
    COMMITTING = "committing"
    COMMITTED = "committed"
    ABORTED = "aborted"
    # -- a keeper's
    WATCHING = "watching"
    READING = "reading"
    DENYING = "denying"
    APPLYING = "applying"
    MARKING = "marking"
    REMOVING = "removing"
    UNLOCKING = "unlocking"
    DONE = "done"
    LOST = "lost"
    # -- either's
    ABORTING = "aborting"


Table = Mapping[tuple[State, Event], tuple[State, tuple[Effect, ...]]]

CREATOR: Table = {
    (State.NEW, Event.BEGIN): (State.INSERTING, (Effect.INSERT,)),
    (State.INSERTING, Event.LANDED): (State.LOCKING, (Effect.LOCK,)),
    (State.INSERTING, Event.OVERTAKEN): (State.ABORTED, ()),  # an earlier run's: it can only be aborted
    (State.INSERTING, Event.SILENT): (State.ABORTED, ()),  # if it lands all the same, nothing is locked for it
    (State.LOCKING, Event.LOCKED): (State.LOCKING, (Effect.LOCK,)),
    (State.LOCKING, Event.ALL_LOCKED): (State.COMMITTING, (Effect.COMMIT,)),
    (State.LOCKING, Event.REFUSED): (State.ABORTING, (Effect.ABORT,)),
    (State.COMMITTING, Event.LANDED): (State.COMMITTED, (Effect.TELL_COMMITTED, Effect.ANSWER)),
    (State.COMMITTING, Event.OVERTAKEN): (State.ABORTED, (Effect.TELL_ABORTED,)),
    (State.ABORTING, Event.LANDED): (State.ABORTED, (Effect.TELL_ABORTED,)),
    (State.ABORTING, Event.OVERTAKEN): (State.ABORTED, (Effect.TELL_ABORTED,)),  # by a keeper
}

KEEPER: Table = {
    (State.WATCHING, Event.TOLD_COMMITTED): (State.APPLYING, (Effect.APPLY,)),
    (State.WATCHING, Event.TOLD_ABORTED): (State.UNLOCKING, (Effect.UNLOCK,)),
    (State.WATCHING, Event.OVERDUE): (State.READING, (Effect.READ,)),
    (State.READING, Event.SAW_PENDING): (State.WATCHING, (Effect.WAIT,)),
    (State.READING, Event.SAW_OVERDUE): (State.ABORTING, (Effect.ABORT,)),
    (State.READING, Event.SAW_COMMITTED): (State.APPLYING, (Effect.APPLY,)),
    (State.READING, Event.SAW_ABORTED): (State.UNLOCKING, (Effect.UNLOCK,)),
    (State.READING, Event.SAW_NONE): (State.DENYING, (Effect.DENY,)),
    (State.ABORTING, Event.LANDED): (State.UNLOCKING, (Effect.UNLOCK,)),
    (State.ABORTING, Event.OVERTAKEN): (State.READING, (Effect.READ,)),
    (State.DENYING, Event.LANDED): (State.UNLOCKING, (Effect.UNLOCK,)),
    (State.DENYING, Event.OVERTAKEN): (State.READING, (Effect.READ,)),
    (State.APPLYING, Event.WRITTEN): (State.MARKING, (Effect.MARK,)),
    (State.APPLYING, Event.LOST): (State.LOST, ()),
    (State.UNLOCKING, Event.WRITTEN): (State.DONE, ()),
    (State.UNLOCKING, Event.LOST): (State.LOST, ()),
    (State.MARKING, Event.LANDED): (State.DONE, ()),
    (State.MARKING, Event.OVERTAKEN): (State.MARKING, (Effect.MARK,)),
    (State.MARKING, Event.LAST): (State.REMOVING, (Effect.REMOVE,)),
    (State.MARKING, Event.SAW_NONE): (State.DONE, ()),  # removed: who swept it has asked all units
    (State.REMOVING, Event.LANDED): (State.DONE, ()),
    (State.REMOVING, Event.OVERTAKEN): (State.DONE, ()),  # by a sweep that found the same
    # the unit went while the intent was looked at: who has it next begins anew
    (State.WATCHING, Event.LOST): (State.LOST, ()),
    (State.READING, Event.LOST): (State.LOST, ()),
}

ENDS = frozenset({State.COMMITTED, State.ABORTED, State.DONE, State.LOST})


class Role(roles.Role[State, Event, Effect]):
    """One transaction on one side."""

    @property
    def is_over(self) -> bool:
        return self.state in ENDS


def creator() -> Role:
    """One run of a transaction; it ends COMMITTED or ABORTED."""
    return Role(CREATOR, State.NEW)


def keeper(*, found: bool) -> Role:
    """One unit's hold: just made (it waits for the decision), or ``found`` in the document of a unit that was taken
    (it reads first). It ends DONE, or LOST with the unit."""
    return Role(KEEPER, State.READING if found else State.WATCHING)
