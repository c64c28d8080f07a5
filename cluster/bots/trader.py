"""The trades of one bot: whom it walks up to, and the commands that its haggler wishes for, one at a time."""

import asyncio
import math
import random
from collections.abc import Sequence

from cluster.bots.client import Client, ClientError, Outcome
from cluster.bots.haggler import Haggler, Json
from cluster.bots.measure import Tally
from world.limits import BOT_COMMAND_S, BOT_MEET_S, BOT_TRADE_EVERY_S, TRADE_REACH_M


class Trader:
    """``others``: the traders of this worker process, this one among them."""

    def __init__(self, tally: Tally, others: "Sequence[Trader]", rng: random.Random) -> None:
        self._tally = tally
        self._others = others
        self._rng = rng
        self._haggler = Haggler(rng)
        self._result: asyncio.Future[Outcome] | None = None
        self._result_due_s = 0.0
        self._next_s = 0.0
        self._until_s = 0.0  # it walks up to ``_meets`` until then
        self._meets: Trader | None = None
        self.client: Client | None = None  # once it has entered
        self.x = 0.0
        self.y = 0.0

    def told(self, event: Json) -> None:
        before = self._haggler.committed
        self._haggler.told(event)
        self._tally.traded += self._haggler.committed - before

    def entered(self, client: Client, now_s: float) -> None:
        self.client = client
        self._next_s = now_s + self._rng.uniform(0, BOT_TRADE_EVERY_S)

    @property
    def stands(self) -> bool:
        """In a trade."""
        return self._haggler.partner > 0

    @property
    def goal(self) -> tuple[float, float] | None:
        """Where the one stands whom it walks up to."""
        return None if self._meets is None or self.stands else (self._meets.x, self._meets.y)

    def act(self, x: float, y: float, now_s: float) -> None:
        """Five times a second."""
        self.x, self.y = x, y
        client = self.client
        if client is None or not self._free(now_s):
            return
        self._choose(client, now_s)
        met = self._meets
        near = (
            [met.client.avatar]
            if met is not None and met.client is not None and self._gap(met) < TRADE_REACH_M / 2
            else []
        )
        wish = self._haggler.wish(client.inventory, near)
        if wish is None:
            return
        if wish.op == "trade_invite":
            self._meets = None
        self._result = client.begin(wish.op, **wish.args)
        self._result_due_s = now_s + BOT_COMMAND_S

    def _choose(self, client: Client, now_s: float) -> None:
        """Somebody to trade with, now and then, when there is something to give."""
        if self.stands or now_s > self._until_s:
            self._meets = None
        if self.stands or now_s < self._next_s or not any(client.inventory.values()):
            return
        self._next_s = now_s + BOT_TRADE_EVERY_S * self._rng.uniform(0.5, 1.5)
        others = [t for t in self._others if t is not self and t.client is not None and not t.stands]
        if others:
            self._meets, self._until_s = min(others, key=self._gap), now_s + BOT_MEET_S

    def _gap(self, other: "Trader") -> float:
        return math.hypot(other.x - self.x, other.y - self.y)

    def _free(self, now_s: float) -> bool:
        """No command is without result; one that takes too long is given up, and counted."""
        result = self._result
        if result is None:
            return True
        if not result.done() and now_s <= self._result_due_s:
            return False
        self._result = None
        if not result.done():
            self._tally.errors["trade_timeout"] += 1
            return True
        error = result.exception()
        if isinstance(error, ClientError):
            self._tally.errors[error.kind] += 1
            self._haggler.forget()
        elif not result.result().ok:
            self._tally.refusals[result.result().code] += 1
        return True
