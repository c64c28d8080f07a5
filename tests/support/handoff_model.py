"""Every order in which a hand-off can happen: two servers, a store with compare-and-swap, a network that delays, loses
and doubles, deaths at any moment. ``explore`` walks all reachable worlds and judges each; the roles are
``world.handoff``'s.

A world is a value. ``moves`` says what may happen next in it; nothing is timed, so a deadline may pass at any moment.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.support import exploring
from world.handoff import DESTINATION, SOURCE, Effect, Event, Role, State, Table

A, B, C = "A", "B", "C"  # the owner, the one it hands to, a survivor who takes what the dead leave
FIRST_EPOCH = 5


class Document(NamedTuple):
    owner: str = A
    epoch: int = FIRST_EPOCH
    token: int = 1
    facts: frozenset[str] = frozenset()  # what is committed


class Write(NamedTuple):
    """Sent to the store; applied at any later moment, whoever still waits for it."""

    number: int
    by: str
    token: int  # the one it wants to find
    owner: str
    epoch: int
    facts: frozenset[str]
    fate: str = "open"  # landed | failed


class Post(NamedTuple):
    """A message under way. ``what``: offer | handed over | problem."""

    what: str
    token: int
    facts: frozenset[str] = frozenset()


class Side(NamedTuple):
    """What one server knows."""

    state: State
    alive: bool = True
    believed_dead: bool = False  # by a verdict: it may still run
    holds: bool = False  # has the unit in its table
    epoch: int = 0
    token: int = 0
    facts: frozenset[str] = frozenset()
    offer: int = 0  # the token under which it was offered
    call: bool = False  # waits for an answer
    write: int = 0  # waits for this write


class Budget(NamedTuple):
    """What may still go wrong or be done."""

    kill_a: int = 0
    kill_b: int = 0
    zombie_a: int = 0
    double: int = 0
    lose: int = 0
    work: int = 2  # operations of a client


class World(NamedTuple):
    document: Document
    a: Side
    b: Side
    posts: tuple[Post, ...]
    writes: tuple[Write, ...]
    budget: Budget
    numbers: int = 0  # names of writes, tokens
    committed_by: tuple[tuple[int, str], ...] = ()  # (epoch, who)
    acknowledged: frozenset[str] = frozenset()


Move = tuple[str, World]


@dataclass
class Model:
    """Rows of either table that are used are counted. ``cas`` False: the store takes any write (an ablation)."""

    source: Table = field(default_factory=lambda: SOURCE)
    destination: Table = field(default_factory=lambda: DESTINATION)
    cas: bool = True
    used: set[tuple[State, Event]] = field(default_factory=set)

    # -- exploring ---------------------------------------------------------------------------------------------------
    def explore(self, budget: Budget) -> int:
        """All worlds reachable from the beginning; their number. AssertionError with the way to a bad one."""
        first = World(
            Document(),
            Side(State.SERVING, holds=True, epoch=FIRST_EPOCH, token=1, facts=frozenset({"remembered"})),
            Side(State.ASKED),
            (),
            (),
            budget,
        )
        return exploring.explore(first, self.moves, judge)

    def moves(self, w: World) -> Iterator[Move]:
        yield from self._source_moves(w)
        yield from self._destination_moves(w)
        yield from self._network_moves(w)
        yield from self._store_moves(w)
        yield from self._deaths(w)

    def _step(self, table: Table, side: Side, event: Event) -> tuple[Side, tuple[Effect, ...]]:
        role = Role(table, side.state)
        self.used.add((side.state, event))
        effects = role.step(event)
        return side._replace(state=role.state), effects

    # -- the source --------------------------------------------------------------------------------------------------
    def _source_moves(self, w: World) -> Iterator[Move]:
        a = w.a
        if not a.alive:
            return
        if a.state is State.SERVING and a.holds:
            if a.offer == 0:
                yield "A begins", self._source(w, Event.BEGIN)
            if w.budget.work and not a.write:
                yield "A serves a client", self._work(w, A)
        if a.state is State.SETTLING and a.write:
            yield "A's settling takes too long", self._source(w, Event.UNSETTLED)
        if a.state is State.SETTLING and not a.write:
            yield "A is settled", self._source(w, Event.SETTLED)
        if a.call:
            yield "A waits no longer", self._source(w._replace(a=a._replace(call=False)), Event.UNANSWERED)
        yield from self._source_write(w)

    def _source_write(self, w: World) -> Iterator[Move]:
        a, done = w.a, write_of(w, w.a.write)
        if done is None or done.fate == "open":
            return
        w = w._replace(a=a._replace(write=0, token=done.number, facts=done.facts))
        if done.fate == "landed":
            w = w._replace(acknowledged=w.acknowledged | done.facts - {"remembered"})
            reclaiming = a.state is State.RECLAIMING
            yield "A's write is answered", self._source(w, Event.RECLAIMED) if reclaiming else w
        elif a.state is State.RECLAIMING:
            yield "A's write is overtaken", self._source(w, Event.OVERTAKEN)
        elif a.state is State.SETTLING:
            yield "A's write is fenced", self._source(w._replace(a=w.a._replace(holds=False)), Event.LOST)
        else:
            yield "A's write is fenced", w._replace(a=w.a._replace(holds=False, state=State.LOST))

    def _source(self, w: World, event: Event) -> World:
        a, effects = self._step(self.source, w.a, event)
        w = w._replace(a=a)
        for effect in effects:
            match effect:
                case Effect.OFFER:
                    post = Post("offer", w.a.token, w.a.facts)
                    w = w._replace(a=w.a._replace(call=True, offer=w.a.token), posts=add(w.posts, post))
                case Effect.RECLAIM:
                    w = self._write(w, A, w.a.token, FIRST_EPOCH, w.a.facts)
                case Effect.GIVE:
                    w = w._replace(a=w.a._replace(holds=False, call=False))
        return w

    # -- the destination ---------------------------------------------------------------------------------------------
    def _destination_moves(self, w: World) -> Iterator[Move]:
        b = w.b
        if not b.alive:
            return
        if b.state is State.LISTING:
            yield "B has listed it", self._destination(w, Event.LISTED)
            yield "B cannot list it", self._destination(w, Event.SILENT)
        if b.state is State.INSTALLED and b.holds and w.budget.work and not b.write:
            yield "B serves a client", self._work(w, B)
        if b.state is State.COMMITTING:
            yield "B waits for the store no longer", self._destination(w._replace(b=b._replace(write=0)), Event.SILENT)
        if b.state is State.ABORTED and w.document.owner == B and not b.holds:
            yield "B adopts what names it", take(w, B)
        done = write_of(w, b.write)
        if done is not None and done.fate != "open":
            yield "B's write is answered", self._destination_write(w, done)

    def _destination_write(self, w: World, done: Write) -> World:
        committing, landed = w.b.state is State.COMMITTING, done.fate == "landed"
        w = w._replace(b=w.b._replace(write=0, token=done.number, facts=done.facts))
        if committing:
            return self._destination(w, Event.COMMITTED if landed else Event.OVERTAKEN)
        if landed:
            return w._replace(acknowledged=w.acknowledged | done.facts - {"remembered"})
        return w._replace(b=w.b._replace(holds=False))

    def _destination(self, w: World, event: Event) -> World:
        b, effects = self._step(self.destination, w.b, event)
        w = w._replace(b=b)
        for effect in effects:
            match effect:
                case Effect.COMMIT:
                    w = self._write(w, B, w.b.offer, FIRST_EPOCH + 1, w.b.facts)
                case Effect.INSTALL:
                    w = w._replace(b=w.b._replace(holds=True, epoch=FIRST_EPOCH + 1))
                case Effect.ANSWER:
                    w = w._replace(posts=add(w.posts, Post("handed over", w.b.offer)))
                case Effect.REFUSE:
                    w = w._replace(posts=add(w.posts, Post("problem", w.b.offer)))
        return w

    def _offered(self, w: World, post: Post) -> Iterator[Move]:
        b = w.b
        if b.holds and b.offer == post.token and b.state is State.INSTALLED:
            yield "B hears its offer again", self._destination(w, Event.REPEATED)
        elif b.holds or b.state in (State.LISTING, State.COMMITTING):
            yield "B is busy with it", w._replace(posts=add(w.posts, Post("problem", post.token)))
        else:
            fresh = w._replace(b=b._replace(state=State.ASKED, offer=post.token, facts=post.facts, write=0))
            yield "B takes the offer up", self._destination(fresh, Event.OFFERED)
            yield "B has no room", self._destination(fresh, Event.UNFIT)

    # -- between them ------------------------------------------------------------------------------------------------
    def _network_moves(self, w: World) -> Iterator[Move]:
        for post in dict.fromkeys(w.posts):
            without = w._replace(posts=take_out(w.posts, post))
            if post.what == "offer":
                if w.b.alive:
                    yield from self._offered(without, post)
                if w.a.alive and w.a.call and post.token == w.a.offer and w.posts.count(post) == 1 and untouched(w):
                    never = without._replace(a=w.a._replace(call=False))
                    yield "the offer never leaves", self._source(never, Event.NOT_SENT)
            elif w.a.alive:
                yield f"A hears {post.what}", self._answered(without, post)
            if w.budget.lose or not (w.b.alive if post.what == "offer" else w.a.alive):
                less = w.budget._replace(lose=max(w.budget.lose - 1, 0))
                yield f"{post.what} is lost", without._replace(budget=less)
            if w.budget.double:
                less = w.budget._replace(double=w.budget.double - 1)
                yield f"{post.what} is doubled", w._replace(posts=add(w.posts, post), budget=less)

    def _answered(self, w: World, post: Post) -> World:
        expected, good = w.a.call and post.token == w.a.offer, post.what == "handed over"
        if expected:
            w = w._replace(a=w.a._replace(call=False))
            return self._source(w, Event.ACCEPTED if good else Event.UNANSWERED)
        late = (w.a.state, Event.ACCEPTED) in self.source and w.a.state is not State.OFFERED
        return self._source(w, Event.ACCEPTED) if good and late else w

    def _work(self, w: World, who: str) -> World:
        """A client's operation: acknowledged once it is committed."""
        side = w.a if who == A else w.b
        w = w._replace(budget=w.budget._replace(work=w.budget.work - 1))
        return self._write(w, who, side.token, side.epoch, side.facts | {f"{who}{w.budget.work}"})

    # -- the store ---------------------------------------------------------------------------------------------------
    def _write(self, w: World, by: str, token: int, epoch: int, facts: frozenset[str]) -> World:
        number = w.numbers + 2  # doubles as the token that it leaves; 1 is the first document's
        write = Write(number, by, token, by, epoch, facts)
        side = w.a if by == A else w.b
        return named(w, by, side._replace(write=number))._replace(writes=(*w.writes, write), numbers=w.numbers + 1)

    def _store_moves(self, w: World) -> Iterator[Move]:
        for write in w.writes:
            if write.fate == "open":
                yield f"the store gets {write.by}'s write", self._apply(w, write)
                side = w.a if write.by == A else w.b
                if side.write != write.number:
                    rest = tuple(other for other in w.writes if other is not write)
                    yield f"{write.by}'s write, given up, never arrives", w._replace(writes=rest)

    def _apply(self, w: World, write: Write) -> World:
        good = w.document.token == write.token or not self.cas
        judged = write._replace(fate="landed" if good else "failed")
        w = w._replace(writes=tuple(judged if other is write else other for other in w.writes))
        if not good:
            return w
        document = Document(write.owner, write.epoch, write.number, write.facts)
        return w._replace(document=document, committed_by=(*w.committed_by, (write.epoch, write.by)))

    # -- deaths ------------------------------------------------------------------------------------------------------
    def _deaths(self, w: World) -> Iterator[Move]:
        if w.budget.kill_a and w.a.alive:
            less = w.budget._replace(kill_a=0)
            yield "A dies", w._replace(a=w.a._replace(alive=False, holds=False, call=False), budget=less)
        if w.budget.kill_b and w.b.alive:
            less = w.budget._replace(kill_b=0)
            yield "B dies", w._replace(b=w.b._replace(alive=False, holds=False), budget=less)
        if w.budget.zombie_a and w.a.alive and not w.a.believed_dead:
            less = w.budget._replace(zombie_a=0)
            yield "A is believed dead", w._replace(a=w.a._replace(believed_dead=True), budget=less)
        owner = {A: w.a, B: w.b}.get(w.document.owner)
        if owner is not None and (not owner.alive or owner.believed_dead):
            yield "C takes what the dead left", take(w, C)


