"""Laws of two sides whose mutual information is known, for the tasks of `narrows.information.tasks`.

A `Law` draws rows, knows its mutual information in nats and, where densities are simple, ln p(x, y) / p(x) p(y) of a
row. Most constructions are those of Czyż, Grabowski, Vogt, Beerenwinkel and Marx, "Beyond Normal: On the Evaluation of
Mutual Information Estimators" (2023): Gaussian and Student's t laws, changed by maps that lose nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import gammaln, i0e, i1e, logsumexp, ndtr

from narrows.core.cite import Reference, register_reference
from narrows.information.elliptical import student_entropy
from narrows.information.inputs import Real

BENCHMARK = register_reference(
    Reference(
        "arXiv:2306.11078",
        "Beyond Normal: On the Evaluation of Mutual Information Estimators",
        ("Paweł Czyż", "Frederic Grabowski", "Julia E. Vogt", "Niko Beerenwinkel", "Alexander Marx"),
        2023,
        "Advances in Neural Information Processing Systems",
    )
)

Dice = np.random.Generator
Draw = Callable[[Dice, int], tuple[Real, Real]]
Map = Callable[[Real], Real]


@dataclass(frozen=True)
class Law:
    """`draw` gives n rows of x and of y; `mi` is known to within `mi_se`; `log_ratio` is pointwise, where it is known.

    `discrete` names the side that is one column of few values.
    """

    draw: Draw
    mi: float
    dims: tuple[int, int]
    log_ratio: Callable[[Real, Real], Real] | None = None
    mi_se: float = 0.0
    discrete: Literal["x", "y", "both"] | None = None

    def mapped(self, of_x: Map, of_y: Map) -> Law:
        """The law after injective maps of the sides, which change no information."""

        def draw(dice: Dice, n: int) -> tuple[Real, Real]:
            x, y = self.draw(dice, n)
            return of_x(x), of_y(y)

        x, y = draw(np.random.default_rng(0), 2)
        return replace(self, draw=draw, dims=(x.shape[1], y.shape[1]), log_ratio=None)


def pairs(rhos: Sequence[float], dx: int, dy: int) -> Law:
    """Standard normal columns; the first ones of x and y are correlated in pairs."""
    rho = np.asarray(rhos, dtype=np.float64)
    covariance = np.eye(dx + dy)
    k = np.arange(len(rho))
    covariance[k, dx + k] = covariance[dx + k, k] = rho
    return normal(covariance, dx)


def dense(d: int, rho: float) -> Law:
    """2d standard normal columns, each correlated with every other one."""
    return normal(np.full((2 * d, 2 * d), rho) + (1 - rho) * np.eye(2 * d), d)


def normal(covariance: Real, dx: int) -> Law:
    """Jointly normal columns, the first dx of which are x."""
    return student(covariance, dx, math.inf)


def student(covariance: Real, dx: int, nu: float) -> Law:
    """Student's t with the dispersion `covariance`; the normal law for infinitely many degrees of freedom."""
    d = len(covariance)
    root = np.linalg.cholesky(covariance)
    blocks = slice(None), slice(0, dx), slice(dx, None)
    parts = [covariance[b, b] for b in blocks]
    log_dets = [float(np.linalg.slogdet(p)[1]) for p in parts]
    mi = 0.5 * (log_dets[1] + log_dets[2] - log_dets[0])
    if math.isfinite(nu):
        mi += student_entropy(nu, dx) + student_entropy(nu, d - dx) - student_entropy(nu, d)

    def draw(dice: Dice, n: int) -> tuple[Real, Real]:
        rows = dice.standard_normal((n, d)) @ root.T
        if math.isfinite(nu):
            rows = rows / np.sqrt(dice.chisquare(nu, n) / nu)[:, None]
        return rows[:, :dx], rows[:, dx:]

    def log_ratio(x: Real, y: Real) -> Real:
        rows = np.concatenate([x, y], axis=1)
        joint, of_x, of_y = (
            _log_density(rows[:, b], p, log_det, nu) for b, p, log_det in zip(blocks, parts, log_dets, strict=True)
        )
        return joint - of_x - of_y

    return Law(draw, mi, (dx, d - dx), log_ratio)


