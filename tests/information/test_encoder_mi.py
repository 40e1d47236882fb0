"""Information of Gaussian encoders: closed forms, limits, inequalities that hold draw by draw, standard errors."""

import math
from importlib import import_module

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

from narrows.core.errors import DataError
from narrows.information import encoder_mi, feature_mi, noise_levels
from narrows.information.encoder_mi import log_ratios


def encoder(n=40, d=3, seed=0, classes=3):
    dice = np.random.default_rng(seed)
    label = dice.integers(0, classes, n)
    mean = dice.standard_normal((n, d)) + 2 * label[:, None]
    std = dice.uniform(0.3, 1.5, (n, d))
    return mean, std, mean + std * dice.standard_normal((n, d)), label


def brute(mean, std, z):
    laws = Independent(Normal(torch.tensor(mean), torch.tensor(np.broadcast_to(std, mean.shape).copy())), 1)
    return laws.log_prob(torch.tensor(z)[:, None]).numpy()


@pytest.mark.parametrize("kind", ["rows", "columns", "number"])
def test_both_forms_by_brute_force(kind):
    mean, std, z, label = encoder()
    std = {"rows": std, "columns": std[0], "number": 0.7}[kind]
    table = brute(mean, std, z)
    own = np.diag(table)
    mc = (own - np.log(np.exp(table).mean(1))).mean()
    assert encoder_mi(mean, std, z=z).value == pytest.approx(mc, abs=1e-10)
    assert encoder_mi(mean, std, z=z, form="jensen").value == pytest.approx((own - table.mean(1)).mean(), abs=1e-10)
    within = np.concatenate(
        [own[label == c] - np.log(np.exp(table[np.ix_(label == c, label == c)]).mean(1)) for c in range(3)]
    )
    assert encoder_mi(mean, std, label, z=z).value == pytest.approx(within.mean(), abs=1e-10)


def test_blocks_change_nothing(monkeypatch):
    mean, std, z, label = encoder()
    whole = [encoder_mi(mean, s, label, z=z, form=f) for s in (std, 0.5) for f in ("mc", "jensen")]
    monkeypatch.setattr(import_module("narrows.information.encoder_mi"), "_BLOCK", 300)
    parts = [encoder_mi(mean, s, label, z=z, form=f) for s in (std, 0.5) for f in ("mc", "jensen")]
    for a, b in zip(whole, parts, strict=True):
        assert (a.value, a.standard_error) == pytest.approx((b.value, b.standard_error), abs=1e-12)


def test_jensen_in_expectation_is_the_spread_of_the_means():
    mean = np.random.default_rng(0).standard_normal((6, 3)) * 1.3
    expected = ((mean - mean.mean(0)) ** 2).sum() / 6 / 0.49
    values = [encoder_mi(mean, 0.7, form="jensen", seed=s).value for s in range(800)]
    assert abs(np.mean(values) - expected) < 3 * np.std(values) / math.sqrt(800)
    assert max(encoder_mi(mean, 0.7, seed=s).value for s in range(50)) <= math.log(6)


def test_the_gaussian_channel():
    x = np.random.default_rng(0).standard_normal((3000, 2))
    found = encoder_mi(x, 0.8)
    assert abs(found.value - math.log(1 + 1 / 0.64)) < 4 * found.standard_error
    assert found.kind == "lower"
    upper = encoder_mi(x, 0.8, form="jensen")
    assert upper.kind == "upper"
    assert abs(upper.value - 2 / 0.64) < 4 * upper.standard_error


def test_equal_inputs_say_nothing_and_far_ones_all():
    same = np.tile([[1.0, -2.0]], (50, 1))
    far = np.arange(50.0)[:, None] * 1000
    for form in ("mc", "jensen"):
        assert encoder_mi(same, 0.3, form=form).value == pytest.approx(0, abs=1e-12)
    found = encoder_mi(far, 1.0)
    assert math.log(50) - 1e-6 < found.value <= math.log(50)
    assert found.saturated
    assert encoder_mi(far, 1.0, form="jensen").value > 1e6
    assert encoder_mi(far, 1e12, form="jensen").value == pytest.approx(0, abs=1e-6)


def test_what_holds_on_every_draw():
    for seed in range(20):
        mean, std, z, label = encoder(seed=seed)
        mc, given = encoder_mi(mean, std, z=z), encoder_mi(mean, std, label, z=z)
        assert mc.value <= encoder_mi(mean, std, z=z, form="jensen").value
        assert given.value <= encoder_mi(mean, std, label, z=z, form="jensen").value
        # Chain rule: the rest is mean log p(z|y) / p(z), at most H(Y).
        shares = np.bincount(label) / len(label)
        dense = np.exp(brute(mean, std, z))
        inside = np.array([dense[i, label == label[i]].mean() for i in range(len(label))])
        assert mc.value - given.value == pytest.approx(np.log(inside / dense.mean(1)).mean(), abs=1e-10)
        assert mc.value - given.value <= -(shares * np.log(shares)).sum() + 1e-12


