"""``projectk drain``: send one process away, without anybody noticing."""

import re
import time
from typing import Annotated

import typer

from cluster import options as o
from cluster.operators.api import Cluster, Json, NobodyAnswers, Said
from cluster.operators.ask import cluster, nodes
from runtime.service import EXIT_FAILED
from world.limits import DRAIN_MS, OPS_CLI_LOOK_S, PROCESS_STOP_MS


def drain(
    node: Annotated[str, typer.Argument(metavar="ID", help="Which process: gs2, gw1, lg1 … as projectk status says.")],
    wait: Annotated[bool, typer.Option("--wait", help="Until it has ended.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Though it is the last one of its role.")] = False,
    data: o.Data = None,
    ops: o.OpsUrl = None,
    token_file: o.TokenFile = None,
) -> None:
    """Let one process give away what it has, then end.

    A game server hands its avatars and regions to the others, its players stay connected; a gateway sends its clients
    to other gateways, a few at a time; a login answers what it was asked. The last ready one of a role is refused:
    without it nobody could play. Ends with 0 once it has begun (with --wait: has ended), with 1 where that is refused
    or nobody answers.

    Examples:

      projectk drain gs2

      projectk drain gw1 --wait

      projectk drain gs1 --force --data /srv/world
    """
    if not re.fullmatch("[a-z]{2}[0-9]{1,4}", node):
        raise typer.BadParameter(f"{node!r} is no process like gs2; projectk status lists them.", param_hint="'ID'")
    with cluster(data, ops, token_file) as asked:
        nodes(asked)  # the other listeners, should this one be what is drained
        view = asked.post(f"/v1/ops/nodes/{node}:drain?force={'true' if force else 'false'}")
        typer.echo(f"{node} drains: it gives away what it has, then it ends.")
        if wait:
            _wait(asked, view)


def _wait(asked: Cluster, drained: Json) -> None:
    """Until this generation is no member any more. Exits with EXIT_FAILED where that takes too long."""
    node, generation = drained["id"], drained["generation"]
    until_s = time.monotonic() + (DRAIN_MS + 2 * PROCESS_STOP_MS) / 1_000
    while time.monotonic() < until_s:
        time.sleep(OPS_CLI_LOOK_S)
        try:
            if asked.get(f"/v1/ops/nodes/{node}")["generation"] == generation:
                continue
        except Said as said:
            if said.code != "not_found":
                raise
        except NobodyAnswers:
            continue  # the only listener was its own
        typer.echo(f"{node} has ended.")
        return
    typer.echo(f"{node} has not ended yet: projectk status tells how far it is.", err=True)
    raise typer.Exit(EXIT_FAILED)
