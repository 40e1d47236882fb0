"""The scoreboard: every estimator of mutual information, and peers, on tasks with known answers.

    python benchmarks/mutual_information/run.py                      narrows alone
    python benchmarks/mutual_information/run.py --peers ENVS         and peers, from environments ENVS/PACKAGE

A cell is a method on a task at a number of rows, all seeds; it is kept in `cells/` and not measured again. A cell gets
as many seeds as fit into `--budget` seconds (at least one), and is left out as too slow where a cell with no more
columns and rows took more than `--longest` seconds a run; both are said in the table. The 18 tasks are measured at all
`--sizes`, the other laws at one. Writes scoreboard.json and scoreboard.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from peers import PEERS, Peer, interpreter
from table import OTHER_SIZE, write_scoreboard

from narrows.core.files import write_json
from narrows.information import EXTRA_TASKS, MUTUAL_INFORMATION, TASKS, Method, Task, evaluate

HERE = Path(__file__).parent
SIZES = (500, 2000, 5000)
SEEDS = 5

Caller = Callable[[Task], Callable[[Any, Any], Any]]


def main() -> None:
    """Measure what is missing and write the scoreboard."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="*", help="only these (default: all that are registered)")
    parser.add_argument("--peers", type=Path, help="folder of environments; peers run only when it is given")
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--budget", type=float, default=6.0, help="seconds for the seeds of a cell")
    parser.add_argument("--longest", type=float, default=25.0, help="seconds for one run")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="only write the scoreboard from the cells there are")
    options = parser.parse_args()
    names = [n for n in MUTUAL_INFORMATION if not options.methods or n in options.methods]
    if options.peers:
        names += [n for n in PEERS if not options.methods or n in options.methods]
    if not options.table:
        with ProcessPoolExecutor(options.jobs) as pool:
            for future in [pool.submit(measure, name, options) for name in names]:
                future.result()
    write_scoreboard(HERE, {n: "narrows" if n in MUTUAL_INFORMATION else "peer" for n in (*MUTUAL_INFORMATION, *PEERS)})


def measure(name: str, options: argparse.Namespace) -> None:
    """All cells of one method that are missing, few rows first."""
    cells = [(n, task) for n in sorted(options.sizes) for task in TASKS.values()]
    cells += [(OTHER_SIZE, task) for task in EXTRA_TASKS.values()]
    missing = [(n, task) for n, task in cells if not _path(name, task, n).exists()]
    if not missing:
        return
    with _caller(name, options) as caller:
        for n, task in missing:
            easier = _slowest_easier(name, task, n)
            if easier > options.longest:
                cell = {
                    "method": name,
                    "task": task.name,
                    "n": n,
                    "error": f"too slow: an easier cell took {easier:.0f} s a run",
                }
            else:
                cell = _cell(name, task, n, caller, options)
            write_json(_path(name, task, n), cell)
    print(f"{name}: {len(missing)} cells", flush=True)


@contextmanager
def _caller(name: str, options: argparse.Namespace) -> Iterator[Caller | Peer]:
    if name in MUTUAL_INFORMATION:
        yield lambda task: suited(MUTUAL_INFORMATION[name], task)
    else:
        with Peer(name, interpreter(options.peers, name)) as peer:
            yield peer


def suited(method: Method, task: Task) -> Callable[[Any, Any], Any]:
    """The method as it is called on a task; raises where the method takes other kinds of sides."""

    def call(x: Any, y: Any) -> Any:
        if not {"codes": task.discrete == "both", "label": task.discrete is not None}.get(method.takes, True):
            raise NotImplementedError(f"not for this task: takes {method.takes}")
        if method.takes == "codes":
            return method.function(*(side[:, 0].astype(int) for side in (x, y)))
        if method.takes == "label":
            x, y = (y, x) if task.discrete == "x" else (x, y)
            return method.function(x, y[:, 0].astype(int))
        return method.function(x, y)

    return call


def _cell(name: str, task: Task, n: int, caller: Caller | Peer, options: argparse.Namespace) -> dict[str, Any]:
    if isinstance(caller, Peer) and caller.problem:
        return {"method": name, "task": task.name, "n": n, "error": f"does not run: {caller.problem}"}
    row = _row(caller, task, n, 1)
    runs = int(min(max(options.budget / (row["seconds"] or math.inf), 1), options.seeds))
    return {"method": name, **(row if row["error"] or runs == 1 else _row(caller, task, n, runs))}


def _row(caller: Caller | Peer, task: Task, n: int, runs: int) -> dict[str, Any]:
    if isinstance(caller, Peer):
        caller.seconds, caller.memory, caller.discrete = [], [], task.discrete or ""
    estimator = caller if isinstance(caller, Peer) else caller(task)
    row = evaluate(estimator, {task.name: task}, n, range(runs)).iloc[0].to_dict()
    if isinstance(caller, Peer) and caller.seconds:
        row |= {"seconds": sum(caller.seconds) / len(caller.seconds), "memory": max(caller.memory)}
    plain = {k: v.item() if hasattr(v, "item") else v for k, v in row.items()}
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in plain.items()}


def _slowest_easier(name: str, task: Task, n: int) -> float:
    """Seconds of a run of the slowest cell measured that has no more rows and no more columns."""
    slowest = 0.0
    for other in TASKS.values():
        for path in _path(name, other, n).parent.glob(f"{other.name}-*.json"):
            cell = json.loads(path.read_text())
            if cell["n"] <= n and other.dim_x + other.dim_y <= task.dim_x + task.dim_y and cell.get("seconds"):
                slowest = max(slowest, cell["seconds"])
    return slowest


def _path(name: str, task: Task, n: int) -> Path:
    folder = HERE / "cells" / name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{task.name}-{n}.json"


if __name__ == "__main__":
    main()
