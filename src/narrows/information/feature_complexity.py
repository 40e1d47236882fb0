"""How complex a feature of a network is: how late in its layers it can be read by a linear probe.

Fel, Béthune, Lampinen, Serre and Hermann, "Understanding Visual Feature Reliance through the Lens of Complexity", 2024.
A feature z(x) is a number per input, such as a direction of the last layer. With layers f_1 ... f_n,

    K(z) = 1 - (1/n) sum_l I_V(f_l(x) -> z),

where I_V is the V-information of linear predictors with a fixed variance, scaled so that it is the R^2 of a ridge probe
on rows that the probe has not seen: 0 for a feature that is linear in every layer, towards 1 for one that no layer
before the last shows. The list of layers, their number and their pooling are part of the measure: compare K only among
features of one list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.core.seeds import derive, generator
from narrows.information.estimate import Caution
from narrows.information.hsic import ALIGNMENT
from narrows.information.inputs import Real, Samples, columns
from narrows.information.ridge_probe import ALPHAS, RidgeProbe
from narrows.information.v_information import USABLE

COMPLEXITY = register_reference(
    Reference(
        "arXiv:2407.06076",
        "Understanding Visual Feature Reliance through the Lens of Complexity",
        ("Thomas Fel", "Louis Béthune", "Andrew Kyle Lampinen", "Thomas Serre", "Katherine Hermann"),
        2024,
        "Advances in Neural Information Processing Systems",
    )
)

Rows = NDArray[np.intp]

_LEAST = 20
ACTIVE = 50
"""Rows of the test split on which a feature must not be 0: with fewer, R^2 hangs on a handful of inputs."""


@dataclass(frozen=True)
class FeatureComplexity:
    """The complexity of F features over L layers.

    `k` and `k_standard_error` (bootstrap over test rows): shape (F,), NaN for a feature that could not be scored.
    `r2`: held-out R^2 of the probes, in [0, 1], shape (L, F); `alphas` the penalties they chose, of the same shape.
    `clipped`: how many values of R^2 were below 0 and became 0.
    """

    layers: tuple[str, ...]
    k: Real
    k_standard_error: Real
    r2: Real
    alphas: Real
    n_train: int
    n_test: int
    clipped: int
    cautions: tuple[Caution, ...] = ()

    @property
    def nats(self) -> Real:
        """V-information in nats of predictors that fit their variance too: -ln(1 - R^2) / 2, shape (L, F)."""
        return np.asarray(-0.5 * np.log1p(-self.r2.clip(0.0, 1 - 1e-12)), dtype=np.float64)


@dataclass(frozen=True)
class FeatureFlow:
    """How alike F features are to what residual blocks keep and to what they add, in B blocks.

    `stream` and `branch`: linear CKA with the block's input and with what it adds to it, in [0, 1], shape (B, F); 0
    where that side never changes, NaN for a feature that never changes.
    """

    blocks: tuple[str, ...]
    stream: Real
    branch: Real

    @property
    def share(self) -> Real:
        """The branch's part of both, shape (B, F): 1 for a feature that the block builds, NaN for one in neither.

        CKA falls with the number of directions of a side, for all features alike: compare shares of features in one
        block, not of blocks.
        """
        both = self.stream + self.branch
        return np.where(both > 0, self.branch / np.where(both > 0, both, 1.0), np.nan)


@cites(COMPLEXITY.key, USABLE.key)
def feature_complexity(
    layers: Mapping[str, Samples] | Sequence[Samples],
    features: Samples,
    *,
    alphas: Sequence[float] = ALPHAS,
    test: float | ArrayLike = 1 / 3,
    seed: int = 0,
    resamples: int = 200,
) -> FeatureComplexity:
    """Complexity K of `features` (n,) or (n, F) from the outputs (n, d_l) of the layers, the last one included.

    `test`: which rows score the probes, a truth value a row, or the share to draw with `seed`: the same rows for the
    same n, so that checkpoints can be compared. Penalties are chosen per layer and feature by generalised
    cross-validation on the other rows. A feature that never changes, or is other than 0 on fewer than 50 test rows,
    gets NaN. Raises DataError for layers of different lengths, fewer than 20 rows, NaN and infinity. Source: Fel et al.
    2024.
    """
    named = dict(layers) if isinstance(layers, Mapping) else {str(i): x for i, x in enumerate(layers)}
    z = columns(features, "features")
    inputs = {name: columns(x, f"layer {name!r}") for name, x in named.items()}
    _check(inputs, z)
    fit, held = _split(len(z), test, seed)
    usable, cautions = _usable(z, fit, held)
    r2 = np.full((len(inputs), z.shape[1]), np.nan)
    chosen = np.full_like(r2, np.nan)
    draws = np.zeros((resamples, int(usable.sum())))
    shares = _draws(len(held), resamples, seed)
    for i, x in enumerate(inputs.values()):
        if not usable.any():
            break
        probe = RidgeProbe(alphas).fit(x[fit], z[fit][:, usable])
        errors = (z[held][:, usable] - probe.predict(x[held])) ** 2
        r2[i, usable], chosen[i, usable] = _r2(errors, z[held][:, usable]), probe.alpha_
        draws += _resampled_r2(errors, z[held][:, usable], shares).clip(0.0, 1.0)
    error = np.full(z.shape[1], np.nan)
    if resamples > 1:
        error[usable] = (draws / len(inputs)).std(axis=0, ddof=1)
    if len(inputs) == 1:
        text = "one layer only: K says how far the feature is from linear in it, not where it arises"
        cautions = (*cautions, Caution("assumption", text))
    kept = r2.clip(0.0, 1.0)
    return FeatureComplexity(
        layers=tuple(inputs),
        k=1 - kept.mean(axis=0),
        k_standard_error=error,
        r2=kept,
        alphas=chosen,
        n_train=len(fit),
        n_test=len(held),
        clipped=int((r2 < 0).sum()),
        cautions=cautions,
    )


def head_importance(features: Samples, weights: Samples) -> Real:
    """Importance of each feature for a linear head y = W z: the mean over rows and outputs of |W_ci z_i|, shape (F,).

    That is gradient times input. `features`: (n, F); `weights`: (F,) or (outputs, F). Source: Fel et al. 2024.
    """
    z, w = columns(features, "features"), columns(weights, "weights")
    if w.shape == (z.shape[1], 1):
        w = w.T
    if w.shape[1] != z.shape[1]:
        raise DataError(f"{z.shape[1]} features need as many weights an output, got {w.shape[1]}")
    return np.asarray(np.abs(w).mean(axis=0) * np.abs(z).mean(axis=0), dtype=np.float64)


def learned_at(r2: ArrayLike, times: ArrayLike, share: float = 0.8) -> Real:
    """When each feature was learned: the first of the `times` (T,) at which `r2` reaches `share` of its last value.

    `r2`: (T, F), how well the features of the final model can be read at each time. NaN for a feature whose last value
    is not above 0. Source: Fel et al. 2024.
    """
    seen, when = np.asarray(r2, dtype=np.float64), np.asarray(times, dtype=np.float64)
    if seen.ndim != 2 or when.shape != seen.shape[:1] or not (np.diff(when) > 0).all():
        raise DataError(f"r2 of the shape (times, features) needs as many rising times, got {seen.shape}, {when}")
    first = when[(seen >= share * seen[-1]).argmax(axis=0)]
    return np.where(seen[-1] > 0, first, np.nan)


@cites(COMPLEXITY.key, ALIGNMENT.key)
def feature_flow(blocks: Mapping[str, tuple[Samples, Samples]], features: Samples) -> FeatureFlow:
    """Where `features` (n,) or (n, F) flow: past each residual block, or through it.

    `blocks`: the input u (n, d) of a block and what it adds, r (n, e), where the block answers u + r, by name. Linear
    CKA of one feature z with x is |x^T z|^2 / (|x^T x|_F |z|^2) of the centred sides: unlike R^2 it asks not only
    whether z can be read from x, but also how much of x's variance it has. (R^2 of both sides is `feature_complexity`
    with them as layers.) Raises DataError for sides of different lengths, NaN and infinity. Source: Fel et al. 2024.
    """
    if not blocks:
        raise DataError("there are no blocks")
    z = columns(features, "features")
    centred = z - z.mean(axis=0)
    found = np.empty((2, len(blocks), z.shape[1]))
    for i, (name, sides) in enumerate(blocks.items()):
        for j, (what, side) in enumerate(zip(("input", "branch"), sides, strict=True)):
            x = columns(side, f"the {what} of block {name!r}")
            if len(x) != len(z):
                raise DataError(f"the {what} of block {name!r} has {len(x)} rows and the features have {len(z)}")
            found[j, i] = _alike(x, centred)
    found[:, :, np.ptp(z, axis=0) == 0] = np.nan
    return FeatureFlow(tuple(blocks), *found)


@cites(COMPLEXITY.key)
def feature_sensitivity(
    features: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    noise: float,
    *,
    draws: int = 10,
    seed: int = 0,
) -> Real:
    """How far normal noise in the input moves each feature: the mean over rows of its variance, shape (F,).

    `features` takes inputs (n, ...) to (n, F); `noise` is the standard deviation added to every number of x, the same
    in units of x for all. The variance is divided by that of the feature over the rows without noise, NaN where that
    is 0: a robust feature has a value near 0. Raises DataError for one row or fewer than 2 draws. Source: Fel et al.
    2024.
    """
    if len(x) < 2 or draws < 2 or not 0 <= noise < np.inf:
        raise DataError(f"at least 2 rows, 2 draws and noise of 0 or more are needed: {len(x)}, {draws}, {noise}")
    dice = generator(seed, "feature sensitivity")
    with torch.no_grad():
        plain = columns(features(x), "features")
        moved = np.stack(
            [
                columns(features(x + noise * torch.randn(x.shape, generator=dice).to(x)), "features")
                for _ in range(draws)
            ]
        )
    own = plain.var(axis=0)
    return np.where(own > 0, moved.var(axis=0, ddof=1).mean(axis=0) / np.where(own > 0, own, 1.0), np.nan)


def _alike(x: Real, z: Real) -> Real:
    """Linear CKA of x with each column of the centred z; 0 where a side never changes."""
    if not np.ptp(x, axis=0).any():
        return np.zeros(z.shape[1])
    x = x - x.mean(axis=0)
    x /= np.abs(x).max()  # its scale cancels; without it the fourth powers could overflow
    own = (z**2).sum(axis=0)
    gram = x.T @ x if x.shape[1] <= len(x) else x @ x.T
    return np.asarray(((x.T @ z) ** 2).sum(axis=0) / (np.linalg.norm(gram) * np.where(own > 0, own, 1.0)))


def _check(inputs: Mapping[str, Real], z: Real) -> None:
    if not inputs:
        raise DataError("there are no layers")
    for name, x in inputs.items():
        if len(x) != len(z):
            raise DataError(f"layer {name!r} has {len(x)} rows and the features have {len(z)}")
    if len(z) < _LEAST:
        raise DataError(f"{len(z)} rows are too few to fit and to test: at least {_LEAST} are needed")


def _split(n: int, test: float | ArrayLike, seed: int) -> tuple[Rows, Rows]:
    chosen = np.asarray(test)
    if chosen.ndim == 0:
        order = np.random.default_rng(derive(seed, "feature complexity", "split")).permutation(n)
        held = round(float(chosen) * n) if 0 < chosen < 1 else 0
        chosen = np.isin(np.arange(n), order[:held])
    if chosen.dtype != bool or chosen.shape != (n,):
        raise DataError(f"test is a share, or {n} truth values, got {chosen.dtype} of the shape {chosen.shape}")
    fit, score = np.flatnonzero(~chosen), np.flatnonzero(chosen)
    if min(len(fit), len(score)) < 5:
        raise DataError(f"{len(fit)} rows to fit and {len(score)} to test: at least 5 of each are needed")
    return fit, score


def _usable(z: Real, train: Rows, test: Rows) -> tuple[NDArray[np.bool_], tuple[Caution, ...]]:
    still = (np.ptp(z[train], axis=0) == 0) | (np.ptp(z[test], axis=0) == 0)
    # Where the split itself is smaller, every row of it counts.
    sparse = ~still & ((z[test] != 0).sum(axis=0) < min(ACTIVE, len(test)))
    found = []
    if still.any():
        found.append(Caution("constant column", f"{int(still.sum())} features never change: their K is NaN"))
    if sparse.any():
        text = f"{int(sparse.sum())} features differ from 0 on fewer than {ACTIVE} test rows: their K is NaN"
        found.append(Caution("few samples", text))
    return ~(still | sparse), tuple(found)


def _r2(errors: Real, z: Real) -> Real:
    return np.asarray(1 - errors.mean(axis=0) / z.var(axis=0), dtype=np.float64)


def _draws(n: int, resamples: int, seed: int) -> Real:
    """How often each test row is in each resample, as shares; shape (resamples, n)."""
    dice = np.random.default_rng(derive(seed, "feature complexity", "bootstrap"))
    return np.asarray(dice.multinomial(n, np.full(n, 1 / n), size=resamples) / n, dtype=np.float64)


def _resampled_r2(errors: Real, z: Real, shares: Real) -> Real:
    centred = z - z.mean(axis=0)
    variance = shares @ centred**2 - (shares @ centred) ** 2
    return np.where(variance > 0, 1 - (shares @ errors) / np.where(variance > 0, variance, 1.0), 0.0)
