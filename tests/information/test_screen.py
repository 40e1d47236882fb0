"""The screen of many columns: what it finds, where it finds nothing, that it stays below."""

import math

import numpy as np
import pytest

from narrows.core.errors import DataError
from narrows.information import EXTRA_TASKS, TASKS, ksg_extrapolated, screen
from narrows.information.laws import pairs, rotation, signs
from narrows.information.screen import _axes, _products

SIGNS = 0.4084425498


def draw(law, n, seed=0):
    return law.draw(np.random.default_rng(seed), n)


def test_one_pair_without_correlation_among_many_columns():
    found = screen(*draw(signs(1, 0.9, SIGNS, 10), 2000))
    assert found.value == pytest.approx(SIGNS, abs=0.08)
    assert found.details["columns of x"] == found.details["columns of y"] == [0]
    assert found.kind == "lower"


def test_the_pair_is_found_after_a_rotation():
    law = signs(1, 0.9, SIGNS, 8).mapped(rotation(8, 1), rotation(8, 2))
    found = screen(*draw(law, 4000))
    assert found.details["way"] == "directions"
    assert found.value == pytest.approx(SIGNS, abs=0.08)
    assert found.details.get("columns", 0.0) < 0.5 * found.value


def test_columns_are_neighbours_on_those_that_share_most():
    x, y = draw(pairs([0.9, 0.8, 0.7], 6, 6), 1000)
    found = screen(x, y)
    assert found.details["columns of x"] == [0, 1, 2]
    assert found.details["columns"] == pytest.approx(ksg_extrapolated(x[:, :3], y[:, :3]).value, abs=1e-9)


def test_independent_sides_give_nothing():
    values = [screen(*TASKS["T16"].sample(1000, seed)).value for seed in range(10)]
    assert np.mean(values) < 0.01
    assert sum(v == 0 for v in values) >= 8


def test_it_stays_below_the_truth():
    law = pairs([0.6] * 10, 10, 10)
    assert screen(*draw(law, 2000)).value < 0.7 * law.mi


def test_monotone_maps_do_not_matter():
    x, y = draw(pairs([0.9], 7, 7), 500)
    assert screen(np.exp(x), y**3).value == pytest.approx(screen(x, y).value, abs=1e-9)


def test_linear_and_quadratic_functions_are_orthonormal_for_normal_columns():
    z = np.random.default_rng(0).standard_normal((200_000, 3))
    f = _products(z)
    assert np.abs(f.T @ f / len(z) - np.eye(9)).max() < 0.03


def test_directions_are_read_off_functions():
    a = np.array([0.6, 0.8, 0.0])
    z = np.random.default_rng(0).standard_normal((50, 3))
    square = ((z @ a) ** 2 - 1) / math.sqrt(2)
    weights = np.linalg.lstsq(_products(z), square - square.mean(), rcond=None)[0]
    (axis,) = _axes(weights[:, None], 3).T
    assert abs(axis @ a) == pytest.approx(1, abs=1e-9)


def test_what_is_left_out():
    x, y = EXTRA_TASKS["signs-10"].sample(200, 0)
    x[:, 3] = 1.0
    assert screen(x, y).has("constant column")
    assert screen(np.ones((200, 2)), y).value == 0
    with pytest.raises(DataError, match="at least 34"):
        screen(x[:33], y[:33])
    with pytest.raises(DataError, match="labels"):
        screen(x, np.arange(200) % 3)
