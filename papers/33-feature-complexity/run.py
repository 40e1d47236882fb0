"""Complexity of features at small scale: of a sentence encoder, and of digit classifiers while they learn.

A cell is {part, features, seed}: directions of the last layer of MiniLM over movie-review sentences, or the neurons of
the last hidden layer of a small network over digits. Beside them, the V-information of every layer of MiniLM about the
sentiment.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from figure import finish
from measure import measure

from narrows.core.experiment import Cell, CellResult, Experiment, Mode

KINDS = ("pca", "random", "nmf")
SENTENCE_SEEDS = (0, 1, 2)
DIGIT_SEEDS = (0, 1, 2, 3, 4, 5)
FLOW = ("stream", "branch", "branch's share", "branch's share of R2")
CORRELATIONS = (
    "variance",
    *(
        f"{name}{held}"
        for name in ("importance", "learning time", "sensitivity to noise", "redundancy", *FLOW)
        for held in ("", ", variance held")
    ),
)


def cells(mode: Mode) -> Sequence[Cell]:
    if mode == "smoke":
        return [
            {"part": "sentences", "features": "pca", "rows": 90, "count": 8, "seed": 0},
            {"part": "digits", "features": "neurons", "epochs": 2, "seed": 0},
            {"part": "sentiment", "features": "label", "rows": 90, "seed": 0},
        ]
    rows = 2400 if mode == "default" else 8000
    sentences = [
        {"part": "sentences", "features": kind, "rows": rows, "count": 32 if kind == "pca" else 48, "seed": seed}
        for seed in SENTENCE_SEEDS
        for kind in KINDS
    ]
    digits = [{"part": "digits", "features": "neurons", "epochs": 60, "seed": seed} for seed in DIGIT_SEEDS]
    label = [{"part": "sentiment", "features": "label", "rows": rows, "seed": seed} for seed in SENTENCE_SEEDS]
    return [*sentences, *digits, *label]


def name_of(cell: Cell) -> str:
    return f"sentences {cell['features']}" if cell["part"] == "sentences" else str(cell["part"])


def figures(results: Sequence[CellResult]) -> dict[str, Any]:
    """Per part: median and range of K, mean R^2 per layer, and Spearman's correlations of K, seed by seed."""
    groups: dict[str, list[CellResult]] = {}
    for result in results:
        groups.setdefault(name_of(result.cell), []).append(result)
    found: dict[str, Any] = {}
    label = groups.pop("sentiment")
    for layer in range(len(label[0].result["V-information"])):
        found[f"sentiment: V-information of layer {layer}"] = [run.result["V-information"][layer] for run in label]
    for name, runs in groups.items():
        for key in ("least K", "median K", "largest K", "deepest fall of R2", "train accuracy", "test accuracy"):
            if key in runs[0].result:
                found[f"{name}: {key}"] = [run.result[key] for run in runs]
        for layer in range(len(runs[0].result["mean R2"])):
            found[f"{name}: mean R2 of layer {layer}"] = [run.result["mean R2"][layer] for run in runs]
        for key in CORRELATIONS:
            if key in runs[0].result["spearman"]:
                found[f"{name}: {key}"] = _correlation([run.result["spearman"][key] for run in runs])
        for side in ("stream", "branch", "stream R2", "branch R2") if "flow" in runs[0].result else ():
            found[f"{name}: {side} by block"] = {"values": [run.result["flow"][side] for run in runs]}
        if "sedimentation" in runs[0].result:
            for third in ("most important third", "other features"):
                found[f"{name}: K of the {third}, first to last epoch"] = {
                    "first": [run.result["sedimentation"][third][1] for run in runs],
                    "last": [run.result["sedimentation"][third][-1] for run in runs],
                }
    return found | {"where it flows": {"finding": flow(found), "rule": inspect.getdoc(flow)}}


def _correlation(runs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Mean over seeds of a correlation, and each seed's 90 % interval over resampled features."""
    from narrows.core.statistics import estimate

    values = [run["value"] for run in runs]
    return estimate(values).to_json() | {
        "values": values,
        "lows": [run["low"] for run in runs],
        "highs": [run["high"] for run in runs],
    }


def flow(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """What is found of the claim that simple features pass by residual branches and complex ones are built by them.

    From Spearman's correlations over the sentence encoder's principal directions and their 90 % bootstrap intervals; K
    with "stream", the mean over the twelve residual blocks of a feature's CKA with the input of the block, and with
    "branch's share", the mean of the branch's part of both CKAs. The first line that holds:

    contradicted: the interval with the share lies wholly below 0 in every seed, or that with the stream wholly above;
    holds beyond variance: in every seed the interval with the stream lies wholly below 0 and that with the share wholly
        above 0, and both do so too when the variance of the features is held;
    holds: they do so without variance held;
    open: otherwise.

    It does not enter the verdict, which is older. R^2 in the place of CKA is printed beside: along the stream it would
    be K itself.
    """
    stream, share = figures["sentences pca: stream"], figures["sentences pca: branch's share"]
    if max(share["highs"]) < 0 or min(stream["lows"]) > 0:
        return "contradicted"

    def both(held: str) -> bool:
        low, high = (figures[f"sentences pca: {name}{held}"] for name in ("stream", "branch's share"))
        return max(low["highs"]) < 0 < min(high["lows"])

    if not both(""):
        return "open"
    return "holds beyond variance" if both(", variance held") else "holds"


def verdict(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Three findings, with Spearman's correlation over features and its 90 % bootstrap interval over features.

    Depth: the mean R^2 of the sentence encoder's principal directions nowhere falls by more than 0.01 from a layer to
    the next, in every seed. Importance: the correlation of K with importance has its interval wholly below 0 in at
    least two thirds of the seeds, for the sentence encoder's principal directions and for the digit classifiers. Time:
    the mean correlation of K with the learning time in the digit classifiers is above 0. The first line that holds:

    contradicted: an interval of K with importance lies wholly above 0 in every seed of either part, or the mean
        correlation with the learning time is below -0.2;
    reproduced: depth, importance and time hold;
    partly: the mean correlation with importance is below 0 in both parts, and depth or time holds;
    not at this scale: otherwise.

    The correlation with the variance of the features, and that with importance when variance is held, are printed
    beside and do not enter: the paper does not hold variance either.
    """
    depth = max(figures["sentences pca: deepest fall of R2"]["values"]) <= 0.01
    sentences, digits = figures["sentences pca: importance"], figures["digits: importance"]
    time = figures["digits: learning time"]["mean"]
    if any(min(f["lows"]) > 0 for f in (sentences, digits)) or time < -0.2:
        return "contradicted"
    often = all(3 * sum(high < 0 for high in f["highs"]) >= 2 * len(f["highs"]) for f in (sentences, digits))
    if depth and often and time > 0:
        return "reproduced"
    negative = sentences["mean"] < 0 and digits["mean"] < 0
    return "partly" if negative and (depth or time > 0) else "not at this scale"


EXPERIMENT = Experiment(
    __file__, revision="3", cells=cells, measure=measure, figures=figures, verdict=verdict, finish=finish
)

if __name__ == "__main__":
    EXPERIMENT.main()
