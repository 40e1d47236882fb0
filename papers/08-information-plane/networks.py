"""Many small networks of one shape, trained side by side and kept at chosen epochs; papers 07 and 08 use it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from narrows.core.seeds import generator

HIDDEN: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "elu": F.elu,
    "softplus": F.softplus,
}
TRAIN_SHARE = 0.8


@dataclass(frozen=True)
class Recipe:
    """How the networks are built and trained; `kept` are the epochs after which their weights are kept."""

    widths: tuple[int, ...]
    activation: str
    epochs: int
    batch: int
    kept: tuple[int, ...]
    rate: float = 4e-4


@dataclass(frozen=True)
class Trained:
    """Weights (kept, networks, in, out) and biases (kept, networks, 1, out) of each layer, and final accuracies.

    `drift` and `diffusion` (kept, networks, layers) are the norms of the mean and of the standard deviation, over the
    batches of a kept epoch, of the gradients of a layer's weights.
    """

    recipe: Recipe
    weights: list[Tensor]
    biases: list[Tensor]
    train_accuracy: Tensor
    test_accuracy: Tensor
    drift: Tensor
    diffusion: Tensor

    def layers(self, network: int, mark: int, x: Tensor) -> list[Tensor]:
        """The activations of all layers in float64, the last one the softmax."""
        h = x.double()
        found = []
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = h @ w[mark, network].double() + b[mark, network].double()
            h = h.softmax(1) if i == len(self.weights) - 1 else HIDDEN[self.recipe.activation](h)
            found.append(h)
        return found


def log_spaced(epochs: int, count: int) -> tuple[int, ...]:
    """About `count` different epochs from 1 to `epochs`, evenly on a log scale."""
    return tuple(int(e) for e in np.unique(np.round(np.geomspace(1, epochs, count))))


def trained(
    recipe: Recipe, seeds: Sequence[int], penalties: Sequence[float], x: Tensor, y: Tensor, work: Path
) -> Trained:
    """One network for each seed and L2 penalty (paired lists), trained once and kept in the work folder."""
    settings = repr((asdict(recipe), tuple(seeds), tuple(penalties), TRAIN_SHARE)).encode()
    key = settings + x.numpy().tobytes() + y.numpy().tobytes()
    file = work / f"{recipe.activation}-{blake2b(key, digest_size=8).hexdigest()}.safetensors"
    if not file.exists():
        temporary = file.with_suffix(".part")
        save_file(_train(recipe, seeds, penalties, x, y), temporary)
        temporary.replace(file)
    found = load_file(file)
    count = len(recipe.widths) - 1
    return Trained(
        recipe,
        [found[f"w{i}"] for i in range(count)],
        [found[f"b{i}"] for i in range(count)],
        found["train"],
        found["test"],
        found["drift"],
        found["diffusion"],
    )


def _train(recipe: Recipe, seeds: Sequence[int], penalties: Sequence[float], x: Tensor, y: Tensor) -> dict[str, Tensor]:
    shapes = zip(recipe.widths, recipe.widths[1:], strict=False)
    weights = [_initial(seeds, i, *shape) for i, shape in enumerate(shapes)]
    biases = [torch.zeros(len(seeds), 1, w.shape[2], requires_grad=True) for w in weights]
    penalty = torch.tensor(penalties)[:, None, None] / 2
    adam = torch.optim.Adam([*weights, *biases], lr=recipe.rate, fused=True)
    orders = [torch.randperm(len(x), generator=generator(seed, "split")) for seed in seeds]
    train = [order[: round(TRAIN_SHARE * len(x))] for order in orders]
    test = torch.stack([order[round(TRAIN_SHARE * len(x)) :] for order in orders])
    dice = [generator(seed, "order") for seed in seeds]
    names = [f"{kind}{i}" for kind in "wb" for i in range(len(weights))]
    kept: dict[str, list[Tensor]] = {name: [] for name in (*names, "drift", "diffusion")}
    for epoch in range(1, recipe.epochs + 1):
        gradients: list[list[Tensor]] = []
        order = torch.stack([t[torch.randperm(len(t), generator=g)] for t, g in zip(train, dice, strict=True)])
        for rows in order.split(recipe.batch, dim=1):
            logits = _forward(recipe, weights, biases, x[rows])
            loss = F.cross_entropy(logits.flatten(0, 1), y[rows].flatten(), reduction="sum") / rows.shape[1]
            if any(penalties):
                loss = loss + sum((penalty * w.square()).sum() for w in weights[:-1])
            adam.zero_grad()
            loss.backward()
            if epoch in recipe.kept:
                gradients.append([w.grad.clone() for w in weights if w.grad is not None])
            adam.step()
        if epoch in recipe.kept:
            for kind, tensors in (("w", weights), ("b", biases)):
                for i, tensor in enumerate(tensors):
                    kept[f"{kind}{i}"].append(tensor.detach().clone())
            by_layer = [torch.stack(batches) for batches in zip(*gradients, strict=True)]
            kept["drift"].append(torch.stack([g.mean(0).flatten(1).norm(dim=1) for g in by_layer], dim=1))
            kept["diffusion"].append(torch.stack([g.std(0).flatten(1).norm(dim=1) for g in by_layer], dim=1))
    found = {name: torch.stack(tensors) for name, tensors in kept.items()}
    for name, rows in (("train", torch.stack(train)), ("test", test)):
        with torch.no_grad():
            right = _forward(recipe, weights, biases, x[rows]).argmax(-1) == y[rows]
        found[name] = right.float().mean(1)
    return found


def _forward(recipe: Recipe, weights: Sequence[Tensor], biases: Sequence[Tensor], h: Tensor) -> Tensor:
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        h = torch.baddbmm(b, h, w)
        if i < len(weights) - 1:
            h = HIDDEN[recipe.activation](h)
    return h


def _initial(seeds: Sequence[int], layer: int, fan_in: int, fan_out: int) -> Tensor:
    """Normal weights of deviation 1/sqrt(fan_in), cut at two deviations, each network's from its own seed."""
    inside = math.erf(math.sqrt(2))
    drawn = [torch.rand(fan_in, fan_out, generator=generator(seed, "weights", layer)) for seed in seeds]
    normal = math.sqrt(2) * torch.erfinv(inside * (2 * torch.stack(drawn) - 1))
    return (normal / math.sqrt(fan_in)).requires_grad_()
