"""One child process of the supervisor: start, ready line, end."""

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from cluster.supervisor.plan import Planned, child_environment
from runtime.service import EXIT_REFUSED, SUPERVISOR_FD
from world.limits import READY_LINE_BYTES, READY_MS, STDERR_TAIL_BYTES


class ChildFailed(Exception):
    """A child ended before it was ready, or never was; the text is one sentence. ``refused``: it says why itself."""

    def __init__(self, sentence: str, *, refused: bool = False) -> None:
        super().__init__(sentence)
        self.refused = refused


@dataclass(slots=True)
class Child:
    """``addresses`` are those of its ready line, ``ready_s`` the loop's time at it."""

    planned: Planned
    process: asyncio.subprocess.Process
    stderr: Path
    addresses: dict[str, str] = field(default_factory=dict)
    ready_s: float | None = None

    @property
    def served_ms(self) -> float:
        """For how long it has been ready by now; 0 where it never was."""
        return 0.0 if self.ready_s is None else (asyncio.get_running_loop().time() - self.ready_s) * 1_000

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    def describe(self) -> dict[str, Any]:
        """Its row in the ready file."""
        return {
            "role": self.planned.role,
            "id": self.planned.id,
            "pid": self.process.pid,
            "addresses": self.addresses,
        }

    async def ready(self) -> None:
        """Wait for the ready line, at most READY_MS. Raises ChildFailed."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(READY_MS / 1_000):
                line = await self.process.stdout.readline()
        except TimeoutError:
            raise ChildFailed(
                f"{self.planned.id} was not ready within {READY_MS / 1_000:.0f} s; {self._log()}"
            ) from None
        if not line:
            raise await self._ended_early()
        try:
            self.addresses = dict(orjson.loads(line)["addresses"])
        except (ValueError, KeyError, TypeError) as error:
            raise ChildFailed(f"{self.planned.id} said {line[:80]!r} instead of its ready line.") from error
        self.ready_s = asyncio.get_running_loop().time()

    async def _ended_early(self) -> ChildFailed:
        code = await self.process.wait()
        last = self._last_words()
        if code == EXIT_REFUSED and last.startswith("projectk: "):
            return ChildFailed(last.removeprefix("projectk: "), refused=True)
        said = f" It said last: {last}" if last else ""
        return ChildFailed(f"{self.planned.id} ended with {code_name(code)} before it was ready; {self._log()}{said}")

    def _log(self) -> str:
        return f"see {self.planned.settings['log_file']} and {self.stderr}."

    def _last_words(self) -> str:
        """The last line of what it wrote on stderr, "" if nothing."""
        with contextlib.suppress(OSError), self.stderr.open("rb") as file:
            file.seek(max(0, self.stderr.stat().st_size - STDERR_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
            return lines[-1] if lines else ""
        return ""

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


def code_name(code: int | None) -> str:
    """``-9`` → ``signal SIGKILL``, ``1`` → ``exit code 1``."""
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


async def start_child(planned: Planned, pipe: int) -> Child:
    """Start it in a session of its own (a Ctrl-C reaches only the supervisor), with the read end of the supervisor's
    pipe inherited: its end of file, however the supervisor dies, stops the child."""
    stderr = Path(planned.settings["log_file"]).with_suffix(".stderr")
    with stderr.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *planned.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            limit=READY_LINE_BYTES,
            start_new_session=True,
            pass_fds=(pipe,),
            env=child_environment(planned) | {SUPERVISOR_FD: str(pipe)},
            cwd=os.getcwd(),
        )
    return Child(planned, process, stderr)
