"""Variational bounds on score matrices: exact scores, invariances, gradients, standard errors."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from narrows.core.errors import DataError
from narrows.information import (
    dv_bound,
    infonce_bound,
    js_objective,
    mine_objective,
    nwj_bound,
    pair_terms,
    smile_objective,
)
from narrows.information.objectives import log_mean_exp_off

RHO = 0.75
TRUTH = -0.5 * math.log(1 - RHO**2)
BOUNDS = {"infonce": infonce_bound, "dv": dv_bound, "nwj": nwj_bound, "smile": smile_objective}


def pairs(n, seed=0):
    dice = torch.Generator().manual_seed(seed)
    x = torch.randn(n, generator=dice, dtype=torch.float64)
    return x, RHO * x + math.sqrt(1 - RHO**2) * torch.randn(n, generator=dice, dtype=torch.float64)


def log_ratio(x, y):
    """ln p(x, y) / (p(x) p(y)) of the standard bivariate normal law, for all x against all y."""
    x, y = x[:, None], y[None]
    return (2 * RHO * x * y - RHO**2 * (x**2 + y**2)) / (2 * (1 - RHO**2)) - 0.5 * math.log(1 - RHO**2)


def random_scores(n=12, seed=0, scale=2.0):
    return scale * torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def exact():
    """The exact log ratio in twenty matrices of 1,000 pairs."""
    x, y = pairs(20_000)
    return [log_ratio(a, b) for a, b in zip(x.split(1000), y.split(1000), strict=True)]


def mean_of(bound, matrices, **options):
    return sum(float(bound(m, **options)) for m in matrices) / len(matrices)


def test_the_exact_log_ratio_gives_the_mutual_information(exact):
    assert mean_of(dv_bound, exact) == pytest.approx(TRUTH, abs=0.03)
    assert mean_of(infonce_bound, exact) == pytest.approx(TRUTH, abs=0.03)
    assert mean_of(lambda f: smile_objective(f, tau=20.0), exact) == pytest.approx(TRUTH, abs=0.03)
    assert mean_of(lambda f: nwj_bound(1 + f), exact) == pytest.approx(TRUTH, abs=0.03)
    # Without the 1 the critic is not NWJ's best: mean f - 1 / e = 0.045.
    assert mean_of(nwj_bound, exact) == pytest.approx(TRUTH - math.exp(-1), abs=0.03)


def test_all_pairs_at_once_and_by_blocks_of_rows():
    n = 6000
    x, y = pairs(n, seed=1)
    joint, log_z = 0.0, []
    for start in range(0, n, 1000):
        scores = log_ratio(x[start : start + 1000].float(), y.float())
        own = scores.diagonal(start)
        joint += float(own.sum()) / n
        own.fill_(-torch.inf)
        log_z.append(scores.logsumexp(dim=(0, 1)))
    partition = float(torch.stack(log_z).logsumexp(0)) - math.log(n * (n - 1))
    assert joint - partition == pytest.approx(TRUTH, abs=0.03)
    assert 1 + joint - math.exp(partition) == pytest.approx(TRUTH, abs=0.03)


def test_scores_off_the_best_give_less(exact):
    for bound, best in ((dv_bound, 0.0), (infonce_bound, 0.0), (nwj_bound, 1.0), (js_objective, 0.0)):
        top = mean_of(bound, [f + best for f in exact[:3]])
        for scale in (0.7, 1.3):
            assert mean_of(bound, [scale * f + best for f in exact[:3]]) < top


def test_a_constant_critic_knows_nothing():
    flat = torch.full((9, 9), 3.0, dtype=torch.float64)
    for bound in (infonce_bound, dv_bound):
        assert float(bound(flat)) == pytest.approx(0, abs=1e-12)
    assert float(nwj_bound(torch.ones(9, 9))) == pytest.approx(0, abs=1e-6)
    assert float(smile_objective(flat)) == pytest.approx(0, abs=1e-12)
    assert float(js_objective(torch.zeros(9, 9))) == pytest.approx(-2 * math.log(2), abs=1e-6)


@given(st.integers(0, 10_000), st.integers(2, 30), st.floats(0.1, 60))
@settings(max_examples=60, deadline=None)
def test_infonce_never_exceeds_the_logarithm_of_its_rows(seed, n, scale):
    scores = random_scores(n, seed, scale) + 3 * scale * torch.eye(n, dtype=torch.float64)
    assert float(infonce_bound(scores)) <= math.log(n) + 1e-12


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_shifts_that_change_nothing(seed):
    scores = random_scores(seed=seed)
    rows = random_scores(seed=seed + 1)[:, :1]
    assert float(dv_bound(scores + 7.5)) == pytest.approx(float(dv_bound(scores)), abs=1e-10)
    assert float(infonce_bound(scores + rows)) == pytest.approx(float(infonce_bound(scores)), abs=1e-10)
    order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(seed))
    for bound in (*BOUNDS.values(), js_objective):
        assert float(bound(scores[order][:, order])) == pytest.approx(float(bound(scores)), abs=1e-10)


def test_bounds_are_ordered():
    # NWJ is DV with its logarithm replaced by a tangent: below it, and equal where LME = 1.
    for seed in range(20):
        scores = random_scores(seed=seed)
        assert nwj_bound(scores) <= dv_bound(scores) + 1e-12
        levelled = scores - log_mean_exp_off(scores) + 1
        assert float(nwj_bound(levelled)) == pytest.approx(float(dv_bound(scores)), abs=1e-10)


def test_the_diagonal_is_left_out_of_the_partition():
    scores = random_scores(5)
    off = [float(scores[i, j]) for i in range(5) for j in range(5) if i != j]
    by_hand = math.log(sum(math.exp(f) for f in off) / 20)
    assert float(log_mean_exp_off(scores)) == pytest.approx(by_hand, abs=1e-12)
    softplus = sum(math.log1p(math.exp(f)) for f in off) / 20
    own = sum(-math.log1p(math.exp(-float(scores[i, i]))) for i in range(5)) / 5
    assert float(js_objective(scores)) == pytest.approx(own - softplus, abs=1e-12)
    clamped = math.log(sum(math.exp(min(max(f, -1), 1)) for f in off) / 20)
    assert float(smile_objective(scores, 1.0)) == pytest.approx(float(scores.diagonal().mean()) - clamped, abs=1e-12)


def test_large_scores_do_not_overflow():
    scores = 1000 * random_scores().float()
    for bound in (infonce_bound, dv_bound, smile_objective, js_objective):
        assert torch.isfinite(bound(scores))


def gradient(function, scores):
    scores = scores.clone().requires_grad_()
    function(scores).backward()
    return scores.grad


def test_gradients():
    for bound in (infonce_bound, dv_bound, nwj_bound, js_objective):
        assert torch.autograd.gradcheck(bound, random_scores(5).requires_grad_())
    scores = random_scores()
    assert torch.allclose(gradient(smile_objective, scores), gradient(js_objective, scores))


def test_mine_divides_by_the_moving_average():
    scores = random_scores()
    value, average = mine_objective(scores, None)
    assert float(value) == pytest.approx(float(dv_bound(scores)), abs=1e-12)
    first = gradient(lambda s: mine_objective(s, None)[0], scores)
    assert torch.allclose(first, gradient(dv_bound, scores))  # the average is that of the batch itself
    other = random_scores(seed=1, scale=3.0)
    value, new = mine_objective(other, average, decay=0.9)
    assert float(value) == pytest.approx(float(dv_bound(other)), abs=1e-12)
    z, before = math.exp(float(log_mean_exp_off(other))), math.exp(float(average))
    assert math.exp(float(new)) == pytest.approx(0.9 * before + 0.1 * z)
    found = gradient(lambda s: mine_objective(s, average, decay=0.9)[0], other)
    n = len(other)
    expected = -other.exp() / (n * (n - 1)) / math.exp(float(new))
    expected.diagonal().fill_(1 / n)
    assert torch.allclose(found, expected)


@pytest.mark.parametrize("name", BOUNDS)
def test_terms_of_pairs_average_to_the_bound(name):
    scores = random_scores(seed=3)
    assert float(pair_terms(name, scores).mean()) == pytest.approx(float(BOUNDS[name](scores)), abs=1e-10)


@pytest.mark.parametrize("name", BOUNDS)
def test_the_standard_error_is_the_spread_over_samples(name):
    n, values, errors = 200, [], []
    for seed in range(150):
        scores = log_ratio(*pairs(n, seed)) + (name == "nwj")
        terms = pair_terms(name, scores)
        values.append(float(terms.mean()))
        errors.append(float(terms.std()) / math.sqrt(n))
    spread = torch.tensor(values).std().item()
    assert sum(errors) / len(errors) == pytest.approx(spread, rel=0.2)


def test_odd_scores_are_refused():
    for bad in (torch.zeros(3, 4), torch.zeros(1, 1), torch.zeros(4)):
        for bound in (infonce_bound, dv_bound, nwj_bound, js_objective, smile_objective):
            with pytest.raises(DataError, match="expected \\(n, n\\)"):
                bound(bad)
