"""Differential entropy from nearest neighbours.

Kozachenko and Leonenko (1987): with r_ij the distance of row i to its j-th neighbour (Euclid) and V_d the volume of the
unit ball,

    H_j = (d/n) sum_i ln r_ij + ln V_d + ln(n - 1) - psi(j).

Berrett, Samworth and Yuan, "Efficient multivariate entropy estimation via k-nearest neighbour distances" (2019): from
four columns on the bias of one H_j decides, but a weighted sum of them, sum w_j = 1, loses the leading terms of it
when sum_j w_j Gamma(j + 2l/d) / Gamma(j) = 0 for l = 1, ..., floor(d/4). The weights are the shortest such vector.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy.special import digamma, gammaln

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.information.estimate import Caution, Estimate
from narrows.information.inputs import Real, Samples, columns, same_rows, standardised
from narrows.information.neighbours import kth_distances

KOZACHENKO = register_reference(
    Reference(
        "kozachenko1987",
        "Sample estimate of the entropy of a random vector",
        ("L. F. Kozachenko", "N. N. Leonenko"),
        1987,
        "Problems of Information Transmission",
    )
)
WEIGHTED = register_reference(
    Reference(
        "arXiv:1606.00304",
        "Efficient multivariate entropy estimation via k-nearest neighbour distances",
        ("Thomas B. Berrett", "Richard J. Samworth", "Ming Yuan"),
        2019,
        "Annals of Statistics",
    )
)

Weights = Literal["auto", "plain", "official"]

_LARGEST = 3.0  # norm of weights beyond which the k-th neighbour alone is better
_MANY = 10


@cites(KOZACHENKO.key, WEIGHTED.key)
def kozachenko_leonenko(x: Samples, k: int = 5, *, weights: Weights = "auto", whiten: bool = True) -> Estimate:
    """Differential entropy in nats of x, of shape (n,) or (n, d), from its nearest neighbours.

    `weights` are those of `neighbour_weights`; "auto" takes the k-th neighbour alone where rows are the same as
    others, since weights need the first one too. In 4 to 6 columns they cost about twice the noise: with normal laws
    and k = 5 they paid at 4,000 rows and not at 1,000, with laws on a box at neither. `whiten` measures distances
    after x has been brought to unit covariance, and corrects for it; then every affine map changes the answer by
    ln|det| and nothing else. Without it, only shifts, rotations and a common scale do. The standard error is that of
    the mean over rows; it leaves out the bias. Raises DataError for k >= n and where the entropy is minus infinity:
    columns that depend on each other linearly, or rows that have k equal ones.
    """
    rows = columns(x, "x")
    same_rows(rows, rows)
    n, d = rows.shape
    if not 1 <= k < n:
        raise DataError(f"k must lie between 1 and n - 1 = {n - 1}, got {k}")
    w = neighbour_weights(k, d, weights)
    white, lost = _white(rows)
    points, log_volume = (white, lost) if whiten else (rows, 0.0)
    used = np.flatnonzero(w) + 1
    reach = kth_distances(points, used.tolist(), norm=2)
    if weights == "auto" and not reach.min() > 0 and len(used) > 1:
        used, w, reach = used[-1:], _alone(k, k), reach[:, -1:]
    if (twins := int((reach == 0).any(axis=1).sum())) > 0:
        raise DataError(
            f"{twins} of {n} rows have {used[0]} or more equal ones, and a law with such points has no differential "
            "entropy: take a larger k if they are few, or an entropy of discrete values"
        )
    terms = d * np.log(reach) @ w[used - 1]
    constant = d / 2 * math.log(math.pi) - gammaln(d / 2 + 1) + math.log(n - 1) - float(digamma(used) @ w[used - 1])
    return Estimate(
        float(terms.mean() + constant + log_volume),
        "kozachenko_leonenko",
        n,
        (d,),
        standard_error=float(terms.std(ddof=1) / math.sqrt(n)),
        cautions=_cautions(rows),
        details={"neighbours": used.tolist(), "weights": w[used - 1].tolist(), "whitened": whiten},
    )


@cites(WEIGHTED.key)
def neighbour_weights(k: int, d: int, weights: Weights = "auto") -> Real:
    """Weights (k,) of the neighbours 1 to `k` in `d` dimensions. They sum to 1.

    "plain": the k-th neighbour alone. "official": the paper's program, which takes the first neighbour alone up to
    d = 4 and beyond it the weights that cancel the leading biases. "auto": these weights for d = 4 to 7 if their norm
    stays below 3, else the k-th neighbour alone: at d = 8 and k = 5 the norm is 17, which multiplies the noise and
    cures no bias that matters. Raises DataError where the neighbours are too few.
    """
    if k < 1 or d < 1:
        raise DataError(f"weights need k and d from 1 on, got k={k}, d={d}")
    if weights not in ("auto", "plain", "official"):
        raise DataError(f"weights are 'auto', 'plain' or 'official', got {weights!r}")
    if weights == "official":
        return _alone(1, k) if d <= 4 else moment_weights(k, d)
    if weights == "plain" or not 4 <= d < 8 or k < 2:
        return _alone(k, k)
    cancelling = moment_weights(k, d)
    return cancelling if float(np.linalg.norm(cancelling)) < _LARGEST else _alone(k, k)


def _alone(j: int, k: int) -> Real:
    found = np.zeros(k)
    found[j - 1] = 1.0
    return found


def moment_weights(k: int, d: int) -> Real:
    """The weights of neighbours 1 to `k` in `d` dimensions whose leading biases cancel; shape (k,).

    Only the neighbours floor(k/d), floor(2k/d), ..., k have a weight. Raises DataError where these are too few.
    """
    support = sorted({j * k // d for j in range(1, d + 1)} - {0})
    j = np.asarray(support, dtype=np.float64)
    orders = np.arange(d // 4 + 1)[:, None]
    # Each row divided by its largest entry: the constraints are the same, their sizes comparable.
    logs = gammaln(j + 2 * orders / d) - gammaln(j)
    constraints = np.exp(logs - logs.max(axis=1, keepdims=True))
    target = np.zeros(len(constraints))
    target[0] = 1.0
    shortest = np.linalg.pinv(constraints) @ target
    if len(support) < len(constraints) or np.abs(constraints @ shortest - target).max() > 1e-8:
        raise DataError(f"{len(support)} neighbours cannot cancel {d // 4} biases in {d} dimensions: take a larger k")
    found = np.zeros(k)
    found[np.asarray(support) - 1] = shortest
    return found


def _white(x: Real) -> tuple[Real, float]:
    """The rows with unit covariance, and ln of the volume that they lost by it; DataError where they have none."""
    scaled = standardised(x)
    _, values, axes = np.linalg.svd(scaled, full_matrices=False)
    rank = int((values > values[0] * max(x.shape) * np.finfo(np.float64).eps).sum())
    if rank < x.shape[1] or (np.ptp(x, axis=0) == 0).any():
        raise DataError(
            f"x has {x.shape[1]} columns and only {rank} directions in which it varies, so its differential entropy is "
            "minus infinity: leave out columns that are constant or follow from others, or take more rows"
        )
    spread = values / math.sqrt(len(x))
    return np.ascontiguousarray(scaled @ (axes.T / spread)), float(np.log(x.std(axis=0)).sum() + np.log(spread).sum())


def _cautions(x: Real) -> tuple[Caution, ...]:
    found = []
    n, d = x.shape
    tied = n - len(np.unique(x, axis=0))
    if tied > 0.05 * n:
        text = f"{tied} of {n} rows repeat another one: rounded values make the entropy too low"
        found.append(Caution("ties", text))
    if d >= _MANY:
        text = f"with {d} columns the nearest neighbours are far away, and the estimate may be far off"
        found.append(Caution("high dimension", text))
    if n < 10 * d:
        found.append(Caution("few samples", f"{n} rows are few for {d} columns: take at least {10 * d}"))
    return tuple(found)
