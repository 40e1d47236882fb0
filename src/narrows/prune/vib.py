"""The gate of the variational information bottleneck.

Bin Dai, Chen Zhu, Baining Guo, David Wipf, "Compressing Neural Networks using the Variational Information
Bottleneck", 2018, arXiv:1802.10399.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import TrainingError

register_reference(
    Reference(
        "arXiv:1802.10399",
        "Compressing Neural Networks using the Variational Information Bottleneck",
        ("Bin Dai", "Chen Zhu", "Baining Guo", "David Wipf"),
        2018,
    )
)

_EPSILON = 1e-8  # added to mu^2 inside the logarithm
_MAX_LOG_VAR = 20.0  # beyond it a larger standard deviation only says "off" again
_JITTER = 0.01
_LEVELS = 1 << 16


@cites("arXiv:1802.10399")
class VIBGate(nn.Module):
    """n units, each multiplied by z ~ N(mu, sigma^2) in training and by mu or 0 in evaluation.

    `log_var` is s = ln sigma^2. A number is where all units start, with a jitter of 0.01; a tensor (n,) is
    taken exactly. `noise` scales the noise alone. A unit that is off gives exactly 0 but has the gradient
    that it would have if it were on, so that it can come back; with `soft` it passes in training. The best
    `floor` units are always on. All in float32, whatever the model computes in. Raises `TrainingError` for
    values of another shape.
    """

    def __init__(
        self,
        n: int,
        *,
        mu: Tensor | float = 1.0,
        log_var: Tensor | float = -9.0,
        noise: float = 1.0,
        soft: bool = False,
        floor: int = 0,
    ) -> None:
        super().__init__()
        self.mu = nn.Parameter(_start(n, mu))
        self.log_var = nn.Parameter(_start(n, log_var))
        self.noise, self.soft, self.floor = noise, soft, min(floor, n)

    def log_alpha(self) -> Tensor:
        """ln(mu^2 / sigma^2), (n,)."""
        return _log_alpha(self.mu, self.log_var)

    def kl(self, *, through_mu: bool = True) -> Tensor:
        """1/2 ln(1 + mu^2 / sigma^2), nats, (n,); without `through_mu` it gives mu no gradient."""
        return F.softplus(_log_alpha(self.mu if through_mu else self.mu.detach(), self.log_var)) / 2

    @torch.no_grad()
    def kept(self) -> Tensor:
        """Which units are on: ln alpha > 0, bool (n,)."""
        log_alpha = self.log_alpha()
        on = log_alpha > 0
        if self.floor:
            on |= log_alpha >= log_alpha.topk(self.floor).values[-1]
        return on

    def factor(self, lead: torch.Size, dtype: torch.dtype) -> Tensor:
        """What the units are multiplied by: z of shape `lead` + (n,) in training, else mu · 1[on], (n,)."""
        kept = self.kept()
        if not self.training:
            return (self.mu.float() * kept).to(dtype)
        if self.soft:
            kept = torch.ones_like(kept)
        eps = normal(torch.Size((*lead, len(kept))), kept.device) if self.noise else None
        z = _Sampled.apply(self.mu, self.log_var, kept, eps, self.noise)  # type: ignore[no-untyped-call]
        return cast(Tensor, z).to(dtype)

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"{len(self.mu)}, noise={self.noise}, soft={self.soft}, floor={self.floor}"


def _start(n: int, value: Tensor | float) -> Tensor:
    if not isinstance(value, Tensor):
        return value + _JITTER * torch.randn(n)
    if value.shape != (n,):
        raise TrainingError(f"a gate of {n} units needs values of shape ({n},), got {tuple(value.shape)}")
    return value.detach().clone().float()


def _log_alpha(mu: Tensor, log_var: Tensor) -> Tensor:
    return (mu.float().square() + _EPSILON).log() - log_var.float()


class _Sampled(torch.autograd.Function):
    """mu + noise · sigma · eps where kept and 0 elsewhere, with the gradient as if all were kept."""

    @staticmethod
    def forward(ctx: Any, mu: Tensor, log_var: Tensor, kept: Tensor, eps: Tensor | None, noise: float) -> Tensor:
        mean = mu.float() * kept
        if eps is None:
            return mean
        sigma = noise * (log_var.float().clamp(max=_MAX_LOG_VAR) / 2).exp()
        ctx.save_for_backward(eps, sigma)
        return torch.addcmul(mean, sigma * kept, eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        grad = grads[0].float()
        lead = tuple(range(grad.ndim - 1))
        to_mu = to_log_var = None
        if ctx.needs_input_grad[0]:
            to_mu = grad.sum(lead) if lead else grad
        if ctx.needs_input_grad[1] and ctx.saved_tensors:
            eps, sigma = ctx.saved_tensors
            to_log_var = (grad * eps).sum(lead) * sigma / 2
        return to_mu, to_log_var, None, None, None


def normal(shape: torch.Size, device: torch.device) -> Tensor:
    """Standard normal noise, float32, from torch's global random numbers.

    On a CPU these are the 65,536 quantiles of the normal distribution at random, in a third of the time of
    `torch.randn`: noise is most of what a gate costs.
    """
    if device.type != "cpu":
        return torch.randn(shape, device=device)
    count = shape.numel()
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    index = words.view(torch.int16)[:count].to(torch.int32).add_(_LEVELS // 2)
    return _quantiles().index_select(0, index).view(shape)


@lru_cache(maxsize=1)
def _quantiles() -> Tensor:
    levels: Tensor = torch.special.ndtri((torch.arange(_LEVELS, dtype=torch.float64) + 0.5) / _LEVELS)
    return (levels / levels.square().mean().sqrt()).float()
