"""Looking at and waiting for processes by pid, and a port for one; nothing here ever kills by name."""

import contextlib
import os
import socket
import time
from collections.abc import Callable

POLL_S = 0.05


def alive(pid: int) -> bool:
    """A zombie (dead, not yet reaped by its parent) does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    return True


def wait_until(true: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Poll a condition outside of this process. Raises AssertionError naming ``what``."""
    deadline_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline_s, f"not within {timeout_s} s: {what}"
        time.sleep(POLL_S)


def free_port() -> int:
    """That nobody listens at just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def resident_bytes(pid: int) -> int:
    """Memory of a process, Linux only; 0 elsewhere."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def cpu_seconds(pid: int) -> float:
    """User and system time a process has used, Linux only; 0 elsewhere."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0
