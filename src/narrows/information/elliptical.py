"""Mutual information of sides that share an elliptical copula: Gaussian or Student's t dependence, any margins.

Every column is replaced by quantiles of Student's t with nu degrees of freedom, as mutual information does not change
when a column is mapped monotonically (ties are broken at random, which changes none either). R is the correlation
matrix of the maximum-likelihood scatter (Kent and Tyler, "Redescending M-estimates of multivariate location and
scatter", 1991), nu the one of the highest likelihood. Then

    I = I_Gauss(R) + h(dx) + h(dy) - h(dx + dy),
    h(k) = -ln G((nu + k) / 2) + ln G(nu / 2) + k/2 ln(nu pi) + (nu + k)/2 [psi((nu + k) / 2) - psi(nu / 2)],

which is not 0 for R = 1: rows that are far out are so in all columns. Whether the family fits is checked: models of the
joint law, of x and of y, fitted separately to one half of the rows, must reach I on the other half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import digamma, gammaln, ndtri, stdtrit

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.core.seeds import derive
from narrows.information.estimate import Caution, MIEstimate
from narrows.information.gaussian import error_of, wishart_bias
from narrows.information.inputs import Real, Samples, column_cautions, pair, refuse_labels, telling, untied_ranks

SCATTER = register_reference(
    Reference(
        "doi:10.1214/aos/1176348388",
        "Redescending M-estimates of multivariate location and scatter",
        ("John T. Kent", "David E. Tyler"),
        1991,
        "The Annals of Statistics",
    )
)

FREEDOM = (1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 14.0, 30.0, math.inf)
_STEPS = 8
_RIDGE = 1e-9
_CERTAIN = 8.0  # nats in one pair of columns beyond which one is a function of the other


@cites(SCATTER.key)
def elliptical(x: Samples, y: Samples, *, seed: int = 0) -> MIEstimate:
    """Mutual information in nats of continuous x (n, dx) and y (n, dy) under an elliptical copula.

    `details` say the degrees of freedom, what the models reach on rows they have not seen (`held out`; `seed` splits),
    and whether the family is adequate: the value is then not above that by more than 0.05 nats or a tenth.
    Raises DataError for labels and for n < 2 (dx + dy + 2). Source: Kent and Tyler 1991.
    """
    a, b = pair(x, y)
    refuse_labels("elliptical", x=x, y=y)
    n, dims = len(a), (a.shape[1], b.shape[1])
    cautions = [c for c in column_cautions(x=a, y=b) if c.trouble not in ("heavy tails", "ties")]
    ranks = untied_ranks(a[:, telling(a)], b[:, telling(b)], seed)
    dx, dy = (side.shape[1] for side in ranks)
    if n < 2 * (dx + dy + 2):
        raise DataError(f"{dims[0]} and {dims[1]} columns need at least {2 * (dx + dy + 2)} rows, here are {n}")
    if not dx or not dy:
        return MIEstimate(0.0, "elliptical", n, dims, 0.0, cautions=tuple(cautions), details={"adequate": True})
    fit = _fit(np.concatenate(ranks, axis=1), dx, seed)
    value = _closed_form(fit, dx, dy) - wishart_bias(n, dx, dy)
    adequate = value - fit.held_out <= max(0.05, 0.1 * value)
    if not adequate:
        text = (
            f"the dependence is not that of an elliptical copula: models of this family reach {fit.held_out:.2f} nats "
            f"on rows they have not seen, where {value:.2f} are claimed; method='auto' looks for another way"
        )
        cautions.append(Caution("assumption", text))
    if np.abs(fit.correlation[:dx, dx:]).max() ** 2 > 1 - math.exp(-2 * _CERTAIN):
        text = "a column of x is a function of one of y: the true value is infinite, this one a resolution"
        cautions.append(Caution("deterministic", text))
    return MIEstimate(
        value,
        "elliptical",
        n,
        dims,
        standard_error=error_of(fit.rows, dx, dy),
        cautions=tuple(cautions),
        details={
            "degrees of freedom": fit.nu if math.isfinite(fit.nu) else "infinite",
            "held out": fit.held_out,
            "adequate": bool(adequate),
        },
    )


@dataclass(frozen=True)
class _Fit:
    nu: float
    correlation: Real
    rows: Real  # ln p(x, y) / p(x) p(y) of each row
    held_out: float


def _fit(ranks: Real, dx: int, seed: int) -> _Fit:
    """The joint law at its best nu, and the mean log ratio of separate laws on rows that they have not seen."""
    n, d = ranks.shape
    blocks = (slice(None), slice(0, dx), slice(dx, None))
    half = np.random.default_rng(derive(seed, "halves")).permutation(n) < n // 2
    starts: dict[object, Real] = {}
    likelihoods = []
    best: dict[tuple[int, int], tuple[float, float]] = {}
    for nu in FREEDOM:
        w = _quantiles(ranks, nu)
        starts["all"] = _scatter(w, nu, starts.get("all"))
        likelihoods.append(float(_log_copula(w, starts["all"], nu).mean()))
        for fold, rows in enumerate((half, ~half)):
            for which, block in enumerate(blocks):
                part = w[:, block]
                starts[fold, which] = _scatter(part[rows], nu, starts.get((fold, which)))
                seen, unseen = (float(_log_copula(part[r], starts[fold, which], nu).mean()) for r in (rows, ~rows))
                best[fold, which] = max(best.get((fold, which), (-math.inf, 0.0)), (seen, unseen))
    nu = _peak(likelihoods)
    w = _quantiles(ranks, nu)
    correlation = _scatter(w, nu, starts["all"])
    joint, left, right = (_log_copula(w[:, b], correlation[b, b], nu) for b in blocks)
    reached = sum(best[fold, 0][1] - best[fold, 1][1] - best[fold, 2][1] for fold in (0, 1)) / 2
    missed = _shortfall(n // 2, d) - _shortfall(n // 2, dx) - _shortfall(n // 2, d - dx)
    return _Fit(nu, correlation, joint - left - right, reached + missed)


def _shortfall(n: int, d: int) -> float:
    """How far a covariance matrix of n rows stays below the true one in mean log-likelihood on other normal rows.

    E ln det and E trace of the inverse of a Wishart matrix are known; about d (d + 1) / (4n).
    """
    log_det = float(digamma((n + 1 - np.arange(1, d + 1)) / 2).sum()) + d * math.log(2 / n)
    return 0.5 * (log_det + d * n / (n - d - 1) - d)


def _closed_form(fit: _Fit, dx: int, dy: int) -> float:
    r, left, right = fit.correlation, slice(0, dx), slice(dx, None)
    value = 0.5 * (_log_det(r[left, left]) + _log_det(r[right, right]) - _log_det(r))
    if math.isinf(fit.nu):
        return value
    return value + student_entropy(fit.nu, dx) + student_entropy(fit.nu, dy) - student_entropy(fit.nu, dx + dy)


def student_entropy(nu: float, k: int) -> float:
    """Differential entropy in nats of Student's t in `k` dimensions with the identity as its dispersion."""
    half, top = nu / 2, (nu + k) / 2
    return float(gammaln(half) - gammaln(top) + k / 2 * math.log(nu * math.pi) + top * (digamma(top) - digamma(half)))


