"""Information in mixtures of Gaussians, and so in layers to whose values Gaussian noise is added, from pairs of rows.

Kolchinsky and Tracey, "Estimating Mixture Entropy with Pairwise Distances" (2017): between the component I and the
value T of a mixture of p_i with weights w_i lies

    - sum_i w_i ln sum_j w_j exp(-C(p_i, p_j))  <=  I(I;T)  <=  - sum_i w_i ln sum_j w_j exp(-KL(p_i | p_j))

with C the Bhattacharyya distance. For equal variances s2 these are exp(-|t_i - t_j|^2 / 8 s2) and exp(-|.|^2 / 2 s2).

Saxe et al. (2018) use them on the layers of a deterministic network, with noise that is added for the analysis only;
Chelombiev, Houghton and O'Donnell (2019) tie its variance to the activity of the layer, because a fixed one measures
how far the activations reach. What comes out is a property of the noise as much as of the network.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.information.binning import ADAPTIVE
from narrows.information.discrete import FULL, ROWS
from narrows.information.estimate import Caution, Estimate, MIEstimate
from narrows.information.inputs import Codes, Real, Samples, codes, columns, same_rows

MIXTURES = register_reference(
    Reference(
        "arXiv:1706.02419",
        "Estimating Mixture Entropy with Pairwise Distances",
        ("Artemy Kolchinsky", "Brendan D. Tracey"),
        2017,
        "Entropy",
    )
)

Noise = Literal["std", "max_linear", "max_squared", "fixed"]
NOISES = ("std", "max_linear", "max_squared", "fixed")
_BLOCK = 4_000_000  # numbers held at once, several times over


class Bounds(NamedTuple):
    """A lower and an upper bound in nats."""

    lower: float
    upper: float


@cites(MIXTURES.key)
def mixture_information(means: Samples, variances: Samples, weights: Samples | None = None) -> Bounds:
    """Bounds in nats on how much the value of a mixture of Gaussians tells of its component.

    `means` (n, d); `variances` of independent coordinates, a number or of a shape that broadcasts to (n, d); `weights`
    (n,) that sum to 1, equal by default. For a stochastic layer T ~ N(means(x), variances(x)) this is I(X;T). Raises
    DataError for variances that are not positive and weights that are none. Source: Kolchinsky and Tracey 2017.
    """
    m = columns(means, "means")
    v = _numbers(variances)
    if not (np.isfinite(v).all() and (v > 0).all()):
        raise DataError("variances must be positive and finite: without noise the information is infinite or ln n")
    try:
        v = np.broadcast_to(v, m.shape)
    except ValueError:
        raise DataError(f"variances of the shape {v.shape} do not fit means of the shape {m.shape}") from None
    w = _weights(weights, len(m))
    if (v == v[:1]).all():
        lower, upper = _kernel_means(torch.from_numpy(m / np.sqrt(v[0])), w[:, None])
    else:
        lower, upper = _general_means(torch.from_numpy(m), torch.from_numpy(v.copy()), w)
    share = w.numpy()
    return Bounds(-float(share @ np.log(lower[:, 0])), -float(share @ np.log(upper[:, 0])))


@cites(MIXTURES.key)
def mixture_entropy(means: Samples, variances: Samples, weights: Samples | None = None) -> Bounds:
    """Bounds in nats on the differential entropy of a mixture of Gaussians, with the shapes of `mixture_information`.

    It is that information plus the mean entropy of the components. Source: Kolchinsky and Tracey 2017.
    """
    found = mixture_information(means, variances, weights)
    m = columns(means, "means")
    v = np.broadcast_to(_numbers(variances), m.shape)
    inner = float(_weights(weights, len(m)).numpy() @ (np.log(2 * math.pi * math.e * v).sum(axis=1) / 2))
    return Bounds(found.lower + inner, found.upper + inner)


def noise_variance(t: Real, noise: Noise = "std", scale: float = 1e-2) -> float:
    """The variance of the noise that is added to a layer `t` (n, d) for the analysis.

    "std" is `scale` times the mean variance of the columns and "max_squared" `scale` times the square of the largest
    absolute value: both scale with the layer. "max_linear" is `scale` times the largest absolute value, which the paper
    of 2019 used (with 1e-3) though its result depends on the layer's scale. "fixed" is `scale` itself.
    """
    if noise not in NOISES:
        raise DataError(f"noise is one of {', '.join(NOISES)}; got {noise!r}")
    if not (scale > 0 and math.isfinite(scale)):
        raise DataError(f"the scale of noise must be positive, got {scale}")
    if noise == "fixed":
        return scale
    if noise == "std":
        return scale * float(t.var(axis=0).mean())
    return scale * float(np.abs(t).max()) ** (1 if noise == "max_linear" else 2)


class NoisyLayer(NamedTuple):
    """Information in nats in a layer with noise of `variance`: bounds on I(X;T), bounds and a figure for I(T;Y).

    `i_ty` is the difference of upper bounds that the papers plot, and no bound.
    """

    i_xt: Bounds
    i_ty: float
    i_ty_bounds: Bounds
    variance: float


def noisy_layer(t: Real, label: Codes | None, noise: Noise = "std", scale: float = 1e-2) -> NoisyLayer:
    """What the rows of `t` (n, d), each an input of its own, keep of that input and of `label` (n,) under noise.

    A layer that never changes has no noise, and 0 everywhere.
    """
    n = len(t)
    s2 = noise_variance(t, noise, scale)
    classes = np.zeros(n, dtype=np.int64) if label is None else label
    counts = np.bincount(classes)
    if s2 == 0 or (t == t[:1]).all():
        return NoisyLayer(Bounds(0.0, 0.0), 0.0, Bounds(0.0, 0.0), s2)
    one_hot = torch.zeros(n, len(counts), dtype=torch.float64)
    one_hot[torch.arange(n), torch.from_numpy(classes)] = 1.0
    whole, within = [], []
    for sums in _kernel_means(torch.from_numpy((t - t.mean(axis=0)) / math.sqrt(s2)), one_hot):
        own = sums[np.arange(n), classes]
        whole.append(-float(np.log(sums.sum(axis=1) / n).mean()))
        within.append(-float(np.log(own / counts[classes]).mean()))
    bounds = Bounds(whole[0] - within[1], whole[1] - within[0])
    return NoisyLayer(Bounds(*whole), whole[1] - within[1], bounds, s2)


@cites(MIXTURES.key, ADAPTIVE.key)
def kde(x: Samples, y: Samples, *, noise: Noise = "std", scale: float = 1e-2) -> MIEstimate:
    """Mutual information in nats of x (n, d) with Gaussian noise added, and the label y (n,).

    The difference of two upper bounds on entropies, as in papers on the information plane: no bound itself, the strict
    ones on the kernel density's own information are in the details. `noise` and `scale` are those of `noise_variance`.
    Raises DataError for a y that is no label.
    """
    a, label = columns(x, "x"), _label(y)
    same_rows(a, label)
    found = noisy_layer(a, label, noise, scale)
    classes = len(np.unique(label))
    few: tuple[Caution, ...] = ()
    if len(a) < ROWS * classes:
        text = f"{len(a)} rows for {classes} labels are fewer than {ROWS} for each: every row seems a label of its own"
        few = (Caution("few samples", text),)
    return MIEstimate(
        found.i_ty,
        "kde",
        len(a),
        (a.shape[1], 1),
        cautions=(_resolution(found, noise, scale), *_far_apart(found, len(a)), *few),
        details={
            "noise variance": found.variance,
            "lower": found.i_ty_bounds.lower,
            "upper": found.i_ty_bounds.upper,
            "bounds on the information about the row": list(found.i_xt),
        },
    )


@cites(MIXTURES.key, ADAPTIVE.key)
def kde_entropy(
    x: Samples, *, noise: Noise = "std", scale: float = 1e-2, bound: Literal["upper", "lower"] = "upper"
) -> Estimate:
    """Bound in nats on the differential entropy of x (n, d) with Gaussian noise added, the rows being all there is.

    `noise` and `scale` are those of `noise_variance`. Raises DataError for rows that are all the same.
    """
    if bound not in Bounds._fields:
        raise DataError(f"bound is 'upper' or 'lower', got {bound!r}")
    a = columns(x)
    if (a == a[:1]).all():
        raise DataError("all rows are the same: without noise their differential entropy is minus infinity")
    found = noisy_layer(a, None, noise, scale)
    inner = a.shape[1] / 2 * math.log(2 * math.pi * math.e * found.variance)
    return Estimate(
        getattr(found.i_xt, bound) + inner,
        "kde_entropy",
        len(a),
        (a.shape[1],),
        kind=bound,
        cautions=(_resolution(found, noise, scale), *_far_apart(found, len(a))),
        details={"noise variance": found.variance, "bounds": [b + inner for b in found.i_xt]},
    )


def _kernel_means(t: Tensor, weights: Tensor) -> tuple[Real, Real]:
    """Sums over j of weights[j] exp(-|t_i - t_j|^2 / 8), and of the same with / 2; each (n, columns of weights)."""
    n = len(t)
    lower, upper = torch.empty(n, weights.shape[1]).double(), torch.empty(n, weights.shape[1]).double()
    rows = max(1, _BLOCK // n)
    for start in range(0, n, rows):
        part = slice(start, start + rows)
        # From differences, not from products: far from the origin products lose the small distances.
        kernel = torch.cdist(t[part], t, compute_mode="donot_use_mm_for_euclid_dist")
        kernel.square_().div_(-8.0).exp_()
        lower[part] = kernel @ weights
        upper[part] = kernel.square_().square_() @ weights
    return lower.numpy(), upper.numpy()


def _general_means(m: Tensor, v: Tensor, weights: Tensor) -> tuple[Real, Real]:
    """Sums over j of weights[j] exp(-C_ij), and of the same with KL(i | j); each (n, 1)."""
    n, d = m.shape
    lower, upper = torch.empty(n).double(), torch.empty(n).double()
    log_v = v.log()
    rows = max(1, _BLOCK // (n * d))
    for start in range(0, n, rows):
        part = slice(start, start + rows)
        gaps = (m[part, None] - m).square_()
        mine, half_log = v[part, None], (log_v[part, None] + log_v) / 2
        middle = (mine + v) / 2
        bhattacharyya = (gaps / middle / 8 + (middle.log() - half_log) / 2).sum(-1)
        relative = (log_v - log_v[part, None] + (mine + gaps) / v - 1).sum(-1) / 2
        lower[part] = (-bhattacharyya).exp() @ weights
        upper[part] = (-relative).exp() @ weights
    return lower.numpy()[:, None], upper.numpy()[:, None]


def _numbers(x: Samples) -> Real:
    return np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x, dtype=np.float64)


def _weights(weights: Samples | None, n: int) -> Tensor:
    if weights is None:
        return torch.full((n,), 1 / n, dtype=torch.float64)
    w = _numbers(weights)
    if w.shape != (n,) or not (np.isfinite(w).all() and (w > 0).all() and abs(w.sum() - 1) < 1e-8):
        raise DataError(f"expected {n} positive weights that sum to 1, got the shape {w.shape} and the sum {w.sum()}")
    return torch.from_numpy(w.copy())


def _label(y: Samples) -> Codes:
    label = codes(y, "y")
    kind = np.asarray(y.detach().cpu() if isinstance(y, Tensor) else y)
    if kind.ndim == 2 and kind.shape[1] > 1:
        raise DataError(f"y has {kind.shape[1]} columns, expected one label for each row")
    if kind.dtype.kind == "f" and (kind != np.floor(kind)).any():
        raise DataError("y holds fractions, expected a label: whole numbers, text or booleans")
    return label


def _resolution(found: NoisyLayer, noise: Noise, scale: float) -> Caution:
    added = f"noise of variance {found.variance:.3g} ({noise}, scale {scale:g})"
    return Caution("resolution", f"of x plus {added}, added for the analysis only: the figure depends on it")


def _far_apart(found: NoisyLayer, n: int) -> tuple[Caution, ...]:
    if found.i_xt.upper <= FULL * math.log(n):
        return ()
    text = (
        f"nearly every row stands alone: {found.i_xt.upper:.2f} of at most ln {n} = {math.log(n):.2f} nats; "
        "the number of rows and the noise decide the figure, so take more noise or more rows"
    )
    return (Caution("saturated", text),)
