"""Bins: exact cells, occupancy, invariances, closed forms, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from sklearn.preprocessing import KBinsDiscretizer

from narrows.core.errors import DataError
from narrows.information import (
    AdaptiveBins,
    FixedBins,
    QuantileBins,
    adaptive_binned,
    binned,
    binned_entropy,
    discrete,
    discrete_entropy,
    quantile_binned,
)
from narrows.information.discrete import row_codes


def correlated(n, rho, d=1, seed=0):
    dice = np.random.default_rng(seed)
    x = dice.standard_normal((n, d))
    return x, rho * x + math.sqrt(1 - rho**2) * dice.standard_normal((n, d))


def entropy_bits(t, bins):
    return discrete_entropy(row_codes(bins.codes(t)), correction="none").bits


# Fixed widths


def test_fixed_cells_by_hand():
    t = np.array([[-1.0], [-0.51], [-0.5], [0.0], [0.49], [0.5], [1.0], [7.0], [-7.0]])
    assert FixedBins(4, (-1, 1)).codes(t)[:, 0].tolist() == [0, 0, 1, 2, 2, 3, 3, 3, 0]
    wide = np.array([[-0.01, 0.0], [0.0699, 0.07], [123.456, 0.14]])
    assert FixedBins(width=0.07).codes(wide).tolist() == [[-1, 0], [0, 1], [1763, 2]]


def test_decimals_on_an_edge_lie_on_it():
    t = np.arange(21)[:, None] / 10 - 1
    by_count, by_width = FixedBins(20, (-1, 1)), FixedBins(width=0.1)
    for precision in (np.float32, np.float64):
        assert by_count.codes(t.astype(precision).astype(float))[:, 0].tolist() == [*range(20), 19]
        assert by_width.codes(t.astype(precision).astype(float))[:, 0].tolist() == list(range(-10, 11))


def test_a_range_of_the_data_is_shared_or_per_column():
    t = np.array([[0.0, 0.0], [1.0, 10.0], [0.6, 4.0]])
    assert FixedBins(2).codes(t).tolist() == [[0, 0], [0, 1], [0, 0]]
    assert FixedBins(2, per_column=True).codes(t).tolist() == [[0, 0], [1, 1], [1, 0]]
    assert np.ptp(FixedBins(5).codes(np.full((4, 2), 3.0))) == 0


def test_equal_widths_are_those_of_sklearn():
    t = np.random.default_rng(1).standard_normal((500, 3))
    theirs = KBinsDiscretizer(12, encode="ordinal", strategy="uniform").fit_transform(t)
    assert np.array_equal(FixedBins(12, per_column=True).codes(t), theirs)


@given(st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_nested_bins_never_lower_the_entropy(seed):
    t = np.tanh(2 * np.random.default_rng(seed).standard_normal((200, 2)))
    values = [entropy_bits(t, FixedBins(count, (-1, 1))) for count in (4, 8, 16)]
    assert values == sorted(values)
    u = np.abs(t)
    nested = [entropy_bits(u, AdaptiveBins(count, low=0.0)) for count in (5, 10, 20)]  # 400 values: edges nest
    assert nested == sorted(nested)


# Quantiles


def test_quantile_bins_hold_equal_numbers():
    t = np.random.default_rng(0).standard_normal((600, 2)) ** 3
    codes = QuantileBins(12).codes(t)
    assert all((np.bincount(column) == 50).all() for column in codes.T)
    assert np.array_equal(QuantileBins(12).codes(np.exp(t / 10)), codes)


def test_ties_stay_together():
    t = np.array([0.0] * 7 + [1.0, 2.0, 3.0])[:, None]
    codes = QuantileBins(5).codes(t)[:, 0]
    assert len(set(codes[:7])) == 1
    assert codes[0] < codes[-1]


# Adaptive bins


def test_occupancy():
    dice = np.random.default_rng(0)
    t = dice.random((300, 4)) + 0.01
    t.flat[dice.choice(t.size, 300, replace=False)] = 0.0
    counts = np.bincount(AdaptiveBins(30, activation="relu").codes(t).reshape(-1), minlength=33)
    assert counts[0] == 0
    assert counts[1] == 300  # exactly the zeros
    assert (counts[2:31] == 30).all()
    assert counts[31] == 29
    assert counts[32] == 1  # the maximum


@pytest.mark.parametrize("increasing", [lambda t: 50 * t, lambda t: t**3, lambda t: np.expm1(t)])
def test_codes_follow_every_increasing_map(increasing):
    t = np.maximum(np.random.default_rng(0).standard_normal((500, 6)), 0)
    bins = AdaptiveBins(30, activation="relu")
    assert np.array_equal(bins.codes(increasing(t)), bins.codes(t))
    assert entropy_bits(increasing(t)[:, :2], bins) == entropy_bits(t[:, :2], bins)
    fixed = FixedBins(30)
    assert np.array_equal(fixed.codes(50 * t), fixed.codes(t))
    assert not np.array_equal(fixed.codes(t**3), fixed.codes(t))


@pytest.mark.parametrize("seed", range(3))
def test_entropy_of_a_rectified_normal_unit(seed):
    t = np.maximum(np.random.default_rng(seed).standard_normal((3000, 1)), 0)
    z, b = float((t > 0).mean()), 30
    expected = -(1 - z) * math.log2(1 - z) - z * math.log2(z / b)
    assert entropy_bits(t, AdaptiveBins(b, activation="relu")) == pytest.approx(expected, abs=0.01)


def test_dead_and_constant_layers():
    y = np.arange(40) % 2
    dead = AdaptiveBins(activation="relu").codes(np.zeros((40, 3)))
    still = AdaptiveBins(activation="relu").codes(np.full((40, 3), 0.7))
    for codes in (dead, still):
        assert discrete_entropy(codes, correction="none").value == 0
        assert discrete(codes, y, correction="none").value == 0
    assert entropy_bits(np.full((40, 3), 0.7), AdaptiveBins()) == 0


def test_fewer_values_than_bins_are_told_apart_exactly():
    t = np.random.default_rng(0).integers(0, 6, (400, 2)) / 7
    for bins in (AdaptiveBins(30, low=0.0), AdaptiveBins(30)):
        assert entropy_bits(t, bins) == pytest.approx(discrete_entropy(t, correction="none").bits, abs=1e-12)


def test_samples_and_unique_values_agree_without_ties_and_differ_with_them():
    t = np.random.default_rng(0).random((200, 2)) + 0.1
    assert np.array_equal(AdaptiveBins(10).codes(t), AdaptiveBins(10, on="samples").codes(t))
    t[:120] = 0.5
    assert not np.array_equal(AdaptiveBins(10).codes(t), AdaptiveBins(10, on="samples").codes(t))


def test_single_precision_keeps_equal_values_together():
    t = np.random.default_rng(0).random((300, 2)).astype(np.float32)
    t = np.concatenate([t, t])
    for bins in (AdaptiveBins(30), AdaptiveBins(30, activation="relu")):
        assert bins.edges(t).dtype == np.float32
        codes = bins.codes(t)
        assert np.array_equal(codes[:300], codes[300:])
        assert np.array_equal(codes, bins.codes(t.astype(np.float64)))


def test_rest_of_the_activations():
    x = np.linspace(-800, 800, 100_001)
    values = {
        "elu": np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        "relu": np.maximum(x, 0),
        "sigmoid": 1 / (1 + np.exp(-np.clip(x, -700, 700))),
        "softplus": np.logaddexp(0, x),
        "swish": x / (1 + np.exp(-np.clip(x, -700, 700))),
        "tanh": np.tanh(x),
    }
    assert values.keys() == AdaptiveBins.RESTS.keys()
    for name, t in values.items():
        assert -1e-4 < AdaptiveBins.RESTS[name] - t.min() <= 0  # the largest lower bound
        AdaptiveBins(activation=name).codes(t[:, None])
    with pytest.raises(DataError, match="tanh should be"):
        AdaptiveBins(activation="tanh").codes(x[:, None])


def test_large_layers_choose_edges_from_part_of_the_values():
    dice = np.random.default_rng(0)
    t = dice.random((150_000, 8)) + 0.1
    t[:100] = 0.0
    bins = AdaptiveBins(20, activation="relu")
    codes = bins.codes(t)
    assert (codes[:100] == 1).all()
    assert (codes[100:] > 1).all()
    inner = np.bincount(codes[100:].reshape(-1))[2:22]
    assert np.allclose(inner / inner.sum(), 1 / 20, atol=0.002)
    assert "of 1200000 values" in bins.describe(t)


# The estimators


@pytest.mark.parametrize("function", [binned, quantile_binned, adaptive_binned])
def test_a_gaussian_pair(function):
    values = [function(*correlated(5000, 0.75, seed=s)).value for s in range(4)]
    assert np.mean(values) == pytest.approx(0.4133393, abs=0.04)


def test_histograms_of_independent_uniforms():
    dice = np.random.default_rng(0)
    pairs = [dice.random((2, 1000)) for _ in range(40)]
    plain, corrected = (
        np.mean([binned(x, y, 10, correction=c).value for x, y in pairs]) for c in ("none", "miller_madow")
    )
    assert plain == pytest.approx(0.0415, abs=0.005)
    assert corrected == pytest.approx(0.001, abs=0.005)


@pytest.mark.parametrize("function", [binned, quantile_binned, adaptive_binned])
def test_shuffled_rows_share_nothing(function):
    # Uniform margins: in the thin tails of a normal law, cells that stay empty leave equal widths 0.01 nats too high.
    x, y = (ndtr(side) for side in correlated(1000, 0.9))
    dice = np.random.default_rng(0)
    values = [function(x, dice.permutation(y), 8).value for _ in range(20)]
    assert abs(np.mean(values)) < np.std(values)


def test_invariances_of_the_estimators():
    x, y = correlated(500, 0.7)
    assert binned(3 * x - 7, -y).value == pytest.approx(binned(x, y).value, abs=0.02)
    assert quantile_binned(np.exp(x), y**3).value == pytest.approx(quantile_binned(x, y).value, abs=1e-12)
    assert adaptive_binned(np.exp(x), y**3).value == pytest.approx(adaptive_binned(x, y).value, abs=1e-12)


def test_one_grid_for_all_columns():
    x, y = correlated(500, 0.7, d=2)
    x[:, 1] *= 0.01
    apart = discrete(FixedBins(5, per_column=True).codes(x), FixedBins(5, per_column=True).codes(y))
    shared = discrete(FixedBins(5).codes(x), FixedBins(5).codes(y))
    assert binned(x, y, 5).value == pytest.approx(apart.value, abs=1e-12)
    assert binned(x, y, 5, per_column=False).value == pytest.approx(shared.value, abs=1e-12)
    assert apart.value > shared.value


def test_differential_entropy():
    dice = np.random.default_rng(0)
    assert binned_entropy(3 * dice.random(20_000)).value == pytest.approx(math.log(3), abs=0.003)
    normal = binned_entropy(dice.standard_normal(20_000))
    assert normal.value == pytest.approx(math.log(2 * math.pi * math.e) / 2, abs=0.02)
    x = dice.standard_normal((2000, 2))
    assert binned_entropy(x * [5, 2]).value == pytest.approx(binned_entropy(x).value + math.log(10), abs=1e-9)
    with pytest.raises(DataError, match="1 of 2 columns"):
        binned_entropy(x * [1, 0])


@pytest.mark.parametrize("function", [binned, quantile_binned, adaptive_binned])
def test_cautions(function):
    found = function(*correlated(2000, 0.5), 10)
    assert found.has("resolution")
    assert "wide" in next(c.text for c in found.cautions if c.trouble == "resolution")
    assert not found.has("deterministic")
    assert not found.has("few samples")
    x = np.random.default_rng(0).standard_normal(2000)
    values = [function(x, 2 * x - 1, count) for count in (5, 10, 20)]
    assert all(v.has("deterministic") for v in values)
    assert values[0].value < values[1].value < values[2].value
    assert function(*correlated(60, 0.5), 30).has("few samples")
    assert binned_entropy(x).has("resolution")
    assert "constant column" in [c.trouble for c in function(x, np.ones(2000)).cautions]


def test_heavy_tails_matter_for_equal_widths_only():
    dice = np.random.default_rng(0)
    x = dice.standard_cauchy(2000)
    y = x + dice.standard_cauchy(2000)
    assert binned(x, y).has("heavy tails")
    assert not quantile_binned(x, y).has("heavy tails")
    assert quantile_binned(x, y).value > 10 * binned(x, y).value


def test_bad_arguments():
    x, y = correlated(50, 0.5)
    for function in (binned, quantile_binned, adaptive_binned):
        with pytest.raises(DataError, match="two bins"):
            function(x, y, 1)
    with pytest.raises(DataError, match="not both"):
        binned(x, y, 5, width=0.1)
    with pytest.raises(DataError, match="positive"):
        binned(x, y, width=0.0)
    with pytest.raises(DataError, match="too narrow"):
        binned(1e300 * x, y, width=1e-3)
    with pytest.raises(DataError, match="no bin is below"):
        adaptive_binned(x, y, low_x=0.0)
    with pytest.raises(DataError, match="smaller to a larger"):
        FixedBins(3, (1, 1))
    with pytest.raises(DataError, match="not both"):
        FixedBins(width=0.1, range=(0, 1))
    with pytest.raises(DataError, match="not both"):
        AdaptiveBins(activation="relu", low=0)
    with pytest.raises(DataError, match="no rest is known"):
        AdaptiveBins(activation="maxout")
    with pytest.raises(DataError, match="'samples'"):
        AdaptiveBins(on="rows")
