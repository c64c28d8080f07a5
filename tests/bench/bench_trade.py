"""What a trade costs: store writes, and processor time of two game servers.

``python -m tests.bench.bench_trade [--trades 300]``. Both servers and the players run in one process, over the fake
mesh and a store in memory, in virtual time: so processor time is what is measured, and a network or a disk is not. The
writes are counted at the store, those that were overtaken apart.
"""

import asyncio
import time
from collections import Counter
from typing import Annotated, Any

import typer

from tests.support.game import Game
from tests.support.traders import Pair, give, meet
from tests.support.virtual import run_virtual
from world.message_values import Change
from world.results import call_key, command_key


class Writes:
    """Counts what a store is asked to write, by kind of document and operation."""

    def __init__(self, game: Game) -> None:
        self.counts: Counter[str] = Counter()
        for operation in ("insert", "replace", "remove"):
            setattr(game.store, operation, self._counting(operation, getattr(game.store, operation)))

    def _counting(self, operation: str, call: Any) -> Any:
        async def counted(key: str, *args: Any, **how: Any) -> Any:
            kind = key.partition(":")[0]
            landed = False
            try:
                answer = await call(key, *args, **how)
                landed = True
                return answer
            finally:
                if kind in ("avatar", "region", "tx"):
                    self.counts[f"{operation} {kind}" if landed else "overtaken"] += 1

        return counted


async def transactions(game: Game, pair: Pair, count: int) -> None:
    """One after the other, without the negotiation: a piece of wood to and fro."""
    server = game.servers[pair.a.server].game
    owned = server.table.get(pair.a.unit)
    assert owned is not None
    for n in range(count):
        out, into = ({"wood": 1}, {}) if n % 2 == 0 else ({}, {"wood": 1})
        changes = [Change(pair.a.avatar, out, into), Change(pair.b.avatar, into, out)]
        command = command_key(pair.a.unit, 1, 1_000_000 + n, floor=1_000_000 + n - 20)
        await server.trading.transact(owned, changes, call_key(command, pair.a.unit, "transaction", 0), None)


async def trades(pair: Pair, count: int) -> None:
    """As players do it: invite, accept, two offers, two confirmations."""
    for n in range(count):
        await pair.open()
        await pair.offer({"wood": 1}, {"stone": 1}) if n % 2 == 0 else await pair.offer({"stone": 1}, {"wood": 1})
        await pair.confirm()
        await pair.until_state("committed")


async def measure(count: int) -> None:
    for servers, where in ((1, "both on one server"), (2, "on two servers")):
        async with Game(servers) as game:
            pair = await meet(game, "gs1", f"gs{servers}")
            give(game, pair.a, {"wood": 10})
            await asyncio.sleep(2)
            writes = Writes(game)
            for name, work in (("trade", trades(pair, count // 4)), ("transaction", transactions(game, pair, count))):
                done = count if name == "transaction" else count // 4
                writes.counts.clear()
                began_s = time.process_time()
                await work
                cpu_ms = (time.process_time() - began_s) * 1_000 / done
                await asyncio.sleep(3)
                each = sum(n for what, n in writes.counts.items() if what != "overtaken") / done
                print(f"{name}, {where}: {each:.2f} writes, {cpu_ms:.2f} ms of processor time, {dict(writes.counts)}")


def main(trades: Annotated[int, typer.Option(help="How many transactions; a quarter as many trades.")] = 300) -> None:
    run_virtual(measure(trades), seed=None)


if __name__ == "__main__":
    typer.run(main)
