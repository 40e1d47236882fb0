"""Posteriors of weights and what they know of the training set: moments by hand, closed forms, refusals."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import LowRankMultivariateNormal, MultivariateNormal

from narrows.core.errors import DataError, ModelError
from narrows.information import SWAGCollector, parameter_mi


def walked(steps=15, seed=0, **options):
    """A network whose weights walk at random, its collector, and the weights it has seen."""
    net = nn.Linear(3, 2).double()
    collector = SWAGCollector(net, **options)
    dice = torch.Generator().manual_seed(seed)
    seen = []
    for _ in range(steps):
        with torch.no_grad():
            net.weight += 0.1 * torch.randn(2, 3, generator=dice, dtype=torch.float64)
        collector.collect()
        seen.append(net.weight.detach().flatten().clone())
    return net, collector, torch.stack(seen)


def gaussian(mean, variance=1.0):
    mean = torch.as_tensor(mean, dtype=torch.float64)
    return [LowRankMultivariateNormal(mean, torch.zeros(len(mean), 1).double(), variance * torch.ones_like(mean))]


def test_moments_are_those_of_the_collected_weights():
    _, collector, seen = walked(max_rank=4)
    law = collector.posterior(["weight"])[0]
    assert torch.allclose(law.loc, seen.mean(0), atol=1e-12)
    assert torch.allclose(law.cov_diag, seen.var(0, correction=0), atol=1e-12)
    running = torch.stack([seen[: i + 1].mean(0) for i in range(len(seen))])
    last = (seen - running)[-4:]
    full = torch.diag(seen.var(0, correction=0)) + last.T @ last / 3
    assert torch.allclose(law.covariance_matrix, full, atol=1e-12)
    at = seen[3]
    expected = MultivariateNormal(seen.mean(0), full).log_prob(at)
    assert law.log_prob(at) == pytest.approx(float(expected), abs=1e-8)


def test_small_variances_keep_their_digits():
    net = nn.Linear(1, 1, bias=False).double()
    collector = SWAGCollector(net)
    for offset in (0.0, 1e-7, 2e-7):
        with torch.no_grad():
            net.weight.fill_(1000 + offset)
        collector.collect()
    assert float(collector.posterior()[0].cov_diag) == pytest.approx(2 / 3 * 1e-14, rel=1e-2)


def test_weights_that_never_move_sit_on_the_floor():
    net, collector, _ = walked(var_floor=1e-12)
    bias = collector.posterior(["bias"])[0]
    assert torch.equal(bias.loc, net.bias.detach())
    assert (bias.cov_diag == 1e-12).all()
    assert (bias.cov_factor == 0).all()
    assert math.isfinite(bias.log_prob(bias.loc))
    assert collector.at_floor() == 2
    assert collector.at_floor(["weight"]) == 0
    assert len(collector.posterior()) == 2


def test_equal_posteriors_know_nothing():
    _, collector, _ = walked()
    law = collector.posterior()
    for form in ("jensen", "mixture"):
        assert parameter_mi([[law], [law], [law]], form=form).value == pytest.approx(0, abs=1e-9)
        assert parameter_mi([[law, law], [law, law]], form=form).value == pytest.approx(0, abs=1e-9)


def test_far_posteriors_know_which_set_it_was():
    sets = [[gaussian([1000.0 * i, 0.0])] for i in range(4)]
    found = parameter_mi(sets, form="mixture")
    assert found.value == pytest.approx(math.log(4), abs=1e-9)
    assert found.saturated
    assert found.kind == "lower"
    assert parameter_mi([[gaussian([0.0]), gaussian([5.0])]] * 3, form="mixture").value == pytest.approx(0, abs=1e-9)


def test_jensen_in_expectation_is_the_spread_of_the_means():
    means = torch.tensor([[0.0, 1.0, 2.0], [1.0, -1.0, 0.5], [3.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
    sets = [[gaussian(m, 0.6)] for m in means]
    expected = float(means.var(0, correction=0).sum()) / 0.6
    values = torch.tensor([parameter_mi(sets, samples=10, seed=s).value for s in range(30)])
    assert abs(values.mean() - expected) < 3 * values.std() / math.sqrt(30)
    assert parameter_mi(sets).kind == "upper"
    assert parameter_mi(sets).value >= parameter_mi(sets, form="mixture").value


def test_blocks_add_up():
    one = [[[*gaussian([0.0]), *gaussian([1.0])]], [[*gaussian([2.0]), *gaussian([0.0])]]]
    joined = [[gaussian([0.0, 1.0])], [gaussian([2.0, 0.0])]]
    values = [[parameter_mi(s, samples=20, seed=i).value for i in range(20)] for s in (one, joined)]
    a, b = torch.tensor(values)
    assert abs(a.mean() - b.mean()) < 4 * (a.std() + b.std()) / math.sqrt(20)
    assert parameter_mi(one).dims == (1, 2)


def test_several_seeds_are_averaged():
    # Two seeds per set at -1 and +1 around the set's mean m, unit variance, one dimension: with q the mean of log
    # densities, E log q_d - E log q cancels everything but the distance between sets: the variance of m.
    sets = [[gaussian([m - 1.0]), gaussian([m + 1.0])] for m in (0.0, 2.0)]
    values = torch.tensor([parameter_mi(sets, samples=10, seed=s).value for s in range(30)])
    assert abs(values.mean() - 1.0) < 3 * values.std() / math.sqrt(30)


def test_the_draws_are_those_of_the_seed_and_of_nobody_else():
    sets = [[gaussian([0.0])], [gaussian([1.0])]]
    before = torch.get_rng_state()
    assert parameter_mi(sets, seed=1) == parameter_mi(sets, seed=1)
    assert parameter_mi(sets, seed=1).value != parameter_mi(sets, seed=2).value
    assert torch.equal(torch.get_rng_state(), before)


def test_what_cannot_be_asked_is_refused():
    net, collector, _ = walked(steps=1)
    with pytest.raises(DataError, match="at least 2 collections, there are 1"):
        collector.posterior()
    with pytest.raises(ModelError, match="no parameter is called 'weigth'; there are weight, bias"):
        collector.posterior(["weigth"])
    with pytest.raises(ModelError, match="no parameter is named"):
        collector.posterior([])
    with pytest.raises(DataError, match="max_rank"):
        SWAGCollector(net, max_rank=1)
    with pytest.raises(DataError, match="at least 2 training sets"):
        parameter_mi([[gaussian([0.0])]])
    with pytest.raises(DataError, match="different networks"):
        parameter_mi([[gaussian([0.0])], [gaussian([0.0, 1.0])]])
    with pytest.raises(DataError, match="as many posteriors"):
        parameter_mi([[gaussian([0.0])], [gaussian([0.0])] * 2])
    with pytest.raises(DataError, match="at least 1 sample"):
        parameter_mi([[gaussian([0.0])]] * 2, samples=0)
