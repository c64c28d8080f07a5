"""What ``projectk up`` shows: progress while the processes start, the two URLs, then events as they happen."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn


class ConsoleReport:
    """A ``Reporter`` on a terminal; on a pipe or file, plain lines."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._waiting: list[str] = []
        self._progress: Progress | None = None
        self._bar: TaskID | None = None

    def planned(self, ids: list[str]) -> None:
        self._waiting = list(ids)
        if self._console.is_terminal:
            self._progress = Progress(
                SpinnerColumn(),
                TextColumn("Starting the cluster"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.description}"),
                console=self._console,
                transient=True,
            )
            self._bar = self._progress.add_task(self._left(), total=len(ids))
            self._progress.start()
        else:
            self._console.print(f"Starting {len(ids)} processes …")

    def child_ready(self, node_id: str) -> None:
        self._waiting.remove(node_id)
        if self._progress is not None and self._bar is not None:
            self._progress.update(self._bar, advance=1, description=self._left())

    def all_ready(self, play: str, observe: str, logs: str, seconds: float) -> None:
        self.end_progress()
        self._console.print(f"[bold green]Ready[/] in {seconds:.1f} s.\n")
        self._console.print(f"  [bold]Play[/]     [link={play}]{play}[/link]", soft_wrap=True)
        self._console.print(f"  [bold]Observe[/]  [link={observe}]{observe}[/link]", soft_wrap=True)
        self._console.print(f"\n  Logs     {logs}\n  Ctrl-C saves the world and stops it.\n", soft_wrap=True)

    def event(self, text: str) -> None:
        self._console.print(f"[dim]·[/] {text}", soft_wrap=True)

    def failed(self, sentence: str) -> None:
        Console(stderr=True, highlight=False).print(f"projectk: {sentence}", soft_wrap=True, markup=False)

    def end_progress(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _left(self) -> str:
        shown = " ".join(self._waiting[:6])
        return f"waiting for {shown}" if shown else ""
