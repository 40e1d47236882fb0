"""The Gaussian estimator: closed forms, the exact bias, invariances, what it says about other laws."""

import math

import numpy as np
import pytest

from narrows.core.errors import DataError
from narrows.information import TASKS, gaussian
from narrows.information.gaussian import wishart_bias
from narrows.information.laws import dense, pairs


def draw(law, n, seed=0):
    return law.draw(np.random.default_rng(seed), n)


@pytest.mark.parametrize("name", ["T01", "T10", "T14"])
def test_within_one_percent_of_the_truth(name):
    task = TASKS[name]
    assert gaussian(*task.sample(100_000, 0)).value == pytest.approx(task.mi, rel=0.01)


def test_uncorrected_it_is_a_ratio_of_determinants():
    x, y = draw(dense(3, 0.4), 200)
    determinants = [np.linalg.slogdet(np.cov(side.T))[1] for side in (x, y, np.concatenate([x, y], axis=1))]
    expected = 0.5 * (determinants[0] + determinants[1] - determinants[2])
    assert gaussian(x, y, corrected=False).value == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_the_bias_is_the_same_for_every_gaussian_law_and_is_taken_off(rho):
    n, law = 25, pairs([rho, rho], 3, 2)
    values = [gaussian(*draw(law, n, seed)).value - law.mi for seed in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(len(values))
    assert wishart_bias(n, 3, 2) > 5 * np.std(values) / math.sqrt(len(values))


def test_with_many_rows_the_bias_is_that_of_the_chi_square_law():
    assert wishart_bias(100_000, 3, 5) == pytest.approx(15 / 200_000, rel=1e-3)
    assert wishart_bias(50, 4, 7) == pytest.approx(wishart_bias(50, 7, 4), abs=1e-12)


def test_shuffled_rows_share_nothing_but_without_the_correction():
    x, y = draw(pairs([0.8] * 5, 5, 5), 500)
    dice = np.random.default_rng(0)
    found = [gaussian(x, dice.permutation(y)) for _ in range(20)]
    values = np.array([f.value for f in found])
    assert abs(values.mean()) < values.std()
    assert values.mean() + found[0].details["bias"] > 2 * values.std()


def test_invertible_linear_maps_do_not_matter_and_redundant_columns_neither():
    x, y = draw(dense(3, 0.5), 300)
    dice = np.random.default_rng(1)
    value = gaussian(x, y).value
    assert gaussian(x @ dice.standard_normal((3, 3)) + 5, y @ dice.standard_normal((3, 3))).value == pytest.approx(
        value
    )
    wide = np.concatenate([x, x @ dice.standard_normal((3, 2)), np.ones((300, 1))], axis=1)
    found = gaussian(wide, y)
    assert found.value == pytest.approx(value, abs=1e-9)
    assert found.has("constant column")


@pytest.mark.parametrize(("rho", "d"), [(0.6, 1), (0.0, 4)])
def test_the_standard_error_is_that_of_repeated_samples(rho, d):
    runs = [gaussian(*draw(pairs([rho] * d, d, d), 300, seed)) for seed in range(150)]
    assert np.mean([r.standard_error for r in runs]) == pytest.approx(np.std([r.value for r in runs]), rel=0.25)


def test_it_says_where_the_law_is_another():
    x, y = draw(pairs([0.5], 1, 1), 2000)
    assert gaussian(x, y).cautions == ()
    assert gaussian(np.exp(x), y).has("assumption")
    assert gaussian(x, 2 * x).has("deterministic")
    assert math.isfinite(gaussian(x, 2 * x).value)
    assert gaussian(*draw(pairs([], 4, 4), 30)).has("few samples")


def test_bad_arguments():
    x, y = draw(pairs([], 3, 3), 7)
    with pytest.raises(DataError, match="more than 7 rows, here are 7"):
        gaussian(x, y)
    with pytest.raises(DataError, match="labels"):
        gaussian(np.arange(50.0), np.arange(50) % 2)
