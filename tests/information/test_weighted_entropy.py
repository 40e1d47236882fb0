"""Entropy from weighted neighbours: hand case, conditions on the weights, closed forms, exact moves."""

import math

import numpy as np
import pytest
from scipy.special import gamma

from narrows.core.errors import DataError
from narrows.information import neighbour_weights, weighted_entropy


def normal(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def of_normal(d):
    return d / 2 * math.log(2 * math.pi * math.e)


def test_the_hand_case():
    found = weighted_entropy([0.0, 1, 3], k=1, whiten=False)
    assert found.value == pytest.approx(math.log(2) / 3 + 2 * math.log(2) + np.euler_gamma, abs=1e-9)
    assert found.value == pytest.approx(2.1945591, abs=1e-7)


@pytest.mark.parametrize(("d", "within"), [(1, 0.05), (2, 0.05), (4, 0.1), (8, 0.15)])
def test_normal_laws(d, within):
    x = normal(5000, d)
    assert weighted_entropy(x).value == pytest.approx(of_normal(d), abs=within)
    if d <= 4:
        assert weighted_entropy(x, weighted="official").value == pytest.approx(of_normal(d), abs=within)


def test_at_eight_columns_the_official_weights_are_worse():
    found = {
        w: [weighted_entropy(normal(2000, 8, s), weighted=w).value for s in range(6)] for w in ("auto", "official")
    }
    assert np.std(found["official"]) > 2 * np.std(found["auto"])


def test_uniform_squares():
    for a in (0.1, 5.0):
        x = np.random.default_rng(0).uniform(0, a, (5000, 2))
        assert weighted_entropy(x).value == pytest.approx(2 * math.log(a), abs=0.05)


@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize("d", [1, 3, 5, 10])
def test_scale_shift_and_rotation(d, whiten):
    x = normal(300, d)
    value = weighted_entropy(x, whiten=whiten).value
    turn = np.linalg.qr(normal(d, d, 1))[0]
    assert weighted_entropy(1e3 * x, whiten=whiten).value == pytest.approx(value + d * math.log(1e3), abs=1e-9)
    assert weighted_entropy(x @ turn + 4, whiten=whiten).value == pytest.approx(value, abs=1e-9)


def test_whitened_entropy_follows_every_linear_map():
    x, mix = normal(300, 3), normal(3, 3, 7)
    moved = weighted_entropy(x @ mix).value
    assert moved == pytest.approx(weighted_entropy(x).value + math.log(abs(np.linalg.det(mix))), abs=1e-9)


def test_whitening_helps_where_scales_differ():
    x = normal(5000, 2) * [1.0, 0.01]
    truth = of_normal(2) + math.log(0.01)
    assert weighted_entropy(x).value == pytest.approx(truth, abs=0.06)
    assert abs(weighted_entropy(x, whiten=False).value - truth) > abs(weighted_entropy(x).value - truth)


@pytest.mark.parametrize("d", range(1, 16))
@pytest.mark.parametrize("k", [5, 20, 50])
def test_conditions_on_the_weights(d, k):
    try:
        weights = neighbour_weights(k, d, "official")
    except DataError:
        assert k < d // 4 + 1 or k == 5
        return
    assert weights.sum() == pytest.approx(1, abs=1e-9)
    if d <= 4:
        assert weights[0] == 1
        return
    allowed = {k * i // d for i in range(1, d + 1)} - {0}
    j = np.arange(1, k + 1)
    assert {int(i) for i in j[weights != 0]} <= allowed
    for order in range(1, d // 4 + 1):
        moment = gamma(j + 2 * order / d) / gamma(j)
        assert abs(weights @ moment) < 1e-8 * np.abs(weights * moment).max()


def test_the_shortest_weights_of_the_paper_at_eight_columns():
    assert neighbour_weights(5, 8, "official") == pytest.approx([9.9, -7.7, -7.2, -1.2, 7.3], abs=0.06)
    assert neighbour_weights(5, 8).tolist() == [0, 0, 0, 0, 1]
    assert neighbour_weights(5, 3).tolist() == [0, 0, 0, 0, 1]
    for d in (4, 5, 6):
        assert 1.5 < np.linalg.norm(neighbour_weights(5, d)) < 2.5


def test_the_standard_error_is_the_spread_over_samples():
    found = [weighted_entropy(normal(300, 2, s)) for s in range(80)]
    spread = np.std([f.value for f in found], ddof=1)
    assert np.mean([f.standard_error for f in found]) == pytest.approx(spread, rel=0.35)


def test_bad_input():
    x = normal(50, 2)
    with pytest.raises(DataError, match="k must lie"):
        weighted_entropy(x, k=50)
    with pytest.raises(DataError, match="discrete"):
        weighted_entropy(x.round())
    with pytest.raises(DataError, match="linearly"):
        weighted_entropy(np.concatenate([x, x.sum(axis=1, keepdims=True)], axis=1), whiten=False)
    with pytest.raises(DataError, match="never changes"):
        weighted_entropy(np.concatenate([x, np.ones((50, 1))], axis=1))
    with pytest.raises(DataError, match="weighted"):
        weighted_entropy(x, weighted="maybe")
    with pytest.raises(DataError, match="larger k"):
        neighbour_weights(1, 9, "official")
    assert weighted_entropy(np.concatenate([x, x[:1]])).has("ties")
