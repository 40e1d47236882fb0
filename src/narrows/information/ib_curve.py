"""The information-bottleneck curve: the most that any T made from X can say about Y, for what it keeps of X.

Tishby, Pereira and Bialek, "The information bottleneck method" (1999), take the encoder p(t|x) that minimises

    I(X;T) - beta I(T;Y).

Blahut and Arimoto's iteration solves the equations that hold at the minimum, one after the other:

    p(t) = sum_x p(x) p(t|x),   p(y|t) = sum_x p(x, y) p(t|x) / p(t),
    p(t|x) = p(t) exp(-beta KL(p(y|x) || p(y|t))) / Z(x).

Where X determines Y, the curve is the line I(T;Y) = I(X;T) up to H(Y), and beta finds its two ends only (Kolchinsky,
Tracey and Van Kuyk, "Caveats for information bottleneck in deterministic scenarios", 2019). Their remedy, to maximise

    I(T;Y) - gamma I(X;T)^2,

has one optimum for each gamma on every curve. Its slope is that of the first objective at beta = 1 / (2 gamma I(X;T)),
so that the same step leads downhill here too; it is shortened where it overshoots. Inputs with the same p(y|x) get the
same p(t|x) and are taken together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.core.seeds import derive
from narrows.information.estimate import Caution
from narrows.information.inputs import Codes, Real, columns

BOTTLENECK = register_reference(
    Reference(
        "arXiv:physics/0004057",
        "The information bottleneck method",
        ("Naftali Tishby", "Fernando C. Pereira", "William Bialek"),
        1999,
    )
)
CAVEATS = register_reference(
    Reference(
        "arXiv:1808.07593",
        "Caveats for information bottleneck in deterministic scenarios",
        ("Artemy Kolchinsky", "Brendan D. Tracey", "Steven Van Kuyk"),
        2019,
    )
)

STEPS = 20_000
SETTLED = 1e-12  # nats, the change of the objective in one step
_TINY = 1e-300
_OFF = 1e-8  # how far the sum of p(x, y) may be from 1
_HALVINGS = 40


@dataclass(frozen=True, eq=False)
class IBCurve:
    """Points of the bottleneck curve in nats, an entry for each weight asked for and in its order.

    `i_xt`, `i_ty`: (b,). `encoders`: (b, x, t), p(t|x). `betas`: (b,), the nats of I(X;T) that one more nat of
    I(T;Y) costs there. `converged`: (b,), whether the objective came to rest. `i_xy`: I(X;Y), which no i_ty exceeds.
    """

    betas: Real
    i_xt: Real
    i_ty: Real
    encoders: Real
    converged: NDArray[np.bool_]
    i_xy: float
    cautions: tuple[Caution, ...] = ()

    def hull(self) -> tuple[Real, Real]:
        """I(X;T) and I(T;Y) at the corners of the upper concave hull, from (0, 0) to the largest I(T;Y).

        All of it can be reached: between two corners by a coin that says, beside T, which of their encoders made it.
        """
        corners = [(0.0, 0.0)]
        for point in sorted(zip(self.i_xt.tolist(), self.i_ty.tolist(), strict=True)):
            if point[0] <= 0 or point[1] <= corners[-1][1]:
                continue
            while len(corners) > 1 and _slope(corners[-2], corners[-1]) <= _slope(corners[-2], point):
                corners.pop()
            corners.append(point)
        x, y = np.array(corners).T
        return x, y

    def most(self, i_xt: ArrayLike) -> Real:
        """The I(T;Y) of the hull at `i_xt`, of any shape; beyond the last corner its I(T;Y)."""
        return np.asarray(np.interp(np.asarray(i_xt, dtype=np.float64), *self.hull()), dtype=np.float64)


@dataclass(frozen=True)
class Law:
    """p(x) of shape (x,) and p(y|x) of shape (x, y), no two rows of which are equal."""

    p_x: Real
    p_y_x: Real

    def decoded(self, encoders: Real) -> tuple[Real, Real]:
        """p(t) (..., t) and p(t, y) (..., t, y) of encoders (..., x, t)."""
        weighted = encoders * self.p_x[:, None]
        return weighted.sum(axis=-2), weighted.swapaxes(-1, -2) @ self.p_y_x

    def plane(self, encoders: Real) -> tuple[Real, Real]:
        """I(X;T) and I(T;Y) in nats (...) of encoders (..., x, t)."""
        p_t, p_ty = self.decoded(encoders)
        of_t = xlogy(p_t, p_t).sum(axis=-1)
        i_xt = (self.p_x[:, None] * xlogy(encoders, encoders)).sum(axis=(-1, -2)) - of_t
        p_y = self.p_x @ self.p_y_x
        i_ty = xlogy(p_ty, p_ty).sum(axis=(-1, -2)) - of_t - xlogy(p_y, p_y).sum()
        return np.maximum(i_xt, 0.0), np.maximum(i_ty, 0.0)


Step = Callable[[Real, Law, Real], tuple[Real, Real]]


@cites(BOTTLENECK.key, CAVEATS.key)
def ib_curve(
    p_xy: ArrayLike, betas: ArrayLike, *, states: int | None = None, starts: int = 4, seed: int = 0
) -> IBCurve:
    """The encoders of `states` values that minimise I(X;T) - beta I(T;Y), in nats, for each of `betas` (b,).

    `p_xy` (x, y) is the joint law, `states` by default as many as there are different p(y|x), which always suffice. The
    largest beta comes first; every next one begins at the last encoder and at `starts` random ones, and the best
    is kept. Memory: a few times starts * different p(y|x) * states numbers. Raises DataError where p_xy is negative or
    does not sum to 1 within 1e-8, and where a beta is not positive. Source: Tishby, Pereira and Bialek 1999.
    """
    return _curve(p_xy, _weights(betas, "betas"), False, states, starts, seed)


@cites(CAVEATS.key)
def squared_ib_curve(
    p_xy: ArrayLike, gammas: ArrayLike, *, states: int | None = None, starts: int = 4, seed: int = 0
) -> IBCurve:
    """The encoders of `states` values that maximise I(T;Y) - gamma I(X;T)^2, in nats, for each of `gammas` (b,).

    Other than `ib_curve`, which says the rest, it finds every part of the curve, also where labels are determined; it
    takes thousands of steps where the curve is all but straight. The default has one state more, which a point between
    two corners may need. Source: Kolchinsky, Tracey and Van Kuyk 2019.
    """
    return _curve(p_xy, _weights(gammas, "gammas"), True, states, starts, seed)


def bottleneck_step(encoders: Real, law: Law, betas: Real) -> tuple[Real, Real]:
    """One step from encoders (..., x, t) for betas (...), and I(X;T) + beta I(X;Y|T) there, or an upper bound of it."""
    p_t, p_ty = law.decoded(encoders)
    used = p_t > _TINY
    some = np.where(used, p_t, 1.0)
    # A probability too small for a float stands for the smallest one: the encoder never made it 0.
    log_y_t = np.log(np.maximum(p_ty / some[..., None], _TINY))
    divergence = xlogy(law.p_y_x, law.p_y_x).sum(axis=1)[:, None] - law.p_y_x @ log_y_t.swapaxes(-1, -2)
    log_t = np.where(used, np.log(some), -np.inf)
    logits = log_t[..., None, :] - betas[..., None, None] * divergence
    top = logits.max(axis=-1, keepdims=True)
    found = np.exp(logits - top)
    total = found.sum(axis=-1, keepdims=True)
    return found / total, -((top + np.log(total))[..., 0] @ law.p_x)


def squared_step(encoders: Real, law: Law, gammas: Real) -> tuple[Real, Real]:
    """One step from encoders (..., x, t) for gammas (...), and gamma I(X;T)^2 - I(T;Y) there."""
    i_xt, i_ty = law.plane(encoders)
    before = gammas * i_xt**2 - i_ty
    way = bottleneck_step(encoders, law, _slope_of(gammas, i_xt))[0] - encoders
    length = np.ones_like(before)
    for _ in range(_HALVINGS):
        found = encoders + length[..., None, None] * way
        i_xt, i_ty = law.plane(found)
        after = gammas * i_xt**2 - i_ty
        if not (worse := after > before).any():
            break
        length = np.where(worse, length / 2, length)
    return found, after


def _curve(p_xy: ArrayLike, weights: Real, squared: bool, states: int | None, starts: int, seed: int) -> IBCurve:
    law, row_of, missing = _law(p_xy)
    count = len(law.p_x) + squared if states is None else states
    if count < 1 or starts < 1:
        raise DataError(f"states and starts must be at least 1, got {count} and {starts}")
    step = squared_step if squared else bottleneck_step
    fresh = _starts(len(law.p_x), count, starts, seed)
    found = np.empty((len(weights), len(law.p_x), count))
    settled = np.empty(len(weights), dtype=bool)
    begin = fresh
    # What is merged does not part again: from the finest encoder to the coarsest.
    for i in np.argsort(weights if squared else -weights):
        found[i], settled[i] = _settle(begin, law, weights[i], step)
        begin = np.concatenate([found[i][None], fresh])
    i_xt, i_ty = law.plane(found)
    encoders = found[:, row_of]
    encoders[:, missing] = law.decoded(found)[0][:, None]
    betas = _slope_of(weights, i_xt) if squared else weights
    p_y = law.p_x @ law.p_y_x
    i_xy = float(law.p_x @ xlogy(law.p_y_x, law.p_y_x).sum(axis=1) - xlogy(p_y, p_y).sum())
    return IBCurve(betas, i_xt, i_ty, encoders, settled, i_xy, () if squared else _determined(law))


def _settle(encoders: Real, law: Law, weight: float, step: Step) -> tuple[Real, bool]:
    """The best of a batch of encoders after as many steps as they need, and whether it came to rest."""
    weights = np.full(len(encoders), weight)
    close = max(SETTLED, 4 * np.finfo(float).eps * weight)  # rounding, beyond some weight
    settled = np.zeros(len(encoders), dtype=bool)
    before = np.full(len(encoders), np.inf)
    for _ in range(STEPS):
        encoders, value = step(encoders, law, weights)
        settled |= np.abs(before - value) < close
        before = value
        if settled.all():
            break
    best = int(before.argmin())
    return encoders[best], bool(settled[best])


def _starts(rows: int, states: int, starts: int, seed: int) -> Real:
    """Encoders (starts, rows, states) near assignments that use all states evenly.

    The first one joins neighbours and is all but hard: from further away, a large beta falls into a worse optimum.
    """
    dice = np.random.default_rng(derive(seed, "ib curve"))
    near = np.arange(rows) * min(states, rows) // rows
    orders = np.stack([near, *(dice.permutation(near) for _ in range(starts - 1))])
    noise = np.where(np.arange(starts) == 0, 1e-9, 0.1)[:, None, None]
    loose = dice.dirichlet(np.ones(states), size=(starts, rows))
    return np.asarray((1 - noise) * np.eye(states)[orders] + noise * loose, dtype=np.float64)


def _law(p_xy: ArrayLike) -> tuple[Law, Codes, Codes]:
    """The law of the different p(y|x), the one of each x, and the x that never occur."""
    if np.ndim(p_xy) != 2:
        raise DataError(f"p_xy has the shape {np.shape(p_xy)}, expected (x, y): a row for each x, a column for each y")
    joint = columns(p_xy, "p_xy")
    if (joint < 0).any():
        raise DataError(f"p_xy has negative entries, the least is {joint.min():.4g}")
    if abs(total := joint.sum() - 1) > _OFF:
        raise DataError(f"p_xy sums to {total + 1:.10g}, expected 1: divide counts by their sum")
    p_x = joint.sum(axis=1) / joint.sum()
    seen = p_x > 0
    rows, which = np.unique(joint[seen] / joint[seen].sum(axis=1, keepdims=True), axis=0, return_inverse=True)
    row_of = np.zeros(len(joint), dtype=np.int64)
    row_of[seen] = which.reshape(-1)
    merged = np.bincount(which.reshape(-1), p_x[seen]).astype(np.float64)
    return Law(merged, rows), row_of, np.flatnonzero(~seen)


def _weights(weights: ArrayLike, name: str) -> Real:
    found = columns(np.atleast_1d(np.asarray(weights)), name)[:, 0]
    if np.ndim(weights) > 1 or (found <= 0).any():
        raise DataError(f"{name} must be positive numbers in one row, got {weights!r}")
    return found


def _determined(law: Law) -> tuple[Caution, ...]:
    if not ((law.p_y_x == 0) | (law.p_y_x == 1)).all():
        return ()
    text = "x determines y: the curve is I(T;Y) = I(X;T) up to H(Y), of which beta finds the ends only"
    return (Caution("deterministic", text + ": see `squared_ib_curve`"),)


def _slope_of(gammas: Real, i_xt: Real) -> Real:
    return np.asarray(1 / (2 * gammas * np.maximum(i_xt, 1e-9)), dtype=np.float64)


def _slope(a: Sequence[float], b: Sequence[float]) -> float:
    return (b[1] - a[1]) / max(b[0] - a[0], _TINY)
