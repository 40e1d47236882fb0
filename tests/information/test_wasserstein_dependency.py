"""The Wasserstein dependency measure: exact values, bounds, the critic's slope, and the objective of WPC."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from narrows.core.errors import DataError, ModelError
from narrows.core.seeds import generator
from narrows.information import WPCLoss, lipschitz_penalty, wasserstein_dependency
from narrows.information.wasserstein_dependency import _Critics, _train


def correlated(n, rho, d=1, seed=0):
    dice = np.random.default_rng(seed)
    x = dice.standard_normal((n, d))
    return x, rho * x + math.sqrt(1 - rho**2) * dice.standard_normal((n, d))


def exact(x, y, metric="euclidean", standardise=False):
    return wasserstein_dependency(x, y, method="exact", metric=metric, standardise=standardise)


def binary(n, r):
    same = round(n * (1 + r) / 4)
    x = np.repeat([0.0, 1.0, 0.0, 1.0], [same, same, n // 2 - same, n // 2 - same])
    return x, np.where(np.arange(n) < 2 * same, x, 1 - x)


@pytest.mark.parametrize("metric", ["euclidean", "cityblock"])
def test_exact_values_of_small_laws(metric):
    grid = np.array([(i, j) for i in range(4) for j in range(5)], dtype=float)
    assert exact(grid[:, 0], grid[:, 1], metric).value == pytest.approx(0, abs=1e-12)
    for r in (0.3, -0.3, 1.0):
        assert exact(*binary(40, r), metric).value == pytest.approx(abs(r) / 2, abs=1e-12)


@pytest.mark.parametrize("states", [2, 3, 5, 10])
def test_sides_that_determine_each_other_have_a_bounded_dependence(states):
    x = np.tile(np.arange(states, dtype=float), 2)
    found = exact(x, (3 * x + 1) % states if math.gcd(3, states) == 1 else x[::-1], lambda u, v: float((u != v).any()))
    assert found.value == pytest.approx(1 - 1 / states, abs=1e-12)


def test_exact_is_the_linear_programme():
    x, y = correlated(5, 0.5, d=2)
    n = 5
    first = np.linalg.norm(x[:, None] - x[None], axis=-1)
    second = np.linalg.norm(y[:, None] - y[None], axis=-1)
    for metric, costs in (
        ("euclidean", np.sqrt(first[:, :, None] ** 2 + second[:, None] ** 2)),
        (lambda u, v: np.linalg.norm(u - v), first[:, :, None] + second[:, None]),
    ):
        from_joint = np.kron(np.eye(n), np.ones(n * n))
        to_product = np.kron(np.ones(n), np.eye(n * n))
        weights = np.r_[np.full(n, 1 / n), np.full(n * n, 1 / n**2)]
        best = linprog(costs.ravel(), A_eq=np.r_[from_joint, to_product], b_eq=weights)
        assert exact(x, y, metric).value == pytest.approx(best.fun, abs=1e-9)


def test_invariances_and_bounds_of_the_exact_value():
    x, y = correlated(25, 0.7)
    value = exact(x, y).value
    assert exact(y, x).value == pytest.approx(value, abs=1e-12)
    assert exact(x + 3, y - 8).value == pytest.approx(value, abs=1e-12)
    assert exact(10 * x, 10 * y).value == pytest.approx(10 * value, abs=1e-10)
    assert exact(10 * x, 0.1 * y, standardise=True).value == pytest.approx(
        exact(x, y, standardise=True).value, abs=1e-9
    )
    assert value <= np.abs(y - y.T).mean()
    assert value <= np.abs(x - x.T).mean()
    order = np.random.default_rng(0).permutation(25)
    assert exact(x[order], y[order]).value == pytest.approx(value, abs=1e-12)
    assert exact(np.zeros(25), y).value == pytest.approx(0, abs=1e-12)


def test_any_function_of_slope_1_is_a_lower_bound_and_the_best_one_is_tight():
    x, y = binary(40, 0.3)
    product = np.array([(a, b) for a in x for b in y])

    def gap(f):
        return f(x, y).mean() - f(product[:, 0], product[:, 1]).mean()

    assert gap(lambda u, v: np.abs(u + v - 1)) == pytest.approx(0.15, abs=1e-12)
    a, b = correlated(20, 0.9)
    value = exact(a, b).value
    pairs = torch.from_numpy(np.concatenate([a, b], axis=1))
    combinations = torch.from_numpy(np.array([(u, v) for u in a[:, 0] for v in b[:, 0]]))
    for seed in range(5):
        critic = _Critics(2, generator(seed, "test"))
        with torch.no_grad():
            gaps = critic(pairs).mean(dim=1) - critic(combinations).mean(dim=1)
            assert float(gaps.abs().max()) <= value + 1e-12


def test_a_sample_alone_is_too_high():
    values = [exact(*correlated(40, 0.0, seed=s)).value for s in range(3)]
    assert np.mean(values) == pytest.approx(0.31, abs=0.06)
    assert exact(*correlated(40, 0.0)).has("few samples")


@pytest.mark.parametrize("rho", [0.9, 1.0])
def test_the_critic_lies_between_what_is_known_of_a_gaussian(rho):
    x, y = correlated(600, rho)
    linear = math.sqrt(2 / math.pi) * max(math.sqrt(1 + rho) - 1, 1 - math.sqrt(1 - rho))
    second = math.sqrt(4 - 2 * (math.sqrt(1 + rho) + math.sqrt(1 - rho)))  # W_2, which is at least W_1
    found = wasserstein_dependency(x, y)
    assert 0.9 * linear - 3 * found.standard_error < found.value < second + 3 * found.standard_error
    assert (found.kind, found.unit) == ("lower", "none")


def test_the_critic_finds_nothing_where_there_is_nothing():
    runs = [wasserstein_dependency(*correlated(200, 0.0, seed=s), steps=20, seed=s) for s in range(8)]
    z = np.array([r.value / r.standard_error for r in runs])
    assert abs(z.mean()) < 4 / math.sqrt(8)
    assert max(r.value for r in runs) < 0.15  # the exact value of 80 independent rows is above that


def test_a_constant_side_depends_on_nothing():
    found = wasserstein_dependency(np.ones(60), correlated(60, 0.0)[1], steps=5)
    assert abs(found.value) < 4 * found.standard_error
    assert found.has("constant column")


def test_the_critic_finds_what_correlation_does_not():
    x = np.random.default_rng(0).uniform(-1.7, 1.7, 300)
    found = wasserstein_dependency(x, np.abs(x))
    assert found.value > 10 * found.standard_error


def test_a_trained_critic_still_has_a_slope_of_at_most_1():
    x, y = (torch.from_numpy(s) for s in correlated(200, 0.9, d=2))
    critic = _Critics(4, generator(0, "test"))
    _train(critic, [x, y], 40, generator(1, "test"))
    a, b = (3 * torch.randn(5000, 4, generator=generator(s, "points"), dtype=torch.float64) for s in (0, 1))
    with torch.no_grad():
        slopes = (critic(a) - critic(b)).abs() / (a - b).norm(dim=1)
    assert 0.3 < float(slopes.max()) <= 1 + 1e-9


@pytest.mark.parametrize("length", [0.5, 1.0, 2.0])
def test_the_penalty_of_a_linear_function(length):
    w = torch.randn(5, generator=generator(0, "w"), dtype=torch.float64)
    w = w / w.norm() * length
    points = torch.randn(7, 5, generator=generator(1, "points"), dtype=torch.float64)
    parts = points[:, :2], points[:, 2:]

    def f(u, v):
        return torch.cat([u, v], dim=1) @ w

    assert float(lipschitz_penalty(f, *parts)) == pytest.approx(max(length - 1, 0) ** 2, abs=1e-12)
    assert float(lipschitz_penalty(f, *parts, one_sided=False)) == pytest.approx((length - 1) ** 2, abs=1e-12)


def test_the_slope_is_taken_with_respect_to_both_inputs():
    W = torch.randn(3, 3, generator=generator(0, "W"), dtype=torch.float64)
    x, y = torch.randn(2, 6, 3, generator=generator(1, "xy"), dtype=torch.float64)
    norm = ((y @ W.T).square().sum(1) + (x @ W).square().sum(1)).sqrt()
    found = lipschitz_penalty(lambda u, v: ((u @ W) * v).sum(1), x, y, one_sided=False)
    assert found.item() == pytest.approx(float((norm - 1).square().mean()), abs=1e-12)


def test_the_penalty_has_a_gradient_in_the_parameters():
    W = torch.randn(3, 3, generator=generator(0, "W"), dtype=torch.float64, requires_grad=True)
    x, y = torch.randn(2, 4, 3, generator=generator(1, "xy"), dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda w: lipschitz_penalty(lambda u, v: ((u @ w).tanh() * v).sum(1), x, y, one_sided=False), (W,)
    )
    flat = lipschitz_penalty(lambda u, v: 0 * u.sum(1), x, y)  # no slope at all: no NaN
    assert flat.item() == 0


def encoders(d=3, width=16, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return [nn.Sequential(nn.Linear(d, width), nn.ReLU(), nn.Linear(width, 4)).double() for _ in range(2)]


def test_without_penalty_it_is_the_cross_entropy():
    g, h = encoders()
    W = 0.5 * torch.eye(4, dtype=torch.float64)
    x, y = torch.randn(2, 9, 3, generator=generator(0, "xy"), dtype=torch.float64)
    scores = g(2 * x) @ W @ h(2 * y).T
    expected = (scores.logsumexp(dim=1) - scores.diagonal()).mean()
    loss, logs = WPCLoss(0.0, metric_scale=2.0)(g, h, W, x, y)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-12)
    assert logs["information"] == pytest.approx(math.log(9) - float(loss.detach()), abs=1e-12)
    assert logs["information"] <= math.log(9)
    loss, _ = WPCLoss(0.0, symmetric=True)(g, g, W, x, y)
    other, _ = WPCLoss(0.0, symmetric=True)(g, g, W, y, x)
    assert float(loss.detach()) == pytest.approx(float(other.detach()), abs=1e-12)
    loss, logs = WPCLoss()(g, h, 0 * W, x, y)
    assert float(loss.detach()) == pytest.approx(math.log(9), abs=1e-12)
    evaluation = WPCLoss().eval()(g, h, 100 * W, x, y)
    assert evaluation[1]["penalty"] == 0


def test_the_penalty_is_that_of_the_critic_between_pairs():
    identity = nn.Identity()
    W = 3 * torch.eye(3, dtype=torch.float64)
    x, y = torch.randn(2, 5, 3, generator=generator(0, "xy"), dtype=torch.float64)
    same = y[:1].expand(5, 3)  # every point between two equal y is that y
    _, logs = WPCLoss(one_sided=False)(identity, identity, W, x, same)
    norm = 3 * (x.square().sum(1) + same.square().sum(1)).sqrt()
    assert logs["penalty"] == pytest.approx(float((norm - 1).square().mean()), abs=1e-10)


def test_training_holds_the_slope_on_points_not_seen():
    g, h = encoders(width=32)
    W = nn.Parameter(torch.eye(4, dtype=torch.float64))
    x, y = (torch.from_numpy(s) for s in correlated(400, 0.9, d=3))
    loss_of = WPCLoss()
    optimiser = torch.optim.Adam([*g.parameters(), *h.parameters(), W], lr=3e-3)
    dice = generator(0, "batches")
    for _ in range(250):
        chosen = torch.randint(0, 200, (64,), generator=dice)
        loss, logs = loss_of(g, h, W, x[chosen], y[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert logs["information"] > 0.2
    i, j, k, m = (torch.randint(200, 400, (10_000,), generator=dice) for _ in range(4))
    with torch.no_grad():
        gap = ((g(x[i]) @ W) * h(y[j])).sum(1) - ((g(x[k]) @ W) * h(y[m])).sum(1)
    distance = torch.cat([x[i] - x[k], y[j] - y[m]], dim=1).norm(dim=1)
    slopes = (gap.abs() / distance)[distance > 0]
    assert 0.3 < float(slopes.max()) <= 1.3


def test_bad_arguments():
    x, y = correlated(100, 0.5)
    for options, text in (
        ({"method": "guess"}, "'critic' and 'exact'"),
        ({"metric": "cityblock"}, "method='exact'"),
        ({"steps": 0}, "at least one step"),
        ({"method": "exact"}, "at most 80"),
    ):
        with pytest.raises(DataError, match=text):
            wasserstein_dependency(x, y, **options)
    for metric, text in (
        ("manhattan", "or a function"),
        (lambda u, v: -1.0, "negative"),
        (lambda u, v: math.nan, "not a"),
    ):
        with pytest.raises(DataError, match=text):
            exact(x[:9], y[:9], metric)
    with pytest.raises(DataError, match="labels"):
        wasserstein_dependency(x, np.arange(100) % 3)
    with pytest.raises(DataError, match="at least 8"):
        wasserstein_dependency(x[:7], y[:7])
    assert wasserstein_dependency(x[:40], y[:40], steps=2).has("few samples")
    identity, W, t = nn.Identity(), torch.eye(2), torch.zeros(4, 2)
    for a, b in ((t, t[:3]), (t[:1], t[:1])):
        with pytest.raises(DataError, match="two or more pairs"):
            WPCLoss()(identity, identity, W, a, b)
    with pytest.raises(ModelError, match="LayerNorm"):
        WPCLoss()(nn.BatchNorm1d(2), identity, W, t, t)
    with pytest.raises(DataError, match="lambda_gp"):
        WPCLoss(-1.0)
    for bad in (t.long(), t.half()):
        with pytest.raises(DataError, match="embed codes first"):
            lipschitz_penalty(lambda u: u.sum(1), bad)
    with pytest.raises(DataError, match="expected one each"):
        lipschitz_penalty(lambda u: u, t)
