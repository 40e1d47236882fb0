"""Sliced mutual information: the mean mutual information of random one-dimensional projections.

Goldfeld and Greenewald, "Sliced mutual information: a scalable measure of statistical dependence" (2021,
arXiv:2110.05279): with theta and phi uniform on the unit spheres of the two sides,

    SI(X; Y) = E[I(theta . X; phi . Y)].

It is 0 exactly for independent sides, and its error does not grow with the number of columns. It is NOT mutual
information: it is at most that, usually far less (a projection of many columns dilutes a dependence between few), a
one-to-one map changes it, and processing one side can raise it.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy.special import digamma

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.core.seeds import derive
from narrows.information.estimate import Estimate
from narrows.information.inputs import Real, Samples, column_cautions, pair, refuse_labels, standardised
from narrows.information.neighbours import neighbour_counts

SLICED = register_reference(
    Reference(
        "arXiv:2110.05279",
        "Sliced mutual information: a scalable measure of statistical dependence",
        ("Ziv Goldfeld", "Kristjan Greenewald"),
        2021,
        "Advances in Neural Information Processing Systems",
    )
)

By = Literal["ksg", "gaussian"]
_JITTER = 1e-10


@cites(SLICED.key)
def sliced(x: Samples, y: Samples, *, by: By = "ksg", slices: int = 64, k: int = 5, seed: int = 0) -> Estimate:
    """Sliced mutual information in nats of continuous x (n, dx) and y (n, dy): a dependence measure, not their MI.

    The mean over `slices` (an even number) random projections of the standardised columns, each measured `by` "ksg"
    (k neighbours) or "gaussian" (-1/2 ln(1 - r^2), exact for normal sides, blind to what is not linear). The directions
    depend on `seed` and the numbers of columns alone. The standard error joins that over rows and that over slices.
    Raises DataError for labels, for k >= n and n < 4. Source: Goldfeld and Greenewald 2021.
    """
    a, b = pair(x, y, least=4)
    refuse_labels("sliced", x=x, y=y)
    if by not in ("ksg", "gaussian"):
        raise DataError(f"slices are measured by 'ksg' or 'gaussian', got {by!r}")
    if by == "ksg" and not 1 <= k < len(a):
        raise DataError(f"k must lie between 1 and n - 1 = {len(a) - 1}, got {k}")
    cautions = column_cautions(x=a, y=b)
    theta, phi = (v / np.linalg.norm(v, axis=0) for v in line_pairs(a.shape[1], b.shape[1], slices, seed))
    a, b = standardised(a), standardised(b)
    values, of_rows = np.empty(slices), np.zeros(len(a))
    dice = np.random.default_rng(derive(seed, "ties"))
    for i in range(slices):
        u, v = standardised(a @ theta[:, i : i + 1]), standardised(b @ phi[:, i : i + 1])
        values[i], terms = _gaussian(u[:, 0], v[:, 0]) if by == "gaussian" else _ksg(u, v, k, dice)
        of_rows += terms / slices
    value = float(values.mean())
    # The two ways round of a pair of directions are not independent.
    drawn = values.reshape(2, -1).mean(axis=0) if a.shape[1] == b.shape[1] else values
    variances = of_rows.var(ddof=1) / len(a), drawn.var(ddof=1) / len(drawn)
    return Estimate(
        value,
        "sliced",
        len(a),
        (a.shape[1], b.shape[1]),
        standard_error=math.sqrt(sum(variances)),
        cautions=cautions,
        details={
            "by": by,
            "slices": slices,
            "standard error of rows": math.sqrt(variances[0]),
            "standard error of slices": math.sqrt(variances[1]),
            "largest slice": float(values.max()),
        },
    )


def line_pairs(dx: int, dy: int, slices: int, seed: int) -> tuple[Real, Real]:
    """Normal vectors (dx, slices) and (dy, slices). Changing the sides' places changes the order of the slices alone.

    Sides of equal width share two streams, each pair of vectors taken both ways round. DataError unless `slices` is an
    even number from 4 on.
    """
    if slices < 4 or slices % 2:
        raise DataError(f"slices must be an even number from 4 on, got {slices}")
    half = slices // 2
    if dx == dy:
        one, two = (_normal(dx, half, seed, "slices", name) for name in (1, 2))
        return np.concatenate([one, two], axis=1), np.concatenate([two, one], axis=1)
    return _normal(dx, slices, seed, "slices", 0), _normal(dy, slices, seed, "slices", 0)


def _normal(d: int, count: int, seed: int, *keys: object) -> Real:
    return np.asarray(np.random.default_rng(derive(seed, d, *keys)).standard_normal((d, count)), dtype=np.float64)


def _gaussian(u: Real, v: Real) -> tuple[float, Real]:
    """The value of a slice, and each row's influence on it."""
    r = float(np.clip((u * v).mean(), -1 + 1e-12, 1 - 1e-12))
    influence = (u * v - r * (u**2 + v**2) / 2) * r / (1 - r**2)
    return -0.5 * math.log1p(-(r**2)), np.asarray(influence, dtype=np.float64)


def _ksg(u: Real, v: Real, k: int, dice: np.random.Generator) -> tuple[float, Real]:
    """The value of a slice, and each row's term in it."""
    n = len(u)
    _, in_x, in_y = neighbour_counts(_apart(u, dice), _apart(v, dice), [k])
    terms = digamma(k) + digamma(n) - digamma(in_x[:, 0] + 1) - digamma(in_y[:, 0] + 1)
    return float(terms.mean()), np.asarray(terms, dtype=np.float64)


def _apart(side: Real, dice: np.random.Generator) -> Real:
    """The column, with noise too small to matter where values are tied."""
    if len(np.unique(side)) == len(side):
        return side
    return np.asarray(side + _JITTER * dice.standard_normal(side.shape), dtype=np.float64)
