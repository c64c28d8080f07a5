"""``projectk status``: who is there, and how they are."""

import time
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.live import Live

from cluster import options as o
from cluster.operators.api import Cluster
from cluster.operators.ask import cluster, nodes
from cluster.operators.show import nodes_table
from world.limits import OPS_CLI_WATCH_S


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Again every second, until Ctrl-C.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document instead; with --watch one a line.")] = False,
    data: o.Data = None,
    ops: o.OpsUrl = None,
    token_file: o.TokenFile = None,
) -> None:
    """Show every process of a running cluster: its role, whether it is ready, how loaded it is.

    Asks any gateway's listener for operators, the next one where one does not answer. A process that is silent has
    missed its heartbeats; one that drains is giving away what it has. Ends with 0, or with 1 where nobody answers.

    Examples:

      projectk status

      projectk status --watch

      projectk status --json --data /srv/world

      projectk status --ops http://127.0.0.1:9080 --token-file /srv/world/keys/ops.token
    """
    with cluster(data, ops, token_file) as asked:
        if json:
            _print(asked, watch)
        elif watch:
            _watch(asked)
        else:
            Console(highlight=False).print(nodes_table(nodes(asked)))


def _print(asked: Cluster, watch: bool) -> None:
    typer.echo(orjson.dumps(nodes(asked)).decode())
    while watch:
        time.sleep(OPS_CLI_WATCH_S)
        typer.echo(orjson.dumps(nodes(asked)).decode())


def _watch(asked: Cluster) -> None:
    with Live(nodes_table(nodes(asked)), console=Console(highlight=False), auto_refresh=False) as live:
        try:
            while True:
                time.sleep(OPS_CLI_WATCH_S)
                live.update(nodes_table(nodes(asked)), refresh=True)
        except KeyboardInterrupt:
            return
