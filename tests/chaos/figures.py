"""How long things took, and how often they failed, from a history: one set of samples for each kind of fault.

A strike's window reaches from the strike to the next one. A command that fails belongs to the window in which it was
asked; but if the next fault struck before its answer and within ANSWERED_S of the question, that one may have cut it
off, and it is counted there. Who is *affected* is judged by what the client knew just before: the gateway that its
``ready`` named, the game server that its ``attached`` named.

    usable_s        gateway lost: from the strike to the first answer of a command asked after it
    acts_s          owner lost: the same
    rollback_ms     how far the new owner put an avatar back from where it was last shown, as time at walking speed
    pause_ms        at a hand-off: how long the oldest input had waited when the next owner was there to apply it
    seen_ms         at a change of owner: how much longer than usual (its median) an input waited until its player saw
                    that it was applied
    login_s         a newcomer: from the first request to attached
    heal_s          from the end of the fault to the last command that failed for the cluster's sake; of a partition
                    also to the last picture with a ghost that is stale or off
    away_s          from each close of a socket to the next ``attached``
    answer_s        all commands invoked while the fault lasted: how long until their result
    echo_gap_ms     the longest time a player who stayed connected saw none of its inputs applied
"""

import math
import statistics
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any, TypeGuard

from cluster.bots.bot import CLUSTER_CODES
from tests.chaos.history import NEMESIS, NEWCOMERS, STORE, Entry, by_player
from tests.support.percentiles import percentile
from world.limits import STALE_AFTER_MS, WALK_SPEED_M_PER_S

NEVER = math.inf
BEFORE_S = 5.0  # of a strike: what is usual is measured there
ANSWERED_S = 1.0  # within it a command is answered that no fault hits: the longest of 22,236 of 200 bots took 0.94 s
PATIENCE_S = 12.0  # a command without an answer for longer was not answered
COMMANDS = frozenset({"gather", "inventory", "say", "look"})
LOSSES = ("kill", "pause", "power")  # kinds that take from players what they are connected to


@dataclass(slots=True)
class Strike:
    """``until_s``: the next strike, or the end. ``over_s``: the fault's own end."""

    kind: str
    targets: tuple[str, ...]
    at_s: float
    over_s: float
    until_s: float


@dataclass(slots=True)
class Figures:
    """``samples``: metric → values; ``counts``: what happened how often within the windows."""

    strikes: int = 0
    samples: dict[str, list[float]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, metric: str, value: float) -> None:
        self.samples.setdefault(metric, []).append(value)


def figures(entries: Sequence[Entry]) -> dict[str, Figures]:
    """Kind of fault → what was measured, over all its strikes."""
    by_kind: dict[str, Figures] = {}
    players = {who: Timeline(own) for who, own in by_player(entries).items()}
    pictures = [entry for entry in entries if entry.who == STORE and entry.op == "picture"]
    for strike in strikes(entries):
        found = by_kind.setdefault(strike.kind, Figures())
        found.strikes += 1
        for who, player in players.items():
            if who < NEWCOMERS:
                _of_player(player, strike, found)
            else:
                _of_newcomer(player, strike, found)
        if trouble := list(_troubles(players.values(), pictures, strike)):
            found.add("heal_s", max(0.0, max(trouble) - strike.over_s))
        else:
            found.add("heal_s", 0.0)
    return by_kind


def strikes(entries: Sequence[Entry]) -> list[Strike]:
    """In a storm a strike's window reaches to the next one of its kind."""
    found: list[Strike] = []
    last: dict[str, Strike] = {}
    storm, end_s = False, entries[-1].t if entries else 0.0
    for entry in entries:
        if entry.who != NEMESIS:
            continue
        if entry.op == "storm":
            storm = True
        elif entry.op == "end":
            end_s = entry.t
        elif entry.type == "invoke":
            before = last.get(entry.op) if storm else found[-1] if found else None
            if before is not None:
                before.until_s = entry.t
            last[entry.op] = Strike(entry.op, tuple(entry.value["target"].split()), entry.t, entry.t, math.inf)
            found.append(last[entry.op])
        elif entry.op in last:
            last[entry.op].over_s = entry.t
    for strike in found:
        strike.until_s = min(strike.until_s, end_s)
    return found


