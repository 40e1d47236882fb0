"""How one cell is measured: decide what stays, cut or rebuild, heal, judge on the test rows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from shared import BATCH, Shared, scratch_folder, shared
from torch import Tensor
from transformers import PreTrainedModel

from narrows.core.seeds import derive, generator
from narrows.distill import DistillObjective, EncodedTexts, Evaluation, TrainConfig, evaluate, train
from narrows.prune.bill import Bill
from narrows.prune.magnitude import magnitude_scores
from narrows.prune.methods import METHODS, Outcome
from narrows.prune.random import random_scores
from narrows.prune.scores import Limits, Scores, unit_sizes
from narrows.prune.taylor import taylor_scores
from narrows.prune.vtrans import VTransConfig, vtrans_plan
from narrows.road import HEAL_RATE
from narrows.transformer.anatomy import Anatomy
from narrows.transformer.cost import cost_of
from narrows.transformer.cut import cut, fold
from narrows.transformer.latency import TOKENS
from narrows.transformer.plan import Plan
from narrows.transformer.rebuild import basis_of, rebuild

# Each row changes one thing of the row before it, but for the noise scales, which change the last rung.
_RUNGS: dict[str, dict[str, Any]] = {
    "published Lagrangian": {"published": True},
    "+ closed-form start": {"published": True, "start": None},
    "price controller": {"weights": "trained", "train_mu": False, "noise": 0.3},
    "+ frozen weights": {"weights": "frozen", "train_mu": False, "noise": 0.3},
    "+ trained means, no KL on them": {"weights": "frozen", "train_mu": True, "kl_on_mu": False, "noise": 0.3},
    "the same, noise 1": {"weights": "frozen", "train_mu": True, "kl_on_mu": False, "noise": 1.0},
    "the same, noise 0": {"weights": "frozen", "train_mu": True, "kl_on_mu": False, "noise": 0.0},
}
REMEDIES = tuple(_RUNGS)


@dataclass
class Clock:
    """Seconds of each part."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start

    def rounded(self) -> dict[str, float]:
        return {name: round(value, 1) for name, value in self.seconds.items()}


def measure(cell: Mapping[str, Any], work: Path) -> dict[str, Any]:
    """The result of a cell (see `run.py` for its parameters)."""
    clock = Clock()
    with clock("shared"):
        here = shared(cell["data"], cell["seed"], cell["vocab"], work)
    if cell["method"] == "dense":
        return _dense(here, clock)
    name = "-".join(str(value) for value in cell.values()).replace(" ", "_")
    with scratch_folder(work, name) as run:
        outcome, source = _decide(here, cell, run, clock)
        with clock("rebuild" if cell["rebuild"] else "cut"):
            plan = outcome.plan if cell["rebuild"] else _in_channels(here, outcome.plan, cell["method"])
            small, directions, reconstruction = _make(here, plan, source, cell)
        with clock("test"):
            before = evaluate(small, here.test)
        steps = cell["steps"] - outcome.steps
        if steps:
            with clock("heal"):
                _heal(here, small, directions, steps, run / "heal")
        with clock("test"):
            after = evaluate(small.eval(), here.test) if steps else before
    result = _costs(here, small) | {
        "measure": after.name,
        "quality": after.quality,
        "standard_error": after.standard_error,
        "unhealed": before.quality,
        "gate_steps": outcome.steps,
        "heal_steps": steps,
        "plan": _summary(plan, here),
        "reconstruction": reconstruction,
        "seconds": clock.rounded(),
    }
    if outcome.information is not None:
        result["nats"] = _nats(outcome.information)
    rows = {"_rows": _packed(after, here.test), "_rows_unhealed": _packed(before, here.test)}
    return result | {"rows": len(here.test)} | rows


def _dense(here: Shared, clock: Clock) -> dict[str, Any]:
    """The dense model itself; for values the labels too, which paired comparisons need."""
    with clock("test"):
        found = evaluate(here.model, here.test)
    labels = {"_labels": _hex(here.test.labels.numpy())} if found.name == "pearson" else {}
    return {
        **_costs(here, here.model),
        "measure": found.name,
        "quality": found.quality,
        "standard_error": found.standard_error,
        "rows": len(here.test),
        "train": len(here.train),
        "seconds": clock.rounded(),
        "_rows": _packed(found, here.test),
        **labels,
    }


def _decide(here: Shared, cell: Mapping[str, Any], run: Path, clock: Clock) -> tuple[Outcome, PreTrainedModel]:
    """The plan, and the model whose weights the small one starts from."""
    method, budget, gate_steps = cell["method"], cell["budget"], cell["gate_steps"]
    gated = method == "vtrans" or method in REMEDIES
    scores = "fisher" if gated or method == "scratch" else method
    problem = here.problem(budget)
    outcome, clock.seconds["plan"] = here.decided(scores, budget, 0, lambda: METHODS[scores](problem))
    if not gated:
        return outcome, here.model
    frame = outcome.plan

    def learn() -> tuple[Outcome, PreTrainedModel]:
        config = _config(method, gate_steps, problem.multiple)
        lagrangian = config.controller == "lagrangian"
        learned = vtrans_plan(
            here.model,
            problem.limits,
            frame,
            _all_on(problem.limits, frame, here.scores, config) if lagrangian else here.scores,
            here.train,
            DistillObjective(here.teacher),
            config,
            run / "gates",
            batch_size=BATCH,
            seed=derive(here.seed, "gates"),
            bf16=False,
            save_every=gate_steps,
        )
        return Outcome(learned.plan, gate_steps, learned.scales, learned.information()), learned.model

    if method == "vtrans":  # its weights stay as they are, so that its decision is all there is to keep
        outcome, clock.seconds["gates"] = here.decided(method, budget, gate_steps, lambda: learn()[0])
        source = here.model
    else:
        with clock("gates"):
            outcome, source = learn()
    return outcome, fold(source, here.anatomy, outcome.scales or {})


