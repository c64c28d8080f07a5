"""Every kind of entity: avatars and resource nodes."""

from world.content import content
from world.entity import (
    COMMIT,
    OWNER,
    PUBLIC,
    SERVER,
    VOLATILE,
    Act,
    Container,
    Count,
    Entity,
    Stock,
    entity,
    field,
    mutator,
)
from world.ids import avatar_unit
from world.limits import AVATAR_HOLDS_ITEMS
from world.messages import Json

AVATAR, TREE, ROCK, BUSH = 1, 2, 3, 4


@entity(kind=AVATAR, name="avatar")
class Avatar(Container):
    """A player's body and what it carries."""

    HOLDS = AVATAR_HOLDS_ITEMS

    name: str = field(COMMIT, PUBLIC, default="", group=0)
    items: Stock = field(COMMIT, OWNER, default={}, group=1)
    x: float = field(VOLATILE, SERVER, default=0.0, group=2)
    y: float = field(VOLATILE, SERVER, default=0.0, group=2)


class Node(Entity):
    """What is gathered from. Refusals: ``too_far``, ``depleted``."""

    def gather(self, act: Act) -> Json:
        """One item to the actor's unit, by transfer. Value: {"items": {name: count}}."""
        if act.actor is None or not act.within_reach(self.x, self.y):
            act.refuse("too_far", f"the {self.TABLE.name} is out of reach")
        item = content().node(self.TABLE.name).item
        left: int = getattr(self, item)
        if left < 1:
            act.refuse("depleted", f"the {self.TABLE.name} has no {item} left")
        setattr(self, item, left - 1)
        value: Json = {"items": {item: 1}}
        act.give({item: 1}, to=avatar_unit(act.actor.avatar), result=value)
        return value

    def elapse(self, steps: int) -> None:
        """One item grows back per step, up to what such a node holds."""
        node = content().node(self.TABLE.name)
        left: int = getattr(self, node.item)
        if left < node.holds:
            setattr(self, node.item, min(left + steps, node.holds))


@entity(kind=TREE, name="tree")
class Tree(Node):
    wood: Count = field(COMMIT, PUBLIC, default=content().node("tree").holds)

    @mutator
    def chop(self, act: Act) -> Json:
        return self.gather(act)


@entity(kind=ROCK, name="rock")
class Rock(Node):
    stone: Count = field(COMMIT, PUBLIC, default=content().node("rock").holds)

    @mutator
    def mine(self, act: Act) -> Json:
        return self.gather(act)


@entity(kind=BUSH, name="bush")
class Bush(Node):
    berries: Count = field(COMMIT, PUBLIC, default=content().node("bush").holds)

    @mutator
    def pick(self, act: Act) -> Json:
        return self.gather(act)
