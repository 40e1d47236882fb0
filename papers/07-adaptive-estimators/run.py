"""Adaptive estimators on the 12-bit task: four activations, with and without an L2 penalty, many initialisations.

A cell is {activation, penalty, seed, epochs, together}: `together` seeds with both penalties are trained side by side
by the first cell of an activation and measured one by one.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).resolve().parents[1] / "08-information-plane"))  # the same networks

from curves import finish
from networks import Recipe, log_spaced, trained

from narrows.core.experiment import Cell, CellResult, Experiment, Mode
from narrows.core.seeds import generator
from narrows.data import icosahedron_task
from narrows.information import AdaptiveBins, FixedBins, KernelNoise, compression, layer_information

WIDTHS = (12, 10, 7, 5, 4, 3, 2)
HIDDEN = 5
ACTIVATIONS = ("relu", "tanh", "elu", "softplus")
PENALTIES = (0.0, 0.015)
BITS = float(np.log2(np.e))
NOISE = 1e-3
WITH_NOISE = 3  # seeds whose layers 3 to 5 are looked at under noise as well, which is slow
STRIDE = 4  # and at every fourth kept epoch, the last one included
COLLAPSED = 0.55  # test accuracy of a network that answers the same for all inputs: 0.52 at most
SCALES = {"smoke": (8, 1, 3), "default": (800, 20, 20), "full": (8000, 50, 60)}  # epochs, seeds, measured epochs


def cells(mode: Mode) -> Sequence[Cell]:
    epochs, seeds, _ = SCALES[mode]
    return [
        {"activation": name, "penalty": penalty, "seed": seed, "epochs": epochs, "together": seeds}
        for name in ACTIVATIONS
        for penalty in PENALTIES
        for seed in range(seeds)
    ]


def measure(cell: Cell, work: Path) -> Mapping[str, Any]:
    """I(X;T) in bits of the hidden layers of one network at its kept epochs, and their compression."""
    x, y = _task()
    marks = {epochs: count for epochs, _, count in SCALES.values()}[cell["epochs"]]
    recipe = Recipe(WIDTHS, cell["activation"], cell["epochs"], 256, log_spaced(cell["epochs"], marks))
    seeds = [seed for _ in PENALTIES for seed in range(cell["together"])]
    penalties = [penalty for penalty in PENALTIES for _ in range(cell["together"])]
    nets = trained(recipe, seeds, penalties, x, y, work)
    own = PENALTIES.index(cell["penalty"]) * cell["together"] + cell["seed"]
    layers = [nets.layers(own, mark, x)[:HIDDEN] for mark in range(len(recipe.kept))]
    found = {f"{i + 1}": _layer(column, y, cell["activation"]) for i, column in enumerate(zip(*layers, strict=True))}
    few = [e for e in range(len(recipe.kept)) if (len(recipe.kept) - 1 - e) % STRIDE == 0]
    if cell["seed"] < WITH_NOISE:
        for i in range(2, HIDDEN):
            found[f"{i + 1}"] |= _noisy([layers[e][i] for e in few], y)
    shares = {f"{name}, layer {i}": compression(curve) for i, looks in found.items() for name, curve in looks.items()}
    texts = {
        i: {name: " ".join(f"{v:.4g}" for v in curve) for name, curve in looks.items()} for i, looks in found.items()
    }
    return {
        "epochs": " ".join(str(e) for e in recipe.kept),
        "noisy epochs": " ".join(str(recipe.kept[e]) for e in few),
        "train accuracy": float(nets.train_accuracy[own]),
        "test accuracy": float(nets.test_accuracy[own]),
        "collapsed": bool(nets.test_accuracy[own] < COLLAPSED or found["5"]["adaptive bins"][-1] < 1e-9),
        "label bits, layer 5": layer_information(layers[-1][-1], y, _adaptive(cell["activation"])).i_ty * BITS,
        "_compression": shares,
        "curves": texts,
    }


def _layer(column: Sequence[Tensor], y: Tensor, activation: str) -> dict[str, list[float]]:
    """One layer at all kept epochs: bins that follow it, and bins fixed over its range in all of training."""
    rest = AdaptiveBins.RESTS[activation]
    top = 1.0 if activation == "tanh" else max(float(t.max()) for t in column)
    fixed = FixedBins(range=(rest, max(top, rest + 1e-9)))
    looks = {"adaptive bins": _adaptive(activation), "fixed bins": fixed}
    return {name: [layer_information(t, y, look).i_xt * BITS for t in column] for name, look in looks.items()}


def _adaptive(activation: str) -> AdaptiveBins:
    return AdaptiveBins(activation=activation)


def _noisy(column: Sequence[Tensor], y: Tensor) -> dict[str, list[float]]:
    """Upper bounds under noise, from half of the inputs: the paper's adaptive variance, one of scale, a fixed one."""
    half = torch.randperm(len(y), generator=generator(0, "half of the inputs"))[: len(y) // 2]
    looks = {
        "adaptive noise": KernelNoise("max_linear", NOISE),
        "noise of scale": KernelNoise("std", 10 * NOISE),
        "fixed noise": KernelNoise("fixed", NOISE),
    }
    return {
        name: [layer_information(t[half], y[half], look).i_xt * BITS for t in column] for name, look in looks.items()
    }


@cache
def _task() -> tuple[Tensor, Tensor]:
    x, y = icosahedron_task()
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def figures(results: Sequence[CellResult]) -> dict[str, Any]:
    """Compression by layer and measure, the effect of the penalty, and compression against test accuracy."""
    found: dict[str, Any] = {}
    for name in ACTIVATIONS:
        plain, penal = ([r for r in results if _is(r, name, penalty)] for penalty in PENALTIES)
        for runs, how in ((plain, name), (penal, f"{name} L2")):
            found |= _spread(how, [r for r in runs if not r.result["collapsed"]])
            found[f"{how} collapsed"] = {
                "seeds": [r.cell["seed"] for r in runs if r.result["collapsed"]],
                "runs": len(runs),
            }
            found |= _against_accuracy(how, [r for r in runs if not r.result["collapsed"]])
        found |= _penalty(name, plain, penal)
    return found


def _spread(how: str, runs: Sequence[CellResult]) -> dict[str, list[float]]:
    if not runs:
        return {}
    names = sorted({name for r in runs for name in r.result["_compression"]})
    found = {
        f"{how} compression, {name}": [r.result["_compression"][name] for r in runs if name in r.result["_compression"]]
        for name in names
    }
    found[f"{how} end, layer 5"] = [_end(r, "5") for r in runs]
    for key in ("train accuracy", "test accuracy", "label bits, layer 5"):
        found[f"{how} {key}"] = [r.result[key] for r in runs]
    return found


def _against_accuracy(how: str, runs: Sequence[CellResult]) -> dict[str, Any]:
    """Pearson's correlation over seeds, layer by layer, where there are enough of them and both vary."""
    from scipy.stats import pearsonr

    accuracy = [r.result["test accuracy"] for r in runs]
    rows = {}
    for layer in range(1, HIDDEN + 1):
        shares = [r.result["_compression"][f"adaptive bins, layer {layer}"] for r in runs]
        if len(runs) >= 5 and np.ptp(shares) > 0 and np.ptp(accuracy) > 0:
            fit = pearsonr(shares, accuracy)
            low, high = fit.confidence_interval()
            rows[f"layer {layer}"] = {"r": float(fit.statistic), "low": float(low), "high": float(high)}
    return {f"{how} compression against test accuracy": {"seeds": len(runs), **rows}}


def _penalty(name: str, plain: Sequence[CellResult], penal: Sequence[CellResult]) -> dict[str, Any]:
    """In how many seeds the penalty lowers the mean final I(X;T) of layers 2 to 5, both networks being alive."""
    pairs = [
        (a, b)
        for a in plain
        for b in penal
        if a.cell["seed"] == b.cell["seed"] and not a.result["collapsed"] and not b.result["collapsed"]
    ]
    gaps = [float(np.mean([_end(b, str(i)) - _end(a, str(i)) for i in range(2, 6)])) for a, b in pairs]
    row = {"lower": sum(gap < 0 for gap in gaps), "pairs": len(gaps)}
    found: dict[str, Any] = {f"{name} penalty lowers": row}
    if gaps:
        found[f"{name} penalty, change of end, layers 2 to 5"] = gaps
        for key in ("train accuracy", "test accuracy"):
            found[f"{name} penalty, change of {key}"] = [b.result[key] - a.result[key] for a, b in pairs]
        found[f"{name} penalty, change of train - test"] = [_gap(b) - _gap(a) for a, b in pairs]
    return found


def _gap(result: CellResult) -> float:
    return float(result.result["train accuracy"] - result.result["test accuracy"])


def _end(result: CellResult, layer: str) -> float:
    return float(result.result["curves"][layer]["adaptive bins"].split()[-1])


def _is(result: CellResult, activation: str, penalty: float) -> bool:
    return bool(result.cell["activation"] == activation and result.cell["penalty"] == penalty)


def verdict(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Two claims, I(X;T) in adaptive bins; runs that collapsed to one answer are left out and listed.

    (a) ReLU without a penalty compresses, and how much depends on the initialisation: in layers 3, 4 or 5 some seed
    falls by more than 5 % of its peak, and in each of these layers the standard deviation over seeds is at least half
    of the mean. (b) For an activation, the penalty lowers the final I(X;T), averaged over layers 2 to 5, in at least
    four of five pairs of the same seed. An activation with fewer than three pairs has no say; where none has one, the
    verdict is "not at this scale". Else the first line that holds:

    reproduced: (a), and (b) for every activation that has a say;
    contradicted: neither (a) nor (b) for any;
    partly: otherwise.
    """
    layers = [figures.get(f"relu compression, adaptive bins, layer {i}", {"values": []}) for i in (3, 4, 5)]
    pairs = {name: figures[f"{name} penalty lowers"] for name in ("relu", "tanh", "elu", "softplus")}
    heard = [row for row in pairs.values() if row["pairs"] >= 3]
    if not heard or any(len(layer["values"]) < 3 for layer in layers):
        return "not at this scale"
    fall = any(value > 0.05 for layer in layers for value in layer["values"])
    varied = all(layer["spread"] >= layer["mean"] / 2 for layer in layers)
    lower = [row["lower"] >= 0.8 * row["pairs"] for row in heard]
    if fall and varied and all(lower):
        return "reproduced"
    return "partly" if (fall and varied) or any(lower) else "contradicted"


EXPERIMENT = Experiment(
    __file__, revision="2", cells=cells, measure=measure, figures=figures, verdict=verdict, finish=finish
)

if __name__ == "__main__":
    EXPERIMENT.main()