class Timeline:
    """One player's entries, to be asked for times."""

    def __init__(self, own: list[Entry]) -> None:
        self.own = own
        self._times = [entry.t for entry in own]
        self._results = {}
        opened: dict[int, Entry] = {}
        for entry in own:
            if entry.op in COMMANDS and entry.type == "invoke":
                opened[entry.n] = entry
            elif entry.op in COMMANDS and entry.n in opened:
                self._results[id(opened.pop(entry.n))] = entry

    def between(self, begin_s: float, end_s: float) -> list[Entry]:
        return self.own[bisect_left(self._times, begin_s) : bisect_left(self._times, end_s)]

    def last(self, op: str, before_s: float) -> Entry | None:
        for n in range(bisect_right(self._times, before_s) - 1, -1, -1):
            if self.own[n].op == op:
                return self.own[n]
        return None

    def next(self, op: str, after_s: float) -> Entry | None:
        return next((entry for entry in self.own[bisect_right(self._times, after_s) :] if entry.op == op), None)

    def connected(self, at_s: float) -> bool:
        """In a session, and attached."""
        attached, closed = self.last("attached", at_s), self.last("closed", at_s)
        return attached is not None and (closed is None or closed.t < attached.t)

    def commands(self, begin_s: float, end_s: float) -> Iterator[tuple[Entry, Entry | None]]:
        """(invocation, what came of it) of commands asked in this time."""
        for entry in self.between(begin_s, end_s):
            if entry.op in COMMANDS and entry.type == "invoke":
                yield entry, self._results.get(id(entry))

    def failures(self, begin_s: float, end_s: float) -> Iterator[Entry]:
        """Answers of commands, asked in this time, that failed for the cluster's sake; not of what was cut off."""
        for asked, answer in self.commands(begin_s, end_s):
            if _failed(answer) and not _cut_off(asked, answer, end_s):
                yield answer

    def cut_off(self, at_s: float) -> Iterator[Entry]:
        """The same of commands that were under way, and not for long, when a fault struck then."""
        for asked, answer in self.commands(at_s - ANSWERED_S, at_s):
            if _failed(answer) and _cut_off(asked, answer, at_s):
                yield answer


def _failed(answer: Entry | None) -> TypeGuard[Entry]:
    return answer is not None and answer.type == "fail" and answer.value.get("code") in CLUSTER_CODES


def _cut_off(asked: Entry, answer: Entry, at_s: float) -> bool:
    return at_s - ANSWERED_S <= asked.t < at_s <= answer.t


def _of_player(player: Timeline, strike: Strike, found: Figures) -> None:
    window = player.between(strike.at_s, strike.until_s)
    for entry in window:
        if entry.op == "closed" and not entry.value["left"]:
            found.counts[f"closed {entry.value['code']}"] += 1
            back = player.next("attached", entry.t)
            found.add("away_s", NEVER if back is None else back.t - entry.t)
        elif entry.op == "connect" and entry.type == "fail":
            found.counts[f"connect failed: {entry.value['kind']}"] += 1
    for entry, answer in player.commands(strike.at_s, strike.until_s):
        found.counts["commands"] += 1
        if answer is not None and entry.t < strike.over_s:
            found.add("answer_s", answer.t - entry.t)
        elif answer is None and strike.until_s - entry.t > PATIENCE_S:
            found.counts["unanswered"] += 1
    for failure in chain(player.cut_off(strike.at_s), player.failures(strike.at_s, strike.until_s)):
        found.counts[f"failed {failure.value['code']}"] += 1
    if not player.connected(strike.at_s):
        return
    ready, attached = player.last("ready", strike.at_s), player.last("attached", strike.at_s)
    assert attached is not None
    everything = "all" in strike.targets
    if not strike.kind.startswith(LOSSES):
        pass  # what each player notices, and when, is in away_s and pause_ms
    elif ready is not None and (everything or ready.value["gateway"] in strike.targets):
        found.add("usable_s", _served_after(player, strike))
    elif attached.value["server"] in strike.targets:
        found.add("acts_s", _served_after(player, strike))
        found.add("rollback_ms", _rollback_ms(player, strike))
    _echoes(player, strike, window, found)
    _pauses(attached, window, found)


