"""Format 1 to 2: what an avatar carries, in the order in which it was found. A part of the next release's ``world``."""

from collections.abc import Iterator

from world.ids import AVATAR_KIND, kind_of
from world.message_values import Json


def up(document: Json) -> Json:
    for fields in _avatars(document):
        if "items" in fields:
            fields["bag"] = [[name, count] for name, count in fields.pop("items").items()]
    return document


def down(document: Json) -> Json:
    for fields in _avatars(document):
        if "bag" in fields:
            fields["items"] = dict(fields.pop("bag"))
    return document


def _avatars(document: Json) -> Iterator[Json]:
    """The stored fields of the avatars in a unit's document."""
    for entity, fields in document.get("data", {}).get("entities", {}).items():
        if kind_of(int(entity)) == AVATAR_KIND:
            yield fields
