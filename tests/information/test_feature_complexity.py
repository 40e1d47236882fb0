"""Complexity of features: exact cases, invariances, held-out scores, and what is refused."""

import math

import numpy as np
import pytest
import torch

from narrows.core.errors import DataError
from narrows.information import (
    feature_complexity,
    feature_flow,
    feature_sensitivity,
    head_importance,
    learned_at,
    linear_cka,
)


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


def orthonormal(n=50, d=6, seed=0):
    """Centred columns of length 1 at right angles."""
    x = features(n, d, seed)
    return np.linalg.qr(x - x.mean(axis=0))[0]


def test_a_feature_flows_where_it_is():
    q = orthonormal()
    kept, added, z = q[:, :3], q[:, 3:5], q[:, [0, 3, 5]] * [1, -7, 3] + 2
    found = feature_flow({"one": (kept, added), "idle": (q, np.zeros_like(q)), "bias": (q, np.ones((50, 2)))}, z)
    assert found.blocks == ("one", "idle", "bias")
    # One of d equal directions: 1 / sqrt(d).
    assert found.stream[0] == pytest.approx([3**-0.5, 0, 0], abs=1e-12)
    assert found.branch[0] == pytest.approx([0, 2**-0.5, 0], abs=1e-12)
    assert found.share[0, :2] == pytest.approx([0, 1], abs=1e-12)
    assert found.stream[1:] == pytest.approx(np.full((2, 3), 6**-0.5), abs=1e-12)
    assert (found.branch[1:] == 0).all()
    assert (found.share[1:] == 0).all()


def test_a_block_that_builds_a_feature_hands_it_on_in_the_stream():
    x = features(4000, 3)
    first = x**2 - 1
    second = np.tanh(3 * (x + first))
    streams = x, x + first, x + first + second
    z = np.column_stack([x[:, 0], first[:, 0], second[:, 0]])
    found = feature_flow({"1": (streams[0], first), "2": (streams[1], second), "3": (streams[2], 0 * x)}, z)
    assert found.share[0, 0] < 0.1 < 0.9 < found.share[0, 1]
    assert found.share[1, 1] < found.share[1, 2]
    assert (found.stream[1:, 1] > 10 * found.stream[0, 1]).all()
    assert (found.share[2] == 0).all()


@pytest.mark.parametrize("d", [5, 300])
def test_flow_is_linear_cka_with_each_feature_alone(d):
    u, r, z = features(100, d), features(100, 7, seed=1), features(100, 3, seed=2) + features(100, 3)
    found = feature_flow({"block": (u, r)}, z)
    for j in range(3):
        assert found.stream[0, j] == pytest.approx(linear_cka(u, z[:, j]).value, abs=1e-12)
        assert found.branch[0, j] == pytest.approx(linear_cka(r, z[:, j]).value, abs=1e-12)
    turn = np.linalg.qr(features(d, d, seed=3))[0]
    same = feature_flow({"block": (1e60 * u @ turn - 3, torch.from_numpy(r))}, 5 - 1e9 * z)
    assert same.stream == pytest.approx(found.stream, abs=1e-9)
    assert same.branch == pytest.approx(found.branch, abs=1e-9)


def test_flow_of_what_never_changes_and_what_is_refused():
    x = features(30)
    found = feature_flow({"block": (x, x)}, np.column_stack([x[:, 0], np.ones(30)]))
    assert np.isfinite(found.share[0, 0])
    assert np.isnan([found.stream[0, 1], found.branch[0, 1], found.share[0, 1]]).all()
    assert np.isnan(feature_flow({"block": (0 * x, 0 * x)}, x[:, 0]).share).all()
    for blocks, said in (
        ({}, "no blocks"),
        ({"a": (x, x[:-1])}, "branch of block 'a' has 29 rows"),
        ({"a": (x * np.nan, x)}, "NaN"),
    ):
        with pytest.raises(DataError, match=said):
            feature_flow(blocks, x[:, 0])


def test_noise_moves_a_linear_feature_by_its_length():
    x = torch.from_numpy(features(500, 4))
    w = torch.tensor([[1.0, 0, 0, 0], [3, 4, 0, 0], [0, 0, 0, 0]], dtype=torch.float64).T
    found = feature_sensitivity(lambda t: t @ w + 7, x, 0.1, draws=20)
    variance = (x @ w).var(dim=0, correction=0).numpy()
    assert found[:2] == pytest.approx(0.01 * np.array([1, 25]) / variance[:2], rel=0.05)
    assert np.isnan(found[2])
    assert (feature_sensitivity(lambda t: t @ w + 7, x, 0.1, draws=20)[:2] == found[:2]).all()
    assert (feature_sensitivity(lambda t: t @ w + 7, x, 0.0)[:2] < 1e-25).all()
    steep = feature_sensitivity(lambda t: torch.stack([t[:, 0], (20 * t[:, 0]).sin()], dim=1), x.float(), 0.05)
    assert steep[1] > 10 * steep[0]


@pytest.mark.parametrize(("rows", "draws", "noise"), [(1, 10, 0.1), (9, 1, 0.1), (9, 10, -0.1), (9, 10, math.nan)])
def test_noise_that_cannot_be_measured_is_refused(rows, draws, noise):
    with pytest.raises(DataError, match="are needed"):
        feature_sensitivity(lambda t: t, torch.ones(rows, 2), noise, draws=draws)
