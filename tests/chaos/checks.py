"""The judges: pure functions from a history, and the store's documents after the stop, to sentences of what is wrong.

::

    items          store against history: acknowledged there, none twice, given = gained + under way
    memory         no inventory a client is told ever lacks what had been acknowledged to it before
    results        one result per command number, whatever came in between
    events         within a stream: each number once, none left out, unless ``resync`` says so
    sessions       a session's number stays, but where the close code says that it is over
    owners         one owner per (unit, epoch), in attaches, pictures and the store; epochs and versions only rise
    inputs         no owner has applied an input that was never sent
    trades         none half done, none told to one as done and to the other as not; nothing locked or on its way
                   for long, and nothing at all once everybody has left
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.chaos.figures import strikes
from tests.chaos.history import STORE, Entry, by_player
from tests.chaos.holds import held
from tests.support.ledger import Told, violations
from world.audit import audit, settled
from world.ids import avatar_unit
from world.transaction_document import COMMITTED, KIND, Intent
from world.unit_document import UnitDocument

PERHAPS = frozenset({"store_unavailable", "unreachable", "internal", "settled", "deadline"})  # docs/protocol/07
SESSION_OVER = frozenset({4001, 4008})
LOCKED_S = 30.0  # nothing is locked, undecided or under way for longer, not counting STORELESS
COARSE_S = 10.0  # pictures too far apart to tell: then only what was certainly held for longer is wrong
STORELESS = frozenset({"store-away", "store-dead", "pause-store", "fill-disk"})  # nothing can be written meanwhile
SHOWN = 8  # sentences of one judge


def check(entries: list[Entry], documents: Mapping[str, bytes]) -> list[str]:
    """What is wrong, in sentences; empty when all is well."""
    players = lives(entries)
    wrong = items(players, documents)
    for judge in (memory, results, events, sessions, inputs):
        found = [f"avatar {avatar}: {sentence}" for avatar, own in players.items() for sentence in judge(own)]
        wrong += _few(found)
    return wrong + _few(owners(entries)) + _few(trades(entries, documents))


def lives(entries: Iterable[Entry]) -> dict[int, list[Entry]]:
    """Avatar → what its player asked and heard. Who could not enter becomes another guest the next time."""
    found: dict[int, list[Entry]] = {}
    for own in by_player(entries).values():
        avatar = 0
        for entry in own:
            if entry.op == "guest" and entry.type == "ok":
                avatar = int(entry.value["avatar"])
            elif avatar:
                found.setdefault(avatar, []).append(entry)
    return found


def _few(found: list[str]) -> list[str]:
    return found if len(found) <= SHOWN else [*found[:SHOWN], f"… and {len(found) - SHOWN} more of these"]


# -- items -----------------------------------------------------------------------------------------------------------
def told(own: Iterable[Entry]) -> Told:
    """What one client was told of its gathering."""
    heard = Told()
    asked: dict[int, str] = {}
    for entry in own:
        if entry.op == "connect" and entry.type == "invoke" and not entry.value["resumes"]:
            asked.clear()  # numbers start anew; what was open stays in doubt
        heard.trades |= entry.op == "trade_confirm"
        if entry.op != "gather":
            continue
        if entry.type == "invoke":
            asked[entry.n] = entry.value["item"]
            heard.in_doubt[entry.value["item"]] += 1
        elif entry.n in asked:
            item = asked.pop(entry.n)
            if entry.type == "ok":
                heard.in_doubt[item] -= 1
                heard.acknowledged.update(entry.value)
            elif entry.type == "fail" and entry.value["code"] not in PERHAPS:
                heard.in_doubt[item] -= 1
    return heard


def items(players: Mapping[int, list[Entry]], documents: Mapping[str, bytes]) -> list[str]:
    units = settled(documents)
    known: dict[int, Told] = {}
    for avatar, own in players.items():
        if avatar_unit(avatar) in units:
            known[avatar] = told(own)
        elif told(own).acknowledged:
            return [f"avatar {avatar} has no document, though items were acknowledged to it"]
    return _few(violations(units, known)) + _few(audit(documents))


def memory(own: Iterable[Entry]) -> list[str]:
    """A player's committed items only grow until it trades: what is told later holds all acknowledged."""
    wrong = []
    acknowledged: Counter[str] = Counter()
    asked_after: dict[int, Counter[str]] = {}
    for entry in own:
        if entry.op == "trade_confirm":
            break
        if entry.op == "gather" and entry.type == "ok":
            acknowledged.update(entry.value)
        elif entry.op == "inventory" and entry.type == "invoke":
            asked_after[entry.n] = acknowledged.copy()
        elif entry.op == "inventory" and entry.type == "ok":
            wrong += _lacks("an answer", entry, asked_after.get(entry.n, Counter()), entry.value)
        elif entry.op == "attached" and entry.value["items"] is not None:
            wrong += _lacks("a resync", entry, acknowledged, entry.value["items"])
    return wrong


