"""Sliced mutual information: closed forms for normal laws, invariances, standard errors."""

import math

import numpy as np
import pytest
from scipy.integrate import quad

from narrows.core.errors import DataError
from narrows.information import ksg, sliced


def correlated(n, rho, d=1, seed=0):
    dice = np.random.default_rng(seed)
    x = dice.standard_normal((n, d))
    return x, rho * x + math.sqrt(1 - rho**2) * dice.standard_normal((n, d))


def truth(rho, d):
    """E[-1/2 ln(1 - rho^2 t^2)], t the inner product of two random directions: density (1 - t^2)^((d - 3) / 2)."""
    if d == 1:
        return -0.5 * math.log(1 - rho**2)
    if d == 2:
        return -math.log((1 + math.sqrt(1 - rho**2)) / 2)
    total = quad(lambda t: (1 - t * t) ** ((d - 3) / 2), -1, 1)[0]
    return quad(lambda t: -0.5 * math.log1p(-((rho * t) ** 2)) * (1 - t * t) ** ((d - 3) / 2), -1, 1)[0] / total


def test_the_closed_form_in_two_columns_is_the_integral():
    rho = 0.9
    by_angle = quad(lambda a: -0.5 * math.log1p(-((rho * math.cos(a)) ** 2)), 0, math.pi)[0] / math.pi
    assert truth(rho, 2) == pytest.approx(by_angle, abs=1e-9)


@pytest.mark.parametrize(("d", "rho"), [(1, 0.8), (2, 0.9), (3, 0.95), (8, 0.99)])
def test_normal_laws_by_their_formula(d, rho):
    found = sliced(*correlated(5000, rho, d), by="gaussian", slices=2000)
    assert found.value == pytest.approx(truth(rho, d), abs=4 * found.standard_error)
    assert found.value == pytest.approx(truth(rho, d), rel=0.1)


@pytest.mark.parametrize(("d", "rho"), [(2, 0.9), (3, 0.95)])
def test_normal_laws_by_neighbours(d, rho):
    found = sliced(*correlated(1500, rho, d), slices=200)
    assert found.value == pytest.approx(truth(rho, d), abs=4 * found.standard_error)
    assert found.standard_error < 0.2 * truth(rho, d)


def test_the_same_slices_by_both_ways():
    data = correlated(2000, 0.9, 3)
    assert sliced(*data, slices=40).value == pytest.approx(sliced(*data, slices=40, by="gaussian").value, abs=0.02)


def test_one_column_a_side_is_mutual_information():
    x, y = correlated(500, 0.8)
    assert sliced(x, y, slices=4).value == pytest.approx(ksg(x, y).value, abs=1e-9)


def test_more_columns_of_noise_dilute():
    x, y = correlated(1000, 0.9, 1)
    dice = np.random.default_rng(5)
    wide = [np.concatenate([side, dice.standard_normal((1000, 4))], axis=1) for side in (x, y)]
    assert sliced(*wide, by="gaussian").value < 0.3 * sliced(x, y, by="gaussian").value


def test_independent_sides_give_nothing_and_squares_are_seen_by_neighbours_alone():
    x, y = correlated(1000, 0.0, 3)
    found = sliced(x, y)
    assert abs(found.value) < 4 * found.standard_error + 0.01
    square = sliced(x, x**2)
    assert square.value > 0.05 > 4 * sliced(x, x**2, by="gaussian").value


def test_scale_and_shift_of_columns_change_nothing():
    x, y = correlated(300, 0.8, 2)
    value = sliced(x, y, slices=10).value
    assert sliced(x * [1e3, 1e-3] + 5, y, slices=10).value == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("dims", [(2, 2), (2, 3)])
def test_the_sides_may_change_places(dims):
    x, y = correlated(300, 0.8, 3)
    x, y = x[:, : dims[0]], y[:, : dims[1]]
    for by in ("ksg", "gaussian"):
        there, back = sliced(x, y, by=by, slices=10), sliced(y, x, by=by, slices=10)
        assert there.value == pytest.approx(back.value, abs=1e-9)


def test_directions_of_the_two_sides_are_independent():
    # With the same direction on both sides a copy would have slices of infinite information.
    x = correlated(400, 0.0, 2)[0]
    assert sliced(x, x + 1e-6 * correlated(400, 0.0, 2, seed=1)[0], by="gaussian").value < 1.5


@pytest.mark.parametrize("by", ["ksg", "gaussian"])
def test_the_standard_error_is_the_spread_over_samples_and_slices(by):
    found = [sliced(*correlated(300, 0.9, 2, seed=s), by=by, slices=16, seed=s) for s in range(40)]
    spread = np.std([f.value for f in found], ddof=1)
    assert np.mean([f.standard_error for f in found]) == pytest.approx(spread, rel=0.3)


def test_rounded_values_and_bad_options():
    x, y = (side.round(1) for side in correlated(300, 0.8, 1))
    assert sliced(x, y, slices=4).has("ties")
    for option in ({"slices": 5}, {"slices": 2}, {"by": "kernel"}, {"k": 300}, {"k": 0}):
        with pytest.raises(DataError):
            sliced(x, y, **option)
    with pytest.raises(DataError, match="labels"):
        sliced(x, np.arange(300) % 3)
