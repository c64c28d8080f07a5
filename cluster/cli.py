"""The ``projectk`` command: one file per verb in ``verbs/``. Mistakes are one sentence and exit code 2."""

import sys
from typing import NoReturn

import typer

from cluster.bots.verb import bots
from cluster.couchbase.rest import SetupFailed
from cluster.operators.api import Said
from cluster.operators.found import CannotAsk
from cluster.verbs.broker import broker
from cluster.verbs.deploy import deploy
from cluster.verbs.drain import drain
from cluster.verbs.events import events
from cluster.verbs.gameserver import gameserver
from cluster.verbs.gateway import gateway
from cluster.verbs.handoff import handoff
from cluster.verbs.healthcheck import healthcheck
from cluster.verbs.init_couchbase import init_couchbase
from cluster.verbs.login import login
from cluster.verbs.migrate_store import migrate_store
from cluster.verbs.reset import reset
from cluster.verbs.search import search
from cluster.verbs.status import status
from cluster.verbs.store import store
from cluster.verbs.up import up
from cluster.verbs.version import version
from runtime.service import EXIT_FAILED, EXIT_REFUSED, StartRefused
from runtime.settings import SettingsError

app = typer.Typer(
    name="projectk",
    help="""A seamless, persistent, single-world MMORPG server.

Start with  projectk up  and open the Play URL in two windows. Every setting is a flag, or a variable PROJECTK_….""",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (up, bots, init_couchbase, migrate_store, reset, version):
    app.command()(verb)
for asking in (status, events, search, drain, handoff, deploy):
    app.command(rich_help_panel="A running cluster")(asking)
for verb in (broker, store, login, gateway, gameserver, healthcheck):
    app.command(rich_help_panel="One process by itself")(verb)


def main() -> None:
    """Entry point of the ``projectk`` script."""
    try:
        code = app(standalone_mode=False)
    except typer.Abort:
        sys.exit(1)
    except (SettingsError, StartRefused) as error:
        _refuse(str(error))
    except (CannotAsk, Said, SetupFailed) as error:
        _refuse(str(error), EXIT_FAILED)
    except Exception as error:
        said = getattr(error, "format_message", None)  # every mistake in the flags; typer names no base class for them
        if said is None:
            raise
        context = getattr(error, "ctx", None)
        _refuse(f"{said().rstrip('.')}. Try: {context.command_path if context else 'projectk'} --help")
    sys.exit(code or 0)


def _refuse(sentence: str, code: int = EXIT_REFUSED) -> NoReturn:
    print(f"projectk: {' '.join(sentence.split())}", file=sys.stderr)
    sys.exit(code)
