"""Means with honest intervals: over seeds, and for two models on the same test rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from narrows.core.seeds import derive

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_CHUNK = 2_000_000  # resampled rows held in memory at once


@dataclass(frozen=True)
class Estimate:
    """A mean over `count` runs; `spread` is the sample deviation, [`low`, `high`] the t-interval.

    With a single run nothing is known about the spread: all but `mean` and `count` are None.
    """

    mean: float
    spread: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    count: int

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """First minus second on the same rows: bootstrap percentile interval, two-sided p-value of `test`."""

    difference: float
    standard_error: float
    low: float
    high: float
    p: float
    test: str
    count: int

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


def estimate(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Mean, spread and Student's t-interval of independent runs, such as one value per seed."""
    from scipy import stats

    array = _finite(values)
    mean = float(array.mean())
    if len(array) == 1:
        return Estimate(mean, None, None, None, None, 1)
    spread = float(array.std(ddof=1))
    error = spread / math.sqrt(len(array))
    reach = float(stats.t.ppf((1 + confidence) / 2, len(array) - 1)) * error
    return Estimate(mean, spread, error, mean - reach, mean + reach, len(array))


def paired_runs(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The t-interval of first minus second, run by run: both lists are in the same order of seeds."""
    a, b = _pair(first, second)
    return estimate((a - b).tolist(), confidence)


def mcnemar(first: ArrayLike, second: ArrayLike) -> float:
    """Exact two-sided p-value that two classifiers are right equally often; 0/1 arrays, one entry a row."""
    from scipy import stats

    a, b = _pair(first, second)
    if not (_is_binary(a) and _is_binary(b)):
        raise ValueError("McNemar's test needs 0/1 entries: whether each row was classified rightly")
    only_first, only_second = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    discordant = only_first + only_second
    return float(stats.binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0


def paired_difference(
    first: ArrayLike, second: ArrayLike, *, seed: int = 0, resamples: int = 10_000, confidence: float = 0.95
) -> Difference:
    """Compare the mean scores of two models on the same test rows.

    `first` and `second` hold one score per row. For 0/1 scores (rightly classified or not) the p-value is
    McNemar's exact one, otherwise that of the paired t-test. Rows are resampled in pairs.
    """
    from scipy import stats

    a, b = _pair(first, second)
    if len(a) < 2:
        raise ValueError("a comparison needs at least two rows")
    gaps = a - b
    draws = _bootstrap_means(gaps, seed, resamples)
    low, high = _percentiles(draws, confidence)
    mean, error = float(gaps.mean()), float(gaps.std(ddof=1)) / math.sqrt(len(gaps))
    if _is_binary(a) and _is_binary(b):
        p, test = mcnemar(a, b), "McNemar, exact"
    elif error > 0:
        p, test = float(2 * stats.t.sf(abs(mean) / error, len(gaps) - 1)), "paired t"
    else:
        p, test = float(mean == 0), "paired t"
    return Difference(mean, float(draws.std(ddof=1)), low, high, p, test, len(gaps))


def bootstrap(
    statistic: Callable[..., float],
    *rows: ArrayLike,
    seed: int = 0,
    resamples: int = 2_000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of any statistic of test rows, such as the difference of two Pearson correlations.

    `statistic` takes the arrays in `rows`, all resampled with the same indices, and returns a number.
    """
    arrays = [np.asarray(r) for r in rows]
    if len({len(r) for r in arrays}) != 1 or not len(arrays[0]):
        raise ValueError(f"the arrays must have the same, positive length, got {[len(r) for r in arrays]}")
    generator = np.random.default_rng(derive(seed, "bootstrap"))
    count = len(arrays[0])
    draws = np.empty(resamples)
    for i in range(resamples):
        chosen = generator.integers(0, count, count)
        draws[i] = statistic(*(r[chosen] for r in arrays))
    return _percentiles(draws, confidence)


def _bootstrap_means(values: NDArray[np.float64], seed: int, resamples: int) -> NDArray[np.float64]:
    generator = np.random.default_rng(derive(seed, "bootstrap"))
    count = len(values)
    step = max(1, _CHUNK // count)
    means = [
        values[generator.integers(0, count, (min(step, resamples - start), count))].mean(axis=1)
        for start in range(0, resamples, step)
    ]
    return np.concatenate(means)


def _percentiles(draws: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _pair(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = _finite(first), _finite(second)
    if len(a) != len(b):
        raise ValueError(f"a paired comparison needs the same rows on both sides, got {len(a)} and {len(b)}")
    return a, b


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"expected a list of at least one finite number, got {values!r}")
    return array


def _is_binary(array: NDArray[np.float64]) -> bool:
    return bool(np.isin(array, (0.0, 1.0)).all())
