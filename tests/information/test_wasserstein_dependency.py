"""The Wasserstein dependency measure: exact values, bounds, the critic's slope, and the objective of WPC."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import linprog
from scipy.stats import wasserstein_distance
from torch import nn

from narrows.core.errors import DataError, ModelError
from narrows.core.seeds import generator
from narrows.information import WPCLoss, joint_to_product, lipschitz_penalty, wasserstein_dependency
from narrows.information.joint_to_product import along_lines, on_a_line
from narrows.information.wasserstein_dependency import _Critics, _train


def correlated(n, rho, d=1, seed=0):
    dice = np.random.default_rng(seed)
    x = dice.standard_normal((n, d))
    return x, rho * x + math.sqrt(1 - rho**2) * dice.standard_normal((n, d))


def exact(x, y, metric="euclidean", standardise=False):
    return wasserstein_dependency(x, y, method="exact", metric=metric, standardise=standardise)


def sliced(x, y, **options):
    return wasserstein_dependency(x, y, method="sliced", standardise=False, **options)


def every(n):
    """Every row as a partner of every row."""
    return (np.arange(n) + np.arange(n)[:, None]) % n


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


@pytest.mark.parametrize("r", [0.3, -0.3, 1.0])
def test_the_distance_on_one_line_of_a_binary_pair(r):
    x, y = binary(40, r)
    for c, s in ((0.8, 0.6), (0.6, -0.8), (1.0, 0.0), (0.5**0.5, 0.5**0.5)):
        # On the values 0, s, c, c + s (c > s > 0) the distribution functions differ by r/4, 0 and r/4 between them.
        assert on_a_line(c * x, s * y, every(40)) == pytest.approx(abs(r) / 2 * min(abs(c), abs(s)), abs=1e-12)
    mean = abs(r) / 2 * 4 / math.pi * (1 - math.sqrt(0.5))  # over all angles
    found = sliced(x, y, slices=2000)
    assert found.value == pytest.approx(mean, abs=5 * found.details["standard error of slices"])
    assert found.details["largest slice"] == pytest.approx(abs(r) / 2 * math.sqrt(0.5), rel=0.01)


def test_the_distance_on_a_line_is_that_of_scipy():
    x, y = (side[:, 0] for side in correlated(30, 0.7))
    expected = wasserstein_distance(x + y, np.add.outer(x, y).ravel())
    assert on_a_line(x, y, every(30)) == pytest.approx(expected, abs=1e-12)
    partners = (np.arange(30) + np.array([3, 0, -3])[:, None]) % 30
    assert on_a_line(x, y, partners) == pytest.approx(wasserstein_distance(x + y, (x + y[partners]).ravel()), abs=1e-12)


@pytest.mark.parametrize(("d", "rho"), [(1, 0.0), (1, 0.9), (3, 0.9)])
def test_no_line_is_above_the_exact_distance(d, rho):
    x, y = correlated(30, rho, d=d)
    found = sliced(x, y)
    assert 0 < found.value < found.details["largest slice"] <= exact(x, y).value


def test_invariances_of_the_sliced_value():
    grid = np.array([(i, j) for i in range(20) for j in range(30)], dtype=float)
    assert sliced(grid[:, 0], grid[:, 1]).value == pytest.approx(0, abs=1e-12)
    for d, e in ((1, 1), (2, 2), (2, 1)):
        x, y = (side[:, :width] for side, width in zip(correlated(50, 0.7, d=2), (d, e), strict=True))
        value = sliced(x, y).value
        assert sliced(x, y).value == value
        assert sliced(y, x).value == pytest.approx(value, abs=1e-12)
        assert sliced(x + 3, y - 8).value == pytest.approx(value, abs=1e-12)
        assert sliced(-10 * x, -10 * y).value == pytest.approx(10 * value, abs=1e-11)
        order = np.random.default_rng(0).permutation(50)
        assert sliced(x[order], y[order]).value == pytest.approx(value, abs=1e-12)
        assert sliced(x, y, seed=1).value != value
        assert sliced(np.ones(50), y).value == pytest.approx(0, abs=1e-12)


def test_the_sliced_value_of_many_rows_is_that_of_the_law():
    rho = 0.9
    # At an angle t the sum has the variance 1 + rho sin 2t, and that of independent sides 1.
    mean = quad(lambda t: abs(math.sqrt(1 + rho * math.sin(2 * t)) - 1), 0, math.pi)[0] / math.pi
    found = sliced(*correlated(1000, rho), slices=200)
    assert found.value == pytest.approx(math.sqrt(2 / math.pi) * mean, abs=0.03)
    assert found.details["partners"] == 1000


@pytest.mark.parametrize("d", [1, 10])
def test_the_sliced_value_of_independent_sides_falls_with_the_root_of_the_rows(d):
    few, many = (
        np.mean([sliced(*correlated(n, 0.0, d=d, seed=s), slices=32).value for s in range(4)]) for n in (50, 800)
    )
    assert few / many == pytest.approx(4, rel=0.25)
    assert few < 0.25


def test_a_part_of_the_product_is_further_off_on_average(monkeypatch):
    x, y = correlated(60, 0.5, d=2)
    whole = along_lines(x, y, 32, 0)[0].mean()
    monkeypatch.setattr(joint_to_product, "_ATOMS", 60 * 8)
    parts = [along_lines(x, y, 32, 0), along_lines(y, x, 32, 0)]
    assert parts[0][1] == 8
    assert parts[0][0].mean() == pytest.approx(parts[1][0].mean(), abs=1e-12)
    # The same lines; only the partners are drawn anew.
    draws = [np.random.default_rng(s).integers(0, 60, 8) for s in range(20)]
    u, v = x[:, 0] * 0.6, y[:, 0] * 0.8
    on_part = [on_a_line(u, v, (np.arange(60) + shifts[:, None]) % 60) for shifts in draws]
    assert np.mean(on_part) > on_a_line(u, v, every(60))
    assert whole < parts[0][0].mean() < 2 * whole


def test_more_rows_than_the_product_can_have():
    x, y = correlated(20_000, 0.9)
    found = wasserstein_dependency(x, y, method="sliced", slices=8)
    assert found.details["partners"] == 52
    assert (found.kind, found.unit) == ("point", "none")
    assert found.value > 3 * sliced(*correlated(20_000, 0.0), slices=8).value
    assert "52 of the 20000" in next(c.text for c in found.cautions if c.trouble == "few samples")


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
        ({"method": "guess"}, "'critic', 'exact' and 'sliced'"),
        ({"method": "sliced", "metric": "cityblock"}, "euclidean metric only"),
        ({"method": "sliced", "slices": 7}, "even number"),
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
