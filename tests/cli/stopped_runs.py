"""Runs of `narrows prune` that are stopped and killed at many moments: forks of one process with everything imported.

Arguments: the folder for the results, then those of `narrows prune` without --out. Writes `<folder>/<name>/small` for
the names whole, killed, timed, stopped, gates and so on, and `<folder>/lives.json`: what each life printed and how it
ended.
"""

import contextlib
import gc
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

import narrows.road.door
from narrows.cli import app, pruning
from narrows.cli.progress import Watcher


class Killer:
    """A watcher that sends a signal to its own process at a step of a stage, or at the stage's beginning (0)."""

    def __init__(self, name: str, step: int, what: int) -> None:
        self.name, self.step, self.what = name, step, what
        self.now = ""

    def stage(self, name: str) -> None:
        self.now = name
        self.update(0, 0, {})

    def update(self, step: int, total: int, figures: Mapping[str, float]) -> None:
        if (self.now, step) == (self.name, self.step):
            os.kill(os.getpid(), self.what)


def watched(name: str, step: int, what: int) -> Callable[[], None]:
    @contextlib.contextmanager
    def watching(silent: bool) -> Iterator[Watcher]:
        yield Killer(name, step, what)

    def prepare() -> None:
        pruning.watching = watching

    return prepare


def killed_by(target: object, name: str, *, after: bool, when: Callable[..., bool]) -> Callable[[], None]:
    """SIGKILL just before or after the first call of `target.name` for which `when` is true."""
    whole = getattr(target, name)

    def call(*args: object, **more: object) -> object:
        meant = when(*args)
        if meant and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = whole(*args, **more)
        if meant:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return lambda: setattr(target, name, call)


def start(arguments: list[str], folder: Path, prepare: Callable[[], None] | None) -> int:
    """Fork a life of a run; its output goes to files."""
    pid = os.fork()
    if pid:
        return pid
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    code = 1
    try:
        if prepare:
            prepare()
        app(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    torch.set_num_threads(1)
    gc.freeze()  # every start of a run collects garbage
    folder, given = Path(sys.argv[1]), sys.argv[2:]
    lives: dict[str, list[dict[str, object]]] = {}

    def live(name: str, prepare: Callable[[], None] | None = None, delay: float | None = None) -> None:
        run = folder / name
        run.mkdir(exist_ok=True)
        more = ["--method", "vtrans", "--steps", "90"] if name.startswith("gates") else []
        again = ["--resume"] if name in lives else []
        arguments = ["prune", *given, *more, "--out", str(run / "small"), *again]
        pid = start(arguments, run, prepare)
        if delay is not None:
            time.sleep(delay)
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        left = sorted(p.name for p in run.iterdir() if p.name not in ("stdout", "stderr"))
        said = {"stdout": (run / "stdout").read_text(), "stderr": (run / "stderr").read_text()}
        lives.setdefault(name, []).append({"code": code, "left": left, **said})

    begun = time.monotonic()
    live("whole")
    length = time.monotonic() - begun

    kill = signal.SIGKILL
    live("killed", watched("fine-tune", 0, kill))
    live("killed", watched("fine-tune", 30, kill))
    live("killed", watched("teacher", 1, kill))
    live("killed", watched("plan", 2, kill))
    live("killed", watched("heal", 0, kill))
    live("killed", watched("heal", 30, kill))
    live("killed", watched("measure", 0, kill))
    into_place = {"when": lambda _, to: Path(to).name == "small"}
    live("killed", killed_by(Path, "rename", after=False, **into_place))
    live("killed", killed_by(Path, "rename", after=True, **into_place))
    live("killed")

    dice = random.Random()
    for _ in range(4):
        live("timed", delay=dice.uniform(0.05, 0.9) * length)
    live("timed")

    live("stopped", watched("fine-tune", 30, signal.SIGINT))
    live("stopped", watched("plan", 3, signal.SIGINT))
    live("stopped", watched("heal", 30, signal.SIGINT))
    live("stopped", watched("heal", 35, signal.SIGTERM))
    live("stopped")

    live("gates whole")
    live("gates", watched("plan", 28, kill))  # of 30 steps that train gates; a state is saved at 25
    live("gates", watched("heal", 5, signal.SIGINT))
    live("gates")

    def tidying(path: Path, *_: object) -> bool:
        return Path(path).name == "small.work"

    live("tidied", killed_by(narrows.road.door.shutil, "rmtree", after=False, when=tidying))
    live("tidied")
    shutil.rmtree(folder / "tidied" / "small")
    (folder / "lives.json").write_text(json.dumps(lives))


if __name__ == "__main__":
    main()
