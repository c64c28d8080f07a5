"""Handles: the same surface on real and ghost, keys and ordinals of the calls, and the registry's guards."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from tests.support.aio import run
from world.handle import Handle, Scope
from world.ids import entity_id, natural_id
from world.limits import COMMAND_MUTATOR_CALLS
from world.message_values import Change
from world.messages import Actor, Json, Key
from world.results import Refusal, command_key
from world.rules import Context
from world.rules.registry import command, find
from world.unit import View

TREE = natural_id(2, 3, 4, 5)
AVATAR = entity_id(1, 9)


class Recorder:
    """A Runtime that writes down calls."""

    def __init__(self) -> None:
        self.views: dict[int, View] = {
            TREE: View(TREE, 1, 10.0, 20.0, {"wood": 3}, stale=True),
            AVATAR: View(AVATAR, 1, 13.0, 24.0, {"name": "Wren", "items": {"wood": 1}, "x": 13.0, "y": 24.0}),
        }
        self.calls: list[tuple[int, str, Json, Key, Actor | None]] = []
        self.transactions: list[tuple[int, list[Change], Key, Json | None]] = []

    def view(self, entity: int) -> View | None:
        return self.views.get(entity)

    def knows(self, entity: int) -> bool:
        return entity in self.views

    def near(self, x: float, y: float, radius: float, kind: int | None = None) -> list[View]:
        return [self.views[TREE]]

    def actor(self, avatar: int) -> Actor:
        return Actor(avatar, 1, "Wren", 13.0, 24.0, 4.0)

    def area_event(self, entity: int, body: Json) -> None: ...

    async def invoke(self, entity: int, mutator: str, args: Json, key: Key, actor: Actor | None) -> Json:
        self.calls.append((entity, mutator, args, key, actor))
        return {"done": True}

    async def transact(self, avatar: int, changes: Sequence[Change], key: Key, result: Json | None) -> None:
        self.transactions.append((avatar, list(changes), key, result))

    async def bargain(self, avatar: int, trade: str, act: str, args: Json, key: Key) -> Json:
        return {}

    def bargain_ended(self, avatar: int, trade: str, code: str, commit: str) -> None: ...


def handles() -> tuple[Recorder, Any, Handle]:
    runtime = Recorder()
    scope = Scope(runtime, command_key(f"avatar:{AVATAR}", 2, 7, floor=3, digest="d"))
    return runtime, Handle(TREE, scope), Handle(AVATAR, scope, own=True)


def test_a_rule_reads_fields_and_place() -> None:
    _, tree, avatar = handles()
    assert (tree.wood, tree.x, tree.y, tree.stale) == (3, 10.0, 20.0, True)
    assert tree.distance(avatar) == 5.0


def test_what_is_not_declared_or_not_public_is_no_attribute() -> None:
    runtime, tree, avatar = handles()
    for name in ("stone", "gather", "values", "receive"):
        with pytest.raises(AttributeError):
            getattr(tree, name)
    assert dict(avatar.items) == {"wood": 1}
    with pytest.raises(AttributeError):
        _ = Handle(AVATAR, Scope(runtime, Key("a", 1, 1))).items


def test_each_call_carries_its_key_and_the_actors_facts() -> None:
    runtime, tree, avatar = handles()

    async def rule() -> None:
        assert await tree.chop(by=avatar) == {"done": True}
        await tree.chop(by=avatar, hard=True)

    run(rule())
    (first, second) = runtime.calls
    assert first[3] == Key(f"avatar:{AVATAR}", 2, 7, "region:3,4", "chop", 0, 3, "d")
    assert (second[3].ordinal, second[2]) == (1, {"hard": True})
    assert first[4] == runtime.actor(AVATAR)


def test_a_command_cannot_call_for_ever() -> None:
    runtime, tree, avatar = handles()

    async def rule() -> None:
        while True:
            await tree.chop(by=avatar)

    with pytest.raises(Refusal) as refused:
        run(rule())
    assert refused.value.code == "busy"
    assert len(runtime.calls) == COMMAND_MUTATOR_CALLS


def test_what_vanished_is_no_target() -> None:
    runtime, tree, _ = handles()
    runtime.views.clear()
    with pytest.raises(Refusal) as refused:
        _ = tree.wood
    assert refused.value.code == "no_such_target"


def test_a_context_finds_what_is_near() -> None:
    runtime, *_ = handles()
    context = Context(runtime, AVATAR, command_key(f"avatar:{AVATAR}", 2, 7))
    assert [h.id for h in context.near(20.0)] == [TREE]
    assert context.find(TREE).wood == 3
    with pytest.raises(Refusal):
        context.find(natural_id(2, 9, 9, 9))


def test_commands_are_registered_once_and_refuse_unknown_fields() -> None:
    class Loose(msgspec.Struct):
        pass

    class Strict(msgspec.Struct, forbid_unknown_fields=True):
        pass

    with pytest.raises(ValueError, match="unknown fields"):
        command("loose", Loose)
    with pytest.raises(ValueError, match="taken"):
        command("say", Strict)
    with pytest.raises(Refusal):
        find("nothing")