def _in_channels(here: Shared, plan: Plan, method: str) -> Plan:
    """The same shape, heads and neurons, in the channels that the method's own scores call best."""
    if method == "random":
        scores = random_scores(here.anatomy, here.seed)
    elif method == "magnitude":
        scores = magnitude_scores(here.model, here.anatomy)
    elif method == "taylor":
        scores = taylor_scores(here.model, here.anatomy, here.calibration.batches)
    else:
        scores = here.scores
    best = scores.hidden.topk(len(plan.hidden)).indices.tolist()
    return replace(plan, basis="channels", hidden=tuple(sorted(best)))


def _config(method: str, steps: int, multiple: int) -> VTransConfig:
    if method == "vtrans":
        return VTransConfig(steps, multiple=multiple)
    over = dict(_RUNGS[method])
    if over.pop("published", False):
        return VTransConfig.published(steps, multiple=multiple, **over)
    return VTransConfig(steps, multiple=multiple, **over)


def _all_on(limits: Limits, frame: Plan, scores: Scores, config: VTransConfig) -> Scores:
    """The scores times the factor at which the closed-form start has every unit on, and the last one only just.

    The price controller finds this start by itself. The Lagrangian has no price: it starts at that of the scores' own
    unit, at which nearly all gates would be off and their noise many times the signal.
    """
    sizes = {n: k for n, k in unit_sizes(limits.anatomy).items() if n.partition("_")[0] in config.units}
    price = Bill(limits, frame, sizes, config.multiple).price
    values = {f"heads_{i}": v for i, v in enumerate(scores.heads)}
    values |= {f"neurons_{i}": v for i, v in enumerate(scores.neurons)}
    least = 1e-8 * max(float(values[name].max()) for name in sizes)  # as the start itself has it
    factor = 1.001 * max(price[name] / (2 * max(float(values[name].min()), least)) for name in sizes)
    return Scores(
        scores.hidden * factor,
        tuple(v * factor for v in scores.heads),
        tuple(v * factor for v in scores.neurons),
    )


def _make(
    here: Shared, plan: Plan, source: PreTrainedModel, cell: Mapping[str, Any]
) -> tuple[PreTrainedModel, Tensor, dict[str, float]]:
    """The small model before healing, where its channels lie in the dense one's, and what it reproduces."""
    width = here.anatomy.shape.hidden
    basis = basis_of(plan, width, here.calibration.directions)
    if cell["method"] == "scratch":
        shape = cut(here.model, plan, rotation=basis, table=here.calibration.table)
        with torch.random.fork_rng():
            torch.manual_seed(derive(here.seed, "scratch"))
            small = type(shape)(shape.config)
        random = torch.randn(basis.shape, generator=generator(here.seed, "scratch map"))
        return small, torch.linalg.qr(random).Q, {}
    if not cell["rebuild"]:
        return cut(source, plan, table=here.calibration.table), basis, {}
    rebuilt = rebuild(here.model, plan, here.calibration, start=source)
    return rebuilt.model, rebuilt.basis, {s.site: round(s.variance, 4) for s in rebuilt.reconstruction}


def _heal(here: Shared, small: PreTrainedModel, directions: Tensor, steps: int, run: Path) -> None:
    config = TrainConfig(steps, BATCH, HEAL_RATE, seed=derive(here.seed, "heal"), bf16=False, save_every=steps)
    train(small, DistillObjective(here.teacher, initial_map=directions), here.train, config, run)


def _costs(here: Shared, model: PreTrainedModel) -> dict[str, Any]:
    anatomy = Anatomy.of(model)
    cost = cost_of(anatomy, anatomy.full_plan(), TOKENS)
    return {
        "params": cost.params,
        "params_share": cost.params / here.whole.params,
        "body_share": cost.body_params / here.whole.body_params,
        "macs_share": cost.macs / here.whole.macs,
    }


def _summary(plan: Plan, here: Shared) -> dict[str, Any]:
    return {
        "width": len(plan.hidden),
        "rank": plan.rank,
        "vocab": here.anatomy.shape.vocab,
        "heads": [len(layer.heads) for layer in plan.layers],
        "neurons": [len(layer.neurons) for layer in plan.layers],
    }


def _nats(information: Mapping[str, Any]) -> dict[str, list[float]]:
    """Nats per token of each layer at the end of the gates' training."""
    layers = information["layers"]
    return {block: [round(layer[block][-1], 3) for layer in layers] for block in ("attention", "ffn")}


def _packed(found: Evaluation, test: EncodedTexts) -> str:
    """Per row: whether it was classified rightly (bits), or the predicted value (float16)."""
    if found.name == "accuracy":
        return np.packbits(found.predictions == test.labels.numpy()).tobytes().hex()
    return _hex(found.predictions)


def _hex(values: NDArray[Any]) -> str:
    return values.astype("<f2").tobytes().hex()


def unpacked(text: str, measure: str, rows: int) -> NDArray[np.float64]:
    """The inverse of what a cell stores for its rows."""
    raw = bytes.fromhex(text)
    if measure == "accuracy":
        return np.unpackbits(np.frombuffer(raw, np.uint8), count=rows).astype(np.float64)
    return np.frombuffer(raw, "<f2").astype(np.float64)
