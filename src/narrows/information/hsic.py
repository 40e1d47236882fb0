"""The Hilbert-Schmidt independence criterion.

Gretton, Bousquet, Smola and Schölkopf, "Measuring statistical dependence with Hilbert-Schmidt norms" (2005): the
squared norm of the cross-covariance of two sides in the feature spaces of their kernels. It is 0 only for independent
sides. With K and L the kernel matrices (diagonal 1), r and q their row sums,

    biased    HSIC = sum(K * L)/n^2 - 2 r.q/n^3 + sum(K) sum(L)/n^4

and the unbiased form of Song, Smola, Gretton, Bedo and Borgwardt (2012) is the same without the diagonals and with its
own divisors. Divided by the square root of HSIC(x, x) HSIC(y, y) it is centred kernel alignment (Kornblith et al.
2019).
"""

from __future__ import annotations

import torch
from torch import Tensor

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.core.seeds import generator
from narrows.information.estimate import Caution, Estimate
from narrows.information.inputs import Samples, same_rows
from narrows.information.kernels import (
    DENSE,
    Side,
    Sums,
    batch_gram,
    batch_pair,
    kernel_cautions,
    kernel_side,
    mean_kernel,
    pair_sums,
)

HSIC = register_reference(
    Reference(
        "doi:10.1007/11564089_7",
        "Measuring statistical dependence with Hilbert-Schmidt norms",
        ("Arthur Gretton", "Olivier Bousquet", "Alex Smola", "Bernhard Schölkopf"),
        2005,
        "Algorithmic Learning Theory",
    )
)
UNBIASED = register_reference(
    Reference(
        "song2012",
        "Feature selection via dependence maximization",
        ("Le Song", "Alex Smola", "Arthur Gretton", "Justin Bedo", "Karsten Borgwardt"),
        2012,
        "Journal of Machine Learning Research",
        url="https://www.jmlr.org/papers/v13/song12a.html",
    )
)
ALIGNMENT = register_reference(
    Reference(
        "arXiv:1905.00414",
        "Similarity of neural network representations revisited",
        ("Simon Kornblith", "Mohammad Norouzi", "Honglak Lee", "Geoffrey Hinton"),
        2019,
        "International Conference on Machine Learning",
    )
)

_LEAST = 4  # the unbiased form divides by n - 3
_ROWS = 256  # rows of a kernel that are shuffled at once, and how many of its values
_HELD = 4_000_000
_FEW = 20


@cites(HSIC.key, UNBIASED.key, ALIGNMENT.key)
def hsic(
    x: Samples,
    y: Samples,
    *,
    bandwidth_x: float | None = None,
    bandwidth_y: float | None = None,
    unbiased: bool = True,
    normalise: bool = False,
    permutations: int = 0,
    seed: int = 0,
) -> Estimate:
    """HSIC of x (n, dx) and y (n, dy) with Gaussian kernels; no unit, 0 where they are independent.

    A bandwidth is the median distance of two rows unless given; columns keep their scale. A label has the kernel that
    is 1 for equal values and 0 otherwise. The unbiased form may be negative. `normalise` makes it centred kernel
    alignment: 1 for a side with itself, and 0 where a side is constant. With `permutations`, `details["p"]` is the
    p-value of independence: the share of shuffled copies, the data counted among them, with as much HSIC. O(n^2) time
    for each, O(n) memory. Raises DataError for fewer than 4 rows.
    """
    (a, real_x), (b, real_y) = kernel_side(x, "x", bandwidth_x), kernel_side(y, "y", bandwidth_y)
    same_rows(real_x, real_y, _LEAST)
    if permutations < 0:
        raise DataError(f"permutations cannot be fewer than 0, got {permutations}")
    sums = pair_sums(a, b)
    plain = _statistic(sums.xy, sums.in_x, sums.in_y, unbiased)
    n = len(a)
    means = {"x": mean_kernel(sums.in_x), "y": mean_kernel(sums.in_y)}
    details: dict[str, object] = {
        "bandwidth_x": None if a.label else a.bandwidth,
        "bandwidth_y": None if b.label else b.bandwidth,
        "mean_kernel_x": means["x"],
        "mean_kernel_y": means["y"],
        "unbiased": unbiased,
    }
    if permutations:
        null = _shuffled(a, b, sums, unbiased, permutations, seed)
        # Sums in another order differ by rounding: what is equal must count.
        extreme = int((null >= plain - 1e-12 * plain.abs() - 1e-15).sum())
        details |= {"p": (1 + extreme) / (1 + permutations), "shuffled mean": float(null.mean())}
    own = _statistic(sums.xx, sums.in_x, sums.in_x, unbiased), _statistic(sums.yy, sums.in_y, sums.in_y, unbiased)
    few = (Caution("few samples", f"{n} rows say little about dependence: take at least {_FEW}"),) if n < _FEW else ()
    return Estimate(
        float(_aligned(plain, *own) if normalise else plain),
        "hsic",
        n,
        (real_x.shape[1], real_y.shape[1]),
        unit="none",
        cautions=(*kernel_cautions(x=(a, real_x, means["x"]), y=(b, real_y, means["y"])), *few),
        details=details,
    )


