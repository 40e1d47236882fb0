"""HSIC: brute force, closed forms, exact unbiasedness, permutations, tiles, batches."""

import importlib
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from narrows.core.errors import DataError
from narrows.information import batched_hsic, hsic, kernels
from narrows.information.kernels import gaussian_gram, median_distance


def correlated(n, rho, d=1, seed=0):
    dice = np.random.default_rng(seed)
    x = dice.standard_normal((n, d))
    return x, rho * x + math.sqrt(1 - rho**2) * dice.standard_normal((n, d))


def gram(x, s):
    return np.exp(-((x[:, None] - x[None]) ** 2).sum(-1) / (2 * s**2))


def truth(rho, s):
    """HSIC of a standard bivariate normal law with kernels of bandwidth s."""

    def mean(variance, covariance):  # of exp(-u^2/(2 s^2) - v^2/(2 s^2))
        sigma = np.array([[variance, covariance], [covariance, variance]])
        return np.linalg.det(np.eye(2) + sigma / s**2) ** -0.5

    # The mean over x' alone is a kernel of variance s^2 + 1 with a factor.
    inner = np.linalg.det(np.eye(2) + np.array([[1, rho], [rho, 1]]) / (s**2 + 1)) ** -0.5 * s**2 / (s**2 + 1)
    return mean(2, 2 * rho) - 2 * inner + mean(2, 0)


def test_the_biased_form_by_centred_matrices():
    x, y = correlated(30, 0.6, d=2)
    k, q, h = gram(x, 0.7), gram(y, 1.3), np.eye(30) - 1 / 30
    expected = np.trace(k @ h @ q @ h) / 30**2
    found = hsic(x, y, bandwidth_x=0.7, bandwidth_y=1.3, unbiased=False)
    assert found.value == pytest.approx(expected, abs=1e-14)
    assert (found.unit, found.details["bandwidth_y"]) == ("none", 1.3)


def test_the_unbiased_form_by_all_quadruples():
    x, y = correlated(7, 0.6)
    k, q = gram(x, 1.0), gram(y, 1.0)
    quadruples = list(itertools.permutations(range(7), 4))
    expected = np.mean([k[i, j] * (q[i, j] + q[r, s] - 2 * q[i, r]) for i, j, r, s in quadruples])
    assert hsic(x, y, bandwidth_x=1.0, bandwidth_y=1.0).value == pytest.approx(expected, abs=1e-14)


def test_the_unbiased_form_is_0_on_average_over_every_order():
    x, y = correlated(6, 0.9)
    values = [hsic(x, y[list(order)]).value for order in itertools.permutations(range(6))]
    assert np.mean(values) == pytest.approx(0, abs=1e-15)
    assert min(values) < 0 < max(values)
    biased = [hsic(x, y[list(order)], unbiased=False).value for order in itertools.permutations(range(6))]
    assert min(biased) >= 0


@pytest.mark.parametrize(("rho", "s"), [(0.0, 1.0), (0.5, 1.0), (0.9, 0.5)])
def test_the_closed_form_of_a_gaussian(rho, s):
    values = [hsic(*correlated(1000, rho, seed=i), bandwidth_x=s, bandwidth_y=s).value for i in range(12)]
    assert abs(np.mean(values) - truth(rho, s)) < 4 * np.std(values) / math.sqrt(11)
    assert truth(0.0, s) == pytest.approx(0, abs=1e-15)


def test_alignment_of_a_side_with_itself_is_1_and_is_blind_to_scale_shift_and_rotation():
    x, y = correlated(100, 0.5, d=3)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    for unbiased in (True, False):
        assert hsic(x, 3 * x @ rotation - 1, normalise=True, unbiased=unbiased).value == pytest.approx(1, abs=1e-9)
        value = hsic(x, y, normalise=True, unbiased=unbiased).value
        assert hsic(5 * x @ rotation + 2, y, normalise=True, unbiased=unbiased).value == pytest.approx(value, abs=1e-9)
        assert -0.1 < value < 1
    assert hsic(5 * x @ rotation + 2, y).value == pytest.approx(hsic(x, y).value, abs=1e-12)


def test_labels_have_the_kernel_of_equality():
    dice = np.random.default_rng(0)
    label = dice.integers(0, 3, 60)
    x = label[:, None] + dice.standard_normal((60, 2))
    k, q, h = gram(x, 1.0), (label[:, None] == label).astype(float), np.eye(60) - 1 / 60
    found = hsic(x, label, bandwidth_x=1.0, unbiased=False)
    assert found.value == pytest.approx(np.trace(k @ h @ q @ h) / 60**2, abs=1e-14)
    assert hsic(x, np.array(list("bca"))[label], bandwidth_x=1.0, unbiased=False).value == found.value
    halves = np.repeat([0, 1], 20)
    assert hsic(halves, halves, unbiased=False).value == pytest.approx(1 / 4, abs=1e-15)
    assert hsic(x, label).cautions == ()


def test_tiles_and_the_whole_agree(monkeypatch):
    x, y = correlated(101, 0.5, d=2)
    whole = hsic(x, y, permutations=20)
    monkeypatch.setattr(kernels, "TILE", 16)
    tiled = hsic(x, y, permutations=20)
    assert tiled.value == pytest.approx(whole.value, abs=1e-15)
    assert tiled.details["mean_kernel_x"] == pytest.approx(whole.details["mean_kernel_x"], abs=1e-14)


