"""A trade's commit as a text that people read: messages, states of both roles, writes, in the order in which they
happened. As ``tests.support.transcript``, of two units and an intent."""

import os
from collections import deque
from collections.abc import Callable
from typing import Any

from gameserver.trading import Run, Trading
from gameserver.trading_keepers import Keepers, Keeping
from runtime.mesh import envelope as envelopes
from tests.support.game import Game
from tests.support.traders import Pair
from tests.support.transcript import FOLDER, RECENT
from world.messages import Busy, ClientCommand, CommandResult, Decided, Lock, Message, Moved, Ok, Problem, decode
from world.transaction_document import Intent
from world.unit_document import UnitDocument


class TradeTranscript:
    """Of one trade. ``when(node, state, act)``: the creator's states by their names, a keeper's with its unit's
    letter."""

    def __init__(self, game: Game, pair: Pair) -> None:
        self.lines: list[str] = []
        self._game = game
        self._letters = {pair.a.unit: "A", pair.b.unit: "B"}
        self._recent: deque[str] = deque(maxlen=RECENT)
        self._strikes: dict[tuple[str, str], Callable[[], None]] = {}
        game.network._arrive = self._arriving(game.network._arrive)  # type: ignore[method-assign]
        game.store.table.put = self._putting(game.store.table.put)  # type: ignore[method-assign,assignment]
        game.store.table.remove = self._removing(game.store.table.remove)  # type: ignore[method-assign]
        for node, server in game.servers.items():
            self._follow(node, server.game.trading, server.game.trading.keepers)

    def add(self, line: str) -> None:
        if line not in self._recent:
            self.lines.append(line)
        self._recent.append(line)

    def when(self, node: str, state: str, act: Callable[[], None]) -> None:
        """``act()`` at the moment when that server comes to that state."""
        self._strikes[node, state] = act

    def _follow(self, node: str, trading: Trading, keepers: Keepers) -> None:
        def runs(run: Run) -> None:
            self._state(node, run.role.state.value)

        def keeps(keeping: Keeping) -> None:
            self._state(node, f"{keeping.role.state.value} {self._letters[keeping.owned.key]}")

        trading._entered = runs  # type: ignore[method-assign]
        keepers._entered = keeps  # type: ignore[method-assign]

    def _state(self, node: str, state: str) -> None:
        if node not in self._game.servers:
            return
        self.add(f"{node:4} is {state}")
        act = self._strikes.pop((node, state), None)
        if act is not None:
            self.add(f"{'':4} a server dies")
            act()

    def _say(self, message: Message) -> str:
        match message:
            case Lock():
                return f"Lock {self._letters[message.unit]}"
            case Decided():
                return f"Decided {'committed' if message.committed else 'aborted'}, {self._letters[message.unit]}"
            case ClientCommand() if message.op == "trade_confirm":
                return "ClientCommand trade_confirm"
            case CommandResult():
                return f"CommandResult {message.value if message.ok else message.code}"
            case Problem():
                return f"Problem {message.code}"
            case Ok() | Busy() | Moved():
                return ""
            case _:
                return ""

    def _arriving(self, arrive: Callable[..., None]) -> Callable[..., None]:
        def seen(source: str, target: Any, data: bytes) -> None:
            said = self._say(decode(envelopes.decode(data).body))
            if said and not target.gone and (source, target.node) not in self._game.network._cut:
                self.add(f"{source:4} -> {target.node:4} {said}")
            arrive(source, target, data)

        return seen

    def _putting(self, put: Callable[[str, bytes], int]) -> Callable[[str, bytes], int]:
        def seen(key: str, value: bytes) -> int:
            if key in self._letters:
                document = UnitDocument.parse(value)
                holds = "locked" if document.pending else "applied" if document.done else "free"
                self.add(f"store: {self._letters[key]} of {document.owner or 'nobody'}, {holds}")
            elif key.startswith("tx:"):
                intent = Intent.parse(value)
                applied = "".join(self._letters[unit] for unit in intent.applied)
                self.add(f"store: intent {intent.state}{', applied ' + applied if applied else ''}")
            return put(key, value)

        return seen

    def _removing(self, remove: Callable[..., None]) -> Callable[..., None]:
        def seen(key: str, cas: int) -> None:
            remove(key, cas)
            if key.startswith("tx:"):
                self.add("store: intent removed")

        return seen

    def check(self, name: str, title: str) -> None:
        """Against the golden file. AssertionError with the difference."""
        text = "\n".join([f"# {title}", "", *self.lines, ""])
        path = FOLDER / f"{name}.txt"
        if os.environ.get("PROJECTK_TEST_REWRITE"):
            path.write_text(text)
        assert path.exists(), f"{path} is missing: PROJECTK_TEST_REWRITE=1 writes it"
        assert text == path.read_text(), "another order of events: review it, and write it with PROJECTK_TEST_REWRITE=1"
