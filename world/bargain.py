"""A trade being negotiated between two avatars: invite, both place items, both confirm, commit. Pure and volatile: it
is kept by the owner of the inviter's avatar, moves with it by hand-off, and is lost with that process.

::

    INVITED ──accept──> OPEN ──second confirm──> COMMITTING ──end──> COMMITTED
       │                 │ ^                       │     │
       │                 │ └── end: put off ───────┘     │
       └───────cancel, leave, time, distance──> CLOSED <─┘ end: refused

``version`` counts the offers: who confirms names the one that he has seen. ``serial`` counts all changes: what is told
goes by several ways, and the newest counts. The durable part is ``world.trade``'s, run by the owner of whoever confirms
second.
"""

from enum import StrEnum
from typing import Final

import msgspec

from world.limits import TRADE_ANSWERS_KEPT, TRADE_IDLE_S, TRADE_INVITE_S, TRADE_KINDS, TRADE_SILENT_MS, TRADE_STAY_M
from world.messages import Json
from world.results import Refusal


class Phase(StrEnum):
    INVITED = "invited"
    OPEN = "open"
    COMMITTING = "committing"
    COMMITTED = "committed"
    CLOSED = "closed"


ENDS: Final = frozenset({Phase.COMMITTED, Phase.CLOSED})
REASONS: Final = ("", "cancelled", "declined", "too_far", "left", "timeout", "lost", "not_enough", "no_room")
REFUSED_FOR_GOOD: Final = frozenset({"not_enough", "no_room"})  # ends of a commit that close the trade


class Side(msgspec.Struct):
    """One of the two. ``x``, ``y``: metres, as last said by its owner. ``heard_ms``: own clock."""

    avatar: int
    name: str
    x: float
    y: float
    heard_ms: float = 0.0
    items: dict[str, int] = {}
    confirmed: bool = False