def test_a_shuffled_copy_by_either_way_is_hsic_of_the_shuffled_rows(monkeypatch):
    module = importlib.import_module("narrows.information.hsic")
    x, y = correlated(40, 0.8)
    (a, _), (b, _) = kernels.kernel_side(x, "x", None), kernels.kernel_side(y, "y", None)
    sums = kernels.pair_sums(a, b)
    monkeypatch.setattr(module, "generator", lambda *_: torch.Generator().manual_seed(3))
    dice = torch.Generator().manual_seed(3)
    expected = [hsic(x, y[torch.randperm(40, generator=dice).numpy()]).value for _ in range(5)]
    for dense, held in ((5000, 10**6), (10, 10**6), (5000, 300), (10, 300)):  # whole and not, in one part and in six
        monkeypatch.setattr(module, "DENSE", dense)
        monkeypatch.setattr(module, "_HELD", held)
        found = module._shuffled(a, b, sums, True, 5, 0)
        assert found.tolist() == pytest.approx(expected, abs=1e-14)


def test_the_p_value_is_small_where_there_is_dependence_and_uniform_where_there_is_none():
    dice = np.random.default_rng(0)
    x = dice.uniform(-1, 1, 100)
    assert hsic(x, x**2 + 0.1 * dice.standard_normal(100), permutations=199).details["p"] == 1 / 200
    ps = [hsic(*correlated(30, 0.0, seed=s), permutations=99, seed=s).details["p"] for s in range(100)]
    assert min(ps) >= 1 / 100
    assert 0.4 < np.mean(ps) < 0.6  # four standard errors about 1/2 are 0.12
    assert np.mean(np.array(ps) <= 0.1) < 0.22
    assert hsic(np.zeros(30), x[:30], permutations=9).details["p"] == 1.0


def test_the_median_distance_of_many_rows_does_not_depend_on_their_order():
    x = np.random.default_rng(0).standard_normal((2500, 2))
    assert median_distance(x) == pytest.approx(np.median(pdist(x)), rel=0.03)
    assert median_distance(x[::-1]) == median_distance(x)
    assert median_distance(np.array([[0.0], [0.0], [0.0], [0.0], [3.0]])) == 3  # most rows are twins
    assert median_distance(np.zeros((4, 1))) == 1


@pytest.mark.parametrize("options", [{}, {"unbiased": False}, {"normalise": True}, {"bandwidth_x": 0.5}])
def test_a_batch_is_its_loop(options):
    dice = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 25, 4, generator=dice, dtype=torch.float64) * torch.arange(1, 4)[:, None, None]
    y = x[..., :2] + torch.randn(2, 3, 25, 2, generator=dice, dtype=torch.float64)
    found = batched_hsic(x, y, **options)
    loop = [[hsic(x[i, j], y[i, j], **options).value for j in range(3)] for i in range(2)]
    assert torch.allclose(found, torch.tensor(loop, dtype=torch.float64), atol=1e-13, rtol=0)
    single = batched_hsic(x.float(), y.float(), **options)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), found, atol=1e-4)


def test_a_batch_may_have_a_bandwidth_for_each_of_its_samples():
    x = torch.randn(3, 12, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    widths = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    found = batched_hsic(x, x[..., :1], bandwidth_x=widths, bandwidth_y=1.0)
    loop = [hsic(x[i], x[i, :, :1], bandwidth_x=float(widths[i]), bandwidth_y=1.0).value for i in range(3)]
    assert found.tolist() == pytest.approx(loop, abs=1e-14)


@pytest.mark.parametrize("normalise", [False, True])
def test_gradients(normalise):
    dice = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2, 6, 2, generator=dice, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(
        lambda a, b: batched_hsic(a, b, bandwidth_x=0.8, bandwidth_y=1.1, normalise=normalise), (x, y)
    )


def test_a_batch_of_constant_sides_is_0_with_a_gradient():
    x = torch.ones(2, 6, 1, dtype=torch.float64, requires_grad=True)
    y = torch.randn(2, 6, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    value = batched_hsic(x, y, normalise=True)
    value.sum().backward()
    assert value.tolist() == [0, 0]
    assert torch.isfinite(x.grad).all()


def test_cautions_and_bad_arguments():
    x, y = correlated(60, 0.5)
    assert hsic(x, y).cautions == ()
    assert hsic(x, y, bandwidth_x=1e-3).has("resolution")
    assert hsic(x, y, bandwidth_y=1e3).has("resolution")
    assert hsic(np.zeros(60), y).has("constant column")
    assert hsic(np.zeros(60), y, normalise=True).value == 0
    assert hsic(x[:10], y[:10]).has("few samples")
    with pytest.raises(DataError, match="at least 4"):
        hsic(x[:3], y[:3])
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(DataError, match="must be positive"):
            hsic(x, y, bandwidth_x=bad)
    with pytest.raises(DataError, match="labels"):
        hsic(x, np.arange(60) % 3, bandwidth_y=1.0)
    with pytest.raises(DataError, match="permutations"):
        hsic(x, y, permutations=-1)
    t = torch.zeros(5, 2)
    for a, b, text in ((t, t[:4], "all but the last"), (t[0], t[0], "floating"), (t.long(), t, "floating")):
        with pytest.raises(DataError, match=text):
            batched_hsic(a, b)
    with pytest.raises(DataError, match="NaN"):
        batched_hsic(t / 0, t)
    with pytest.raises(DataError, match="must be positive"):
        batched_hsic(t, t, bandwidth_x=0.0)
    with pytest.raises(DataError, match="give it a column"):
        gaussian_gram(t[0])
