"""Entropy and mutual information of values that can be counted: codes, labels, words, or rows of several of them.

With n_k of n rows in cell k, and K the number of cells that occur,

    none           H = ln n - (1/n) sum_k n_k ln n_k                                     the plug-in estimate
    miller_madow   the same + (K - 1) / (2n)                                             Miller (1955)
    grassberger    H = ln n - (1/n) sum_k n_k G(n_k),
                   G(m) = psi(m) + (-1)^m [psi((m + 1) / 2) - psi(m / 2)] / 2            Grassberger (2003)

and I(X;Y) = H(X) + H(Y) - H(X,Y), each term with the same correction. The plug-in entropy is too low, and the plug-in
mutual information too high by about (K_xy - K_x - K_y + 1) / (2n). Where the rows are the whole population, as when
every input of a network is enumerated, there is nothing to correct: take "none".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.information.estimate import Caution, Estimate, MIEstimate, saturation
from narrows.information.inputs import Codes, Real, Samples, codes, same_rows

MILLER = register_reference(
    Reference(
        "miller1955",
        "Note on the bias of information estimates",
        ("George A. Miller",),
        1955,
        "Information Theory in Psychology: Problems and Methods",
    )
)
GRASSBERGER = register_reference(
    Reference(
        "arXiv:physics/0307138",
        "Entropy Estimates from Insufficient Samplings",
        ("Peter Grassberger",),
        2003,
    )
)

Correction = Literal["none", "miller_madow", "grassberger"]
CORRECTIONS = ("none", "miller_madow", "grassberger")
ROWS = 10
"""Rows a cell should have; with fewer the bias is no longer that of first order."""
FULL = 0.95
"""Share of its ceiling from which on a figure says more of the ceiling than of the data."""


@cites(MILLER.key, GRASSBERGER.key)
def discrete(x: Samples, y: Samples, *, correction: Correction = "miller_madow") -> MIEstimate:
    """Mutual information in nats of discrete x and y of shape (n,) or (n, d): whole rows are the values.

    Numbers, text and booleans are taken as names without order. The standard error joins the spread of the pointwise
    information with the chi-square noise that stays where there is none. Raises DataError for unknown corrections and
    unequal lengths.
    """
    a, b = codes(x, "x"), codes(y, "y")
    same_rows(a, b)
    value, error, cells = counted_information(a, b, correction)
    return MIEstimate(
        value,
        "discrete",
        len(a),
        (width(x), width(y)),
        standard_error=error,
        cautions=(*few_rows(len(a), cells), *saturation(value, len(a))),
        details={"correction": correction, "values of x": cells[0], "values of y": cells[1], "pairs": cells[2]},
    )


@cites(MILLER.key, GRASSBERGER.key)
def discrete_entropy(x: Samples, *, correction: Correction = "miller_madow") -> Estimate:
    """Entropy in nats of discrete x of shape (n,) or (n, d): whole rows are the values.

    Raises DataError for unknown corrections, NaN and infinity.
    """
    a = codes(x, "x")
    value, error, cells = counted_entropy(a, correction)
    return Estimate(
        value,
        "discrete_entropy",
        len(a),
        (width(x),),
        standard_error=error,
        cautions=(*few_rows(len(a), (cells,)), *full_house(value, len(a))),
        details={"correction": correction, "values of x": cells},
    )


def counted_information(
    x: Codes, y: Codes, correction: Correction = "none"
) -> tuple[float, float, tuple[int, int, int]]:
    """Mutual information in nats of codes (n,) from 0 on, its standard error, and the cells of x, y and both."""
    weight = _weight(correction)
    n = len(x)
    of_x, of_y = np.bincount(x), np.bincount(y)
    which, joint = np.unique(x * len(of_y) + y, return_counts=True)
    n_x, n_y = of_x[which // len(of_y)], of_y[which % len(of_y)]
    cells = int(np.count_nonzero(of_x)), int(np.count_nonzero(of_y)), len(joint)
    free = cells[2] - cells[0] - cells[1] + 1
    value = math.log(n) + float(joint @ (weight(joint) - weight(n_x) - weight(n_y))) / n
    if correction == "miller_madow":
        value -= free / (2 * n)
    points = np.log(joint / n_x) - np.log(n_y / n)
    return value, _error(points, joint, max(free, 0)), cells


def counted_entropy(x: Codes, correction: Correction = "none") -> tuple[float, float, int]:
    """Entropy in nats of codes (n,) from 0 on, its standard error, and the number of values."""
    weight = _weight(correction)
    n = len(x)
    counts = np.bincount(x)
    counts = counts[counts > 0]
    value = math.log(n) - float(counts @ weight(counts)) / n
    if correction == "miller_madow":
        value += (len(counts) - 1) / (2 * n)
    return value, _error(np.log(counts / n), counts, len(counts) - 1), len(counts)


def row_codes(table: NDArray[Any]) -> Codes:
    """Every different row of whole numbers (n, d) as a code from 0; shape (n,). Exact, whatever the numbers."""
    total = np.zeros(len(table), dtype=np.int64)
    size = 1
    for column in table.T:
        code = column.astype(np.int64) - int(column.min())
        if size * (span := int(code.max()) + 1) >= 2**62:
            total, size = _from_zero(total)
        if size * span >= 2**62:
            code, span = _from_zero(code)
        total, size = total * span + code, size * span
    return _from_zero(total)[0]


def few_rows(n: int, cells: tuple[int, ...]) -> tuple[Caution, ...]:
    """The caution that `n` rows are fewer than `ROWS` for each of the cells, the last entry of `cells`."""
    if n >= ROWS * cells[-1]:
        return ()
    bias = (cells[-1] - (cells[0] + cells[1] if len(cells) == 3 else 2) + 1) / (2 * n)
    text = (
        f"{n} rows fall into {cells[-1]} different cells, fewer than {ROWS} rows a cell: the plug-in bias is of the "
        f"order of {abs(bias):.2g} nats, and its correction no longer sure; merge values or bring more rows"
    )
    return (Caution("few samples", text),)


def full_house(value: float, n: int) -> tuple[Caution, ...]:
    """The caution that an entropy is near ln n, the most that `n` rows can show."""
    if n < 2 or value <= FULL * math.log(n):
        return ()
    text = f"{value:.2f} nats are near ln {n} = {math.log(n):.2f}: the number of rows limits this value, not the data"
    return (Caution("saturated", text),)


def width(x: Samples) -> int:
    """How many columns `x` of shape (n,) or (n, d) has."""
    shape = np.shape(x)
    return int(shape[1]) if len(shape) == 2 else 1


def _from_zero(code: Codes) -> tuple[Codes, int]:
    values, inverse = np.unique(code, return_inverse=True)
    return inverse.astype(np.int64), len(values)


def _weight(correction: Correction) -> Callable[[NDArray[Any]], Real]:
    if correction not in CORRECTIONS:
        raise DataError(f"correction is one of {', '.join(CORRECTIONS)}; got {correction!r}")
    return _grassberger if correction == "grassberger" else np.log


def _grassberger(counts: NDArray[Any]) -> Real:
    sign = np.where(counts % 2 == 0, 1.0, -1.0)
    return np.asarray(digamma(counts) + sign * (digamma((counts + 1) / 2) - digamma(counts / 2)) / 2, dtype=np.float64)


def _error(points: Real, counts: NDArray[Any], free: int) -> float:
    """Standard error of the count-weighted mean of `points`, with `free` degrees of freedom of chi-square noise.

    2n times the plug-in excess is chi-square, of variance 2 free, where the points do not vary in truth. Their spread
    from estimated frequencies then shows twice that much, so that it is taken off once.
    """
    n = counts.sum()
    mean = counts @ points / n
    spread = float(counts @ (points - mean) ** 2 / n)
    noise = free / (2 * float(n) ** 2)
    return math.sqrt(max(spread / n - noise, noise))
