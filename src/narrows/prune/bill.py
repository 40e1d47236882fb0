"""What gated units cost: exactly when they are on or off, in expectation when they are kept by chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from narrows.core.errors import ModelError
from narrows.prune.scores import Limits
from narrows.transformer.cost import cost_of_shape
from narrows.transformer.plan import Plan, Shape

BLOCK_OF = {"heads": "attention", "neurons": "ffn"}
_UNITS_OF = {block: kind for kind, block in BLOCK_OF.items()}
_WIDTHS = (1, 2, 3)  # costs are quadratic in the hidden width: three values say all


def kind_of(name: str) -> tuple[str, int]:
    """`heads_3` is ("heads", 3); `hidden` is of layer 0."""
    kind, _, layer = name.partition("_")
    return kind, int(layer or 0)


class Bill:
    """The cost of gated units as a share of the limits (1 is the budget), and the price of one more of each.

    `sizes` are the gates and their numbers of units (`hidden`, `heads_l`, `neurons_l`, `attention_l`,
    `ffn_l`); what has no gate is kept whole. Width, rank and vocabulary are those of `frame`; at least
    `floor` hidden units stay. `price[gate]` is a share summed over the limits, taken where all gated kinds
    have shrunk alike to the budget. Raises `ModelError` for hidden gates and a frame that is narrower or in
    a rotated basis.
    """

    def __init__(self, limits: Limits, frame: Plan, sizes: Mapping[str, int], floor: int) -> None:
        dense = limits.anatomy.shape
        if "hidden" in sizes and (frame.basis != "channels" or len(frame.hidden) < dense.hidden):
            raise ModelError("gates on hidden channels need a frame of full width in the basis 'channels'")
        self.limits, self.sizes, self.floor = limits, dict(sizes), min(floor, dense.hidden)
        self.whole = replace(limits.anatomy.shape_of(frame), heads=dense.heads, neurons=dense.neurons)
        self.full = limits.use(self.whole)
        self.price = self._prices(self._typical())
        self._bare, self._per_unit, self._per_block = self._coefficients()

    def shape(self, counts: Mapping[str, int]) -> Shape:
        """The shape with so many units kept behind each gate; a gate that is not named keeps all."""

        def kept(kind: str) -> tuple[int, ...]:
            whole = enumerate(getattr(self.whole, kind))
            blocks = [counts.get(f"{BLOCK_OF[kind]}_{i}", 1) for i in range(self.limits.anatomy.layers)]
            return tuple(counts.get(f"{kind}_{i}", n) if blocks[i] else 0 for i, n in whole)

        hidden = max(counts["hidden"], self.floor) if "hidden" in counts else self.whole.hidden
        return replace(self.whole, hidden=hidden, heads=kept("heads"), neurons=kept("neurons"))

    def use(self, counts: Mapping[str, int]) -> float:
        """The largest share of a limit that so many kept units use."""
        return self.limits.use(self.shape(counts))

    def expected(self, probability: Mapping[str, Tensor]) -> Tensor:
        """The share of each limit in expectation when units are kept independently, float64 (limits,).

        `probability[gate]` (n,) in [0, 1]; where all are 0 or 1 this is the exact share. Differentiable.
        """
        p = {name: value.double() for name, value in probability.items()}
        device = next(iter(p.values())).device
        one = torch.ones((), dtype=torch.float64, device=device)
        width = p["hidden"].sum() if "hidden" in p else self.whole.hidden * one
        powers = torch.stack([width**k for k in range(len(_WIDTHS))])
        total = self._bare.to(device) @ powers
        for name, per_unit in self._per_unit.items():
            kind, layer = kind_of(name)
            count, present = getattr(self.whole, kind)[layer] * one, one
            if name in p:
                count = p[name].sum()
                present = 1 - torch.log1p(-p[name].clamp(max=1 - 1e-12)).sum().exp()
            cost = (per_unit.to(device) @ powers) * count
            cost = cost + (self._per_block[name].to(device) @ powers) * present
            block = p.get(f"{BLOCK_OF[kind]}_{layer}")
            total = total + (cost if block is None else cost * block.sum())
        return total

    def _shares(self, shape: Shape) -> Tensor:
        """The share of each limit, float64 (limits,)."""
        cost = cost_of_shape(self.limits.anatomy, shape, self.limits.dense.tokens)
        shares = [b.spent(cost) / b.limit(self.limits.dense) for b in self.limits.budgets]
        return torch.tensor(shares, dtype=torch.float64)

    def _typical(self) -> Shape:
        """The shape where all gated kinds have shrunk by one factor until the budget is met."""

        def shrunk(factor: float) -> Shape:
            return self.shape({name: max(1, round(factor * n)) for name, n in self.sizes.items()})

        low, high = 0.0, 1.0
        for _ in range(20):
            middle = (low + high) / 2
            low, high = (middle, high) if self.limits.use(shrunk(middle)) <= 1 else (low, middle)
        return shrunk(high)

    def _prices(self, typical: Shape) -> dict[str, float]:
        prices = {}
        for name in self.sizes:
            kind, layer = kind_of(name)
            if kind in BLOCK_OF:
                prices[name] = self.limits.price(typical, kind, layer)
                continue
            if kind == "hidden":
                without = replace(typical, hidden=typical.hidden - 1)
            else:
                without = _with(typical, _UNITS_OF[kind], layer, 0)
            prices[name] = float((self._shares(typical) - self._shares(without)).sum())
        return prices

    def _coefficients(self) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Each share as polynomials in the width, lowest power first, (limits, 3).

        For the bare model, and for `heads_l` and `neurons_l` that of one more unit and what a block's first
        unit costs beyond that.
        """
        layers = self.limits.anatomy.layers
        bare = replace(self.whole, heads=(0,) * layers, neurons=(0,) * layers)
        widths = _WIDTHS if "hidden" in self.sizes else (self.whole.hidden,)
        powers = torch.tensor([[float(w**k) for k in range(len(widths))] for w in widths]).double()

        def shares(kind: str, layer: int, count: int) -> Tensor:
            rows = [self._shares(_with(replace(bare, hidden=w), kind, layer, count)) for w in widths]
            return torch.stack(rows)

        def polynomial(values: Tensor) -> Tensor:
            return F.pad(torch.linalg.solve(powers, values).T, (0, len(_WIDTHS) - len(widths)))

        empty = shares("heads", 0, 0)
        per_unit, per_block = {}, {}
        for kind in BLOCK_OF:
            for layer, n in enumerate(getattr(self.whole, kind)):
                if n:
                    one, two = shares(kind, layer, 1), shares(kind, layer, 2)
                    per_unit[f"{kind}_{layer}"] = polynomial(two - one)
                    per_block[f"{kind}_{layer}"] = polynomial(2 * one - two - empty)
        return polynomial(empty), per_unit, per_block


def _with(shape: Shape, kind: str, layer: int, count: int) -> Shape:
    counts = list(getattr(shape, kind))
    counts[layer] = count
    kept = tuple(counts)
    return replace(shape, heads=kept) if kind == "heads" else replace(shape, neurons=kept)