def _peak(likelihoods: Sequence[float]) -> float:
    """The nu at the top of the parabola in 1/nu through the best of FREEDOM and its neighbours."""
    i = min(max(int(np.argmax(likelihoods)), 1), len(FREEDOM) - 2)
    inverse = np.array([1 / nu for nu in FREEDOM[i - 1 : i + 2]])
    curve = np.polyfit(inverse, likelihoods[i - 1 : i + 2], 2)
    if curve[0] >= 0:
        return FREEDOM[int(np.argmax(likelihoods))]
    top = min(max(float(-curve[1] / (2 * curve[0])), float(inverse.min())), float(inverse.max()))
    return 1 / top if top > 1e-3 else math.inf


def _quantiles(ranks: Real, nu: float) -> Real:
    """Student's quantiles of the values whose `centred_ranks` are given."""
    n = len(ranks)
    place = (ranks + n - 1).astype(np.int64)
    share = (np.arange(2 * n - 1) / 2 + 0.5) / n
    table = ndtri(share) if math.isinf(nu) else stdtrit(nu, share)
    return np.asarray(table[place], dtype=np.float64)


def _scatter(w: Real, nu: float, start: Real | None) -> Real:
    """Correlation matrix of the maximum-likelihood scatter of Student's t, by fixed-point steps from `start`."""
    n, d = w.shape
    if math.isinf(nu):
        return _unit(w.T @ w / n)
    scatter = w.T @ w / n if start is None else start
    for _ in range(_STEPS):
        weights = (nu + d) / (nu + _squares(w, scatter))
        last, scatter = scatter, (w * weights[:, None]).T @ w / n
        if np.abs(scatter - last).max() < 1e-5:
            break
    return _unit(scatter)


def _unit(scatter: Real) -> Real:
    scale = np.sqrt(np.diag(scatter))
    return np.asarray(scatter / np.outer(scale, scale), dtype=np.float64)


def _squares(w: Real, scatter: Real) -> Real:
    """w_i^T S^-1 w_i of each row."""
    root = np.linalg.cholesky(scatter + _RIDGE * np.eye(len(scatter)))
    return np.asarray((solve_triangular(root, w.T, lower=True) ** 2).sum(axis=0), dtype=np.float64)


def _log_det(r: Real) -> float:
    return float(np.linalg.slogdet(r + _RIDGE * np.eye(len(r)))[1])


def _log_copula(w: Real, r: Real, nu: float) -> Real:
    """ln of the joint density over the product of the columns' densities, of each row."""
    d = w.shape[1]
    if d == 1:
        return np.zeros(len(w))
    squares = _squares(w, r)
    if math.isinf(nu):
        return np.asarray(-0.5 * (_log_det(r) + squares - (w**2).sum(axis=1)))
    half = nu / 2
    joint = gammaln(half + d / 2) - gammaln(half) - 0.5 * _log_det(r) - (half + d / 2) * np.log1p(squares / nu)
    single = d * (gammaln(half + 0.5) - gammaln(half)) - (half + 0.5) * np.log1p(w**2 / nu).sum(axis=1)
    return np.asarray(joint - single, dtype=np.float64)
