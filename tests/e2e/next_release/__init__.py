"""The release after this one, for the test that rolls a cluster from one to the other: a changed rule (a gather brings
two where there are two) and a changed schema (format 2: an avatar's ``items`` {name: count} are its ``bag`` of pairs).

``install`` makes a copy of this source tree into that release, by the edits that a developer would make.
"""

import shutil
from pathlib import Path
from typing import NamedTuple

STEP = "world/bag_step.py"


class Edit(NamedTuple):
    path: str
    old: str  # stands there once
    new: str


EDITS = (
    Edit("world/limits.py", "FORMAT: Final = 1  # and", "FORMAT: Final = 2  # and"),
    Edit("world/upgrades.py", "STEPS: Steps = {}", 'STEPS: Steps = {1: {"unit": Step(up, down)}}'),
    Edit(
        "world/upgrades.py",
        "from world.limits import FORMAT, FORMAT_MIN\n",
        "from world.bag_step import down, up\nfrom world.limits import FORMAT, FORMAT_MIN\n",
    ),
    Edit("world/kinds.py", "AVATAR, TREE,", "Bag = list[tuple[str, Count]]\nAVATAR, TREE,"),
    Edit(
        "world/kinds.py",
        "    items: Stock = field(COMMIT, OWNER, default={}, group=1)\n",
        "    bag: Bag = field(COMMIT, OWNER, default=[], group=1)\n",
    ),
    Edit("world/entity.py", "return dict(self.items)", "return dict(self.bag)"),
    Edit("world/entity.py", "self.items = stock", "self.bag = list(stock.items())"),
    Edit(
        "world/kinds.py",
        "setattr(self, item, left - 1)",
        "count = min(left, 2)\n        setattr(self, item, left - count)",
    ),
    Edit("world/kinds.py", 'value: Json = {"items": {item: 1}}', 'value: Json = {"items": {item: count}}'),
    Edit("world/kinds.py", "act.give({item: 1}, to", "act.give({item: count}, to"),
    Edit("world/rules/inventory.py", "context.actor.items", "context.actor.bag"),
    Edit("gameserver/presence.py", '.values["items"]', '.values["bag"]'),
)


def install(source: Path) -> None:
    """Over the release that is there, as an operator would."""
    shutil.copy(Path(__file__).with_name("bag_step.py"), source / STEP)
    for edit in EDITS:
        path = source / edit.path
        text = path.read_text()
        assert text.count(edit.old) == 1, f"{edit.path} has {text.count(edit.old)} times {edit.old!r}"
        path.write_text(text.replace(edit.old, edit.new))


def break_brokers(source: Path) -> str:
    """A release whose brokers do not start; their last words."""
    path = source / "broker/app.py"
    path.write_text(path.read_text() + '\nraise RuntimeError("this release is broken")\n')
    return "this release is broken"
