"""The Cauchy-Schwarz divergence of two samples, and the quadratic mutual information made of it.

Yu, Yu, Løkse, Jenssen and Príncipe, "Cauchy-Schwarz divergence information bottleneck for regression" (2024), after
Príncipe's information-theoretic learning: D(p; q) = ln(int p^2 int q^2 / (int p q)^2) is never negative, 0 only for p
= q, symmetric, and has no ratio of densities. With Gaussian kernels (diagonals included), K of x and Q of y,

    D(x; y)  = ln mean k(x_i, x_j) + ln mean k(y_i, y_j) - 2 ln mean k(x_i, y_j)
    I(x; y)  = ln(sum(K * Q) / n^2) + ln(sum(K) sum(Q) / n^4) - 2 ln(1'KQ1 / n^3)

where I is D between the joint law and the product of its sides. Both are -2 ln of a cosine in the kernels' feature
space, in nats of their own: they depend on the bandwidths and are not Kullback's divergence or Shannon's information.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.information.estimate import Estimate
from narrows.information.inputs import Samples, columns, same_rows
from narrows.information.kernels import (
    TILE,
    batch,
    batch_bandwidths,
    batch_gram,
    batch_pair,
    exponents,
    kernel_cautions,
    kernel_side,
    mean_kernel,
    median_distance,
    pair_sums,
    positive,
)

CAUCHY_SCHWARZ = register_reference(
    Reference(
        "arXiv:2404.17951",
        "Cauchy-Schwarz divergence information bottleneck for regression",
        ("Shujian Yu", "Xi Yu", "Sigurd Løkse", "Robert Jenssen", "Jose C. Principe"),
        2024,
        "International Conference on Learning Representations",
    )
)

_STILL = 1e-12  # a side's information with itself below this is none


@cites(CAUCHY_SCHWARZ.key)
def cs_divergence(x: Samples, y: Samples, bandwidth: float | None = None) -> Estimate:
    """Cauchy-Schwarz divergence in nats of two samples, x (n, d) and y (m, d), which need not have as many rows.

    It is that of their densities smoothed by the kernel, so it depends on the bandwidth: the median distance of two
    rows of both samples together, unless given. O((n + m)^2 d) time, O(n + m) memory. Raises DataError for different
    numbers of columns or fewer than 2 rows.
    """
    a, b = columns(x, "x"), columns(y, "y")
    if a.shape[1] != b.shape[1]:
        raise DataError(f"x has {a.shape[1]} columns and y has {b.shape[1]}: both must be points of the same space")
    if min(len(a), len(b)) < 2:
        raise DataError(f"x has {len(a)} rows and y has {len(b)}: at least 2 are needed")
    both = np.concatenate([a, b])
    width = median_distance(both) if bandwidth is None else float(bandwidth)
    positive(width, "x and y")
    centre = np.median(both, axis=0)
    u, v = (torch.from_numpy((side - centre) / (math.sqrt(2) * width)) for side in (a, b))
    value = _log_mean(u, u) + _log_mean(v, v) - 2 * _log_mean(u, v)
    return Estimate(
        value,
        "cs_divergence",
        len(both),
        (a.shape[1], b.shape[1]),
        details={"bandwidth": width, "rows": [len(a), len(b)]},
    )


@cites(CAUCHY_SCHWARZ.key)
def cs_qmi(
    x: Samples,
    y: Samples,
    *,
    bandwidth_x: float | None = None,
    bandwidth_y: float | None = None,
    normalise: bool = False,
) -> Estimate:
    """Cauchy-Schwarz quadratic mutual information of x (n, dx) and y (n, dy), in nats of its own, never negative.

    A bandwidth is the median distance of two rows unless given; a label has the kernel that is 1 for equal values and 0
    otherwise. `normalise` divides by the square root of I(x; x) I(y; y): no unit, 1 for a side with itself, 0 where a
    side is constant. O(n^2 d) time in tiles, O(n) memory.
    """
    (a, real_x), (b, real_y) = kernel_side(x, "x", bandwidth_x), kernel_side(y, "y", bandwidth_y)
    same_rows(real_x, real_y)
    sums = pair_sums(a, b)
    value = _qmi(sums.xy, sums.in_x, sums.in_y)
    if normalise:
        value = _share(value, _qmi(sums.xx, sums.in_x, sums.in_x), _qmi(sums.yy, sums.in_y, sums.in_y))
    means = mean_kernel(sums.in_x), mean_kernel(sums.in_y)
    return Estimate(
        float(value),
        "cs_qmi",
        len(a),
        (real_x.shape[1], real_y.shape[1]),
        unit="none" if normalise else "nats",
        cautions=kernel_cautions(x=(a, real_x, means[0]), y=(b, real_y, means[1])),
        details={
            "bandwidth_x": None if a.label else a.bandwidth,
            "bandwidth_y": None if b.label else b.bandwidth,
            "mean_kernel_x": means[0],
            "mean_kernel_y": means[1],
        },
    )


@cites(CAUCHY_SCHWARZ.key)
def batched_cs_divergence(x: Tensor, y: Tensor, bandwidth: float | Tensor | None = None) -> Tensor:
    """`cs_divergence` of many pairs of samples: x (..., n, d), y (..., m, d) to the shape (...), with gradients."""
    if batch(x, "x", 2).shape[:-2] != batch(y, "y", 2).shape[:-2] or x.shape[-1] != y.shape[-1]:
        raise DataError(f"x has the shape {tuple(x.shape)} and y {tuple(y.shape)}: only the rows may differ in number")
    width = batch_bandwidths(torch.cat([x, y], dim=-2)) if bandwidth is None else bandwidth
    scale = math.sqrt(2) * torch.as_tensor(width, dtype=x.dtype, device=x.device)[..., None, None]
    centre = x.detach().mean(dim=-2, keepdim=True)
    u, v = (x - centre) / scale, (y - centre) / scale

    def log_mean(a: Tensor, b: Tensor) -> Tensor:
        return exponents(a, b).flatten(-2).logsumexp(dim=-1) - math.log(a.shape[-2] * b.shape[-2])

    return log_mean(u, u) + log_mean(v, v) - 2 * log_mean(u, v)


@cites(CAUCHY_SCHWARZ.key)
def batched_cs_qmi(
    x: Tensor,
    y: Tensor,
    *,
    bandwidth_x: float | Tensor | None = None,
    bandwidth_y: float | Tensor | None = None,
    normalise: bool = False,
) -> Tensor:
    """`cs_qmi` of many pairs at once: x (..., n, dx), y (..., n, dy) to the shape (...), with gradients."""
    batch_pair(x, y, 2)
    k, q = batch_gram(x, bandwidth_x), batch_gram(y, bandwidth_y)
    in_x, in_y = k.sum(dim=-1), q.sum(dim=-1)
    value = _qmi((k * q).sum(dim=(-2, -1)), in_x, in_y)
    if not normalise:
        return value
    own = [_qmi((g * g).sum(dim=(-2, -1)), r, r) for g, r in ((k, in_x), (q, in_y))]
    return _share(value, *own)


def _qmi(product: Tensor, in_x: Tensor, in_y: Tensor) -> Tensor:
    """I from sum(K * Q) (...) and the row sums (..., n); the powers of n cancel."""
    return product.log() + in_x.sum(dim=-1).log() + in_y.sum(dim=-1).log() - 2 * (in_x * in_y).sum(dim=-1).log()


def _share(value: Tensor, own_x: Tensor, own_y: Tensor) -> Tensor:
    alive = (own_x > _STILL) & (own_y > _STILL)
    scale = torch.where(alive, own_x, 1.0) * torch.where(alive, own_y, 1.0)
    return torch.where(alive, value / scale.sqrt(), torch.zeros_like(value))


def _log_mean(u: Tensor, v: Tensor) -> float:
    """ln of the mean kernel of two samples, finite however far apart they lie."""
    parts = [
        exponents(u[i : i + TILE], v[j : j + TILE]).flatten().logsumexp(dim=0)
        for i in range(0, len(u), TILE)
        for j in range(0, len(v), TILE)
    ]
    return float(torch.stack(parts).logsumexp(dim=0)) - math.log(len(u) * len(v))
