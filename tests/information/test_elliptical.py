"""The elliptical family: entropies and densities against scipy, what it recovers, what its check rejects."""

import math

import numpy as np
import pytest
from scipy import stats

from narrows.core.errors import DataError
from narrows.information import EXTRA_TASKS, TASKS, elliptical, gaussian
from narrows.information.elliptical import _log_copula, _quantiles, _scatter, _shortfall, student_entropy
from narrows.information.inputs import untied_ranks
from narrows.information.laws import dense, pairs, student


def draw(law, n, seed=0):
    return law.draw(np.random.default_rng(seed), n)


def test_entropies_are_those_of_scipy():
    for nu in (1.0, 2.5, 30.0):
        assert student_entropy(nu, 1) == pytest.approx(stats.t(nu).entropy(), abs=1e-6)
        assert student_entropy(nu, 3) == pytest.approx(stats.multivariate_t(np.zeros(3), np.eye(3), nu).entropy())


@pytest.mark.parametrize("nu", [1.5, 6.0, math.inf])
def test_densities_are_those_of_scipy(nu):
    r = np.array([[1, 0.3, -0.2], [0.3, 1, 0.5], [-0.2, 0.5, 1]])
    w = np.random.default_rng(0).standard_normal((20, 3))
    if math.isinf(nu):
        joint, single = stats.multivariate_normal(np.zeros(3), r).logpdf(w), stats.norm.logpdf(w)
    else:
        joint, single = stats.multivariate_t(np.zeros(3), r, nu).logpdf(w), stats.t(nu).logpdf(w)
    assert _log_copula(w, r, nu) == pytest.approx(joint - single.sum(axis=1), abs=1e-6)


def test_quantiles_are_those_of_scipy():
    x = np.random.default_rng(0).standard_normal((9, 1))
    w = _quantiles(untied_ranks(x, x)[0], 2.5)
    assert np.sort(w[:, 0]) == pytest.approx(stats.t(2.5).ppf((np.arange(9) + 0.5) / 9))


def test_the_scatter_is_a_fixed_point():
    w = draw(student(np.eye(6), 3, 2.0), 500)[0]
    r = None
    for _ in range(10):
        r = _scatter(w, 2.0, r)
    assert np.abs(r - _scatter(w, 2.0, r)).max() < 1e-4
    assert np.diag(r) == pytest.approx(np.ones(3))


def test_what_small_samples_miss_on_other_rows():
    dice = np.random.default_rng(0)
    n, d, missed = 30, 4, []
    for _ in range(1000):
        x = dice.standard_normal((n, d))
        s = x.T @ x / n
        missed.append(0.5 * (np.linalg.slogdet(s)[1] + np.trace(np.linalg.inv(s)) - d))
    assert np.mean(missed) == pytest.approx(_shortfall(n, d), abs=4 * np.std(missed) / math.sqrt(1000))
    assert _shortfall(10**6, 4) == pytest.approx(4 * 5 / 4e6, rel=1e-3)


@pytest.mark.parametrize("name", ["T08", "T09", "T10", "T12", "T14", "T16", "student-3-3", "covariance"])
def test_it_recovers_its_own_family(name):
    task = {**TASKS, **EXTRA_TASKS}[name]
    found = elliptical(*task.sample(2000, 0))
    assert abs(found.value - task.mi) < max(4 * found.standard_error, 0.01)
    assert found.details["adequate"]
    assert not found.has("assumption")


def test_the_degrees_of_freedom_are_found():
    for nu in (1.7, 4.0):
        found = elliptical(*draw(student(np.eye(6), 3, nu), 4000))
        assert found.details["degrees of freedom"] == pytest.approx(nu, rel=0.15)
    found = elliptical(*draw(dense(3, 0.5), 4000)).details["degrees of freedom"]
    assert found == "infinite" or found > 60


def test_margins_do_not_matter():
    x, y = draw(dense(2, 0.5), 400)
    found = elliptical(x, y)
    assert elliptical(np.exp(x), np.arctan(y)).value == pytest.approx(found.value, abs=1e-9)
    assert found.value == pytest.approx(gaussian(x, y).value, abs=0.05)


def test_a_law_that_is_not_elliptical_is_rejected():
    # Each side alone is Student's t: one model of both claims dependence that is not there.
    found = elliptical(*EXTRA_TASKS["blocks"].sample(2000, 0))
    assert found.value > 0.1
    assert not found.details["adequate"]
    assert found.has("assumption")


def test_redundant_columns_change_nothing():
    x, y = draw(dense(2, 0.5), 400)
    wide = np.concatenate([x, -np.exp(x[:, :1]), np.ones((400, 1))], axis=1)
    assert elliptical(wide, y).value == pytest.approx(elliptical(x, y).value, abs=1e-9)
    assert elliptical(np.ones((400, 1)), y).value == 0


def test_one_side_as_a_function_of_the_other_is_said():
    x, _ = draw(pairs([], 2, 1), 300)
    found = elliptical(x, x[:, 0] ** 3)
    assert found.has("deterministic")
    assert found.value > 5


def test_the_standard_error_is_that_of_repeated_samples():
    runs = [elliptical(*draw(dense(2, 0.5), 300, seed)) for seed in range(40)]
    assert np.mean([r.standard_error for r in runs]) == pytest.approx(np.std([r.value for r in runs]), rel=0.35)


def test_bad_arguments():
    x, y = draw(pairs([], 3, 3), 15)
    with pytest.raises(DataError, match="at least 16 rows, here are 15"):
        elliptical(x, y)
    with pytest.raises(DataError, match="labels"):
        elliptical(np.arange(50.0), np.arange(50) % 2)
