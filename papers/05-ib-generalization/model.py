"""A classifier with a Gaussian code: mean and deviation from two separate networks, a linear classifier on top."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from narrows.core.seeds import derive, generator


class StochasticClassifier(nn.Module):
    """d - W - W - W/2 - code W/2, ReLU between, twice (mean and deviation); code to classes linear."""

    def __init__(self, d: int, width: int, classes: int) -> None:
        super().__init__()
        sizes = (d, width, width, width // 2, width // 2)
        self.mean, self.deviation = _stack(sizes), _stack(sizes)
        self.head = nn.Linear(sizes[-1], classes)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(x), nn.functional.softplus(self.deviation(x)).clamp(min=1e-10)

    def forward(self, x: Tensor, dice: torch.Generator) -> Tensor:
        """Logits for one draw of the code."""
        mean, std = self.encode(x)
        return self.head(mean + std * torch.randn(mean.shape, generator=dice))

    def encoder_parameters(self) -> list[str]:
        return [name for name, _ in self.named_parameters() if not name.startswith("head")]


def _stack(sizes: tuple[int, ...]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for a, b in pairwise(sizes):
        parts += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def trained(
    x: Tensor, y: Tensor, *, width: int, classes: int, decay: float, steps: int, seed: int, each: Callable[..., None]
) -> StochasticClassifier:
    """SGD (rate 0.01, momentum 0.9, batch 64); `each(model, step)` is called after every pass over the rows."""
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, "init"))
        model = StochasticClassifier(x.shape[1], width, classes)
    optimiser = torch.optim.SGD(model.parameters(), 1e-2, momentum=0.9, weight_decay=decay)
    dice = generator(seed, "training")
    step = 0
    while step < steps:
        for part in torch.randperm(len(x), generator=dice).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[part], dice), y[part]).backward()
            optimiser.step()
            step += 1
            if step == steps:
                break
        each(model, step)
    return model
