"""How one cell is measured: decide what stays, cut or rebuild, heal, judge on the test rows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from narrows.prune.methods import METHODS, Outcome
from narrows.prune.vtrans import VTransConfig, vtrans_plan
from narrows.road import HEAL_RATE
from narrows.transformer.anatomy import Anatomy
from narrows.transformer.cost import cost_of
from narrows.transformer.cut import cut, fold
from narrows.transformer.latency import TOKENS
from narrows.transformer.plan import Basis, Plan
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
    basis: Basis = "pca" if cell["rebuild"] else "channels"
    name = "-".join(str(value) for value in cell.values()).replace(" ", "_")
    with scratch_folder(work, name) as run:
        outcome, source = _decide(here, cell, basis, run, clock)
        with clock("rebuild" if cell["rebuild"] else "cut"):
            small, directions, reconstruction = _make(here, outcome.plan, source, cell)
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
        "plan": _summary(outcome.plan, here),
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


def _decide(
    here: Shared, cell: Mapping[str, Any], basis: Basis, run: Path, clock: Clock
) -> tuple[Outcome, PreTrainedModel]:
    """The plan, and the model whose weights the small one starts from."""
    method, budget = cell["method"], cell["budget"]
    if method not in ("vtrans", "fisher", "scratch", *REMEDIES):
        with clock("plan"):
            return METHODS[method](here.problem(budget, basis)), here.model
    plan, seconds = here.fisher_plan(budget, basis)
    clock.seconds["plan"] = seconds
    if method in ("fisher", "scratch"):
        return Outcome(plan), here.model
    problem = here.problem(budget, basis)
    with clock("gates"):
        learned = vtrans_plan(
            here.model,
            problem.limits,
            plan,
            here.scores,
            here.train,
            DistillObjective(here.teacher),
            _config(method, cell["gate_steps"], problem.multiple),
            run / "gates",
            batch_size=BATCH,
            seed=derive(here.seed, "gates"),
            bf16=False,
            save_every=cell["gate_steps"],
        )
    scales, information = learned.scales, learned.information()
    return (
        Outcome(learned.plan, cell["gate_steps"], scales, information),
        fold(learned.model, here.anatomy, scales),
    )


def _config(method: str, steps: int, multiple: int) -> VTransConfig:
    if method == "vtrans":
        return VTransConfig(steps, multiple=multiple)
    over = dict(_RUNGS[method])
    if over.pop("published", False):
        return VTransConfig.published(steps, multiple=multiple, **over)
    return VTransConfig(steps, multiple=multiple, **over)


def _make(
    here: Shared, plan: Plan, source: PreTrainedModel, cell: Mapping[str, Any]
) -> tuple[PreTrainedModel, Tensor, dict[str, float]]:
    """The small model before healing, where its channels lie in the dense one's, and what it reproduces."""
    width = here.anatomy.shape.hidden
    basis = basis_of(plan, width, here.calibration.directions)
    if cell["method"] == "scratch":
        rotation = basis if plan.basis == "pca" else None
        shape = cut(here.model, plan, rotation=rotation, table=here.calibration.table)
        with torch.random.fork_rng():
            torch.manual_seed(derive(here.seed, "scratch"))
            small = type(shape)(shape.config)
        random = torch.randn(basis.shape, generator=generator(here.seed, "scratch map"))
        return small, torch.linalg.qr(random).Q, {}
    if not cell["rebuild"]:
        return cut(source, plan), basis, {}
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
