"""The report of a bot run: a live line while it goes on, a table and, for programs, one JSON document at the end."""

from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cluster.bots.fleet import Progress, Run
from cluster.bots.measure import Tally, percentiles


def document(asked: Run, tally: Tally, measured_s: float) -> dict[str, Any]:
    """Everything as JSON. Rates are over the measured time; errors count from the first login."""
    p50, p95, p99 = percentiles(tally.latency, (50, 95, 99))
    minutes = tally.client_s / 60
    return {
        "bots": asked.count,
        "seconds": round(measured_s, 1),
        "crowd": asked.crowd,
        "logins": tally.logins,
        "logins_per_s": round(tally.logins / tally.login_s, 1) if tally.login_s else 0.0,
        "inputs_per_s": round(tally.inputs / measured_s, 1) if measured_s else 0.0,
        "updates_per_s_per_client": round(tally.updates / tally.observer_s, 1) if tally.observer_s else 0.0,
        "others_in_sight": round(tally.in_sight / tally.in_sight_samples, 1) if tally.in_sight_samples else 0.0,
        "latency_ms": {"p50": p50, "p95": p95, "p99": p99},
        "latency_samples": sum(tally.latency.values()),
        "inputs_unseen": tally.unseen,
        "bytes_per_client_per_minute": round(tally.bytes / minutes) if minutes else 0,
        "bots_cpu_percent": round(tally.cpu_s / measured_s * 100) if measured_s else 0,
        "gathered": tally.gathered,
        "said": tally.said,
        "traded": tally.traded,
        "corrections": tally.corrections,
        "reconnects": tally.reconnects,
        "refusals": dict(tally.refusals),
        "errors": dict(tally.errors),
    }


def table(report: dict[str, Any]) -> Table:
    rows = Table(title=f"{report['bots']} bots, {report['seconds']:.0f} s", show_header=False, title_justify="left")
    latency = report["latency_ms"]
    shown = " / ".join("–" if latency[p] is None else f"{latency[p]:.0f}" for p in ("p50", "p95", "p99"))
    for label, value in (
        ("Latency p50 / p95 / p99", f"{shown} ms ({report['latency_samples']} inputs seen by others)"),
        ("Logins", f"{report['logins']} at {report['logins_per_s']} a second"),
        ("Inputs", f"{report['inputs_per_s']} a second"),
        ("Updates delivered", f"{report['updates_per_s_per_client']} a second and client"),
        ("Others in sight", f"{report['others_in_sight']}"),
        ("Received", f"{report['bytes_per_client_per_minute'] / 1e6:.2f} MB per client and minute"),
        ("Gathered, said, traded", f"{report['gathered']}, {report['said']}, {report['traded']}"),
        ("Refused by rules", _kinds(report["refusals"])),
        ("CPU of the bots", f"{report['bots_cpu_percent']} % of a core"),
        ("Reconnects", str(report["reconnects"])),
        ("Errors", _kinds(report["errors"])),
    ):
        rows.add_row(label, value)
    return rows


def _kinds(counts: dict[str, int]) -> str:
    return ", ".join(f"{kind} {n}" for kind, n in sorted(counts.items())) or "none"


class LiveReport:
    """One line that follows the run, on a terminal; silent on a pipe."""

    def __init__(self, console: Console, asked: Run) -> None:
        self._asked = asked
        self._live = Live(Text("Starting …"), console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> "LiveReport":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        if self._live is None:
            return
        p50, _p95, p99 = percentiles(progress.tally.latency, (50, 95, 99))
        latency = "" if p50 is None else f"  latency p50 {p50:.0f} ms, p99 {p99:.0f} ms"
        errors = sum(progress.tally.errors.values())
        self._live.update(
            Text(
                f"{progress.phase}: {progress.connected}/{self._asked.count} connected, {progress.arrived} at their "
                f"places{latency}  gathered {progress.tally.gathered}  errors {errors}"
            )
        )
