"""Every order in which a transaction over two units can happen: its creator, who owns A; the owner of B; those who take
what the dead or the silent leave; a store with compare-and-swap whose writes land at any later moment; a network that
loses and doubles. ``explore`` walks all reachable worlds and judges each; the roles are ``world.trade``'s.

A world is a value. ``moves`` says what may happen next in it; nothing is timed, so a term may pass at any moment. A
unit's own writes are one step (its document is fenced, see ``tests.support.unit_world``), a keeper's swap too (whose
answer is lost reads back); the creator's swaps are sent, and land at any later moment, also after its death. No two
states of the intent in one life of it are alike, so the state stands for the store's token.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.support import exploring
from world.trade import CREATOR, KEEPER, Effect, Event, Role, State, Table

NAMES = ("A", "B")  # the units, in the order of locking; A's avatar acts
NONE, PENDING, COMMITTED, ABORTED = "none", "pending", "committed", "aborted"
MARKING = "marking"  # in what a keeper has read: it is about to mark that


class Intent(NamedTuple):
    """The one in the store."""

    state: str = NONE
    applied: frozenset[int] = frozenset()


class Unit(NamedTuple):
    """One unit's document."""

    epoch: int = 1
    pending: bool = False
    done: bool = False
    applied: int = 0  # how often


class Keeper(NamedTuple):
    """Of one unit, at its owner of that epoch; ``does``: what comes next."""

    unit: int
    epoch: int
    state: State
    does: Effect
    read: Intent = Intent()  # as last read


class Creator(NamedTuple):
    """Owner of A at epoch 1."""

    state: State = State.NEW
    does: Effect | None = None
    alive: bool = True
    locked: int = 0
    called: bool = False  # waits for an answer
    sent: bool = False
    answered: bool = False


class Write(NamedTuple):
    """A swap of the intent by its creator. ``fate``: open, landed, failed."""

    expects: str
    leaves: str
    fate: str = "open"


class Post(NamedTuple):
    """A message under way: lock, locked, refused (to the creator), committed, aborted."""

    what: str
    unit: int


class Budget(NamedTuple):
    """What may still go wrong."""

    kill: int = 0  # the creator
    take_a: int = 0  # A gets another owner, whether the creator is dead or only believed so
    take_b: int = 0
    lose: int = 0
    double: int = 0
    forget: int = 0  # a unit forgets what it has applied, the intent being gone


class World(NamedTuple):
    intent: Intent
    units: tuple[Unit, ...]
    creator: Creator
    keepers: tuple[Keeper, ...]
    posts: tuple[Post, ...]
    writes: tuple[Write, ...]
    budget: Budget
    committed: bool = False  # once, for good
    refused: bool = False  # an owner of A has answered a repeat that nothing happened, nor will


Move = tuple[str, World]


