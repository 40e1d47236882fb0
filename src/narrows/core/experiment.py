"""Experiments that can be stopped at any moment and go on where they were.

A paper's `run.py` names its cells (one set of parameters each), how one cell is measured, which figures come
out and the rule of the verdict; everything else is here:

    Experiment(__file__, revision="1", cells=cells, measure=measure, figures=figures, verdict=verdict).main()
"""

import argparse
import inspect
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from narrows.core.errors import NarrowsError
from narrows.core.files import write_json
from narrows.core.record import environment
from narrows.core.statistics import estimate

Mode = Literal["smoke", "default", "full"]
Cell = Mapping[str, Any]
Figures = Mapping[str, Any]

VERDICTS = ("reproduced", "partly", "not at this scale", "contradicted")


@dataclass(frozen=True)
class CellResult:
    """A measured cell; entries of `result` whose key begins with "_" stay out of result.json."""

    cell: Cell
    result: Mapping[str, Any]
    seconds: float
    code: str | None


@dataclass(frozen=True)
class Options:
    """What the command line of a `run.py` asks for."""

    mode: Mode
    fresh: bool
    out: Path


@dataclass(frozen=True)
class Experiment:
    """An experiment in cells.

    `script`: the `run.py`, whose folder gets `result.json`, a small file for each cell in `cells/` and, ignored
    by git, the work folder `cells.work/`.
    `revision`: of the experiment's code; change it when old cells are no longer comparable.
    `cells`: the cells of a mode (smoke, default, full); parameters are JSON values, a seed is called "seed".
    `measure`: (cell, work folder) to a JSON-ready result; the work folder is kept between cells and runs.
    `figures`: all results to named figures; a list of numbers (one per seed) becomes mean, spread and
    t-interval, a mapping is stored as it is.
    `verdict`: the finished figures to one of VERDICTS; its docstring states the rule in words.
    `finish`: what else to write, such as a table or a picture, from the record that is in `result.json`; gets
    the folder that has it.
    """

    script: str
    revision: str
    cells: Callable[[Mode], Sequence[Cell]]
    measure: Callable[[Cell, Path], Mapping[str, Any]]
    figures: Callable[[Sequence[CellResult]], Figures]
    verdict: Callable[[Mapping[str, Mapping[str, Any]]], str]
    finish: Callable[[Mapping[str, Any], Path], None] | None = None

    def __post_init__(self) -> None:
        if not inspect.getdoc(self.verdict):
            raise ValueError("the verdict function needs a docstring that states its rule in words")

    @property
    def folder(self) -> Path:
        """Where the script lies."""
        return Path(self.script).resolve().parent

    def main(self, arguments: Sequence[str] | None = None) -> None:
        """Run from the command line: measure the missing cells, write result.json, print the figures."""
        options = self.parse(arguments)
        try:
            self.run(options)
        except NarrowsError as error:
            print(f"{self.folder.name}: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("\nstopped; the finished cells are kept: run the same command again to go on", file=sys.stderr)
            sys.exit(130)

    def parse(self, arguments: Sequence[str] | None = None) -> Options:
        """The options every `run.py` shares."""
        description = (inspect.getdoc(sys.modules.get("__main__")) or self.folder.name).splitlines()[0]
        parser = argparse.ArgumentParser(description=description)
        size = parser.add_mutually_exclusive_group()
        size.add_argument("--smoke", action="store_true", help="seconds: does it run at all?")
        size.add_argument("--full", action="store_true", help="the paper's scale, as far as a GPU allows")
        parser.add_argument("--fresh", action="store_true", help="forget the finished cells")
        parser.add_argument("--out", type=Path, help="folder for result.json and cells (default: beside run.py)")
        got = parser.parse_args(arguments)
        mode: Mode = "smoke" if got.smoke else "full" if got.full else "default"
        # A smoke run must never replace the committed result.
        return Options(mode, got.fresh, got.out or (self.folder / "smoke.work" if got.smoke else self.folder))

    def run(self, options: Options) -> dict[str, Any]:
        """Measure what is missing and write `result.json`; returns what was written."""
        cells = self.cells(options.mode)
        store, work = options.out / "cells", options.out / "cells.work"
        if options.fresh:
            shutil.rmtree(store, ignore_errors=True)
            shutil.rmtree(work, ignore_errors=True)
        for folder in (store, work):
            folder.mkdir(parents=True, exist_ok=True)
        names = [_name(cell) for cell in cells]
        if len(set(names)) != len(names):
            raise ValueError(f"two cells of {self.folder.name} have the same parameters")
        results = self._measure_all(cells, [store / f"{name}.json" for name in names], work)
        record = self._record(options.mode, results)
        write_json(options.out / "result.json", record)
        if self.finish:
            self.finish(record, options.out)
        _print(record)
        return record

    def _measure_all(self, cells: Sequence[Cell], files: Sequence[Path], work: Path) -> list[CellResult]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        results = []
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns) as progress:
            task = progress.add_task(self.folder.name, total=len(cells))
            for cell, file in zip(cells, files, strict=True):
                found = self._finished(cell, file)
                if found is None:
                    label = ", ".join(f"{key} {value}" for key, value in cell.items())
                    progress.update(task, description=label)
                    found = self._measure(cell, file, work)
                    progress.console.print(f"{label}: {found.seconds:.1f} s", highlight=False)
                results.append(found)
                progress.advance(task)
        return results

    def _finished(self, cell: Cell, file: Path) -> CellResult | None:
        if not file.exists():
            return None
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored["revision"] != self.revision:
            return None
        return CellResult(cell, stored["result"], stored["seconds"], stored["code"])

    def _measure(self, cell: Cell, file: Path, work: Path) -> CellResult:
        started = time.monotonic()
        # Through JSON, so that a fresh result and one read back are the same.
        result = json.loads(json.dumps(self.measure(cell, work), allow_nan=False))
        found = CellResult(cell, result, time.monotonic() - started, environment()["revision"])
        stored = {"cell": dict(cell), "revision": self.revision, "code": found.code, "seconds": found.seconds}
        write_json(file, stored | {"result": result})
        return found

    def _record(self, mode: Mode, results: Sequence[CellResult]) -> dict[str, Any]:
        figures = {name: _figure(values) for name, values in self.figures(results).items()}
        verdict = self.verdict(figures)
        if verdict not in VERDICTS:
            raise ValueError(f"the verdict is one of {', '.join(VERDICTS)}; the rule gave {verdict!r}")
        public = [{key: value for key, value in r.result.items() if not key.startswith("_")} for r in results]
        return {
            "schema": 1,
            "paper": self.folder.name,
            "mode": mode,
            "revision": self.revision,
            "verdict": verdict,
            "rule": inspect.getdoc(self.verdict),
            "rule_code": inspect.getsource(self.verdict),
            "figures": figures,
            "seeds": sorted({r.cell["seed"] for r in results if "seed" in r.cell}),
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(sum(r.seconds for r in results), 1),
            "code": sorted({r.code for r in results if r.code}),
            "environment": environment(),
            "cells": [
                {"cell": dict(r.cell), "seconds": round(r.seconds, 1), "result": shown}
                for r, shown in zip(results, public, strict=True)
            ],
        }


def _name(cell: Cell) -> str:
    text = json.dumps(cell, sort_keys=True)
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", "_".join(str(value) for value in cell.values()))[:60].strip("-")
    return f"{readable}-{blake2b(text.encode(), digest_size=6).hexdigest()}"


def _figure(values: Any) -> dict[str, Any]:
    if isinstance(values, Mapping):
        return dict(values)
    return estimate(values).to_json() | {"values": list(values)}


def _print(record: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "mean", "spread", "runs", title=f"{record['paper']}: {record['verdict']}")
    for name, figure in record["figures"].items():
        if "mean" in figure:
            spread = "" if figure.get("spread") is None else f"{figure['spread']:.2g}"
            table.add_row(name, f"{figure['mean']:.4g}", spread, str(figure.get("count", "")))
        else:
            numbers = ((k, v) for k, v in figure.items() if isinstance(v, int | float))
            table.add_row(name, ", ".join(f"{key} {value:.4g}" for key, value in numbers))
    Console().print(table)
