"""A floor under the mutual information of many columns: neighbours on the few columns or directions that share most.

Functions of x and of y share no more than x and y do (data processing), so KSG on a few of them is a lower bound. Two
ways to choose them, both on normal scores z:

- columns: s_ij = max over f and g in {z, (z^2 - 1)/sqrt(2), (z^3 - 3z)/sqrt(6)}, which are orthonormal for a normal z,
  of |mean f(x_i) g(y_j)|; what is below the largest value that chance gives is 0; the best three columns a side stay;
- directions: the singular pairs of the cross-covariance of all linear and quadratic functions of whitened x and y that
  exceed those of shuffled rows; the eigenvectors of their matrices are directions that columns may hide (a rotation of
  the sides does not change them). They are found on one half of the rows and used on the other.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from narrows.core.seeds import derive
from narrows.information.estimate import MIEstimate
from narrows.information.inputs import (
    Real,
    Samples,
    column_cautions,
    pair,
    refuse_labels,
    scores_of_ranks,
    telling,
    untied_ranks,
)
from narrows.information.ksg import NEIGHBOURS, ksg_extrapolated

KEPT = 3
"""Columns or directions of a side that are kept."""
_LEAST = 2 * (max(NEIGHBOURS) + 1)
_WIDEST = 40  # columns of a side for which all products of two are looked at
_SHUFFLES = 4
_ABOVE = 1.15  # times the largest singular value of shuffled rows
_SHARE = 0.15  # of the largest eigenvalue, below which a direction is noise


def screen(x: Samples, y: Samples, *, seed: int = 0) -> MIEstimate:
    """A lower bound in nats of the mutual information of continuous x (n, dx) and y (n, dy) with many columns.

    The larger of two: `details` say whether "columns" or "directions" gave it, and which columns. 0 where nothing
    rises above chance. `seed` splits and shuffles the rows. Raises DataError for labels and for n < 34.
    """
    a, b = pair(x, y, _LEAST)
    refuse_labels("screen", x=x, y=y)
    n, dims = len(a), (a.shape[1], b.shape[1])
    kept = telling(a), telling(b)
    left, right = (scores_of_ranks(r) for r in untied_ranks(a[:, kept[0]], b[:, kept[1]], seed))
    cautions = tuple(c for c in column_cautions(x=a, y=b) if c.trouble not in ("heavy tails", "ties"))
    found = [("nothing", 0.0, 0.0)]
    where: tuple[list[int], list[int]] = ([], [])
    if all(kept):
        i, j = _columns(left, right)
        if len(i) and len(j):
            where = [kept[0][c] for c in i], [kept[1][c] for c in j]
            answer = ksg_extrapolated(left[:, i], right[:, j], seed=seed)
            found.append(("columns", answer.value, answer.standard_error or 0.0))
        if max(left.shape[1], right.shape[1]) <= _WIDEST and n >= 2 * _LEAST:
            found.append(("directions", *_directions(left, right, seed)))
    way, value, error = max(found, key=lambda f: f[1])
    return MIEstimate(
        value,
        "screen",
        n,
        dims,
        standard_error=error,
        kind="lower",
        cautions=cautions,
        details={"way": way, "columns of x": where[0], "columns of y": where[1]} | {f[0]: f[1] for f in found[1:]},
    )


def _columns(x: Real, y: Real) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The columns of each side with the largest scores above chance."""
    n = len(x)
    f, g = ((z, (z**2 - 1) / math.sqrt(2), (z**3 - 3 * z) / math.sqrt(6)) for z in (x, y))
    scores = np.max([np.abs(p.T @ q) / n for p in f for q in g], axis=0)
    chance = math.sqrt(2 * math.log(9 * scores.size) / n) + 2 / math.sqrt(n)
    scores[scores < chance] = 0
    chosen = []
    for best in (scores.max(axis=1), scores.max(axis=0)):
        order = np.argsort(-best, kind="stable")[:KEPT]
        chosen.append(np.sort(order[best[order] > 0]))
    return chosen[0], chosen[1]


def _directions(x: Real, y: Real, seed: int) -> tuple[float, float]:
    """KSG along directions that were found on the other half of the rows, as the mean of both ways; and its error."""
    n = len(x)
    x, y = _white(x), _white(y)
    half = np.random.default_rng(derive(seed, "halves")).permutation(n) < n // 2
    values, errors = [], []
    for rows in (half, ~half):
        of_x, of_y = _found(x[rows], y[rows], seed)
        if not of_x.size or not of_y.size:
            values.append(0.0)
            continue
        answer = ksg_extrapolated(x[~rows] @ of_x, y[~rows] @ of_y, seed=seed)
        values.append(answer.value)
        errors.append(answer.standard_error or 0.0)
    return sum(values) / 2, math.hypot(*errors) / 2


def _found(x: Real, y: Real, seed: int) -> tuple[Real, Real]:
    """Directions of x and of y along which linear or quadratic functions share more than those of shuffled rows."""
    f, g = _products(x), _products(y)
    u, s, v = np.linalg.svd(f.T @ g / len(x), full_matrices=False)
    dice = np.random.default_rng(derive(seed, "shuffles"))
    orders = [dice.permutation(len(x)) for _ in range(_SHUFFLES)]
    # Both sides are shuffled, so that they may change places.
    chance = max(float(np.linalg.norm(c, 2)) for o in orders for c in (f[o].T @ g / len(x), f.T @ g[o] / len(x)))
    strong = s > _ABOVE * chance
    return _axes(u[:, strong] * s[strong], x.shape[1]), _axes(v.T[:, strong] * s[strong], y.shape[1])


def _white(x: Real) -> Real:
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    return np.asarray(u[:, s > 1e-6 * s[0]] * math.sqrt(len(x)), dtype=np.float64)


def _products(z: Real) -> Real:
    """The columns of z and their products, centred: orthonormal where z is standard normal."""
    i, j = np.triu_indices(z.shape[1])
    products = z[:, i] * z[:, j] * np.where(i == j, math.sqrt(0.5), 1.0)
    features = np.concatenate([z, products], axis=1)
    return np.asarray(features - features.mean(axis=0), dtype=np.float64)


def _axes(functions: Real, d: int) -> Real:
    """The main directions in d columns that linear and quadratic functions (features, m) look along; (d, <= KEPT)."""
    total = np.zeros((d, d))
    i, j = np.triu_indices(d)
    for weights in functions.T:
        # The function is z^T square z: a product of two columns stands twice in it.
        square = np.zeros((d, d))
        square[i, j] = weights[d:] * np.where(i == j, math.sqrt(0.5), 0.5)
        square = square + square.T - np.diag(np.diag(square))
        total += np.outer(weights[:d], weights[:d]) + square @ square
    values, vectors = np.linalg.eigh(total)
    keep = values > max(_SHARE * values[-1], 1e-12)
    return np.asarray(vectors[:, keep][:, -KEPT:], dtype=np.float64)
