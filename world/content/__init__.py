"""The game's content: TOML files beside this module, read once, validated into frozen structs."""

from functools import lru_cache
from importlib.resources import files
from typing import Annotated

import msgspec

from world.limits import CONTENTS_CACHED

Word = Annotated[str, msgspec.Meta(min_length=1, max_length=32, pattern="^[a-z_]+$")]
Label = Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
Color = Annotated[str, msgspec.Meta(pattern="^#[0-9a-f]{6}$")]


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A resource node: the field and mutator of its kind, what one go yields, and what the client draws."""

    name: Word
    label: Label
    verb: Word  # the mutator that gathers
    item: Word  # also the name of the field that counts what is left
    holds: Annotated[int, msgspec.Meta(ge=1, le=1_000)]
    color: Color
    radius_m: Annotated[float, msgspec.Meta(gt=0, le=8)]


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Word
    label: Label
    color: Color


class Ground(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ground kind. ``id`` is the byte that terrain arrays carry."""

    id: Annotated[int, msgspec.Meta(ge=0, le=255)]
    name: Word
    label: Label
    color: Color
    walkable: bool


class Names(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Guests are called ``{first} {second}``."""

    first: tuple[Label, ...]
    second: tuple[Label, ...]


class Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    nodes: tuple[Node, ...]
    items: tuple[Item, ...]
    ground: tuple[Ground, ...]
    names: Names

    def node(self, name: str) -> Node:
        """Raises KeyError."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)


FILES = {"nodes.toml": "node", "items.toml": "item", "ground.toml": "ground"}


def parse(texts: dict[str, str]) -> Content:
    """From the files' texts by file name. Raises msgspec.ValidationError, ValueError for dangling or doubled names."""
    content = Content(
        nodes=tuple(msgspec.toml.decode(texts["nodes.toml"], type=dict[str, list[Node]])["node"]),
        items=tuple(msgspec.toml.decode(texts["items.toml"], type=dict[str, list[Item]])["item"]),
        ground=tuple(msgspec.toml.decode(texts["ground.toml"], type=dict[str, list[Ground]])["ground"]),
        names=msgspec.toml.decode(texts["names.toml"], type=Names),
    )
    _cross_check(content)
    return content


def _cross_check(content: Content) -> None:
    items = {item.name for item in content.items}
    for node in content.nodes:
        if node.item not in items:
            raise ValueError(f"node {node.name} yields {node.item}, which is no item")
    for what, keys in (
        ("node", [n.name for n in content.nodes]),
        ("item", [i.name for i in content.items]),
        ("ground", [g.name for g in content.ground]),
        ("ground id", [str(g.id) for g in content.ground]),
    ):
        if len(set(keys)) != len(keys):
            raise ValueError(f"a {what} is declared twice")


@lru_cache(maxsize=CONTENTS_CACHED)
def content() -> Content:
    """The shipped content."""
    folder = files(__name__)
    return parse(
        {f: (folder / f).read_text("utf-8") for f in ("nodes.toml", "items.toml", "ground.toml", "names.toml")}
    )


def guest_name(number: int) -> str:
    """A guest's name from its account's number: all pairs before any repeats, neighbours unlike each other."""
    names = content().names
    pairs = len(names.first) * len(names.second)
    place = number * 7919 % pairs  # a prime that divides no pair count of ours: a permutation
    first, second = names.first[place % len(names.first)], names.second[place // len(names.first)]
    again = number // pairs
    return f"{first} {second} {again + 1}" if again else f"{first} {second}"
