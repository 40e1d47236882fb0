"""What a Gaussian encoder keeps of its input, and what of that the label does not explain.

Kawaguchi, Deng, Ji and Huang, "How Does Information Bottleneck Help Deep Learning?" (2023) measure an encoder
z = mean(x) + std(x) * noise on n inputs, one z_i for each x_i. With L_ij = log N(z_i; mean(x_j), diag std(x_j)^2):

    "mc"      I = mean_i [L_ii - log mean_j exp L_ij]   at most ln n; a lower bound of I(X; Z) for the law of x
    "jensen"  I = mean_i [L_ii - mean_j L_ij]           never below "mc"; an upper bound for these n inputs

I(X; Z | Y) is the same within each class, weighted with the classes' frequencies.

A network without noise keeps everything: `feature_mi` pretends noise of a named deviation around its features. Then
"mc" is the pairwise bound of Kolchinsky and Tracey (2017), and "jensen" the trace of the features' covariance over the
variance of the noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.core.seeds import generator
from narrows.information.estimate import Caution, MIEstimate
from narrows.information.inputs import Samples, codes, columns

GENERALIZATION = register_reference(
    Reference(
        "arXiv:2305.18887",
        "How Does Information Bottleneck Help Deep Learning?",
        ("Kenji Kawaguchi", "Zhun Deng", "Xu Ji", "Jiaoyang Huang"),
        2023,
        "International Conference on Machine Learning",
    )
)

Form = Literal["mc", "jensen"]

NOISE = (0.01, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0, 3.0, 6.0, 9.0, 12.0, 15.0, 18.0, 21.0)
_BLOCK = 250_000  # numbers held at once; more would leave the cache
_NEAR_CAP = 0.95
_LOG_2PI = math.log(2 * math.pi)


@cites(GENERALIZATION.key)
def encoder_mi(
    mean: Samples,
    std: Samples | float,
    labels: Samples | None = None,
    *,
    form: Form = "mc",
    z: Samples | None = None,
    seed: int = 0,
) -> MIEstimate:
    """I(X; Z) in nats of z = mean(x) + std(x) * noise, or I(X; Z | Y) where `labels` (n,) are given.

    `mean`: (n, d), a row per input; `std`: a number, (d,) or (n, d), above 0; `z`: the codes (n, d) that were drawn,
    one per input, else drawn from `seed`. `details` have the cap of "mc" and the deviations, as a "jensen" figure grows
    without limit where they shrink. Raises DataError for a class with one row. Source: Kawaguchi et al. 2023.
    """
    middle = torch.from_numpy(columns(mean, "mean"))
    width = _deviations(std, middle)
    if z is None:
        noise = torch.randn(middle.shape, generator=generator(seed, "encoder_mi"), dtype=torch.float64)
        drawn = middle + width * noise
    else:
        drawn = torch.from_numpy(columns(z, "z"))
        if drawn.shape != middle.shape:
            raise DataError(f"z has the shape {tuple(drawn.shape)}, and mean has {tuple(middle.shape)}")
    return _estimate("encoder_mi", middle, width, drawn, labels, form, ())


@cites(GENERALIZATION.key)
def feature_mi(features: Samples, noise_std: float, labels: Samples | None = None, *, form: Form = "mc") -> MIEstimate:
    """I(X; H + noise) in nats for the features (n, d) of a network without noise; given Y where `labels` are given.

    `noise_std` is pretended, so that the figure says as much about it as about the network. Raises DataError as
    `encoder_mi` does. Source: Kawaguchi et al. 2023.
    """
    h = torch.from_numpy(columns(features, "features"))
    text = f"the network has no noise: the figure depends on the pretended deviation {noise_std:g}"
    return _estimate("feature_mi", h, _deviations(noise_std, h), h, labels, form, (Caution("resolution", text),))


def log_ratios(mean: Tensor, std: Tensor, z: Tensor, form: Form = "mc") -> Tensor:
    """The term of each row, shape (n,): L_ii - log mean_j exp L_ij, or L_ii - mean_j L_ij. Gradients flow.

    All are (n, d); `std` may be (d,) or a scalar. The mean over rows is the estimate.
    """
    return torch.cat([own - _against(table, form) for own, table in _tables(mean, std, z)])


def noise_levels(layers: Sequence[Samples], grid: Sequence[float] = NOISE) -> list[float]:
    """A pretended deviation for each layer's features (n, d_l), first layer first.

    From the last layer to the first: of the deviations in `grid` at which the layer keeps at least as much as the next
    one (data processing), the one with the largest mean log density of a row under noise around the others; where none
    does, the one that keeps most. Source: Kawaguchi et al. 2023; the row itself is left out, or the least would win.
    """
    if not layers or not grid or min(grid) <= 0:
        raise DataError("noise levels need at least one layer and deviations above 0")
    chosen: list[float] = []
    floor = -math.inf
    for i in range(len(layers) - 1, -1, -1):
        h = torch.from_numpy(columns(layers[i], f"layer {i}"))
        if len(h) < 2:
            raise DataError(f"layer {i} has one row, and a row is compared with the others")
        tried = [(*_kept_and_density(h, s), s) for s in grid]
        allowed = [t for t in tried if t[0] >= floor] or [max(tried)]
        floor, _, best = max(allowed, key=lambda t: t[1])
        chosen.insert(0, best)
    return chosen


def _kept_and_density(h: Tensor, noise_std: float) -> tuple[float, float]:
    """The "mc" figure of all rows, and the mean log density of a row around the others, up to ln(n - 1)."""
    std = torch.tensor(noise_std, dtype=torch.float64)
    kept, density, row = 0.0, 0.0, 0
    for own, table in _tables(h, std, h):
        kept += float((own - _against(table, "mc")).sum())
        table[torch.arange(len(own)), torch.arange(row, row + len(own))] = -torch.inf
        density += float(torch.logsumexp(table, dim=1).sum())
        row += len(own)
    return kept / len(h), density / len(h)


def _estimate(
    method: str,
    mean: Tensor,
    std: Tensor,
    z: Tensor,
    labels: Samples | None,
    form: Form,
    cautions: tuple[Caution, ...],
) -> MIEstimate:
    if form not in ("mc", "jensen"):
        raise DataError(f"the form is 'mc' or 'jensen', got {form!r}")
    groups = _groups(labels, len(mean))
    terms, influence = torch.empty(2, len(mean), dtype=torch.float64)
    cap = 0.0
    for rows in groups:
        own, weight = _terms(mean[rows], std if std.ndim < 2 else std[rows], z[rows], form)
        terms[rows], influence[rows] = own, own - (weight - weight.mean())
        cap += len(rows) / len(mean) * math.log(len(rows))
    value = float(terms.mean())
    if form == "mc" and value > _NEAR_CAP * cap:
        text = f"{value:.2f} of at most {cap:.2f} nats that {len(mean)} rows can show: take it as a floor"
        cautions = (*cautions, Caution("saturated", text))
    return MIEstimate(
        value,
        method,
        len(mean),
        (1, mean.shape[1]),  # the input is known by its row
        standard_error=float(influence.std(correction=1) / math.sqrt(len(mean))),
        kind="lower" if form == "mc" else "upper",
        cautions=cautions,
        details={
            "form": form,
            "given": "label" if labels is not None else "nothing",
            "cap": cap if form == "mc" else None,
            "least std": float(std.min()),
            "mean std": float(std.mean()),
        },
    )


def _groups(labels: Samples | None, n: int) -> list[Tensor]:
    if labels is None:
        if n < 2:
            raise DataError("1 row is too few: at least 2 are needed")
        return [torch.arange(n)]
    number = codes(labels, "labels")
    if len(number) != n:
        raise DataError(f"there are {n} rows and {len(number)} labels: they must belong together row by row")
    counts = np.bincount(number)
    if counts.min() < 2:
        raise DataError(f"{int((counts < 2).sum())} classes have one row only: at least 2 of each are needed")
    return [torch.from_numpy(np.flatnonzero(number == label)) for label in range(len(counts))]


def _terms(mean: Tensor, std: Tensor, z: Tensor, form: Form) -> tuple[Tensor, Tensor]:
    """Each row's term, and what it adds as a reference of the others (for the standard error)."""
    terms, weight = [], torch.zeros(len(mean), dtype=torch.float64)
    for own, table in _tables(mean, std, z):
        others = _against(table, form)
        terms.append(own - others)
        weight += ((table - others[:, None]).exp() if form == "mc" else table).sum(dim=0)
    return torch.cat(terms), weight / len(mean)


