"""Mutual information from nearest neighbours.

Kraskov, Stögbauer and Grassberger, "Estimating mutual information" (2004): with eps_i the distance of row i to its
k-th neighbour in the joint space (maximum norm) and n_x, n_y the number of other rows nearer than that in x and in y,

    I = psi(k) + psi(n) - mean[psi(n_x + 1) + psi(n_y + 1)].

Gao, Kannan, Oh and Viswanath, "Estimating mutual information for discrete-continuous mixtures" (2017) is the same idea
for columns that may be discrete, continuous or both; Ross (2014) is its special case of a label and a real side.

All three want about e^I rows, and fewer than some five columns a side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.core.seeds import derive
from narrows.information.estimate import Caution, MIEstimate, saturation
from narrows.information.inputs import (
    Real,
    Samples,
    centred_ranks,
    codes,
    column_cautions,
    columns,
    is_label,
    pair,
    refuse_labels,
    same_rows,
    scores_of_ranks,
    standardised,
    untied_ranks,
)
from narrows.information.neighbours import TREE, Counts, kth_distances, nearer, neighbour_counts

KSG = register_reference(
    Reference(
        "arXiv:cond-mat/0305641",
        "Estimating mutual information",
        ("Alexander Kraskov", "Harald Stögbauer", "Peter Grassberger"),
        2004,
        "Physical Review E",
    )
)
MIXED = register_reference(
    Reference(
        "arXiv:1709.06212",
        "Estimating mutual information for discrete-continuous mixtures",
        ("Weihao Gao", "Sreeram Kannan", "Sewoong Oh", "Pramod Viswanath"),
        2017,
        "Advances in Neural Information Processing Systems",
    )
)

NEIGHBOURS = (1, 2, 4, 8, 16)
_JITTER = 1e-10
_MANY, _MANY_EXTRAPOLATED = 5, 13  # columns in all from which strong dependence is underestimated
_APART = 1e6  # standard deviations between two labels
_STEPS, _ON_GRID = 30, 0.1  # steps of rounding within which the neighbours of a tenth of the rows make a difference


@cites(KSG.key)
def ksg(x: Samples, y: Samples, k: int = 5, *, variant: int = 1, standardise: bool = True, seed: int = 0) -> MIEstimate:
    """Mutual information in nats of x (n, dx) and y (n, dy), both continuous, from `k` nearest neighbours.

    `variant` 1 counts in a square of the joint space, 2 in the rectangle of the k neighbours (less bias, for few
    columns). Columns are brought to unit deviation first, as the maximum norm depends on scale, and tied rows are set
    apart by noise of 1e-10 from `seed`. The standard error is that of the mean over rows; it leaves out the bias.
    Raises DataError for labels and for k >= n. Source: Kraskov et al. 2004.
    """
    a, b = pair(x, y)
    refuse_labels("ksg", x=x, y=y)
    _require(k, len(a))
    if variant not in (1, 2):
        raise DataError(f"ksg has the variants 1 and 2, got {variant}")
    cautions = column_cautions(x=a, y=b)
    a, b = _apart(*((standardised(a), standardised(b)) if standardise else (a, b)), seed)
    if variant == 1:
        terms = _terms(*(c[:, 0] for c in neighbour_counts(a, b, [k])[1:]))
    else:
        terms = _terms_of_rectangles(a, b, k)
    value = float(digamma(k) + digamma(len(a)) + terms.mean() - (1 / k if variant == 2 else 0.0))
    return MIEstimate(
        value,
        "ksg",
        len(a),
        (a.shape[1], b.shape[1]),
        standard_error=float(terms.std(ddof=1) / math.sqrt(len(a))),
        cautions=(*cautions, *saturation(value, len(a)), *_too_many_columns(a, b)),
        details={"k": k, "variant": variant},
    )


@cites(KSG.key)
def ksg_extrapolated(x: Samples, y: Samples, ks: Sequence[int] = NEIGHBOURS, *, seed: int = 0) -> MIEstimate:
    """Mutual information in nats of continuous x and y: KSG for several k, extrapolated to a radius of 0.

    Columns become normal scores, so that the estimate is the same after any monotone map of a column; ties are broken
    at random (`seed`), which changes no information. The bias of a
    neighbour estimate is of second order in the radius, which grows as (k/n)^(1/d): I_k = I + b (k/n)^(2/d) is
    fitted by least squares with weights k. The standard error counts rows as independent; repeated samples spread up to
    one and a half times as far. Raises DataError for labels and for max(k) >= n.
    """
    a, b = pair(x, y)
    refuse_labels("ksg_extrapolated", x=x, y=y)
    if len(set(ks)) < 2:
        raise DataError(f"an extrapolation needs at least two different k, got {list(ks)}")
    _require(min(ks), len(a))
    _require(max(ks), len(a))
    n, d = len(a), a.shape[1] + b.shape[1]
    cautions = [c for c in column_cautions(x=a, y=b) if c.trouble not in ("heavy tails", "ties")]
    a, b = (scores_of_ranks(ranks) for ranks in untied_ranks(a, b, seed))
    _, in_x, in_y = neighbour_counts(a, b, ks)
    terms = np.stack([_terms(in_x[:, j], in_y[:, j]) for j in range(len(ks))], axis=1)
    values = digamma(ks) + digamma(n) + terms.mean(axis=0)
    weights = _intercept(np.asarray(ks, dtype=np.float64), n, d)
    value = float(weights @ values)
    return MIEstimate(
        value,
        "ksg_extrapolated",
        n,
        (a.shape[1], b.shape[1]),
        standard_error=float((terms @ weights).std(ddof=1) / math.sqrt(n)),
        cautions=(*cautions, *saturation(value, n), *_too_many_columns(a, b, _MANY_EXTRAPOLATED)),
        details={"k": list(ks), "values": values.tolist()},
    )


@cites(MIXED.key)
def mixed_ksg(x: Samples, y: Samples, k: int = 5) -> MIEstimate:
    """Mutual information in nats of sides that may be continuous, discrete, labels, or a mixture.

    A label (see `is_label`) is set so far apart that its values are never neighbours; other columns are brought to unit
    deviation. Ties are meant: rows with k twins count those. Rounded values are not, about which there is a caution:
    many rows are at exactly the distance of the k-th neighbour then. Raises DataError for k >= n. Source: Gao et al.
    2017.
    """
    a, b = _side(x, "x"), _side(y, "y")
    same_rows(a, b)
    _require(k, len(a))
    n = len(a)
    joint = np.concatenate([a, b], axis=1)
    reach = kth_distances(joint, [k])[:, 0]
    cautions = [*(c for c in column_cautions(x=a, y=b) if c.trouble != "ties"), *_on_a_grid(joint, reach)]
    twins = reach == 0
    k_i = np.full(n, k)
    if twins.any():
        k_i[twins] = _same(joint)[twins]
    m_x, m_y = (_inside(side, reach, twins) for side in (a, b))
    terms = digamma(k_i) + math.log(n) - digamma(m_x) - digamma(m_y)
    value = float(terms.mean())
    return MIEstimate(
        value,
        "mixed_ksg",
        n,
        (a.shape[1], b.shape[1]),
        standard_error=float(terms.std(ddof=1) / math.sqrt(n)),
        cautions=(*cautions, *saturation(value, n), *_too_many_columns(a, b)),
        details={"k": k, "rows with k twins": int(twins.sum())},
    )


def _side(x: Samples, name: str) -> Real:
    if is_label(x):
        return np.asarray(codes(x, name)[:, None] * _APART, dtype=np.float64)
    return standardised(columns(x, name))


def _inside(side: Real, reach: Real, twins: NDArray[np.bool_]) -> Counts:
    counts = nearer(side, reach[:, None])[:, 0] + 1
    if twins.any():
        counts[twins] = _same(side)[twins]
    return counts


def _on_a_grid(joint: Real, reach: Real) -> tuple[Caution, ...]:
    """The caution that neighbours are a few steps of rounding away, where many others are at the same distance."""
    rounded = 0
    for column in joint.T:
        values, counts = np.unique(column, return_counts=True)
        # One value may be shared by many rows without a grid, such as 0 in a rectified column.
        if counts[counts > 1].sum() - counts.max() > _ON_GRID * len(column):
            step = float(np.quantile(np.diff(values), 0.1))
            rounded += int(((reach > 0.99 * step) & (reach < _STEPS * step)).mean() > _ON_GRID)
    if not rounded:
        return ()
    text = (
        f"{rounded} of {joint.shape[1]} columns are rounded to steps about as wide as neighbours are far away, which "
        "makes the estimate too high; method='auto' breaks such ties"
    )
    return (Caution("ties", text),)


def _same(side: Real) -> Counts:
    _, which, counts = np.unique(side, axis=0, return_inverse=True, return_counts=True)
    return np.asarray(counts[which.reshape(-1)], dtype=np.int64)


def _terms(in_x: Counts, in_y: Counts) -> Real:
    return np.asarray(-(digamma(in_x + 1) + digamma(in_y + 1)), dtype=np.float64)


def _terms_of_rectangles(a: Real, b: Real, k: int) -> Real:
    """Minus psi(n_x) + psi(n_y), counted within the smallest rectangle around a row that holds its k neighbours."""
    from sklearn.neighbors import NearestNeighbors

    joint = np.concatenate([a, b], axis=1)
    search = NearestNeighbors(n_neighbors=k, metric="chebyshev", algorithm="auto" if joint.shape[1] < TREE else "brute")
    near = search.fit(joint).kneighbors(return_distance=False)
    counts = []
    for side in (a, b):
        reach = np.abs(side[near] - side[:, None, :]).max(axis=(1, 2))
        counts.append(nearer(side, np.nextafter(reach, np.inf)[:, None])[:, 0])
    return np.asarray(-(digamma(counts[0]) + digamma(counts[1])), dtype=np.float64)


def _intercept(ks: Real, n: int, d: int) -> Real:
    """Weights of the values at `ks` in the intercept of the least-squares line in (k/n)^(2/d), weighted with k.

    A parabola was worse, over 19 laws at 500, 2,000 and 5,000 rows: on most it adds more noise than it takes bias away.
    """
    radius = (ks / n) ** (2 / d)
    share = ks / ks.sum()
    centred = radius - share @ radius
    slope = share * centred / (share @ centred**2)
    return np.asarray(share - (share @ radius) * slope, dtype=np.float64)


def _apart(a: Real, b: Real, seed: int) -> tuple[Real, Real]:
    """The sides, with noise too small to matter where rows of a side are tied."""
    if not (_has_ties(a) or _has_ties(b)):
        return a, b
    return _shaken(a, seed), _shaken(b, seed)


def _has_ties(side: Real) -> bool:
    """Whether two rows are the same, which they are not where a column has no two equal values."""
    if any(len(np.unique(column)) == len(side) for column in side.T):
        return False
    return len(np.unique(side, axis=0)) < len(side)


def _shaken(side: Real, seed: int) -> Real:
    # The noise belongs to the side, not to its place: x and y may change places.
    dice = np.random.default_rng(derive(seed, "ties", centred_ranks(side).tobytes()))
    return np.asarray(side + _JITTER * dice.standard_normal(side.shape), dtype=np.float64)


def _require(k: int, n: int) -> None:
    if k < 1 or k >= n:
        raise DataError(f"k must lie between 1 and n - 1 = {n - 1}, got {k}")


def _too_many_columns(a: Real, b: Real, many: int = _MANY) -> tuple[Caution, ...]:
    if a.shape[1] + b.shape[1] < many:
        return ()
    text = (
        f"with {a.shape[1]} and {b.shape[1]} columns the nearest neighbours are far away, and where dependence is "
        "strong the estimate is too low; method='auto' looks for another way"
    )
    return (Caution("high dimension", text),)
