"""Importance of units, the gradients that most scores are made of, and the plan that a set of scores and a budget
give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from narrows.core.budget import Budget
from narrows.core.cost import Cost
from narrows.core.errors import BudgetError
from narrows.transformer.anatomy import Anatomy
from narrows.transformer.calibrate import Batch, model_inputs
from narrows.transformer.cost import cost_of_shape
from narrows.transformer.gates import ProbeGate, gated
from narrows.transformer.plan import LayerPlan, Plan, Shape


@dataclass(frozen=True)
class Scores:
    """What each unit is worth, larger is more important: `hidden` (d,), and per layer `heads` (H,), `neurons` (f,)."""

    hidden: Tensor
    heads: tuple[Tensor, ...]
    neurons: tuple[Tensor, ...]

    @classmethod
    def from_gates(cls, anatomy: Anatomy, values: Mapping[str, Tensor]) -> Scores:
        """Scores keyed as gates are: `hidden`, `heads_l`, `neurons_l`; a block that is gone has none."""
        empty = torch.zeros(0, dtype=torch.float64)
        layers = range(anatomy.layers)
        return cls(
            values["hidden"],
            tuple(values.get(f"heads_{i}", empty) for i in layers),
            tuple(values.get(f"neurons_{i}", empty) for i in layers),
        )


def unit_sizes(anatomy: Anatomy) -> dict[str, int]:
    """The gates of all units and how many units each has."""
    sizes = {"hidden": anatomy.shape.hidden}
    for i, (heads, neurons) in enumerate(zip(anatomy.shape.heads, anatomy.shape.neurons, strict=True)):
        sizes |= {f"heads_{i}": heads} if heads else {}
        sizes |= {f"neurons_{i}": neurons} if neurons else {}
    return sizes


def task_losses(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The loss of each example of a batch with labels, (batch,): cross entropy, or squared error for one output."""
    logits = model(**model_inputs(model, batch)).logits
    labels = batch["labels"].to(logits.device)
    if logits.shape[-1] == 1:
        return F.mse_loss(logits[:, 0], labels.to(logits.dtype), reduction="none")
    return F.cross_entropy(logits, labels, reduction="none")


def unit_gradients(
    model: PreTrainedModel, anatomy: Anatomy, batches: Sequence[Batch], masks: Mapping[str, Tensor] | None = None
) -> Iterator[dict[str, Tensor]]:
    """For each batch the derivative of each example's loss with respect to each unit's factor, (batch, n) per gate.

    `masks` (0/1 per gate) switches units off first. The model's own weights get no gradient.
    """
    gates = {
        name: ProbeGate(size, None if masks is None else masks.get(name)) for name, size in unit_sizes(anatomy).items()
    }
    wanted = {p: p.requires_grad for p in model.parameters()}
    training = model.training
    try:
        model.eval().requires_grad_(False)
        with gated(model, anatomy, gates):
            for batch in batches:
                task_losses(model, batch).sum().backward()
                yield {name: gate.gradient() for name, gate in gates.items()}
    finally:
        for parameter, flag in wanted.items():
            parameter.requires_grad_(flag)
        model.train(training)