@cites(HSIC.key, UNBIASED.key, ALIGNMENT.key)
def batched_hsic(
    x: Tensor,
    y: Tensor,
    *,
    bandwidth_x: float | Tensor | None = None,
    bandwidth_y: float | Tensor | None = None,
    unbiased: bool = True,
    normalise: bool = False,
) -> Tensor:
    """`hsic` of many pairs at once: x (..., n, dx) and y (..., n, dy) to the shape (...), with gradients.

    For layers and epochs of a training run. Holds (..., n, n) kernels in memory. A median bandwidth has no gradient.
    """
    batch_pair(x, y, _LEAST)
    k, q = batch_gram(x, bandwidth_x), batch_gram(y, bandwidth_y)
    in_x, in_y = k.sum(dim=-1), q.sum(dim=-1)

    def product(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(dim=(-2, -1))

    value = _statistic(product(k, q), in_x, in_y, unbiased)
    if not normalise:
        return value
    own = _statistic(product(k, k), in_x, in_x, unbiased), _statistic(product(q, q), in_y, in_y, unbiased)
    return _aligned(value, *own)


def _statistic(product: Tensor, in_x: Tensor, in_y: Tensor, unbiased: bool) -> Tensor:
    """HSIC from sum(K * L) (...) and the row sums of K and L (..., n)."""
    n = in_x.shape[-1]
    if not unbiased:
        cross = (in_x * in_y).sum(dim=-1)
        return product / n**2 - 2 * cross / n**3 + in_x.sum(dim=-1) * in_y.sum(dim=-1) / n**4
    product, in_x, in_y = product - n, in_x - 1, in_y - 1
    cross, sums = (in_x * in_y).sum(dim=-1), in_x.sum(dim=-1) * in_y.sum(dim=-1)
    return (product + sums / ((n - 1) * (n - 2)) - 2 * cross / (n - 2)) / (n * (n - 3))


def _aligned(value: Tensor, own_x: Tensor, own_y: Tensor) -> Tensor:
    alive = (own_x > 1e-14) & (own_y > 1e-14)
    scale = torch.where(alive, own_x, 1.0) * torch.where(alive, own_y, 1.0)
    return torch.where(alive, value / scale.sqrt(), torch.zeros_like(value))


def _shuffled(x: Side, y: Side, sums: Sums, unbiased: bool, permutations: int, seed: int) -> Tensor:
    """HSIC with the rows of y in another order; shape (permutations,). Each part of x's kernel is made once for all."""
    n = len(x)
    whole = y.tile(slice(None), slice(None)) if n <= DENSE else None
    dice = generator(seed, "permutations")
    orders = torch.stack([torch.randperm(n, generator=dice) for _ in range(permutations)])
    product = torch.zeros(permutations, dtype=torch.float64)
    rows = max(1, min(_ROWS, _HELD // n))
    for i in range(0, n, rows):
        part = slice(i, min(n, i + rows))
        # Both kernels are symmetric: what lies above the part counts twice, below it not at all.
        kernel = 2 * x.tile(part, slice(i, None))
        kernel[:, : part.stop - i] /= 2
        for p, order in enumerate(orders):
            mine, others = order[part], order[i:]
            if whole is None:
                shuffled = y.tile(mine, others)
            else:
                shuffled = torch.take_along_dim(whole[mine], others[None], dim=1)
            product[p] += torch.dot(shuffled.flatten(), kernel.flatten())
    return _statistic(product, sums.in_x, sums.in_y[orders], unbiased)
