"""The table of commands: what a client may ask for, one rule family per file of this folder.

A command is a coroutine outside any unit: it reads, awaits mutators, and checks again after each await. It answers a
JSON object, or raises Refusal with a documented code. Codes that any command may answer:

========================  ============================================================================
``unknown_command``       no such op
``bad_arguments``         a field is missing, unknown, of a wrong type or out of bounds
``no_such_target``        the target is not to be seen from here
``settled``               the number is at or below the floor, or of an older session
``key_reused``            the number was used with another op or other arguments
``busy``                  a bound of the unit is reached; nothing happened, try again under a new number
``unit_full``             so much is kept of a unit that its document would be too long; as ``busy``, for longer
``store_unavailable``     the store did not answer in time
``unreachable``           the target's owner did not answer in time
========================  ============================================================================
"""

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, NamedTuple, TypeVar

import msgspec

from world.messages import Json
from world.results import Refusal, fingerprint
from world.rules.context import Context


class SavedBy(Enum):
    """Who saves the command's result under its key."""

    MEMORY = "memory"  # changes nothing durable: remembered while the unit is held, waits for no write
    TRANSFER = "transfer"  # the delivery it causes saves it in the actor's unit; answered when that is committed


class Command(NamedTuple):
    op: str
    args: type[msgspec.Struct]
    run: Callable[[Context, Any], Awaitable[Json]]
    saved_by: SavedBy


ArgsT = TypeVar("ArgsT", bound=msgspec.Struct)
Rule = Callable[[Context, ArgsT], Awaitable[Json]]

COMMANDS: dict[str, Command] = {}


def command(op: str, args: type[ArgsT], *, saved_by: SavedBy = SavedBy.MEMORY) -> Callable[[Rule[ArgsT]], Rule[ArgsT]]:
    """Register a rule. Raises ValueError for an op taken, or arguments that would accept unknown fields."""
    if op in COMMANDS or not args.__struct_config__.forbid_unknown_fields:
        raise ValueError(f"command {op} is taken, or its arguments accept unknown fields")

    def register(run: Rule[ArgsT]) -> Rule[ArgsT]:
        COMMANDS[op] = Command(op, args, run, saved_by)
        return run

    return register


def find(op: str) -> Command:
    """Raises Refusal ``unknown_command``."""
    found = COMMANDS.get(op)
    if found is None:
        raise Refusal("unknown_command", op[:64])
    return found


def digest(op: str, args: Json) -> str:
    """What a command's key carries, so that its reuse with another request shows."""
    return fingerprint(op, args)


async def perform(context: Context, op: str, args: Json) -> Json:
    """Check and run one command. Raises Refusal."""
    found = find(op)
    try:
        checked = msgspec.convert(args, found.args)
    except (ValueError, RecursionError) as error:
        raise Refusal("bad_arguments", str(error)[:200]) from error
    return await found.run(context, checked)