def _log_density(rows: Real, covariance: Real, log_det: float, nu: float) -> Real:
    """ln of the density, less a constant for each column, which cancels between a joint law and its parts."""
    d = rows.shape[1]
    squares = (rows * np.linalg.solve(covariance, rows.T).T).sum(axis=1)
    if math.isinf(nu):
        return np.asarray(-0.5 * (log_det + squares))
    shape = gammaln((nu + d) / 2) - gammaln(nu / 2)
    return np.asarray(shape - 0.5 * log_det - (nu + d) / 2 * np.log1p(squares / nu))


def uniform_noise(half: float, d: int = 1) -> Law:
    """x uniform on the unit cube, y = x + uniform noise on [-half, half], column by column."""
    single = half - math.log(2 * half) if half <= 0.5 else 1 / (4 * half)

    def draw(dice: Dice, n: int) -> tuple[Real, Real]:
        x = dice.uniform(size=(n, d))
        return x, x + dice.uniform(-half, half, (n, d))

    def log_ratio(x: Real, y: Real) -> Real:
        return np.asarray(-np.log(np.minimum(y + half, 1) - np.maximum(y - half, 0)).sum(axis=1))

    return Law(draw, d * single, (d, d), log_ratio)


def signs(count: int, rho: float, mi: float, d: int = 1) -> Law:
    """`count` pairs with correlation rho or -rho by a fair coin of their own, among d columns; `mi` of one pair."""

    def draw(dice: Dice, n: int) -> tuple[Real, Real]:
        x, y = dice.standard_normal((2, n, d))
        coin = dice.choice([-1.0, 1.0], (n, count))
        y[:, :count] = rho * coin * x[:, :count] + math.sqrt(1 - rho**2) * y[:, :count]
        return x, y

    def log_ratio(x: Real, y: Real) -> Real:
        a, b = x[:, :count], y[:, :count]
        rest = -0.5 * math.log(1 - rho**2) - rho**2 * (a**2 + b**2) / (2 * (1 - rho**2))
        return np.asarray((rest + np.log(np.cosh(rho * a * b / (1 - rho**2)))).sum(axis=1))

    return Law(draw, count * mi, (d, d), log_ratio)


def inliers(share: float, mi: float, mi_se: float, base: Law) -> Law:
    """Pairs of `base`, of which a share is replaced by independent ones."""

    def draw(dice: Dice, n: int) -> tuple[Real, Real]:
        x, y = base.draw(dice, n)
        other = base.draw(dice, n)[1]
        return x, np.where(dice.uniform(size=(n, 1)) < share, other, y)

    def log_ratio(x: Real, y: Real) -> Real:
        assert base.log_ratio is not None
        return np.asarray(np.log(share + (1 - share) * np.exp(base.log_ratio(x, y))))

    return Law(draw, mi, base.dims, log_ratio, mi_se)


def concentric(d: int, mi: float, count: int = 5) -> Law:
    """A whole number L up to `count`; x is normal with deviation L, y is L with a little noise."""
    scales = np.arange(1, count + 1, dtype=np.float64)

    def draw(dice: Dice, n: int) -> tuple[Real, Real]:
        which = dice.integers(1, count + 1, (n, 1))
        return which * dice.standard_normal((n, d)), which + 0.01 * dice.standard_normal((n, 1))

    def log_ratio(x: Real, y: Real) -> Real:
        given = -d * np.log(scales) - (x**2).sum(axis=1)[:, None] / (2 * scales**2)
        which = np.clip(np.rint(y[:, 0]).astype(np.int64), 1, count) - 1
        return np.asarray(given[np.arange(len(x)), which] - logsumexp(given, axis=1) + math.log(count))

    return Law(draw, mi, (d, 1), log_ratio)


def staggered(count: int) -> Law:
    """x one of `count` whole numbers, y uniform on [x, x + 2]."""

    def draw(dice: Dice, n: int) -> tuple[Real, Real]:
        x = dice.integers(0, count, (n, 1)).astype(np.float64)
        return x, x + dice.uniform(0, 2, (n, 1))

    return Law(draw, math.log(count) - (count - 1) / count * math.log(2), (1, 1), discrete="x")


def coin(mu: float, mi: float) -> Law:
    """x = -1 or 1, y = mu x + standard normal noise."""

    def draw(dice: Dice, n: int) -> tuple[Real, Real]:
        x = dice.choice([-1.0, 1.0], (n, 1))
        return x, mu * x + dice.standard_normal((n, 1))

    def log_ratio(x: Real, y: Real) -> Real:
        return np.asarray(math.log(2) - np.logaddexp(0, -2 * mu * x * y)[:, 0])

    return Law(draw, mi, (1, 1), log_ratio, discrete="x")


