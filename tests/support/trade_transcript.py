"""A trade's commit as a text that people read: messages, states of both roles, writes, in the order in which they
happened. As ``tests.support.transcript``, of two units and an intent."""

from collections.abc import Callable

from gameserver.trading import Run, Trading
from gameserver.trading_keepers import Keepers, Keeping
from tests.support.game import Game
from tests.support.traders import Pair
from tests.support.transcript import Story
from world.messages import ClientCommand, CommandResult, Decided, Lock, Message, Problem
from world.transaction_document import Intent
from world.unit_document import UnitDocument

DIES = "a server dies"


class TradeTranscript(Story):
    """Of one trade; the creator's states are said by their names, a keeper's with its unit's letter."""

    def __init__(self, game: Game, pair: Pair) -> None:
        super().__init__(game, self._tell)
        self._letters = {pair.a.unit: "A", pair.b.unit: "B"}
        game.store.table.remove = self._removing(game.store.table.remove)  # type: ignore[method-assign]
        for node, server in game.servers.items():
            self._follow(node, server.game.trading, server.game.trading.keepers)

    def _follow(self, node: str, trading: Trading, keepers: Keepers) -> None:
        def runs(run: Run) -> None:
            self._entered(node, run.role.state.value, DIES)

        def keeps(keeping: Keeping) -> None:
            self._entered(node, f"{keeping.role.state.value} {self._letters[keeping.owned.key]}", DIES)

        trading._entered = runs  # type: ignore[method-assign]
        keepers._entered = keeps  # type: ignore[method-assign]

    def _tell(self, message: Message) -> str:
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
            case _:
                return ""

    def _written(self, key: str, value: bytes) -> str:
        if key in self._letters:
            document = UnitDocument.parse(value)
            holds = "locked" if document.pending else "applied" if document.done else "free"
            return f"{self._letters[key]} of {document.owner or 'nobody'}, {holds}"
        if key.startswith("tx:"):
            intent = Intent.parse(value)
            applied = "".join(self._letters[unit] for unit in intent.applied)
            return f"intent {intent.state}{', applied ' + applied if applied else ''}"
        return ""

    def _removing(self, remove: Callable[..., None]) -> Callable[..., None]:
        def seen(key: str, cas: int) -> None:
            remove(key, cas)
            if key.startswith("tx:"):
                self.add("store: intent removed")

        return seen
