"""The planner: how a budget is split between residual width, rank of the word table, heads and neurons.

Heads and neurons compete by worth per cost (`allocate`). Width and rank are chosen by trial: the model of each
candidate is planned, rebuilt on part of the calibration data and compared with the dense model on the rest, by the KL
divergence of its predictions (squared error for regression). A rebuild takes seconds and no training, and is the very
model that healing would start from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from narrows.core.errors import BudgetError
from narrows.prune.scores import Limits, Scores, allocate
from narrows.transformer.anatomy import Anatomy
from narrows.transformer.calibrate import Batch, Calibration, Tick, model_inputs
from narrows.transformer.plan import Basis, LayerPlan, Plan
from narrows.transformer.rebuild import rebuild

FIT, JUDGE = 12, 12  # calibration batches that a trial is rebuilt on, and those that it is judged on
LEAST = 0.97  # share of the budget that a plan must use
RATIOS = (1.0, 0.75, 0.5)  # of the word table's rank to the width; at 1 it stays whole


@dataclass(frozen=True)
class Trial:
    """One candidate: its plan, and the mean divergence (nats, or squared error) from the dense model's predictions."""

    plan: Plan
    divergence: float


def frame_of(anatomy: Anatomy, scores: Scores, hidden: int, rank: int | None, basis: Basis) -> Plan:
    """A plan of a width and a rank without heads and neurons: leading directions, or the channels with the best
    scores. Without a rank the word table stays as it is, a factored one at its own rank where the width allows it."""
    if rank is None and anatomy.shape.rank is not None:
        rank = min(anatomy.shape.rank, hidden)
    kept = range(hidden) if basis == "pca" else sorted(scores.hidden.topk(hidden).indices.tolist())
    return Plan(tuple(kept), tuple(LayerPlan((), ()) for _ in range(anatomy.layers)), rank, None, basis)


def choose_plan(
    model: PreTrainedModel,
    calibration: Calibration,
    limits: Limits,
    scores: Scores,
    *,
    basis: Basis = "pca",
    multiple: int = 8,
    uniform: bool = False,
    tick: Tick | None = None,
) -> tuple[Plan, tuple[Trial, ...]]:
    """The best plan found that meets the limits, and all trials in the order in which they were made.

    The width lies between the one at which all heads and neurons fit and the one at which hardly any do; it is searched
    on that interval, in multiples of `multiple`, for the word table whole and at a rank of 3/4 and 1/2 of the width.
    `uniform` searches the plans that a stock class can say. Raises `BudgetError` when there is none.
    """
    search = _Search(model, calibration, limits, scores, basis, multiple, tick)
    trials = search.uniform() if uniform else search.free()
    if not trials:
        raise BudgetError(
            "no width leaves a model that uses 97 % of the budget and not more: "
            "the budget is below the smallest possible "
            "model, above the whole one, or too coarse for uniform layers; vocab='data' leaves more for the layers"
        )
    return min(trials, key=lambda t: t.divergence).plan, tuple(trials)


def shape_for(limits: Limits, scores: Scores, *, multiple: int = 8) -> Plan:
    """A plan of about the shape that the search starts from, without calibration data: to measure what such a
    shape costs.

    Raises `BudgetError` when no width leaves room for a head or neuron.
    """
    anatomy = limits.anatomy
    width = anatomy.shape.hidden
    while width > multiple:
        frame = frame_of(anatomy, scores, width, None, "channels")
        if limits.use(anatomy.shape_of(frame)) <= 0.5:
            break
        width -= multiple
    return allocate(limits, scores, frame_of(anatomy, scores, width, None, "channels"), multiple=multiple)


