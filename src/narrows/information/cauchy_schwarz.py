"""Quadratic mutual information of Cauchy and Schwarz, from kernels.

Principe, "Information Theoretic Learning" (2010); used to train networks by Yu et al., "Cauchy-Schwarz divergence
information bottleneck for regression" (2024, arXiv:2404.17951). The angle between the joint density and the product of
the marginal ones, both smoothed by Gaussian kernels exp(-d^2 / (2 s^2)): with the kernel matrices K of x and Q of y

    I = ln(tr(KQ) / n^2) + ln(1'K1 1'Q1 / n^4) - 2 ln(1'KQ1 / n^3)  >=  0.

It is 0 for independent sides (up to a positive bias of finite samples) and needs no density ratio. It is NOT mutual
information, and its size depends on the two bandwidths.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.core.seeds import derive
from narrows.information.estimate import Estimate
from narrows.information.inputs import Real, Samples, column_cautions, pair, refuse_labels, standardised

CAUCHY_SCHWARZ = register_reference(
    Reference(
        "arXiv:2404.17951",
        "Cauchy-Schwarz divergence information bottleneck for regression",
        ("Shujian Yu", "Xi Yu", "Sigurd Løkse", "Robert Jenssen", "Jose C. Principe"),
        2024,
        "International Conference on Learning Representations",
    )
)

_BLOCK = 5_000_000  # kernel entries held at once
_MEDIAN = 2000  # rows whose distances give the bandwidth


@cites(CAUCHY_SCHWARZ.key)
def cs_qmi(
    x: Samples,
    y: Samples,
    *,
    bandwidth_x: float | None = None,
    bandwidth_y: float | None = None,
    standardise: bool = True,
) -> Estimate:
    """Cauchy-Schwarz quadratic mutual information in nats of x (n, dx) and y (n, dy): a dependence measure, not MI.

    A bandwidth that is None is the median distance of the rows of its side (of 2,000 of them at most). Columns are
    brought to unit deviation first unless `standardise` is False. The standard error is over rows. Raises DataError for
    labels and bandwidths that are not positive. Source: Yu et al. 2024, proposition 2.
    """
    a, b = pair(x, y)
    refuse_labels("cs_qmi", x=x, y=y)
    cautions = column_cautions(x=a, y=b)
    if standardise:
        a, b = standardised(a), standardised(b)
    n = len(a)
    widths = [_bandwidth(side, width) for side, width in ((a, bandwidth_x), (b, bandwidth_y))]
    tensors = [torch.from_numpy(side / width) for side, width in zip((a, b), widths, strict=True)]
    both, k, q = (torch.empty(n, dtype=torch.float64) for _ in range(3))
    for rows, gram_k, gram_q in _grams(*tensors):
        both[rows], k[rows], q[rows] = (gram_k * gram_q).mean(dim=1), gram_k.mean(dim=1), gram_q.mean(dim=1)
    joint, cross = both.mean(), (k * q).mean()
    value = joint.log() + k.mean().log() + q.mean().log() - 2 * cross.log()
    mixed = k * q
    for rows, gram_k, gram_q in _grams(*tensors):
        mixed[rows] += (gram_k @ q + gram_q @ k) / n
    influence = 2 * (both / joint + k / k.mean() + q / q.mean() - mixed / cross)
    return Estimate(
        float(value),
        "cs_qmi",
        n,
        (a.shape[1], b.shape[1]),
        standard_error=float(influence.std()) / math.sqrt(n),
        cautions=cautions,
        details={"bandwidths": widths},
    )


def _bandwidth(side: Real, given: float | None) -> float:
    if given is not None:
        if not (math.isfinite(given) and given > 0):
            raise DataError(f"a bandwidth must be positive, got {given}")
        return float(given)
    if len(side) > _MEDIAN:
        side = np.random.default_rng(derive(0, "bandwidth")).choice(side, _MEDIAN, replace=False)
    median = float(torch.pdist(torch.from_numpy(side)).median())
    return median if median > 0 else 1.0


def _grams(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    rows = max(1, _BLOCK // len(x))
    for start in range(0, len(x), rows):
        part = slice(start, min(start + rows, len(x)))
        yield part, _gram(x[part], x), _gram(y[part], y)


def _gram(x: Tensor, z: Tensor) -> Tensor:
    """Kernel values of the rows of x and z, both in units of the bandwidth."""
    return torch.cdist(x, z, compute_mode="donot_use_mm_for_euclid_dist").square_().mul_(-0.5).exp_()
