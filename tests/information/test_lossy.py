"""Mutual information of codes: closed forms, what compression keeps and loses, refusals."""

import math

import numpy as np
import pytest

from narrows.core.errors import DataError
from narrows.information import ksg, lossy
from narrows.information.lossy import _euclidean_ksg


def of_information(total, d, n=5000, seed=0):
    """Two sides of d normal columns with `total` nats between them, spread evenly."""
    rho = math.sqrt(1 - math.exp(-2 * total / d))
    dice = np.random.default_rng(seed)
    x = dice.standard_normal((n, d))
    return x, rho * x + math.sqrt(1 - rho**2) * dice.standard_normal((n, d))


@pytest.mark.parametrize("d", [2, 4])
@pytest.mark.parametrize("total", [1, 4, 8])
def test_normal_laws(total, d):
    found = [lossy(*of_information(total, d, seed=s)).value for s in range(2)]
    assert np.mean(found) == pytest.approx(total, abs=0.1)


def test_without_whitening_large_information_is_lost():
    assert lossy(*of_information(8, 4), whiten=False).value < 7


def test_independent_sides():
    assert abs(lossy(*of_information(0, 2)).value) < 0.08


def test_a_normal_channel():
    dice = np.random.default_rng(0)
    x = dice.standard_normal(5000)
    for s in (1.0, 0.1):
        y = x + s * dice.standard_normal(5000)
        assert lossy(x, y).value == pytest.approx(0.5 * math.log1p(1 / s**2), abs=0.06)


def test_labels():
    dice = np.random.default_rng(0)
    label = dice.integers(0, 2, 5000)
    noise = dice.standard_normal(5000)
    assert lossy(label * 2 + noise, label).value == pytest.approx(0.3368, abs=0.03)
    assert lossy(label, label * 2 + noise).value == lossy(label * 2 + noise, label).value
    assert lossy(noise, label).value == pytest.approx(0, abs=0.03)
    four = dice.integers(0, 4, 5000)
    entropy = -sum(p * math.log(p) for p in np.bincount(four) / 5000)
    assert lossy(100.0 * four + noise, four).value == pytest.approx(entropy, abs=0.01)


def test_whitening_squashes_clusters_in_two_columns():
    dice = np.random.default_rng(1)
    four = dice.integers(0, 4, 5000)
    x = dice.standard_normal((5000, 2)) + np.stack([100.0 * four, 0 * four], axis=1)
    assert lossy(x, four, whiten=False).value == pytest.approx(math.log(4), abs=0.01)
    assert lossy(x, four).value > math.log(4) + 0.05


def test_a_small_reconstruction_error_guarantees_nothing():
    dice = np.random.default_rng(0)
    a, b = dice.uniform(size=(2, 3000))
    x, y = np.stack([a, 0.01 * b], axis=1), b + 0.1 * dice.standard_normal(3000)
    code = lossy(x, y, x_code=1)
    assert code.details["variance kept"][0] > 0.999
    assert code.kind == "lower"
    assert code.value == pytest.approx(0, abs=0.05)
    whole = lossy(x, y)
    assert whole.kind == "point"
    assert whole.value == pytest.approx(1.04, abs=0.06)
    assert lossy(x, y, whiten=False).value < 0


def test_dropping_what_the_other_side_does_not_know_costs_nothing():
    dice = np.random.default_rng(0)
    xi, y = of_information(1.5, 1, n=1000)
    turn = np.linalg.qr(dice.standard_normal((3, 3)))[0]
    x = np.concatenate([xi, 5 * dice.standard_normal((1000, 2))], axis=1) @ turn
    for by in ("entropies", "ksg"):
        kept = lossy(x, y, x_code=lambda rows: (rows @ turn.T)[:, :1], by=by).value
        assert kept == pytest.approx(lossy(xi, y, by=by).value, abs=1e-9)


def test_a_code_that_is_one_to_one_costs_nothing():
    xi, y = of_information(2, 2, n=1000)
    dice = np.random.default_rng(0)
    wide = xi @ np.linalg.qr(dice.standard_normal((40, 2)))[0].T + 3
    assert lossy(wide, y, x_code=2).value == pytest.approx(lossy(xi, y).value, abs=1e-6)
    assert lossy(wide, y, x_code=2).dims == (40, 2)


def brute(x, y, k):
    from scipy.special import digamma

    dx, dy = (np.sqrt(((s[:, None] - s[None]) ** 2).sum(-1)) for s in (x, y))
    joint = np.maximum(dx, dy)
    np.fill_diagonal(joint, np.inf)
    eps = np.sort(joint, axis=1)[:, k - 1 : k]
    counts = [(d < eps).sum(1) - 1 for d in (dx, dy)]
    return digamma(k) + digamma(len(x)) - digamma(counts[0] + 1) - digamma(counts[1] + 1)


@pytest.mark.parametrize("d", [2, 30])
def test_neighbours_by_euclidean_distance(d):
    dice = np.random.default_rng(d)
    x, y = dice.standard_normal((2, 60, d))
    assert _euclidean_ksg(x, y, 3) == pytest.approx(brute(x, y, 3), abs=1e-12)


def test_by_neighbours():
    x, y = of_information(1, 1, n=2000)
    found = lossy(x, y, by="ksg")  # in one column both norms are the same, and the scale is one number
    assert found.value == pytest.approx(ksg(x, y).value, abs=1e-9)
    label = (x[:, 0] > 0).astype(int)
    assert lossy(y, label, by="ksg").value == pytest.approx(lossy(y, label).value, abs=0.05)


def test_on_bounded_codes_a_difference_of_entropies_is_low():
    # Sharp edges: the entropy of the pair misses more than those of the sides.
    x = np.random.default_rng(0).uniform(size=(3000, 4))
    assert lossy(x[:, :2], x[:, 2:]).value < -0.05
    assert abs(lossy(x[:, :2], x[:, 2:], by="ksg").value) < 0.05


def test_cautions():
    x, y = of_information(1, 2, n=300)
    still = np.concatenate([x, np.full((300, 1), 7.0)], axis=1)
    assert lossy(still, y).has("constant column")
    dice = np.random.default_rng(0)
    wide = dice.standard_normal((300, 12))
    assert lossy(wide, y, x_code=None).has("high dimension")
    assert lossy(x, (y[:, 0] > 1.5).astype(int)).has("few samples")
    assert lossy(*of_information(8, 2, n=300)).saturated
    assert lossy(x.round(1), y.round(1), by="ksg").has("ties")


def test_bad_input():
    x, y = of_information(1, 2, n=100)
    label = (x[:, 0] > 0).astype(int)
    cases = [
        ((label, label), {}, "both sides are labels"),
        ((x, y), {"by": "mine"}, "measured by"),
        ((x, y), {"x_code": 0}, "at least 1 column"),
        ((x, y), {"x_code": lambda rows: rows[:-1]}, "99"),
        ((x, y), {"x_code": lambda rows: np.zeros_like(rows)}, "says nothing"),
        ((x[:6], y[:6]), {}, "too few"),
        ((x, (np.arange(100) < 4).astype(int)), {}, "a class has 4 rows"),
        ((x.round(), y), {}, "discrete"),
    ]
    for data, options, text in cases:
        with pytest.raises(DataError, match=text):
            lossy(*data, **options)
