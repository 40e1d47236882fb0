"""What a code keeps of its input and how far its classifier generalises, over two pools of small stochastic networks.

A cell is {pool, width, decay, seed, steps, instances}: one setting, trained on each of several training sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from figure import finish
from measure import FLOOR, OTHER_FLOORS, measure
from scipy.stats import kendalltau, spearmanr

from narrows.core.experiment import Cell, CellResult, Experiment, Mode
from narrows.core.statistics import bootstrap

INSTANCES = 3
SEEDS = (0, 1)
FITTED = 0.85  # train accuracy above which a model belongs to its pool
POOLS: Mapping[str, tuple[Sequence[int], Sequence[float], int]] = {  # widths, weight decays, steps
    "digits": ((32, 128, 256), (0.0, 1e-3, 1e-2), 1500),
    "blobs": ((32, 128), (0.0, 0.01, 0.1), 300),
}
NAMES = {
    "I(X;Z) MC": "I(X;Z) mc",
    "I(X;Z|Y) MC": "I(X;Z|Y) mc",
    "I(X;Z) Jensen": "I(X;Z) jensen",
    "I(X;Z|Y) Jensen": "I(X;Z|Y) jensen",
    "I(S;theta)": f"I(S;theta) floor {FLOOR:g}",
    **{f"I(S;theta), floor {floor:g}": f"I(S;theta) floor {floor:g}" for floor in OTHER_FLOORS},
    "parameter count": "parameters",
    "sum of weight norms": "norms",
}


def cells(mode: Mode) -> Sequence[Cell]:
    """Pools of the default; `--full` has four seeds and twice as many widths."""
    if mode == "smoke":
        return [
            {"pool": pool, "width": width, "decay": 0.0, "seed": 0, "steps": steps, "instances": 2}
            for pool, steps in (("digits", 100), ("blobs", 60))
            for width in (16, 32)
        ]
    more = (64, 512) if mode == "full" else ()
    return [
        {"pool": pool, "width": width, "decay": decay, "seed": seed, "steps": steps, "instances": INSTANCES}
        for pool, (widths, decays, steps) in POOLS.items()
        for seed in (SEEDS if mode == "default" else range(4))
        for width in (*widths, *more)
        for decay in decays
    ]


def pool(results: Sequence[CellResult], name: str) -> list[dict[str, float]]:
    """One row per fitted model of a pool; every model of a setting has the setting's I(S;theta)."""
    rows = [
        model | {key: value for key, value in result.result.items() if key != "models"}
        for result in results
        if result.cell["pool"] == name
        for model in result.result["models"]
    ]
    return [row for row in rows if row["train accuracy"] > FITTED]


