"""Rényi's entropy of a kernel matrix, and the mutual information made of it.

Sánchez Giraldo, Rao and Príncipe, "Measures of entropy from data using infinitely divisible kernels" (2015): the kernel
matrix K of a sample, divided by n, has non-negative eigenvalues that sum to 1, and Rényi's entropy of these needs no
density. Two sides have the joint entropy of the product K * L:

    S(K) = ln(sum_i lambda_i(K / n)^alpha) / (1 - alpha),    I(x; y) = S(K) + S(L) - S(K * L).

For rows that are equal or far apart it is Rényi's entropy of the shares of equal rows. For a continuous law it is NOT
an estimate of a differential entropy, nor is I one of Shannon's information: both depend on the bandwidth and on n, and
compare only where these are the same.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.information.estimate import Caution, Estimate
from narrows.information.inputs import Samples, same_rows
from narrows.information.kernels import (
    DENSE,
    Side,
    batch,
    batch_gram,
    batch_pair,
    kernel_cautions,
    kernel_side,
    pair_sums,
    total,
)

MATRIX = register_reference(
    Reference(
        "arXiv:1211.2459",
        "Measures of entropy from data using infinitely divisible kernels",
        ("Luis Gonzalo Sánchez Giraldo", "Murali Rao", "José C. Príncipe"),
        2015,
        "IEEE Transactions on Information Theory",
    )
)


@cites(MATRIX.key)
def renyi_entropy(x: Samples, *, alpha: float = 1.0, bandwidth: float | None = None) -> Estimate:
    """Matrix-based Rényi entropy in nats of x (n, d), from 0 (all rows alike) to ln n (none is).

    The bandwidth of the Gaussian kernel is the median distance of two rows unless given; a label's values are alike or
    not. `alpha` 1 is von Neumann's entropy (papers often take 1.01 in its place). Eigenvalues take O(n^3) time and n^2
    memory; `alpha` 2 needs none and takes any number of rows in tiles. Raises DataError for `alpha` <= 0, and for more
    than 5,000 rows at another `alpha`.
    """
    side, real = kernel_side(x, "x", bandwidth)
    same_rows(real, real)
    n = len(side)
    _require(alpha, n)
    if alpha == 2:
        value = _second(total(side.sharper()), n)
        mean = (total(side) - n) / (n * (n - 1))
    else:
        kernel = side.tile(slice(None), slice(None))
        value = float(_entropy(kernel, alpha))
        mean = float((kernel.sum() - n) / (n * (n - 1)))
    return Estimate(
        value,
        "renyi_entropy",
        n,
        (real.shape[1],),
        cautions=(*kernel_cautions(x=(side, real, mean)), *_full(value, n, side)),
        details={"alpha": alpha, "bandwidth": None if side.label else side.bandwidth, "mean_kernel": mean},
    )


@cites(MATRIX.key)
def renyi_information(
    x: Samples,
    y: Samples,
    *,
    alpha: float = 1.0,
    bandwidth_x: float | None = None,
    bandwidth_y: float | None = None,
) -> Estimate:
    """Matrix-based Rényi mutual information in nats of x (n, dx) and y (n, dy); not Shannon's, see the module.

    At `alpha` 1 it is the quantum mutual information of the mixture of the rows' states, and never negative; at
    another it may be. Its value grows with n and falls with the bandwidths even where x and y are independent, so
    compare it with the one of shuffled rows. Options and limits are those of `renyi_entropy`.
    """
    (a, real_x), (b, real_y) = kernel_side(x, "x", bandwidth_x), kernel_side(y, "y", bandwidth_y)
    same_rows(real_x, real_y)
    n = len(a)
    _require(alpha, n)
    parts, means = _parts(a, b, alpha)
    value = parts[0] + parts[1] - parts[2]
    return Estimate(
        value,
        "renyi_information",
        n,
        (real_x.shape[1], real_y.shape[1]),
        cautions=(
            *kernel_cautions(x=(a, real_x, means[0]), y=(b, real_y, means[1])),
            *_full(parts[2], n, *(s for s in (a, b) if not s.label)),
        ),
        details={
            "alpha": alpha,
            "bandwidth_x": None if a.label else a.bandwidth,
            "bandwidth_y": None if b.label else b.bandwidth,
            "entropy_x": parts[0],
            "entropy_y": parts[1],
            "joint_entropy": parts[2],
        },
    )


@cites(MATRIX.key)
def batched_renyi_entropy(x: Tensor, *, alpha: float = 1.0, bandwidth: float | Tensor | None = None) -> Tensor:
    """`renyi_entropy` of many samples at once: x (..., n, d) to the shape (...), in nats, with gradients."""
    n = batch(x, "x", 2).shape[-2]
    _require(alpha, n)
    return _entropy(batch_gram(x, bandwidth), alpha)


@cites(MATRIX.key)
def batched_renyi_information(
    x: Tensor,
    y: Tensor,
    *,
    alpha: float = 1.0,
    bandwidth_x: float | Tensor | None = None,
    bandwidth_y: float | Tensor | None = None,
) -> Tensor:
    """`renyi_information` of many pairs: x (..., n, dx), y (..., n, dy) to the shape (...), in nats, with gradients."""
    batch_pair(x, y, 2)
    _require(alpha, x.shape[-2])
    k, q = batch_gram(x, bandwidth_x), batch_gram(y, bandwidth_y)
    return _entropy(k, alpha) + _entropy(q, alpha) - _entropy(k * q, alpha)


def _require(alpha: float, n: int) -> None:
    if not (math.isfinite(alpha) and alpha > 0):
        raise DataError(f"alpha must be positive and finite, got {alpha}")
    if alpha != 2 and n > DENSE:
        raise DataError(
            f"the eigenvalues of a kernel of {n} rows take too long and too much memory (limit: {DENSE} rows): "
            "take alpha=2, which needs none, or average over parts of the rows"
        )


def _entropy(kernel: Tensor, alpha: float) -> Tensor:
    """Rényi's entropy of the eigenvalues of kernel / n, for kernels (..., n, n) with diagonal 1."""
    n = kernel.shape[-1]
    if alpha == 2:
        return -(kernel / n).square().sum(dim=(-2, -1)).log()
    values = torch.linalg.eigvalsh(kernel / n)
    # What is no more than rounding counts as 0; not as 0 itself, where a power has no gradient.
    limits = torch.finfo(kernel.dtype)
    values = torch.where(values > n * limits.eps, values, limits.tiny)
    entropy: Tensor = -(values * values.log()).sum(dim=-1)
    return entropy if alpha == 1 else values.pow(alpha).sum(dim=-1).log() / (1 - alpha)


def _parts(x: Side, y: Side, alpha: float) -> tuple[tuple[float, float, float], tuple[float, float]]:
    """The entropies of x, of y and of both, and the mean kernels of two different rows."""
    n = len(x)
    pairs = n * (n - 1)
    if alpha == 2:
        sums = pair_sums(x.sharper(), y.sharper())
        entropies = tuple(_second(float(s), n) for s in (sums.in_x.sum(), sums.in_y.sum(), sums.xy))
        means = ((total(x) - n) / pairs, (total(y) - n) / pairs)
        return (entropies[0], entropies[1], entropies[2]), means
    k, q = (side.tile(slice(None), slice(None)) for side in (x, y))
    means = (float((k.sum() - n) / pairs), float((q.sum() - n) / pairs))
    return (float(_entropy(k, alpha)), float(_entropy(q, alpha)), float(_entropy(k * q, alpha))), means


def _second(squares: float, n: int) -> float:
    return -math.log(squares / n**2)


def _full(value: float, n: int, *sides: Side) -> tuple[Caution, ...]:
    if not sides or value < 0.98 * math.log(n):
        return ()
    text = f"{value:.3f} nats is nearly ln({n}), the most that {n} rows can have: take a wider kernel or more rows"
    return (Caution("saturated", text),)
