"""Counting: exact tables, corrections against their formulas, bias and standard error against repeated samples."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import mutual_info_score

from narrows.core.errors import DataError
from narrows.information import discrete, discrete_entropy
from narrows.information.discrete import _grassberger, counted_information, row_codes


def test_closed_forms():
    x = np.arange(8)
    assert discrete(x, x // 2, correction="none").value == pytest.approx(2 * math.log(2), abs=1e-12)
    assert discrete(x, x % 2, correction="none").value == pytest.approx(math.log(2), abs=1e-12)
    assert discrete(x // 4, x % 2, correction="none").value == pytest.approx(0, abs=1e-12)
    assert discrete_entropy(x, correction="none").value == pytest.approx(math.log(8), abs=1e-12)
    assert discrete_entropy(np.zeros(9), correction="none").value == 0
    # The binary symmetric channel that flips one of ten: ln 2 + .1 ln .1 + .9 ln .9.
    sent = np.repeat([0, 1], 10)
    got = sent ^ (np.arange(20) % 10 == 0)
    assert discrete(sent, got, correction="none").value == pytest.approx(0.3680642, abs=1e-7)


def test_plug_in_is_that_of_scipy_and_sklearn():
    dice = np.random.default_rng(0)
    x, y = dice.integers(0, 7, 500), dice.integers(0, 4, 500)
    y = np.where(dice.random(500) < 0.5, x % 4, y)
    assert discrete(x, y, correction="none").value == pytest.approx(mutual_info_score(x, y), abs=1e-12)
    assert discrete_entropy(x, correction="none").value == pytest.approx(scipy_entropy(np.bincount(x)), abs=1e-12)


@pytest.mark.parametrize("correction", ["none", "miller_madow", "grassberger"])
def test_information_is_the_sum_of_three_entropies(correction):
    dice = np.random.default_rng(1)
    x, y = dice.integers(0, 5, 200), dice.integers(0, 3, 200)
    parts = [discrete_entropy(s, correction=correction).value for s in (x, y, np.stack([x, y], axis=1))]
    assert discrete(x, y, correction=correction).value == pytest.approx(parts[0] + parts[1] - parts[2], abs=1e-12)
    assert discrete(x, x, correction=correction).value == pytest.approx(parts[0], abs=1e-12)


def test_grassbergers_numbers():
    g = _grassberger(np.arange(1, 40))
    assert g[0] == pytest.approx(-np.euler_gamma - math.log(2), abs=1e-12)
    assert g[1] == pytest.approx(2 - np.euler_gamma - math.log(2), abs=1e-12)
    odd = np.arange(3, 40, 2)
    assert np.allclose(g[odd - 1], g[odd - 2], atol=1e-12)  # G(2m + 1) = G(2m)
    assert np.allclose(g[odd[:-1]] - g[odd[:-1] - 1], 2 / odd[:-1], atol=1e-12)  # G(2m + 2) = G(2m) + 2 / (2m + 1)
    many = np.array([10_000])
    assert _grassberger(many)[0] == pytest.approx(digamma(10_000), abs=1e-4)


def test_bias_with_few_rows():
    k, n, runs = 30, 60, 300
    dice = np.random.default_rng(2)
    samples = [dice.integers(0, k, n) for _ in range(runs)]
    bias = {
        c: np.mean([discrete_entropy(s, correction=c).value for s in samples]) - math.log(k)
        for c in ("none", "miller_madow", "grassberger")
    }
    assert bias["none"] == pytest.approx(-(k - 1) / (2 * n), abs=0.05)
    assert abs(bias["miller_madow"]) < abs(bias["none"]) / 3
    assert abs(bias["grassberger"]) < abs(bias["miller_madow"])


def test_independent_sides_of_a_10_by_10_table():
    dice = np.random.default_rng(3)
    tables = [dice.integers(0, 10, (2, 1000)) for _ in range(40)]
    plain, corrected = (
        np.mean([discrete(x, y, correction=c).value for x, y in tables]) for c in ("none", "miller_madow")
    )
    assert plain == pytest.approx(81 / 2000, abs=0.005)
    assert corrected == pytest.approx(0.001, abs=0.005)


def test_shuffled_rows_share_nothing_once_corrected():
    dice = np.random.default_rng(4)
    x = dice.integers(0, 5, 400)
    y = np.where(dice.random(400) < 0.7, x, dice.integers(0, 5, 400))
    shuffled = [dice.permutation(y) for _ in range(20)]
    for correction in ("miller_madow", "grassberger"):
        values = [discrete(x, s, correction=correction).value for s in shuffled]
        assert abs(np.mean(values)) < np.std(values)
    raw = [discrete(x, s, correction="none").value for s in shuffled]
    assert np.mean(raw) > 3 * np.std(raw) / 2


@pytest.mark.parametrize("noise", [0.2, 0.9, 1.0])
def test_the_standard_error_is_that_of_repeated_samples(noise):
    dice = np.random.default_rng(5)
    runs = []
    for _ in range(200):
        x = dice.integers(0, 4, 300)
        runs.append(discrete(x, np.where(dice.random(300) < noise, dice.integers(0, 4, 300), x)))
    assert np.mean([r.standard_error for r in runs]) == pytest.approx(np.std([r.value for r in runs]), rel=0.2)


@pytest.mark.parametrize(("p", "within"), [([0.25] * 4, 0.3), ([0.7, 0.1, 0.1, 0.1], 0.15)])
def test_the_standard_error_of_an_entropy(p, within):
    # Where all values are equally likely only the noise is left, and the larger of two guesses at it is a bit wide.
    dice = np.random.default_rng(6)
    runs = [discrete_entropy(dice.choice(4, 300, p=p)) for _ in range(200)]
    assert np.mean([r.standard_error for r in runs]) == pytest.approx(np.std([r.value for r in runs]), rel=within)


def test_names_are_only_names():
    dice = np.random.default_rng(7)
    x, y = dice.integers(0, 4, 200), dice.integers(0, 3, 200)
    value = discrete(x, y).value
    assert discrete(np.array(list("dbca"))[x], -10.5 * y).value == pytest.approx(value, abs=1e-12)
    assert discrete(np.stack([x // 2, x % 2], axis=1), y == 1).value <= value + 0.05
    assert discrete(np.stack([x // 2, x % 2], axis=1), y).value == pytest.approx(value, abs=1e-12)


@given(st.integers(0, 10_000), st.integers(1, 12), st.sampled_from([2, 40, 10**6, 2**61]))
@settings(max_examples=60, deadline=None)
def test_row_codes_are_those_of_numpy(seed, d, span):
    dice = np.random.default_rng(seed)
    table = dice.integers(-span, span, (40, d))[dice.integers(0, 40, 80)]
    expected = np.unique(table, axis=0, return_inverse=True)[1].reshape(-1)
    found = row_codes(table)
    assert counted_information(found, expected)[2] == (found.max() + 1,) * 3
    assert expected.max() == found.max()


def test_cautions_where_they_belong():
    dice = np.random.default_rng(8)
    x, y = dice.integers(0, 3, 500), dice.integers(0, 3, 500)
    assert not discrete(x, y).cautions
    assert not discrete_entropy(x).cautions
    many = dice.integers(0, 200, 500)
    assert discrete(many, y).has("few samples")
    assert discrete(np.arange(500), np.arange(500)).saturated
    assert discrete_entropy(np.arange(500)).saturated
    assert discrete_entropy(many).has("few samples")


def test_bad_arguments():
    with pytest.raises(DataError, match="miller_madow"):
        discrete([0, 1], [0, 1], correction="jackknife")
    with pytest.raises(DataError, match="correction"):
        discrete_entropy([0, 1], correction=None)
