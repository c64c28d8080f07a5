"""look {target}: what anyone can see of an entity.

Value: ``{"target", "kind", "label", "x", "y", "fields": {…}, "stale"}``; ``stale``: what is known may be outdated.
Refusals: ``no_such_target``, ``too_far`` (out of sight).
"""

import msgspec

from world.entity import PUBLIC
from world.limits import SIGHT_M
from world.messages import U53, Json
from world.rules.context import Context
from world.rules.registry import command


class LookArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    target: U53


@command("look", LookArgs)
async def look(context: Context, args: LookArgs) -> Json:
    target = context.find(args.target)
    if target.distance(context.actor) > SIGHT_M:
        context.refuse("too_far", "it is out of sight")
    view, kind = target.view(), target.table
    labels = {node.name: node.label for node in context.content.nodes}
    return {
        "target": target.id,
        "kind": kind.name,
        "label": labels.get(kind.name, kind.name.capitalize()),
        "x": round(view.x, 2),
        "y": round(view.y, 2),
        "fields": {name: view.values[name] for name in kind.visible(PUBLIC)},
        "stale": view.stale,
    }
