"""How one cell is measured: one setting trained on several training sets, and what each model keeps and forgets.

Scores see training rows only or, for the blobs, fresh labelled points of the same law: never a held-out row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from model import StochasticClassifier, trained
from torch import Tensor

from narrows.core.experiment import Cell
from narrows.core.seeds import derive, generator
from narrows.information import SWAGCollector, encoder_mi, generalization_bound, loss_factor, parameter_mi

DRAWS = 10  # of the noise, over which losses and information are averaged
SWAG_FROM = 2 / 3  # of training
FLOOR = 1e-6
"""Least variance of a weight that counts: a deviation of 0.001. Once a set is fitted most weights hardly move, and
this choice, not the training, decides how large I(S; theta) is; the other floors show how much."""
OTHER_FLOORS = (1e-9, 1e-12)


@dataclass(frozen=True)
class Task:
    """One training set, the rows held out, and the points at which information is measured."""

    train: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]
    points: tuple[Tensor, Tensor]
    classes: int


def blobs(instance: int) -> Task:
    """Five centres in the plane: 50 points to train, 2,500 held out, 500 fresh ones for information."""
    from sklearn.datasets import make_blobs

    x, y = make_blobs(n_samples=3050, centers=5, n_features=2, cluster_std=0.7, random_state=instance)
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    return Task((x[:50], y[:50]), (x[50:2550], y[50:2550]), (x[2550:], y[2550:]), 5)


def digits(instance: int) -> Task:
    """200 of scikit-learn's digits to train, others for each instance; all the rest held out."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(derive(0, "digits")).permutation(len(x))
    order = np.roll(order, -200 * instance)
    x, y = torch.tensor(x[order] / 16, dtype=torch.float32), torch.tensor(y[order])
    train = (x[:200], y[:200])
    return Task(train, (x[200:], y[200:]), train, 10)


TASKS = {"blobs": blobs, "digits": digits}


def measure(cell: Cell, work: Path) -> Mapping[str, Any]:
    """All training sets of one setting, and what its weights know of which set it was."""
    models, collectors, size = [], [], 0
    for instance in range(cell["instances"]):
        task = TASKS[cell["pool"]](instance)
        model, collector = _trained(task, cell)
        size = sum(parameter.numel() for parameter in model.parameters())
        collectors.append(collector)
        models.append({"instance": instance, **_scores(model, task, cell["seed"])})
    found: dict[str, Any] = {"models": models, "parameters": size}
    names = model.encoder_parameters()
    encoder = sum(model.get_parameter(name).numel() for name in names)
    for floor in (FLOOR, *OTHER_FLOORS):
        for collector in collectors:
            collector.var_floor = floor
        posteriors = [[collector.posterior(names)] for collector in collectors]
        found[f"I(S;theta) floor {floor:g}"] = parameter_mi(posteriors, seed=cell["seed"]).value
        found[f"share of weights at {floor:g}"] = float(np.mean([c.at_floor(names) for c in collectors]) / encoder)
        if floor == FLOOR:
            found["I(S;theta) mixture"] = parameter_mi(posteriors, form="mixture", seed=cell["seed"]).value
    return found


def _trained(task: Task, cell: Cell) -> tuple[StochasticClassifier, SWAGCollector]:
    collectors: list[SWAGCollector] = []

    def each(model: StochasticClassifier, step: int) -> None:
        if step >= SWAG_FROM * cell["steps"]:
            if not collectors:
                collectors.append(SWAGCollector(model))
            collectors[0].collect()

    model = trained(
        *task.train,
        width=cell["width"],
        classes=task.classes,
        decay=cell["decay"],
        steps=cell["steps"],
        seed=cell["seed"],
        each=each,
    )
    return model.eval(), collectors[0]


@torch.no_grad()
def _scores(model: StochasticClassifier, task: Task, seed: int) -> dict[str, Any]:
    dice = generator(seed, "scores")
    train_loss, train_wrong = _losses(model, *task.train, dice)
    held_loss, held_wrong = _losses(model, *task.held_out, dice)
    x, y = task.points
    mean, std = model.encode(x)
    found: dict[str, Any] = {
        "gap": float(held_loss.mean() - train_loss.mean()),
        "error gap": float(held_wrong.mean() - train_wrong.mean()),
        "train accuracy": 1 - float(train_wrong.mean()),
        "held-out accuracy": 1 - float(held_wrong.mean()),
        "norms": sum(float(p.norm()) for n, p in model.named_parameters() if n.endswith("weight")),
        "mean deviation": float(std.mean()),
        "least deviation": float(std.min()),
    }
    for form in ("mc", "jensen"):
        for given, labels in (("", None), ("|Y", y)):
            runs = [encoder_mi(mean, std, labels, form=form, seed=derive(seed, i)) for i in range(DRAWS)]
            found[f"I(X;Z{given}) {form}"] = float(np.mean([run.value for run in runs]))
            if form == "mc":
                found[f"I(X;Z{given}) saturated"] = sum(run.saturated for run in runs) / DRAWS
    found["G3 cross-entropy"] = loss_factor(train_loss, task.train[1])
    bound = generalization_bound(
        max(found["I(X;Z|Y) jensen"], 0.0), train_wrong.clamp(0, 1), task.train[1], trivial=1.0
    )
    return found | {"G3 error": bound.factor, "bound": bound.value, "codes": bound.n_codes}


def _losses(model: StochasticClassifier, x: Tensor, y: Tensor, dice: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cross-entropy and 0/1 error of each row, averaged over draws of the code."""
    loss, wrong = torch.zeros(len(x), dtype=torch.float64), torch.zeros(len(x), dtype=torch.float64)
    for _ in range(DRAWS):
        logits = model(x, dice).double()
        loss += torch.nn.functional.cross_entropy(logits, y, reduction="none") / DRAWS
        wrong += (logits.argmax(1) != y).double() / DRAWS
    return loss, wrong
