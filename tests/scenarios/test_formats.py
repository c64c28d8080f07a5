"""The cluster goes on to the next format of documents: from then on every way in which a unit is written writes it."""

import asyncio

import msgspec
import pytest

from runtime.store.format import KEY, ClusterFormat, raise_to
from tests.support.game import SEED, Game, nearest
from tests.support.virtual import run_virtual
from world.ids import NodeId
from world.limits import FORMAT, FORMAT_LOOK_MS
from world.message_values import Json
from world.unit_document import Head
from world.upgrades import FORMATS, STEPS, Formats, Step

OLD, NEW = FORMAT, FORMAT + 1


def up(document: Json) -> Json:
    del document["old"]
    return document


def down(document: Json) -> Json:
    return document | {"old": True}


class Written:
    """Formats of all units written since ``clear``, by key."""

    def __init__(self, game: Game) -> None:
        self.formats: dict[str, list[int]] = {}
        self._put = game.store.table.put
        game.store.table.put = self.put  # type: ignore[method-assign]

    def put(self, key: str, value: bytes) -> int:
        if key.startswith(("avatar:", "region:")):
            self.formats.setdefault(key, []).append(Head.parse(value).format)
            assert (b'"old":true' in value) == (self.formats[key][-1] == OLD), "the step was taken"
        return self._put(key, value)

    def all(self) -> set[int]:
        return {number for numbers in self.formats.values() for number in numbers}


def test_all_that_is_written_is_in_the_agreed_format(monkeypatch: pytest.MonkeyPatch) -> None:
    formats = Formats({**STEPS, OLD: {"unit": Step(up, down)}}, FORMATS.oldest, NEW)
    monkeypatch.setattr("world.unit_document.FORMATS", formats)
    monkeypatch.setattr("runtime.store.format.FORMAT", NEW)

    async def play() -> None:
        game = Game(2)
        game.store.table.insert(KEY, msgspec.json.encode(ClusterFormat(OLD, SEED)))
        async with game:
            written = Written(game)
            await every_kind_of_write(game, 1)
            assert written.all() == {OLD}
            assert await raise_to(game.store, NEW) == (OLD, NEW)
            await asyncio.sleep(FORMAT_LOOK_MS / 1_000 + 0.1)
            written.formats.clear()
            await every_kind_of_write(game, 3)
            assert written.all() == {NEW}
            assert game.fences.broken == []

    run_virtual(play())


async def every_kind_of_write(game: Game, number: int) -> None:
    """Two avatars and their region: created and taken, changed, handed over, released, swept after a death."""
    tree, x, y = nearest()
    one, other = await game.player(number, at="gs1"), await game.player(number + 1, at="gs1")
    await one.walk(x, y)
    assert (await one.gather(tree)).ok
    owned = game.servers["gs1"].game.table.get(one.unit)
    assert owned is not None
    assert await game.servers["gs1"].game.handing.give(owned, NodeId("gs2"))
    await game.until(lambda: one.server == "gs2" and not game.following(one), what="attached there")
    one.detach(leave=True)
    await game.until(lambda: game.owner(one.unit) == "", seconds=5, what="released")
    assert game.owner(other.unit) == "gs1"
    await game.kill("gs1")
    await game.until(lambda: game.owner(other.unit) == "", seconds=30, what="swept")
    await game.start("gs1")
    again = await one.attach("gs1")
    assert again.resync == {"name": f"Walker{number}", "inventory": {"wood": 1}}, "and what was written can be read"
    one.detach(leave=True)
    await game.until(lambda: game.owner(one.unit) == "", seconds=5, what="released")
