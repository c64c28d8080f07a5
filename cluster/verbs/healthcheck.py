"""``projectk healthcheck``: whether the process beside this command is well. Imports little: it runs often."""

import re
from http.client import HTTPConnection, HTTPException
from typing import Annotated, NamedTuple

import typer

from runtime.addresses import own_address
from runtime.settings import Settings, SettingsError, read_settings
from world.limits import HEALTH_ANSWER_S, HEALTH_LOOP_S

ROLES = ("broker", "gameserver", "gateway", "login", "store")
WELL = ("ready", "draining")  # who drains serves until the end: whoever restarts the unwell must let it
_STAGE = re.compile(r'^projectk_process_stage\{id="(\w+)",role="(\w+)",stage="(\w+)"\} 1(?:\.0)?$', re.MULTILINE)
_SILENT = re.compile(r"^projectk_loop_silent_seconds (\S+)$", re.MULTILINE)


class Health(NamedTuple):
    well: bool
    sentence: str


def healthcheck(
    role: Annotated[str | None, typer.Argument(help=f"What runs here: {', '.join(ROLES)}.", show_default=False)] = None,
) -> None:
    """Say in one sentence whether the process that runs here is well, and exit with 0 or 1.

    Reads the process's /metrics, at the address that its own settings name: PROJECTK_METRICS_HOST and
    PROJECTK_METRICS_PORT; of a gateway PROJECTK_HOST and PROJECTK_PORT. Without ROLE: the metrics' port where one is
    set, else the gateway's. Well is one that is ready or drains, and whose loop runs; whether a gateway can take
    players now is another question, which its /readyz answers.

    Examples:

      PROJECTK_METRICS_PORT=9100 projectk healthcheck gameserver

      PROJECTK_PORT=8080 projectk healthcheck gateway
    """
    try:
        health = check(read_settings(), role or "")
    except SettingsError as error:
        health = Health(False, str(error))
    typer.echo(health.sentence)
    raise typer.Exit(0 if health.well else 1)


def check(settings: Settings, role: str) -> Health:
    """Raises SettingsError."""
    if role and role not in ROLES:
        return Health(False, f"There is no role {role!r}: say one of {', '.join(ROLES)}, or none.")
    host, port = _where(settings, role)
    if not port:
        return Health(False, "Where to ask is not known: set PROJECTK_METRICS_PORT for the process and for this.")
    try:
        return judge(_metrics(host, port), role)
    except (OSError, HTTPException, ValueError) as error:
        return Health(False, f"No metrics from {host}:{port}: {error or type(error).__name__}.")


def judge(metrics: str, role: str) -> Health:
    """What the text of /metrics says of a process that should have this role ("" any)."""
    stage, silent = _STAGE.search(metrics), _SILENT.search(metrics)
    if stage is None or silent is None:
        return Health(False, "What answers is no process of Project K, or an older one: its metrics name no stage.")
    node, found, now = stage.groups()
    if role and role != found:
        return Health(False, f"{node} answers there, which is a {found} and no {role}.")
    silent_s = float(silent[1])
    if not silent_s <= HEALTH_LOOP_S:
        return Health(False, f"{node} ({found}) hangs: its loop has not run for {silent_s:.1f} s.")
    return Health(now in WELL, f"{node} ({found}) is {now}.")


def _where(settings: Settings, role: str) -> tuple[str, int]:
    if role == "gateway" or (not role and not settings.metrics_port):
        host, port = settings.host, settings.port
    else:
        host, port = settings.metrics_host, settings.metrics_port
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host) or own_address(host), port


def _metrics(host: str, port: int) -> str:
    """Raises OSError, HTTPException, ValueError."""
    connection = HTTPConnection(host, port, timeout=HEALTH_ANSWER_S)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        if answer.status != 200:
            raise ValueError(f"it answers {answer.status}")
        return answer.read().decode()
    finally:
        connection.close()
