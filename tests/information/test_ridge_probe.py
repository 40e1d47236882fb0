"""The linear probe: scikit-learn's contract, its ridge regression, generalised cross-validation by brute force."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

from narrows.information import RidgeProbe


def problem(n=80, d=6, targets=3, seed=0):
    dice = np.random.default_rng(seed)
    x = dice.standard_normal((n, d)) @ dice.standard_normal((d, d)) + dice.standard_normal(d)
    z = x @ dice.standard_normal((d, targets)) + np.array([0.1, 2.0, 20.0])[:targets] * dice.standard_normal(
        (n, targets)
    )
    return x, z


@parametrize_with_checks([RidgeProbe()])
def test_the_contract(estimator, check):
    check(estimator)


@pytest.mark.parametrize("alpha", [1e-8, 1.0, 100.0])
def test_it_is_ridge_regression_of_standardised_columns(alpha):
    x, z = problem()
    scaled = (x - x.mean(0)) / x.std(0)
    expected = Ridge(alpha=alpha).fit(scaled, z).predict(scaled)
    assert RidgeProbe([alpha]).fit(x, z).predict(x) == pytest.approx(expected, abs=1e-8)


def test_many_targets_are_as_many_single_ones():
    x, z = problem()
    together = RidgeProbe().fit(x, z)
    assert len(set(together.alpha_)) > 1  # each target its own penalty
    for j in range(z.shape[1]):
        alone = RidgeProbe().fit(x, z[:, j])
        assert alone.predict(x) == pytest.approx(together.predict(x)[:, j], abs=1e-8)
        assert alone.alpha_ == together.alpha_[j]


@pytest.mark.parametrize("shape", [(80, 6), (30, 60)])
def test_the_penalty_has_the_least_generalised_cross_validation_error(shape):
    alphas = np.array([0.1, 1.0, 10.0, 100.0, 1000.0])
    x, z = problem(*shape)
    a, b = (x - x.mean(0)) / x.std(0), z - z.mean(0)
    errors = []
    for alpha in alphas:
        hat = a @ np.linalg.solve(a.T @ a + alpha * np.eye(a.shape[1]), a.T)
        errors.append(((b - hat @ b) ** 2).mean(0) / (1 - (1 + np.trace(hat)) / len(a)) ** 2)
    assert RidgeProbe(alphas).fit(x, z).alpha_.tolist() == alphas[np.argmin(errors, axis=0)].tolist()


def test_rows_in_blocks_and_constant_columns_change_nothing():
    x, z = problem(n=9000)
    first = RidgeProbe([1.0]).fit(x, z).predict(x[:50])
    wide = np.column_stack([x, np.full(len(x), 0.1)])
    assert RidgeProbe([1.0]).fit(wide, z).predict(wide[:50]) == pytest.approx(first, abs=1e-9)
    order = np.random.default_rng(0).permutation(len(x))
    assert RidgeProbe([1.0]).fit(x[order], z[order]).predict(x[:50]) == pytest.approx(first, abs=1e-9)


@pytest.mark.parametrize("alphas", [(), (0.0,), (np.nan,), (-1.0, 1.0)])
def test_penalties_must_be_positive(alphas):
    with pytest.raises(ValueError, match="alphas must be positive"):
        RidgeProbe(alphas).fit(*problem())
