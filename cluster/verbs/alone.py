"""What the verbs of single roles share."""

from collections.abc import Mapping
from typing import Any

import typer

from cluster.role import run_role
from cluster.supervisor.ports import check_free
from runtime.addresses import placed
from runtime.service import StartRefused
from runtime.settings import Settings, read_settings

NEED_MEMBERS = ("login", "gateway", "gameserver")  # the others may be the cluster's first process


def run_alone(role: str, flags: Mapping[str, Any]) -> None:
    """Run one role in this process and exit with its code. Raises SettingsError, StartRefused."""
    settings = placed(read_settings(**flags), role)
    if role in NEED_MEMBERS and not settings.join:
        raise StartRefused(
            f"--join: a {role} needs the command endpoint of a broker or any member, like tcp://127.0.0.1:7001."
        )
    _check_ports(role, settings)
    raise typer.Exit(run_role(role, settings))


def _check_ports(role: str, settings: Settings) -> None:
    if settings.command_port:
        check_free(settings.bind_host, [settings.command_port], "--command-port")
    if role == "gameserver" and settings.state_port:
        check_free(settings.bind_host, [settings.state_port], "--state-port")
    if role != "gateway" and settings.metrics_port:
        check_free(settings.metrics_host, [settings.metrics_port], "--metrics-port")
    if role == "gateway" and settings.port:
        check_free(settings.host, [settings.port], "--port")
    if role == "gateway" and settings.ops_port:
        check_free(settings.ops_host, [settings.ops_port], "--ops-port")