@dataclass
class Model:
    """Used rows of the tables are counted. The others False: a safeguard taken out."""

    creator: Table = field(default_factory=lambda: CREATOR)
    keeper: Table = field(default_factory=lambda: KEEPER)
    cas: bool = True
    check_pending: bool = True  # a unit applies only what it holds
    check_done: bool = True  # and is not locked for what it has applied
    fence: bool = True  # A is locked only by its owner of that epoch
    used: set[tuple[State, Event]] = field(default_factory=set)

    def explore(self, budget: Budget, intent: Intent | None = None) -> int:
        """All worlds reachable from the beginning; their number. AssertionError with the way to a bad one. ``intent``:
        what an earlier run of the same command has left."""
        start = World(intent or Intent(), (Unit(), Unit()), Creator(), (), (), (), budget)
        return self.explore_from(self._create(start, Event.BEGIN))

    def explore_late_locks(self, budget: Budget) -> int:
        """From a world in which all is over, but a second copy of each lock is still under way."""
        over = Creator(State.COMMITTED, answered=True)
        done = Unit(done=True, applied=1)
        posts = (Post("lock", 0), Post("lock", 1))
        return self.explore_from(World(Intent(), (done, done), over, (), posts, (), budget, committed=True))

    def explore_from(self, first: World) -> int:
        return exploring.explore(first, self.moves, judge)

    def moves(self, w: World) -> Iterator[Move]:
        yield from self._creator_moves(w)
        for keeper in w.keepers:
            yield from self._keeper_moves(w, keeper)
        yield from self._network_moves(w)
        yield from self._store_moves(w)
        yield from self._owners_change(w)
        yield from self._sweep_and_repeat(w)

    def _step(self, table: Table, state: State, event: Event) -> tuple[State, tuple[Effect, ...]]:
        role = Role(table, state)
        self.used.add((state, event))
        effects = role.step(event)
        return role.state, effects

    # -- the creator -------------------------------------------------------------------------------------------------
    def _create(self, w: World, event: Event) -> World:
        c = w.creator
        state, effects = self._step(self.creator, c.state, event)
        w = w._replace(creator=c._replace(state=state, does=None, called=False))
        for effect in effects:
            w = self._create_effect(w, effect)
        return w

    def _create_effect(self, w: World, effect: Effect) -> World:
        c = w.creator
        match effect:
            case Effect.INSERT:
                return send(w, Write(NONE, PENDING))
            case Effect.COMMIT | Effect.ABORT:
                state = COMMITTED if effect is Effect.COMMIT else ABORTED
                return send(w, Write(PENDING, state))
            case Effect.LOCK:
                posts = add(w.posts, Post("lock", c.locked))
                return w._replace(creator=c._replace(called=True), posts=posts)
            case Effect.TELL_COMMITTED | Effect.TELL_ABORTED:
                what = COMMITTED if effect is Effect.TELL_COMMITTED else ABORTED
                return w._replace(posts=add(add(w.posts, Post(what, 0)), Post(what, 1)))
            case _:
                assert effect is Effect.ANSWER, effect
                return w._replace(creator=c._replace(answered=True))

    def _creator_moves(self, w: World) -> Iterator[Move]:
        c = w.creator
        if not c.alive:
            return
        if c.called:
            yield "the creator waits for a lock no longer", self._create(w, Event.REFUSED)
        if not c.sent:
            return
        mine = w.writes[-1]
        if c.state is State.INSERTING and mine.fate == "open":
            given_up = w._replace(creator=c._replace(sent=False))
            yield "the creator gives its insert up", self._create(given_up, Event.SILENT)
        if mine.fate != "open":
            told = w._replace(creator=c._replace(sent=False), writes=w.writes[:-1])
            event = Event.LANDED if mine.fate == "landed" else Event.OVERTAKEN
            yield f"the creator's write has {mine.fate}", self._create(told, event)

    # -- keepers -----------------------------------------------------------------------------------------------------
    def _keep(self, w: World, keeper: Keeper, event: Event) -> World:
        state, effects = self._step(self.keeper, keeper.state, event)
        others = tuple(k for k in w.keepers if k != keeper)
        if not effects:
            return w._replace(keepers=others)
        return w._replace(keepers=sort((*others, keeper._replace(state=state, does=effects[-1]))))

    def _keeper_moves(self, w: World, k: Keeper) -> Iterator[Move]:
        who = f"{NAMES[k.unit]}'s keeper"
        if k.epoch < w.units[k.unit].epoch and k.does in (Effect.WAIT, Effect.READ, Effect.APPLY, Effect.UNLOCK):
            yield f"{who} finds its unit lost", self._keep(w, k, Event.LOST)
            return
        match k.does:
            case Effect.WAIT:
                yield f"{who} waits no longer", self._keep(w, k, Event.OVERDUE)
            case Effect.READ:
                yield from ((f"{who} reads", after) for after in self._reads(w, k))
            case Effect.APPLY:
                yield f"{who} applies", self._keep(self._apply(w, k.unit), k, Event.WRITTEN)
            case Effect.UNLOCK:
                yield f"{who} unlocks", self._keep(unit(w, k.unit, pending=False), k, Event.WRITTEN)
            case Effect.MARK:
                yield from self._marks(w, k, who)
            case Effect.ABORT:
                yield f"{who} aborts", self._swaps(w, k, k.read, Intent(ABORTED))
            case Effect.DENY:
                yield f"{who} denies", self._swaps(w, k, Intent(), Intent(ABORTED))
            case _:
                assert k.does is Effect.REMOVE, k
                yield f"{who} removes", self._swaps(w, k, k.read, Intent())

    def _reads(self, w: World, k: Keeper) -> Iterator[World]:
        events = {
            NONE: (Event.SAW_NONE,),
            PENDING: (Event.SAW_PENDING, Event.SAW_OVERDUE),
            COMMITTED: (Event.SAW_COMMITTED,),
            ABORTED: (Event.SAW_ABORTED,),
        }[w.intent.state]
        for event in events:
            read = k._replace(read=w.intent)
            yield self._keep(w._replace(keepers=swap(w.keepers, k, read)), read, event)

    def _marks(self, w: World, k: Keeper, who: str) -> Iterator[Move]:
        """Read, then swap."""
        if k.read.state != MARKING:
            read = k._replace(read=Intent(MARKING, w.intent.applied))
            if w.intent.state == NONE:
                yield f"{who} has nothing to mark", self._keep(w, k, Event.SAW_NONE)
            elif len(w.intent.applied | {k.unit}) == 2:
                last = k._replace(read=w.intent)
                yield f"{who} is the last", self._keep(w._replace(keepers=swap(w.keepers, k, last)), last, Event.LAST)
            else:
                yield f"{who} reads, to mark", w._replace(keepers=swap(w.keepers, k, read))
            return
        again = k._replace(read=Intent())
        expects = Intent(COMMITTED, k.read.applied)
        marked = Intent(COMMITTED, expects.applied | {k.unit})
        yield f"{who} marks", self._swaps(w._replace(keepers=swap(w.keepers, k, again)), again, expects, marked)

    def _swaps(self, w: World, k: Keeper, expects: Intent, leaves: Intent) -> World:
        if w.intent != expects and (self.cas or w.intent.state == NONE):
            return self._keep(w, k, Event.OVERTAKEN)
        return self._keep(w._replace(intent=leaves), k, Event.LANDED)

    def _apply(self, w: World, at: int) -> World:
        held = w.units[at]
        count = held.applied + (held.pending or not self.check_pending)
        return unit(w, at, pending=False, done=True, applied=count)

    # -- the network ---------------------------------------------------------------------------------------------------
    def _network_moves(self, w: World) -> Iterator[Move]:
        for post in dict.fromkeys(w.posts):
            without = w._replace(posts=take_out(w.posts, post))
            name = f"{post.what} {NAMES[post.unit]}"
            if post.what == "lock":
                yield name, self._locks(without, post.unit)
            elif post.what in ("locked", "refused"):
                yield name, self._answered(without, post)
            else:
                yield name, self._told(without, post)
            if w.budget.lose:
                yield f"{name} is lost", without._replace(budget=w.budget._replace(lose=w.budget.lose - 1))
            if w.budget.double and post.what not in ("locked", "refused"):
                less = w.budget._replace(double=w.budget.double - 1)
                yield f"{name} is doubled", w._replace(posts=add(w.posts, post), budget=less)

    def _locks(self, w: World, at: int) -> World:
        held = w.units[at]
        fenced = at == 0 and held.epoch > 1 and self.fence
        waits = w.creator.alive and w.creator.called and w.creator.locked == at
        if fenced or (held.done and self.check_done):
            return w._replace(posts=add(w.posts, Post("refused", at))) if waits else w
        if waits:
            w = w._replace(posts=add(w.posts, Post("locked", at)))
        if held.pending:
            return w
        keeper = Keeper(at, held.epoch, State.WATCHING, Effect.WAIT)
        w = unit(w, at, pending=True)
        if any((k.unit, k.epoch) == (at, held.epoch) for k in w.keepers):
            return w  # it marks or removes yet; another one follows when that is over
        return w._replace(keepers=sort((*w.keepers, keeper)))

    def _answered(self, w: World, post: Post) -> World:
        c = w.creator
        if not c.alive or not c.called or post.unit != c.locked:
            return w
        if post.what == "refused":
            return self._create(w, Event.REFUSED)
        w = w._replace(creator=c._replace(locked=c.locked + 1))
        return self._create(w, Event.ALL_LOCKED if c.locked == 1 else Event.LOCKED)

    def _told(self, w: World, post: Post) -> World:
        event = Event.TOLD_COMMITTED if post.what == COMMITTED else Event.TOLD_ABORTED
        for k in w.keepers:
            if k.unit == post.unit and k.epoch == w.units[k.unit].epoch and k.does is Effect.WAIT:
                return self._keep(w, k, event)
        if post.what == COMMITTED and not self.check_pending:
            return self._apply(w, post.unit)
        return w

    # -- the store ---------------------------------------------------------------------------------------------------
    def _store_moves(self, w: World) -> Iterator[Move]:
        for write in w.writes:
            if write.fate == "open":
                yield f"the store gets {write.leaves}", self._land(w, write)

    def _land(self, w: World, write: Write) -> World:
        good = w.intent.state == write.expects or (not self.cas and write.expects == PENDING and w.intent.state != NONE)
        judged = write._replace(fate="landed" if good else "failed")
        still = w.creator.sent and write is w.writes[-1]  # somebody waits for it
        w = w._replace(writes=tuple(judged if x is write else x for x in w.writes if x is not write or still))
        if not good:
            return w
        return w._replace(intent=Intent(write.leaves), committed=w.committed or write.leaves == COMMITTED)

    # -- owners, sweep, repeats ----------------------------------------------------------------------------------------
    def _owners_change(self, w: World) -> Iterator[Move]:
        if w.budget.kill and w.creator.alive:
            less = w.budget._replace(kill=0)
            dead = w.creator._replace(alive=False, called=False, sent=False)
            open_writes = tuple(write for write in w.writes if write.fate == "open")
            yield "the creator dies", w._replace(creator=dead, writes=open_writes, budget=less)
        for at, left in ((0, w.budget.take_a), (1, w.budget.take_b)):
            if left:
                less = w.budget._replace(take_a=0) if at == 0 else w.budget._replace(take_b=0)
                yield f"{NAMES[at]} is taken by another", self._take(w._replace(budget=less), at)
        for at in (0, 1):
            kept = any((k.unit, k.epoch) == (at, w.units[at].epoch) for k in w.keepers)
            if w.units[at].pending and not kept:
                found = Keeper(at, w.units[at].epoch, State.READING, Effect.READ)
                yield f"{NAMES[at]}'s hold is found", w._replace(keepers=sort((*w.keepers, found)))

    def _take(self, w: World, at: int) -> World:
        return unit(w, at, epoch=w.units[at].epoch + 1)

    def _sweep_and_repeat(self, w: World) -> Iterator[Move]:
        if w.intent.state == PENDING:
            yield "the sweep aborts", w._replace(intent=Intent(ABORTED))
        if w.intent.state == COMMITTED and all(u.done for u in w.units):
            yield "the sweep removes", w._replace(intent=Intent())
        a = w.units[0]
        if a.epoch > 1 and not (a.pending or a.done) and not w.refused:
            yield "a repeat is refused by A's new owner", w._replace(refused=True)
        for at in (0, 1):
            if w.units[at].done and w.intent.state == NONE and w.budget.forget:
                less = w.budget._replace(forget=w.budget.forget - 1)
                yield f"{NAMES[at]} forgets that it is done", unit(w, at, done=False)._replace(budget=less)


