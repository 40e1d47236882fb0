import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from narrows.core.statistics import bootstrap, estimate, mcnemar, paired_difference, paired_runs

runs = st.lists(st.floats(-100, 100), min_size=2, max_size=12)


@given(runs)
def test_t_interval_is_scipys(values: list[float]) -> None:
    got = estimate(values)
    assert got.mean == pytest.approx(np.mean(values))
    error = stats.sem(values)
    assert got.standard_error == pytest.approx(error, abs=1e-12)
    if error > 1e-9:
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
        assert (got.low, got.high) == (pytest.approx(low), pytest.approx(high))


def test_one_run_says_nothing_about_spread() -> None:
    got = estimate([0.8])
    assert (got.mean, got.spread, got.low, got.high, got.count) == (0.8, None, None, None, 1)


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=3, max_size=9))
def test_paired_runs_is_the_interval_of_the_differences(pairs: list[tuple[float, float]]) -> None:
    first, second = zip(*pairs, strict=True)
    assert paired_runs(first, second) == estimate([a - b for a, b in pairs])


@given(st.integers(0, 25), st.integers(0, 25), st.integers(0, 5))
def test_mcnemar_is_the_binomial_tail(only_first: int, only_second: int, both: int) -> None:
    first = [1] * only_first + [0] * only_second + [1] * (both + 1)
    second = [0] * only_first + [1] * only_second + [1] * (both + 1)
    n, k = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    assert mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar(first, second) == pytest.approx(mcnemar(second, first))


def test_bootstrap_agrees_with_the_normal_theory() -> None:
    generator = np.random.default_rng(0)
    first = (generator.random(4000) < 0.84).astype(float)
    second = np.where(generator.random(4000) < 0.1, 1 - first, first)
    got = paired_difference(first, second)
    gaps = first - second
    error = gaps.std(ddof=1) / math.sqrt(len(gaps))
    assert got.difference == pytest.approx(gaps.mean())
    assert got.standard_error == pytest.approx(error, rel=0.03)
    assert got.low == pytest.approx(gaps.mean() - 1.96 * error, abs=0.1 * error)
    assert got.high == pytest.approx(gaps.mean() + 1.96 * error, abs=0.1 * error)
    assert (got.test, got.p) == ("McNemar, exact", mcnemar(first, second))
    assert got == paired_difference(first, second)
    assert got.low != paired_difference(first, second, seed=1).low


def test_scores_that_are_not_zero_or_one_get_the_paired_t_test() -> None:
    generator = np.random.default_rng(1)
    first = generator.normal(size=200)
    second = first + generator.normal(0.1, 0.5, size=200)
    assert paired_difference(first, second).p == pytest.approx(stats.ttest_rel(first, second).pvalue)
    assert paired_difference(first, first + 0.5).p == 0
    assert paired_difference(first, first).p == 1


def test_bootstrap_of_a_correlation_covers_fishers_interval() -> None:
    generator = np.random.default_rng(2)
    x = generator.normal(size=800)
    y = 0.6 * x + 0.8 * generator.normal(size=800)
    low, high = bootstrap(lambda a, b: float(np.corrcoef(a, b)[0, 1]), x, y)
    fisher = stats.pearsonr(x, y).confidence_interval(0.95)
    assert (low, high) == (pytest.approx(fisher.low, abs=0.01), pytest.approx(fisher.high, abs=0.01))


def test_refuses_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="same rows"):
        paired_difference([1, 0], [1])
    with pytest.raises(ValueError, match="finite"):
        estimate([])
    with pytest.raises(ValueError, match="finite"):
        estimate([1.0, math.nan])
    with pytest.raises(ValueError, match="0/1"):
        mcnemar([0.5], [1])
    with pytest.raises(ValueError, match="same, positive length"):
        bootstrap(lambda a, b: 0.0, [1], [1, 2])
    with pytest.raises(ValueError, match="two rows"):
        paired_difference([1], [0])
