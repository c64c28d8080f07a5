"""Who gets the processors when more want them than there are."""

import os
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")


def yield_to_other_sessions(niceness: int) -> None:
    """Let processes of other sessions go first, more so the nicer (1..19). Linux shares time between sessions first
    (autogroups, sched(7)): the priority of a process counts only within its own. So this one gets a session of its own,
    with that weight; where the system has no autogroups, only the process's priority."""
    if os.getpid() != os.getsid(0):
        os.setsid()
    if AUTOGROUP.exists():
        AUTOGROUP.write_text(str(niceness))
    else:
        os.nice(niceness)
