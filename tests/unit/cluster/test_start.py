"""What a process loads before it is ready: a cluster is ten of them, and each pays for what it never uses."""

import json
import subprocess
import sys

from cluster.role import APPS

NEVER = {"couchbase", "httpx", "rich", "typer"}  # of the command line, or of another store


def loaded(*modules: str) -> set[str]:
    """The packages that a new process has loaded with these."""
    program = f"import json, sys, {', '.join(modules)}; print(json.dumps(list(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return {name.partition(".")[0] for name in json.loads(said.stdout)}


def test_no_role_loads_what_only_the_command_line_needs() -> None:
    assert loaded("cluster.role", *APPS.values()) & NEVER == set()


def test_no_verb_loads_what_only_the_bots_need() -> None:
    assert loaded("cluster.cli") & {"numpy", "websockets", "couchbase"} == set()
