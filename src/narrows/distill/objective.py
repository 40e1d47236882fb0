"""What a training run is made of: its settings, its objective, its figures. `trainer.train` runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from narrows.core.errors import TrainingError

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to train; every field but `save_every` decides the result.

    `warmup` is a share of the steps. `bf16="auto"` uses bf16 autocast only where a measurement on this
    machine says it is faster. `save_every` None means a fifth of the run, at least 25 steps. Errors:
    TrainingError for a senseless value.
    """

    steps: int
    batch_size: int = 32
    learning_rate: float = 1e-4
    warmup: float = 0.05
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    seed: int = 0
    bf16: bool | str = "auto"
    log_every: int = 10
    save_every: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise TrainingError(f"{name} must be above 0, got {getattr(self, name)}")
        if not 0 <= self.warmup < 1:
            raise TrainingError(f"warmup is the share of the steps with a rising rate, in [0, 1); got {self.warmup}")
        if self.weight_decay < 0:
            raise TrainingError(f"weight_decay must not be negative, got {self.weight_decay}")
        if self.save_every is not None and self.save_every < 1:
            raise TrainingError(f"save_every must be at least 1 step, got {self.save_every}")
        if self.bf16 not in (True, False, "auto"):
            raise TrainingError(f'bf16 must be True, False or "auto", got {self.bf16!r}')

    @property
    def saving_interval(self) -> int:
        """Steps between two saved states."""
        return self.save_every or max(25, self.steps // 5)


class Progress(Protocol):
    """What `train` tells about itself after every step."""

    def update(self, step: int, total: int, figures: Mapping[str, float]) -> None:
        """`step` of `total` steps are done; `figures` is the newest record of the history (may be empty)."""


@dataclass(frozen=True)
class History:
    """Training figures: one record {"step", "loss", ...} per log point, the means since the record before."""

    records: tuple[Mapping[str, float], ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Mapping[str, float]]:
        return iter(self.records)

    def __getitem__(self, index: int) -> Mapping[str, float]:
        return self.records[index]


class Objective:
    """What is trained and towards what: the one extension point of `train`.

    Everything that must survive a stop belongs into the model's parameters and buffers (add submodules in
    `attach`) or into the optimizer; the rest must be a function of the step. Torch's global random numbers
    are reseeded at every step from (seed, step), so drawing from them keeps a resumed run exact.
    """

    def attach(self, model: PreTrainedModel) -> None:
        """Change the model for training (add submodules and hooks), before a saved state is loaded."""

    def detach(self, model: PreTrainedModel) -> None:
        """Undo `attach`; also called after errors."""

    def parameter_groups(self, model: PreTrainedModel, config: TrainConfig) -> list[dict[str, Any]]:
        """Groups for one AdamW: `params`, `name`, and any key of AdamW's (`lr`, `maximize`, ...).

        Two more keys: `schedule`, a function of the step (0-based) giving the factor on `lr` (default: linear
        warm-up, then linear to zero), and `max_grad_norm` (default: that of the config; None: never clipped).
        Each group is clipped alone.
        """
        return weight_groups(model, config)

    def loss(self, model: PreTrainedModel, batch: dict[str, Tensor], step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Scalar loss of one batch and detached 0-d figures for the history; `step` counts from 0."""
        raise NotImplementedError

    def after_step(self, model: PreTrainedModel, step: int, optimizer: Optimizer) -> None:
        """Called when the optimizer has made its `step`-th step (from 1), before anything is saved."""


def weight_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """The parameters that require a gradient: matrices with weight decay, biases and norms without."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {
            "name": "weights",
            "params": [p for p in trained if p.ndim > 1],
            "weight_decay": config.weight_decay,
        },
        {"name": "biases and norms", "params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def linear_schedule(steps: int, warmup: float) -> Schedule:
    """Factor on the rate: up to 1 over the first `warmup` share of the steps, then linear to 0 at the end."""
    rising = round(warmup * steps)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        return max(0.0, (steps - step) / (steps - rising))

    return factor