def judge(w: World, last: bool) -> str:
    """What is wrong with a world; ``last``: nothing can happen in it any more."""
    writers: dict[int, set[str]] = {}
    for epoch, who in w.committed_by:
        writers.setdefault(epoch, set()).add(who)
    forked = {epoch: who for epoch, who in writers.items() if len(who) > 1}
    if forked:
        return f"two writers of one epoch: {forked}"
    if not w.acknowledged <= w.document.facts:
        return f"acknowledged and lost: {w.acknowledged - w.document.facts}"
    for name, side in ((A, w.a), (B, w.b)):
        serving = side.holds and side.alive and not side.believed_dead
        serving = serving and side.state in (State.SERVING, State.INSTALLED)
        if serving and (w.document.owner, w.document.epoch) != (name, side.epoch):
            return f"{name} serves what is {w.document.owner}'s"
    return judge_end(w) if last else ""


def judge_end(w: World) -> str:
    if w.a.alive and w.a.state not in (State.SERVING, State.GIVEN, State.LOST):
        return f"A is stuck, {w.a.state.value}"
    owner = {A: w.a, B: w.b}.get(w.document.owner)
    if owner is not None and not owner.holds:
        return f"nobody serves it: {w.document.owner} is named, and does not hold it"
    if w.document.owner == B and "remembered" not in w.document.facts:
        return "what was kept in memory did not come along"
    return ""


