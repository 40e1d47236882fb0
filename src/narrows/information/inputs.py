"""What estimators take: arrays, tensors or lists of shape (n,) or (n, d), checked and brought to one form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from narrows.core.errors import DataError
from narrows.core.seeds import derive
from narrows.information.estimate import Caution

Samples = ArrayLike | torch.Tensor
Real = NDArray[np.float64]
Codes = NDArray[np.int64]

HEAVY = 20.0
"""A column is heavy-tailed where its outermost 0.1 % lies beyond this many half distances of its quartiles.

They are 4.6 for a normal law, 11 for an exponential one, 27 for Student's t with 2 degrees of freedom."""


def columns(x: Samples, name: str = "x") -> Real:
    """`x` as float64 of shape (n, d). Raises DataError for text, other shapes, no rows or columns, NaN and infinity."""
    array = _array(x)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} holds {array.dtype}, expected real numbers (for names of classes see `discrete`)")
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(f"{name} has the shape {array.shape}, expected (n,) or (n, d) with rows and columns")
    real = np.ascontiguousarray(array, dtype=np.float64)
    broken = np.count_nonzero(~np.isfinite(real).all(axis=1))
    if broken:
        raise DataError(f"{name} has NaN or infinity in {broken} of {len(real)} rows: remove or repair them first")
    return real


def pair(x: Samples, y: Samples, least: int = 2) -> tuple[Real, Real]:
    """Both sides as float64 of shapes (n, dx) and (n, dy) with at least `least` rows; DataError otherwise."""
    a, b = columns(x, "x"), columns(y, "y")
    same_rows(a, b, least)
    return a, b


def same_rows(x: NDArray[Any], y: NDArray[Any], least: int = 2) -> None:
    """DataError where the sides have different numbers of rows, or fewer than `least`."""
    if len(x) != len(y):
        raise DataError(f"x has {len(x)} rows and y has {len(y)}: they must belong together row by row")
    if len(x) < least:
        raise DataError(f"{len(x)} rows are too few: at least {least} are needed")


