"""How a run gets on, on stderr: live bars on a terminal, a line for each finished stage elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


class Watcher(Protocol):
    """Who is told how a run gets on (`narrows.road.Watcher`, which is not imported before it is needed)."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def update(self, step: int, total: int, figures: Mapping[str, float]) -> None:
        """`step` of `total` parts of the stage are done; 0 where the total is not known."""


class Silence:
    """A watcher that says nothing."""

    def stage(self, name: str) -> None:
        """Nothing."""

    def update(self, step: int, total: int, figures: Mapping[str, float]) -> None:
        """Nothing."""


class Bars:
    """A bar for each stage: its name, steps, loss, time gone and time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def stage(self, name: str) -> None:
        """Finish the bar before and begin another."""
        self.finish()
        self._task = self._progress.add_task(name, total=None, figures="")

    def update(self, step: int, total: int, figures: Mapping[str, float]) -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.update(self._task, completed=step, total=total or None, figures=_words(figures))

    def finish(self) -> None:
        """Fill the bar of a stage that has ended."""
        if self._task is not None:
            done = max(1, int(self._progress.tasks[-1].completed))
            self._progress.update(self._task, completed=done, total=done)
            self._progress.stop_task(self._task)


class Lines:
    """A line for each stage when it has ended."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._name: str | None = None
        self._start, self._step = 0.0, 0
        self._figures: Mapping[str, float] = {}

    def stage(self, name: str) -> None:
        """Say how the stage before went."""
        self.finish()
        self._name, self._start, self._step, self._figures = name, time.monotonic(), 0, {}

    def update(self, step: int, total: int, figures: Mapping[str, float]) -> None:
        """Remember how far it is."""
        self._step, self._figures = step, figures

    def finish(self) -> None:
        """Write the line of a stage that has ended."""
        if self._name is not None:
            parts = [f"{self._step} steps" if "loss" in self._figures else "", _words(self._figures)]
            parts.append(f"{time.monotonic() - self._start:.1f} s")
            self._console.print(f"{self._name}: {', '.join(part for part in parts if part)}")
        self._name = None


@contextmanager
def watching(silent: bool) -> Iterator[Watcher]:
    """The watcher for a command, on stderr."""
    if silent:
        yield Silence()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        lines = Lines(console)
        yield lines
        lines.finish()
        return
    columns = (
        TextColumn("{task.description:<9}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        bars = Bars(progress)
        yield bars
        bars.finish()


def _words(figures: Mapping[str, float]) -> str:
    return f"loss {figures['loss']:.4g}" if "loss" in figures else ""