def _lacks(where: str, entry: Entry, least: Counter[str], has: Mapping[str, int]) -> list[str]:
    lost = least - Counter(has)
    return [f"{where} at {entry.t:.2f} lacks {dict(lost)}"] if lost else []


# -- results, events, sessions, inputs ---------------------------------------------------------------------------------
def results(own: Iterable[Entry]) -> list[str]:
    wrong = []
    open_numbers: set[int] = set()
    for entry in own:
        if entry.op == "connect":
            if entry.type == "invoke" and not entry.value["resumes"]:
                open_numbers.clear()
        elif entry.n and entry.op != "event" and entry.op != "own":
            if entry.type == "invoke":
                open_numbers.add(entry.n)
            elif entry.n not in open_numbers:
                wrong.append(f"a second result of command {entry.n} at {entry.t:.2f}")
            else:
                open_numbers.discard(entry.n)
    return wrong


def events(own: Iterable[Entry]) -> list[str]:
    wrong = []
    stream, last = 0, 0
    for entry in own:
        if entry.op == "attached":
            value = entry.value
            anew = value["items"] is not None
            if value["stream"] == stream and not anew and value["event"] != last:
                wrong.append(f"stream {stream} goes on after {value['event']}, not {last}, at {entry.t:.2f}")
            if value["stream"] != stream and stream and not anew:
                wrong.append(f"a new stream {value['stream']} without resync at {entry.t:.2f}")
            stream, last = value["stream"], value["event"]
        elif entry.op == "event":
            if entry.value["s"] != stream:
                wrong.append(f"an event of stream {entry.value['s']} in {stream} at {entry.t:.2f}")
            elif entry.n != last + 1:
                what = "again" if entry.n <= last else f"after {last}"
                wrong.append(f"event {entry.n} of stream {stream} came {what} at {entry.t:.2f}")
            last = max(last, entry.n)
    return wrong


def sessions(own: Iterable[Entry]) -> list[str]:
    wrong = []
    session, connection, code = 0, 0, 0
    for entry in own:
        if entry.op == "closed":
            code = entry.value["code"]
        elif entry.op == "ready":
            value = entry.value
            if session and value["session"] != session and code not in SESSION_OVER:
                wrong.append(f"session {session} became {value['session']} at {entry.t:.2f}, after close {code}")
            if value["session"] == session and value["connection"] <= connection:
                wrong.append(f"connection {value['connection']} after {connection} at {entry.t:.2f}")
            session, connection = value["session"], value["connection"]
    return wrong


def inputs(own: Iterable[Entry]) -> list[str]:
    """Echoes within one owner's epoch only rise."""
    wrong = []
    last: dict[int, int] = {}
    for entry in own:
        if entry.op == "own":
            if entry.value[0] < last.get(entry.n, 0):
                wrong.append(f"input {entry.value[0]} echoed after {last[entry.n]} at {entry.t:.2f}")
            last[entry.n] = max(last.get(entry.n, 0), entry.value[0])
    return wrong


# -- trades ------------------------------------------------------------------------------------------------------------
def trades(entries: Sequence[Entry], documents: Mapping[str, bytes]) -> list[str]:
    """No trade is half done, in the store and as players were told; nothing was on its way for long, or for ever."""
    return half_done(documents) + told_alike(entries) + long_held(entries) + unsettled(entries, documents)


