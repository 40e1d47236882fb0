"""Mutual information without a choice of method: looks at the columns, asks what can be trusted there, says which.

1. Columns are sorted into discrete ones (at most sqrt(n) values; integers and text are labels) and others.
   Two discrete sides: counts of cells (Miller-Madow). A discrete side against one or two columns: mixed KSG.
   Against more: classifiers (`label`), or mixed KSG where that finds clearly more.
   Sides that are partly discrete, C with discrete D: the chain rule, each term within the groups of its condition,

       I(x; y) = I(Dx; Dy) + I(Cx; Dy | Dx) + I(Dx; Cy | Dy) + I(Cx; Cy | Dx, Dy).

2. A single column in separate clusters L against three columns or more: I(x; L) + I(x; y | L).
3. Other sides, with ties broken at random: neighbours (`ksg_extrapolated`) for up to three columns in all. For more,
   the elliptical family where it passes its check on unseen rows and neighbours do not find clearly more; neighbours
   otherwise. For more than 12 columns these are the neighbours of `screen`: a lower bound. Dependence of another kind
   may be spread over so many columns, so a critic (`infonce`, on rows it has not seen) answers where it finds clearly
   more than both.

"Clearly more" is 0.05 nats, a tenth, or three standard errors of the neighbours, whichever is largest: these errors
count rows as independent, and repeated samples spread up to one and a half times as far.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from narrows.core.cite import cites
from narrows.information.elliptical import SCATTER, elliptical
from narrows.information.estimate import Caution, MIEstimate, saturation
from narrows.information.inputs import (
    Codes,
    Real,
    Samples,
    codes,
    column_cautions,
    columns,
    is_label,
    same_rows,
    telling,
)
from narrows.information.ksg import KSG, MIXED, ksg_extrapolated, mixed_ksg
from narrows.information.label import BOUND, label
from narrows.information.neural import infonce
from narrows.information.screen import screen

LEAST = 40
"""Rows that are needed to look at the columns."""
FEW, MANY = 3, 12
"""Columns in all up to which neighbours are best, and up to which they see anything."""
_BATCH = 256  # rows among which a critic tells pairs: it shows little more than the logarithm of their number
_CELLS = 0.1  # share of rows that may lie in groups too small to look at


@cites(KSG.key, MIXED.key, SCATTER.key, BOUND.key)
def auto(x: Samples, y: Samples, *, seed: int = 0) -> MIEstimate:
    """Mutual information in nats of x and y, real or discrete, of any number of columns, by whatever suits them.

    `details` say which `part` answered, `why`, and the figures that were compared. `kind` is "lower" where the truth
    may be higher because the part sees a few columns, or a classifier, only. Raises DataError for fewer than 40 rows.
    """
    left, right = _Side.of(x, "x"), _Side.of(y, "y")
    same_rows(left.every, right.every, LEAST)
    found = _sides(left, right, seed)
    cautions = (*left.cautions, *right.cautions, *_in_common(left.real, right.real), *found.cautions)
    return replace(found, method="auto", dims=(left.dims, right.dims), cautions=_unique(cautions))


@dataclass(frozen=True)
class _Side:
    """A side in two parts; either may have no columns."""

    real: Real  # continuous columns, (n, c)
    discrete: Real  # columns of few values, (n, d), or the codes of a label
    nominal: bool  # the values of `discrete` have no order
    dims: int  # of the side as it was given
    cautions: tuple[Caution, ...] = ()

    @classmethod
    def of(cls, x: Samples, name: str) -> _Side:
        """Sort the columns, leaving out what is constant or repeated."""
        if is_label(x):
            names = codes(x, name)[:, None].astype(np.float64)
            return cls(names[:, :0], names if np.ptp(names) else names[:, :0], True, 1)
        every = columns(x, name)
        told = every[:, telling(every)]
        few = np.array([len(np.unique(c)) <= math.sqrt(len(every)) for c in told.T], dtype=bool)
        found = tuple(
            c for c in column_cautions(**{name: every}) if c.trouble in ("constant column", "duplicate columns")
        )
        return cls(told[:, ~few], told[:, few], False, every.shape[1], found)

    @property
    def every(self) -> Real:
        return np.concatenate([self.real, self.discrete], axis=1)

    @property
    def codes(self) -> Codes:
        """Each different row of the discrete part as a number; all 0 where there is none."""
        return codes(self.discrete) if self.discrete.shape[1] else np.zeros(len(self.real), dtype=np.int64)

    @property
    def as_given(self) -> Samples:
        """Real columns, or names where values have no order."""
        return self.codes.astype(str) if self.nominal else self.every


def _sides(left: _Side, right: _Side, seed: int) -> MIEstimate:
    d = left.every.shape[1] + right.every.shape[1]
    if not left.every.size or not right.every.size:
        return _answer(0.0, 0.0, len(left.real), "constant", "a side never changes")
    parts = [bool(s.real.shape[1]) + 2 * bool(s.discrete.shape[1]) for s in (left, right)]
    if parts == [1, 1]:
        return _clustered(left.real, right.real, seed) or _continuous(left.real, right.real, seed)
    if parts == [2, 2]:
        return _cells(left.codes, right.codes)
    if sorted(parts) == [1, 2]:
        return _labelled(*((left.real, right) if parts[0] == 1 else (right.real, left)), seed)
    if d <= FEW:
        return _taken(mixed_ksg(left.as_given, right.as_given), "a side is partly discrete, and columns are few")
    return _chain(left, right, seed)


def _cells(a: Codes, b: Codes) -> MIEstimate:
    """Two discrete sides: entropies of counts with the correction of Miller and Madow."""
    n = len(a)
    cell = codes(np.stack([a, b], axis=1))
    counts = [np.bincount(c) for c in (a, b, cell)]
    of_a, of_b, of_cell = (c[i] for c, i in zip(counts, (a, b, cell), strict=True))
    terms = np.log(of_cell * n / (of_a * of_b))
    bias = (len(counts[2]) - len(counts[0]) - len(counts[1]) + 1) / (2 * n)
    found = _answer(
        float(terms.mean()) - bias,
        math.sqrt(terms.var() / n + (len(counts[0]) - 1) * (len(counts[1]) - 1) / (2 * n**2)),
        n,
        "cells",
        "both sides are discrete: counts of their cells, corrected for the bias",
        bias=bias,
    )
    if len(counts[2]) < n / 5:
        return found
    text = f"{len(counts[2])} different pairs of values in {n} rows: the bias is larger than can be corrected"
    return replace(found, cautions=(Caution("few samples", text),))


def _labelled(x: Real, side: _Side, seed: int) -> MIEstimate:
    """Continuous columns against a discrete side."""
    states = int(side.codes.max()) + 1
    several = side.discrete.shape[1] > 1
    if states > math.sqrt(len(x)) and (several or side.nominal):
        text = f"{states} different values on the discrete side: few rows for each of them"
        found = _taken(mixed_ksg(x, side.as_given), "a side is discrete, with too many values for classifiers")
        return replace(found, cautions=(*found.cautions, Caution("few samples", text)))
    near = mixed_ksg(x, side.codes.astype(str) if several else side.as_given)
    if x.shape[1] <= 2:
        return _taken(near, "a side is discrete and the other has few columns")
    told = label(x, side.codes, seed=seed)
    figures = {"label": told.value, "mixed_ksg": near.value, "margin": _margin(near)}
    if near.value > told.value + _margin(near):
        return _taken(near, "a side is discrete, and neighbours tell its values better than classifiers do", **figures)
    return _taken(told, "a side is discrete, and classifiers tell its values", **figures)


def _chain(left: _Side, right: _Side, seed: int) -> MIEstimate:
    """Sides that are partly discrete, by the chain rule; mixed KSG where the groups are too small for that."""
    n = len(left.real)
    of_x, of_y = left.codes, right.codes
    both = codes(np.stack([of_x, of_y], axis=1))
    real = left.real.shape[1] > 0, right.real.shape[1] > 0
    discrete = left.discrete.shape[1] > 0, right.discrete.shape[1] > 0
    terms: dict[str, MIEstimate | None] = {}
    if all(discrete):
        terms["I(Dx; Dy)"] = _cells(of_x, of_y)
    if real[0] and discrete[1]:
        terms["I(Cx; Dy | Dx)"] = _within(of_x, lambda i: _labelled_within(left.real[i], right, i, seed))
    if discrete[0] and real[1]:
        terms["I(Dx; Cy | Dy)"] = _within(of_y, lambda i: _labelled_within(right.real[i], left, i, seed))
    if all(real):
        terms["I(Cx; Cy | Dx, Dy)"] = _within(both, lambda i: _continuous(left.real[i], right.real[i], seed))
    if any(term is None for term in terms.values()):
        text = "sides that are partly discrete, with too few rows for each of their values: neighbours miss a part"
        found = _taken(mixed_ksg(left.as_given, right.as_given), "groups of equal discrete values are too small")
        return replace(found, cautions=(*found.cautions, Caution("few samples", text)))
    found_terms = {name: term for name, term in terms.items() if term is not None}
    return _sum(n, found_terms, "chain rule", "sides are partly discrete: the chain rule, each term by what suits it")


def _labelled_within(x: Real, side: _Side, rows: Codes, seed: int) -> MIEstimate:
    discrete = side.discrete[rows]
    changing = discrete[:, np.ptp(discrete, axis=0) > 0]
    if not changing.shape[1]:
        return _answer(0.0, 0.0, len(x), "constant", "a side never changes")
    return _labelled(x, replace(side, real=x[:, :0], discrete=changing), seed)


def _within(groups: Codes, estimate: Callable[[Codes], MIEstimate]) -> MIEstimate | None:
    """The mean of an estimate over groups of rows; None where too many rows are in groups too small for it."""
    n = len(groups)
    rows = [np.flatnonzero(groups == g) for g in range(int(groups.max()) + 1)]
    rows = [r for r in rows if len(r) >= LEAST]
    covered = sum(len(r) for r in rows)
    if covered < (1 - _CELLS) * n:
        return None
    found = [estimate(r) for r in rows]
    shares = [len(r) / covered for r in rows]
    return replace(
        _answer(
            sum(s * f.value for s, f in zip(shares, found, strict=True)),
            math.sqrt(sum((s * (f.standard_error or 0.0)) ** 2 for s, f in zip(shares, found, strict=True))),
            n,
            "groups",
            "",
        ),
        kind="lower" if any(f.kind == "lower" for f in found) else "point",
        cautions=_unique(c for f in found for c in f.cautions if c.trouble not in ("saturated", "few samples")),
    )


def _clustered(x: Real, y: Real, seed: int) -> MIEstimate | None:
    """A single column that lies in separate clusters against many; None where there are none."""
    if min(x.shape[1], y.shape[1]) > 1 or x.shape[1] + y.shape[1] <= FEW:
        return None
    single, many = (y[:, 0], x) if y.shape[1] == 1 else (x[:, 0], y)
    which = clusters(single)
    if which is None:
        return None
    told = _labelled(many, _Side(many[:, :0], which[:, None].astype(np.float64), True, 1), seed)
    rest = _within(which, lambda i: _continuous(many[i], single[i, None], seed))
    if rest is None or rest.value < max(0.03, 2 * (rest.standard_error or 0.0)):
        return _taken(told, "a column lies in clusters: which one it is counts, and not where it lies within")
    return _sum(
        len(x),
        {"I(x; cluster)": told, "I(x; y | cluster)": rest},
        "chain rule",
        "a column lies in clusters: which one it is, and where it lies within",
    )


def clusters(values: Real) -> Codes | None:
    """Which of several separate clusters each value (n,) lies in; None where they are not separate.

    A cluster has at least 20 values and a hundredth of all, lies beyond a gap that chance does not leave, and all
    clusters cover less than half of the range; stray values belong to the nearest one.
    """
    n = len(values)
    order = np.sort(values)
    gap = 5 * math.log(n) * float(np.subtract(*np.quantile(order, [0.95, 0.05]))) / n
    starts = np.concatenate([[0], np.flatnonzero(np.diff(order) > gap) + 1, [n]])
    large = [(a, b) for a, b in itertools.pairwise(starts) if b - a >= max(20, n / 100)]
    if len(large) < 2 or sum(b - a for a, b in large) < 0.98 * n:
        return None
    width = sum(float(np.subtract(*np.quantile(order[a:b], [0.99, 0.01]))) for a, b in large)
    if width > 0.5 * (order[large[-1][1] - 1] - order[large[0][0]]):
        return None
    borders = [(order[b - 1] + order[a]) / 2 for (_, b), (a, _) in itertools.pairwise(large)]
    return np.searchsorted(borders, values).astype(np.int64)


def _continuous(x: Real, y: Real, seed: int) -> MIEstimate:
    d = x.shape[1] + y.shape[1]
    if d <= FEW:
        return _taken(ksg_extrapolated(x, y, seed=seed), f"{d} continuous columns: neighbours are near enough")
    near = ksg_extrapolated(x, y, seed=seed) if d <= MANY else screen(x, y, seed=seed)
    if len(x) < 2 * (d + 2):
        return _taken(near, f"{len(x)} rows are too few for a model of {d} columns")
    family = elliptical(x, y, seed=seed)
    figures: dict[str, Any] = {
        "elliptical": family.value,
        near.method: near.value,
        "margin": _margin(near),
        "elliptical details": dict(family.details),
    }
    if not family.details["adequate"]:
        found, why = near, "the elliptical family fails on rows it has not seen"
    elif near.value - _margin(near) > family.value:
        found, why = near, "the elliptical family fits, but neighbours find clearly more"
    else:
        found, why = family, "the elliptical family fits, and neighbours find no more"
    found = _taken(found, why, **figures)
    if d <= MANY:
        return found
    limit = _assumed(d) if found.kind == "point" else _unseen(d)
    return _or_critic(replace(found, cautions=(*found.cautions, limit)), x, y, seed)


def _or_critic(found: MIEstimate, x: Real, y: Real, seed: int) -> MIEstimate:
    """What was found, or the bound of a held-out critic where that is clearly more."""
    if found.value >= math.log(_BATCH):
        return found  # a critic could not say more
    # In an order of their own: a critic says something else when its sides change places, and this must not.
    first, second = sorted((x, y), key=lambda side: (side.shape[1], side.tobytes()))
    bound = infonce(first, second, batch=_BATCH, seed=seed)
    if bound.value - _margin(bound) <= found.value:
        return replace(found, details={**found.details, "infonce": bound.value})
    figures = {k: v for k, v in found.details.items() if k in ("elliptical", "screen")}
    return _taken(bound, "a critic finds more on rows it has not seen than any model of few columns", **figures)


def _assumed(d: int) -> Caution:
    text = (
        f"assumes an elliptical copula, which of {d} columns only a critic can check: dependence of another kind that "
        "is spread over many columns and too faint for it would not be seen"
    )
    return Caution("assumption", text)


def _unseen(d: int) -> Caution:
    return Caution("high dimension", f"of {d} columns the few that share most were looked at: there may be more")


def _margin(found: MIEstimate) -> float:
    return max(0.05, 0.1 * found.value, 3 * (found.standard_error or 0.0))


def _taken(found: MIEstimate, why: str, **figures: Any) -> MIEstimate:
    """A part's answer as that of the whole."""
    part = found.details.get("part", found.method)
    return replace(found, details={**found.details, **figures, "part": part, "why": why})


def _answer(value: float, error: float, n: int, part: str, why: str, **figures: Any) -> MIEstimate:
    return MIEstimate(value, "auto", n, (1, 1), error, details={"part": part, "why": why, **figures})


def _sum(n: int, terms: dict[str, MIEstimate], part: str, why: str) -> MIEstimate:
    value = sum(t.value for t in terms.values())
    error = math.sqrt(sum((t.standard_error or 0.0) ** 2 for t in terms.values()))
    figures = {name: t.value for name, t in terms.items()}
    return replace(
        _answer(value, error, n, part, why, **figures),
        kind="lower" if any(t.kind == "lower" for t in terms.values()) else "point",
        cautions=_unique((*(c for t in terms.values() for c in t.cautions), *saturation(value, n))),
    )


def _unique(cautions: Iterable[Caution]) -> tuple[Caution, ...]:
    return tuple(dict.fromkeys(cautions))


def _in_common(x: Real, y: Real) -> tuple[Caution, ...]:
    both = np.concatenate([x, y], axis=1)
    if len(telling(both)) == both.shape[1]:
        return ()
    text = "a continuous column of x is one of y as well: the true value is infinite, this one depends on the rows"
    return (Caution("deterministic", text),)
