"""Images of Gaussian bumps whose mutual information is known, and the codes made of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy.special import ndtr
from sklearn.decomposition import PCA
from torch import nn

from narrows.core.seeds import derive, generator

Array = NDArray[np.float64]
Encoder = Callable[[Array], Array]

SIDE = 16
SHARP = 10.0  # a bump is exp(-SHARP * squared distance to its centre)
FITTED_ON = 4000  # images of uniform centres that codes are learned from


def pairs(n: int, nats: float, seed: int) -> tuple[Array, Array]:
    """Centres (n, 2) of the two images: normal pairs with `nats` in all, through the normal distribution function."""
    rho = math.sqrt(1 - math.exp(-nats))
    dice = np.random.default_rng(derive(seed, "centres"))
    x = dice.standard_normal((n, 2))
    y = rho * x + math.sqrt(1 - rho**2) * dice.standard_normal((n, 2))
    return ndtr(x), ndtr(y)


def images(centres: Array, noise: float, seed: int, name: str) -> Array:
    """Flattened images (n, 256) of bumps at `centres`, with pixel noise of deviation `noise`."""
    grid = np.linspace(0, 1, SIDE)
    along = np.exp(-SHARP * (grid - centres[:, :1]) ** 2)
    across = np.exp(-SHARP * (grid - centres[:, 1:]) ** 2)
    clean = (along[:, :, None] * across[:, None, :]).reshape(len(centres), -1)
    dice = np.random.default_rng(derive(seed, "pixels", name))
    return clean + noise * dice.standard_normal(clean.shape)


def encoders(noise: float, work: Path, steps: int) -> dict[str, Encoder | None]:
    """How the images are made smaller: components of 2 and 5 numbers, an autoencoder's 2, or not at all."""
    dice = np.random.default_rng(derive(0, "images to fit"))
    train = images(dice.uniform(size=(FITTED_ON, 2)), noise, 0, "to fit")
    network = autoencoder(train, work / f"autoencoder-{noise}-{steps}.safetensors", steps)

    @torch.no_grad()
    def encode(rows: Array) -> Array:
        return network[0](torch.from_numpy(rows).float()).double().numpy()

    return {"pca-2": PCA(2).fit(train).transform, "pca-5": PCA(5).fit(train).transform, "ae-2": encode, "raw": None}


def autoencoder(train: Array, file: Path, steps: int) -> nn.Sequential:
    """Encoder and decoder with a code of two numbers, trained on images alone, or read from `file`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(0, "autoencoder"))
        network = nn.Sequential(
            nn.Sequential(nn.Linear(SIDE**2, 128), nn.Tanh(), nn.Linear(128, 64), nn.Tanh(), nn.Linear(64, 2)),
            nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, SIDE**2)),
        )
    if file.exists():
        network.load_state_dict(load_file(file))
        return network
    rows = torch.from_numpy(train).float()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    dice = generator(0, "batches")
    for _ in range(steps):
        batch = rows[torch.randint(len(rows), (128,), generator=dice)]
        optimizer.zero_grad()
        nn.functional.mse_loss(network(batch), batch).backward()
        optimizer.step()
        schedule.step()
    save_file(network.state_dict(), file)
    return network
