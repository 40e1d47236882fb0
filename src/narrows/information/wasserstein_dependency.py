"""The Wasserstein dependency measure, and the objective that learns representations by it.

Ozair, Lynch, Bengio, van den Oord, Levine and Sermanet, "Wasserstein dependency measure for representation learning"
(2019): dependence is how far the joint law must be moved to become the product of its sides,

    I_W(X; Y) = W_1(p(x, y), p(x) p(y)) = sup { E_joint f - E_product f : |f(u) - f(v)| <= |u - v| }.

Unlike mutual information it is finite for sides that determine each other, it has the unit of the data, and a critic
needs no number of samples exponential in it. `WPCLoss` (Wasserstein predictive coding) is the contrastive objective
with the critic's slope held at 1 by a gradient penalty on its inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError, ModelError
from narrows.core.seeds import generator
from narrows.information.estimate import Caution, Estimate
from narrows.information.inputs import Real, Samples, column_cautions, pair, refuse_labels, standardised
from narrows.information.joint_to_product import LINES, Metric, along_lines, costs_of, transport

WASSERSTEIN = register_reference(
    Reference(
        "arXiv:1903.11780",
        "Wasserstein dependency measure for representation learning",
        ("Sherjil Ozair", "Corey Lynch", "Yoshua Bengio", "Aaron van den Oord", "Sergey Levine", "Pierre Sermanet"),
        2019,
        "Advances in Neural Information Processing Systems",
    )
)
SORTING = register_reference(
    Reference(
        "arXiv:1811.05381",
        "Sorting out Lipschitz function approximation",
        ("Cem Anil", "James Lucas", "Roger Grosse"),
        2019,
        "International Conference on Machine Learning",
    )
)

_LEAST = 8
_FEW = 50
_WIDTH = 16
_BATCH = 256
_SHIFTS = 2  # product pairs per row of a batch
_HELD_OUT = 32  # product pairs per row when a critic is judged
_RATE = 2e-2
_STARTS = 4


@cites(WASSERSTEIN.key, SORTING.key, LINES.key)
def wasserstein_dependency(
    x: Samples,
    y: Samples,
    *,
    method: Literal["critic", "exact", "sliced"] = "critic",
    metric: Metric = "euclidean",
    standardise: bool = True,
    steps: int = 100,
    slices: int = 64,
    seed: int = 0,
) -> Estimate:
    """The distance W_1 between the joint law of x (n, dx) and y (n, dy) and the product of its sides.

    It has the unit of the distances: standard deviations of the columns, unless `standardise` is off. "critic" trains
    a network whose slope cannot exceed 1 (orthonormal layers, sorted pairs; Anil et al. 2019) on half of the rows for
    `steps` and judges it on the other half, both ways: a lower bound, but for its standard error, that may be negative
    where there is nothing. "exact" is the distance between the sample's own two laws, by optimal transport, for at
    most 80 rows; it is too high even for independent sides (about 0.3 for 40 rows of two normal columns). "sliced" is
    the mean of that distance on `slices` (an even number) random lines, for any number of rows: never above "exact",
    and further below it the more columns there are, but for independent sides it is too high still, by something of
    order n^(-1/2) whatever the number of columns. `metric` is between rows of both sides together: "euclidean", or for
    "exact" also "cityblock", or a function d(u, v) whose values for the two sides are added. Raises DataError for
    labels, for too few rows (8 for the critic), and for "exact" with more than 80.
    """
    a, b = pair(x, y, _LEAST if method == "critic" else 2)
    refuse_labels("wasserstein_dependency", x=x, y=y)
    cautions = [c for c in column_cautions(x=a, y=b) if c.trouble != "ties"]
    if standardise:
        a, b = standardised(a), standardised(b)
    details: dict[str, object] = {"method": method, "standardised": standardise}
    error = None
    if method != "exact" and metric != "euclidean":
        raise DataError(f"{method!r} knows the euclidean metric only: take method='exact' for another one")
    if method == "exact":
        value = transport(costs_of(a, b, metric))
        cautions.append(Caution("few samples", f"{len(a)} rows alone: too high; compare with rows of y shuffled"))
    elif method == "sliced":
        distances, partners = along_lines(a, b, slices, seed)
        value = float(distances.mean())
        details |= {"slices": slices, "partners": partners, "largest slice": float(distances.max())}
        details |= {"standard error of slices": float(distances.std(ddof=1) / math.sqrt(slices))}
        cautions.append(_sliced_caution(len(a), partners))
    elif method == "critic":
        if steps < 1:
            raise DataError(f"a critic needs at least one step, got {steps}")
        value, error = _by_critic(a, b, steps, seed)
        details |= {"steps": steps}
        if len(a) < _FEW:
            cautions.append(Caution("few samples", f"{len(a)} rows train a poor critic: take at least {_FEW}"))
    else:
        raise DataError(f"the methods are 'critic', 'exact' and 'sliced', got {method!r}")
    return Estimate(
        value,
        "wasserstein_dependency",
        len(a),
        (a.shape[1], b.shape[1]),
        standard_error=error,
        kind="lower" if method == "critic" else "point",
        unit="none",
        cautions=tuple(cautions),
        details=details,
    )


def lipschitz_penalty(critic: Callable[..., Tensor], *inputs: Tensor, one_sided: bool = True) -> Tensor:
    """How far the slope of `critic` is from 1 at each of n points: the mean of (|slope| - 1)^2, a scalar with gradient.

    `critic` takes the `inputs`, each (n, ...), to n values, one for each row; the slope is taken with respect to all of
    them together. `one_sided` counts only slopes above 1, which is what a Lipschitz constant forbids. Raises DataError
    for inputs without a slope, such as whole numbers or half precision.
    """
    for position, side in enumerate(inputs):
        if side.dtype not in (torch.float32, torch.float64):
            raise DataError(f"input {position} is {side.dtype}: a slope needs float32 or float64 (embed codes first)")
    points = [side.detach().requires_grad_() for side in inputs]
    values = critic(*points)
    if values.shape != (len(inputs[0]),):
        raise DataError(f"the critic gave the shape {tuple(values.shape)} for {len(inputs[0])} rows, expected one each")
    slopes = torch.autograd.grad(values.sum(), points, create_graph=True, materialize_grads=True)
    norm = torch.linalg.vector_norm(torch.cat([s.flatten(1) for s in slopes], dim=1), dim=1)
    excess = (norm - 1).clamp_min(0) if one_sided else norm - 1
    penalty: Tensor = excess.square().mean()
    return penalty


@cites(WASSERSTEIN.key)
class WPCLoss(nn.Module):
    """The objective of Wasserstein predictive coding: InfoNCE whose critic has a slope of at most 1.

    The critic is f(x, y) = g(x)^T W h(y) on inputs multiplied by `metric_scale`, the only choice that the metric
    leaves. loss = cross entropy of the scores of a batch against its diagonal + `lambda_gp` * penalty, at points (x, a
    y + (1 - a) y') with y' from another pair of the batch and a uniform. `one_sided`: see `lipschitz_penalty`; both
    sides are penalised in WGAN-GP, where the penalty comes from. `symmetric` takes the mean of both directions of the
    cross entropy. In evaluation mode there is no penalty.
    """

    def __init__(
        self,
        lambda_gp: float = 10.0,
        *,
        one_sided: bool = True,
        metric_scale: float = 1.0,
        symmetric: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if lambda_gp < 0 or metric_scale <= 0:
            raise DataError(f"lambda_gp must be >= 0 and metric_scale > 0, got {lambda_gp} and {metric_scale}")
        self.lambda_gp, self.one_sided = lambda_gp, one_sided
        self.metric_scale, self.symmetric = metric_scale, symmetric
        self._dice = generator(seed, "wasserstein predictive coding")

    def forward(self, g: nn.Module, h: nn.Module, W: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch x (B, ...), y (B, ...), and its parts: "information" (InfoNCE, at most ln B), "penalty".

        Raises DataError for B < 2 or different lengths, ModelError for encoders that mix the rows of a batch.
        """
        if len(x) != len(y) or len(x) < 2:
            raise DataError(f"x has {len(x)} rows and y has {len(y)}: a batch needs two or more pairs")
        _refuse_mixing(g, h)
        x, y = x * self.metric_scale, y * self.metric_scale
        scores = g(x) @ W @ h(y).mT
        target = torch.arange(len(x), device=scores.device)
        loss = F.cross_entropy(scores, target)
        if self.symmetric:
            loss = (loss + F.cross_entropy(scores.mT, target)) / 2
        logs = {"information": math.log(len(x)) - float(loss.detach()), "penalty": 0.0}
        if not (self.training and self.lambda_gp):
            return loss, logs
        shift = int(torch.randint(1, len(y), (), generator=self._dice))
        share = torch.rand(len(y), generator=self._dice).to(y).reshape(-1, *[1] * (y.ndim - 1))
        between = share * y + (1 - share) * y.roll(shift, dims=0)
        penalty = lipschitz_penalty(lambda u, v: ((g(u) @ W) * h(v)).sum(dim=-1), x, between, one_sided=self.one_sided)
        return loss + self.lambda_gp * penalty, logs | {"penalty": float(penalty.detach())}


def _sliced_caution(n: int, partners: int) -> Caution:
    of = f"{partners} of the {n} products of each row" if partners < n else "all products of the rows"
    return Caution(
        "few samples",
        f"the sample's own distance, to {of}: too high; compare with rows of y shuffled. The mean over lines is below "
        "W_1, the more so the more columns there are",
    )


def _refuse_mixing(*encoders: nn.Module) -> None:
    for encoder in encoders:
        for name, module in encoder.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
                raise ModelError(
                    f"the encoder's layer {name or type(module).__name__} mixes the rows of a batch, so a row has no "
                    "slope of its own: take LayerNorm or GroupNorm instead"
                )


def _by_critic(x: Real, y: Real, steps: int, seed: int) -> tuple[float, float]:
    """The held-out value of critics trained on the other half of the rows, and its standard error."""
    dice = generator(seed, "wasserstein dependency")
    order = torch.randperm(len(x), generator=dice)
    sides = torch.from_numpy(x)[order], torch.from_numpy(y)[order]
    terms = []
    for half in (0, 1):
        train, held_out = ([side[part::2] for side in sides] for part in (half, 1 - half))
        critics = _Critics(x.shape[1] + y.shape[1], dice)
        with torch.enable_grad():
            _train(critics, train, steps, dice)
        with torch.no_grad():
            best = int(_gaps(critics, train, _HELD_OUT, dice).mean(dim=1).argmax())
            terms.append(_gaps(critics, held_out, _HELD_OUT, dice)[best])
    gaps = torch.cat(terms)
    return float(gaps.mean()), float(gaps.std() / math.sqrt(len(gaps)))


def _train(critics: _Critics, sides: Sequence[Tensor], steps: int, dice: torch.Generator) -> None:
    with torch.no_grad():  # the sign of a critic is free
        first = [side[:_BATCH] for side in sides]
        critics.last[_gaps(critics, first, _SHIFTS, dice).mean(dim=1) < 0] *= -1
    optimiser = torch.optim.Adam(critics.parameters(), lr=_RATE)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    for _ in range(steps):
        chosen = torch.randperm(len(sides[0]), generator=dice)[:_BATCH]
        loss = -_gaps(critics, [side[chosen] for side in sides], _SHIFTS, dice).mean(dim=1).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()


def _gaps(critics: _Critics, sides: Sequence[Tensor], shifts: int, dice: torch.Generator) -> Tensor:
    """f(x_i, y_i) minus its mean over `shifts` other y, for each critic and row; shape (critics, n)."""
    x, y = sides
    chosen = (torch.randperm(len(x) - 1, generator=dice)[:shifts] + 1).tolist()
    others = torch.cat([y, *(y.roll(s, dims=0) for s in chosen)])
    values: Tensor = critics(torch.cat([x.repeat(len(chosen) + 1, 1), others], dim=1))
    values = values.reshape(len(values), len(chosen) + 1, len(x))
    return values[:, 0] - values[:, 1:].mean(dim=1)


class _Critics(nn.Module):
    """Networks of d inputs and one output, side by side, whose slope is at most 1: no layer lengthens a distance."""

    def __init__(self, d: int, dice: torch.Generator) -> None:
        super().__init__()
        sizes = ((_WIDTH, d), (_WIDTH, _WIDTH), (_WIDTH, _WIDTH))
        draws = [torch.randn(_STARTS, *size, generator=dice, dtype=torch.float64) for size in sizes]
        self.weights = nn.ParameterList([_orthonormal(draw) for draw in draws])
        self.shifts = nn.ParameterList([torch.zeros(_STARTS, 1, _WIDTH, dtype=torch.float64) for _ in sizes])
        self.last = nn.Parameter(torch.randn(_STARTS, _WIDTH, generator=dice, dtype=torch.float64) / math.sqrt(_WIDTH))

    def forward(self, points: Tensor) -> Tensor:
        """Values (critics, n) at points (n, d)."""
        for weight, shift in zip(self.weights, self.shifts, strict=True):
            first, second = (points @ _orthonormal(weight).mT + shift).chunk(2, dim=-1)
            points = torch.cat([torch.maximum(first, second), torch.minimum(first, second)], dim=-1)
        values: Tensor = (points @ F.normalize(self.last, dim=-1)[..., None])[..., 0]
        return values


def _orthonormal(weight: Tensor) -> Tensor:
    """The rows of wide matrices (..., o, i), or the columns of tall ones, made orthonormal."""
    tall = weight if weight.shape[-2] >= weight.shape[-1] else weight.mT
    found: Tensor = torch.linalg.qr(tall).Q
    return found if tall is weight else found.mT
