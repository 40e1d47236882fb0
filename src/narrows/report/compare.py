"""Several runs side by side: which of them may be compared, their table, their frontier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from narrows.core.frontier import Frontier, Point
from narrows.report import view, words
from narrows.report.svg import Dot, scatter

Named = tuple[str, Mapping[str, Any]]  # a run and what to call it
Key = tuple[str, str, str]  # model, data, quality


def name_of(record: Mapping[str, Any]) -> str:
    """A run in a few words: its method, budgets and seed."""
    asked = [budget["text"] for budget in record["budgets"]] or ["no budget"]
    return " · ".join([record["method"], *asked, f"seed{words.SPACE}{record['seed']}"])


def sections(records: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """One section per model, data and quality: only within a section do the figures mean the same.

    `names` are what to call the runs; None: their method, budgets and seed.
    """
    names = names or [name_of(record) for record in records]
    groups: dict[Key, list[Named]] = {}
    for name, record in zip(names, records, strict=True):
        key = (record["model"]["name"], record["data"]["name"], record["data"]["quality"])
        groups.setdefault(key, []).append((name, record))
    return [_section(key, runs) for key, runs in groups.items()]


def _section(key: Key, named: Sequence[Named]) -> dict[str, Any]:
    named = sorted(named, key=lambda pair: (-pair[1]["after"]["params"], -pair[1]["after"]["quality"]))
    runs = [run for _, run in named]
    frontier = Frontier(
        [Point(run["after"]["params"], run["after"]["quality"], str(i), run["seed"]) for i, run in enumerate(runs, 1)],
        "parameters",
        words.quality_name(key[2]),
    )
    best = {point.label for point in frontier.pareto()}
    batch = next(iter(sorted({b for run in runs for b in view.batches(run)}, key=int, reverse=True)), None)
    rows = []
    for i, (title, run) in enumerate(named, 1):
        speed = view.latency(run, batch) if batch else None
        share = view.kept_quality(run)
        rows.append(
            {
                "number": i,
                "title": title,
                "name": name_of(run),
                "best": str(i) in best,
                "quality": words.quality(run["after"]["quality"]),
                "error": words.quality(_error(run)) if _error(run) else "",
                "kept": words.percent(share) if share is not None else "",
                "params": words.count(run["after"]["params"]),
                "share": words.percent(run["after"]["params"] / run["before"]["params"]),
                "body": words.count(view.body_params(run["after"])),
                "macs": words.short(run["after"]["macs"]),
                "bytes": words.size(run["after"]["bytes"]),
                "latency": words.milliseconds(speed[1]) if speed else words.NOT_MEASURED,
                "faster": words.times(speed[0] / speed[1]) if speed else "",
                "met": all(budget["met"] for budget in view.budgets(run)),
            }
        )
    dense = runs[0]["before"]
    qualities = [run["before"]["quality"] for run in runs]
    return {
        "model": words.basename(key[0]),
        "data": words.basename(key[1]),
        "quality": words.quality_name(key[2]),
        "rows": rows,
        "batch": batch,
        "dense": {
            "low": words.quality(min(qualities)),
            "high": words.quality(max(qualities)),
            "params": words.count(dense["params"]),
        },
        "chart": _chart(runs, frontier, words.quality_name(key[2])),
    }


def _error(run: Mapping[str, Any]) -> float:
    """The standard error of the quality; 0 where it is unknown."""
    error = run["after"].get("quality_se")
    return float(error) if words.finite(error) else 0.0


def _chart(runs: Sequence[Mapping[str, Any]], frontier: Frontier, quality: str) -> Markup:
    best = {point.label for point in frontier.pareto()}
    dots = [
        Dot(
            run["after"]["params"],
            run["after"]["quality"],
            str(i),
            f"{i}: {name_of(run)}; {quality} {words.quality(run['after']['quality'])}, "
            f"{words.count(run['after']['params'])} parameters",
            "kept",
            error=_error(run),
            hollow=str(i) not in best,
        )
        for i, run in enumerate(runs, 1)
    ]
    dense = {(run["before"]["params"], run["before"]["quality"]) for run in runs}
    dots += [
        Dot(params, value, "dense", f"the dense model; {quality} {words.quality(value)}", "before")
        for params, value in sorted(dense)[-1:]
    ]
    said = "; ".join(dot.tip for dot in dots)
    return scatter(
        dots,
        x_label="parameters (log scale)",
        y_label=quality,
        steps=[(point.cost, point.quality) for point in frontier.pareto()],
        alternative=f"{words.sentence(quality)} against parameters. {said}.",
        write=words.tick,
    )