def test_one_class_is_no_condition_and_scale_does_not_matter():
    mean, std, z, _ = encoder()
    value = encoder_mi(mean, std, z=z).value
    assert encoder_mi(mean, std, np.zeros(40, dtype=int), z=z).value == pytest.approx(value, abs=1e-12)
    assert encoder_mi(100 * mean, 100 * std, seed=3).value == pytest.approx(encoder_mi(mean, std, seed=3).value)
    assert encoder_mi(mean + 50, std, z=z + 50).value == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("form", ["mc", "jensen"])
@pytest.mark.parametrize("given", [False, True])
def test_the_standard_error_is_that_of_repeated_samples(form, given):
    runs = []
    for seed in range(200):
        mean, _, z, label = encoder(n=200, d=1, seed=seed)
        z = mean + 0.7 * np.random.default_rng(seed + 1000).standard_normal(mean.shape)
        runs.append(encoder_mi(mean, 0.7, label if given else None, z=z, form=form))
    spread = np.std([r.value for r in runs])
    assert np.mean([r.standard_error for r in runs]) == pytest.approx(spread, rel=0.2)


def test_features_without_noise():
    h = np.random.default_rng(0).standard_normal((60, 4))
    squares = ((h[:, None] - h) ** 2).sum(2)
    pairwise = -np.log(np.exp(-squares / (2 * 0.25)).mean(1)).mean()
    found = feature_mi(h, 0.5)
    assert found.value == pytest.approx(pairwise, abs=1e-12)
    assert found.has("resolution")
    spread = ((h - h.mean(0)) ** 2).sum() / 60 / 0.25
    assert feature_mi(h, 0.5, form="jensen").value == pytest.approx(spread, abs=1e-10)
    wide = np.column_stack([h, np.full(60, 3.0)])
    assert feature_mi(wide, 0.5).value == pytest.approx(found.value, abs=1e-12)
    assert feature_mi(np.column_stack([h, h[:, 0]]), 0.5).value > found.value


def test_noise_levels_keep_data_processing_and_do_not_shrink():
    dice = np.random.default_rng(0)
    first = dice.standard_normal((150, 6)) * 4
    layers = [first, np.tanh(first[:, :3]), 0.05 * first[:, :1]]
    chosen = noise_levels(layers)
    kept = [feature_mi(h, s).value for h, s in zip(layers, chosen, strict=True)]
    assert kept == sorted(kept, reverse=True)
    # Leaving the row out: of normal rows in one dimension the density is best at a width between rows and range.
    assert 0.1 <= noise_levels([first[:, :1]])[0] <= 4
    grid = (0.3, 1.0, 3.0)
    h = first[:, :2]
    density = []
    for s in grid:
        table = brute(h, s, h)
        np.fill_diagonal(table, -np.inf)
        density.append(np.log(np.exp(table).sum(1) / 149).mean())
    assert noise_levels([h], grid) == [grid[int(np.argmax(density))]]


def test_a_layer_takes_less_noise_than_it_likes_rather_than_keep_less_than_the_next():
    dice = np.random.default_rng(0)
    narrow, wide = dice.standard_normal((60, 2)), 10 * dice.standard_normal((60, 6))
    (alone,), (before, after) = noise_levels([narrow]), noise_levels([narrow, wide])
    assert feature_mi(narrow, alone).value < feature_mi(wide, after).value <= feature_mi(narrow, before).value
    assert before < alone


def test_a_layer_that_cannot_keep_enough_takes_the_noise_at_which_it_keeps_most():
    dice = np.random.default_rng(0)
    small, large = 0.001 * dice.standard_normal((60, 1)), 100 * dice.standard_normal((60, 3))
    assert noise_levels([small, large], (0.5, 1.0, 2.0))[0] == 0.5


def test_gradients():
    mean, std, z, _ = encoder(n=8, d=2)
    tensors = [torch.tensor(t, requires_grad=True) for t in (mean, std, z)]
    for form in ("mc", "jensen"):
        assert torch.autograd.gradcheck(lambda *t, form=form: log_ratios(*t, form).mean(), tensors)
        shared = [tensors[0], torch.tensor(0.7, dtype=torch.float64, requires_grad=True), tensors[2]]
        assert torch.autograd.gradcheck(lambda *t, form=form: log_ratios(*t, form).mean(), shared)


def test_what_cannot_be_measured_is_refused():
    mean, std, z, label = encoder()
    with pytest.raises(DataError, match="above 0"):
        encoder_mi(mean, 0 * std)
    with pytest.raises(DataError, match="std has the shape"):
        encoder_mi(mean, std[:5])
    with pytest.raises(DataError, match="NaN or infinity"):
        encoder_mi(mean * np.nan, std)
    with pytest.raises(DataError, match="z has the shape"):
        encoder_mi(mean, std, z=z[:, :2])
    with pytest.raises(DataError, match="39 labels"):
        encoder_mi(mean, std, label[:-1])
    with pytest.raises(DataError, match="1 classes have one row only"):
        encoder_mi(mean, std, np.where(np.arange(40) == 0, 9, label))
    with pytest.raises(DataError, match="too few"):
        encoder_mi(mean[:1], 1.0)
    with pytest.raises(DataError, match="'mc' or 'jensen'"):
        encoder_mi(mean, std, form="exact")
    with pytest.raises(DataError, match="deviations above 0"):
        noise_levels([mean], (0.0, 1.0))
