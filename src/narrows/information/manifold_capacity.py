"""Maximum manifold capacity representations: a loss for views of the same thing, and the measure behind it.

Yerxa, Kuang, Simoncelli and Chung, "Learning efficient coding of natural images with maximum manifold capacity
representations" (2023): the views of one image are a manifold, and a representation separates many of them where each
is small and their centres are spread. With z_bk the unit vector of view k of image b, c_b = mean_k z_bk (shorter the
more the views differ), C the B x D matrix of the c_b, Z_b the views of one image and |.|_* the sum of singular values,

    L = -|C|_* + lambda mean_b |Z_b|_*,    |C|_* <= sqrt(B min(B, D)).

The bound is met where views agree and the centres are orthonormal (or, for B > D, a tight frame); if all of them
coincide |C|_* is sqrt(B). The nuclear norm stands in for the capacity of Chung, Lee and Sompolinsky; it is no count of
separable manifolds itself.
"""

from __future__ import annotations

import math
import warnings
from typing import Literal

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.functional import normalize

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.information.estimate import Caution, Estimate
from narrows.information.inputs import Samples, codes, column_cautions, columns, same_rows

MMCR = register_reference(
    Reference(
        "arXiv:2303.03307",
        "Learning efficient coding of natural images with maximum manifold capacity representations",
        ("Thomas Yerxa", "Yilun Kuang", "Eero Simoncelli", "SueYeon Chung"),
        2023,
        "Advances in Neural Information Processing Systems",
    )
)

Reduction = Literal["none", "batch"]


@cites(MMCR.key)
def mmcr_capacity(x: Samples, y: Samples) -> Estimate:
    """How far the manifolds of x (n, d), one for each value of y, fill the space they could: from 0 to 1, no unit.

    |C|_* / sqrt(B min(B, d)) for the B centroids of the unit vectors of x. It is 1 only where x has one direction for
    each y, and these are orthonormal or a tight frame; 1 / sqrt(min(B, d)) where all rows of x are the same; near 0
    where y says nothing and x is spread around the origin. It depends on the origin of x, not on the lengths of its
    rows, and is blind to how many rows a value of y has. details: the two nuclear norms (the local
    one is a mean over manifolds of |Z_b|_* / sqrt(rows of b), 1 for a point), the mean length and the effective rank
    of the centroids. Raises DataError for fewer than two columns. Source: Yerxa et al. 2023.
    """
    a = columns(x)
    manifold = codes(y, "y")
    same_rows(a, manifold)
    n, d = a.shape
    if d < 2:
        raise DataError("x has one column, in which every unit vector is 1 or -1: two or more are needed")
    lengths = np.linalg.norm(a, axis=1, keepdims=True)
    units = torch.from_numpy(a / np.where(lengths > 0, lengths, 1.0))
    groups = [units[torch.from_numpy(manifold == b)] for b in range(manifold.max() + 1)]
    centroids = torch.stack([group.mean(dim=0) for group in groups])
    singular = torch.linalg.svdvals(centroids)
    most = bound(len(groups), d)
    cautions = [c for c in column_cautions(x=a) if c.trouble in ("constant column", "duplicate columns")]
    if still := int((lengths == 0).sum()):
        cautions.append(Caution("assumption", f"{still} rows of x are zero and have no direction: they count as 0"))
    if single := sum(len(group) == 1 for group in groups):
        text = f"{single} of {len(groups)} values of y have one row of x: its spread cannot be seen"
        cautions.append(Caution("few samples", text))
    local = torch.stack([torch.linalg.svdvals(group).sum() / math.sqrt(len(group)) for group in groups])
    return Estimate(
        float(singular.sum()) / most,
        "mmcr_capacity",
        n,
        (d, 1 if np.ndim(y) == 1 else np.shape(y)[1]),
        unit="none",
        cautions=tuple(cautions),
        details={
            "manifolds": len(groups),
            "global nuclear norm": float(singular.sum()),
            "bound": most,
            "local nuclear norm": float(local.mean()),
            "mean centroid norm": float(centroids.norm(dim=1).mean()),
            "effective rank": _effective_rank(singular),
        },
    )


def bound(images: int, width: int) -> float:
    """The largest nuclear norm of `images` centroids in `width` dimensions."""
    return math.sqrt(images * min(images, width))


@cites(MMCR.key)
def mmcr_loss(z: Tensor, n_views: int, lmbda: float = 0.0, reduction: Reduction = "none") -> Tensor:
    """The MMCR loss of z, (B * n_views, D) with the views of an image in consecutive rows, or (B, n_views, D).

    `lmbda` weighs the mean nuclear norm of the views of an image; 0 is the published value, as centroids are shorter
    already where views differ. `reduction` "batch" divides by B. Half precision is brought to float32 for the singular
    values. Raises DataError for rows that are no multiple of `n_views`, D < 2, NaN and infinity; warns of zero vectors.
    """
    views = _views(z, n_views)
    return _loss(views.mean(dim=1), views, lmbda, reduction)[0]


