"""Linear CKA: invariances, limits, the kernel form by brute force."""

import numpy as np
import pytest
from scipy.stats import ortho_group

from narrows.core.errors import DataError
from narrows.information import linear_cka


def sides(n=200, dx=4, dy=3, seed=0):
    dice = np.random.default_rng(seed)
    return dice.standard_normal((n, dx)), dice.standard_normal((n, dy))


def test_rotations_scales_and_shifts_change_nothing():
    x, _ = sides()
    turned = 5 - 1e6 * x @ ortho_group.rvs(4, random_state=0)
    assert linear_cka(x, turned).value == pytest.approx(1, abs=1e-12)
    assert linear_cka(x * 1e100, x).value == pytest.approx(1, abs=1e-12)


def test_orthogonal_centred_columns_are_not_alike():
    basis = np.linalg.qr(np.column_stack([np.ones(50), np.random.default_rng(0).standard_normal((50, 5))]))[0]
    assert linear_cka(basis[:, 1:4], basis[:, 4:]).value == pytest.approx(0, abs=1e-12)


def test_it_is_the_alignment_of_centred_kernels():
    x, y = sides()
    y = y + x[:, :3]
    centre = np.eye(200) - 1 / 200
    k, m = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    expected = (k * m).sum() / (np.linalg.norm(k) * np.linalg.norm(m))
    assert linear_cka(x, y).value == pytest.approx(expected, abs=1e-12)


def test_few_rows_for_the_columns_are_named():
    found = linear_cka(*sides(60, 50, 50))
    assert found.value > 0.4  # independent
    assert found.has("few samples")
    assert not linear_cka(*sides(2000)).cautions


def test_what_cannot_be_compared_is_refused():
    x, _ = sides()
    with pytest.raises(DataError, match="y never changes"):
        linear_cka(x, np.ones(200))
    with pytest.raises(DataError, match="labels"):
        linear_cka(x, np.arange(200) % 3)
