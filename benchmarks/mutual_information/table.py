"""From the cells of `run.py` to scoreboard.json and scoreboard.md."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from narrows.core.files import write_json, write_text
from narrows.core.record import environment
from narrows.information import EXTRA_TASKS, TASKS

HEADLINE = 5000
OTHER_SIZE = 2000
"""Rows at which the laws that are not among the 18 tasks are drawn."""
Row = Mapping[str, Any]


def write_scoreboard(folder: Path, origins: Mapping[str, str]) -> None:
    """Read all cells of the methods named and write both files."""
    cells = [json.loads(path.read_text()) for path in sorted((folder / "cells").glob("*/*.json"))]
    cells = [c for c in cells if c["method"] in origins]
    cells = [c for c in cells if c["task"] in TASKS or c["task"] in EXTRA_TASKS]
    sizes = sorted({c["n"] for c in cells})
    methods = [m for m in origins if any(c["method"] == m for c in cells)]
    summaries = [{"method": m, "origin": origins[m]} | _summary(cells, m, sizes) for m in methods]
    summaries.sort(key=lambda s: (-s["passed"].get(str(HEADLINE), 0), s["median_relative_error"] or 9))
    write_json(folder / "scoreboard.json", {"environment": environment(), "summaries": summaries, "cells": cells})
    write_text(folder / "scoreboard.md", _markdown(summaries, cells, sizes))


def _summary(cells: Sequence[Row], method: str, sizes: Sequence[int]) -> dict[str, Any]:
    own = {(c["task"], c["n"]): c for c in cells if c["method"] == method}
    at = {task: own.get((task, HEADLINE), {}) for task in TASKS}
    means = {task: row.get("mean") for task, row in at.items()}
    errors = [abs(means[t] - task.mi) / task.mi for t, task in TASKS.items() if task.mi and means[t] is not None]
    gaps = [abs(means[t] - means["T01"]) for t in ("T02", "T03", "T07") if None not in (means[t], means["T01"])]
    done = [row for row in at.values() if row.get("seconds") is not None]
    return {
        "passed": {str(n): sum(bool(own.get((t, n), {}).get("passed")) for t in TASKS) for n in sizes},
        "passed_of_others": sum(bool(own.get((t, OTHER_SIZE), {}).get("passed")) for t in EXTRA_TASKS),
        "answered": sum(v is not None for v in means.values()),
        "median_relative_error": statistics.median(errors) if errors else None,
        "null_error": None if means["T16"] is None else abs(means["T16"]),
        "invariance_gap": max(gaps) if gaps else None,
        "seconds": statistics.mean(row["seconds"] for row in done) if done else None,
        "memory": max((row["memory"] for row in done if row["memory"] is not None), default=None),
        "runs": sorted({row["runs"] for row in done}),
    }


def _markdown(summaries: Sequence[Row], cells: Sequence[Row], sizes: Sequence[int]) -> str:
    lines = [
        "# Scoreboard of mutual information",
        "",
        f"Passed: the mean over seeds is within 0.05 nats or a tenth of the truth, of {len(TASKS)} tasks; what a",
        "method cannot answer is not passed. Errors, seconds (a run, one thread) and memory (MiB, the most that a run",
        f"added) are those at n = {HEADLINE:,}; the median relative error is over the tasks that were answered.",
        f"Others: {len(EXTRA_TASKS)} laws at n = {OTHER_SIZE:,}, listed below.",
        "",
        "| method | from | "
        + " | ".join(f"passed at {n:,}" for n in sizes)
        + " | others | answered | median error | null error | invariance gap | seconds | MiB | seeds |",
        "|---|---|" + "---:|" * (len(sizes) + 8),
    ]
    for s in summaries:
        passed = " | ".join(str(p) for p in (*(s["passed"][str(n)] for n in sizes), s["passed_of_others"]))
        seeds = "–".join(str(r) for r in dict.fromkeys((s["runs"][0], s["runs"][-1]))) if s["runs"] else "–"
        lines.append(
            f"| {s['method']} | {s['origin']} | {passed} | {s['answered']} | {_percent(s['median_relative_error'])} | "
            f"{_number(s['null_error'])} | {_number(s['invariance_gap'])} | {_number(s['seconds'], 2)} | "
            f"{_number(s['memory'], 0)} | {seeds} |"
        )
    for n in reversed(sizes):
        lines += ["", f"## Means (deviations) at n = {n:,}", "", *_tasks(summaries, cells, n)]
    lines += ["", f"## Other laws at n = {OTHER_SIZE:,}", "", *_others(summaries, cells)]
    lines += ["", "## Where a peer comes nearer", "", *_nearer(summaries, cells)]
    return "\n".join((*lines, "", "## What was not answered", "", *_failures(summaries, cells), ""))


def _tasks(summaries: Sequence[Row], cells: Sequence[Row], n: int) -> list[str]:
    rows = {(c["method"], c["task"]): c for c in cells if c["n"] == n}
    lines = ["| method | " + " | ".join(TASKS) + " |", "|---|" + "---:|" * len(TASKS)]
    lines.append("| *truth* | " + " | ".join(f"*{task.mi:.3f}*" for task in TASKS.values()) + " |")
    for s in summaries:
        found = [_cell(rows.get((s["method"], task))) for task in TASKS]
        lines.append(f"| {s['method']} | " + " | ".join(found) + " |")
    return lines


def _others(summaries: Sequence[Row], cells: Sequence[Row]) -> list[str]:
    """A row for each law: the truth, `auto`, and the two, ours and a peer, with the least root mean square error."""
    lines = ["| law | columns | truth | auto | nearest of narrows | nearest peer |", "|---|---:|---:|---:|---|---|"]
    for name, task in EXTRA_TASKS.items():
        own, peers = _ranked(summaries, cells, name, OTHER_SIZE)
        auto = next((c for c in own if c["method"] == "auto"), None)
        best = [f"{_cell(found[0])} {found[0]['method']}" if found else "–" for found in (own, peers)]
        columns = f"{task.dim_x} + {task.dim_y}"
        lines.append(f"| {name} | {columns} | {task.mi:.3f} | {_cell(auto)} | {best[0]} | {best[1]} |")
    return lines


def _nearer(summaries: Sequence[Row], cells: Sequence[Row]) -> list[str]:
    """The cells in which a peer's root mean square error is below that of every estimator of narrows."""
    places = [(t, c) for t in TASKS for c in sorted({c["n"] for c in cells if c["task"] == t})]
    lines = ["| task | n | nearest of narrows | error | nearest peer | error |", "|---|---:|---|---:|---|---:|"]
    for task, n in places:
        own, peers = _ranked(summaries, cells, task, n)
        if peers and own and peers[0]["rmse"] < own[0]["rmse"]:
            names = [
                f"{found[0]['method']} ({found[0]['runs']} seeds) | {found[0]['rmse']:.4f}" for found in (own, peers)
            ]
            lines.append(f"| {task} | {n:,} | {names[0]} | {names[1]} |")
    count = len(lines) - 2
    head = (
        f"Root mean square errors over the seeds. In {len(places) - count} of {len(places)} cells no peer comes nearer."
    )
    return [head, "", *lines]


