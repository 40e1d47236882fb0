"""Mutual information and entropy of continuous values sorted into bins.

Three ways to choose the bins, each a small object with `codes`, and each the base of an estimator:

    FixedBins       equal widths: over a given range, over that of the data, or over the whole line
    QuantileBins    equal numbers of rows, column by column
    AdaptiveBins    equal numbers of different values, pooled over the columns of a layer, with bins of their own for
                    the value at which an activation rests and for the largest one: Chelombiev, Houghton and O'Donnell,
                    "Adaptive Estimators Show Information Compression in Deep Neural Networks" (2019), there EBAB

The pooled edges of AdaptiveBins are u[floor(b m / B)], b = 0, ..., B - 1, of the m sorted different values u above the
resting value, so that its codes are the same after any increasing map that leaves the resting value where it is.

What is estimated is the information of the codes, by counting (see `discrete`). It depends on the bins: for a
deterministic y = f(x) of continuous x the true value is infinite, and the figure says how many bins there are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.information.discrete import (
    FULL,
    MILLER,
    ROWS,
    Correction,
    counted_entropy,
    counted_information,
    few_rows,
    full_house,
    row_codes,
)
from narrows.information.estimate import Caution, Estimate, MIEstimate, saturation
from narrows.information.inputs import Codes, Real, Samples, column_cautions, columns, pair

ADAPTIVE = register_reference(
    Reference(
        "arXiv:1902.09037",
        "Adaptive Estimators Show Information Compression in Deep Neural Networks",
        ("Ivan Chelombiev", "Conor Houghton", "Cian O'Donnell"),
        2019,
        "International Conference on Learning Representations",
    )
)

BINS = 30
_ON_EDGE = 1e-6  # of the range (or width): a value so little below an edge is meant to lie on it
_POOL = 1_000_000  # values of a layer that choose the edges


class Bins(Protocol):
    """A way to sort the values of real columns into bins."""

    def codes(self, t: Real) -> Codes:
        """The bin of every value of `t`, (n, d), as whole numbers of the same shape."""

    def describe(self, t: Real) -> str:
        """How wide the bins are for `t`, in words."""


@dataclass(frozen=True)
class FixedBins:
    """`count` bins of equal width over `range`, or bins of `width` over the whole line.

    Without a range it is that of the data: of all columns together, or `per_column`. Values outside a given range
    belong to the outermost bins; the upper end belongs to the last one.
    """

    count: int = BINS
    range: tuple[float, float] | None = None
    width: float | None = None
    per_column: bool = False

    def __post_init__(self) -> None:
        _enough(self.count)
        if self.width is not None and not (self.width > 0 and math.isfinite(self.width)):
            raise DataError(f"the width of bins must be positive, got {self.width}")
        if self.width is not None and (self.range is not None or self.per_column):
            raise DataError("bins of a width cover the whole line: give a width, or a range, not both")
        if self.range is not None and not (-math.inf < self.range[0] < self.range[1] < math.inf):
            raise DataError(f"a range goes from a smaller to a larger number, got {self.range}")

    def widths(self, t: Real) -> Real:
        """The width of the bins of each column; shape (d,)."""
        if self.width is not None:
            return np.full(t.shape[1], self.width)
        low, high = self._ends(t)
        return (high - low) / self.count

    def codes(self, t: Real) -> Codes:
        if self.width is not None:
            return _whole(np.floor(t / self.width + _ON_EDGE))
        low, high = self._ends(t)
        span = np.where(high > low, high - low, 1.0)
        # Rounded decimals often lie on edges: without the margin their binary digits would choose the bin.
        return _whole(np.clip(np.floor(((t - low) / span + _ON_EDGE) * self.count), 0, self.count - 1))

    def describe(self, t: Real) -> str:
        widths = self.widths(t)
        low, high = float(widths.min()), float(widths.max())
        return f"bins {low:.3g} wide" if low == high else f"bins from {low:.3g} to {high:.3g} wide"

    def _ends(self, t: Real) -> tuple[Real, Real]:
        if self.range is not None:
            low, high = (np.full(t.shape[1], end, dtype=np.float64) for end in self.range)
        elif self.per_column:
            low, high = t.min(axis=0), t.max(axis=0)
        else:
            low, high = np.full(t.shape[1], t.min()), np.full(t.shape[1], t.max())
        return low, high


@dataclass(frozen=True)
class QuantileBins:
    """`count` bins a column, each with the same number of rows; equal values stay together."""

    count: int = BINS

    def __post_init__(self) -> None:
        _enough(self.count)

    def codes(self, t: Real) -> Codes:
        edges = self._edges(t)
        return np.stack([np.searchsorted(e, c, side="right") for e, c in zip(edges, t.T, strict=True)], axis=1)

    def describe(self, t: Real) -> str:
        inner = np.diff(self._edges(t), axis=1)
        if not inner.size:
            return "2 bins of equal numbers of rows, cut at the median"
        return f"{self.count} bins of equal numbers of rows, the inner ones {inner.min():.3g} to {inner.max():.3g} wide"

    def _edges(self, t: Real) -> Real:
        n = len(t)
        # Order statistics, not interpolated quantiles: they follow every increasing map.
        edges: Real = np.sort(t, axis=0)[[b * n // self.count for b in range(1, self.count)]].T
        return edges


@dataclass(frozen=True)
class AdaptiveBins:
    """`count` bins with equal numbers of different values of a whole layer, and one each for rest and maximum.

    `activation` names where units rest: one of `AdaptiveBins.RESTS`. `low` says it as a number; without either, no
    value rests. `on` "samples" counts all values instead of the different ones. Edges are found in the precision of the
    values, and from at most a million of them, evenly taken.
    """

    RESTS: ClassVar[dict[str, float]] = {
        "elu": -1.0,
        "relu": 0.0,
        "sigmoid": 0.0,
        "softplus": 0.0,
        "swish": -0.2785,
        "tanh": -1.0,
    }

    count: int = BINS
    activation: str | None = None
    low: float | None = None
    on: Literal["unique", "samples"] = "unique"

    def __post_init__(self) -> None:
        _enough(self.count)
        if self.activation is not None and self.activation not in self.RESTS:
            raise DataError(f"no rest is known for {self.activation!r}, only for {', '.join(self.RESTS)}: give `low`")
        if self.activation is not None and self.low is not None:
            raise DataError("give the activation or its lowest value, not both")
        if self.on not in ("unique", "samples"):
            raise DataError(f"bins count 'unique' values or 'samples', got {self.on!r}")

    def edges(self, t: NDArray[Any]) -> NDArray[Any]:
        """The `count` + 2 edges for the values of `t` in its precision; only the first where all values rest."""
        low = self._rest(t)
        pool = t.reshape(-1)
        pool = pool[pool != low]
        if pool.size > _POOL:
            pool = np.append(pool[:: -(-pool.size // _POOL)], [pool.min(), pool.max()])
        u = np.unique(pool) if self.on == "unique" else np.sort(pool)
        if not len(u):
            return np.array([low])
        chosen = [b * len(u) // self.count for b in range(self.count)]
        return np.concatenate([[low], u[chosen], u[-1:]])

    def codes(self, t: Real) -> Codes:
        return np.searchsorted(self.edges(t), t, side="right").astype(np.int64)

    def describe(self, t: Real) -> str:
        inner = np.diff(self.edges(t)[1:-1])
        if not inner.size:
            return "one bin for all values"
        taken = f", chosen from {_POOL} of {t.size} values" if t.size > _POOL else ""
        kind = "different values" if self.on == "unique" else "values"
        return f"{self.count} bins of equally many {kind}, {inner.min():.3g} to {inner.max():.3g} wide{taken}"

    def _rest(self, t: NDArray[Any]) -> Any:
        least = t.min()
        low = self.RESTS[self.activation] if self.activation else self.low
        if low is None:
            return np.nextafter(least, t.dtype.type(-np.inf))
        if low > least:
            name = f"of {self.activation} " if self.activation else ""
            raise DataError(f"the lowest value {name}should be {low}, but the layer holds {least}: no bin is below")
        return t.dtype.type(low)


@cites(MILLER.key)
def binned(
    x: Samples,
    y: Samples,
    bins: int | None = None,
    *,
    width: float | None = None,
    per_column: bool = True,
    correction: Correction = "miller_madow",
) -> MIEstimate:
    """Mutual information in nats of x (n, dx) and y (n, dy) in bins of equal width.

    `bins` a column over the range of the data, at most 30 and with ten rows for each cell where it is not given; or
    bins of `width`. `per_column` False gives all columns of a side the same edges. Raises DataError for fewer than two
    bins.
    """
    a, b = pair(x, y)
    if width is not None:
        if bins is not None:
            raise DataError("give the number of bins or their width, not both")
        rule = FixedBins(width=width)
        return _information("binned", a, b, rule, rule, correction, {"width": width})
    rule = FixedBins(_count(bins, len(a), a.shape[1] + b.shape[1]), per_column=per_column)
    return _information("binned", a, b, rule, rule, correction, {"bins": rule.count})


@cites(MILLER.key)
def quantile_binned(
    x: Samples, y: Samples, bins: int | None = None, *, correction: Correction = "miller_madow"
) -> MIEstimate:
    """Mutual information in nats of x (n, dx) and y (n, dy) in bins with equal numbers of rows.

    The same after any increasing map of a column. `bins` a column, chosen as for `binned`.
    """
    a, b = pair(x, y)
    rule = QuantileBins(_count(bins, len(a), a.shape[1] + b.shape[1]))
    return _information("quantile_binned", a, b, rule, rule, correction, {"bins": rule.count})


@cites(ADAPTIVE.key)
def adaptive_binned(
    x: Samples,
    y: Samples,
    bins: int | None = None,
    *,
    low_x: float | None = None,
    low_y: float | None = None,
    correction: Correction = "miller_madow",
) -> MIEstimate:
    """Mutual information in nats of x (n, dx) and y (n, dy), each side in adaptive bins shared by its columns.

    Meant for sides whose columns are of one kind, such as the units of a layer. `low_x` and `low_y` are the values at
    which they rest, if any; `bins` is chosen as for `binned`. Raises DataError for a value below the rest.
    Source: Chelombiev et al. 2019.
    """
    a, b = pair(x, y)
    count = _count(bins, len(a), a.shape[1] + b.shape[1])
    rules = AdaptiveBins(count, low=low_x), AdaptiveBins(count, low=low_y)
    return _information("adaptive_binned", a, b, *rules, correction, {"bins": count})


@cites(MILLER.key)
def binned_entropy(x: Samples, bins: int | None = None, *, correction: Correction = "miller_madow") -> Estimate:
    """Differential entropy in nats of x (n, d) from a histogram: the entropy of the cells plus the log of their volume.

    `bins` of equal width a column over its range, chosen as for `binned`. Details have the entropy of the cells alone;
    that of other bins is `discrete_entropy(bins.codes(x))`. Raises DataError for a column that never changes.
    """
    a = columns(x)
    if (still := int((np.ptp(a, axis=0) == 0).sum())) > 0:
        raise DataError(f"{still} of {a.shape[1]} columns never change: their differential entropy is minus infinity")
    rule = FixedBins(_count(bins, *a.shape), per_column=True)
    of_cells, error, cells = counted_entropy(row_codes(rule.codes(a)), correction)
    text = f"{rule.describe(a)}: structure finer than that is not seen"
    return Estimate(
        of_cells + float(np.log(rule.widths(a)).sum()),
        "binned_entropy",
        len(a),
        (a.shape[1],),
        standard_error=error,
        cautions=(
            *_column_cautions(rule, x=a),
            Caution("resolution", text),
            *few_rows(len(a), (cells,)),
            *full_house(of_cells, len(a)),
        ),
        details={"bins": rule.count, "entropy of the cells": of_cells, "cells": cells, "correction": correction},
    )


def _information(
    method: str, x: Real, y: Real, bins_x: Bins, bins_y: Bins, correction: Correction, details: dict[str, Any]
) -> MIEstimate:
    a, b = row_codes(bins_x.codes(x)), row_codes(bins_y.codes(y))
    value, error, cells = counted_information(a, b, correction)
    text = f"x has {bins_x.describe(x)}; y has {bins_y.describe(y)}: the figure depends on that"
    return MIEstimate(
        value,
        method,
        len(x),
        (x.shape[1], y.shape[1]),
        standard_error=error,
        cautions=(
            *_column_cautions(bins_x, x=x, y=y),
            Caution("resolution", text),
            *_deterministic(a, b),
            *few_rows(len(x), cells),
            *saturation(value, len(x)),
        ),
        details={**details, "correction": correction, "cells": list(cells)},
    )


def _deterministic(a: Codes, b: Codes) -> tuple[Caution, ...]:
    """The caution that the bin of one side all but fixes that of the other."""
    least = min(counted_entropy(a)[0], counted_entropy(b)[0])
    if least <= 0 or counted_information(a, b)[0] < FULL * least:
        return ()
    text = (
        "the bin of one side fixes that of the other: for continuous values without noise the true value is infinite, "
        "for a deterministic network it is infinite or the entropy of the inputs, and this figure is that of the bins"
    )
    return (Caution("deterministic", text),)


def _column_cautions(bins: Bins, **sides: Real) -> tuple[Caution, ...]:
    # Equal values share a bin, so that ties do no harm; tails do where the bins are equally wide.
    drop = ("ties",) if isinstance(bins, FixedBins) else ("ties", "heavy tails")
    return tuple(c for c in column_cautions(**sides) if c.trouble not in drop)


def _count(bins: int | None, n: int, d: int) -> int:
    return max(2, min(BINS, int((n / ROWS) ** (1 / d)))) if bins is None else bins


def _enough(count: int) -> None:
    if count < 2:
        raise DataError(f"at least two bins are needed, got {count}")


def _whole(code: Real) -> Codes:
    if np.abs(code).max() >= 2.0**53:
        raise DataError("the bins are too narrow for values this large: they can no longer be told apart")
    return code.astype(np.int64)
