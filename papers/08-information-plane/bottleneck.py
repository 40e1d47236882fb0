"""Layers beside the bottleneck curve of the 12-bit task with noisy labels, all of it exact and in bits.

A layer's states are a hard encoder p(t|x) of the 4,096 equally likely patterns, and p(y|x) is known: no sampling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from networks import Trained
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import logsumexp, xlogy
from torch import Tensor

from narrows.core.seeds import derive
from narrows.data import icosahedron_noisy_task, icosahedron_patterns
from narrows.information import FixedBins, IBCurve, ib_curve
from narrows.information.discrete import row_codes

BITS = float(np.log2(np.e))
PATTERNS = 4096
LOOKS = ("10 bins", "30 bins", "100 bins", "no bins")
BETAS = 1 + np.geomspace(0.006, 1000, 40)  # up to 1.0049 nothing is kept
REACH = (1e-2, 1e6)  # the betas among which a layer's own is sought
SHARE = 0.05  # what counts as close: this share of the input's 12 bits, of the label's one, of the layer's own entropy
_TINY = 1e-300


@cache
def chances() -> NDArray[np.float64]:
    """The probability of the label 1 of each pattern (4096,)."""
    return icosahedron_noisy_task()[1]


@cache
def noisy_task() -> tuple[Tensor, Tensor]:
    """The patterns and one label for each, drawn once from p(y|x) for all networks, as in the paper."""
    x, p_one = icosahedron_patterns(), chances()
    dice = np.random.default_rng(derive(0, "noisy labels"))
    return torch.tensor(x, dtype=torch.float32), torch.tensor((dice.random(len(x)) < p_one).astype(np.int64))


@cache
def curve() -> IBCurve:
    """The bottleneck curve of the task."""
    return ib_curve(np.stack([1 - chances(), chances()], axis=1) / PATTERNS, BETAS)


def states(t: Tensor, look: str) -> NDArray[np.int64]:
    """The state of each pattern in a layer's activations (n, d)."""
    values = t.numpy()
    if look != "no bins":
        return row_codes(FixedBins(int(look.split()[0]), (-1.0, 1.0)).codes(values))
    return row_codes(np.stack([np.unique(column, return_inverse=True)[1] for column in values.T], axis=1))


def place(of: NDArray[np.int64]) -> tuple[float, float]:
    """I(X;T) and I(T;Y) of the encoder that puts pattern i in state `of[i]`."""
    p_t, p_y_t = _decoder(of)
    label = p_t @ p_y_t
    known = p_t @ xlogy(p_y_t, p_y_t).sum(axis=1) - xlogy(label, label).sum()
    return float(-xlogy(p_t, p_t).sum()) * BITS, float(known) * BITS


def gaps(i_xt: float, i_ty: float) -> tuple[float, float]:
    """What a layer keeps of X beyond the need of the curve for its I(T;Y), and what it misses of Y at its I(X;T).

    The need is at most that of the largest beta, which tells all of I(X;Y) but 4e-8 bits.
    """
    need, told = curve().hull()
    excess = i_xt - BITS * float(np.interp(i_ty / BITS, told, need))
    return excess, BITS * float(curve().most(i_xt / BITS)) - i_ty


def equations(of: NDArray[np.int64]) -> tuple[float, float]:
    """The beta for which the layer comes nearest to the bottleneck equations, and how near.

    They want p(t|x) = p(t) exp(-beta KL(p(y|x) || p(y|t))) / Z(x) with the layer's own p(t) and p(y|t). How near is the
    mean over x of the divergence in bits of the layer's p(t|x) from that, a convex function of beta which at beta = 0
    is I(X;T). The beta is the least one whose divergence is within 0.001 bits of the smallest in `REACH`.
    """
    p_one, kind = np.unique(chances(), return_inverse=True)
    p_y_x = np.stack([1 - p_one, p_one], axis=1)
    p_t, p_y_t = _decoder(of)
    far = xlogy(p_y_x, p_y_x).sum(axis=1)[:, None] - p_y_x @ np.log(np.maximum(p_y_t, _TINY)).T  # (kinds, states)
    kinds = np.bincount(kind) / PATTERNS
    own = far[kind, of].mean()

    def divergence(log_beta: float) -> float:
        beta = np.exp(log_beta)
        return float(beta * own - xlogy(p_t, p_t).sum() + kinds @ logsumexp(np.log(p_t) - beta * far, axis=1))

    ends = (float(np.log(REACH[0])), float(np.log(REACH[1])))
    found = minimize_scalar(divergence, bounds=ends, method="bounded", options={"xatol": 1e-6})
    best = min((ends[0], float(found.x), ends[1]), key=divergence)
    enough = divergence(best) + 1e-3 / BITS
    if divergence(ends[0]) <= enough:
        return REACH[0], divergence(best) * BITS
    return float(np.exp(brentq(lambda b: divergence(b) - enough, ends[0], best))), divergence(best) * BITS


