"""Training on `transformers.Trainer`: any objective, exact resume, a clean stop, no output of its own."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from narrows.core.errors import Interrupted, TrainingError
from narrows.core.seeds import derive
from narrows.distill.encode import EncodedTexts, StepSampler
from narrows.distill.objective import History, Objective, Progress, TrainConfig, linear_schedule
from narrows.distill.precision import bf16_helps
from narrows.distill.state import (
    Saved,
    Window,
    earlier,
    load_optimizer,
    load_weights,
    prepare_run,
    save_state,
)


def train(
    model: PreTrainedModel,
    objective: Objective,
    data: EncodedTexts,
    config: TrainConfig,
    run_dir: str | Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> History:
    """Train `model` in place, on the device it is on, and return the figures of the whole run.

    The state is saved in `run_dir` (the newest two, and the last step's always). With `resume` the newest
    whole state is taken up, or the run starts from the beginning if there is none; weights and history end
    bit for bit as those of an uninterrupted run with the same arguments and number of threads. A finished run
    returns at once.

    Errors: `Interrupted` after SIGINT or SIGTERM (the state is saved; a second signal acts at once);
    `TrainingError` for a loss or gradient that is not finite (earlier states stay), a `run_dir` that belongs
    to another run, or several processes.
    """
    run = Path(run_dir)
    was_training = model.training
    with _own_randomness():
        torch.manual_seed(derive(config.seed, "attach"))
        objective.attach(model)
        try:
            groups = _complete(objective.parameter_groups(model, config), config)
            identity = _identity(model, groups, data, config)
            saved = prepare_run(run, identity, resume=resume)
            bf16 = _bf16(model, config) if saved is None else bool(saved.progress["bf16"])
            if saved is not None:
                load_weights(saved, model)
                if saved.step == config.steps:
                    return History(tuple(saved.progress["history"]))
            keeper = _Keeper(objective, config, run, {"identity": identity, "bf16": bf16}, saved, progress)
            trainer = _Trainer(model, objective, data, config, run, groups, bf16, keeper)
            with keeper.signals():
                trainer.train(resume_from_checkpoint=None if saved is None else str(saved.path))
            keeper.raise_if_stopped()
            return History(tuple(keeper.records))
        finally:
            objective.detach(model)
            model.train(was_training)


def _bf16(model: nn.Module, config: TrainConfig) -> bool:
    return bf16_helps(model) if config.bf16 == "auto" else bool(config.bf16)


def _complete(groups: list[dict[str, Any]], config: TrainConfig) -> list[dict[str, Any]]:
    """The groups with every key that the trainer reads; TrainingError where there is nothing to train."""
    defaults = {
        "lr": config.learning_rate,
        "schedule": linear_schedule(config.steps, config.warmup),
        "max_grad_norm": config.max_grad_norm,
    }
    groups = [{**defaults, **group, "params": list(group["params"])} for group in groups]
    if not any(group["params"] for group in groups):
        raise TrainingError("nothing to train: no parameter requires a gradient")
    return groups


def _identity(
    model: nn.Module, groups: list[dict[str, Any]], data: EncodedTexts, config: TrainConfig
) -> dict[str, Any]:
    """What a resumed run must have in common with the run that it continues."""
    settings = {k: v for k, v in asdict(config).items() if k != "save_every"}
    trained = [[group["name"], sum(p.numel() for p in group["params"])] for group in groups]
    return {**settings, "data": data.digest, "parameters": _count(model), "trained parameters": trained}


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Leave the caller's random numbers as they were: `Trainer` seeds all global generators."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


class _Trainer(Trainer):
    """`Trainer` with an objective, its groups, and batches and noise that depend on (seed, step) alone."""

    def __init__(
        self,
        model: PreTrainedModel,
        objective: Objective,
        data: EncodedTexts,
        config: TrainConfig,
        run: Path,
        groups: list[dict[str, Any]],
        bf16: bool,
        keeper: _Keeper,
    ) -> None:
        self._objective, self._data, self._config, self._run = objective, data, config, run
        self._bf16, self._keeper = bf16, keeper
        # The optimizer deep-copies what is in its groups: functions, and the norms with them, stay here.
        self._schedules = [group.pop("schedule") for group in groups]
        self._max_norms = [group.pop("max_grad_norm") for group in groups]
        self._groups = groups
        arguments = TrainingArguments(
            output_dir=str(run),
            max_steps=config.steps,
            per_device_train_batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            max_grad_norm=1.0,  # above 0, or `_clip_grad_norm` is never called; it has its own limits
            seed=config.seed % 2**32,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            logging_nan_inf_filter=False,
            use_cpu=model.device.type == "cpu",
        )
        if arguments.world_size > 1:
            raise TrainingError(
                f"training runs in one process, not in {arguments.world_size}: start it without torchrun"
            )
        arguments._n_gpu = min(1, arguments.n_gpu)  # several GPUs would mean torch's DataParallel
        super().__init__(model=model, args=arguments, callbacks=[keeper])
        self.remove_callback(PrinterCallback)  # both print to stdout
        self.remove_callback(ProgressCallback)
        self.loss_is_scaled_for_ga = False

    def get_train_dataloader(self) -> DataLoader[Any]:
        """One epoch of as many batches as there are steps: a resumed run skips by counting, nothing else."""
        config = self._config
        order = StepSampler(self._data.lengths, config.batch_size, config.seed, config.steps)
        indices = cast(Dataset[int], range(len(self._data)))
        return DataLoader(indices, batch_sampler=order, collate_fn=self._data.batch)

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """One AdamW for all groups: one state to save. Fused: several times faster, on processors too."""
        if self.optimizer is None:
            self.optimizer = AdamW(self._groups, fused=True)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LambdaLR:
        """Each group's own schedule."""
        self.lr_scheduler = LambdaLR(cast(Optimizer, self.optimizer), self._schedules)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward, with all of torch's randomness a function of (seed, step)."""
        torch.manual_seed(derive(self._config.seed, "step", self.state.global_step))
        return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        """The objective's loss; TrainingError before it can reach the weights if it is not finite."""
        step = self.state.global_step
        with torch.autocast(self.args.device.type, torch.bfloat16, enabled=self._bf16):
            loss, figures = self._objective.loss(cast(PreTrainedModel, model), inputs, step)
        self._require_finite(loss.detach(), "loss")
        self._keeper.window.add({"loss": loss, **figures})
        return loss

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        """Clip each group to its own limit; the norm of everything before clipping."""
        norms = []
        for group, limit in zip(_plain(self.optimizer).param_groups, self._max_norms, strict=True):
            parameters = [p for p in group["params"] if p.grad is not None]
            norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
            if limit is not None:
                clip_grads_with_norm_(parameters, limit, norm)
            norms.append(norm)
        total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
        self._require_finite(total, "gradient")
        return total

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: it walks over all modules at every step."""
        return 0

    def _require_finite(self, value: Tensor, what: str) -> None:
        if not torch.isfinite(value):
            raise TrainingError(
                f"the {what} is {value.item()} at step {self.state.global_step + 1} of {self._config.steps}:"
                f" lower the learning rate (now {self._config.learning_rate:g}) or look at the data;"
                f" {earlier(self._run)}"
            )


class _Keeper(TrainerCallback):
    """What happens between two steps: the objective's last word, figures, saved states, a clean stop."""

    def __init__(
        self,
        objective: Objective,
        config: TrainConfig,
        run: Path,
        facts: dict[str, Any],
        saved: Saved | None,
        progress: Progress | None,
    ) -> None:
        self._objective, self._config, self._run, self._facts = objective, config, run, facts
        self._saved, self._progress = saved, progress
        self._signal: int | None = None
        self._step = 0
        self.records: list[dict[str, float]] = []
        self.window = Window()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._saved is not None:
            load_optimizer(self._saved, _plain(kwargs["optimizer"]), kwargs["lr_scheduler"])
            self.records = list(self._saved.progress["history"])
            self.window = Window.from_json(self._saved.progress["window"], args.device)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        step, total = state.global_step, self._config.steps
        model, optimizer = kwargs["model"], _plain(kwargs["optimizer"])
        self._step = step
        self._objective.after_step(model, step, optimizer)
        if step % self._config.log_every == 0 or step == total:
            self.records.append({"step": step, **self.window.means()})
            self.window = Window()
        if self._progress is not None:
            self._progress.update(step, total, self.records[-1] if self.records else {})
        if self._signal is not None:
            control.should_training_stop = True
        if step % self._config.saving_interval == 0 or step == total or self._signal is not None:
            progress = {**self._facts, "step": step, "history": self.records, "window": self.window.to_json()}
            save_state(self._run, model, optimizer, kwargs["lr_scheduler"], state, progress)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM stop the run after the step that they meet; a second one acts as usual."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may install handlers
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        def note(number: int, frame: FrameType | None) -> None:
            self._signal = number
            restore()

        for number in before:
            signal.signal(number, note)
        try:
            yield
        finally:
            restore()

    def raise_if_stopped(self) -> None:
        """Raise `Interrupted` if a signal ended the run."""
        if self._signal is not None:
            name = signal.Signals(self._signal).name
            raise Interrupted(
                f"stopped by {name} after step {self._step} of {self._config.steps}; the state is saved"
                f" in {self._run}: resume to go on from there",
                self._step,
                self._config.steps,
            )


def _plain(optimizer: Any) -> Optimizer:
    """Torch's optimizer without accelerate's wrapper."""
    inner: Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner
