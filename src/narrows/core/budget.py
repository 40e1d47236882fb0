"""A limit on one cost, as a person writes it."""

import math
import re
from dataclasses import dataclass
from typing import Literal, Self, get_args

from narrows.core.cost import Cost
from narrows.core.errors import BudgetError

Measure = Literal["params", "macs", "bytes", "latency"]

FORMS = '"20% params", "2M params", "30% MACs", "2 GMACs", "50% bytes", "4 MB", "20% latency", "5 ms"'

_NAMES: dict[str, Measure] = {
    "param": "params",
    "params": "params",
    "parameters": "params",
    "mac": "macs",
    "macs": "macs",
    "b": "bytes",
    "byte": "bytes",
    "bytes": "bytes",
    "size": "bytes",
    "latency": "latency",
}
_SCALES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_WORD: dict[Measure, str] = {"params": "params", "macs": "MACs", "bytes": "B"}
_TEXT = re.compile(r"\s*(?P<number>\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+)\s*(?P<unit>[a-z%][a-z%\s]*?)\s*", re.I)


@dataclass(frozen=True)
class Budget:
    """A limit on one measure: percent of the dense model if `relative`, else parameters, MACs, bytes or ms.

    Latency means milliseconds for one example at a time (batch size 1). Raises BudgetError where the amount
    is not a positive number, or more than 100 %.
    """

    measure: Measure
    amount: float
    relative: bool

    def __post_init__(self) -> None:
        if self.measure not in get_args(Measure):
            raise BudgetError(f"unknown measure {self.measure!r}; known are {', '.join(get_args(Measure))}")
        if not (math.isfinite(self.amount) and self.amount > 0):
            raise BudgetError(f"a budget is a positive number, got {self.amount:g}")
        if self.relative and self.amount > 100:
            raise BudgetError(f"a relative budget is at most 100 % of the dense model, got {self.amount:g} %")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The budget a text such as `"20% params"` or `"2 GMACs"` describes, in powers of 1000."""
        match = _TEXT.fullmatch(text)
        if match:
            number, unit = float(match["number"]), "".join(match["unit"].lower().split())
            if unit.startswith("%") and (measure := _NAMES.get(unit[1:])):
                return cls(measure, number, relative=True)
            if unit in _SECONDS:
                return cls("latency", number * _SECONDS[unit], relative=False)
            for name, measure in _NAMES.items():
                scale = unit.removesuffix(name)
                # A bare "size" or "latency" has no unit: only a percentage makes sense of it.
                if unit.endswith(name) and name not in ("size", "latency"):
                    if measure == "params" and scale == "b":
                        scale = "g"
                    if scale in _SCALES:
                        return cls(measure, number * _SCALES[scale], relative=False)
        raise BudgetError(f"cannot read the budget {text!r}; accepted are for example {FORMS}")

    def spent(self, cost: Cost) -> float:
        """What `cost` spends of this budget's measure; BudgetError where a latency was never measured."""
        if self.measure != "latency":
            return float(getattr(cost, self.measure))
        if not cost.latency_ms or "1" not in cost.latency_ms:
            raise BudgetError("the latency at batch size 1 was not measured for this model: measure it first")
        return cost.latency_ms["1"]

    def limit(self, dense: Cost) -> float:
        """The largest amount allowed, in the measure's own unit, for a model whose dense cost is `dense`."""
        return self.spent(dense) * self.amount / 100 if self.relative else self.amount

    def allows(self, cost: Cost, dense: Cost) -> bool:
        """Whether `cost` stays within the budget."""
        return self.spent(cost) <= self.limit(dense)

    def __str__(self) -> str:
        if self.relative:
            return f"{_number(self.amount)}% {'bytes' if self.measure == 'bytes' else self._word}"
        if self.measure == "latency":
            return f"{_number(self.amount)} ms"
        for letter in ("T", "G", "M", "k"):
            scale = _SCALES[letter.lower()]
            # Only where the short form is the same number, so that parse(str(budget)) == budget.
            if self.amount >= scale and float(_number(self.amount / scale)) * scale == self.amount:
                text = _number(self.amount / scale)
                return f"{text}{letter} params" if self.measure == "params" else f"{text} {letter}{self._word}"
        return f"{_number(self.amount)} {self._word}"

    @property
    def _word(self) -> str:
        return _WORD.get(self.measure, self.measure)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
