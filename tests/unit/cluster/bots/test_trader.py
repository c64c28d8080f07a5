"""Bots that trade: they walk up to each other, come to terms, and count what became of it."""

import asyncio
import random
from typing import Any, cast

from cluster.bots.client import Client, ClientError, Outcome
from cluster.bots.measure import Tally
from cluster.bots.trader import Trader
from world.bargain import Bargain, Phase, Side
from world.limits import BOT_COMMAND_S
from world.results import Refusal


class Table:
    """One bargain at a time, between whoever invites; ``begin`` of both clients ends here."""

    def __init__(self) -> None:
        self.bargain: Bargain | None = None
        self.done = 0
        self.traders: dict[int, Trader] = {}
        self.silent = False

    def begin(self, avatar: int, op: str, args: dict[str, Any]) -> "asyncio.Future[Outcome]":
        result: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if self.silent:
            return result
        try:
            self._act(avatar, op, args)
            result.set_result(Outcome(1, True, "", "", {}))
        except Refusal as refusal:
            result.set_result(Outcome(1, False, refusal.code, "", {}))
        return result

    def _act(self, avatar: int, op: str, args: dict[str, Any]) -> None:
        self.done += 1
        if op == "trade_invite":
            if self.bargain is not None and not self.bargain.is_over:
                raise Refusal("trade_busy")
            self.bargain = Bargain(f"t{self.done}", Side(avatar, "a", 0, 0), Side(args["target"], "b", 0, 0))
        assert self.bargain is not None
        if op != "trade_invite":
            self.bargain.act(avatar, op.removeprefix("trade_"), {**args, "commit": "x"}, f"{self.done}", 0.0)
        if self.bargain.phase is Phase.COMMITTING:
            self.bargain.ended("")
        for one, trader in self.traders.items():
            trader.told(self.bargain.view(one))


class FakeClient:
    def __init__(self, table: Table, avatar: int) -> None:
        self.avatar, self.inventory, self._table = avatar, {"wood": 3}, table

    def begin(self, op: str, **args: Any) -> "asyncio.Future[Outcome]":
        return self._table.begin(self.avatar, op, args)


def two(tally: Tally) -> Table:
    table, traders = Table(), list[Trader]()
    for avatar in (1, 2):
        trader = Trader(tally, traders, random.Random(avatar))
        traders.append(trader)
        trader.entered(cast(Client, FakeClient(table, avatar)), 0.0)
        table.traders[avatar] = trader
    return table


def test_they_meet_and_trade() -> None:
    async def play() -> None:
        tally = Tally()
        table = two(tally)
        one, other = table.traders.values()
        at, met = 20.0, False
        for n in range(600):
            one.act(0.0, 0.0, n / 5)
            other.act(at, 0.0, n / 5)
            if other.goal is not None and not other.stands:
                met, at = True, max(at - 1.2, 1.0)
            if one.stands:
                assert one.goal is None
        assert met
        assert tally.traded >= 2
        assert tally.traded % 2 == 0
        assert not tally.errors

    asyncio.run(play())


def test_what_takes_too_long_is_given_up_and_counted() -> None:
    async def play() -> None:
        tally = Tally()
        table = two(tally)
        table.silent = True
        for n in range(int(BOT_COMMAND_S * 5) + 100):
            for trader in table.traders.values():
                trader.act(0.0, 0.0, n / 5)
        assert tally.errors["trade_timeout"] >= 1

    asyncio.run(play())


def test_an_old_sessions_answer_ends_the_trade_it_belonged_to() -> None:
    async def play() -> None:
        tally = Tally()
        table = two(tally)
        one = table.traders[1]
        one.told(Bargain("t", Side(2, "b", 0, 0), Side(1, "a", 0, 0)).view(1))
        before = one.stands
        lost: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        lost.set_exception(ClientError("unknown_outcome"))
        one._result = lost
        one.act(0.0, 0.0, 0.1)
        assert (before, one.stands) == (True, False)
        assert tally.errors["unknown_outcome"] == 1

    asyncio.run(play())
