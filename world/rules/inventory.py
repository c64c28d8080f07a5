"""inventory {}: what the actor carries, as committed.

Value: ``{"items": {name: count}}``. No refusals of its own.
"""

import msgspec

from world.messages import Json
from world.rules.context import Context
from world.rules.registry import command


class InventoryArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


@command("inventory", InventoryArgs)
async def inventory(context: Context, args: InventoryArgs) -> Json:
    return {"items": dict(context.actor.items)}
