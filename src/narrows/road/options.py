"""What a run is asked for, and who is told how it gets on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from narrows.core.budget import Budget
from narrows.core.errors import BudgetError, NarrowsError
from narrows.prune.methods import pruner
from narrows.transformer.plan import Basis

CALIBRATION = 40  # batches
HEAL_RATE = 2e-4
"""Learning rate of healing (AdamW, 5 % warm-up, linear to 0); chosen on validation data, as the weights of its loss."""
HEAL_RATES = (HEAL_RATE, HEAL_RATE / 4)
"""What is tried in turn where training leads away from the teacher."""


class Watcher(Protocol):
    """Who is told how a run gets on."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def update(self, step: int, total: int, figures: Mapping[str, float]) -> None:
        """`step` of `total` parts of the stage are done; a total of 0 means that it is not known."""


class Nobody:
    """Nobody is told."""

    def stage(self, name: str) -> None: ...

    def update(self, step: int, total: int, figures: Mapping[str, float]) -> None: ...


@dataclass(frozen=True)
class Options:
    """What a run is asked for, besides the model and the data; all of it decides the result.

    `steps`: training steps after the dense model exists (`epochs` over the data instead, if given).
    `dense_epochs`, `dense_rate`: fine-tuning of a model without a head for the data. `held_out`: the share of the
    data to judge on, where there is no evaluation file. `vocab="data"` keeps the words of the training texts only.
    """

    budgets: tuple[Budget, ...]
    method: str = "auto"
    basis: Basis = "pca"
    vocab: Literal["all", "data"] = "all"
    steps: int = 1200
    epochs: float | None = None
    dense_epochs: float = 2.0
    dense_rate: float = 1e-4
    batch_size: int = 32
    max_length: int = 128
    held_out: float = 0.2
    uniform: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        pruner(self.method, uniform=self.uniform)
        if not self.budgets:
            raise BudgetError('name at least one budget, such as "20% params"')
        for name, low in (("steps", 1), ("batch_size", 1), ("max_length", 4)):
            if getattr(self, name) < low:
                raise NarrowsError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if not 0 < self.held_out < 1:
            raise NarrowsError(f"the held-out share lies between 0 and 1, got {self.held_out:g}")
        if (self.epochs is not None and self.epochs <= 0) or self.dense_epochs <= 0:
            raise NarrowsError("epochs must be above 0")

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"budgets": [str(b) for b in self.budgets]}