@cites(MMCR.key)
class MMCRLoss(nn.Module):
    """`mmcr_loss` as a module: loss = MMCRLoss(n_views=8)(projector(encoder(views))).

    `gather=True` evaluates the loss of all images of all processes of the default group, which must have equally
    many. Gradients pass through the gathering: averaged over processes, as DistributedDataParallel does, they are those
    of the loss of the whole batch. (Where a process has a gradient for its own part alone, as in the official code, the
    average is smaller by the number of processes.) `stats` has figures of the last batch; compare `share`, the nuclear
    norm's share of its bound, between runs with different B and D, and not the loss.
    """

    def __init__(
        self, n_views: int, lmbda: float = 0.0, reduction: Reduction = "none", *, gather: bool = False
    ) -> None:
        super().__init__()
        if n_views < 1:
            raise DataError(f"n_views must be at least 1, got {n_views}")
        if reduction not in ("none", "batch"):
            raise DataError(f"reduction is 'none' or 'batch', got {reduction!r}")
        self.n_views, self.lmbda, self.reduction, self.gather = n_views, lmbda, reduction, gather
        self._singular, self._lengths, self._width = torch.zeros(0), torch.zeros(0), 0
        self._local: Tensor | None = None

    def forward(self, z: Tensor) -> Tensor:
        views = self._all(_views(z, self.n_views))
        return self._finished(views.mean(dim=1), views)

    @property
    def stats(self) -> dict[str, float]:
        """Of the last batch: nuclear norm, its bound and share of it, mean length and effective rank of centroids.

        With `lmbda` also the mean nuclear norm of the views of an image. Empty before the first batch.
        """
        if not len(self._lengths):
            return {}
        most = bound(len(self._lengths), self._width)
        return {
            "global_nuc": float(self._singular.sum()),
            "bound": most,
            "share": float(self._singular.sum()) / most,
            "mean_centroid_norm": float(self._lengths.mean()),
            "effective_rank": _effective_rank(self._singular),
            **({} if self._local is None else {"local_nuc": float(self._local)}),
        }

    def _finished(self, centroids: Tensor, views: Tensor) -> Tensor:
        loss, self._singular, local = _loss(centroids, views, self.lmbda, self.reduction)
        self._local = None if local is None else local.detach()
        self._lengths, self._width = centroids.detach().norm(dim=1), centroids.shape[1]
        return loss

    def _all(self, views: Tensor) -> Tensor:
        return _Gather.apply(views) if self.gather else views  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        return f"n_views={self.n_views}, lmbda={self.lmbda}, reduction={self.reduction!r}, gather={self.gather}"


@cites(MMCR.key)
class MMCRMomentumLoss(MMCRLoss):
    """MMCR with a slow copy of the network, whose views share in the centroids: loss(online, slow), shapes as there.

    c_b is the mean of both networks' mean views; no gradient goes to `slow`. `ema_update` keeps the copy up to date.
    """

    def forward(self, z: Tensor, slow: Tensor) -> Tensor:  # type: ignore[override]
        views, still = _views(z, self.n_views), _views(slow.detach(), self.n_views)
        if views.shape != still.shape:
            raise DataError(f"the networks gave different shapes, {tuple(views.shape)} and {tuple(still.shape)}")
        views, still = self._all(views), self._all(still)
        return self._finished((views.mean(dim=1) + still.mean(dim=1)) / 2, views)


@torch.no_grad()
def ema_update(slow: nn.Module, fast: nn.Module, tau: float = 0.99) -> None:
    """Move the parameters of `slow` towards those of `fast`, a network of the same make: tau slow + (1 - tau) fast."""
    for old, new in zip(slow.parameters(), fast.parameters(), strict=True):
        old.lerp_(new, 1 - tau)


class _Gather(torch.autograd.Function):
    """The parts of all processes one after the other; the gradient of a part is the sum of what all processes have."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, part: Tensor) -> Tensor:
        parts = [torch.empty_like(part) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous().clone()
        torch.distributed.all_reduce(gradient)
        return gradient.chunk(torch.distributed.get_world_size())[torch.distributed.get_rank()]


def _loss(centroids: Tensor, views: Tensor, lmbda: float, reduction: Reduction) -> tuple[Tensor, Tensor, Tensor | None]:
    """The loss, the singular values of the centroids, and the mean nuclear norm of the views where that is weighed."""
    local = None
    with torch.autocast(centroids.device.type, enabled=False):
        singular = torch.linalg.svdvals(centroids)
        loss = -singular.sum()
        if lmbda:
            local = torch.linalg.svdvals(views).sum() / len(views)
            loss = loss + lmbda * local
    return loss / len(centroids) if reduction == "batch" else loss, singular.detach(), local


def _views(z: Tensor, n_views: int) -> Tensor:
    """Unit vectors of shape (B, n_views, D)."""
    if z.ndim == 2 and len(z) and len(z) % n_views == 0:
        z = z.reshape(-1, n_views, z.shape[1])
    if z.ndim != 3 or 0 in z.shape or z.shape[1] != n_views or z.shape[2] < 2:
        raise DataError(
            f"expected (B * {n_views}, D) or (B, {n_views}, D) with D of 2 or more, got {tuple(z.shape)}; "
            "the views of an image are consecutive rows"
        )
    if not torch.isfinite(z).all():
        raise DataError("the embeddings have NaN or infinity")
    if z.dtype in (torch.float16, torch.bfloat16):
        z = z.float()
    lengths = z.detach().norm(dim=-1)
    if (lengths == 0).any():
        warnings.warn(f"{int((lengths == 0).sum())} embeddings are zero and count as no direction", stacklevel=3)
    return normalize(z, dim=-1)


def _effective_rank(singular: Tensor) -> float:
    """exp of the entropy of the singular values as shares of their sum; 0 where all are 0."""
    total = float(singular.sum())
    return float(torch.special.entr(singular / total).sum().exp()) if total > 0 else 0.0
