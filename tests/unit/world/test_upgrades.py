"""Formats of documents: a release reads older ones, writes what the cluster has agreed on, and names newer ones."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from world.ids import AVATAR_KIND, entity_id
from world.message_values import Json
from world.unit import BadDocument, Unit
from world.unit_document import Head, UnitDocument
from world.upgrades import FORMATS, STEPS, Formats, Step

AVATAR = entity_id(AVATAR_KIND, 1)
KEY = f"avatar:{AVATAR}"


# -- two made-up steps: 1 → 2 renames a dict and makes it a list, 2 → 3 puts two fields under one ----
def bag_of(document: Json) -> Json:
    document["bag"] = [[name, count] for name, count in document.pop("items").items()]
    return document


def items_of(document: Json) -> Json:
    document["items"] = dict(document.pop("bag"))
    return document


def place_of(document: Json) -> Json:
    return document | {"place": [document.pop("x"), document.pop("y")]}


def x_and_y_of(document: Json) -> Json:
    x, y = document.pop("place")
    return document | {"x": x, "y": y}


THREE = Formats({1: {"unit": Step(bag_of, items_of)}, 2: {"unit": Step(place_of, x_and_y_of)}}, 1, 3)

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(1 << 53), 1 << 53)
documents = st.fixed_dictionaries(
    {"items": st.dictionaries(st.text(max_size=9), st.integers(0, 9)), "x": numbers, "y": numbers},
    optional={"later": st.text(max_size=9), "outbox": st.lists(st.integers(0, 9))},
)


@given(documents, st.integers(1, 3))
def test_what_is_written_in_an_older_format_is_read_as_it_was(document: dict[str, Any], at: int) -> None:
    value = msgspec.json.encode(document | {"format": 1})
    newest = THREE.read("unit", value)
    assert msgspec.json.decode(newest)["place"] == [document["x"], document["y"]]
    stored = THREE.write("unit", newest, at)
    assert msgspec.json.decode(stored)["format"] == at
    assert msgspec.json.decode(THREE.read("unit", stored)) == msgspec.json.decode(newest)
    assert msgspec.json.decode(THREE.write("unit", newest, 1)) == msgspec.json.decode(value)


def test_a_kind_without_a_step_changes_only_its_number() -> None:
    newest = THREE.read("account", b'{"format":1,"name":"x"}')
    assert msgspec.json.decode(newest) == {"format": 3, "name": "x"}
    assert msgspec.json.decode(THREE.write("account", newest, 2)) == {"format": 2, "name": "x"}


def test_a_document_that_does_not_say_is_of_the_first_format() -> None:
    assert msgspec.json.decode(THREE.read("account", b"{}")) == {"format": 3}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b'{"format":4}', "format 4, and this release reads 1 to 3: it was written by a newer release"),
        (b'{"format":0}', "format 0, and this release reads none below 1"),
        (b'{"format":"x"}', "format"),
        (b'{"format":1,"items":7}', "no document of format 1"),
        (b'{"format":1}', "no document of format 1: KeyError"),
        (b"{", "truncated"),
    ],
)
def test_documents_that_cannot_be_read_are_named(value: bytes, said: str) -> None:
    with pytest.raises(BadDocument, match=said):
        THREE.read("unit", value)


def test_a_release_with_a_step_missing_does_not_start() -> None:
    with pytest.raises(ValueError, match="no step from format 2 to 3"):
        Formats({1: {}}, 1, 3)


# -- on the paths of units ----------------------------------------------------------------------------
def test_a_unit_of_a_newer_release_is_not_touched() -> None:
    unit = Unit.new_avatar(AVATAR, "Ada", 1, 2)
    unit.begin_write()
    document = msgspec.json.decode(unit.document("gs1", 1, "w"))
    newer = msgspec.json.encode(document | {"format": FORMATS.newest + 1})
    with pytest.raises(BadDocument, match="written by a newer release"):
        Unit.load(KEY, newer, 1, 0)
    assert Head.parse(newer).owner == "gs1", "whose it is can be read in any format"


def test_units_are_loaded_from_and_written_in_the_agreed_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the middle of a deploy: this release's format is one higher than what the cluster writes."""

    def up(document: Json) -> Json:
        entity = document["data"]["entities"][str(AVATAR)]
        entity["name"] = entity.pop("called")
        return document

    def down(document: Json) -> Json:
        entity = document["data"]["entities"][str(AVATAR)]
        entity["called"] = entity.pop("name")
        return document

    newest = FORMATS.newest
    two = Formats({**STEPS, newest: {"unit": Step(up, down)}}, FORMATS.oldest, newest + 1)
    monkeypatch.setattr("world.unit_document.FORMATS", two)
    unit = Unit.new_avatar(AVATAR, "Ada", 1, 2)
    unit.begin_write()
    old = unit.document("gs1", 1, "w", at=newest)
    assert msgspec.json.decode(old)["data"]["entities"][str(AVATAR)]["called"] == "Ada"
    assert Head.parse(old).format == newest
    assert UnitDocument.parse(old).data.entities[str(AVATAR)]["name"] == "Ada"
    loaded = Unit.load(KEY, old, 1, 0)
    assert loaded.view(AVATAR).values["name"] == "Ada"
    handed = loaded.handed("gs1", 1, at=newest)
    assert msgspec.json.decode(handed)["data"]["entities"][str(AVATAR)]["called"] == "Ada"
    loaded.save()
    loaded.begin_write()
    new = loaded.document("gs1", 1, "w2", at=newest + 1)
    assert Head.parse(new).format == newest + 1
    assert msgspec.json.decode(new)["data"]["entities"][str(AVATAR)]["name"] == "Ada"