def flipped(share: float, d: int = 1) -> Law:
    """Fair bits, of which a share is flipped on the other side."""
    rest = 1 - share

    def draw(dice: Dice, n: int) -> tuple[Real, Real]:
        x = dice.integers(0, 2, (n, d))
        return x.astype(np.float64), (x ^ (dice.uniform(size=(n, d)) < share)).astype(np.float64)

    mi = d * (math.log(2) + share * math.log(share) + rest * math.log(rest))
    return Law(draw, mi, (d, d), discrete="both" if d == 1 else None)


def inflated_poisson(share: float, mi: float) -> Law:
    """x exponential; y is 0 for a share of the rows, otherwise Poisson with mean x."""

    def draw(dice: Dice, n: int) -> tuple[Real, Real]:
        x = dice.exponential(size=(n, 1))
        return x, np.where(dice.uniform(size=(n, 1)) < share, 0, dice.poisson(x)).astype(np.float64)

    def log_ratio(x: Real, y: Real) -> Real:
        poisson = y * np.log(x) - x - gammaln(y + 1)
        given = np.where(y == 0, np.log(share + (1 - share) * np.exp(-x)), math.log(1 - share) + poisson)
        # The mean of the Poisson law over an exponential x is geometric.
        whole = np.where(y == 0, math.log(share + (1 - share) / 2), math.log(1 - share) - (y + 1) * math.log(2))
        return np.asarray((given - whole)[:, 0])

    return Law(draw, mi, (1, 1), log_ratio, discrete="y")


def ring(kappa: float) -> Law:
    """x in the plane at a random angle and radius; y at twice the angle with von Mises noise, beside a free column."""
    mi = kappa * i1e(kappa) / i0e(kappa) - (math.log(i0e(kappa)) + kappa)

    def draw(dice: Dice, n: int) -> tuple[Real, Real]:
        angle = dice.uniform(0, 2 * math.pi, n)
        radius = dice.uniform(0.5, 1.5, n)
        seen = 2 * angle + dice.vonmises(0, kappa, n)
        return (
            np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1),
            np.stack([np.cos(seen), np.sin(seen), dice.standard_normal(n)], axis=1),
        )

    return Law(draw, float(mi), (2, 3))


def of_function(function: Map, noise: float, dx: int, mi: float) -> Law:
    """x standard normal, y = function(x) + normal noise."""

    def draw(dice: Dice, n: int) -> tuple[Real, Real]:
        x = dice.standard_normal((n, dx))
        return x, function(x) + noise * dice.standard_normal((n, 1))

    return Law(draw, mi, (dx, 1))


def named_clusters(mi: float, mi_se: float) -> Law:
    """Four normal clusters of different sizes, widths and shares in three columns against their number."""
    shares, widths = np.array([0.4, 0.3, 0.2, 0.1]), np.array([1.0, 0.6, 1.5, 0.8])
    centres = np.array([[0.0, 0, 0], [2, 0, 0], [0, 2, 1], [2, 2, -1]])

    def draw(dice: Dice, n: int) -> tuple[Real, Real]:
        which = dice.choice(4, n, p=shares)
        x = centres[which] + widths[which, None] * dice.standard_normal((n, 3))
        return x, which[:, None].astype(np.float64)

    def log_ratio(x: Real, y: Real) -> Real:
        away = ((x[:, None] - centres) ** 2).sum(axis=2) / (2 * widths**2)
        given = -3 * np.log(widths) - away
        return np.asarray(given[np.arange(len(x)), y[:, 0].astype(int)] - logsumexp(given, axis=1, b=shares))

    return Law(draw, mi, (3, 1), log_ratio, mi_se, discrete="y")


def clustered(rho: float, mi: float) -> Law:
    """y in four separate clusters, whose number x shows (with `mi` nats) beside the place within the cluster."""

    def draw(dice: Dice, n: int) -> tuple[Real, Real]:
        which = dice.integers(1, 5, n)
        x, (place,) = dice.standard_normal((n, 3)), dice.standard_normal((1, n))
        x[:, 1] = rho * place + math.sqrt(1 - rho**2) * x[:, 1]
        x[:, 0] = which + 0.5 * x[:, 0]
        return x, (12 * which + place)[:, None]

    return Law(draw, mi - 0.5 * math.log(1 - rho**2), (3, 1))