def mean_over_examples(
    gradients: Iterator[dict[str, Tensor]], transform: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """The mean over examples of `transform` of each example's gradient, float64."""
    total: dict[str, Tensor] = {}
    count = 0
    for batch in gradients:
        count += len(batch["hidden"])
        for name, gradient in batch.items():
            total[name] = total.get(name, 0) + transform(gradient.double()).sum(0)
    return {name: value / count for name, value in total.items()}


class Limits:
    """Budgets against one dense model: whether a shape fits, and what a unit costs as a share of the limits."""

    def __init__(self, anatomy: Anatomy, budgets: Sequence[Budget], dense: Cost) -> None:
        self.anatomy, self.budgets, self.dense = anatomy, budgets, dense
        for budget in budgets:
            if budget.measure == "latency":
                raise BudgetError("a latency budget must be turned into parameters or MACs before planning")

    def use(self, shape: Shape) -> float:
        """The largest share of a limit that a shape uses; it fits when this is at most 1."""
        cost = cost_of_shape(self.anatomy, shape, self.dense.tokens)
        return max(b.spent(cost) / b.limit(self.dense) for b in self.budgets)

    def price(self, shape: Shape, kind: str, layer: int) -> float:
        """What one more head or neuron of a layer costs at a shape, as a share summed over the limits."""
        counts = list(getattr(shape, kind))
        one, two = counts.copy(), counts.copy()
        one[layer], two[layer] = 1, 2  # from one to two: without the overhead of a block that appears
        costs = [cost_of_shape(self.anatomy, _with(shape, kind, c), self.dense.tokens) for c in (one, two)]
        return sum((b.spent(costs[1]) - b.spent(costs[0])) / b.limit(self.dense) for b in self.budgets)


def _with(shape: Shape, kind: str, counts: Sequence[int]) -> Shape:
    return replace(shape, heads=tuple(counts)) if kind == "heads" else replace(shape, neurons=tuple(counts))


@dataclass(frozen=True)
class Group:
    """Units of one layer that are kept or removed together."""

    kind: str
    layer: int
    units: tuple[int, ...]
    worth: float


def allocate(limits: Limits, scores: Scores, frame: Plan, *, multiple: int = 8, share: float = 1.0) -> Plan:
    """The heads and neurons with the most worth per cost that fit, at the width, rank and vocabulary of `frame`.

    `share` is how much of the limits may be used (above 1 for the first rounds of iterative pruning).

    Neurons go in groups of `multiple`, by falling score inside a layer, so that layer widths suit the kernels.
    Raises `BudgetError` when even the bare frame does not fit.
    """
    anatomy = limits.anatomy
    bare = replace(frame, layers=tuple(LayerPlan((), ()) for _ in frame.layers))
    shape = anatomy.shape_of(bare)
    if limits.use(shape) > share:
        raise BudgetError(
            f"a model of width {shape.hidden} without any head or neuron already needs "
            f"{limits.use(shape):.0%} of the budget"
        )
    groups = sorted(_groups(limits, scores, shape, multiple), key=lambda g: (-g.worth, g.kind, g.layer, g.units))
    low, high = 0, len(groups)
    while low < high:  # the longest prefix that fits
        middle = (low + high + 1) // 2
        low, high = (middle, high) if limits.use(_shape(shape, groups[:middle])) <= share else (low, middle - 1)
    kept = groups[:low]
    shape = _shape(shape, kept)
    for group in groups[low:]:  # then whatever still fits, in the same order
        larger = _shape(shape, [group])
        if limits.use(larger) <= share:
            kept.append(group)
            shape = larger
    return replace(frame, layers=_layers(anatomy.layers, kept))


def _groups(limits: Limits, scores: Scores, shape: Shape, multiple: int) -> Iterator[Group]:
    for layer in range(limits.anatomy.layers):
        for kind, step in (("heads", 1), ("neurons", multiple)):
            worth: Tensor = getattr(scores, kind)[layer]
            if not len(worth):
                continue
            price = limits.price(shape, kind, layer)
            order = torch.argsort(worth, descending=True, stable=True)
            for start in range(0, len(order), step):
                units = order[start : start + step]
                yield Group(kind, layer, tuple(units.tolist()), float(worth[units].mean()) / price)


def _shape(shape: Shape, groups: Sequence[Group]) -> Shape:
    heads, neurons = list(shape.heads), list(shape.neurons)
    for group in groups:
        counts = heads if group.kind == "heads" else neurons
        counts[group.layer] += len(group.units)
    return replace(shape, heads=tuple(heads), neurons=tuple(neurons))


def _layers(count: int, groups: Sequence[Group]) -> tuple[LayerPlan, ...]:
    units: dict[tuple[str, int], list[int]] = {}
    for group in groups:
        units.setdefault((group.kind, group.layer), []).extend(group.units)
    return tuple(
        LayerPlan(tuple(sorted(units.get(("heads", i), ()))), tuple(sorted(units.get(("neurons", i), ()))))
        for i in range(count)
    )
