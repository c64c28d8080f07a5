"""The data folder before anything starts: writable, and used by one cluster at a time."""

import fcntl
import os
from pathlib import Path
from typing import IO

from runtime.service import StartRefused


def claim(data: Path) -> IO[str]:
    """Make the folder and its ``logs``, and hold its lock until the returned file is closed (or this process dies).
    Raises StartRefused."""
    try:
        (data / "logs").mkdir(parents=True, exist_ok=True)
        lock = (data / "cluster.lock").open("a+")
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise StartRefused(f"--data {data}: cannot be written ({reason}); choose another folder.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        pid = lock.read().strip()
        lock.close()
        raise StartRefused(
            f"--data {data}: a cluster (pid {pid}) is running on it; stop that, or choose another folder."
        ) from error
    lock.seek(0)
    lock.truncate()
    lock.write(str(os.getpid()))
    lock.flush()
    return lock