def judge(w: World, last: bool) -> str:
    """What is wrong with a world; ``last``: nothing can happen in it any more."""
    if w.creator.answered and not w.committed:
        return "answered before it was committed"
    if w.refused and w.committed:
        return "refused, and committed"
    for name, held in zip(NAMES, w.units, strict=True):
        if held.applied > 1:
            return f"{name} has applied it {held.applied} times"
        if held.applied and not w.committed:
            return f"{name} has applied what is not committed"
        if w.committed and not held.applied and not held.pending:
            return f"{name} has undone what is committed"
    return judge_end(w) if last else ""


def judge_end(w: World) -> str:
    if any(held.pending for held in w.units):
        return "something stays locked"
    if w.intent.state in (PENDING, COMMITTED):
        return f"the intent stays {w.intent.state}"
    return "half done" if w.units[0].applied != w.units[1].applied else ""


# -- small things ----------------------------------------------------------------------------------------------------
def unit(w: World, at: int, **changes: int) -> World:
    changed = w.units[at]._replace(**changes)  # type: ignore[arg-type]
    return w._replace(units=(changed, w.units[1]) if at == 0 else (w.units[0], changed))


def swap(keepers: tuple[Keeper, ...], old: Keeper, new: Keeper) -> tuple[Keeper, ...]:
    return sort((*(k for k in keepers if k != old), new))


def sort(keepers: tuple[Keeper, ...]) -> tuple[Keeper, ...]:
    return tuple(sorted(keepers, key=lambda k: (k.unit, k.epoch)))


def send(w: World, write: Write) -> World:
    return w._replace(writes=(*w.writes, write), creator=w.creator._replace(sent=True))


def add(posts: tuple[Post, ...], post: Post) -> tuple[Post, ...]:
    return tuple(sorted((*posts, post)))


def take_out(posts: tuple[Post, ...], post: Post) -> tuple[Post, ...]:
    rest = list(posts)
    rest.remove(post)
    return tuple(rest)
