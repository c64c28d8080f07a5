"""``projectk handoff``: move one avatar or region to another game server."""

from typing import Annotated

import typer

from cluster import options as o
from cluster.operators.ask import cluster


def handoff(
    entity: Annotated[
        str, typer.Argument(metavar="ENTITY", help="An entity's number, or its unit: avatar:281474976710663.")
    ],
    to: Annotated[
        str, typer.Option("--to", help="The game server to have it; else the one with the best reason to.")
    ] = "",
    data: o.Data = None,
    ops: o.OpsUrl = None,
    token_file: o.TokenFile = None,
) -> None:
    """Move the unit that holds an entity (an avatar, or the region in which something grows) to another game server.

    Its player notices nothing but another server's name. Ends with 0 once it is there, with 1 where it is not taken,
    is nobody's, or nobody answers.

    Examples:

      projectk handoff 281474976710663

      projectk handoff avatar:281474976710663 --to gs2
    """
    number = entity.removeprefix("avatar:")
    if not (number.isascii() and number.isdecimal()):
        raise typer.BadParameter(f"{entity!r} is no entity like 281474976710663.", param_hint="'ENTITY'")
    with cluster(data, ops, token_file) as asked:
        done = asked.post(f"/v1/ops/entities/{number}:handoff", {"to": to}, again=False)
    typer.echo(f"{done['unit']} is at {done['server']} now, epoch {done['epoch']}.")
