"""MMCR beside lightly's: the same values in what time; and beside what other losses of learning without labels cost.

    pip install --no-deps lightly==1.6.0; python benchmarks/mmcr.py     writes mmcr.json

(a) lightly's MMCRLoss and narrows' MMCRMomentumLoss take the embeddings of a network and of its slow copy. lightly's
does not normalise them, so it gets them normalised, and its local term is off (lmda = 0; it is computed all the same).
(b) A step of each loss for equally many embeddings, B images in K views: MMCR (singular values of B x D), lightly's
Barlow Twins (D x D) and InfoNCE (BK x BK), both of BK / 2 images in two views.

The package's own `__init__` files need torchvision, these losses do not: they are imported without them. Its InfoNCE
does, so that one is written out here. A step goes
forward and backward, in one thread; methods take turns in this one process. Times are medians over turns in
milliseconds; quote the ratios, medians of the two times in one turn, and on a busy machine those of processor time.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from narrows.core.files import write_json
from narrows.core.record import environment
from narrows.core.seeds import generator
from narrows.information import MMCRLoss, MMCRMomentumLoss

SIZES = {
    "digits, papers/25-mmcr": (64, 8, 32),
    "CIFAR recipe": (32, 40, 128),
    "256 images": (256, 4, 256),
    "ImageNet recipe": (2048, 2, 512),
}
TURNS = 9
Loss = Callable[..., Tensor]
Step = Callable[[], Tensor]  # the loss of some embeddings


def main() -> None:
    """Measure every size and write the record."""
    torch.set_num_threads(1)
    result: dict[str, Any] = {"environment": environment(), "turns": TURNS, "sizes (B, K, D)": SIZES}
    losses = peers()
    for name, size in SIZES.items():
        result[name] = same_loss(size, losses["MMCR"]) | {"losses": other_losses(size, losses)}
        print(name, result[name], flush=True)
        write_json(Path(__file__).with_suffix(".json"), result)


def same_loss(size: tuple[int, int, int], peer: Loss) -> dict[str, Any]:
    """Values, gradients and times of both MMCR losses."""
    z, slow = embeddings(*size)
    loss = MMCRMomentumLoss(size[1])

    def ours() -> Tensor:
        return loss(z, slow)

    def theirs() -> Tensor:
        return peer(normalize(z, dim=-1), normalize(slow, dim=-1))

    values = float(ours().detach()), float(theirs().detach())
    return {
        "values": {"narrows": values[0], "lightly": values[1]},
        "relative difference": abs(values[0] - values[1]) / abs(values[1]),
        "relative difference of gradients": gradients_apart(ours, theirs, z),
        "MMCR": beside({"narrows": ours, "lightly": theirs}, z, "narrows"),
    }


def other_losses(size: tuple[int, int, int], losses: Mapping[str, Loss]) -> dict[str, Any]:
    """Times of three losses of equally many embeddings."""
    images, views, width = size
    z = embeddings(images, views, width)[0].detach().requires_grad_()
    mmcr = MMCRLoss(views)

    def of_pairs(name: str) -> Step:
        return lambda: losses[name](*z.reshape(-1, 2, width).unbind(dim=1))

    steps = {"MMCR": lambda: mmcr(z), **{name: of_pairs(name) for name in ("Barlow Twins", "InfoNCE")}}
    return beside(steps, z, "MMCR")


def embeddings(images: int, views: int, width: int) -> tuple[Tensor, Tensor]:
    """Views scattered around a centre for each image, with gradient, and as many of a slow copy, without."""
    dice = generator(0, "embeddings", images, views, width)
    centre = torch.randn(images, 1, width, generator=dice)
    z, slow = (centre + 0.5 * torch.randn(images, views, width, generator=dice) for _ in range(2))
    return z.requires_grad_(), slow


def peers() -> Mapping[str, Loss]:
    """The losses that are compared with."""
    found = importlib.util.find_spec("lightly")
    if found is None or found.submodule_search_locations is None:
        sys.exit("lightly is missing: pip install --no-deps lightly==1.6.0")
    root = Path(next(iter(found.submodule_search_locations)))
    for name in ("lightly", "lightly.loss", "lightly.utils"):
        package = sys.modules.setdefault(name, ModuleType(name))
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
    return {
        "MMCR": import_module("lightly.loss.mmcr_loss").MMCRLoss(lmda=0.0),
        "Barlow Twins": import_module("lightly.loss.barlow_twins_loss").BarlowTwinsLoss(),
        "InfoNCE": info_nce,
    }


def info_nce(a: Tensor, b: Tensor, temperature: float = 0.2) -> Tensor:
    """Each row of both views finds its other view among all other rows."""
    z = normalize(torch.cat([a, b]), dim=1)
    scores = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    return cross_entropy(scores, torch.arange(len(z)).roll(len(a)))


def gradients_apart(ours: Step, theirs: Step, z: Tensor) -> float:
    """How far the gradients in z are apart, as a share of the length of theirs."""
    a, b = (torch.autograd.grad(step(), z)[0] for step in (ours, theirs))
    return float((a - b).norm() / b.norm())


def beside(steps: Mapping[str, Step], z: Tensor, first: str) -> dict[str, Any]:
    """Milliseconds of every step, forward and backward, and how many times those of `first` the others take."""
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn in range(TURNS + 1):
        for name, step in steps.items():
            spent = timed(step, z)
            if turn:  # the first is for warming up
                turns[name].append(spent)
    record: dict[str, Any] = {}
    for k, clock in enumerate(("", "processor ")):
        record[f"{clock}ms"] = {name: statistics.median(t[k] for t in own) for name, own in turns.items()}
        record[f"{clock}ratios to {first}"] = {
            name: statistics.median(b[k] / a[k] for a, b in zip(turns[first], own, strict=True))
            for name, own in turns.items()
            if name != first
        }
    return record


def timed(step: Step, z: Tensor) -> tuple[float, float]:
    """Milliseconds of one step by the clock and of the processor: as many steps as take some 50 ms, divided by them."""
    count, start, busy = 0, time.perf_counter(), time.process_time()
    while count == 0 or time.perf_counter() - start < 0.05:
        z.grad = None
        step().backward()
        count += 1
    return 1e3 * (time.perf_counter() - start) / count, 1e3 * (time.process_time() - busy) / count


if __name__ == "__main__":
    main()
