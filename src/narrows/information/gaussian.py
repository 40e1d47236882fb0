"""Mutual information of sides that are jointly Gaussian, from canonical correlations.

Hotelling, "Relations between two sets of variates" (1936): with s_k the canonical correlations of x and y,

    I = -1/2 sum_k ln(1 - s_k^2) = 1/2 (ln det S_x + ln det S_y - ln det S).

The sample's value is too high by the same amount for every Gaussian law, as the expected ln det of a Wishart matrix is
known (Misra, Singh and Demchuk, "Estimation of the entropy of a multivariate normal distribution", 2005):

    1/2 [f(dx) + f(dy) - f(dx + dy)],   f(d) = sum_{i=1..d} psi((n - i) / 2),   about dx dy / (2n).

It is exact in any number of columns, and blind to everything but correlation.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import digamma
from scipy.stats import kurtosis, skew

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.information.estimate import Caution, MIEstimate
from narrows.information.inputs import Real, Samples, column_cautions, pair, refuse_labels, standardised

CANONICAL = register_reference(
    Reference("doi:10.1093/biomet/28.3-4.321", "Relations between two sets of variates", ("Harold Hotelling",), 1936)
)
WISHART = register_reference(
    Reference(
        "doi:10.1016/j.jmva.2003.10.003",
        "Estimation of the entropy of a multivariate normal distribution",
        ("Neeraj Misra", "Harshinder Singh", "Eugene Demchuk"),
        2005,
        "Journal of Multivariate Analysis",
    )
)

_CERTAIN = 1 - 1e-12  # the highest canonical correlation
_RANK = 1e-10  # share of the largest singular value below which a direction is none


@cites(CANONICAL.key, WISHART.key)
def gaussian(x: Samples, y: Samples, *, corrected: bool = True) -> MIEstimate:
    """Mutual information in nats of x (n, dx) and y (n, dy) if they were jointly Gaussian.

    `corrected` takes the bias of the sample's value off, which makes the mean of independent sides 0 and single values
    negative. The standard error holds for other laws as well, for this figure: it says nothing about what the figure
    leaves out. Columns that depend linearly on others of their side are left out.
    Raises DataError for labels and for n <= dx + dy + 1. Source: Hotelling 1936, Misra et al. 2005.
    """
    a, b = pair(x, y)
    refuse_labels("gaussian", x=x, y=y)
    n, dims = len(a), (a.shape[1], b.shape[1])
    left, right = _basis(a), _basis(b)
    ranks = left.shape[1], right.shape[1]
    if n - 1 <= sum(ranks):
        raise DataError(f"{dims[0]} and {dims[1]} columns need more than {sum(ranks) + 1} rows, here are {n}")
    u, s, v = np.linalg.svd(left.T @ right, full_matrices=False)
    s = np.minimum(s, _CERTAIN)
    bias = wishart_bias(n, *ranks)
    value = float(-0.5 * np.log1p(-(s**2)).sum()) - (bias if corrected else 0.0)
    rows = _log_ratio(left @ u * math.sqrt(n), right @ v.T * math.sqrt(n), s)
    return MIEstimate(
        value,
        "gaussian",
        n,
        dims,
        standard_error=error_of(rows, *ranks),
        cautions=(*column_cautions(x=a, y=b), *_limits(a, b, s, ranks)),
        details={"canonical correlations": s.tolist(), "bias": bias, "corrected": corrected},
    )


def wishart_bias(n: int, dx: int, dy: int) -> float:
    """How much too high the value from sample covariances is, in nats, for `n` rows of Gaussian columns."""

    def expected(d: int) -> float:
        return float(digamma((n - np.arange(1, d + 1)) / 2).sum())

    return 0.5 * (expected(dx) + expected(dy) - expected(dx + dy))


def error_of(rows: Real, dx: int, dy: int) -> float:
    """Standard error of the mean log ratio of a fitted law, from its rows (n,).

    Fitting makes independent sides look dependent, in the mean square by dx dy / n, and leaves a deviation of its own,
    that of chi-square with dx dy degrees of freedom over 2n.
    """
    n = len(rows)
    return math.sqrt(max(rows.var() / n - dx * dy / n**2, 0.0) + dx * dy / (2 * n**2))


def _basis(x: Real) -> Real:
    """Orthonormal columns that span the centred columns of x."""
    u, s, _ = np.linalg.svd(standardised(x), full_matrices=False)
    return np.asarray(u[:, s > _RANK * max(s[0], 1.0)], dtype=np.float64)


def _log_ratio(u: Real, v: Real, s: Real) -> Real:
    """ln p(x, y) / p(x) p(y) of each row but for a constant, from its canonical variates; shape (n,)."""
    terms = (s * s * (u**2 + v**2) - 2 * s * u * v) / (2 * (1 - s * s))
    return np.asarray(-terms.sum(axis=1), dtype=np.float64)


def _limits(a: Real, b: Real, s: Real, ranks: tuple[int, int]) -> tuple[Caution, ...]:
    found = []
    n = len(a)
    columns = np.concatenate([a, b], axis=1)
    columns = standardised(columns[:, np.ptp(columns, axis=0) > 0])
    odd = (np.abs(skew(columns)) > max(0.3, 5 * math.sqrt(6 / n))) | (
        np.abs(kurtosis(columns)) > max(0.6, 5 * math.sqrt(24 / n))
    )
    if odd.any():
        text = (
            f"{int(odd.sum())} of {len(odd)} columns are not normal, and dependence that is no correlation does not "
            "count here; method='elliptical' or 'auto' sees more"
        )
        found.append(Caution("assumption", text))
    if (s >= _CERTAIN).any():
        text = "a combination of columns of x is one of y as well: the true value is infinite, this one a resolution"
        found.append(Caution("deterministic", text))
    if n < 5 * sum(ranks):
        found.append(Caution("few samples", f"{n} rows for {sum(ranks)} columns: the correlations are mostly chance"))
    return tuple(found)
