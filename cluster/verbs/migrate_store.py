"""``projectk migrate-store``: copy a stopped world from one store into another."""

import asyncio
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cluster.operators.found import CannotAsk
from cluster.verbs.stores import opened
from runtime.service import EXIT_FORCED, StartRefused
from runtime.store.migration import Migration, MigrationRefused, MigrationStopped, Report


def migrate_store(
    source: Annotated[
        str,
        typer.Argument(metavar="FROM", help="Store of the world: sqlite:///PATH or couchbase://…", show_default=False),
    ],
    target: Annotated[
        str,
        typer.Argument(metavar="TO", help="Store to fill: empty, or half filled by this command.", show_default=False),
    ],
) -> None:
    """Copy a stopped world, all of it, from one store into another.

    Stop the world first. Nothing in FROM is changed, and TO is no world until everything in it was compared with FROM,
    by count and by a digest over all keys and values: until then no process starts on it. Interrupted, killed, or
    without an answer from a store, say the same again: it writes what is lacking.

    Then start the world on the new store: PROJECTK_STORE=TO projectk up. FROM stays as it was, and may be kept as a
    backup; never run both.

    Ends with 0, with 1 where it did not come to its end, with 2 where it was refused.

    Examples:

      projectk migrate-store sqlite:///srv/world/store/world.sqlite couchbase://db1.example/projectk

      projectk migrate-store couchbase://db1.example/projectk sqlite:///srv/copy/world.sqlite
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(_migrate(source, target))
    except MigrationRefused as error:
        raise StartRefused(str(error)) from error
    except MigrationStopped as error:
        raise CannotAsk(str(error)) from error
    except KeyboardInterrupt:
        typer.echo("Interrupted; the same command goes on.", err=True)
        raise typer.Exit(EXIT_FORCED) from None
    _tell(report, target)


async def _migrate(source: str, target: str) -> Report:
    with _bar() as bar:
        task = bar.add_task("opening", total=None)

        def progress(stage: str, done: int, of: int) -> None:
            bar.update(task, description=stage, completed=done, total=of or None)

        async with opened(source) as old, opened(target, new=True) as new:
            return await Migration(old.store, new.store, old.name, progress).run()


def _bar() -> Progress:
    """On stderr, and only where somebody looks."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True, highlight=False),
        transient=True,
    )


def _tell(report: Report, target: str) -> None:
    begun = "Went on with an earlier run: " if report.resumed else ""
    removed = f", {report.removed:,} removed that were left over" if report.removed else ""
    typer.echo(f"{begun}{report.written:,} documents written{removed}.")
    typer.echo(
        f"{report.documents:,} documents and {report.counters:,} counters are equal in both stores "
        f"(SHA-256 {report.digest[:16]}…)."
    )
    typer.echo(f"Start the world on it: PROJECTK_STORE={target} projectk up")
