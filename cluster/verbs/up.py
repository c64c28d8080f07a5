"""``projectk up``: the whole cluster on this machine."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from cluster import options as o
from cluster.supervisor.child import ChildFailed
from cluster.supervisor.console import ConsoleReport
from cluster.supervisor.data import claim
from cluster.supervisor.member import MeshMember
from cluster.supervisor.plan import http_url, join_endpoints, ops_token_file, plan
from cluster.supervisor.ports import check_free, free_ports
from cluster.supervisor.supervisor import Supervisor
from runtime.addresses import placed
from runtime.service import EXIT_FAILED, EXIT_FORCED, EXIT_OK, EXIT_REFUSED, StartRefused
from runtime.settings import Settings, read_settings


def up(
    gameservers: Annotated[
        int | None,
        typer.Option(help="How many. \\[default: 3; env: PROJECTK_GAMESERVERS]", rich_help_panel=o.PROCESSES),
    ] = None,
    gateways: Annotated[
        int | None, typer.Option(help="How many. \\[default: 2; env: PROJECTK_GATEWAYS]", rich_help_panel=o.PROCESSES)
    ] = None,
    logins: Annotated[
        int | None, typer.Option(help="How many. \\[default: 2; env: PROJECTK_LOGINS]", rich_help_panel=o.PROCESSES)
    ] = None,
    brokers: Annotated[
        int | None, typer.Option(help="How many. \\[default: 2; env: PROJECTK_BROKERS]", rich_help_panel=o.PROCESSES)
    ] = None,
    restart: Annotated[
        str | None,
        typer.Option(
            help="always: a process that dies is started again; never. \\[default: always; env: PROJECTK_RESTART]",
            rich_help_panel=o.PROCESSES,
        ),
    ] = None,
    host: o.Host = None,
    port: o.Port = None,
    public_origins: o.PublicOrigins = None,
    trusted_proxies: o.TrustedProxies = None,
    ops_host: o.OpsHost = None,
    ops_port: o.OpsPort = None,
    ops_token_file: o.OpsTokenFile = None,
    data: o.Data = None,
    store: o.Store = None,
    log_level: o.LogLevel = None,
    ready_file: Annotated[
        Path | None,
        typer.Option(
            help="Gets one JSON document (urls, processes) when everything is ready. \\[env: PROJECTK_READY_FILE]",
            rich_help_panel=o.FILES,
        ),
    ] = None,
    world_seed: o.WorldSeed = None,
    placement: o.Placement = None,
    balance: o.Balance = None,
    avatars_per_server: o.AvatarsPerServer = None,
) -> None:
    """Start a whole cluster on this machine and print the URLs to play and to observe it.

    Brokers, a store, logins, gateways and game servers, each a process of its own; one that dies is started again.
    Ctrl-C saves the world and stops all; a second Ctrl-C ends everything at once.
    While it runs, operators reach it by ops.json in the data folder, which the other verbs read.

    Examples:

      projectk up

      projectk up --gameservers 5 --port 9000

      projectk up --host 0.0.0.0 --public-origins https://play.example

      projectk up --port 0 --data /tmp/world --ready-file /tmp/ready.json
    """
    settings = placed(read_settings(**locals()), "supervisor")
    code = run_cluster(settings, ConsoleReport())
    raise typer.Exit(code)


def run_cluster(settings: Settings, report: ConsoleReport) -> int:
    """Check ports and folders, start all, supervise until a signal, stop all; the exit code. Raises StartRefused."""
    ports = gateway_ports(settings, settings.host, settings.port, "--port")
    broker_ports = free_ports(settings.bind_host, settings.brokers, "--bind-host")
    ops_ports = gateway_ports(settings, settings.ops_host, settings.ops_port, "--ops-port")
    _check_ready_file(settings.ready_file)
    with claim(settings.data), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if settings.ready_file is not None:
            settings.ready_file.unlink(missing_ok=True)  # an earlier run's; a running one's has the data folder
        return runner.run(_cluster(settings, ports, broker_ports, ops_ports, report))


def gateway_ports(settings: Settings, host: str, first: int, flag: str) -> list[int]:
    """One for each gateway, checked to be free. Raises StartRefused."""
    if first == 0:
        return free_ports(host, settings.gateways, flag)
    ports = [first + n for n in range(settings.gateways)]
    check_free(host, ports, flag)
    return ports


def _check_ready_file(path: Path | None) -> None:
    """Its folder is made where it is missing: often it is that of the data, which the first start makes."""
    if path is None:
        return
    if path.is_dir():
        raise StartRefused(f"--ready-file {path}: is a folder.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(path.name + ".new")
        draft.touch()
        draft.unlink()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise StartRefused(f"--ready-file {path}: cannot be written ({reason}).") from error


async def _cluster(
    settings: Settings, ports: list[int], broker_ports: list[int], ops_ports: list[int], report: ConsoleReport
) -> int:
    gateways = [http_url(settings.host, port) for port in ports]
    operators = {
        "urls": [http_url(settings.ops_host, port) for port in ops_ports],
        "token_file": str(ops_token_file(settings)),
    }
    supervisor = Supervisor(
        plan(settings, ports, broker_ports, ops_ports),
        restart=settings.restart == "always",
        ready_file=settings.ready_file,
        urls={"play": f"{gateways[0]}/", "observe": f"{gateways[0]}/observe", "gateways": gateways},
        member=MeshMember(settings, join_endpoints(settings, broker_ports)),
        files={settings.data / "ops.json": operators},
    )
    interrupted = _on_signals(supervisor, report)
    began_s = time.monotonic()
    code = EXIT_OK
    try:
        await supervisor.start(report)
        logs = str(settings.data / "logs")
        report.all_ready(f"{gateways[0]}/", f"{gateways[0]}/observe", logs, time.monotonic() - began_s)
        await supervisor.supervise(report)
        await asyncio.Event().wait()  # every process has ended under --restart never: still until Ctrl-C
    except ChildFailed as failed:
        report.end_progress()
        report.failed(str(failed))
        code = EXIT_REFUSED if failed.refused else EXIT_FAILED
    except asyncio.CancelledError:
        if not interrupted():
            raise
        report.end_progress()
        report.event("Saving the world and stopping …")
    await supervisor.stop(report)
    if code == EXIT_OK:
        report.event("Stopped.")
    return code


def _on_signals(supervisor: Supervisor, report: ConsoleReport) -> Callable[[], bool]:
    """INT, TERM and HUP cancel the calling task once; the next one ends everything. Returns: was one received?"""
    task = asyncio.current_task()
    assert task is not None
    received: list[int] = []

    def receive(number: int) -> None:
        received.append(number)
        if len(received) == 1:
            task.cancel()
        else:
            report.end_progress()
            supervisor.kill()
            os._exit(EXIT_FORCED)

    def interrupted() -> bool:
        if received:
            task.uncancel()
        return bool(received)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, receive, number)
    return interrupted