def _ranked(summaries: Sequence[Row], cells: Sequence[Row], task: str, n: int) -> tuple[list[Row], list[Row]]:
    """The cells of narrows and of peers, nearest to the truth first."""
    origins = {s["method"]: s["origin"] for s in summaries}
    found = [c for c in cells if c["task"] == task and c["n"] == n and c.get("rmse") is not None]
    found.sort(key=lambda c: c["rmse"])
    return [c for c in found if origins[c["method"]] == "narrows"], [
        c for c in found if origins[c["method"]] != "narrows"
    ]


def _cell(row: Row | None) -> str:
    if row is None or row.get("mean") is None:
        return "–"
    mean = f"**{row['mean']:.3f}**" if row["passed"] else f"{row['mean']:.3f}"
    return f"{mean} ({row['sd']:.3f})" if row.get("sd") is not None else mean


def _failures(summaries: Sequence[Row], cells: Sequence[Row]) -> list[str]:
    lines = []
    for s in summaries:
        reasons: dict[str, list[str]] = {}
        for c in cells:
            if c["method"] == s["method"] and c.get("error"):
                reasons.setdefault(c["error"].splitlines()[0][:160], []).append(f"{c['task']} at {c['n']:,}")
        for reason, where in reasons.items():
            places = ", ".join(where) if len(where) <= 4 else f"{len(where)} cells"
            lines.append(f"- {s['method']}: {reason} ({places})")
    return lines or ["Nothing."]


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
