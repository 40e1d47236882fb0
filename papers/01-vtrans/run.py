"""VTrans at small scale: learned gates against random, magnitude, Taylor and Fisher scores, rebuilt and healed alike.

A cell is {part, data, budget (percent of all parameters), seed, method, rebuild, vocab, steps, gate_steps}: `steps`
training steps after the dense model exists, of which the first `gate_steps` train gates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from measure import REMEDIES, measure, unpacked
from table import finish

from narrows.core.experiment import Cell, CellResult, Experiment, Mode
from narrows.core.statistics import bootstrap, estimate, paired_difference
from narrows.prune.methods import AUTO, GATE_SHARE

PRUNERS = ("vtrans", "fisher", "magnitude", "random", "taylor")
ALL = (*PRUNERS[:4], "scratch", "taylor")
FEW = ("vtrans", "fisher", "magnitude", "random", "scratch")
SEEDS = (0, 1, 2)
_ROWS = {"quality": "_rows", "unhealed": "_rows_unhealed"}
OTHERS = ("random", "magnitude", "taylor", "fisher", "fisher-iterative", "scratch")


def cells(mode: Mode) -> Sequence[Cell]:
    """The most telling cells first, so that a run that is stopped has them."""
    if mode == "smoke":
        return list(_smoke())
    return list(_default(300, SEEDS[:1]) if mode == "default" else _default(1200, SEEDS))


def _default(steps: int, elsewhere: Sequence[int]) -> Iterator[Cell]:
    """`elsewhere`: the seeds at 50 and 5 %, for plain cuts at 20 %, iterative Fisher, and product reviews."""
    for seed in SEEDS:
        yield _cell("dense", "movie", 100, seed, "dense", 0)
        for budget in (10, 20, 5):
            yield _cell("targets", "movie", budget, seed, AUTO, 1200)
        for budget in (10, 20):
            yield from _block("movie", budget, seed, ALL, steps)
            if seed in elsewhere:
                yield _cell("main", "movie", budget, seed, "fisher-iterative", steps)
    for budget in (10, 20):
        for seed in SEEDS if budget == 10 else elsewhere:
            yield from _block("movie", budget, seed, PRUNERS, steps, rebuild=False)
    for seed in elsewhere:
        for budget in (5, 50):
            yield from _block("movie", budget, seed, ALL, steps)
            yield from _block("movie", budget, seed, PRUNERS, steps, rebuild=False)
    for remedy in REMEDIES:
        yield _cell("remedies", "movie", 10, 0, remedy, steps)
    for rebuild in (True, False):
        yield _cell("gates", "movie", 10, 0, "vtrans", steps, rebuild=rebuild, gate_steps=steps)
    yield _cell("gates", "movie", 10, 0, "vtrans", 3 * steps, gate_steps=2 * steps)
    yield _cell("gates", "movie", 10, 0, "fisher", 3 * steps)
    for seed in elsewhere:
        yield _cell("dense", "product", 100, seed, "dense", 0)
        for budget in (10, 20):
            yield from _block("product", budget, seed, FEW, steps)


def _smoke() -> Iterator[Cell]:
    yield _cell("dense", "movie-toy", 100, 0, "dense", 0)
    yield from _block("movie-toy", 50, 0, (*ALL, "fisher-iterative"), 6)
    yield from _block("movie-toy", 50, 0, PRUNERS, 6, rebuild=False)
    for remedy in REMEDIES:
        yield _cell("remedies", "movie-toy", 50, 0, remedy, 6)
    yield _cell("gates", "movie-toy", 50, 0, "vtrans", 6, gate_steps=6)
    yield _cell("targets", "movie-toy", 50, 0, AUTO, 12)
    yield _cell("dense", "product-toy", 100, 0, "dense", 0)
    yield from _block("product-toy", 50, 0, ("vtrans", "fisher", "scratch"), 6)


def _block(
    data: str, budget: int, seed: int, methods: Sequence[str], steps: int, *, rebuild: bool = True
) -> Iterator[Cell]:
    for method in methods:
        yield _cell("main", data, budget, seed, method, steps, rebuild=rebuild)


def _cell(
    part: str,
    data: str,
    budget: int,
    seed: int,
    method: str,
    steps: int,
    *,
    rebuild: bool = True,
    gate_steps: int | None = None,
) -> Cell:
    if gate_steps is None:
        gated = method == "vtrans" or method in REMEDIES
        gate_steps = max(1, round(GATE_SHARE * steps)) if gated else 0
    return {
        "part": part,
        "data": data,
        "budget": budget,
        "seed": seed,
        "method": method,
        "rebuild": rebuild,
        "vocab": "data" if budget <= 10 else "all",
        "steps": steps,
        "gate_steps": gate_steps,
    }


def name_of(cell: Cell) -> str:
    """What a cell's figure is called; its seeds have the same name."""
    if cell["part"] == "dense":
        return f"{cell['data']} dense"
    how = "rebuilt" if cell["rebuild"] else "cut"
    name = f"{cell['data']} {cell['budget']}% {cell['method']}, {how}"
    if cell["part"] == "main":
        return name
    if cell["part"] == "targets":
        return f"{name}, {cell['steps']} steps"
    return f"{name}, {cell['gate_steps']} of {cell['steps']} steps on gates"