class _Search:
    def __init__(
        self,
        model: PreTrainedModel,
        calibration: Calibration,
        limits: Limits,
        scores: Scores,
        basis: Basis,
        multiple: int,
        tick: Tick | None,
    ) -> None:
        self.model, self.limits, self.scores, self.basis = model, limits, scores, basis
        self.anatomy = limits.anatomy
        self.multiple, self.tick = multiple, tick
        batches = calibration.batches
        judge = min(JUDGE, max(1, len(batches) // 3))
        self.judge = batches[:judge]
        self.fit = replace(calibration, batches=batches[judge : judge + FIT] or batches)
        self.wanted = [_predictions(model, b) for b in self.judge]
        self.trials: dict[tuple[int, int | None], Trial | None] = {}

    def free(self) -> list[Trial]:
        """Three ranks at the middle width, then four other widths at the best rank."""
        factor = not self.anatomy.tied and self.anatomy.shape.rank is None
        ratios = RATIOS if factor else (1.0,)
        best_ratio = min(ratios, key=lambda ratio: self._divergence(0.5, ratio))
        best = 0.5
        for step in (0.3, 0.15):
            best = min((best, best - step, best + step), key=lambda t: self._divergence(t, best_ratio))
        return [t for t in self.trials.values() if t is not None]

    def uniform(self) -> list[Trial]:
        """Every width that is a whole number of heads, with the neurons that then fit."""
        size, shape = self.anatomy.head_dim, self.anatomy.shape
        found = []
        for heads in range(1, min(shape.hidden // size, *shape.heads) + 1):
            frame = replace(
                frame_of(self.anatomy, self.scores, heads * size, None, self.basis),
                tail=heads * size if shape.tail else None,
            )
            plan = uniform_plan(self.limits, self.scores, frame, heads, self.multiple)
            if plan is not None and self._full(plan):
                found.append(self._judge(plan))
        return found

    def _divergence(self, t: float, ratio: float) -> float:
        low, high = self._interval(ratio)
        width = self._round(low ** (1 - t) * high**t)
        rank = None if ratio == 1 else self._round(ratio * width)
        key = (width, rank)
        if key not in self.trials:
            self.trials[key] = self._measure(width, rank)
            if self.tick:
                self.tick(len(self.trials), 0)
        trial = self.trials[key]
        return float("inf") if trial is None else trial.divergence

    def _round(self, width: float) -> int:
        step = self.multiple
        return min(self.anatomy.shape.hidden, max(step, step * round(width / step)))

    def _interval(self, ratio: float) -> tuple[int, int]:
        """The least width at which everything else no longer leaves budget unused, and the one at which the frame alone
        takes most of it."""
        layers = self.anatomy.full_plan().layers

        def use(width: int, kept: tuple[LayerPlan, ...]) -> float:
            rank = None if ratio == 1 else self._round(ratio * width)
            plan = replace(frame_of(self.anatomy, self.scores, width, rank, self.basis), layers=kept)
            return self.limits.use(self.anatomy.shape_of(plan))

        def largest(kept: tuple[LayerPlan, ...], share: float) -> int:
            width = self.anatomy.shape.hidden
            while width > self.multiple and use(width, kept) > share:
                width -= self.multiple
            return width

        low = largest(layers, 1.0)
        if use(low, layers) < LEAST:
            low = min(low + self.multiple, self.anatomy.shape.hidden)
        return low, max(low, largest(tuple(LayerPlan((), ()) for _ in layers), 0.85))

    def _measure(self, width: int, rank: int | None) -> Trial | None:
        if rank is not None and rank >= width:
            return None  # dearer than a whole table
        frame = frame_of(self.anatomy, self.scores, width, rank, self.basis)
        try:
            plan = allocate(self.limits, self.scores, frame, multiple=self.multiple)
        except BudgetError:
            return None
        return self._judge(plan) if self._full(plan) else None

    def _full(self, plan: Plan) -> bool:
        """Whether a plan uses what it may: a whole model does, however large the budget."""
        shape = self.anatomy.shape_of(plan)
        return self.limits.use(shape) >= LEAST or shape == self.anatomy.shape

    def _judge(self, plan: Plan) -> Trial:
        small = rebuild(self.model, plan, self.fit).model
        losses = [
            _divergence(_predictions(small, batch), wanted)
            for batch, wanted in zip(self.judge, self.wanted, strict=True)
        ]
        return Trial(plan, float(torch.cat(losses).mean()))


def uniform_plan(limits: Limits, scores: Scores, frame: Plan, heads: int, multiple: int) -> Plan | None:
    """The best `heads` heads and as many neurons as fit in every layer, None when not even one group fits."""

    def plan(neurons: int) -> Plan:
        return replace(
            frame,
            layers=tuple(
                LayerPlan(_best(h, heads), _best(n, neurons)) for h, n in zip(scores.heads, scores.neurons, strict=True)
            ),
        )

    low, high = 0, min(limits.anatomy.shape.neurons) // multiple
    while low < high:
        middle = (low + high + 1) // 2
        fits = limits.use(limits.anatomy.shape_of(plan(middle * multiple))) <= 1
        low, high = (middle, high) if fits else (low, middle - 1)
    return plan(low * multiple) if low else None


def _best(worth: Tensor, count: int) -> tuple[int, ...]:
    return tuple(sorted(worth.topk(count).indices.tolist()))


@torch.no_grad()
def _predictions(model: PreTrainedModel, batch: Batch) -> Tensor:
    training = model.training
    logits: Tensor = model.eval()(**model_inputs(model, batch)).logits
    model.train(training)
    return logits


def _divergence(logits: Tensor, wanted: Tensor) -> Tensor:
    """Per example: KL(dense || small), or the squared error of a regression."""
    if logits.shape[-1] == 1:
        return F.mse_loss(logits, wanted, reduction="none")[:, 0]
    return F.kl_div(logits.log_softmax(-1), wanted.log_softmax(-1), reduction="none", log_target=True).sum(-1)
