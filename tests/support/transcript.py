"""A hand-off as a text that people read: messages, states, writes, in the order in which they happened.

Delays are fixed and the loop keeps its order, so that a run says the same every time. What repeats itself (a client
that asks again and again) is written once. ``check`` compares with a file; PROJECTK_TEST_REWRITE=1 writes the files
anew, to be reviewed as a diff.
"""

import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gameserver.handing import Giving, Handing
from gameserver.receiving import Offer, Receiving
from runtime.mesh import envelope as envelopes
from tests.support.game import Game
from world.messages import (
    Attach,
    Attached,
    Busy,
    ClientCommand,
    CommandResult,
    Detach,
    HandedOver,
    HandOff,
    HandOffAhead,
    Message,
    MoveAnswers,
    Moved,
    Problem,
    decode,
)
from world.unit_document import Head

FOLDER = Path(__file__).parents[1] / "scenarios/transcripts"
RECENT = 6  # lines within which a repetition is left out


def say(message: Message) -> str:
    """What of a message matters here; "" for what does not."""
    match message:
        case HandOff():
            return f"HandOff at epoch {message.epoch}"
        case HandedOver():
            return f"HandedOver to {message.server} at epoch {message.epoch}"
        case MoveAnswers():
            _, _, _, code, server, _, epoch = message.rows[0]
            return f"MoveAnswers {code}" + (f" to {server} at epoch {epoch}" if server or code == "moved" else "")
        case Attached():
            return f"Attached at epoch {message.epoch}, {'with' if message.resync else 'no'} resync"
        case Moved():
            return f"Moved to {message.server or 'nobody'}"
        case Problem():
            return f"Problem {message.code}"
        case ClientCommand():
            return f"ClientCommand {message.op}"
        case CommandResult():
            return f"CommandResult {'ok' if message.ok else message.code}"
        case Attach() | Detach() | Busy() | HandOffAhead():
            return type(message).__name__
        case _:
            return ""


class Story:
    """The lines of one game. ``say``: what of a message matters, "" for what does not."""

    def __init__(self, game: Game, say: Callable[[Message], str]) -> None:
        self.lines: list[str] = []
        self._game = game
        self._say = say
        self._recent: deque[str] = deque(maxlen=RECENT)
        self._strikes: dict[tuple[str, str], Callable[[], None]] = {}
        game.network._arrive = self._arriving(game.network._arrive)  # type: ignore[method-assign]
        game.store.table.put = self._putting(game.store.table.put)  # type: ignore[method-assign,assignment]

    def add(self, line: str) -> None:
        if line not in self._recent:
            self.lines.append(line)
        self._recent.append(line)

    def when(self, node: str, state: str, act: Callable[[], None]) -> None:
        """``act()`` at the moment when that server comes to that state."""
        self._strikes[node, state] = act

    def _entered(self, node: str, state: str, word: str = "") -> None:
        """``word``: said before it is struck."""
        if node not in self._game.servers:
            return
        self.add(f"{node:4} is {state}")
        act = self._strikes.pop((node, state), None)
        if act is not None:
            if word:
                self.add(f"{'':4} {word}")
            act()

    def _arriving(self, arrive: Callable[..., None]) -> Callable[..., None]:
        def seen(source: str, target: Any, data: bytes) -> None:
            said = self._say(decode(envelopes.decode(data).body))
            cut = target.gone or (source, target.node) in self._game.network._cut
            if said and not cut:
                self.add(f"{source:4} -> {target.node:4} {said}")
            arrive(source, target, data)

        return seen

    def _putting(self, put: Callable[[str, bytes], int]) -> Callable[[str, bytes], int]:
        def seen(key: str, value: bytes) -> int:
            if line := self._written(key, value):
                self.add(f"store: {line}")
            return put(key, value)

        return seen

    def _written(self, key: str, value: bytes) -> str:
        """What to say of a write, "" for nothing."""
        raise NotImplementedError

    def check(self, name: str, title: str) -> None:
        """Against the golden file. AssertionError with the difference."""
        text = "\n".join([f"# {title}", "", *self.lines, ""])
        path = FOLDER / f"{name}.txt"
        if os.environ.get("PROJECTK_TEST_REWRITE"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"{path} is missing: PROJECTK_TEST_REWRITE=1 writes it"
        assert text == path.read_text(), "another order of events: review it, and write it with PROJECTK_TEST_REWRITE=1"


class Transcript(Story):
    """Of one unit's hand-off; states are those of the server's side of it."""

    def __init__(self, game: Game, unit: str) -> None:
        super().__init__(game, say)
        self._unit = unit
        for node, server in game.servers.items():
            self._follow(node, server.game.handing, server.game.receiving)

    def _follow(self, node: str, handing: Handing, receiving: Receiving) -> None:
        def gives(giving: Giving) -> None:
            self._state(node, giving.owned.key, giving.role.state.value)

        def takes(offer: Offer) -> None:
            self._state(node, offer.message.unit, offer.role.state.value)

        handing._entered = gives  # type: ignore[method-assign]
        receiving._entered = takes  # type: ignore[method-assign]

    def _state(self, node: str, unit: str, state: str) -> None:
        if unit == self._unit:
            self._entered(node, state)

    def _written(self, key: str, value: bytes) -> str:
        if key != self._unit:
            return ""
        head = Head.parse(value)
        return f"owner {head.owner or 'nobody'}, epoch {head.epoch}, version {head.version}"
