"""Two players who trade, for scenarios: they stand at the spawn and carry what the test wants."""

from collections.abc import Mapping
from typing import Any

from tests.support.game import Game, Player
from world.audit import audit
from world.messages import CommandResult, Json
from world.unit import Unit


def stored(game: Game, player: Player) -> dict[str, int]:
    """Its items, as committed."""
    return dict(game.document(player.unit)["data"]["entities"][str(player.avatar)].get("items", {}))


def give(game: Game, player: Player, items: Mapping[str, int]) -> None:
    """As if it had gathered them."""
    owned = game.servers[player.server].game.table.get(player.unit)
    assert owned is not None
    unit: Unit = owned.unit
    unit._receive(items)
    for name, count in items.items():
        unit.gained[name] = unit.gained.get(name, 0) + count
    unit.save()
    game.servers[player.server].game.table.touch(owned)


class Pair:
    """Two of them, A inviting."""

    def __init__(self, game: Game, a: Player, b: Player) -> None:
        self.game, self.a, self.b = game, a, b
        self.trade = ""

    async def invite(self) -> CommandResult:
        invited = await self.a.call("trade_invite", target=self.b.avatar)
        self.trade = invited.value.get("trade", "")
        return invited

    async def open(self) -> None:
        assert (await self.invite()).ok
        await self.game.until(lambda: self.state(self.b).get("state") == "invited", 2, "B is invited")
        assert (await self.b.call("trade_accept", trade=self.trade)).ok
        await self.until_state("open")

    async def offer(self, mine: Json, theirs: Json) -> None:
        for player, items in ((self.a, mine), (self.b, theirs)):
            offered = await player.call("trade_offer", trade=self.trade, items=items)
            assert offered.ok, offered
        await self.until(lambda p: self.state(p)["version"] == offered.value["version"], "both see the offers")

    async def confirm(self, *players: Player) -> list[Any]:
        """One after the other; values, or codes of refusals."""
        found: list[Any] = []
        for player in players or (self.a, self.b):
            said = await self.confirms(player)
            found.append(said.value if said.ok else said.code)
        return found

    async def confirms(self, player: Player, **how: Any) -> CommandResult:
        version = self.state(player)["version"]
        return await player.call("trade_confirm", trade=self.trade, version=version, **how)

    def state(self, player: Player) -> Json:
        """The newest that it was told."""
        told = [e for _, _, e in player.events if e["kind"] == "trade"]
        return told[-1] if told else {}

    async def until_state(self, state: str, seconds: float = 5.0) -> None:
        await self.until(lambda p: self.state(p).get("state") == state, f"both are told {state}", seconds)

    async def until(self, true: Any, what: str, seconds: float = 5.0) -> None:
        await self.game.until(lambda: true(self.a) and true(self.b), seconds, what)

    def sound(self) -> None:
        """Nothing was written twice or by two; items are what they were."""
        documents = {
            key: document.value
            for key, document in self.game.store.table.documents.items()
            if key.startswith(("avatar:", "region:", "tx:"))
        }
        assert self.game.fences.broken == []
        assert [p for p in audit(documents) if "given but" not in p] == []
        total: dict[str, int] = {}
        for player in (self.a, self.b):
            for name, count in stored(self.game, player).items():
                total[name] = total.get(name, 0) + count
        assert total == {"wood": 3, "stone": 3}


async def meet(game: Game, first: str, second: str) -> Pair:
    """A carries three wood, B three stones."""
    a, b = await game.player(1, at=first), await game.player(2, at=second)
    give(game, a, {"wood": 3})
    give(game, b, {"stone": 3})
    home, other = game.servers[first].game, game.servers[second].game
    await game.until(lambda: home.state.find(b.avatar) is not None, 5, "A sees B")
    await game.until(lambda: other.state.find(a.avatar) is not None, 5, "B sees A")
    await game.until(lambda: stored(game, a) == {"wood": 3} and stored(game, b) == {"stone": 3}, 5, "they have it")
    return Pair(game, a, b)
