"""What operators read: nodes as a table, notes and steps as lines."""

import time
from typing import Any

from rich.table import Table
from rich.text import Text

Json = dict[str, Any]

ROLES = ("supervisor", "broker", "store", "login", "gateway", "gameserver")
_COLORS = {
    "ready": "green",
    "starting": "yellow",
    "draining": "magenta",
    "waiting": "dim",
    "failed": "red",
    "done": "green",
}
_LOAD = (
    ("avatars", "{} avatars"),
    ("regions", "{} regions"),
    ("clients", "{} clients"),
    ("tick_ms", "tick {} ms"),
)
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


def colored(state: str) -> Text:
    return Text(state, style=_COLORS.get(state, ""))


def nodes_table(document: Json) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("node", "role", "status", "generation", "up"):
        table.add_column(name, justify="right" if name in ("generation", "up") else "left", no_wrap=True)
    table.add_column("heard", justify="right", no_wrap=True)
    table.add_column("load", overflow="fold")
    order = {role: n for n, role in enumerate(ROLES)}
    for node in sorted(document["nodes"], key=lambda n: (order.get(n["role"], 99), len(n["id"]), n["id"])):
        status = colored(node["status"])
        if node["suspected"]:
            status = Text("silent", style="bold red")
        heard = "asked" if node["id"] == document["asked"] else f"{node['silent_ms'] / 1_000:.1f} s ago"
        table.add_row(
            node["id"],
            node["role"],
            status,
            str(node["generation"]),
            lasted(node["ready_ms"]),
            heard,
            load(node["load"]),
        )
    return table


def load(figures: Json) -> str:
    return ", ".join(text.format(figures[name]) for name, text in _LOAD if name in figures)


def lasted(ms: float | None) -> str:
    """5 s, 3 min, 7 h, 12 d."""
    if ms is None:
        return "-"
    seconds = int(ms / 1_000)
    for size, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {name}"
    return f"{seconds} s"


def note_line(kind: str, note: Json) -> str:
    """World time began as somebody's wall clock, and is shown as such."""
    if kind == "missed":
        return f"{'…':<8}  missed    {note.get('missed')} notes came too fast to be read"
    detail = "  ".join(f"{name}={value}" for name, value in note["detail"].items())
    return f"{time.strftime('%H:%M:%S', time.localtime(note['world_ms'] / 1_000))}  {kind:<8}  {detail}"


def step_line(step: Json) -> str:
    seconds = step.get("seconds") or 0
    return f"{step['id']:<6} {step['role']:<11} {step['state']}" + (
        f" in {seconds:.1f} s" if step["state"] == "ready" else ""
    )