# -- small things ----------------------------------------------------------------------------------------------------
def named(w: World, who: str, side: Side) -> World:
    return w._replace(a=side) if who == A else w._replace(b=side)


def write_of(w: World, number: int) -> Write | None:
    return next((write for write in w.writes if write.number == number), None) if number else None


def add(posts: tuple[Post, ...], post: Post) -> tuple[Post, ...]:
    return tuple(sorted((*posts, post), key=repr))


def take_out(posts: tuple[Post, ...], post: Post) -> tuple[Post, ...]:
    rest = list(posts)
    rest.remove(post)
    return tuple(rest)


def untouched(w: World) -> bool:
    """No copy of the offer can have been heard."""
    return w.b.state is State.ASKED and w.b.alive and not any(p.what != "offer" for p in w.posts)


def take(w: World, who: str) -> World:
    """By compare-and-swap, epoch + 1; C keeps it, for B it is its own again."""
    document = Document(who, w.document.epoch + 1, w.numbers + 2, w.document.facts)
    w = w._replace(document=document, numbers=w.numbers + 1)
    w = w._replace(committed_by=(*w.committed_by, (document.epoch, who)))
    if who == B:
        side = w.b._replace(holds=True, epoch=document.epoch, token=document.token, facts=document.facts, offer=0)
        return w._replace(b=side)
    return w
