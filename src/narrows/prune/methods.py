"""One door for every way of deciding what to cut: a pruner turns a `Problem` into an `Outcome` with a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from narrows.core.cite import cites
from narrows.core.errors import NarrowsError
from narrows.distill.encode import EncodedTexts
from narrows.distill.heal import DistillObjective
from narrows.distill.objective import Progress
from narrows.distill.teacher import Teacher
from narrows.prune.fisher import fisher_scores
from narrows.prune.magnitude import magnitude_scores
from narrows.prune.planner import choose_plan, uniform_plan
from narrows.prune.random import random_scores
from narrows.prune.scores import Limits, Scores, allocate
from narrows.prune.taylor import taylor_scores
from narrows.prune.vtrans import VTransConfig, vtrans_plan
from narrows.transformer.anatomy import Anatomy
from narrows.transformer.calibrate import Calibration, Tick
from narrows.transformer.plan import Basis, LayerPlan, Plan

ROUNDS = 4  # of iterative Fisher pruning
GATE_SHARE = 1 / 3  # of all steps, for methods that learn gates


@dataclass(frozen=True)
class Problem:
    """What a pruner gets: the dense model, labelled calibration batches, and the limits that the plan must meet.

    `steps` are the training steps that the whole road has, pruning and healing together. Pruners that train need
    `train`, `teacher` and `run_dir`. `uniform` asks for the same shape in every layer.
    """

    model: PreTrainedModel
    anatomy: Anatomy
    calibration: Calibration
    limits: Limits
    seed: int = 0
    basis: Basis = "pca"
    multiple: int = 8
    uniform: bool = False
    steps: int = 0
    train: EncodedTexts | None = None
    teacher: Teacher | None = None
    run_dir: Path | None = None
    resume: bool = False
    progress: Progress | None = None
    tick: Tick | None = None


@dataclass(frozen=True)
class Outcome:
    """What a pruner decided: the plan, the steps it used, and what learned gates leave behind.

    `scales` are factors to fold into the weights, `information` is in nats (see the run record), `history` the figures
    of its training.
    """

    plan: Plan
    steps: int = 0
    scales: Mapping[str, Tensor] | None = None
    information: Mapping[str, Any] | None = None
    history: Sequence[Mapping[str, float]] = field(default_factory=tuple)


Pruner = Callable[[Problem], Outcome]


def random(problem: Problem) -> Outcome:
    """Units at random."""
    return _by_scores(problem, random_scores(problem.anatomy, problem.seed))


def magnitude(problem: Problem) -> Outcome:
    """Units with the largest weights."""
    return _by_scores(problem, magnitude_scores(problem.model, problem.anatomy))


@cites("arXiv:1906.10771", "arXiv:1905.10650")
def taylor(problem: Problem) -> Outcome:
    """Units by the first-order change of the loss."""
    return _by_scores(problem, taylor_scores(problem.model, problem.anatomy, problem.calibration.batches))


@cites("arXiv:1801.05787")
def fisher(problem: Problem) -> Outcome:
    """Units by Fisher information, in one shot."""
    return _by_scores(problem, fisher_scores(problem.model, problem.anatomy, problem.calibration.batches))


@cites("arXiv:1801.05787")
def fisher_iterative(problem: Problem) -> Outcome:
    """Units by Fisher information, scored again after each of several rounds; what is gone stays gone."""
    batches = problem.calibration.batches
    scores = fisher_scores(problem.model, problem.anatomy, batches)
    final = _by_scores(problem, scores).plan
    frame = replace(final, layers=tuple(LayerPlan((), ()) for _ in final.layers))
    full = problem.limits.use(problem.anatomy.shape_of(replace(frame, layers=problem.anatomy.full_plan().layers)))
    for done in range(1, ROUNDS):
        share = 1 + (full - 1) * (1 - done / ROUNDS) ** 3
        plan = allocate(problem.limits, scores, frame, multiple=problem.multiple, share=share)
        scores = _keep(fisher_scores(problem.model, problem.anatomy, batches, _masks(problem.anatomy, plan)), plan)
    if problem.uniform:
        heads = len(final.layers[0].heads)
        return Outcome(uniform_plan(problem.limits, scores, frame, heads, problem.multiple) or final)
    return Outcome(allocate(problem.limits, scores, frame, multiple=problem.multiple))


@cites("arXiv:2406.05276", "arXiv:1802.10399")
def vtrans(problem: Problem) -> Outcome:
    """Units by learned gates: a third of the steps trains them on the dense model, which stays as it is."""
    if problem.train is None or problem.teacher is None or problem.run_dir is None:
        raise NarrowsError("vtrans trains gates: its problem needs train, teacher and run_dir")
    scores = fisher_scores(problem.model, problem.anatomy, problem.calibration.batches)
    frame = _by_scores(problem, scores).plan
    steps = max(1, round(GATE_SHARE * problem.steps))
    learned = vtrans_plan(
        problem.model,
        problem.limits,
        frame,
        scores,
        problem.train,
        DistillObjective(problem.teacher),
        VTransConfig(steps, multiple=problem.multiple),
        problem.run_dir,
        seed=problem.seed,
        resume=problem.resume,
        progress=problem.progress,
    )
    return Outcome(learned.plan, steps, learned.scales, learned.information(), tuple(learned.history))


METHODS: dict[str, Pruner] = {
    "vtrans": vtrans,
    "random": random,
    "magnitude": magnitude,
    "taylor": taylor,
    "fisher": fisher,
    "fisher-iterative": fisher_iterative,
}
AUTO = "fisher"  # what measured best; papers/01-vtrans has the figures


def resolve(name: str) -> str:
    """The method that a name stands for: `auto` is the one that measured best."""
    return AUTO if name == "auto" else name


def pruner(name: str, *, uniform: bool = False) -> Pruner:
    """The pruner of a name.

    Raises `NarrowsError` listing the names, and for one that cannot give all layers the same shape when `uniform` asks
    for that.
    """
    if uniform and resolve(name) == "vtrans":
        raise NarrowsError(f"{name} gives every layer its own shape; name another method, or leave out uniform")
    try:
        return METHODS[resolve(name)]
    except KeyError:
        raise NarrowsError(f"unknown method {name!r}; methods are auto, {', '.join(METHODS)}") from None


def _by_scores(problem: Problem, scores: Scores) -> Outcome:
    plan, _ = choose_plan(
        problem.model,
        problem.calibration,
        problem.limits,
        scores,
        basis=problem.basis,
        multiple=problem.multiple,
        uniform=problem.uniform,
        tick=problem.tick,
    )
    return Outcome(plan)


def _masks(anatomy: Anatomy, plan: Plan) -> dict[str, Tensor]:
    masks: dict[str, Tensor] = {}
    for i, layer in enumerate(plan.layers):
        for name, kept, size in (
            (f"heads_{i}", layer.heads, anatomy.shape.heads[i]),
            (f"neurons_{i}", layer.neurons, anatomy.shape.neurons[i]),
        ):
            masks[name] = torch.zeros(size)
            masks[name][list(kept)] = 1
    return masks


def _keep(scores: Scores, plan: Plan) -> Scores:
    """The scores with those of units that a plan removed set below all others."""

    def only(values: Tensor, kept: tuple[int, ...]) -> Tensor:
        removed = torch.full_like(values, -1.0)
        removed[list(kept)] = values[list(kept)]
        return removed

    return Scores(
        scores.hidden,
        tuple(only(v, layer.heads) for v, layer in zip(scores.heads, plan.layers, strict=True)),
        tuple(only(v, layer.neurons) for v, layer in zip(scores.neurons, plan.layers, strict=True)),
    )
