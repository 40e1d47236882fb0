"""Pairwise bounds: closed forms, brute force, quadrature between the bounds, invariances."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from narrows.core.errors import DataError
from narrows.information import kde, kde_entropy, mixture_entropy, mixture_information, noise_variance
from narrows.information.kde import noisy_layer


def blobs(n=300, d=3, seed=0):
    dice = np.random.default_rng(seed)
    label = dice.integers(0, 3, n)
    return label[:, None] + 0.7 * dice.standard_normal((n, d)), label


def information(means, sds, weights):
    """I(component; value) in one dimension, by quadrature."""
    x = np.linspace(min(means) - 12 * max(sds), max(means) + 12 * max(sds), 200_001)
    p = np.array([norm.pdf(x, m, s) for m, s in zip(means, sds, strict=True)])
    mix = weights @ p
    h = -np.sum(np.where(mix > 0, mix * np.log(np.where(mix > 0, mix, 1)), 0)) * (x[1] - x[0])
    return h - weights @ (np.log(2 * math.pi * math.e * np.square(sds)) / 2)


def test_points_that_are_the_same_and_points_far_apart():
    assert mixture_information(np.ones((50, 3)), 0.1) == pytest.approx((0, 0), abs=1e-12)
    far = 1000.0 * np.arange(50)[:, None]
    assert mixture_information(far, 0.1) == pytest.approx((math.log(50),) * 2, abs=1e-12)


@pytest.mark.parametrize("r", [0.1, 1.0, 3.0])
def test_two_points(r):
    s2 = 0.6
    expected = [-math.log((1 + math.exp(-(r**2) / (c * s2))) / 2) for c in (8, 2)]
    assert mixture_information(np.array([[0.0], [r]]), s2) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("v", "s2", "upper", "lower"), [(1, 1, 0.59657, 0.21157), (4, 0.25, 1.88719, 1.20472)])
def test_normal_means_have_closed_forms(v, s2, upper, lower):
    means = math.sqrt(v) * norm.ppf((np.arange(4000) + 0.5) / 4000)
    found = mixture_information(means, s2)
    truth = math.log(1 + v / s2) / 2
    assert found.upper == pytest.approx(upper, abs=0.01)
    assert found.lower == pytest.approx(lower, abs=0.01)
    assert found.lower < truth < found.upper


@pytest.mark.parametrize("seed", range(6))
def test_the_truth_lies_between_the_bounds(seed):
    dice = np.random.default_rng(seed)
    means, sds = 2 * dice.standard_normal(5), dice.uniform(0.2, 1.5, 5)
    weights = dice.dirichlet(np.ones(5))
    truth = information(means, sds, weights)
    found = mixture_information(means[:, None], sds[:, None] ** 2, weights)
    assert found.lower <= truth + 1e-9
    assert truth <= found.upper + 1e-9
    assert found.lower >= 0
    entropy = mixture_entropy(means[:, None], sds[:, None] ** 2, weights)
    inner = weights @ np.log(2 * math.pi * math.e * sds**2) / 2
    assert entropy == pytest.approx((found.lower + inner, found.upper + inner), abs=1e-12)


def test_different_variances_by_brute_force():
    dice = np.random.default_rng(0)
    m, v, w = dice.standard_normal((7, 2)), dice.uniform(0.3, 2, (7, 2)), dice.dirichlet(np.ones(7))
    upper = lower = 0.0
    for i in range(7):
        s_upper = s_lower = 0.0
        for j in range(7):
            kl = sum(
                0.5 * (math.log(v[j, k] / v[i, k]) + (v[i, k] + (m[i, k] - m[j, k]) ** 2) / v[j, k] - 1)
                for k in range(2)
            )
            grid = np.linspace(-20, 20, 40_001)
            overlap = [
                np.sum(np.sqrt(norm.pdf(grid, m[i, k], v[i, k] ** 0.5) * norm.pdf(grid, m[j, k], v[j, k] ** 0.5)))
                * (grid[1] - grid[0])
                for k in range(2)
            ]
            s_upper += w[j] * math.exp(-kl)
            s_lower += w[j] * overlap[0] * overlap[1]  # Bhattacharyya's coefficient, by its definition
        upper -= w[i] * math.log(s_upper)
        lower -= w[i] * math.log(s_lower)
    assert mixture_information(m, v, w) == pytest.approx((lower, upper), abs=1e-9)


def test_equal_variances_are_a_special_case_of_different_ones():
    m = np.random.default_rng(0).standard_normal((40, 3))
    v = np.full((40, 3), 0.3)
    equal = mixture_information(m, v)
    v[0] *= 1 + 1e-13
    assert mixture_information(m, v) == pytest.approx(equal, abs=1e-9)
    assert mixture_information(m, [0.3, 0.3, 0.3]) == pytest.approx(equal, abs=1e-12)
    v = torch.full((40, 3), 0.3, dtype=torch.float64, requires_grad=True)
    assert mixture_information(torch.tensor(m), v) == pytest.approx(equal, abs=1e-12)


def test_shifts_rotations_and_scales():
    t, label = blobs()
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    base = noisy_layer(t, label)
    for moved in (t + np.array([5, -3, 1000]), t @ turn, 7 * t):
        found = noisy_layer(moved, label)
        assert found.i_xt == pytest.approx(base.i_xt, abs=1e-9)
        assert found.i_ty == pytest.approx(base.i_ty, abs=1e-9)
    far = noisy_layer(t + 1e6, label, "fixed", 1e-2)
    assert far.i_xt == pytest.approx(noisy_layer(t, label, "fixed", 1e-2).i_xt, abs=1e-7)


def test_which_noise_has_a_scale():
    t = np.random.default_rng(0).random((300, 4))
    for noise in ("std", "max_squared"):
        found = [noisy_layer(c * t, None, noise, 1e-2).i_xt.upper for c in (0.1, 1, 10)]
        assert np.ptp(found) < 1e-9
    for noise in ("max_linear", "fixed"):
        found = [noisy_layer(c * t, None, noise, 1e-2).i_xt.upper for c in (0.1, 1, 10)]
        assert found[0] < found[1] - 1 < found[2]
        if noise == "max_linear":
            assert found == pytest.approx([2.0835, 5.1206, 5.6956], abs=0.06)
    assert noise_variance(-2 * t / t.max(), "max_linear", 0.5) == pytest.approx(1.0)
    assert noise_variance(-2 * t / t.max(), "max_squared", 0.5) == pytest.approx(2.0)
    assert noise_variance(t, "std", 0.5) == pytest.approx(t.var(axis=0).mean() / 2)


def test_a_layer_by_brute_force():
    t, label = blobs(60)
    s2 = 0.2
    gaps = np.square(t[:, None] - t[None]).sum(-1)
    found = noisy_layer(t, label, "fixed", s2)
    h = {}
    for name, c in (("lower", 8), ("upper", 2)):
        kernel = np.exp(-gaps / (c * s2))
        whole = -np.log(kernel.mean(1)).mean()
        within = sum(
            (label == k).mean() * -np.log(kernel[np.ix_(label == k, label == k)].mean(1)).mean() for k in range(3)
        )
        h[name] = whole, within
    assert found.i_xt == pytest.approx((h["lower"][0], h["upper"][0]), abs=1e-12)
    assert found.i_ty == pytest.approx(h["upper"][0] - h["upper"][1], abs=1e-12)
    assert found.i_ty_bounds.lower == pytest.approx(h["lower"][0] - h["upper"][1], abs=1e-12)
    assert found.i_ty_bounds.upper == pytest.approx(h["upper"][0] - h["lower"][1], abs=1e-12)


def test_blocks_change_nothing(monkeypatch):
    t, label = blobs()
    v = np.random.default_rng(0).uniform(0.1, 1, t.shape)
    whole = noisy_layer(t, label), mixture_information(t, v)
    import sys

    monkeypatch.setattr(sys.modules["narrows.information.kde"], "_BLOCK", 1000)
    blocks = noisy_layer(t, label), mixture_information(t, v)
    assert blocks[0].i_xt == pytest.approx(whole[0].i_xt, abs=1e-12)
    assert blocks[1] == pytest.approx(whole[1], abs=1e-12)


def test_label_information():
    dice = np.random.default_rng(0)
    label = dice.integers(0, 2, 2000)
    clear = kde(10.0 * label[:, None] + dice.standard_normal((2000, 1)), label)
    assert clear.value == pytest.approx(math.log(2), abs=0.01)
    nothing = kde(dice.standard_normal((2000, 1)), label)
    assert abs(nothing.value) < 0.02
    assert clear.details["lower"] <= clear.value <= clear.details["upper"]
    # A label of +-1 in unit noise: 0.3368 nats; the noise of the analysis takes little of it.
    some = kde(2.0 * label[:, None] + dice.standard_normal((2000, 1)), label)
    assert some.value == pytest.approx(0.3368, abs=0.04)
    names = np.array(["no", "yes"])[label]
    assert kde(2.0 * label[:, None], names).value == pytest.approx(kde(2.0 * label[:, None], label).value, abs=1e-12)


def test_entropy_of_a_normal_sample():
    x = np.random.default_rng(0).standard_normal((3000, 1))
    s2 = 0.05
    found = [kde_entropy(x, noise="fixed", scale=s2, bound=b) for b in ("lower", "upper")]
    truth = math.log(2 * math.pi * math.e * (1 + s2)) / 2
    assert [f.kind for f in found] == ["lower", "upper"]
    assert found[0].value < truth < found[1].value
    assert found[1].value - truth < 0.6


def test_layers_that_never_change():
    t = np.repeat([[1.0, 2.0]], 30, axis=0)
    found = noisy_layer(t, np.arange(30) % 2)
    assert found.i_xt == (0, 0)
    assert found.i_ty == 0
    assert kde(t, np.arange(30) % 2).value == 0
    with pytest.raises(DataError, match="all rows are the same"):
        kde_entropy(t)


def test_cautions_where_they_belong():
    t, label = blobs(600, 1)
    found = kde(t, label)
    assert found.has("resolution")
    assert not found.saturated
    assert f"{found.details['noise variance']:.3g}" in found.cautions[0].text
    assert kde(t, label, noise="fixed", scale=1e-9).saturated
    assert kde(t, np.arange(600) // 3).has("few samples")
    assert kde_entropy(t, noise="fixed", scale=1e-9).saturated


def test_bad_arguments():
    t, label = blobs()
    for broken in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(DataError, match="positive"):
            mixture_information(t, broken)
        with pytest.raises(DataError, match="positive"):
            kde(t, label, scale=broken)
    with pytest.raises(DataError, match="do not fit"):
        mixture_information(t, np.ones(7))
    for broken in (np.ones(300), np.ones(2) / 2, np.full(300, np.nan)):
        with pytest.raises(DataError, match="sum to 1"):
            mixture_information(t, 1.0, broken)
    with pytest.raises(DataError, match="noise is one of"):
        kde(t, label, noise="white")
    with pytest.raises(DataError, match="fractions"):
        kde(t, label + 0.5)
    with pytest.raises(DataError, match="2 columns"):
        kde(t, np.stack([label, label], axis=1))
    with pytest.raises(DataError, match="'upper' or 'lower'"):
        kde_entropy(t, bound="both")