def figures(results: Sequence[CellResult]) -> dict[str, Any]:
    """Quality per (data, budget, method, rebuilt or cut), before and after healing, and paired differences."""
    groups: dict[str, dict[int, CellResult]] = {}
    for result in results:
        groups.setdefault(name_of(result.cell), {})[result.cell["seed"]] = result
    found: dict[str, Any] = {}
    for name, runs in groups.items():
        found[name] = [run.result["quality"] for run in runs.values()]
        if next(iter(runs.values())).cell["part"] == "targets":
            dense = groups[f"{name.split()[0]} dense"]
            found[f"{name}, share of dense"] = [
                run.result["quality"] / dense[seed].result["quality"] for seed, run in runs.items()
            ]
        if "unhealed" in next(iter(runs.values())).result:
            found[f"{name}, unhealed"] = [run.result["unhealed"] for run in runs.values()]
    for first, second, key in _pairs(results):
        labels = groups[f"{first.split()[0]} dense"]
        gap = _difference(groups[first], groups[second], labels, key)
        found[f"{first} - {second}{', unhealed' if key == 'unhealed' else ''}"] = gap
    return found


def _pairs(results: Sequence[CellResult]) -> Iterator[tuple[str, str, str]]:
    """What is compared: two names, and which of their qualities.

    VTrans and Fisher with the others, each method rebuilt with the same cut plainly, and the runs that are to show
    where gates pay with Fisher in their place.
    """
    cells = {name_of(r.cell): r.cell for r in results}
    for name, cell in cells.items():
        if cell["part"] == "main":
            for rival in _rivals(cell):
                if name_of(rival) in cells:
                    yield name, name_of(rival), "quality"
                    if cell["method"] == "vtrans" and rival["method"] != "scratch":
                        yield name, name_of(rival), "unhealed"
        elif cell["part"] == "gates" and cell["method"] == "vtrans":
            healed = cell["gate_steps"] < cell["steps"]
            part = "gates" if healed else "main"
            other = name_of({**cell, "part": part, "method": "fisher", "gate_steps": 0})
            key = "quality" if healed else "unhealed"
            if other in cells:
                yield name, other, key


def _rivals(cell: Cell) -> Iterator[Cell]:
    if cell["method"] in ("vtrans", "fisher"):
        for other in OTHERS:
            if other != cell["method"]:
                yield {**cell, "method": other}
    if cell["rebuild"]:
        yield {**cell, "rebuild": False}


def _difference(
    first: Mapping[int, CellResult], second: Mapping[int, CellResult], dense: Mapping[int, CellResult], key: str
) -> dict[str, Any]:
    """First minus second: the t-interval over seeds, and in "rows" the interval over all test rows of all seeds."""
    seeds = sorted(first.keys() & second.keys())
    gaps = [first[s].result[key] - second[s].result[key] for s in seeds]

    def joined(runs: Mapping[int, CellResult], field: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        parts = [runs[s].result for s in seeds]
        return np.concatenate([unpacked(r[field], r["measure"], r["rows"]) for r in parts])

    a, b = joined(first, _ROWS[key]), joined(second, _ROWS[key])
    if first[seeds[0]].result["measure"] == "accuracy":
        over_rows: dict[str, Any] = paired_difference(a, b).to_json()
    else:
        labels = joined(dense, "_labels")
        low, high = bootstrap(_pearson_gap, a, b, labels)
        over_rows = {"difference": _pearson_gap(a, b, labels), "low": low, "high": high, "count": len(a)}
    return estimate(gaps).to_json() | {"values": gaps, "rows": over_rows}


def _pearson_gap(a: Any, b: Any, labels: Any) -> float:
    both = [np.corrcoef(x, labels)[0, 1] if x.std() > 0 else 0.0 for x in (a, b)]
    return float(both[0] - both[1])


def verdict(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Movie reviews, everything rebuilt and healed, accuracy at 20 % and at 10 % of the parameters.

    At each of the two budgets VTrans is compared with each baseline (random, magnitude, taylor, one-shot fisher,
    and the small dense model trained from scratch) by the differences of test accuracy, one per
    seed, on the same test rows. It is better "beyond the interval" when the 95 % t-interval of the mean difference
    over the seeds lies wholly above 0, worse when it lies wholly below 0. With fewer than two seeds there is no
    interval and nothing is beyond it. The first line that holds is the verdict:

    contradicted: worse than random beyond the interval at 20 % or at 10 %;
    reproduced: better than every baseline beyond the interval at both budgets;
    partly: better than random and than magnitude beyond the interval at both budgets;
    not at this scale: otherwise.
    """

    def bound(baseline: str, budget: int, side: str) -> float:
        name = f"movie {budget}% vtrans, rebuilt - movie {budget}% {baseline}, rebuilt"
        value = figures.get(name, {}).get(side)
        return 0.0 if value is None else float(value)

    def better(*baselines: str) -> bool:
        return all(bound(b, budget, "low") > 0 for b in baselines for budget in (20, 10))

    if any(bound("random", budget, "high") < 0 for budget in (20, 10)):
        return "contradicted"
    if better("random", "magnitude", "taylor", "fisher", "scratch"):
        return "reproduced"
    return "partly" if better("random", "magnitude") else "not at this scale"


EXPERIMENT = Experiment(
    __file__,
    revision="1",
    cells=cells,
    measure=measure,
    figures=figures,
    verdict=verdict,
    finish=finish,
)

if __name__ == "__main__":
    EXPERIMENT.main()
