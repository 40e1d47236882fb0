"""Gaussian kernels: bandwidths, Gram matrices, and sums over all pairs of rows a tile at a time.

The kernel is exp(-|a - b|^2 / (2 s^2)), 1 on the diagonal. Two forms of it live here: `Side` for one sample of any size
(float64, no gradient, never more than a tile of the matrix in memory), and `gaussian_gram` for batches of small ones
(any leading dimensions, any device, differentiable).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from narrows.core.errors import DataError
from narrows.core.seeds import derive
from narrows.information.estimate import Caution
from narrows.information.inputs import Real, Samples, codes, column_cautions, columns, is_label

TILE = 1024
"""Rows and columns of a kernel matrix that are held at once."""
DENSE = 5000
"""Rows beyond which no kernel matrix is held as a whole."""
MEDIAN_ROWS = 2000
"""Rows that the median distance is taken from."""
_DELTA = 0.01  # the bandwidth at which codes 0, 1, 2, ... are equal or have nothing in common


@dataclass(frozen=True)
class Side:
    """One side's rows, divided by sqrt(2) times the bandwidth of its kernel: exp(-|u - v|^2)."""

    scaled: Tensor
    bandwidth: float
    label: bool

    def __len__(self) -> int:
        return len(self.scaled)

    def tile(self, rows: slice | Tensor, others: slice | Tensor) -> Tensor:
        """The kernel between some rows and others."""
        return exponents(self.scaled[rows], self.scaled[others]).exp()

    def sharper(self) -> Side:
        """The side whose kernel is the square of this one's."""
        return Side(self.scaled * math.sqrt(2), self.bandwidth / math.sqrt(2), self.label)


@dataclass(frozen=True)
class Sums:
    """Sums of two kernel matrices K and L: the rows of each, and all entries of K * L, K * K and L * L."""

    in_x: Tensor
    in_y: Tensor
    xy: Tensor
    xx: Tensor
    yy: Tensor


def kernel_side(x: Samples, name: str, bandwidth: float | None) -> tuple[Side, Real]:
    """`x` with its kernel, and its columns. The bandwidth is the median distance unless it is given.

    A label's kernel is 1 for equal values and 0 otherwise, which is what a bandwidth far below 1 makes of its codes.
    Raises DataError for a bandwidth that is not positive, or one for a label.
    """
    if is_label(x):
        if bandwidth is not None:
            raise DataError(f"{name} holds labels, whose kernel has no bandwidth: leave it out")
        real = np.asarray(codes(x, name)[:, None], dtype=np.float64)
        return Side(torch.from_numpy(real) / (math.sqrt(2) * _DELTA), _DELTA, True), real
    real = columns(x, name)
    # Centred on the medians, which no outlier moves: distances by squares lose what is far from 0.
    rows = torch.from_numpy(real - np.median(real, axis=0))
    width = median_distance(real) if bandwidth is None else bandwidth
    positive(width, name)
    return Side(rows / (math.sqrt(2) * width), float(width), False), real


def median_distance(x: Real) -> float:
    """The median distance between two rows (of 2,000 of them, where there are more); 1 where all rows are equal."""
    if len(x) > MEDIAN_ROWS:
        # Sorted first, so that the choice does not depend on the order of the rows.
        chosen = np.random.default_rng(derive(0, "median distance", len(x))).permutation(len(x))[:MEDIAN_ROWS]
        x = x[np.lexsort(x.T)][chosen]
    distances = torch.pdist(torch.from_numpy(x))
    distances = distances if distances.numel() and distances.median() > 0 else distances[distances > 0]
    return float(distances.median()) if distances.numel() else 1.0


def positive(bandwidth: float, name: str) -> None:
    """DataError for a bandwidth that is no width."""
    if not (math.isfinite(bandwidth) and bandwidth > 0):
        raise DataError(f"the bandwidth of {name} must be positive and finite, got {bandwidth}")


def tiles(n: int) -> Iterator[tuple[slice, slice, int]]:
    """The tiles of the upper half of an n x n matrix, and how often each counts in the whole."""
    for i in range(0, n, TILE):
        for j in range(i, n, TILE):
            yield slice(i, min(i + TILE, n)), slice(j, min(j + TILE, n)), 1 if i == j else 2


def pair_sums(x: Side, y: Side) -> Sums:
    """The sums that measures of dependence are made of, in O(n^2 d) time and O(n d) memory."""
    n = len(x)
    in_x, in_y = (torch.zeros(n, dtype=torch.float64) for _ in range(2))
    xy, xx, yy = (torch.zeros((), dtype=torch.float64) for _ in range(3))
    for rows, others, times in tiles(n):
        k, q = x.tile(rows, others), y.tile(rows, others)
        for total, tile in ((in_x, k), (in_y, q)):
            total[rows] += tile.sum(dim=1)
            if times == 2:
                total[others] += tile.sum(dim=0)
        xy += times * torch.dot(k.flatten(), q.flatten())
        xx += times * torch.dot(k.flatten(), k.flatten())
        yy += times * torch.dot(q.flatten(), q.flatten())
    return Sums(in_x, in_y, xy, xx, yy)


