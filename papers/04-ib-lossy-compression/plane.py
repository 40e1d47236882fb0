"""A noisy network that learns handwritten digits, measured while it learns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from narrows.core.seeds import derive, generator
from narrows.information import GaussianNoise, infonce, noisy_layer_information

LAYERS = {"L1": "3", "L2": "6", "L3": "8"}  # after each layer and its noise; L3 are the logits
CODES = (2, 4, 8)
NOISE = 0.1


def digits() -> tuple[Tensor, Tensor]:
    """The 1,797 digits of scikit-learn, pixels from 0 to 1, and their labels."""
    x, y = load_digits(return_X_y=True)
    return torch.from_numpy(x / 16).float(), torch.from_numpy(y).long()


def network(seed: int) -> nn.Sequential:
    """64-32-16-10 with LeakyReLU, and additive noise before every layer and on the logits."""
    noise = generator(seed, "noise")

    def noisy() -> GaussianNoise:
        return GaussianNoise(NOISE, relative=False, generator=noise)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "network"))
        return nn.Sequential(
            noisy(), nn.Linear(64, 32), nn.LeakyReLU(),
            noisy(), nn.Linear(32, 16), nn.LeakyReLU(),
            noisy(), nn.Linear(16, 10),
            noisy(),
        )  # fmt: skip


def trained(model: nn.Module, x: Tensor, y: Tensor, epochs: int, seed: int) -> Iterator[int]:
    """Train by Adam at 1e-3 on batches of 64; yields each epoch when it is over, 0 before the first."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    dice = generator(seed, "order")
    yield 0
    for epoch in range(1, epochs + 1):
        model.train()
        for rows in torch.randperm(len(x), generator=dice).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        yield epoch


def plane(seed: int, epochs: list[int], critic: list[int], rows: int | None) -> list[dict[str, Any]]:
    """What each layer tells of the digits and of their labels, at `epochs`; by InfoNCE as well at those of `critic`."""
    x, y = (side[:rows] for side in digits())
    model = network(seed)
    points = []
    for epoch in trained(model, x, y, max(epochs), seed):
        if epoch in epochs:
            points.append({"epoch": epoch, **_measured(model, x, y, seed, by_critic=epoch in critic)})
    return points


def _measured(model: nn.Module, x: Tensor, y: Tensor, seed: int, *, by_critic: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"accuracy": _accuracy(model, x, y)}
    names = list(LAYERS.values())
    for code in CODES:
        of = noisy_layer_information(model, x, y, layers=names, x_code=code, y_code=code)
        for layer, name in LAYERS.items():
            label = of[name].label
            found[f"I(X;{layer}) code {code}"] = of[name].input.value
            found[f"I({layer};Y) code {code}"] = None if label is None else label.value
    raw = noisy_layer_information(model, x, y, layers=names, x_code=None, y_code=None, by="ksg")
    for layer, name in LAYERS.items():
        label = raw[name].label
        found[f"I(X;{layer}) raw ksg"] = raw[name].input.value
        found[f"I({layer};Y) raw ksg"] = None if label is None else label.value
    if by_critic:
        outputs = _outputs(model, x)
        for layer in ("L1", "L3"):
            found[f"I(X;{layer}) infonce"] = infonce(x, outputs[LAYERS[layer]], seed=seed).value
    return found


@torch.no_grad()
def _accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    model.eval()
    return float((model(x).argmax(dim=1) == y).float().mean())


@torch.no_grad()
def _outputs(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    model.eval()
    found = {}
    for name, part in model.named_children():
        x = part(x)
        found[name] = x
    return found