def codes(x: Samples, name: str = "x") -> Codes:
    """Every different row of `x` (numbers, text or booleans) as a whole number from 0; shape (n,)."""
    array = _array(x)
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise DataError(f"{name} has the shape {array.shape}, expected (n,) or (n, d) with rows and columns")
    if array.dtype.kind not in "fiubUS":
        raise DataError(f"{name} holds {array.dtype}, expected numbers, text or booleans")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{name} has NaN or infinity: remove or repair such rows first")
    return np.unique(array, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def is_label(x: Samples) -> bool:
    """Whether `x` is one column of names, booleans, or whole numbers of an integer type with few different values."""
    array = _array(x)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        return False
    return array.dtype.kind in "USb" or (array.dtype.kind in "iu" and len(np.unique(array)) <= math.sqrt(len(array)))


def refuse_labels(method: str, **sides: Samples) -> None:
    """DataError where a side is a label, which has no distances between its values."""
    for name, side in sides.items():
        if is_label(side):
            raise DataError(
                f"{name} holds labels, and {method} would take them for positions on a line: use method='mixed_ksg', "
                f"'discrete' or 'auto', or pass {name} as float where its values are quantities"
            )


def standardised(x: Real) -> Real:
    """Columns with mean 0 and standard deviation 1; a constant column becomes 0."""
    scale = x.std(axis=0)
    return np.asarray((x - x.mean(axis=0)) / np.where(scale > 0, scale, 1.0), dtype=np.float64)


def normal_scores(x: Real) -> Real:
    """Each column's values replaced by the normal quantiles of (rank - 1/2) / n; ties share their mean rank."""
    return np.asarray(ndtri((rankdata(x, axis=0) - 0.5) / len(x)), dtype=np.float64)


def centred_ranks(x: Real) -> Real:
    """Each column's values replaced by twice their rank, less n + 1; ties share their mean rank."""
    return np.asarray(2 * rankdata(x, axis=0) - (len(x) + 1), dtype=np.float64)


def untied_ranks(x: Real, y: Real, seed: int = 0) -> tuple[Real, Real]:
    """`centred_ranks` of both sides with ties broken at random, independently on each side.

    This changes no information: the noise tells nothing, and the value can be read off the rank (Rüschendorf 2009). It
    makes columns of rounded numbers, or with a value that many rows share, continuous.
    """
    names = ["first", "second"]
    # The noise belongs to the side, not to its place: x and y may change places.
    if _has_ties(x) and _has_ties(y) and centred_ranks(y).tobytes() < centred_ranks(x).tobytes():
        names.reverse()
    found = []
    for side, name in zip((x, y), names, strict=True):
        ranks = np.empty_like(side)
        for j, column in enumerate(side.T):
            order = np.argsort(column)
            if (np.diff(column[order]) == 0).any():
                dice = np.random.default_rng(derive(seed, "ties", name, j))
                order = np.lexsort((dice.uniform(size=len(column)), column))
            ranks[order, j] = np.arange(1 - len(column), len(column), 2)
        found.append(ranks)
    return found[0], found[1]


def scores_of_ranks(ranks: Real) -> Real:
    """Normal quantiles of (rank - 1/2) / n, from `centred_ranks` or `untied_ranks`."""
    n = len(ranks)
    return np.asarray(ndtri((ranks + n) / (2 * n)), dtype=np.float64)


def _has_ties(x: Real) -> bool:
    return any((np.diff(np.sort(column)) == 0).any() for column in x.T)


def telling(x: Real) -> list[int]:
    """The columns that are not constant and no monotone image of an earlier one: the others add no information."""
    seen: set[bytes] = set()
    kept = []
    for j, ranks in enumerate(centred_ranks(x).T):
        rising = ranks if ranks[np.argmax(ranks != 0)] > 0 else -ranks
        if ranks.any() and (key := (rising + 0.0).tobytes()) not in seen:
            seen.add(key)
            kept.append(j)
    return kept


def column_cautions(**sides: Real) -> tuple[Caution, ...]:
    """What is wrong with the columns of the sides: constant, the same as another, heavy-tailed, or tied."""
    found: list[Caution] = []
    for name, side in sides.items():
        n, d = side.shape
        still = int((np.ptp(side, axis=0) == 0).sum())
        if still:
            found.append(Caution("constant column", f"{still} of {d} columns of {name} never change: they say nothing"))
        if d > 1 and (same := d - len(np.unique(standardised(side).round(12), axis=1).T)) > 0:
            found.append(Caution("duplicate columns", f"{same} of {d} columns of {name} repeat another one"))
        if (tied := _tied_share(side)) > 0.05:
            found.append(
                Caution(
                    "ties",
                    f"{100 * tied:.0f} % of the rows of {name} are the same as another one: distances between "
                    "neighbours are 0 there; method='mixed_ksg' or 'auto' takes care of that",
                )
            )
        if n >= 20 and (wide := int((_tail(side) > HEAVY).sum())):
            found.append(
                Caution(
                    "heavy tails",
                    f"{wide} of {d} columns of {name} have heavy tails: a method that works on the values themselves "
                    "is ruled by a few rows; one that uses ranks ('auto', 'ksg_extrapolated', 'elliptical') is not",
                )
            )
    return tuple(found)


def _tail(side: Real) -> Real:
    low, first, middle, third, high = np.quantile(side, [0.001, 0.25, 0.5, 0.75, 0.999], axis=0)
    width = third - first
    reach = np.maximum(high - middle, middle - low)
    return np.where(width > 0, reach / np.where(width > 0, width / 2, 1.0), 0.0)


def _tied_share(side: Real) -> float:
    if any((np.diff(np.sort(column)) > 0).all() for column in side.T):
        return 0.0  # rows differ where a column has no two equal values
    counts = np.unique(side, axis=0, return_counts=True)[1]
    return float(counts[counts > 1].sum() / len(side))


def _array(x: Samples) -> NDArray[Any]:
    return x.detach().cpu().numpy() if isinstance(x, torch.Tensor) and x.dtype != torch.bfloat16 else _plain(x)


def _plain(x: Any) -> NDArray[Any]:
    if isinstance(x, torch.Tensor):
        x = x.detach().float().cpu().numpy()
    try:
        return np.asarray(x)
    except ValueError as error:
        raise DataError(f"the rows have different lengths: {error}") from error