def _served_after(player: Timeline, strike: Strike) -> float:
    """From the strike until a command asked after it was answered: what is lost answers none, so its successor did."""
    answers = [a.t for _, a in player.commands(strike.at_s, strike.until_s) if a is not None and a.type == "ok"]
    return min(answers, default=NEVER) - strike.at_s


def _rollback_ms(player: Timeline, strike: Strike) -> float:
    attached = next((e for e in player.between(strike.at_s, strike.until_s) if e.op == "attached"), None)
    if attached is None:
        return 0.0
    shown = player.last("own", attached.t)
    if shown is None:
        return 0.0
    metres = math.hypot(attached.value["x"] - shown.value[2], attached.value["y"] - shown.value[3])
    return metres / WALK_SPEED_M_PER_S * 1_000


def _echoes(player: Timeline, strike: Strike, window: list[Entry], found: Figures) -> None:
    usual = [e.value[1] for e in player.between(strike.at_s - BEFORE_S, strike.at_s) if e.op == "own"]
    own = [entry for entry in window if entry.op == "own"]
    if not any(entry.op == "closed" for entry in window):
        times = [strike.at_s, *(entry.t for entry in own)]
        found.add("echo_gap_ms", max((b - a) * 1_000 for a, b in pairwise(times)) if own else NEVER)
    before = player.last("own", strike.at_s)
    epoch = before.n if before is not None else 0
    for n, change in enumerate(own):
        if change.n != epoch and usual:
            epoch = change.n
            waited = next((e.value[1] for e in own[n:] if e.value[1]), 0)
            found.add("seen_ms", max(0.0, waited - statistics.median(usual)))


def _pauses(attached: Entry, window: list[Entry], found: Figures) -> None:
    epoch = attached.value["epoch"]
    for entry in window:
        if entry.op == "attached" and entry.value["epoch"] != epoch:
            epoch = entry.value["epoch"]
            if entry.value["items"] is None:  # a loss comes with resync, a hand-off does not
                found.add("pause_ms", entry.value["waited_ms"])


def _of_newcomer(player: Timeline, strike: Strike, found: Figures) -> None:
    first = player.own[0]
    if not strike.at_s <= first.t < strike.until_s:
        return
    for entry in player.own:
        if entry.op == "connect" and entry.type == "ok":
            found.add("login_s", entry.t - first.t)
            return
    if strike.until_s - first.t > 2 * BEFORE_S:
        kinds = sorted({entry.value["kind"] for entry in player.own if entry.type == "fail" and "kind" in entry.value})
        found.counts[f"login failed: {', '.join(kinds)}"] += 1


def _troubles(players: Any, pictures: list[Entry], strike: Strike) -> Iterator[float]:
    """When something was not well yet, after the fault's own end."""
    for player in players:
        for failure in player.failures(strike.over_s, strike.until_s):
            yield failure.t
    for picture in pictures if strike.kind.startswith("partition") else ():
        unwell = any(age_ms > STALE_AFTER_MS or off for _generation, age_ms, off in picture.value.values())
        if unwell and strike.over_s <= picture.t < strike.until_s:
            yield picture.t


def summary(values: Sequence[float]) -> dict[str, float | int | None]:
    """n, p50, p99, max; None stands for never."""
    shown = {name: percentile(values, at) for name, at in (("p50", 50), ("p99", 99), ("max", 100))}
    return {"n": len(values), **{name: None if value == NEVER else round(value, 3) for name, value in shown.items()}}
