"""The store process as a cluster starts it, for a bench."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
STOP_S = 20.0


@contextmanager
def store_process(data: Path, join: str) -> Iterator[int]:
    """Its process id; the mesh's book tells when it is ready. ``join``: a command endpoint of a member of the mesh."""
    environment = {**os.environ, "PROJECTK_DATA": str(data), "PROJECTK_JOIN": join}
    command = [sys.executable, "-m", "cluster.role", "store"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait(STOP_S)
