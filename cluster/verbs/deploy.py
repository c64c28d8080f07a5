"""``projectk deploy``: every process of a running cluster to the code now installed, one after the other."""

import time
from typing import Annotated

import orjson
import typer
from rich.console import Console

from cluster import options as o
from cluster.operators.api import Cluster, Json, NobodyAnswers
from cluster.operators.ask import cluster, nodes
from cluster.operators.found import CannotAsk
from cluster.operators.show import step_line
from world.limits import OPS_CLI_LOOK_S, OPS_CLI_SILENCE_S


def deploy(
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Show each process until all are done.")] = True,
    node: Annotated[
        str, typer.Option(help="This process only; one that was drained is started again.", show_default=False)
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="The last line is the deployment as one JSON document.")] = False,
    data: o.Data = None,
    ops: o.OpsUrl = None,
    token_file: o.TokenFile = None,
) -> None:
    """Roll every process of a running cluster to the code that is installed now, one at a time, while people play.

    Each is drained, started anew, and must become ready before the next one's turn; the first that does not stops it
    all, and what is not rolled yet goes on as it was. A deployment that runs already is followed. Ctrl-C ends the
    following, not the deployment. Ends with 0 when all are done, with 1 where one failed or nobody answers.

    Examples:

      projectk deploy

      projectk deploy --no-follow

      projectk deploy --node gs2

      projectk deploy --json --data /srv/world
    """
    with cluster(data, ops, token_file) as asked:
        nodes(asked)  # whoever is asked will be rolled too: then another one is
        view = asked.post("/v1/ops/deployments", {"node": node} if node else None)
        if follow:
            view = _follow(asked, view)
    if json:
        typer.echo(orjson.dumps(view).decode())
    if view["state"] == "failed":
        raise CannotAsk(f"The deployment stopped: {str(view.get('problem', '')).rstrip('.') or 'it failed'}.")
    if not json:
        typer.echo(
            f"{node or 'Every process'} runs the code now installed."
            if follow
            else f"Deployment {view['id']} has begun."
        )


def _follow(asked: Cluster, view: Json) -> Json:
    """A line for each step that changes; the end of it."""
    console = Console(highlight=False)
    told: dict[str, str] = {}
    heard_s = time.monotonic()
    while True:
        _tell(console, view, told)
        if view["state"] != "running":
            return view
        time.sleep(OPS_CLI_LOOK_S)
        try:
            view = asked.get(f"/v1/ops/deployments/{view['id']}")
            heard_s = time.monotonic()
        except NobodyAnswers:
            if time.monotonic() - heard_s > OPS_CLI_SILENCE_S:
                raise


def _tell(console: Console, view: Json, told: dict[str, str]) -> None:
    for step in view.get("steps", []):
        if told.get(step["id"], "waiting") != step["state"]:
            told[step["id"]] = step["state"]
            console.print(step_line(step), soft_wrap=True)
