"""Complexity of features: exact cases, invariances, held-out scores, and what is refused."""

import math

import numpy as np
import pytest
import torch

from narrows.core.errors import DataError
from narrows.information import feature_complexity, head_importance, learned_at


def noisy_copies(n, shares=(0.2, 0.5, 0.9, 1.0), seed=0):
    dice = np.random.default_rng(seed)
    z = dice.standard_normal(n)
    return [a * z + math.sqrt(1 - a**2) * dice.standard_normal(n) for a in shares], z


def features(n=600, d=10, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def test_noisy_copies_have_their_squared_correlations():
    layers, z = noisy_copies(20_000)
    found = feature_complexity(layers, 7 * z - 100)
    assert found.r2[:, 0] == pytest.approx([0.04, 0.25, 0.81, 1.0], abs=0.02)
    assert found.k[0] == pytest.approx(0.475, abs=0.01)


def test_computation_makes_a_feature_simple():
    x = np.random.default_rng(0).choice([-1.0, 1.0], (2000, 2))
    z = x.prod(axis=1)
    found = feature_complexity({"input": x, "later": np.column_stack([x, z])}, z)
    assert found.layers == ("input", "later")
    assert found.r2[:, 0] == pytest.approx([0, 1], abs=0.01)
    assert found.k[0] == pytest.approx(0.5, abs=0.005)


def test_affine_maps_of_the_feature_change_nothing():
    layers, z = noisy_copies(500)
    for alphas in ((1e-8,), (1.0,), (100.0,), (0.1, 1.0, 10.0)):
        value = feature_complexity(layers, z, alphas=alphas).k[0]
        assert feature_complexity(layers, 5 - 1000 * z, alphas=alphas).k[0] == pytest.approx(value, abs=1e-9)


def test_affine_maps_of_a_layer_change_nothing_without_a_penalty_only():
    dice = np.random.default_rng(0)
    x = dice.standard_normal((600, 20))
    z = x @ dice.standard_normal(20) + 3 * dice.standard_normal(600)
    mixed = x @ dice.standard_normal((20, 20)) + 5

    def moved(alpha):
        return abs(feature_complexity([x, mixed], z, alphas=[alpha]).r2 @ [1.0])[[0, 1]]

    free = moved(1e-8)
    assert free[0] == pytest.approx(free[1], abs=1e-6)
    held = moved(100.0)
    assert abs(held[0] - held[1]) > 0.01


def test_a_feature_that_has_nothing_to_do_with_the_layers_is_complex():
    found = feature_complexity([features(2400, 384)], features(2400, 5, seed=1), alphas=[1e-3])
    # On the training rows 384 columns would explain 0.24 of anything.
    assert found.k == pytest.approx(1, abs=0.02)
    assert found.clipped > 0
    chosen = feature_complexity([features(2400, 384)] * 3, features(2400, 5, seed=1))
    assert chosen.k == pytest.approx(1, abs=0.02)


def test_a_coordinate_of_every_layer_is_simple():
    x = features(500)
    for alphas in ((1.0,), (0.1, 1.0, 100.0)):
        found = feature_complexity([x, np.column_stack([x[:, :2], x**2])], x[:, 1], alphas=alphas)
        assert 0 <= found.k[0] < 1e-3
    assert 0.01 < feature_complexity([x], x[:, 1], alphas=[100.0]).k[0] < 0.1  # what a fixed penalty costs


def test_layers_count_equally():
    layers, z = noisy_copies(600)
    r2 = feature_complexity(layers, z).r2[:, 0]
    twice = feature_complexity([*layers, layers[0]], z)
    assert twice.k[0] == pytest.approx(1 - (r2.sum() + r2[0]) / 5, abs=1e-12)


def test_one_layer_is_named():
    x = features(300)
    found = feature_complexity([x], x[:, 0])
    assert found.k[0] < 1e-3
    assert [c.trouble for c in found.cautions] == ["assumption"]


def test_features_together_are_features_alone():
    x = features(400)
    z = np.column_stack([x[:, 0], x[:, 1] ** 2, x[:, 2] + features(400, 1, seed=3)[:, 0]])
    together = feature_complexity([x, x**2], z)
    for j in range(3):
        alone = feature_complexity([x, x**2], z[:, j])
        assert alone.k[0] == pytest.approx(together.k[j], abs=1e-8)
        assert alone.k_standard_error[0] == pytest.approx(together.k_standard_error[j], abs=1e-8)
        assert alone.alphas[:, 0].tolist() == together.alphas[:, j].tolist()


def test_nats_of_predictors_with_a_fitted_variance():
    layers, z = noisy_copies(20_000, (math.sqrt(0.75),))
    found = feature_complexity(layers, z)
    assert found.nats[0, 0] == pytest.approx(-0.5 * math.log(1 - found.r2[0, 0]))
    assert found.nats[0, 0] == pytest.approx(math.log(2), abs=0.03)
    sure = feature_complexity([z], z, alphas=[1e-8])
    assert math.isfinite(sure.nats[0, 0])


def test_the_standard_error_is_that_of_other_test_rows():
    runs = [feature_complexity(noisy_copies(600, seed=s)[0], noisy_copies(600, seed=s)[1]) for s in range(60)]
    spread = np.std([r.k[0] for r in runs])
    assert np.mean([r.k_standard_error[0] for r in runs]) == pytest.approx(spread, rel=0.35)


def test_tensors_split_and_seed():
    layers, z = noisy_copies(300)
    first = feature_complexity(layers, z)
    assert feature_complexity([torch.tensor(x) for x in layers], torch.tensor(z)).k[0] == first.k[0]
    assert (first.n_train, first.n_test) == (200, 100)
    assert feature_complexity(layers, z, seed=1).k[0] != first.k[0]


def test_named_rows_score():
    x = features(300)
    z = np.where(np.arange(300) < 200, x[:, 0], -x[:, 0])  # what is learned from the first rows is false of the others
    found = feature_complexity([x], z, test=np.arange(300) >= 200)
    assert (found.n_train, found.n_test, found.clipped) == (200, 100, 1)
    assert found.k[0] == 1
    assert feature_complexity([x], x[:, 0], test=np.arange(300) >= 200).k[0] < 1e-3


def test_sparse_and_constant_features_have_no_complexity():
    x = features(600)
    sparse = np.where(np.arange(600) % 20 == 0, x[:, 0], 0.0)
    found = feature_complexity([x, x], np.column_stack([x[:, 0], sparse, np.ones(600)]))
    assert np.isnan(found.k).tolist() == [False, True, True]
    assert np.isnan(found.k_standard_error).tolist() == [False, True, True]
    assert {c.trouble for c in found.cautions} == {"few samples", "constant column"}


def test_what_cannot_be_scored_is_refused():
    x = features(100)
    with pytest.raises(DataError, match=r"layer 'b' has 99 rows and the features have 100"):
        feature_complexity({"a": x, "b": x[:99]}, x[:, 0])
    with pytest.raises(DataError, match="NaN or infinity"):
        feature_complexity([x], np.full(100, np.nan))
    with pytest.raises(DataError, match="there are no layers"):
        feature_complexity([], x)
    with pytest.raises(DataError, match="at least 20 are needed"):
        feature_complexity([x[:10]], x[:10])
    for bad in (1.0, 0.01, np.arange(100) < 2):
        with pytest.raises(DataError, match="at least 5 of each"):
            feature_complexity([x], x, test=bad)
    with pytest.raises(DataError, match="100 truth values, got bool of the shape"):
        feature_complexity([x], x, test=np.ones(99, dtype=bool))


def test_importance_for_a_linear_head():
    z = features(500, 2)
    found = head_importance(z, [2.0, -1.0])
    assert found == pytest.approx([np.abs(2 * z[:, 0]).mean(), np.abs(z[:, 1]).mean()], abs=1e-12)
    both = head_importance(z, [[2.0, -1.0], [0.0, 1.0]])
    assert both == pytest.approx([np.abs(z[:, 0]).mean(), np.abs(z[:, 1]).mean()], abs=1e-12)
    with pytest.raises(DataError, match="2 features need as many weights an output, got 3"):
        head_importance(z, np.ones((4, 3)))


def test_when_a_feature_was_learned():
    r2 = [[0.0, 0.7, 0.0, 0.3], [0.5, 0.9, 0.0, np.nan], [0.9, 0.3, 0.0, 0.3], [1.0, 0.8, 0.0, np.nan]]
    assert learned_at(r2, [0, 1, 4, 16])[:2].tolist() == [4, 0]
    assert np.isnan(learned_at(r2, [0, 1, 4, 16])[2:]).all()
    with pytest.raises(DataError, match="rising times"):
        learned_at(r2, [0, 1, 1, 2])