def total(x: Side) -> float:
    """The sum of all entries of a kernel matrix."""
    return sum(times * float(x.tile(rows, others).sum()) for rows, others, times in tiles(len(x)))


def exponents(u: Tensor, v: Tensor) -> Tensor:
    """-|u_i - v_j|^2 for u (..., n, d) and v (..., m, d); shape (..., n, m)."""
    square = (u * u).sum(-1)[..., :, None] + (v * v).sum(-1)[..., None, :] - 2 * (u @ v.mT)
    return -square.clamp_min(0)


def gaussian_gram(a: Tensor, b: Tensor | None = None, bandwidth: float | Tensor = 1.0) -> Tensor:
    """exp(-|a_i - b_j|^2 / (2 s^2)) for a (..., n, d), b (..., m, d), b = a if left out; shape (..., n, m).

    `bandwidth` is a number or of the leading shape. Differentiable. Raises DataError where a or b has no column
    dimension: a vector of n values could mean n rows or n columns.
    """
    for name, side in (("a", a), ("b", b)):
        if side is not None and side.ndim < 2:
            raise DataError(f"{name} has the shape {tuple(side.shape)}, expected (..., n, d): give it a column, (n, 1)")
    width = math.sqrt(2) * torch.as_tensor(bandwidth, dtype=a.dtype, device=a.device)[..., None, None]
    centre = a.detach().mean(dim=-2, keepdim=True)
    u = (a - centre) / width
    return exponents(u, u if b is None else (b - centre) / width).exp()


def batch_bandwidths(x: Tensor) -> Tensor:
    """The median distance between two rows of each sample of x (..., n, d), without gradient; shape (...)."""
    n = x.shape[-2]
    upper = torch.triu_indices(n, n, 1, device=x.device)
    distances = torch.cdist(x.detach(), x.detach(), compute_mode="donot_use_mm_for_euclid_dist")
    distances = distances[..., upper[0], upper[1]]
    median = distances.median(dim=-1).values
    # Where most rows are twins, the median of the others; where all are, any width will do.
    apart = torch.where(distances > 0, distances, torch.nan).nanmedian(dim=-1).values.nan_to_num(1.0)
    return torch.where(median > 0, median, apart)


def batch(x: Tensor, name: str, least: int) -> Tensor:
    """`x` if it is a batch of samples (..., n, d) of finite floating-point numbers; DataError otherwise."""
    if x.ndim < 2 or x.shape[-2] < least or not x.shape[-1] or not x.is_floating_point():
        raise DataError(
            f"{name} is {x.dtype} of shape {tuple(x.shape)}, expected floating point (..., n, d), n at least {least}"
        )
    if not torch.isfinite(x).all():
        raise DataError(f"{name} has NaN or infinity: remove or repair such rows first")
    return x


def batch_pair(x: Tensor, y: Tensor, least: int) -> None:
    """DataError unless x (..., n, dx) and y (..., n, dy) are batches that belong together row by row."""
    if batch(x, "x", least).shape[:-1] != batch(y, "y", least).shape[:-1]:
        raise DataError(f"x has the shape {tuple(x.shape)} and y {tuple(y.shape)}: all but the last must be the same")


def batch_gram(x: Tensor, bandwidth: float | Tensor | None) -> Tensor:
    """The Gram matrix of each sample of a batch, by its own median distance unless a bandwidth is given."""
    if bandwidth is not None and not bool((torch.as_tensor(bandwidth) > 0).all()):
        raise DataError(f"a bandwidth must be positive, got {bandwidth}")
    return gaussian_gram(x, bandwidth=batch_bandwidths(x) if bandwidth is None else bandwidth)


def kernel_cautions(**sides: tuple[Side, Real, float]) -> tuple[Caution, ...]:
    """What is wrong with kernels: each side with its columns and its mean kernel of two different rows.

    Ties and heavy tails do a bounded kernel no harm.
    """
    seen = column_cautions(**{name: real for name, (_, real, _) in sides.items()})
    found = [caution for caution in seen if caution.trouble not in ("ties", "heavy tails")]
    for name, (side, real, mean) in sides.items():
        if not side.label and np.ptp(real, axis=0).any() and not 0.02 <= mean <= 0.98:
            alike = "all rows are alike" if mean > 0.5 else "each row is alike to itself only"
            text = f"at bandwidth {side.bandwidth:.3g} of {name} {alike} (mean kernel {mean:.3f}): take another"
            found.append(Caution("resolution", text))
    return tuple(found)


def mean_kernel(in_rows: Tensor) -> float:
    """The mean kernel of two different rows, from the sums of the rows of the matrix."""
    n = len(in_rows)
    return float((in_rows.sum() - n) / (n * (n - 1)))
