"""Eigenvalues of a Gaussian kernel matrix between the rows of one data set, scaled from both sides.

M_ij = w_i exp(-|x_i - x_j|^2 / (2 sigma^2)) w_j. Where the eigenvalues decay, a pivoted Cholesky factor L of few
columns takes the place of the matrix (Fine and Scheinberg, "Efficient SVM training using low-rank kernel
representations", 2001): M - L L' is positive semi-definite, so that every eigenvalue of L L' is at most that of M, and
all that is missing is the trace of M - L L', which is known. Otherwise the whole matrix is decomposed, and only then is
it held in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from scipy.linalg import eigvalsh
from scipy.linalg.lapack import dpstrf
from torch import Tensor

SMALL = 600
"""Up to this many rows the whole matrix is decomposed at once."""
_BLOCK = 4_000_000  # entries of the matrix computed at once
_CANDIDATES = 256  # rows with the largest remainders, from which the next pivots are taken
_KEEP = 0.1  # share of the largest remainder that a further pivot must have once the others are taken
_ROUNDING = 1e-14  # of the trace, in which a remainder cannot be told from 0
_NEAR = 1e5  # squares of lengths beyond which differences of rows are taken before squaring
_LARGE = 3000  # rows beyond which the LAPACK of torch is faster than that of SciPy


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of an n x n matrix; those of `values` are too small by `missing` in all, the rest included."""

    values: Tensor
    missing: float
    n: int


@dataclass(frozen=True)
class Kernel:
    """The scaled kernel matrix of `points` (n, d), which are in units of sqrt(2) sigma, and `weights` (n,)."""

    points: Tensor
    squares: Tensor
    weights: Tensor

    @classmethod
    def of(cls, x: Tensor, sigma: float) -> Kernel:
        """The kernel matrix of float64 `x` without weights."""
        # Rounding grows with the lengths of the rows: put most of them near the origin.
        points = (x - x.median(dim=0).values) / (sigma * 2**0.5)
        return cls(points, points.square().sum(dim=1), torch.ones_like(points[:, 0]))

    def balanced(self) -> Kernel:
        """The same matrix divided by the square roots of its row sums, from both sides."""
        return replace(self, weights=self.weights / self._row_sums().sqrt())

    def block(self, rows: Tensor | slice, columns: Tensor | slice) -> Tensor:
        """The entries of these rows and columns."""
        a, b = self.points[rows], self.points[columns]
        if self.squares.max() > _NEAR:
            found = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square_().neg_()
        else:
            found = torch.addmm(self.squares[columns], a, b.T, beta=-1, alpha=2)
            found = found.sub_(self.squares[rows, None]).clamp_(max=0)
        return found.exp_().mul_(self.weights[rows, None]).mul_(self.weights[columns])

    def whole(self) -> Tensor:
        """The n x n matrix."""
        n = len(self.points)
        found = self.points.new_empty(n, n)
        for part in self.parts():
            found[part] = self.block(part, slice(None))
        return found

    def spectrum(self, enough: Callable[[float, float], bool]) -> Spectrum:
        """The eigenvalues, or the large ones where `enough` (missing, trace) is content with what is missing then."""
        n = len(self.points)
        factor = None if n <= SMALL else self._factor(enough)
        if factor is None:
            return Spectrum(eigenvalues(self.whole()).clamp_(min=0), 0.0, n)
        columns, missing = factor
        return Spectrum(eigenvalues(columns.T @ columns).clamp_(min=0), missing, n)

    def _factor(self, enough: Callable[[float, float], bool]) -> tuple[Tensor, float] | None:
        """L (n, r) and the trace of M - L L'; None where r would be more than half of n."""
        n = len(self.points)
        left = self.weights.square()  # the diagonal of M - L L'
        trace = float(left.sum())
        rounding = _ROUNDING * trace
        factor = self.points.new_empty(n, n // 2)
        r = 0
        while not enough(missing := float(left.sum()) + rounding, trace):
            if missing <= 2 * rounding:
                return None
            candidates = left.topk(_CANDIDATES).indices
            core = self.block(candidates, candidates) - factor[candidates, :r] @ factor[candidates, :r].T
            chosen, triangle = _pivots(core)
            pivots = candidates[chosen]
            end = r + len(pivots)
            if end > n // 2:
                return None
            columns = self.block(slice(None), pivots).addmm_(factor[:, :r], factor[pivots, :r].T, alpha=-1)
            factor[:, r:end] = torch.linalg.solve_triangular(triangle.T, columns, upper=True, left=False)
            left = (left - factor[:, r:end].square().sum(dim=1)).clamp_(min=0)
            left[pivots] = 0
            # At best the remainder goes on to shrink as fast as now.
            ahead = missing * ((float(left.sum()) + rounding) / missing) ** ((n / 2 - r) / len(pivots))
            r = end
            if r > n / 8 and not enough(ahead, trace):
                return None
        return factor[:, :r], missing

    def _row_sums(self) -> Tensor:
        return torch.cat([self.block(part, slice(None)).sum(dim=1) for part in self.parts()])

    def parts(self) -> list[slice]:
        """Ranges of rows whose entries are few enough to be held at once."""
        n = len(self.points)
        rows = max(1, _BLOCK // n)
        return [slice(start, start + rows) for start in range(0, n, rows)]


def eigenvalues(matrix: Tensor) -> Tensor:
    """The eigenvalues of a symmetric float64 matrix, which may be overwritten. No gradient."""
    if len(matrix) > _LARGE:
        found: Tensor = torch.linalg.eigvalsh(matrix)
        return found
    # In place, as the matrix lies column by column for it.
    return torch.from_numpy(eigvalsh(matrix.numpy().T, overwrite_a=True, check_finite=False, driver="evd"))


def _pivots(core: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of a positive semi-definite matrix that still matter one after the other, and their Cholesky factor."""
    found, order, rank, _ = dpstrf(core.numpy(), tol=_KEEP * float(core.diagonal().max()), lower=1)
    rank = max(int(rank), 1)
    chosen = torch.from_numpy(order[:rank].astype("int64") - 1)
    return chosen, torch.from_numpy(found[:rank, :rank]).tril()
