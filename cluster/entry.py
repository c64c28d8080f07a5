"""Entry point of the ``projectk`` script. A health check runs all the time on every machine: it must not load the whole
command (a second of a processor) to ask for one page."""

import sys


def main() -> None:
    if sys.argv[1:2] == ["healthcheck"]:
        import typer

        from cluster.verbs.healthcheck import healthcheck

        app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})
        app.command()(healthcheck)
        app(args=sys.argv[2:], prog_name="projectk healthcheck")
    else:
        from cluster import cli

        cli.main()
