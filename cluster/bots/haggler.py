"""A player's part in trades: from what it is told to its next command. No I/O: bots, the simulation and the chaos crowd
send what it wants, and tell it how that ended."""

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Json = dict[str, Any]

OVER = frozenset({"", "committed", "closed"})


class Wish(NamedTuple):
    """One command."""

    op: str
    args: Json


class Haggler:
    """Eager to trade, and not patient: offers something of what it has, confirms once both have offered, now and then
    changes its mind. ``committed``: trades that it was told are done."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._offered = 0  # how often, in this trade
        self._confirmed = 0  # the version
        self.trade: Json = {}  # the last state told
        self.committed = 0
        self.waiting = False  # a command of mine has no result yet

    @property
    def state(self) -> str:
        return str(self.trade.get("state", ""))

    @property
    def partner(self) -> int:
        """0 while there is no trade."""
        return 0 if self.state in OVER else int(self.trade["with"]["id"])

    def told(self, event: Json) -> None:
        """A numbered event came."""
        if event.get("kind") != "trade":
            return
        if event["trade"] != self.trade.get("trade"):
            self._offered = self._confirmed = 0
        self.committed += event["state"] == "committed" != self.state
        self.trade = event

    def forget(self) -> None:
        """A new session: what was told before is of another."""
        self.trade, self.waiting = {}, False

    def wish(self, inventory: Mapping[str, int], near: Sequence[int]) -> Wish | None:
        """What to do now; ``near``: avatars that might be invited. None: nothing."""
        if self.waiting:
            return None
        if self.state in OVER:
            someone = near and any(inventory.values())
            return Wish("trade_invite", {"target": self._rng.choice(near)}) if someone else None
        if self._rng.random() < 0.03:
            return self._wish("trade_cancel")
        if self.state == "invited":
            return self._wish("trade_accept")
        if self.state == "open":
            return self._bargain(inventory)
        return None

    def _bargain(self, inventory: Mapping[str, int]) -> Wish | None:
        version = int(self.trade["version"])
        if not self._offered or (self._offered < 3 and self._rng.random() < 0.1):
            self._offered += 1
            return self._wish("trade_offer", items=self._some(inventory))
        if version >= 3 and not self.trade["i_confirmed"] and self._confirmed != version:
            self._confirmed = version
            return self._wish("trade_confirm", version=version)
        return None

    def _some(self, inventory: Mapping[str, int]) -> Json:
        """Of some of the kinds, any number; nothing only where there is nothing."""
        has = [name for name, count in sorted(inventory.items()) if count]
        chosen = self._rng.sample(has, self._rng.randint(1, len(has))) if has else []
        return {name: self._rng.randint(1, inventory[name]) for name in chosen}

    def _wish(self, op: str, **args: Any) -> Wish:
        return Wish(op, {"trade": self.trade["trade"], **args})
