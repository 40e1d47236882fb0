"""Differential entropy from several nearest neighbours at once.

Kozachenko and Leonenko (1987): with r_j the distance of a row to its j-th neighbour and V the volume of the unit ball,

    H_j = d mean ln r_j + ln V + ln(n - 1) - psi(j).

Berrett, Samworth and Yuan, "Efficient multivariate entropy estimation via k-nearest neighbour distances" (2019,
arXiv:1606.00304) take H = sum_j w_j H_j with weights that sum to 1 and whose moments cancel the leading terms of the
bias. In many dimensions such weights are large and of both signs, and so is the variance; see `neighbour_weights`.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy.special import digamma, gammaln

from narrows.core.cite import cites
from narrows.core.errors import DataError
from narrows.core.seeds import derive
from narrows.information.estimate import Caution, Estimate
from narrows.information.inputs import Real, Samples, column_cautions, columns
from narrows.information.kozachenko_leonenko import WEIGHTED

Weighted = Literal["auto", "official"]
_JITTER = 1e-10
_TIED = 0.01  # share of rows with a twin from which on the data is discrete
_LARGEST = 3.0  # norm of weights beyond which the k-th neighbour alone is better
_TREE = 9  # columns from which on all distances are faster than a tree


@cites(WEIGHTED.key)
def weighted_entropy(
    x: Samples, *, k: int = 5, weighted: Weighted = "auto", whiten: bool = True, seed: int = 0
) -> Estimate:
    """Differential entropy in nats of continuous x, of shape (n,) or (n, d), from `k` nearest neighbours.

    `whiten` measures x S^(-1/2), S the covariance, and adds 1/2 ln det S: better for columns of unequal scale or
    correlated ones, worse for clusters far apart. `weighted` as in `neighbour_weights`. A few tied rows are set apart
    by noise of 1e-10 from `seed`. The standard error is over rows. Raises DataError for k >= n, more than 1 % of tied
    rows, and columns that depend on each other linearly (-inf). Source: Berrett et al. 2019.
    """
    a = columns(x, "x")
    n, d = a.shape
    if k < 1 or k >= n:
        raise DataError(f"k must lie between 1 and n - 1 = {n - 1}, got {k}")
    weights = neighbour_weights(k, d, weighted)
    cautions = [c for c in column_cautions(x=a) if c.trouble == "heavy tails"]
    a, tied = _apart(a, seed)
    if tied:
        cautions.append(Caution("ties", f"{tied} rows are the same as another one, and were set apart by 1e-10"))
    white, log_scale = _white(a)  # also where it is not used: it refuses what has no finite entropy
    a, log_scale = (white, log_scale) if whiten else (a - a.mean(axis=0), 0.0)
    used = np.flatnonzero(weights)
    reach = _distances(a, [int(j) + 1 for j in used])
    if not reach.min() > 0:
        raise DataError("rows lie so near each other that their distance is 0: the entropy has no finite estimate")
    constant = d / 2 * math.log(math.pi) - float(gammaln(d / 2 + 1)) + math.log(n - 1)
    terms = (d * np.log(reach) - digamma(used + 1)) @ weights[used] + constant + log_scale
    return Estimate(
        float(terms.mean()),
        "weighted_entropy",
        n,
        (d,),
        standard_error=float(terms.std(ddof=1) / math.sqrt(n)),
        cautions=tuple(cautions),
        details={"k": k, "weights": weights.tolist(), "whiten": whiten},
    )


@cites(WEIGHTED.key)
def neighbour_weights(k: int, d: int, weighted: Weighted = "auto") -> Real:
    """Weights (k,) of the neighbours 1 to k in d dimensions. They sum to 1.

    "official": the first neighbour alone up to d = 4, else the shortest weights, on the neighbours floor(k i / d),
    with sum_j w_j Gamma(j + 2 l / d) / Gamma(j) = 0 for l = 1 to floor(d / 4). "auto": these weights for d = 4 to 7, if
    their norm stays below 3, else the k-th neighbour alone: at d = 8 and k = 5 the norm is 17, which multiplies the
    noise and cures no bias that matters.
    """
    if k < 1 or d < 1:
        raise DataError(f"weights need k and d from 1 on, got k={k}, d={d}")
    if weighted not in ("auto", "official"):
        raise DataError(f"neighbours are weighted 'auto' or 'official', got {weighted!r}")
    alone = np.zeros(k)
    alone[0 if weighted == "official" else k - 1] = 1.0
    if d <= 3 or (d == 4 and weighted == "official"):
        return alone
    weights = _moment_weights(k, d)
    if weighted == "official":
        if weights is None:
            raise DataError(f"in {d} dimensions {k} neighbours are too few to cancel {d // 4} moments: use a larger k")
        return weights
    fine = weights is not None and d < 8 and float(np.linalg.norm(weights)) < _LARGEST
    return weights if fine and weights is not None else alone


def _moment_weights(k: int, d: int) -> Real | None:
    """The shortest weights that meet all conditions; None where there are none."""
    support = np.array(sorted({k * i // d for i in range(1, d + 1)} - {0}))
    moments = np.arange(1, d // 4 + 1)[:, None]
    rows = np.exp(gammaln(support + 2 * moments / d) - gammaln(support))
    scale = np.linalg.norm(rows, axis=1, keepdims=True)
    conditions = np.concatenate([np.ones((1, len(support))), rows / scale])
    wanted = np.zeros(len(conditions))
    wanted[0] = 1.0
    found = np.linalg.lstsq(conditions, wanted, rcond=1e-6)[0]
    if np.abs(conditions @ found - wanted).max() > 1e-9:
        return None
    weights = np.zeros(k)
    weights[support - 1] = found
    return weights


def _apart(x: Real, seed: int) -> tuple[Real, int]:
    """The rows, with noise too small to matter where some are tied, and how many are."""
    counts = np.unique(x, axis=0, return_counts=True)[1]
    tied = int(counts[counts > 1].sum())
    if not tied:
        return x, 0
    if tied > max(_TIED * len(x), 2):
        raise DataError(
            f"{tied} of {len(x)} rows are the same as another one: the data is discrete and its differential entropy "
            "-inf; use method='discrete'"
        )
    dice = np.random.default_rng(derive(seed, "ties"))
    return x + _JITTER * x.std(axis=0) * dice.standard_normal(x.shape), tied


def _white(x: Real) -> tuple[Real, float]:
    """The columns with unit covariance, and what must be added to their entropy."""
    centred = x - x.mean(axis=0)
    scales = centred.std(axis=0)
    if not scales.min() > 0:
        raise DataError("a column of x never changes: the differential entropy is -inf; leave the column out")
    values, vectors = np.linalg.eigh(np.cov(centred / scales, rowvar=False, bias=True).reshape(len(scales), -1))
    if values[0] < 1e-12:
        raise DataError(
            "the columns of x depend on each other linearly: the differential entropy is -inf; leave some out, or "
            "reduce them by PCA"
        )
    log_scale = float(np.log(scales).sum() + 0.5 * np.log(values).sum())
    return np.asarray(centred / scales @ (vectors / np.sqrt(values)), dtype=np.float64), log_scale


def _distances(x: Real, ks: list[int]) -> Real:
    """Euclidean distances of each row to its k-th other row; shape (n, len(ks))."""
    from sklearn.neighbors import NearestNeighbors

    way = "kd_tree" if x.shape[1] < _TREE else "brute"
    search = NearestNeighbors(n_neighbors=max(ks), algorithm=way).fit(x)
    reach = search.kneighbors()[0]
    return np.asarray(reach[:, [j - 1 for j in ks]], dtype=np.float64)
