"""Cauchy-Schwarz quadratic mutual information: fixtures, the closed form of normal laws, invariances."""

import math

import numpy as np
import pytest

import narrows.information.cauchy_schwarz as room
from narrows.core.errors import DataError
from narrows.information import cs_qmi


def correlated(n, rho, d=1, seed=0):
    dice = np.random.default_rng(seed)
    x = dice.standard_normal((n, d))
    return x, rho * x + math.sqrt(1 - rho**2) * dice.standard_normal((n, d))


def plain(x, y, s=1.0):
    return cs_qmi(x, y, bandwidth_x=s, bandwidth_y=s, standardise=False)


def brute(x, y, s):
    k, q = (np.exp(-((a[:, None] - a[None]) ** 2).sum(-1) / (2 * s * s)) for a in (x, y))
    n = len(x)
    parts = (k * q).sum() / n**2, k.sum() * q.sum() / n**4, (k.sum(0) * q.sum(0)).sum() / n**3
    return math.log(parts[0]) + math.log(parts[1]) - 2 * math.log(parts[2])


def test_the_fixture():
    assert plain([0.0, 1, 2], [0.0, 1, 0]).value == pytest.approx(0.0264232, abs=1e-6)


CASES = [(0.5, 1, 0.03072, 0.015), (0.9, 1, 0.12883, 0.015), (0.9, 0.2, 0.53731, 0.06), (0.0, 1, 0.0, 0.015)]


@pytest.mark.parametrize(("rho", "s", "value", "within"), CASES)
def test_normal_laws(rho, s, value, within):
    v = 1 + s * s / 2
    closed = math.log(4 * v * v - rho**2) - 0.5 * math.log(4 * (v * v - rho**2)) - 0.5 * math.log(4 * v * v)
    assert closed == pytest.approx(value, abs=1e-5)
    found = plain(*correlated(3000, rho), s)
    assert found.value == pytest.approx(closed, abs=within)
    if rho:
        assert abs(found.value - closed) < 4 * found.standard_error


def test_blocks_are_brute_force(monkeypatch):
    x, y = correlated(90, 0.7, 2)
    whole = plain(x, y, 0.5)
    monkeypatch.setattr(room, "_BLOCK", 7 * 90)
    blocks = plain(x, y, 0.5)
    assert blocks.value == pytest.approx(brute(x, y, 0.5), abs=1e-12)
    assert blocks.value == pytest.approx(whole.value, abs=1e-12)
    assert blocks.standard_error == pytest.approx(whole.standard_error, abs=1e-12)


def test_never_negative_and_nothing_of_a_constant():
    for seed in range(30):
        assert plain(*correlated(7, 0.0, 2, seed), 0.3).value >= -1e-12
    x, _ = correlated(50, 0.0)
    assert cs_qmi(x, np.ones(50)).value == pytest.approx(0, abs=1e-12)


def test_moves_that_change_nothing():
    x, y = correlated(200, 0.8, 2)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((2, 2)))[0]
    value = plain(x, y).value
    assert plain(x @ turn + 3, y).value == pytest.approx(value, abs=1e-10)
    assert cs_qmi(100 * x, y).value == pytest.approx(cs_qmi(x, y).value, abs=1e-10)
    shuffled = plain(x, np.random.default_rng(2).permutation(y)).value
    assert shuffled < 0.3 * value


def test_the_standard_error_is_the_spread_over_samples():
    found = [plain(*correlated(300, 0.8, seed=s)) for s in range(60)]
    spread = np.std([f.value for f in found], ddof=1)
    assert np.mean([f.standard_error for f in found]) == pytest.approx(spread, rel=0.3)


def test_the_bandwidth_is_the_median_distance():
    x = np.array([[0.0], [1.0], [3.0]])
    assert cs_qmi(x, x, standardise=False).details["bandwidths"] == [2.0, 2.0]


def test_bad_input():
    x, y = correlated(20, 0.5)
    for width in (0.0, -1.0, math.nan):
        with pytest.raises(DataError, match="bandwidth"):
            cs_qmi(x, y, bandwidth_x=width)
    with pytest.raises(DataError, match="labels"):
        cs_qmi(x, np.arange(20) % 2)