def columns(rows: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """The quantities that may go with the gap, one value a model."""
    found = {shown: np.array([row[key] for row in rows]) for shown, key in NAMES.items()}
    theta, kept = found["I(S;theta)"], found["I(X;Z|Y) Jensen"]
    found["I(S;theta) + I(X;Z|Y)"] = theta + kept
    # Both terms with the same mean over the pool, or the larger would be all there is.
    found["I(S;theta) + I(X;Z|Y), scaled"] = theta / theta.mean() + kept / kept.mean()
    found["leading term, cross-entropy"] = np.array([row["G3 cross-entropy"] for row in rows]) * np.sqrt(kept.clip(0))
    return found


def figures(results: Sequence[CellResult]) -> dict[str, Any]:
    """Per pool: correlations of each quantity with the gap in cross-entropy, differences, and the bound."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(result.cell["pool"] for result in results):
        rows = pool(results, name)
        asked = sum(len(r.result["models"]) for r in results if r.cell["pool"] == name)
        if len(rows) < 3:
            found[f"{name}: models"] = {"asked": asked, "fitted": len(rows)}
            continue
        gap = np.array([row["gap"] for row in rows])
        quantities = columns(rows)
        for shown, values in quantities.items():
            found[f"{name}: {shown}"] = _correlations(values, gap)
        for shown in ("I(X;Z) Jensen", "I(X;Z|Y) Jensen"):
            found[f"{name}: {shown}, within widths"] = _within(quantities[shown], gap, quantities["parameter count"])
        main = quantities["I(X;Z|Y) Jensen"]
        for other in ("I(X;Z) Jensen", "parameter count", "sum of weight norms"):
            found[f"{name}: I(X;Z|Y) Jensen - {other}"] = _difference(main, quantities[other], gap)
        for other in ("I(S;theta) + I(X;Z|Y)", "I(S;theta) + I(X;Z|Y), scaled"):
            found[f"{name}: {other} - I(X;Z|Y) Jensen"] = _difference(quantities[other], main, gap)
        found[f"{name}: bound"] = _bound(rows)
        found[f"{name}: models"] = {
            "asked": asked,
            "fitted": len(rows),
            "least gap": float(gap.min()),
            "largest gap": float(gap.max()),
            "median held-out accuracy": float(np.median([row["held-out accuracy"] for row in rows])),
            "median deviation": float(np.median([row["mean deviation"] for row in rows])),
            "I(X;Z) at the cap": float(np.mean([row["I(X;Z) saturated"] for row in rows])),
            "I(X;Z|Y) at the cap": float(np.mean([row["I(X;Z|Y) saturated"] for row in rows])),
            "median I(S;theta)": float(np.median(quantities["I(S;theta)"])),
            f"share of weights at the floor {FLOOR:g}": float(
                np.mean([row[f"share of weights at {FLOOR:g}"] for row in rows])
            ),
            "median I(S;theta) of a mixture": float(np.median([row["I(S;theta) mixture"] for row in rows])),
        }
    return found


def _correlations(values: Any, gap: Any) -> dict[str, Any]:
    low, high = bootstrap(_pearson, values, gap, confidence=0.9)
    return {
        "pearson": _pearson(values, gap),
        "low": low,
        "high": high,
        "spearman": float(spearmanr(values, gap)[0]) if np.ptp(values) > 0 else 0.0,
        "kendall": float(kendalltau(values, gap)[0]) if np.ptp(values) > 0 else 0.0,
        "models": len(gap),
    }


def _within(values: Any, gap: Any, size: Any) -> dict[str, Any]:
    """Pearson's correlation after the mean of all networks of the same size is taken off both sides."""

    def within(a: Any, b: Any, c: Any) -> float:
        _, which = np.unique(c, return_inverse=True)
        return _pearson(*(s - (np.bincount(which, weights=s) / np.bincount(which))[which] for s in (a, b)))

    low, high = bootstrap(within, values, gap, size, confidence=0.9)
    return {"pearson": within(values, gap, size), "low": low, "high": high, "models": len(gap)}


def _difference(first: Any, second: Any, gap: Any) -> dict[str, Any]:
    """Of two Pearson correlations over the same models, with its 90 % bootstrap interval."""

    def between(a: Any, b: Any, c: Any) -> float:
        return _pearson(a, c) - _pearson(b, c)

    low, high = bootstrap(between, first, second, gap, confidence=0.9)
    return {"difference": between(first, second, gap), "low": low, "high": high}


def _pearson(a: Any, b: Any) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0


def _bound(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The leading term for the 0/1 error beside the error gap: how often it is at least 1, and below the gap."""
    bounds, gaps = np.array([row["bound"] for row in rows]), np.array([row["error gap"] for row in rows])
    return {
        "median leading term": float(np.median(bounds)),
        "median error gap": float(np.median(gaps)),
        "share vacuous": float((bounds >= 1).mean()),
        "share below the gap": float((bounds < gaps).mean()),
    }


def verdict(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Pearson's correlations with the gap in cross-entropy over the fitted models of the digit pool.

    With 90 % bootstrap intervals over models. Positive: the interval of I(X;Z|Y) (Jensen) lies above 0 and its
    correlation exceeds that of the parameter count and that of the norms. Condition: its correlation exceeds that of
    I(X;Z). Weights: that of I(S;theta) + I(X;Z|Y), or of the scaled sum, exceeds that of I(X;Z|Y) alone. The first line
    that holds:

    contradicted: the interval of I(X;Z|Y) lies wholly below 0;
    reproduced: positive, condition and weights hold;
    partly: positive holds;
    not at this scale: otherwise, also where fewer than three models were fitted.

    The pool of blobs is printed and decides nothing: with 36 models of 50 points its intervals cover almost anything.
    """

    def pearson(name: str) -> float:
        return float(figures[f"digits: {name}"]["pearson"])

    main = figures.get("digits: I(X;Z|Y) Jensen")
    if main is None:
        return "not at this scale"
    if main["high"] < 0:
        return "contradicted"
    if main["low"] <= 0 or main["pearson"] <= max(pearson("parameter count"), pearson("sum of weight norms")):
        return "not at this scale"
    condition = main["pearson"] > pearson("I(X;Z) Jensen")
    weights = max(pearson("I(S;theta) + I(X;Z|Y)"), pearson("I(S;theta) + I(X;Z|Y), scaled")) > main["pearson"]
    return "reproduced" if condition and weights else "partly"


EXPERIMENT = Experiment(
    __file__, revision="1", cells=cells, measure=measure, figures=figures, verdict=verdict, finish=finish
)

if __name__ == "__main__":
    EXPERIMENT.main()
