"""``projectk events``: what happened in the cluster, and what happens."""

import time
from collections import OrderedDict
from typing import Annotated

import orjson
import typer

from cluster import options as o
from cluster.operators.api import Cluster, Json
from cluster.operators.ask import cluster, nodes
from cluster.operators.show import note_line
from world.limits import OPS_CLI_LOOK_S, OPS_CLI_NOTES_SEEN


def events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document a line instead.")] = False,
    data: o.Data = None,
    ops: o.OpsUrl = None,
    token_file: o.TokenFile = None,
) -> None:
    """Print what a gateway has heard lately: deaths, adoptions, hand-offs, fenced writes, repairs, drains, deployments.

    With --follow it goes on at another gateway when the one it reads from ends. Notes are told best effort. Ends with
    0, or with 1 where nobody answers.

    Examples:

      projectk events

      projectk events --follow

      projectk events --follow --json
    """
    with cluster(data, ops, token_file) as asked:
        nodes(asked)
        seen = Seen()
        try:
            _tell(asked, seen, follow, json)
            while follow:
                time.sleep(OPS_CLI_LOOK_S)
                _tell(asked, seen, follow, json)
        except KeyboardInterrupt:
            return


def _tell(asked: Cluster, seen: "Seen", follow: bool, json: bool) -> None:
    for kind, note in asked.events(follow=follow):
        if kind == "missed" or seen.first(note):
            typer.echo(
                orjson.dumps(note if kind != "missed" else {"kind": kind} | note) if json else note_line(kind, note)
            )


class Seen:
    """Every gateway hears the same notes under numbers of its own: what another one told before is told once."""

    def __init__(self) -> None:
        self._keys: OrderedDict[bytes, None] = OrderedDict()

    def first(self, note: Json) -> bool:
        key = orjson.dumps([note["kind"], note["by"], note["world_ms"], note["detail"]])
        if key in self._keys:
            return False
        self._keys[key] = None
        if len(self._keys) > OPS_CLI_NOTES_SEEN:
            self._keys.popitem(last=False)
        return True