class Bargain(msgspec.Struct):
    """See the module's text. Times are milliseconds of the keeper's own clock."""

    trade: str
    inviter: Side
    partner: Side
    acted_ms: float = 0.0
    phase: Phase = Phase.INVITED
    version: int = 1
    serial: int = 1
    reason: str = ""
    commit: str = ""  # the transaction that is to commit it
    answers: dict[str, Json] = {}  # of the last deeds, by their keys

    @property
    def is_over(self) -> bool:
        return self.phase in ENDS

    def side(self, avatar: int) -> Side:
        """Raises Refusal ``trade_closed`` for who takes no part."""
        for side in (self.inviter, self.partner):
            if side.avatar == avatar:
                return side
        raise Refusal("trade_closed", "it is another's trade")

    def other(self, avatar: int) -> Side:
        return self.partner if avatar == self.inviter.avatar else self.inviter

    # -- deeds ---------------------------------------------------------------------------------------------------------
    def act(self, avatar: int, act: str, args: Json, key: str, now_ms: float) -> Json:
        """One deed, once however often it is repeated (``key``); its answer. Raises Refusal ``trade_closed``,
        ``trade_changed``, ``bad_arguments``."""
        side = self.side(avatar)
        if key and key in self.answers:
            return self.answers[key]
        deed = {
            "accept": self._accept,
            "offer": self._offer,
            "confirm": self._confirm,
            "cancel": self._cancel,
            "end": self._end,
            "leave": self._leave,
        }.get(act)
        if deed is None:
            raise Refusal("bad_arguments", act[:32])
        answer = deed(side, args)
        self.serial += 1
        self.acted_ms = now_ms
        if key:
            self.answers[key] = answer
            while len(self.answers) > TRADE_ANSWERS_KEPT:
                del self.answers[next(iter(self.answers))]
        return answer

    def _must_be(self, *phases: Phase) -> None:
        if self.phase not in phases:
            raise Refusal("trade_closed", f"it is {self.phase.value}")

    def _accept(self, side: Side, args: Json) -> Json:
        self._must_be(Phase.INVITED)
        if side is not self.partner:
            raise Refusal("trade_closed", "the other one was invited")
        self.phase = Phase.OPEN
        return {}

    def _offer(self, side: Side, args: Json) -> Json:
        self._must_be(Phase.OPEN)
        items: dict[str, int] = dict(args["items"])
        if len(items) > TRADE_KINDS:
            raise Refusal("bad_arguments", "too many kinds of items")
        side.items = items
        self._clear()
        return {"version": self.version}

    def _clear(self) -> None:
        self.version += 1
        self.inviter.confirmed = self.partner.confirmed = False

    def _confirm(self, side: Side, args: Json) -> Json:
        """{"commit": who gives what} where both have confirmed, else {}."""
        self._must_be(Phase.OPEN)
        if args["version"] != self.version:
            raise Refusal("trade_changed", "the offers have changed")
        side.confirmed = True
        other = self.other(side.avatar)
        if not other.confirmed:
            return {}
        self.phase, self.commit = Phase.COMMITTING, str(args["commit"])
        return {"partner": other.avatar, "mine": side.items, "theirs": other.items}

    def _cancel(self, side: Side, args: Json) -> Json:
        self._must_be(Phase.INVITED, Phase.OPEN)
        declined = self.phase is Phase.INVITED and side is self.partner
        self.close("declined" if declined else "cancelled")
        return {}

    def _leave(self, side: Side, args: Json) -> Json:
        self._must_be(Phase.INVITED, Phase.OPEN)
        self.close("left")
        return {}

    def _end(self, side: Side, args: Json) -> Json:
        """Of the commit: ``code`` "" where it is committed. Late news of another one are no news."""
        if self.phase is Phase.COMMITTING and args["commit"] == self.commit:
            self.ended(str(args["code"]))
        return {}

    def ended(self, code: str) -> None:
        self._must_be(Phase.COMMITTING)
        self.commit = ""
        if not code:
            self.phase = Phase.COMMITTED
        elif code in REFUSED_FOR_GOOD:
            self.close(code)
        else:  # nothing happened: they may confirm anew
            self.phase = Phase.OPEN
            self._clear()

    def close(self, reason: str) -> None:
        self.phase, self.reason, self.commit = Phase.CLOSED, reason, ""

    # -- time and place ----------------------------------------------------------------------------------------------
    def hear(self, avatar: int, x: float, y: float, now_ms: float) -> None:
        """Its owner says that it is there."""
        side = self.side(avatar)
        side.x, side.y, side.heard_ms = x, y, now_ms

    def look(self, now_ms: float) -> bool:
        """Close it for time, silence or distance; True where that was so. Not while it commits."""
        if self.phase not in (Phase.INVITED, Phase.OPEN):
            return False
        patience_s = TRADE_INVITE_S if self.phase is Phase.INVITED else TRADE_IDLE_S
        a, b = self.inviter, self.partner
        if now_ms - b.heard_ms > TRADE_SILENT_MS:
            self.close("lost")
        elif (a.x - b.x) ** 2 + (a.y - b.y) ** 2 > TRADE_STAY_M**2:
            self.close("too_far")
        elif now_ms - self.acted_ms > patience_s * 1_000:
            self.close("timeout")
        else:
            return False
        self.serial += 1
        return True

    def view(self, avatar: int) -> Json:
        """As this one is told: the whole state."""
        mine, theirs = self.side(avatar), self.other(avatar)
        inviting = self.phase is Phase.INVITED and avatar == self.inviter.avatar
        return {
            "kind": "trade",
            "trade": self.trade,
            "state": "inviting" if inviting else self.phase.value,
            "with": {"id": theirs.avatar, "name": theirs.name},
            "mine": mine.items,
            "theirs": theirs.items,
            "i_confirmed": mine.confirmed,
            "they_confirmed": theirs.confirmed,
            "version": self.version,
            "reason": self.reason,
        }


def trade_id(avatar: int, session: int, number: int) -> str:
    """Of the trade that this avatar's command begins: a repeat begins the same."""
    return f"{avatar}.{session}.{number}"


def inviter_of(trade: str) -> int:
    """Raises Refusal ``trade_closed`` for what is no trade's id."""
    avatar = trade.partition(".")[0]
    if not avatar.isdecimal() or len(avatar) > 16:
        raise Refusal("trade_closed", "there is no such trade")
    return int(avatar)


def closed(trade: str, reason: str) -> Json:
    """What is told of a trade of which nothing else is known."""
    blank = {"mine": {}, "theirs": {}, "i_confirmed": False, "they_confirmed": False, "version": 0}
    return {
        "kind": "trade",
        "trade": trade,
        "state": "closed",
        "with": {"id": 0, "name": ""},
        **blank,
        "reason": reason,
    }
