"""Lossy compression on bump images of known mutual information, and the information plane of a network on digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bumps import encoders, images, pairs
from picture import finish
from plane import plane

from narrows.core.experiment import Cell, CellResult, Experiment, Mode
from narrows.core.seeds import derive
from narrows.information import infonce, lossy, mine

SEEDS = (0, 1, 2)
NOISES = (0.0, 0.1, 0.3, 1.0)
NATS = (0, 2, 4, 8)
EPOCHS = [0, 1, 2, 5, 10, 20, 30, 50, 70, 100]
CRITIC = [0, 2, 10, 30, 100]


def cells(mode: Mode) -> Sequence[Cell]:
    """Bumps (one cell for all codes), critics on raw bumps, the counterexample, and the network."""
    if mode == "smoke":
        bumps = {"part": "bumps", "noise": 0.3, "nats": 4, "n": 300, "steps": 20, "seed": 0}
        return [
            bumps,
            {"part": "critic", "method": "mine", "noise": 0.0, "nats": 4, "n": 300, "seed": 0},
            {"part": "dropped", "n": 300, "seed": 0},
            {"part": "plane", "epochs": [0, 1], "critic": [1], "rows": 400, "seed": 0},
        ]
    n = 10_000 if mode == "full" else 3000
    epochs = list(range(101)) if mode == "full" else EPOCHS
    found: list[Cell] = []
    for seed in SEEDS:
        for noise in NOISES:
            for nats in NATS:
                found.append({"part": "bumps", "noise": noise, "nats": nats, "n": n, "steps": 3000, "seed": seed})
        for method in ("mine", "infonce"):
            for noise in NOISES if mode == "full" else (0.0, 1.0):
                for nats in NATS[1:]:
                    found.append(
                        {"part": "critic", "method": method, "noise": noise, "nats": nats, "n": n, "seed": seed}
                    )
        found.append({"part": "dropped", "n": 3000, "seed": seed})
        found.append({"part": "plane", "epochs": epochs, "critic": CRITIC, "rows": None, "seed": seed})
    return found


def measure(cell: Cell, work: Path) -> Mapping[str, Any]:
    """One cell."""
    if cell["part"] == "plane":
        return {"points": plane(cell["seed"], cell["epochs"], cell["critic"], cell["rows"])}
    if cell["part"] == "dropped":
        return _dropped(cell["n"], cell["seed"])
    centres = pairs(cell["n"], cell["nats"], cell["seed"])
    x, y = (images(c, cell["noise"], cell["seed"], name) for c, name in zip(centres, "xy", strict=True))
    if cell["part"] == "critic":
        method = {"mine": mine, "infonce": infonce}[cell["method"]]
        return {f"{cell['method']} raw": method(x, y, seed=cell["seed"]).value}
    found = {}
    for name, code in encoders(cell["noise"], work, cell["steps"]).items():
        for by in ("entropies", "ksg") if code else ("ksg",):
            found[f"{name} {by}"] = lossy(x, y, x_code=code, y_code=code, by=by).value
    for by in ("entropies", "ksg"):
        found[f"centres {by}"] = lossy(*centres, by=by).value
    return found


def _dropped(n: int, seed: int) -> Mapping[str, float]:
    """Two columns of which the informative one is small: PCA to one column leaves it out."""
    dice = np.random.default_rng(derive(seed, "dropped"))
    a, b = dice.uniform(size=(2, n))
    x, y = np.stack([a, 0.01 * b], axis=1), b + 0.1 * dice.standard_normal(n)
    return {"whole": lossy(x, y).value, "pca-1": lossy(x, y, x_code=1).value}


def figures(results: Sequence[CellResult]) -> dict[str, Any]:
    """Estimates by code, noise and true nats; gains of codes over raw images; the course of the network."""
    found: dict[str, Any] = {}
    for r in results:
        if r.cell["part"] in ("bumps", "critic"):
            for name, value in r.result.items():
                found.setdefault(f"{name}, noise {r.cell['noise']}, {r.cell['nats']} nats", []).append(value)
            if r.cell["part"] == "bumps":
                gain = r.result["pca-5 ksg"] - r.result["raw ksg"]
                name = f"gain of PCA-5 codes over raw images, noise {r.cell['noise']}, {r.cell['nats']} nats"
                found.setdefault(name, []).append(gain)
        elif r.cell["part"] == "dropped":
            for name, value in r.result.items():
                found.setdefault(f"informative column small, {name}", []).append(value)
    courses = [r.result["points"] for r in results if r.cell["part"] == "plane"]
    for layer in ("L1", "L2", "L3"):
        for how in ("code 2", "code 4", "code 8", "raw ksg", "infonce"):
            key = f"I(X;{layer}) {how}"
            lines = [[p[key] for p in points if key in p] for points in courses]
            if all(lines):
                end = "" if how == "code 4" else f", {how}"
                found[f"fall of I(X;{layer}){end}"] = [max(line) - line[-1] for line in lines]
                found[f"rise of I(X;{layer}){end}"] = [max(line) - line[0] for line in lines]
        found[f"I({layer};Y) at the start"] = [points[0][f"I({layer};Y) code 4"] for points in courses]
        found[f"I({layer};Y) at the end"] = [points[-1][f"I({layer};Y) code 4"] for points in courses]
    found["accuracy at the end"] = [points[-1]["accuracy"] for points in courses]
    return found


def verdict(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Three claims, each on means over seeds unless it says "every seed":

    codes: at pixel noise 0.3 and at 1.0, with 4 nats, KSG on PCA-5 codes is above KSG on the raw images by at least 0.3
    nats, and no estimate from codes or raw images, critics apart, is above the true nats by more than 0.1;
    truth: without noise, the difference of entropies on the autoencoder's codes is within 0.5 nats of 2, 4 and 8 nats,
    and nearer to each of them than MINE on raw images;
    plane: in every seed I(L3;Y) rises from below 0.3 to above 2.0 nats, and both I(X;L1) and I(X;L3) rise by at least
    0.15 nats first and end at least 0.15 nats below their maximum (codes of 4 numbers, differences of entropies).

    reproduced: all three; partly: one or two; otherwise contradicted if raw images are above PCA-5 codes by 0.3 nats at
    both noises, or if in every seed I(X;L3) ends at its maximum; else not at this scale.
    """

    def mean(name: str) -> float:
        return float(figures[name]["mean"]) if name in figures else float("nan")

    def every(name: str) -> list[float]:
        return list(figures[name]["values"])

    gains = [mean(f"gain of PCA-5 codes over raw images, noise {noise}, 4 nats") for noise in (0.3, 1.0)]
    estimates = [name for name in figures if name.startswith(("pca", "ae", "raw"))]
    above = [mean(name) - float(name.split()[-2]) for name in estimates]
    codes = all(g >= 0.3 for g in gains) and all(a <= 0.1 for a in above)

    def error(method: str, nats: int) -> float:
        return abs(mean(f"{method}, noise 0.0, {nats} nats") - nats)

    truth = all(
        error("ae-2 entropies", i) <= 0.5 and error("ae-2 entropies", i) < error("mine raw", i) for i in (2, 4, 8)
    )
    moves = [every(f"{what} of I(X;{layer})") for what in ("rise", "fall") for layer in ("L1", "L3")]
    plane = (
        max(every("I(L3;Y) at the start")) < 0.3
        and min(every("I(L3;Y) at the end")) > 2.0
        and min(v for values in moves for v in values) >= 0.15
    )
    held = codes + truth + plane
    if held:
        return "reproduced" if held == 3 else "partly"
    wrong = all(g <= -0.3 for g in gains) or max(every("fall of I(X;L3)")) == 0
    return "contradicted" if wrong else "not at this scale"


EXPERIMENT = Experiment(
    __file__, revision="1", cells=cells, measure=measure, figures=figures, verdict=verdict, finish=finish
)

if __name__ == "__main__":
    EXPERIMENT.main()
