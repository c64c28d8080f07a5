"""``projectk version``."""

import platform
from importlib.metadata import version as installed

import typer

from world.limits import FORMAT, PROTOCOL_MAX, PROTOCOL_MIN


def version() -> None:
    """Print the versions of the program, of the protocol it speaks and of the documents it writes."""
    typer.echo(
        f"projectk {installed('projectk')}, protocol {PROTOCOL_MIN} to {PROTOCOL_MAX}, format {FORMAT}, "
        f"Python {platform.python_version()}"
    )
