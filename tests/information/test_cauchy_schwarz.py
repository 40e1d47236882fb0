"""Cauchy-Schwarz divergence and quadratic mutual information: closed forms, fixtures, invariances, tiles, batches."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from narrows.core.errors import DataError
from narrows.information import (
    batched_cs_divergence,
    batched_cs_qmi,
    cauchy_schwarz,
    cs_divergence,
    cs_qmi,
    hsic,
    kernels,
    renyi_information,
)


def correlated(n, rho, d=1, seed=0):
    dice = np.random.default_rng(seed)
    x = dice.standard_normal((n, d))
    return x, rho * x + math.sqrt(1 - rho**2) * dice.standard_normal((n, d))


def between_gaussians(m1, v1, m2, v2, s):
    def overlap(v, gap):
        return s / math.sqrt(s**2 + v) * math.exp(-(gap**2) / (2 * (s**2 + v)))

    return math.log(overlap(2 * v1, 0)) + math.log(overlap(2 * v2, 0)) - 2 * math.log(overlap(v1 + v2, m1 - m2))


CASES = [  # m1, v1, m2, v2, s, population, of 1,000 quantiles, tolerance of a random sample of 4,000
    (0, 1, 1, 1, 0.5, 0.44444, 0.444383, 0.18),
    (0, 1, 2, 0.25, 0.5, 2.81051, 2.810336, 0.08),
    (0, 1, 2, 4, 1.0, 0.81051, 0.810460, 0.11),
]


@pytest.mark.parametrize("case", CASES)
def test_the_divergence_of_gaussians(case):
    m1, v1, m2, v2, s, population, quantiles, tolerance = case
    assert between_gaussians(m1, v1, m2, v2, s) == pytest.approx(population, abs=1e-5)
    grid = ndtri((np.arange(1, 1001) - 0.5) / 1000)
    found = cs_divergence(m1 + math.sqrt(v1) * grid, m2 + math.sqrt(v2) * grid, s)
    assert found.value == pytest.approx(quantiles, abs=1e-5)
    dice = np.random.default_rng(0)
    x, y = (m + math.sqrt(v) * dice.standard_normal(4000) for m, v in ((m1, v1), (m2, v2)))
    assert cs_divergence(x, y, s).value == pytest.approx(population, rel=tolerance)


def test_the_divergence_of_densities_themselves_as_the_bandwidth_falls():
    for m1, v1, m2, v2 in ((0, 1, 1, 1), (0, 1, 2, 0.25), (0, 3, 2, 4)):
        expected = math.log((v1 + v2) / (2 * math.sqrt(v1 * v2))) + (m1 - m2) ** 2 / (v1 + v2)
        assert between_gaussians(m1, v1, m2, v2, 1e-4) == pytest.approx(expected, abs=1e-6)


def test_a_divergence_is_a_divergence():
    x, y = correlated(60, 0.5, d=2)
    y = y[:45] + 1
    value = cs_divergence(x, y, 0.7).value
    assert value > 0
    assert cs_divergence(x, x).value == pytest.approx(0, abs=1e-14)
    assert cs_divergence(x, np.repeat(x, 3, axis=0)).value == pytest.approx(0, abs=1e-14)
    assert cs_divergence(y, x, 0.7).value == pytest.approx(value, abs=1e-13)
    turned = [side @ np.array([[0.6, -0.8], [0.8, 0.6]]) + 100 for side in (x, y)]
    assert cs_divergence(*turned, 0.7).value == pytest.approx(value, abs=1e-9)
    assert cs_divergence(*turned).value == pytest.approx(cs_divergence(10 * x, 10 * y).value, abs=1e-9)


def test_the_divergence_of_samples_far_apart_is_large_and_finite():
    x = np.array([0.0, 0.0, 1.0])
    found = cs_divergence(x, x + 1000, 1.0).value
    # Of the cross term only the nearest pairs count: two of nine, 999 apart.
    own = math.log((5 + 4 * math.exp(-0.5)) / 9)
    assert found == pytest.approx(2 * own - 2 * (math.log(2 / 9) - 999**2 / 2), rel=1e-9)


def test_the_divergence_in_tiles(monkeypatch):
    x, y = correlated(70, 0.3, d=3)
    whole = cs_divergence(x, y[:33]).value
    monkeypatch.setattr(cauchy_schwarz, "TILE", 16)
    assert cs_divergence(x, y[:33]).value == pytest.approx(whole, abs=1e-13)


def test_no_more_than_a_tile_of_a_kernel_is_ever_held(monkeypatch):
    held = []

    def counting(u, v):
        held.append(len(u) * len(v))
        return exponents(u, v)

    exponents = kernels.exponents
    for module in (kernels, cauchy_schwarz):
        monkeypatch.setattr(module, "TILE", 16)
        monkeypatch.setattr(module, "exponents", counting)
    x, y = correlated(100, 0.3, d=2)
    for measure in (cs_qmi, hsic, cs_divergence, lambda a, b: renyi_information(a, b, alpha=2)):
        held.clear()
        measure(x, y)
        assert len(held) > 30
        assert max(held) == 16 * 16


@pytest.mark.parametrize(
    ("rho", "s", "expected", "tolerance"),
    [(0.5, 1.0, 0.03072, 0.015), (0.9, 1.0, 0.12883, 0.015), (0.9, 0.2, 0.53731, 0.06), (0.0, 1.0, 0.0, 0.015)],
)
def test_the_information_of_gaussians(rho, s, expected, tolerance):
    v = 1 + s**2 / 2
    closed = math.log(4 * v**2 - rho**2) - 0.5 * math.log(4 * (v**2 - rho**2)) - 0.5 * math.log(4 * v**2)
    assert closed == pytest.approx(expected, abs=1e-5)
    found = cs_qmi(*correlated(4000, rho), bandwidth_x=s, bandwidth_y=s)
    assert found.value == pytest.approx(closed, abs=tolerance)
    assert found.unit == "nats"


def test_the_fixture():
    assert cs_qmi([0.0, 1, 2], [0.0, 1, 0], bandwidth_x=1.0, bandwidth_y=1.0).value == pytest.approx(
        0.0264232, abs=1e-6
    )


def test_the_definition_by_matrices():
    x, y = correlated(30, 0.5, d=2)
    k, q = (np.exp(-((s[:, None] - s[None]) ** 2).sum(-1) / 2) for s in (x, y))
    one = np.ones(30)
    expected = math.log(np.trace(k @ q) / 30**2) + math.log(k.sum() * q.sum() / 30**4)
    expected -= 2 * math.log(one @ k @ q @ one / 30**3)
    assert cs_qmi(x, y, bandwidth_x=1.0, bandwidth_y=1.0).value == pytest.approx(expected, abs=1e-13)


@given(st.integers(0, 10_000), st.integers(2, 20), st.floats(0.05, 20))
@settings(max_examples=80, deadline=None)
def test_information_is_never_negative(seed, n, s):
    dice = np.random.default_rng(seed)
    x, y = dice.standard_normal((n, 2)), dice.standard_normal((n, 1))
    assert cs_qmi(x, y, bandwidth_x=s, bandwidth_y=1.0).value >= -1e-12
    assert cs_divergence(x, dice.standard_normal((n + 1, 2)) + 1, s).value >= -1e-12


def test_information_is_blind_to_shift_and_rotation_and_gone_after_shuffling():
    x, y = correlated(400, 0.95, d=2)
    value = cs_qmi(x, y).value
    assert cs_qmi(x @ np.array([[0.6, -0.8], [0.8, 0.6]]) + 5, y - 3).value == pytest.approx(value, abs=1e-10)
    assert cs_qmi(x, np.random.default_rng(0).permutation(y)).value < 0.05 * value
    assert cs_qmi(x, np.ones(400)).value == pytest.approx(0, abs=1e-12)
    assert cs_qmi(x, x, normalise=True).value == pytest.approx(1, abs=1e-12)
    assert cs_qmi(x, np.ones(400), normalise=True).value == 0
    share = cs_qmi(x, y, normalise=True)
    assert 0 < share.value < 1
    assert share.unit == "none"


def test_information_in_tiles(monkeypatch):
    x, y = correlated(70, 0.3, d=3)
    whole = cs_qmi(x, y, normalise=True).value
    monkeypatch.setattr(kernels, "TILE", 16)
    assert cs_qmi(x, y, normalise=True).value == pytest.approx(whole, abs=1e-12)


def test_information_and_hsic_put_dependence_in_the_same_order():
    pairs = [correlated(400, rho) for rho in (0.1, 0.3, 0.5, 0.7, 0.9)]
    for measure in (cs_qmi, hsic):
        values = [measure(*sides, bandwidth_x=1.0, bandwidth_y=1.0).value for sides in pairs]
        assert values == sorted(values)


def test_labels_far_apart_have_the_information_of_a_table():
    label = np.repeat([0, 1, 2], [10, 10, 20])
    other = np.tile([0, 1], 20)
    joint = np.zeros((3, 2))
    np.add.at(joint, (label, other), 1 / 40)
    product = joint.sum(1)[:, None] * joint.sum(0)
    expected = math.log((joint**2).sum()) + math.log((product**2).sum()) - 2 * math.log((joint * product).sum())
    assert cs_qmi(label, other).value == pytest.approx(expected, abs=1e-13)


def test_batches_are_their_loops():
    dice = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 25, 2, generator=dice, dtype=torch.float64) * torch.arange(1, 4)[:, None, None]
    y = x + torch.randn(2, 3, 25, 2, generator=dice, dtype=torch.float64)
    cells = [(i, j) for i in range(2) for j in range(3)]
    for options in ({}, {"normalise": True}, {"bandwidth_x": 0.5}):
        found = batched_cs_qmi(x, y, **options)
        for cell in cells:
            assert float(found[cell]) == pytest.approx(cs_qmi(x[cell], y[cell], **options).value, abs=1e-12)
    for width in (None, 0.5):
        found = batched_cs_divergence(x, y[..., :20, :], width)
        for cell in cells:
            assert float(found[cell]) == pytest.approx(cs_divergence(x[cell], y[cell][:20], width).value, abs=1e-12)


def test_gradients():
    dice = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2, 6, 2, generator=dice, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: batched_cs_divergence(a, b, 0.7), (x, y))
    for normalise in (False, True):
        assert torch.autograd.gradcheck(
            lambda a, b, n=normalise: batched_cs_qmi(a, b, bandwidth_x=0.8, bandwidth_y=1.1, normalise=n), (x, y)
        )


def test_bad_arguments():
    x = np.random.default_rng(0).standard_normal((20, 2))
    with pytest.raises(DataError, match="same space"):
        cs_divergence(x, x[:, :1])
    with pytest.raises(DataError, match="at least 2"):
        cs_divergence(x, x[:1])
    with pytest.raises(DataError, match="NaN"):
        cs_divergence(x, np.full((3, 2), np.nan))
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(DataError, match="must be positive"):
            cs_divergence(x, x, bad)
        with pytest.raises(DataError, match="must be positive"):
            cs_qmi(x, x, bandwidth_y=bad)
    with pytest.raises(DataError, match="only the rows"):
        batched_cs_divergence(torch.zeros(3, 2), torch.zeros(3, 1))
    with pytest.raises(DataError, match="expected floating point"):
        batched_cs_qmi(torch.zeros(8), torch.zeros(8))
    assert cs_qmi(x, x, bandwidth_x=1e-3).has("resolution")
