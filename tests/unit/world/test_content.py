"""Content is validated when it is read, and complete."""

from importlib.resources import files

import msgspec
import orjson
import pytest

from world.content import content, guest_name, parse
from world.describe import describe
from world.entity import table

NAMES = ("nodes.toml", "items.toml", "ground.toml", "names.toml")


def texts() -> dict[str, str]:
    return {name: (files("world.content") / name).read_text("utf-8") for name in NAMES}


def test_every_node_has_a_kind_with_its_field_and_mutator() -> None:
    kinds = {t.name: t for t in table().values()}
    for node in content().nodes:
        assert kinds[node.name].defaults[node.item] == node.holds
        assert node.verb in kinds[node.name].mutators


@pytest.mark.parametrize(
    ("file", "old", "new", "error"),
    [
        ("nodes.toml", 'item = "wood"', 'item = "gold"', "no item"),
        ("nodes.toml", "holds = 5", "holds = 0", "holds"),
        ("nodes.toml", "holds = 5", "holds = 5\nmystery = 1", "mystery"),
        ("items.toml", 'name = "stone"', 'name = "wood"', "twice|no item"),
        ("ground.toml", "id = 1\n", "id = 0\n", "twice"),
        ("ground.toml", "#2c6f9e", "blue", "color|regex|pattern"),
    ],
)
def test_mistakes_in_content_are_named(file: str, old: str, new: str, error: str) -> None:
    changed = texts()
    assert old in changed[file]
    changed[file] = changed[file].replace(old, new)
    with pytest.raises((msgspec.ValidationError, ValueError), match=error):
        parse(changed)


def test_guest_names_repeat_only_after_all_pairs() -> None:
    pairs = len(content().names.first) * len(content().names.second)
    names = [guest_name(n) for n in range(pairs + 1)]
    assert len(set(names)) == pairs + 1
    assert names[pairs].endswith(" 2")
    assert max(len(n) for n in names) <= 32


def test_the_description_is_json_and_tells_what_clients_need() -> None:
    told = orjson.loads(orjson.dumps(describe(7)))
    assert told["seed"] == 7
    assert {e["name"]: e["verb"] for e in told["entities"]} == {
        "avatar": None, "tree": "chop", "rock": "mine", "bush": "pick",
    }  # fmt: skip
    assert told["entities"][1]["groups"] == {"0": ["wood"]}
    assert [k["id"] for k in told["ground"]["kinds"]] == list(range(9))
    assert set(told) == {
        "seed", "world_m", "cell_m", "subcell_m", "region_m", "sight_m", "reach_m", "walk_m_per_s", "tick_ms", "spawn",
        "ground", "entities", "items",
    }  # fmt: skip