def half_done(documents: Mapping[str, bytes]) -> list[str]:
    """The intents that a stop has left, against their units."""
    wrong = []
    intents = {key: Intent.parse(value) for key, value in documents.items() if key.startswith(f"{KIND}:")}
    units = {key: UnitDocument.parse(value) for key, value in documents.items() if key not in intents}
    for key, intent in intents.items():
        tx = key.partition(":")[2]
        for unit in intent.parts:
            holds, done = tx in units[unit].pending, tx in units[unit].done
            if intent.state == COMMITTED and not (holds or done):
                wrong.append(f"{key} is committed, and {unit} knows nothing of it")
            if intent.state != COMMITTED and done:
                wrong.append(f"{key} is {intent.state}, and {unit} has applied it")
    return wrong


def told_alike(entries: Iterable[Entry]) -> list[str]:
    """Who was told that a trade is done, and who that it is not. ``lost`` says that nobody knows."""
    ends: dict[str, set[str]] = {}
    for entry in entries:
        if entry.op == "trade" and entry.type == "note":
            trade, state, reason = entry.value
            if state == "committed" or (state == "closed" and reason != "lost"):
                ends.setdefault(trade, set()).add(reason or state)
    return [
        f"trade {trade} was told to be committed, and closed: {', '.join(sorted(told - {'committed'}))}"
        for trade, told in ends.items()
        if "committed" in told and len(told) > 1
    ]


def long_held(entries: Sequence[Entry]) -> list[str]:
    """Of a committed intent only what it locks counts: without, it waits for nobody but the sweep that removes it."""
    wrong = []
    storeless = [(strike.at_s, strike.over_s) for strike in strikes(entries) if strike.kind in STORELESS]
    for entry in entries:
        if entry.who == STORE and entry.op == "held":
            kind, where, what, least_s, most_s = entry.value
            begin_s = entry.t - most_s
            waited_s = sum(max(0.0, min(over, entry.t) - max(at, begin_s)) for at, over in storeless)
            longest_s = most_s if most_s - least_s < COARSE_S else least_s
            if longest_s - waited_s > LOCKED_S and (kind, what) != ("intent", COMMITTED):
                wrong.append(f"{kind} {where} {what}: for {least_s:.0f} to {most_s:.0f} s, not {LOCKED_S:.0f}")
    return wrong


def unsettled(entries: Iterable[Entry], documents: Mapping[str, bytes]) -> list[str]:
    """After a time in which nobody played, nothing may be left on its way."""
    quiet_s = next((entry.value[0] for entry in entries if entry.who == STORE and entry.op == "settled"), None)
    if quiet_s is None:
        return []
    return [f"{' '.join(hold)} is left, though nobody played for {quiet_s:.0f} s" for hold in held(documents)]


# -- owners ------------------------------------------------------------------------------------------------------------
class _Owners:
    """Who was seen to own which unit at which epoch."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[str, int]] = {}
        self.wrong: list[str] = []

    def saw(self, where: str, unit: str, epoch: int, server: str, generation: int) -> None:
        """``generation`` 0: not told."""
        known = self._known.get((unit, epoch))
        if known is None or (known[0] == server and not known[1]):
            self._known[unit, epoch] = (server, generation)
        elif known[0] != server or (generation and known[1] != generation):
            self.wrong.append(f"{unit} at epoch {epoch}: {known} and ({server}, {generation}), by {where}")


def owners(entries: Iterable[Entry]) -> list[str]:
    seen = _Owners()
    heads: dict[str, tuple[int, int]] = {}
    avatars: dict[int, int] = {}
    for entry in entries:
        value: Any = entry.value
        if entry.op == "guest" and entry.type == "ok":
            avatars[entry.who] = value["avatar"]
        elif entry.op == "attached" and avatars.get(entry.who):
            seen.saw("attached", avatar_unit(avatars[entry.who]), value["epoch"], value["server"], 0)
        elif entry.who == STORE and entry.op == "region":
            x, y, epoch, server, generation = value
            seen.saw("the picture", f"region:{x},{y}", epoch, server, generation)
        elif entry.who == STORE and entry.op == "head":
            unit, owner, generation, epoch, version = value
            if owner:
                seen.saw("the store", unit, epoch, owner, generation)
            if (epoch, version) <= heads.get(unit, (0, -1)):
                seen.wrong.append(f"{unit} went from {heads[unit]} back to {(epoch, version)} at {entry.t:.2f}")
            heads[unit] = (epoch, version)
    return seen.wrong
