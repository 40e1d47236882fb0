"""Progress on stderr: bars on a terminal, lines elsewhere, nothing with --json."""

import contextlib
import io
import re

import pytest
from rich.console import Console

from narrows.cli import progress


@pytest.fixture
def screen(monkeypatch):
    """A terminal (or not), and what was written on it."""

    def make(terminal: bool) -> io.StringIO:
        written = io.StringIO()
        whole = Console.__init__

        def init(self, **options):
            options.pop("stderr")
            whole(self, **options, file=written, force_terminal=terminal, width=120, _environ={"TERM": "xterm"})

        monkeypatch.setattr(Console, "__init__", init)
        return written

    return make


def run(watcher: progress.Watcher) -> None:
    watcher.stage("load")
    watcher.stage("heal")
    watcher.update(0, 40, {})
    watcher.update(40, 40, {"step": 40, "loss": 0.123456})
    watcher.stage("plan")
    watcher.update(3, 0, {})
    watcher.stage("measure")


def test_lines_where_nobody_watches(screen):
    written = screen(terminal=False)
    with progress.watching(silent=False) as watcher:
        run(watcher)
    seconds = r"\d+\.\d s"
    expected = [
        f"load: {seconds}",
        rf"heal: 40 steps, loss 0\.1235, {seconds}",
        f"plan: {seconds}",
        f"measure: {seconds}",
    ]
    lines = written.getvalue().splitlines()
    assert len(lines) == len(expected)
    assert all(re.fullmatch(pattern, line) for pattern, line in zip(expected, lines, strict=True))


def test_bars_on_a_terminal(screen):
    written = screen(terminal=True)
    with progress.watching(silent=False) as watcher:
        run(watcher)
    shown = written.getvalue()
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown[shown.rindex("load") :])
    assert re.search(r"heal .*40/40 loss 0\.1235 .*left 0:00:00", last)
    assert re.search(r"plan .*3/3", last)
    assert "\x1b[?25h" in shown  # the cursor is back


def test_the_cursor_is_back_after_a_stop(screen):
    written = screen(terminal=True)
    with contextlib.suppress(KeyboardInterrupt), progress.watching(silent=False) as watcher:
        watcher.stage("heal")
        raise KeyboardInterrupt
    assert "\x1b[?25h" in written.getvalue()


def test_silence(screen):
    written = screen(terminal=True)
    with progress.watching(silent=True) as watcher:
        run(watcher)
    assert written.getvalue() == ""
