"""Declared fields: the table, the working copy and its guard."""

import msgspec
import pytest

from world.entity import COMMIT, OWNER, PUBLIC, SERVER, VOLATILE, Entity, entity, field, table, table_of
from world.ids import entity_id
from world.kinds import Avatar, Tree
from world.results import Refusal


def test_the_table_names_every_kind_and_its_published_groups() -> None:
    kinds = table()
    assert {k: t.name for k, t in kinds.items()} == {1: "avatar", 2: "tree", 3: "rock", 4: "bush"}
    assert dict(kinds[1].groups) == {0: ("name",)}
    assert kinds[1].visible(OWNER) == ("items",)
    assert list(kinds[2].mutators) == ["chop"]


def test_groups_travel_as_arrays_and_tolerate_other_versions() -> None:
    tree = table()[2]
    assert tree.encode_group(0, {"wood": 3}) == b"[3]"
    assert tree.decode_group(0, b"[3]") == {"wood": 3}
    assert tree.decode_group(0, b"[]") == {"wood": 5}
    assert tree.decode_group(0, [2, "newer"]) == {"wood": 2}
    assert tree.decode_group(9, b"[1]") == {}
    with pytest.raises(msgspec.ValidationError):
        tree.decode_group(0, b'["x"]')


def test_fields_are_written_by_mutators_only_and_checked() -> None:
    tree = Tree(entity_id(2, 1), 0.0, 0.0)
    with pytest.raises(AttributeError):
        tree.wood = 1
    tree.open()
    with pytest.raises(msgspec.ValidationError):
        tree.wood = -1


def test_closing_without_keeping_undoes_everything() -> None:
    tree = Tree(entity_id(2, 1), 0.0, 0.0)
    before = tree.open()
    tree.wood = 1
    assert tree.close(before, keep=False) is None
    assert tree.wood == 5


def test_closing_tells_the_most_urgent_class() -> None:
    avatar = Avatar(entity_id(1, 1), 0.0, 0.0)
    before = avatar.open()
    avatar.x = 3.0
    assert avatar.close(before, keep=True) is VOLATILE
    before = avatar.open()
    avatar.x, avatar.items = 4.0, {"wood": 1}
    assert avatar.close(before, keep=True) is COMMIT


def test_values_cannot_be_changed_in_place() -> None:
    avatar = Avatar(entity_id(1, 1), 0.0, 0.0, {"items": {"wood": 1}})
    with pytest.raises(TypeError):
        avatar.items["wood"] = 9
    before = avatar.open()
    mine = {"wood": 2}
    avatar.items = mine
    mine["wood"] = 99
    assert avatar.items == {"wood": 2}
    assert before["items"] == {"wood": 1}


def test_nodes_receive_nothing() -> None:
    with pytest.raises(Refusal):
        Tree(entity_id(2, 1), 0.0, 0.0).receive({"wood": 1})


def test_wrong_declarations_are_refused() -> None:
    class Mixed(Entity):
        a: int = field(COMMIT, PUBLIC, default=0)
        b: int = field(COMMIT, SERVER, default=0)

    with pytest.raises(ValueError, match="mixes"):
        entity(kind=30, name="mixed")(Mixed)
    with pytest.raises(ValueError, match="taken"):
        entity(kind=2, name="again")(Mixed)


def test_an_id_of_no_kind_is_no_target() -> None:
    with pytest.raises(Refusal) as refused:
        table_of(entity_id(29, 1))
    assert refused.value.code == "no_such_target"
