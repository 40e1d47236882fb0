"""Matrix-based Rényi entropy: laws of equal rows, limits, order in alpha, tiles, batches."""

import math

import numpy as np
import pytest
import torch

from narrows.core.errors import DataError
from narrows.information import (
    batched_renyi_entropy,
    batched_renyi_information,
    kernels,
    renyi_entropy,
    renyi_information,
)

ALPHAS = (0.5, 1, 1.01, 2, 3)


def renyi(shares, alpha):
    shares = shares[shares > 0]
    return -np.sum(shares * np.log(shares)) if alpha == 1 else np.log(np.sum(shares**alpha)) / (1 - alpha)


def sample(n=40, d=2, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_rows_that_are_equal_or_far_apart_have_the_entropy_of_their_shares(alpha):
    label = np.repeat([0, 1, 2], [5, 10, 25])
    expected = renyi(np.array([5, 10, 25]) / 40, alpha)
    assert renyi_entropy(label, alpha=alpha).value == pytest.approx(expected, abs=1e-10)
    assert renyi_entropy(100.0 * label, alpha=alpha, bandwidth=1.0).value == pytest.approx(expected, abs=1e-10)
    other = np.tile([0, 1], 20)
    joint = renyi(np.unique(label * 2 + other, return_counts=True)[1] / 40, alpha)
    found = renyi_information(label, other, alpha=alpha)
    assert found.value == pytest.approx(expected + renyi(np.array([0.5, 0.5]), alpha) - joint, abs=1e-10)
    assert found.unit == "nats"


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_ends_are_0_and_ln_n(alpha):
    x = sample()
    assert renyi_entropy(np.ones(40), alpha=alpha).value == pytest.approx(0, abs=1e-9)
    assert renyi_entropy(x, alpha=alpha, bandwidth=1e-3).value == pytest.approx(math.log(40), abs=1e-9)
    assert renyi_entropy(x, alpha=alpha, bandwidth=1e-3).has("saturated")
    assert 0 < renyi_entropy(x, alpha=alpha).value < math.log(40)
    assert renyi_entropy(x, alpha=alpha).cautions == ()


def test_it_is_the_entropy_of_the_eigenvalues():
    x = sample()
    k = np.exp(-((x[:, None] - x[None]) ** 2).sum(-1) / 2)
    values = np.linalg.eigvalsh(k / 40).clip(0)
    for alpha in ALPHAS:
        expected = renyi(values, alpha)
        assert renyi_entropy(x, alpha=alpha, bandwidth=1.0).value == pytest.approx(expected, abs=1e-9)


def test_it_falls_with_alpha_and_passes_through_von_neumanns():
    x = sample()
    values = [renyi_entropy(x, alpha=a).value for a in (0.3, 0.999, 1, 1.001, 1.999999, 2, 2.000001, 5)]
    assert values == sorted(values, reverse=True)
    assert values[1] == pytest.approx(values[2], abs=2e-3)
    assert values[3] == pytest.approx(values[2], abs=2e-3)
    assert values[4] == pytest.approx(values[5], abs=1e-5)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_joint_entropy_is_at_least_the_larger(alpha):
    for seed in range(10):
        parts = renyi_information(sample(20, seed=seed), sample(20, seed=seed // 2), alpha=alpha).details
        assert max(parts["entropy_x"], parts["entropy_y"]) <= parts["joint_entropy"] + 1e-9


def test_information_is_never_negative_at_alpha_1_but_may_be_elsewhere():
    pairs = [(sample(20, seed=s), sample(20, seed=s // 2)) for s in range(30)]
    assert min(renyi_information(*pair).value for pair in pairs) >= -1e-9
    assert min(renyi_information(*pair, alpha=2).value for pair in pairs) < -1e-4


def test_shift_rotation_and_scale():
    x, y = sample(), sample(seed=1)
    turned = 3 * x @ np.array([[0.6, -0.8], [0.8, 0.6]]) - 7
    assert renyi_entropy(turned).value == pytest.approx(renyi_entropy(x).value, abs=1e-9)
    assert renyi_information(turned, y).value == pytest.approx(renyi_information(x, y).value, abs=1e-9)
    still = renyi_information(x, np.ones(40))
    assert still.value == pytest.approx(0, abs=1e-9)
    assert still.has("constant column")


def test_alpha_2_in_tiles(monkeypatch):
    x, y = sample(101), sample(101, seed=1)
    dense = batched_renyi_information(torch.from_numpy(x), torch.from_numpy(y), alpha=2)
    monkeypatch.setattr(kernels, "TILE", 16)
    found = renyi_information(x, y, alpha=2)
    assert found.value == pytest.approx(float(dense), abs=1e-12)
    assert found.details["entropy_x"] == pytest.approx(renyi_entropy(x, alpha=2).value, abs=1e-12)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_batch_is_its_loop(alpha):
    dice = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2, 3, 15, 2, generator=dice, dtype=torch.float64) for _ in range(2))
    one = batched_renyi_entropy(x, alpha=alpha)
    two = batched_renyi_information(x, y, alpha=alpha)
    for i in range(2):
        for j in range(3):
            assert float(one[i, j]) == pytest.approx(renyi_entropy(x[i, j], alpha=alpha).value, abs=1e-10)
            expected = renyi_information(x[i, j], y[i, j], alpha=alpha).value
            assert float(two[i, j]) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("alpha", [1, 1.01, 2])
def test_gradients(alpha):
    dice = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2, 5, 2, generator=dice, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(
        lambda a, b: batched_renyi_information(a, b, alpha=alpha, bandwidth_x=0.8, bandwidth_y=1.1), (x, y)
    )


def test_bad_arguments():
    x = sample()
    for bad in (0, -1, math.nan):
        with pytest.raises(DataError, match="alpha"):
            renyi_entropy(x, alpha=bad)
    with pytest.raises(DataError, match="alpha=2"):
        renyi_entropy(np.zeros((5001, 1)))
    with pytest.raises(DataError, match="alpha=2"):
        renyi_information(np.zeros((5001, 1)), np.zeros((5001, 1)))
    with pytest.raises(DataError, match="must be positive"):
        renyi_information(x, x, bandwidth_x=-1.0)
    with pytest.raises(DataError, match="floating"):
        batched_renyi_entropy(torch.zeros(1, 2))
