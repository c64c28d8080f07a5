"""say {text}: speak to all who see the actor.

Value: ``{}``. Refusals: ``empty_text``, ``too_long`` (over SAY_CHARACTERS).
"""

import msgspec

from world.limits import SAY_CHARACTERS
from world.messages import Json, Text
from world.rules.context import Context
from world.rules.registry import command


class SayArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: Text


@command("say", SayArgs)
async def say(context: Context, args: SayArgs) -> Json:
    text = printable(args.text)
    if not text:
        context.refuse("empty_text", "nothing was said")
    if len(text) > SAY_CHARACTERS:
        context.refuse("too_long", f"at most {SAY_CHARACTERS} characters")
    context.area_event({"kind": "say", "name": context.facts.name, "text": text})
    return {}


def printable(text: str) -> str:
    """One line: what is not printable (controls, line ends, lone surrogates) becomes a space, ends are trimmed."""
    return "".join(c if c.isprintable() else " " for c in text).strip()
