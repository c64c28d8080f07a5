"""The game's rules, one file per family; importing this package fills the table of commands."""

from world.rules import gather, inventory, look, say, trade  # registers them
from world.rules.context import Context
from world.rules.registry import COMMANDS, Command, SavedBy, digest, find, perform

__all__ = [
    "COMMANDS",
    "Command",
    "Context",
    "SavedBy",
    "digest",
    "find",
    "gather",
    "inventory",
    "look",
    "perform",
    "say",
    "trade",
]
