"""Differential entropy from neighbours: hand case, closed forms, affine maps, weights, bias in many columns."""

import math

import numpy as np
import pytest
from scipy.special import digamma, gammaln
from scipy.stats import ortho_group

from narrows.core.errors import DataError
from narrows.information import kozachenko_leonenko, neighbour_weights
from narrows.information.kozachenko_leonenko import moment_weights


def normal(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def h_normal(d):
    return d / 2 * math.log(2 * math.pi * math.e)


def test_the_hand_case():
    found = kozachenko_leonenko([0.0, 1.0, 3.0], 1, whiten=False)
    assert found.value == pytest.approx(math.log(2) / 3 + 2 * math.log(2) - digamma(1), abs=1e-12)
    assert found.value == pytest.approx(2.1945591, abs=1e-7)


@pytest.mark.parametrize(("d", "tolerance"), [(1, 0.05), (2, 0.05), (4, 0.1), (8, 0.15)])
def test_the_entropy_of_a_normal_law(d, tolerance):
    found = kozachenko_leonenko(normal(5000, d))
    assert found.value == pytest.approx(h_normal(d), abs=tolerance)
    assert (found.unit, found.dims, found.cautions) == ("nats", (d,), ())
    if d <= 4:
        assert kozachenko_leonenko(normal(5000, d), weights="official").value == pytest.approx(
            h_normal(d), abs=tolerance
        )


def test_the_entropy_of_a_uniform_law():
    x = np.random.default_rng(0).uniform(0, 3, (5000, 2))
    assert kozachenko_leonenko(x).value == pytest.approx(2 * math.log(3), abs=0.05)
    assert kozachenko_leonenko(x, whiten=False).value == pytest.approx(2 * math.log(3), abs=0.05)


@pytest.mark.parametrize("d", [1, 3, 9])  # by trees and by all distances
@pytest.mark.parametrize("whiten", [True, False])
def test_scale_shift_and_rotation(d, whiten):
    x = normal(300, d)
    value = kozachenko_leonenko(x, whiten=whiten).value
    turn = ortho_group.rvs(d, random_state=0) if d > 1 else np.array([[-1.0]])
    assert kozachenko_leonenko(x @ turn + 4, whiten=whiten).value == pytest.approx(value, abs=1e-9)
    scaled = kozachenko_leonenko(-0.01 * x, whiten=whiten).value
    assert scaled == pytest.approx(value + d * math.log(0.01), abs=1e-9)


def test_after_whitening_every_affine_map_is_ln_det():
    x, a = normal(300, 3), normal(3, 3, seed=1)
    expected = kozachenko_leonenko(x).value + math.log(abs(np.linalg.det(a)))
    assert kozachenko_leonenko(x @ a.T).value == pytest.approx(expected, abs=1e-9)


def test_whitening_helps_a_long_thin_law():
    x = normal(5000, 2) * [1, 1e-2]
    truth = h_normal(2) + math.log(1e-2)
    white, raw = (kozachenko_leonenko(x, whiten=w).value for w in (True, False))
    assert white == pytest.approx(truth, abs=0.06)
    assert abs(white - truth) <= abs(raw - truth)


def test_both_ways_of_finding_neighbours_agree():
    x = normal(200, 8)
    distances = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
    np.fill_diagonal(distances, np.inf)
    third = np.sort(distances, axis=1)[:, 2]
    expected = 8 * np.log(third).mean() + 4 * math.log(math.pi) - gammaln(5) + math.log(199) - digamma(3)
    assert kozachenko_leonenko(x, 3, whiten=False).value == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(("k", "d"), [(5, 4), (5, 6), (20, 7), (50, 8), (60, 13)])
def test_weights_cancel_the_moments_on_their_support(k, d):
    w = moment_weights(k, d)
    j = np.arange(1, k + 1)
    assert w.sum() == pytest.approx(1, abs=1e-8)
    for order in range(1, d // 4 + 1):
        factors = np.exp(gammaln(j + 2 * order / d) - gammaln(j))
        assert (w * factors).sum() == pytest.approx(0, abs=1e-8 * np.abs(w * factors).max() * k)
    assert set(j[w != 0]) <= {i * k // d for i in range(1, d + 1)}


def test_the_weights_are_the_shortest():
    w = moment_weights(12, 6)
    j = np.flatnonzero(w) + 1
    a = np.stack([np.ones(len(j)), np.exp(gammaln(j + 2 / 6) - gammaln(j))])
    null = np.linalg.svd(a)[2][2:]  # what could be added without breaking a constraint
    assert np.abs(null @ w[j - 1]).max() < 1e-10


def test_in_few_columns_there_is_nothing_to_cancel():
    assert moment_weights(3, 2).tolist() == pytest.approx([0.5, 0, 0.5])
    for d in (1, 2, 3):
        assert neighbour_weights(5, d).tolist() == [0, 0, 0, 0, 1]
        assert neighbour_weights(5, d, "official").tolist() == [1, 0, 0, 0, 0]
    assert neighbour_weights(5, 4, "official").tolist() == [1, 0, 0, 0, 0]


def test_a_weighted_entropy_is_the_weighted_mean_of_entropies():
    x = normal(100, 6)
    found = kozachenko_leonenko(x, 6)
    each = [kozachenko_leonenko(x, k, weights="plain").value for k in range(1, 7)]
    assert found.details["neighbours"] == [1, 2, 3, 4, 5, 6]
    assert found.value == pytest.approx(neighbour_weights(6, 6) @ each, abs=1e-10)


def test_weights_are_used_where_they_are_short():
    assert neighbour_weights(5, 8, "official") == pytest.approx([9.9, -7.7, -7.2, -1.2, 7.3], abs=0.06)
    assert neighbour_weights(5, 8).tolist() == neighbour_weights(5, 4, "plain").tolist() == [0, 0, 0, 0, 1]
    for d in (4, 5, 6):
        assert 1.5 < np.linalg.norm(neighbour_weights(5, d)) < 2.5
    spread = {
        w: np.std([kozachenko_leonenko(normal(2000, 8, s), weights=w).value for s in range(6)])
        for w in ("auto", "official")
    }
    assert spread["official"] > 2 * spread["auto"]


def test_weights_take_bias_away_where_there_are_rows_enough():
    truth = h_normal(5)
    runs = [[kozachenko_leonenko(normal(4000, 5, s), weights=w).value for s in range(6)] for w in ("auto", "plain")]
    weighted, plain = (abs(np.mean(values) - truth) for values in runs)
    assert weighted < 0.6 * plain


def test_the_standard_error_is_that_of_repeated_samples():
    runs = [kozachenko_leonenko(normal(400, 2, s)) for s in range(60)]
    assert np.mean([r.standard_error for r in runs]) == pytest.approx(np.std([r.value for r in runs]), rel=0.35)


def test_what_has_no_entropy_is_refused():
    x = normal(50, 2)
    for flat in (np.c_[x, np.zeros(50)], np.c_[x, x[:, 0] - 2 * x[:, 1]], np.ones(50), normal(3, 4)):
        with pytest.raises(DataError, match="minus infinity"):
            kozachenko_leonenko(flat, 1)
    with pytest.raises(DataError, match="equal ones"):
        kozachenko_leonenko(np.repeat(x, 3, axis=0), 2)
    assert kozachenko_leonenko(np.repeat(x, 3, axis=0), 3).has("ties")


def test_with_equal_rows_the_furthest_neighbour_is_taken():
    x = np.repeat(normal(50, 5), 2, axis=0)
    found = kozachenko_leonenko(x)
    assert found.details["neighbours"] == [5]
    assert found.has("ties")
    assert found.value == kozachenko_leonenko(x, weights="plain").value
    with pytest.raises(DataError, match="equal ones"):
        kozachenko_leonenko(x, weights="official")


def test_bad_arguments_and_cautions():
    x = normal(30, 2)
    for k in (0, 30):
        with pytest.raises(DataError, match="between 1 and n - 1 = 29"):
            kozachenko_leonenko(x, k)
    with pytest.raises(DataError, match="'plain' or 'official'"):
        kozachenko_leonenko(x, weights="best")
    with pytest.raises(DataError, match="larger k"):
        kozachenko_leonenko(normal(30, 8), 2, weights="official")
    with pytest.raises(DataError, match="from 1 on"):
        neighbour_weights(0, 3)
    assert kozachenko_leonenko(normal(30, 4)).has("few samples")
    assert kozachenko_leonenko(normal(300, 12)).has("high dimension")
