"""``projectk bots``: load and life for a running cluster."""

import asyncio
import signal
from typing import Annotated

import orjson
import typer
import uvloop
from rich.console import Console

from runtime.service import EXIT_FAILED
from world.limits import BOT_GATHER_EVERY_S, BOT_LOGINS_PER_S


def bots(
    url: Annotated[
        str, typer.Option(help="A gateway's URL: the Play URL. The bots spread over all gateways.")
    ] = "http://127.0.0.1:8080",
    count: Annotated[int, typer.Option(min=1, max=100_000, help="How many players.")] = 50,
    seconds: Annotated[float, typer.Option(min=1, help="How long to measure, once all are at their places.")] = 60,
    crowd: Annotated[bool, typer.Option("--crowd", help="All in one place, everyone seeing everyone.")] = False,
    spread: Annotated[
        float,
        typer.Option(min=0, help="Radius in m in which the bots spread; 0: until each is shown about ten others."),
    ] = 0,
    rate: Annotated[float, typer.Option(min=0.1, help="Logins a second.")] = BOT_LOGINS_PER_S,
    gather_every: Annotated[float, typer.Option(min=0.1, help="Seconds between gatherings.")] = BOT_GATHER_EVERY_S,
    trade: Annotated[float, typer.Option(min=0, max=1, help="Share of the bots that trade with each other.")] = 0,
    workers: Annotated[int, typer.Option(min=0, max=64, help="Processes; 0: by the number of bots.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what the bots choose.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="The last line is one JSON document.")] = False,
) -> None:
    """Send players that speak the real protocol: guests who wander, gather, chat and trade, five inputs a second each.

    They walk away from the spawn until each sees about ten others, then latency is measured: from an input that
    changes the velocity until another client in the same process sees it. Ctrl-C ends the run with its report so far.

    Examples:

      projectk bots --url http://127.0.0.1:8080

      projectk bots --url http://127.0.0.1:8080 --count 500 --seconds 120 --json

      projectk bots --url http://127.0.0.1:8080 --count 100 --crowd
    """
    from cluster.bots.fleet import Fleet, Run  # here: the other verbs need not load what players are made of
    from cluster.bots.report import LiveReport, document, table

    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{url!r} is no URL like http://127.0.0.1:8080.", param_hint="'--url'")
    asked = Run(url.rstrip("/"), count, seconds, crowd, rate, gather_every, seed, workers, spread, trade)
    console = Console(stderr=True, highlight=False)
    with LiveReport(console, asked) as live, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        fleet = Fleet(asked, live.show)
        for number in (signal.SIGINT, signal.SIGTERM):
            runner.get_loop().add_signal_handler(number, fleet.end)
        tally = runner.run(fleet.run())
    report = document(asked, tally, fleet.measured_s)
    console.print(table(report))
    if json:
        typer.echo(orjson.dumps(report).decode())
    raise typer.Exit(EXIT_FAILED if tally.errors["worker_died"] or not tally.logins else 0)
