"""The saved state of a training run: one folder per save, written whole or not at all, without pickle.

`checkpoint-<step>/` holds model.safetensors and optimizer.safetensors (tensors), trainer_state.json (read by
`transformers.Trainer`) and progress.json (step, history, schedule, the settings the run must have).
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import TrainerState

from narrows.core.errors import TrainingError
from narrows.core.files import new_directory

_PREFIX = "checkpoint-"
_KEPT = 2
_TENSOR_FILES = ("model.safetensors", "optimizer.safetensors")


@dataclass
class Window:
    """Sums of the figures since the last record, in float64 on the device: no waiting before a log point."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, figures: Mapping[str, Tensor]) -> None:
        """Add one step's 0-d tensors."""
        for name, value in figures.items():
            value = value.detach().double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """The mean of every figure over the steps that had it; what is not finite is left out."""
        means = {name: total.item() / self.counts[name] for name, total in self.sums.items()}
        return {name: mean for name, mean in means.items() if math.isfinite(mean)}

    def to_json(self) -> dict[str, list[float]]:
        """Exact: Python writes a float64 with all its digits."""
        return {name: [total.item(), self.counts[name]] for name, total in self.sums.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, list[float]], device: torch.device) -> Window:
        """The window that `to_json` wrote."""
        sums = {n: torch.tensor(v[0], dtype=torch.float64, device=device) for n, v in value.items()}
        return cls(sums, {n: int(v[1]) for n, v in value.items()})


@dataclass(frozen=True)
class Saved:
    """A whole saved state on disk."""

    path: Path
    progress: dict[str, Any]

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.progress["step"])


def _read(path: Path) -> Saved | None:
    """The state in `path`, or None where anything is missing, cut short or of another step."""
    try:
        for name in _TENSOR_FILES:
            with safe_open(path / name, "pt"):  # checks the header against the length of the file
                pass
        TrainerState.load_from_json(str(path / "trainer_state.json"))
        saved = Saved(path, json.loads((path / "progress.json").read_text(encoding="utf-8")))
        return saved if saved.step == int(path.name[len(_PREFIX) :]) else None
    except Exception:  # whatever is wrong with it, it is not a state to go on from
        return None


def _folders(run: Path) -> list[Path]:
    """The folders of saved states, oldest step first."""
    found = [p for p in run.glob(f"{_PREFIX}*") if p.name[len(_PREFIX) :].isdigit()]
    return sorted(found, key=lambda p: int(p.name[len(_PREFIX) :]))


def last_complete(run_dir: str | Path) -> Saved | None:
    """The newest state in `run_dir` that is whole."""
    return next((saved for path in reversed(_folders(Path(run_dir))) if (saved := _read(path))), None)


def prepare_run(run: Path, identity: Mapping[str, Any], *, resume: bool) -> Saved | None:
    """The state to go on from, if any; removes broken states and what a killed save left behind.

    Errors: TrainingError where `run` holds states and `resume` is false, or they are those of a run with
    another `identity`.
    """
    if not resume and _folders(run):
        raise TrainingError(f"{run} holds the states of an earlier run: resume it, or remove the folder")
    for left in run.glob(f".{_PREFIX}*.tmp"):
        shutil.rmtree(left)
    saved = last_complete(run)
    for path in _folders(run):
        if _read(path) is None:
            shutil.rmtree(path)
    if saved is None:
        return None
    theirs = saved.progress["identity"]
    for name in sorted({*identity, *theirs}):
        if identity.get(name) != theirs.get(name):
            raise TrainingError(
                f"{run} holds a run with another {name}: {theirs.get(name)} there, {identity.get(name)} now;"
                " resume with the settings it was started with, or use another folder"
            )
    return saved


def save_state(
    run: Path,
    model: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    trainer_state: TrainerState,
    progress: Mapping[str, Any],
) -> None:
    """Write the state of step `progress["step"]` and keep the newest two.

    Errors: TrainingError where a weight is not finite (nothing is written); NarrowsError where the disk is
    full.
    """
    step = progress["step"]
    for name, tensor in model.named_parameters():
        if not bool(torch.isfinite(tensor).all()):
            raise TrainingError(
                f"{name} is no longer finite after step {step}: lower the learning rate; {earlier(run)}"
            )
    optimizer_state = optimizer.state_dict()
    tensors = {
        f"{index}.{key}": value for index, values in optimizer_state["state"].items() for key, value in values.items()
    }
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer_state["param_groups"]]
    with new_directory(run / f"{_PREFIX}{step}", overwrite=True) as folder:
        save_model(model, str(folder / "model.safetensors"))
        save_file(tensors, str(folder / "optimizer.safetensors"))
        trainer_state.save_to_json(str(folder / "trainer_state.json"))
        everything = {**progress, "groups": groups, "schedule": scheduler.state_dict()}
        (folder / "progress.json").write_text(json.dumps(everything), encoding="utf-8")
    for path in _folders(run)[:-_KEPT]:
        shutil.rmtree(path, ignore_errors=True)


def load_weights(saved: Saved, model: nn.Module) -> None:
    """Put the saved parameters and buffers into `model`; TrainingError where they do not fit it."""
    try:
        load_model(model, str(saved.path / "model.safetensors"))
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise TrainingError(f"{saved.path} does not fit this model: {text}") from error


def load_optimizer(saved: Saved, optimizer: Optimizer, scheduler: LRScheduler) -> None:
    """Put the saved moments, group values and schedule position into `optimizer` and `scheduler`."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in load_file(str(saved.path / "optimizer.safetensors")).items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    for group, values in zip(groups, saved.progress["groups"], strict=True):
        group.update({k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    scheduler.load_state_dict(dict(saved.progress["schedule"]))


def earlier(run: Path) -> str:
    """For error texts: where the last state is."""
    saved = last_complete(run)
    return f"the last saved state is {saved.path}" if saved else "no state was saved yet"
