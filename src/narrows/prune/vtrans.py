"""VTrans: gates with a variational information bottleneck choose what a transformer keeps.

Oshin Dutta, Ritvik Gupta, Sumeet Agarwal, "VTrans: Accelerating Transformer Compression with Variational
Information Bottleneck based Pruning", 2024, arXiv:2406.05276.

Every unit's output is multiplied by z = mu + sigma · eps, eps ~ N(0, 1) fresh for every token. The loss is

    E[distillation loss] + sum_j beta_j · 1/2 ln(1 + mu_j^2 / sigma_j^2),

whose second term bounds, in nats, what passes the unit per token. With alpha = mu^2 / sigma^2 a unit is
kept iff ln alpha > 0, and its mu is folded into the weights. `narrows.prune.controllers` says how beta
follows a budget.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import TrainingError
from narrows.distill.encode import EncodedTexts
from narrows.distill.objective import History, Objective, Progress, TrainConfig
from narrows.distill.trainer import train
from narrows.prune.bill import BLOCK_OF, Bill, kind_of
from narrows.prune.controllers import Controller, LagrangianController, PriceController
from narrows.prune.projection import project
from narrows.prune.scores import Limits, Scores, unit_sizes
from narrows.prune.vib import VIBGate
from narrows.transformer.anatomy import Anatomy
from narrows.transformer.gates import ATTRIBUTE, Gates, attach_gates, detach_gates
from narrows.transformer.plan import Plan

register_reference(
    Reference(
        "arXiv:2406.05276",
        "VTrans: Accelerating Transformer Compression with Variational Information Bottleneck based Pruning",
        ("Oshin Dutta", "Ritvik Gupta", "Sumeet Agarwal"),
        2024,
    )
)

Unit = Literal["heads", "neurons", "hidden", "blocks"]


@dataclass(frozen=True)
class VTransConfig:
    """How gates are trained.

    `units` says what has gates. `weights` are "frozen", or "trained" together with the gates at
    `weight_rate`. The gates' rates, `gate_rate` for ln sigma^2 and `mean_rate` for mu, fall linearly to 0;
    without `train_mu` mu stays 1. `noise` scales the noise, `kl_weight` the KL term, which moves mu only
    with `kl_on_mu`. `start` None starts every gate at its closed-form optimum from scores, a number all of
    them at that ln sigma^2 with a jitter of 0.01. `multiple` rounds widths. `warmup` (a share of the steps)
    and `multiplier_rate` belong to the Lagrangian. Raises `TrainingError` for a senseless value.
    """

    steps: int
    controller: Literal["price", "lagrangian"] = "price"
    units: tuple[Unit, ...] = ("heads", "neurons")
    weights: Literal["frozen", "trained"] = "frozen"
    weight_rate: float = 1e-4
    gate_rate: float = 0.02
    train_mu: bool = True
    mean_rate: float = 0.01
    noise: float = 0.3
    kl_weight: float = 1.0
    kl_on_mu: bool = False
    start: float | None = None
    multiple: int = 8
    warmup: float = 0.1
    multiplier_rate: float = 0.1

    def __post_init__(self) -> None:
        choices: list[tuple[str, set[str], set[str]]] = [
            ("controller", {self.controller}, {"price", "lagrangian"}),
            ("weights", {self.weights}, {"frozen", "trained"}),
            ("units", set(self.units) or {"nothing"}, {"heads", "neurons", "hidden", "blocks"}),
        ]
        for name, got, known in choices:
            if got - known:
                raise TrainingError(f"{name} can be {', '.join(sorted(known))}; got {', '.join(sorted(got))}")
        for name in ("steps", "multiple", "weight_rate", "gate_rate", "mean_rate", "multiplier_rate"):
            if not getattr(self, name) > 0:
                raise TrainingError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("noise", "kl_weight"):
            if not getattr(self, name) >= 0:
                raise TrainingError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 < self.warmup <= 1:
            raise TrainingError(f"warmup is a share of the steps, in (0, 1]; got {self.warmup}")

    @classmethod
    def published(cls, steps: int, **over: Any) -> VTransConfig:
        """The values of the paper and of its authors' code for language models."""
        values: dict[str, Any] = {
            "controller": "lagrangian",
            "weights": "trained",
            "weight_rate": 2e-5,
            "gate_rate": 0.05,
            "mean_rate": 0.05,
            "noise": 1.0,
            "kl_weight": 1e-6,
            "kl_on_mu": True,
            "start": -9.0,
        }
        return cls(steps, **(values | over))


@dataclass(frozen=True)
class LearnedGate:
    """What a gate ended with, all (n,): `mu`, `log_alpha`, and `nats` per token, 0 for a unit that is off."""

    mu: Tensor
    log_alpha: Tensor
    nats: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, gate: VIBGate) -> LearnedGate:
        """Copies of a gate's values, on the CPU."""
        values = (gate.mu.float(), gate.log_alpha(), gate.kl() * gate.kept())
        return cls(*(x.detach().clone().cpu() for x in values))