def _against(table: Tensor, form: Form) -> Tensor:
    if form == "mc":
        return torch.logsumexp(table, dim=1) - math.log(table.shape[1])
    return table.mean(dim=1)


def _tables(mean: Tensor, std: Tensor, z: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of rows: L_ii of shape (rows,) and L_ij of shape (rows, n)."""
    n, d = mean.shape
    shared = std.ndim < 2
    step = max(1, _BLOCK // (n if shared else n * d))
    volume = std.log().expand(d).sum() if shared else std.log().sum(dim=1)
    for start in range(0, n, step):
        part = z[start : start + step]
        if shared:
            # Not by products: their rounding would show where deviations are small.
            squares = torch.cdist(part / std, mean / std, compute_mode="donot_use_mm_for_euclid_dist") ** 2
        else:
            squares = (((part[:, None] - mean) / std) ** 2).sum(dim=2)
        table = -0.5 * squares - volume - 0.5 * d * _LOG_2PI
        rows = torch.arange(len(part), device=table.device)
        yield table[rows, rows + start], table


def _deviations(std: Samples | float, mean: Tensor) -> Tensor:
    # Not as_tensor of a number, which would have single precision.
    width = std.detach().cpu().double() if isinstance(std, Tensor) else torch.from_numpy(np.array(std, np.float64))
    if width.shape not in ((), mean.shape[1:], mean.shape):
        raise DataError(
            f"std has the shape {tuple(width.shape)}, expected a number, {tuple(mean.shape[1:])} or {tuple(mean.shape)}"
        )
    if not (torch.isfinite(width).all() and (width > 0).all()):
        raise DataError(f"std must be finite and above 0, the least is {float(width.min()):g}")
    return width
