"""What an estimator answers: a number, its unit, how far to trust it, and what it says about its own limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from narrows.core.errors import NarrowsError

Kind = Literal["point", "lower", "upper"]
Unit = Literal["nats", "none"]
Trouble = Literal[
    "assumption",  # holds only for the family of laws that the text names
    "constant column",
    "deterministic",  # the true value is infinite or an entropy; the figure depends on a resolution
    "duplicate columns",
    "few samples",
    "heavy tails",
    "high dimension",
    "overfitting",
    "resolution",  # the figure depends on bins, bandwidth or another scale
    "saturated",  # at or near what the method can say with this many samples
    "ties",
]


@dataclass(frozen=True)
class Caution:
    """A limit that an estimate has met: which one, and in words what it means here and what to do."""

    trouble: Trouble
    text: str


@dataclass(frozen=True)
class Estimate:
    """A figure estimated from `n` rows of sides with `dims` columns.

    `value` is in `unit`: nats, or "none" for a measure that has no unit. `kind` says whether it estimates the quantity
    itself or bounds it. `standard_error` is None where the method has none. `details` are the method's own figures,
    such as the neighbours it used or which part answered; plain numbers, text, and lists of these.
    """

    value: float
    method: str
    n: int
    dims: tuple[int, ...]
    standard_error: float | None = None
    kind: Kind = "point"
    unit: Unit = "nats"
    cautions: tuple[Caution, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise NarrowsError(f"{self.method} gave {self.value} on {self.n} rows, which is no estimate")

    def __float__(self) -> float:
        return self.value

    @property
    def bits(self) -> float:
        """The value in bits; NarrowsError for a measure without a unit."""
        if self.unit != "nats":
            raise NarrowsError(f"{self.method} is not an amount of information: it has no unit")
        return self.value / math.log(2)

    @property
    def saturated(self) -> bool:
        """Whether the truth may lie far above: the value is at or near what this many rows can show."""
        return self.has("saturated")

    def has(self, trouble: Trouble) -> bool:
        """Whether there is a caution of this kind."""
        return any(caution.trouble == trouble for caution in self.cautions)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self) | {"dims": list(self.dims), "details": dict(self.details)}


@dataclass(frozen=True)
class MIEstimate(Estimate):
    """Mutual information in nats between a side of `dims[0]` columns and one of `dims[1]`.

    A sampling error can make it negative; it is not clipped, which would bias an average over independent sides.
    """


def saturation(value: float, n: int) -> tuple[Caution, ...]:
    """The caution that `n` rows are too few for `value` nats: a rule of thumb is 10 e^I rows (Kraskov et al. 2004)."""
    if n >= 10 * math.exp(min(value, 700.0)):
        return ()
    want = 10 * math.exp(min(value, 30.0))
    text = f"{value:.2f} nats want at least {want:.0f} rows, here are {n}: take it as a floor"
    return (Caution("saturated", text),)