class VTransObjective(Objective):
    """An objective with gates in the model: `inner`'s loss, and the price of information under a budget.

    Figures beside `inner`'s: "size" and "scheduled" (shares of the limits), "kl" (the term in the loss),
    and the information per token of the units that are on: "nats/attention/l", "nats/ffn/l", "nats/hidden".
    `learned` has the gates after `detach`. Raises `TrainingError` where scores are needed (`config.start`
    None) and missing, or are not finite.
    """

    def __init__(
        self,
        inner: Objective,
        limits: Limits,
        frame: Plan,
        config: VTransConfig,
        scores: Scores | None = None,
    ) -> None:
        self.inner, self.config = inner, config
        self.anatomy = limits.anatomy
        self.bill = Bill(limits, frame, _gate_sizes(self.anatomy, config.units), config.multiple)
        self._starts = _closed_form(self.bill, scores) if config.start is None else None
        self._frozen: list[nn.Parameter] = []
        self.learned: dict[str, LearnedGate] = {}

    def attach(self, model: PreTrainedModel) -> None:
        """Put gates and controller into the model, and freeze its weights if they are to be."""
        self.inner.attach(model)
        if self.config.weights == "frozen":
            self._frozen = [p for p in model.parameters() if p.requires_grad]
            for parameter in self._frozen:
                parameter.requires_grad_(False)
        gates = {name: self._gate(name, n) for name, n in self.bill.sizes.items()}
        box = attach_gates(model, self.anatomy, gates)
        kind = PriceController if self.config.controller == "price" else LagrangianController
        controller = kind(self.bill, self.config)
        controller.begin(gates)
        box.add_module("controller", controller)
        box.to(model.device)

    def detach(self, model: PreTrainedModel) -> None:
        """Keep what the gates learned as `learned` and take everything out."""
        self.learned = {name: LearnedGate.of(gate) for name, gate in _box(model).items()}
        detach_gates(model)
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        self._frozen = []
        self.inner.detach(model)

    def parameter_groups(self, model: PreTrainedModel, config: TrainConfig) -> list[dict[str, Any]]:
        """`inner`'s groups as far as they are trained, then ln sigma^2, mu, and the multipliers."""
        box = _box(model)
        own = {id(p) for p in box.parameters()}
        groups = []
        for group in self.inner.parameter_groups(model, config):
            params = [p for p in group["params"] if p.requires_grad and id(p) not in own]
            groups += [{**group, "params": params}] if params else []
        gates = [gate for _, gate in box.items()]

        def schedule(step: int) -> float:
            return max(0.0, 1 - step / self.config.steps)

        rest = {"weight_decay": 0.0, "schedule": schedule}
        log_vars, means = [g.log_var for g in gates], [g.mu for g in gates]
        groups.append({"name": "gates", "params": log_vars, "lr": self.config.gate_rate, **rest})
        if self.config.train_mu:
            groups.append({"name": "gate means", "params": means, "lr": self.config.mean_rate, **rest})
        return groups + cast(Controller, box.controller).parameter_groups()

    def loss(self, model: PreTrainedModel, batch: dict[str, Tensor], step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """`inner`'s loss and the controller's term."""
        loss, figures = self.inner.loss(model, batch, step)
        box = _box(model)
        gates = dict(box.items())
        controller = cast(Controller, box.controller)
        with torch.autocast(model.device.type, enabled=False):
            kl = torch.cat([gate.kl(through_mu=self.config.kl_on_mu) for gate in gates.values()])
            term, more = controller.term(gates, kl, step)
            sizes = {"size": controller.size.clone(), "scheduled": controller.scheduled.clone()}
            information = _information(gates, kl.detach())
        return loss + term, {**figures, "kl": term.detach(), **sizes, **more, **information}

    def after_step(self, model: PreTrainedModel, step: int, optimizer: Optimizer) -> None:
        """`inner`'s last word, then the controller's."""
        self.inner.after_step(model, step, optimizer)
        box = _box(model)
        cast(Controller, box.controller).after_step(dict(box.items()), step)

    def _gate(self, name: str, n: int) -> VIBGate:
        if self._starts is None:
            start = {"mu": 1.0 if self.config.train_mu else torch.ones(n), "log_var": self.config.start}
        else:
            start = {"mu": torch.ones(n), "log_var": self._starts[name]}
        soft = self.config.controller == "lagrangian"  # as published: sizes are expected ones until the end
        floor = self.config.multiple if name == "hidden" else 0
        gate = VIBGate(n, noise=self.config.noise, soft=soft, floor=floor, **cast(Any, start))
        gate.mu.requires_grad_(self.config.train_mu)
        return gate


def _box(model: PreTrainedModel) -> Gates:
    return cast(Gates, getattr(model, ATTRIBUTE))


def _gate_sizes(anatomy: Anatomy, units: Sequence[Unit]) -> dict[str, int]:
    sizes = {n: k for n, k in unit_sizes(anatomy).items() if kind_of(n)[0] in units}
    if "blocks" in units:
        for kind, block in BLOCK_OF.items():
            sizes |= {f"{block}_{i}": 1 for i, n in enumerate(getattr(anatomy.shape, kind)) if n}
    return sizes


def _closed_form(bill: Bill, scores: Scores | None) -> dict[str, Tensor]:
    """r_j = ln price_j - ln 2c_j for every gate; a block's c is the sum over its units."""
    if scores is None:
        raise TrainingError("gates that start at their closed-form optimum need scores; or set `start`")
    second = {"hidden": scores.hidden}
    for kind, block in BLOCK_OF.items():
        for i, values in enumerate(getattr(scores, kind)):
            second |= {f"{kind}_{i}": values, f"{block}_{i}": values.sum()[None]}
    used = {name: second[name].detach().cpu().double() for name in bill.sizes}
    for name, values in used.items():
        n = bill.sizes[name]
        if len(values) != n or not bool((torch.isfinite(values) & (values >= 0)).all()):
            raise TrainingError(f"the scores of {name} must be {n} finite values that are not negative")
    least = max(1e-8 * max(float(v.max()) for v in used.values()), 1e-30)
    prices = {name: torch.tensor(bill.price[name], dtype=torch.float64) for name in used}
    return {name: prices[name].log() - (2 * v.clamp_min(least)).log() for name, v in used.items()}


def _information(gates: Mapping[str, VIBGate], kl: Tensor) -> dict[str, Tensor]:
    """Nats per token of the units that are on, per layer and kind."""
    figures = {}
    for (name, gate), nats in zip(gates.items(), kl.split([len(g.mu) for g in gates.values()]), strict=True):
        kind, layer = kind_of(name)
        if kind == "hidden":
            figures["nats/hidden"] = (nats * gate.kept()).sum()
        elif kind in BLOCK_OF:
            block = gates.get(f"{BLOCK_OF[kind]}_{layer}")
            on = gate.kept() if block is None else gate.kept() & block.kept()
            figures[f"nats/{BLOCK_OF[kind]}/{layer}"] = (nats * on).sum()
    return figures


@dataclass(frozen=True)
class VTransResult:
    """What the gates chose.

    `plan` meets the limits. `scales` are the learned means for `fold`, keyed as gates are (empty if mu was
    not trained); `gates` has all that was learned. `model` has the weights of the end (the dense ones if
    frozen).
    """

    plan: Plan
    model: PreTrainedModel = field(repr=False)
    scales: Mapping[str, Tensor] = field(repr=False)
    gates: Mapping[str, LearnedGate] = field(repr=False)
    history: History = field(repr=False)

    def information(self) -> dict[str, Any]:
        """Nats per token, per layer over training and per unit at the end, JSON-ready, for the run's record.

        `neurons_quantiles` are those at the shares 0, 0.1, ..., 1.
        """
        records = [r for r in self.history if any(name.startswith("nats/") for name in r)]
        shares = torch.linspace(0, 1, 11, dtype=torch.float64)
        layers = []
        for i in range(len(self.plan.layers)):
            row: dict[str, Any] = {"layer": i}
            row |= {b: [r.get(f"nats/{b}/{i}", 0.0) for r in records] for b in BLOCK_OF.values()}
            heads, neurons = self.gates.get(f"heads_{i}"), self.gates.get(f"neurons_{i}")
            row["heads"] = heads.nats.tolist() if heads else []
            row["neurons_quantiles"] = neurons.nats.double().quantile(shares).tolist() if neurons else []
            layers.append(row)
        return {"unit": "nats", "steps": [int(r["step"]) for r in records], "layers": layers}


@cites("arXiv:2406.05276", "arXiv:1802.10399")
def vtrans_plan(
    model: PreTrainedModel,
    limits: Limits,
    frame: Plan,
    scores: Scores | None,
    data: EncodedTexts,
    objective: Objective,
    config: VTransConfig,
    run_dir: str | Path,
    *,
    batch_size: int = 32,
    seed: int = 0,
    bf16: bool | str = "auto",
    log_every: int = 10,
    save_every: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> VTransResult:
    """Train gates on a copy of `model` and turn them into a plan within the limits.

    `limits` are the budgets against the model's anatomy; `frame` has the width, rank and vocabulary that
    were chosen before and at which units are priced (its heads and neurons do not matter); `scores`
    (Fisher) say where gates start; `objective` what they are trained towards, as a rule healing's
    `DistillObjective`. Resumes exactly, as `train` does. Raises what `train` raises, and `BudgetError` when
    the bare frame does not fit.
    """
    if "hidden" not in config.units:
        project(limits, frame, {}, multiple=config.multiple)  # what cannot fit fails before training
    gated = VTransObjective(objective, limits, frame, config, scores)
    learner = copy.deepcopy(model)
    training = TrainConfig(
        steps=config.steps,
        batch_size=batch_size,
        learning_rate=config.weight_rate,
        seed=seed,
        bf16=bf16,
        log_every=log_every,
        save_every=save_every,
    )
    history = train(learner, gated, data, training, run_dir, resume=resume, progress=progress)
    log_alpha = {name: gate.log_alpha for name, gate in gated.learned.items()}
    return VTransResult(
        plan=project(limits, frame, log_alpha, multiple=config.multiple),
        model=learner,
        scales={name: gate.mu for name, gate in gated.learned.items()} if config.train_mu else {},
        gates=gated.learned,
        history=history,
    )
