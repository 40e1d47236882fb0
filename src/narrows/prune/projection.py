"""From log alpha to units: the threshold that fits a share of the limits, and the plan of a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from narrows.core.errors import TrainingError
from narrows.prune.bill import BLOCK_OF, Bill, kind_of
from narrows.prune.scores import Limits, Scores, allocate, unit_sizes
from narrows.transformer.plan import Plan

_LEAST = 0.97  # share of the limits that a plan should use


class Ranking:
    """All units of all gates by falling log alpha, and how many each gate keeps when the first k stay.

    Raises `TrainingError` for values that are not finite.
    """

    def __init__(self, log_alpha: Mapping[str, Tensor]) -> None:
        self.names = list(log_alpha)
        values = torch.cat([log_alpha[n].detach().cpu().double() for n in self.names])
        if not bool(torch.isfinite(values).all()):
            raise TrainingError("a gate is not finite any more: lower the learning rates of the gates")
        gate = torch.cat([torch.full((len(log_alpha[n]),), i) for i, n in enumerate(self.names)])
        order = torch.argsort(values, descending=True, stable=True)
        self.values, self.gate = values[order], gate[order]

    def __len__(self) -> int:
        return len(self.values)

    def counts(self, first: int) -> dict[str, int]:
        """Units per gate among the `first` best."""
        kept = torch.bincount(self.gate[:first], minlength=len(self.names)).tolist()
        return dict(zip(self.names, kept, strict=True))

    def threshold(self, first: int) -> float:
        """A value between the last unit that stays and the first that goes."""
        above = float(self.values[first - 1]) if first else float(self.values[0]) + 1
        below = float(self.values[first]) if first < len(self) else above - 1
        return (above + below) / 2


def threshold(bill: Bill, log_alpha: Mapping[str, Tensor], share: float) -> float:
    """The lowest log alpha such that the units above it use at most `share` of the limits, by bisection."""
    ranking = Ranking(log_alpha)
    low, high = 0, len(ranking)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if bill.use(ranking.counts(middle)) <= share else (low, middle - 1)
    return ranking.threshold(low)


def project(limits: Limits, frame: Plan, log_alpha: Mapping[str, Tensor], *, multiple: int = 8) -> Plan:
    """The plan of one threshold on log alpha for all units, as large as the limits allow.

    `log_alpha` is keyed as gates are. Hidden channels, where they are gated, are rounded to a `multiple`, neurons go in
    groups of `multiple`, and a unit counts no more than the block it is in. Units without a gate come first. Raises
    `BudgetError` when the bare frame does not fit.
    """
    anatomy = limits.anatomy
    gated = {name: v.detach().cpu().double() for name, v in log_alpha.items()}
    for kind, block in BLOCK_OF.items():
        for i, n in enumerate(getattr(anatomy.shape, kind)):
            if (whole := gated.pop(f"{block}_{i}", None)) is not None:
                gated[f"{kind}_{i}"] = torch.minimum(gated.get(f"{kind}_{i}", whole.expand(n)), whole)
    if "hidden" not in gated:
        return _within(limits, frame, gated, multiple)
    best = torch.argsort(gated["hidden"], descending=True, stable=True).tolist()
    width = _width(limits, frame, gated, multiple)

    def of_width(n: int) -> Plan:
        return _within(limits, replace(frame, hidden=tuple(sorted(best[:n]))), gated, multiple)

    plan = of_width(width)
    while (used := limits.use(anatomy.shape_of(plan))) < _LEAST and width < len(best):
        # Everything else fits already: the next channels push out the least of it.
        width = min(width + multiple, len(best))
        bare = replace(anatomy.shape_of(plan), hidden=width, heads=(0,) * anatomy.layers, neurons=(0,) * anatomy.layers)
        if limits.use(bare) > 1:
            break
        wider = of_width(width)
        plan = wider if limits.use(anatomy.shape_of(wider)) > used else plan
    return plan


def _within(limits: Limits, frame: Plan, log_alpha: Mapping[str, Tensor], multiple: int) -> Plan:
    """The heads and neurons with the largest alpha that fit at the width of the frame."""
    anatomy = limits.anatomy
    shape = anatomy.shape_of(frame)
    worth = {"hidden": torch.zeros(0)}
    for name, n in unit_sizes(anatomy).items():
        kind, layer = kind_of(name)
        if kind in BLOCK_OF:
            alpha = log_alpha[name].exp() if name in log_alpha else torch.full((n,), torch.inf).double()
            worth[name] = alpha * limits.price(shape, kind, layer)  # `allocate` divides by the price again
    return allocate(limits, Scores.from_gates(anatomy, worth), frame, multiple=multiple)


def _width(limits: Limits, frame: Plan, log_alpha: Mapping[str, Tensor], multiple: int) -> int:
    """How many hidden channels are above the global threshold, rounded to the nearest multiple."""
    sizes = {name: len(v) for name, v in log_alpha.items()}
    bill = Bill(limits, frame, sizes, multiple)
    ranking = Ranking(log_alpha)

    def rounded(first: int) -> dict[str, int]:
        counts = ranking.counts(first)
        for name in counts:
            if not name.startswith("heads"):
                nearest = multiple * ((2 * counts[name] + multiple) // (2 * multiple))
                counts[name] = min(max(nearest, multiple if name == "hidden" else 0), sizes[name])
        return counts

    low, high = 0, len(ranking)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if bill.use(rounded(middle)) <= 1 else (low, middle - 1)
    return rounded(low)["hidden"]