def scaled(mi: float, d: int = 1) -> Law:
    """x standard normal, y = x times standard normal noise, column by column: no correlation at all."""

    def draw(dice: Dice, n: int) -> tuple[Real, Real]:
        x, noise = dice.standard_normal((2, n, d))
        return x, x * noise

    return Law(draw, d * mi, (d, d))


def cut(law: Law, of_x: Map, of_y: Map, mi: float) -> Law:
    """A law after maps that lose information; `mi` is what is left."""
    return replace(law.mapped(of_x, of_y), mi=mi)


def sums(mi: float) -> Law:
    """x three columns of 0, 1 or 2; y = x1 + x2 - x3 + standard normal noise."""

    def draw(dice: Dice, n: int) -> tuple[Real, Real]:
        x = dice.integers(0, 3, (n, 3)).astype(np.float64)
        return x, (x @ [1.0, 1.0, -1.0])[:, None] + dice.standard_normal((n, 1))

    return Law(draw, mi, (3, 1))


def shown_label(mi: float) -> Law:
    """x = 0, 1 or 2; y = 2 x + standard normal noise."""

    def draw(dice: Dice, n: int) -> tuple[Real, Real]:
        x = dice.integers(0, 3, (n, 1)).astype(np.float64)
        return x, 2 * x + dice.standard_normal((n, 1))

    return Law(draw, mi, (1, 1), discrete="x")


def beside(*laws: Law) -> Law:
    """Independent laws side by side: their information adds up."""

    def draw(dice: Dice, n: int) -> tuple[Real, Real]:
        drawn = [law.draw(dice, n) for law in laws]
        return np.concatenate([d[0] for d in drawn], axis=1), np.concatenate([d[1] for d in drawn], axis=1)

    def log_ratio(x: Real, y: Real) -> Real:
        total, i, j = np.zeros(len(x)), 0, 0
        for law in laws:
            assert law.log_ratio is not None
            total += law.log_ratio(x[:, i : i + law.dims[0]], y[:, j : j + law.dims[1]])
            i, j = i + law.dims[0], j + law.dims[1]
        return total

    dims = sum(law.dims[0] for law in laws), sum(law.dims[1] for law in laws)
    known = all(law.log_ratio is not None for law in laws)
    mi_se = math.hypot(*(law.mi_se for law in laws))
    return Law(draw, sum(law.mi for law in laws), dims, log_ratio if known else None, mi_se)


def half_cube(x: Real) -> Real:
    """x sqrt(|x|)."""
    return np.asarray(x * np.sqrt(np.abs(x)))


def bimodal(share: float, low: float, high: float) -> Map:
    """A standard normal column to one that is N(low, 1) for a share, and N(high, 1)."""
    grid = np.linspace(low - 9, high + 9, 40_001)
    cumulative = share * ndtr(grid - low) + (1 - share) * ndtr(grid - high)
    rising = np.concatenate([[True], np.diff(cumulative) > 0])
    return lambda x: np.interp(ndtr(x), cumulative[rising], grid[rising])


def swiss_roll(x: Real) -> Real:
    """A standard normal column to two: a roll."""
    t = 1.5 * math.pi * (1 + 2 * ndtr(x[:, 0]))
    return np.stack([t * np.cos(t), t * np.sin(t)], axis=1) / 21


def spiral(i: int, j: int, speed: float) -> Map:
    """Turn columns i and j by an angle that grows with the squared norm of the row."""

    def turn(x: Real) -> Real:
        angle = speed * (x**2).sum(axis=1)
        turned = x.copy()
        turned[:, i] = np.cos(angle) * x[:, i] - np.sin(angle) * x[:, j]
        turned[:, j] = np.sin(angle) * x[:, i] + np.cos(angle) * x[:, j]
        return turned

    return turn


def rotation(d: int, seed: int) -> Map:
    """A random rotation of d columns."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))
    return lambda x: x @ q


def exponential(x: Real) -> Real:
    """Standard normal columns to exponential ones."""
    return np.asarray(-np.log(ndtr(-x)))


def rounded(step: float) -> Map:
    """To the nearest multiple of a step."""
    return lambda x: np.asarray(np.rint(x / step) * step)


def rectified(x: Real) -> Real:
    """Nothing below 0."""
    return np.maximum(x, 0.0)


def uniform(x: Real) -> Real:
    """Standard normal columns to uniform ones."""
    return np.asarray(ndtr(x), dtype=np.float64)
