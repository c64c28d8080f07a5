"""gather {target}: chop a tree, mine a rock, pick a bush; one item goes to the actor's inventory by transfer.

Value: ``{"items": {"wood": 1}}``. Refusals: ``not_gatherable``, ``too_far``, ``depleted``, ``no_such_target``.
"""

import msgspec

from world.messages import U53, Json
from world.rules.context import Context
from world.rules.registry import SavedBy, command


class GatherArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    target: U53


@command("gather", GatherArgs, saved_by=SavedBy.TRANSFER)
async def gather(context: Context, args: GatherArgs) -> Json:
    node = context.find(args.target)
    kind = next((kind for kind in context.content.nodes if kind.name == node.table.name), None)
    if kind is None:
        context.refuse("not_gatherable", f"nothing is gathered from a {node.table.name}")
    value: Json = await getattr(node, kind.verb)(by=context.actor)
    context.area_event({"kind": "gather", "target": node.id, "item": kind.item})
    return value