def beside_the_curve(nets: Trained, own: int, x: Tensor) -> dict[str, Any]:
    """One network: the path of each layer through the plane in 30 bins, and where the layers end in every look."""
    marks = len(nets.recipe.kept)
    by_mark = [[place(states(t, "30 bins")) for t in nets.layers(own, mark, x)] for mark in range(marks)]
    last = nets.layers(own, -1, x)
    paths = {
        name: {f"layer {i + 1}": _text(mark[i][j] for mark in by_mark) for i in range(len(last))}
        for j, name in enumerate(("I(X;T)", "I(T;Y)"))
    }
    return {"paths": paths, "ends": {look: _ends(last, look) for look in LOOKS}}


def _ends(layers: Sequence[Tensor], look: str) -> dict[str, str]:
    found: dict[str, list[float]] = {}
    for t in layers:
        of = states(t, look)
        i_xt, i_ty = place(of)
        excess, missing = gaps(i_xt, i_ty)
        beta, divergence = equations(of)
        row = {"I(X;T)": i_xt, "I(T;Y)": i_ty, "excess": excess, "missing": missing}
        for name, value in (row | {"beta": beta, "divergence": divergence}).items():
            found.setdefault(name, []).append(value)
    return {name: _text(values) for name, values in found.items()}


def figures_of(result: Mapping[str, Any]) -> dict[str, float]:
    """The figures of one network in 30 bins, a name for each layer, and the least without bins of all layers."""
    found = {key: float(result[key]) for key in ("train accuracy", "test accuracy")}
    ends = {look: {name: text.split() for name, text in values.items()} for look, values in result["ends"].items()}
    for name, values in ends["30 bins"].items():
        for layer, value in enumerate(values):
            found[f"{'output' if layer == len(values) - 1 else f'layer {layer + 1}'} {name}, 30 bins"] = float(value)
    for name in ("I(X;T)", "I(T;Y)", "excess", "divergence"):
        found[f"least {name}, no bins"] = min(map(float, ends["no bins"][name]))
    return found


def answers(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Whether the "converged layers lie on or very close to" the bound and fulfil its equations; not in the verdict.

    For the tanh networks trained on noisy labels, in 30 bins as in the paper, at the end of training. A layer is close
    where it keeps at most 0.6 bits of X (5 % of 12) more than the curve needs for its I(T;Y), and misses at most 0.05
    bits of Y (5 % of 1) of what the curve allows at its I(X;T). It fulfils the equations where its least mean
    divergence from them is at most 5 % of its I(X;T), which is the divergence at beta = 0. Either claim holds where all
    layers of all networks do, holds partly where at least half of them do, and fails otherwise.
    """
    rows = [{name: np.array(t.split(), dtype=float) for name, t in r["ends"]["30 bins"].items()} for r in results]
    close = np.array([(r["excess"] <= 12 * SHARE) & (r["missing"] <= SHARE) for r in rows])
    equal = np.array([r["divergence"] <= SHARE * r["I(X;T)"] for r in rows])
    return {
        "on the bound": _answer(close),
        "fulfil the equations": _answer(equal),
        "layers close": int(close.sum()),
        "layers that fulfil the equations": int(equal.sum()),
        "layers": close.size,
        "rule": " ".join((answers.__doc__ or "").split()),
    }


def the_curve() -> dict[str, Any]:
    """The curve for the record."""
    found = curve()
    return {
        "beta": _text(found.betas),
        "I(X;T)": _text(found.i_xt * BITS),
        "I(T;Y)": _text(found.i_ty * BITS),
        "I(X;Y)": found.i_xy * BITS,
        "all converged": bool(found.converged.all()),
    }


def _answer(fine: NDArray[np.bool_]) -> str:
    return "holds" if fine.all() else "holds partly" if fine.mean() >= 0.5 else "fails"


def _decoder(of: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """p(t) and p(y|t) of an encoder whose states are 0, 1, ..."""
    counts = np.bincount(of)
    p_one = np.bincount(of, chances()) / counts
    return counts / PATTERNS, np.stack([1 - p_one, p_one], axis=1)


def _text(values: Any) -> str:
    return " ".join(f"{value:.6g}" for value in values)
