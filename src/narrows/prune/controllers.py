"""What drives the gates of VTrans to a budget: one price for everything, or the published Lagrangian."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from narrows.prune.bill import Bill, kind_of
from narrows.prune.projection import threshold

if TYPE_CHECKING:
    from narrows.prune.vib import VIBGate
    from narrows.prune.vtrans import VTransConfig

INTERVAL = 5  # steps between two looks at the hard size
_SCHEDULED = 0.8  # share of the steps after which the size is that of the budget
_KAPPA = (1.0, 10.0)
# Weights of the KL terms in the published objective; a hidden unit counts once per use (2L) plus 30.
_PUBLISHED_KL = {"heads": 256.0, "neurons": 1.0, "attention": 1.0, "ffn": 1.0}


class Controller(nn.Module):
    """Adds a term to the loss so that the units that are on come to fit the limits; lives inside the model.

    `size` and `scheduled` are shares of the limits at the last look. Whatever changes is a parameter or a
    buffer, so that a resumed run is exact.
    """

    size: Tensor
    scheduled: Tensor

    def __init__(self, bill: Bill, config: VTransConfig) -> None:
        super().__init__()
        self.bill, self.config = bill, config
        self.size = nn.Buffer(torch.tensor(bill.full, dtype=torch.float64))
        self.scheduled = nn.Buffer(torch.tensor(bill.full, dtype=torch.float64))

    def begin(self, gates: Mapping[str, VIBGate]) -> None:
        """Called once, when the gates are new."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups of its own multipliers."""
        return []

    def term(self, gates: Mapping[str, VIBGate], kl: Tensor, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """What to add to the loss, and figures; `kl` are the nats of all units, gate after gate."""
        raise NotImplementedError

    def share(self, step: int) -> float:
        """The scheduled share of the limits after `step` steps."""
        raise NotImplementedError

    def look(self, gates: Mapping[str, VIBGate], share: float) -> None:
        """Act on the hard size; called every few steps with the scheduled share."""

    @torch.no_grad()
    def after_step(self, gates: Mapping[str, VIBGate], step: int) -> None:
        """Called after every optimizer step, counted from 1."""
        if step % INTERVAL and step != self.config.steps:
            return
        share = self.share(step)
        self.look(gates, share)
        self.size.fill_(self.bill.use({name: int(gate.kept().sum()) for name, gate in gates.items()}))
        self.scheduled.fill_(share)

    def _per_unit(self, weights: Mapping[str, float]) -> Tensor:
        return torch.cat([torch.full((n,), weights[name]) for name, n in self.bill.sizes.items()])


class PriceController(Controller):
    """One price lam for everything: s_j = ln lam + r_j, and lam · price_j · KL_j in the loss.

    r_j starts at ln price_j - ln 2c_j, so that a unit is on where removing it costs more loss than keeping
    it costs at the price lam. Every few steps lam is set by bisection so that the units that are on use the
    scheduled share: cubic from all units to the budget. A change of ln lam is added to every log variance.
    """

    log_price: Tensor
    unit_price: Tensor

    def __init__(self, bill: Bill, config: VTransConfig) -> None:
        super().__init__(bill, config)
        self.log_price = nn.Buffer(torch.zeros((), dtype=torch.float64))
        self.unit_price = nn.Buffer(config.kl_weight * self._per_unit(bill.price), persistent=False)

    def share(self, step: int) -> float:
        """Cubic from all units to 1."""
        left = max(0.0, 1 - step / (_SCHEDULED * self.config.steps))
        return min(self.bill.full, 1 + (self.bill.full - 1) * left**3)

    def begin(self, gates: Mapping[str, VIBGate]) -> None:
        """The price at which everything is kept."""
        self.look(gates, self.share(0))

    def term(self, gates: Mapping[str, VIBGate], kl: Tensor, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Lam · sum of price_j KL_j."""
        return self.log_price.exp().float() * (self.unit_price @ kl), {"log price": self.log_price.clone()}

    @torch.no_grad()
    def look(self, gates: Mapping[str, VIBGate], share: float) -> None:
        """Set the price."""
        shift = threshold(self.bill, {name: gate.log_alpha() for name, gate in gates.items()}, share)
        for gate in gates.values():
            gate.log_var.add_(shift)
        self.log_price.add_(shift)


class LagrangianController(Controller):
    """The published way: beta · KL + lambda1 (e - t) + lambda2 (e - t)^2, one pair of multipliers per limit.

    e is the expected sparsity when unit j is kept with probability sigmoid(kappa · log alpha_j); during the
    warm-up kappa rises from 1 to 10 and the target t from 0 to its end. The multipliers climb.
    """

    unit_weight: Tensor

    def __init__(self, bill: Bill, config: VTransConfig) -> None:
        super().__init__(bill, config)
        limits = len(bill.limits.budgets)
        self.lambda1 = nn.Parameter(torch.zeros(limits))
        self.lambda2 = nn.Parameter(torch.zeros(limits))
        weights = {**_PUBLISHED_KL, "hidden": 2.0 * bill.limits.anatomy.layers + 30}
        per_gate = {name: config.kl_weight * weights[kind_of(name)[0]] for name in bill.sizes}
        self.unit_weight = nn.Buffer(self._per_unit(per_gate), persistent=False)

    def share(self, step: int) -> float:
        """Linear in the sparsity, from all units to 1."""
        return self.bill.full - self._warm(step) * max(0.0, self.bill.full - 1)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The multipliers: gradient ascent at a constant rate, never clipped."""
        return [
            {
                "name": "multipliers",
                "params": [self.lambda1, self.lambda2],
                "lr": self.config.multiplier_rate,
                "weight_decay": 0.0,
                "maximize": True,
                "max_grad_norm": None,
                "schedule": _constant,
            }
        ]

    def term(self, gates: Mapping[str, VIBGate], kl: Tensor, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The term above; figures "excess" (e - t of the first limit), "lambda1", "lambda2"."""
        warm = self._warm(step)
        kappa = _KAPPA[0] + (_KAPPA[1] - _KAPPA[0]) * warm
        log_alpha = {name: gate.log_alpha() for name, gate in gates.items()}
        share = self.bill.expected({name: torch.sigmoid(kappa * a) for name, a in log_alpha.items()})
        full = self.bill.expected({name: torch.ones_like(a) for name, a in log_alpha.items()})
        excess = (full - share) / full - warm * (1 - 1 / full).clamp_min(0)
        climb = (self.lambda1 * excess + self.lambda2 * excess.square()).sum()
        figures = {"excess": excess[0], "lambda1": self.lambda1[0], "lambda2": self.lambda2[0]}
        return self.unit_weight @ kl + climb.float(), {n: v.detach().clone() for n, v in figures.items()}

    def _warm(self, step: int) -> float:
        return min(1.0, step / (self.config.warmup * self.config.steps))


def _constant(step: int) -> float:
    return 1.0
