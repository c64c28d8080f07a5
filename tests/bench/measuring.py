"""What benches of a whole cluster share: percentiles, who used how much processor time, what the store wrote."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from tests.support.cluster import Cluster
from tests.support.percentiles import percentile
from tests.support.processes import cpu_seconds

STORE = {
    "projectk_store_writes_total": "writes",
    "projectk_store_groups_total": "groups",
    "projectk_store_reads_total": "reads",
}
STORE_MESSAGES = "projectk_store_calls_total"  # by message type
CLIENTS, SUPERVISOR = "clients", "supervisor"  # among the roles
METRICS_S = 5.0


def spread(latencies_ms: Sequence[float]) -> dict[str, float]:
    return {f"p{percent}_ms": round(percentile(latencies_ms, percent), 2) for percent in (50, 95, 99)}


@dataclass
class Reading:
    """Counters at one moment, for differences."""

    at_s: float
    cpu_s: dict[str, float] = field(default_factory=dict)  # by role
    store: Counter[str] = field(default_factory=Counter)


class Meter:
    """Of one cluster; the clients are this process."""

    def __init__(self, running: Cluster) -> None:
        self._pids = [(str(row["role"]), int(row["pid"])) for row in running.processes()]
        assert running.process is not None
        self._pids.append((SUPERVISOR, running.process.pid))
        self._store = [str(row["addresses"]["metrics"]) for row in running.processes("store")]

    def read(self) -> Reading:
        """Asks the store over HTTP: some milliseconds."""
        reading = Reading(time.monotonic(), store=self._asked())
        for role, pid in self._pids:
            reading.cpu_s[role] = reading.cpu_s.get(role, 0.0) + cpu_seconds(pid)
        reading.cpu_s[CLIENTS] = time.process_time()
        return reading

    def _asked(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for url in self._store:
            for family in text_string_to_metric_families(httpx.get(url, timeout=METRICS_S).text):
                for sample in family.samples:
                    if sample.name in STORE:
                        found[STORE[sample.name]] += int(sample.value)
                    elif sample.name == STORE_MESSAGES and sample.labels["message"].startswith("StoreWrite"):
                        found["messages"] += int(sample.value)
        return found


@dataclass
class Phase:
    """One thing measured for a while: ``latencies_ms`` of what was answered well between the two readings."""

    name: str
    before: Reading
    after: Reading
    latencies_ms: list[float]

    def document(self) -> dict[str, Any]:
        seconds = self.after.at_s - self.before.at_s
        done = len(self.latencies_ms)
        cpu_s = {role: s - self.before.cpu_s.get(role, 0.0) for role, s in self.after.cpu_s.items()}
        store = self.after.store - self.before.store
        return {
            "what": self.name,
            "seconds": round(seconds, 2),
            "done": done,
            "per_s": round(done / seconds, 1),
            **spread(self.latencies_ms),
            "store_writes_each": round(store["writes"] / max(1, done), 3),
            "store_messages_each": round(store["messages"] / max(1, done), 3),
            "commits_per_s": round(store["groups"] / seconds, 1),
            "cpu_ms_each": {role: round(s * 1_000 / max(1, done), 3) for role, s in sorted(cpu_s.items())},
            "cpu_percent": {role: round(s / seconds * 100, 1) for role, s in sorted(cpu_s.items())},
        }


def show_phases(console: Console, phases: Sequence[dict[str, Any]]) -> None:
    """Two tables: rates and latencies, and processor time by role."""
    rates = Table("", "per s", "p50, ms", "p95, ms", "p99, ms", "store writes each", "in messages each", "commits/s")
    for row in phases:
        cells = [f"{row[name]:.2f}" for name in ("p50_ms", "p95_ms", "p99_ms", "store_writes_each")]
        rates.add_row(
            row["what"],
            f"{row['per_s']:,.0f}",
            *cells,
            f"{row['store_messages_each']:.2f}",
            f"{row['commits_per_s']:,.0f}",
        )
    console.print(rates)
    roles = [role for role in phases[0]["cpu_ms_each"] if any(row["cpu_percent"].get(role, 0) >= 0.5 for row in phases)]
    used = Table("processor time, ms each (% of a core)", *roles, "all")
    for row in phases:
        each, percent = row["cpu_ms_each"], row["cpu_percent"]
        cells = [f"{each.get(role, 0):.3f} ({percent.get(role, 0):.0f})" for role in roles]
        used.add_row(row["what"], *cells, f"{sum(each.values()):.3f} ({sum(percent.values()):.0f})")
    console.print(used)
