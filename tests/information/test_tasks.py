"""The tasks: their answers by simulation and by quadrature, their samplers, and how an estimator is scored."""

import math

import numpy as np
import pytest
from scipy import integrate, special, stats

from narrows.information import EXTRA_TASKS, TASKS, evaluate, gaussian, ksg
from narrows.information.laws import bimodal, half_cube, pairs, spiral, swiss_roll, uniform

ALL = {**TASKS, **EXTRA_TASKS}
KNOWN = [name for name, task in ALL.items() if task.log_ratio is not None]
NOISE = 0.5 * math.log(2 * math.pi * math.e)


def phi(z):
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def entropy(density, low, high):
    y = np.linspace(low, high, 100_001)
    p = density(y)
    assert integrate.simpson(p, x=y) == pytest.approx(1, abs=1e-8)
    return -integrate.simpson(special.xlogy(p, p), x=y)


@pytest.mark.parametrize("name", KNOWN)
def test_the_mean_of_the_pointwise_information_is_the_answer(name):
    task = ALL[name]
    n = 1_000_000 if task.dim_x == 1 else 1_500_000 // (task.dim_x + task.dim_y)
    ratios = task.log_ratio(*task.sample(n, 0))
    error = math.hypot(ratios.std() / math.sqrt(n), task.mi_se)
    assert abs(ratios.mean() - task.mi) <= 4 * error + 1e-9
    assert error < 0.02


def test_there_are_18_with_these_answers():
    answers = {
        **dict.fromkeys(("T01", "T02", "T03", "T07"), 0.4133393),
        **dict.fromkeys(("T10", "T11", "T13"), 1.0216512),
        **{"T04": 1.7094379, "T05": 1 / 3, "T06": 0.4084425, "T08": 0.4319456, "T09": 0.4481507, "T12": 1.2921837},
        **{"T14": 8.0, "T15": 1.0549202, "T16": 0.0, "T17": 0.6273911, "T18": 0.3368308},
    }
    assert {name: task.mi for name, task in TASKS.items()} == pytest.approx(answers, abs=5e-8)


@pytest.mark.parametrize("name", ALL)
def test_samples_have_their_shape_and_come_from_their_seed(name):
    task = ALL[name]
    x, y = task.sample(40, 3)
    assert (x.shape, y.shape) == ((40, task.dim_x), (40, task.dim_y))
    assert x.dtype == y.dtype == np.float64
    assert all(np.array_equal(a, b) for a, b in zip(task.sample(40, 3), (x, y), strict=True))
    assert not np.array_equal(task.sample(40, 4)[0], x)


def test_two_cauchy_columns_that_are_not_correlated_have_a_closed_form():
    assert EXTRA_TASKS["student-1-1"].mi == pytest.approx(math.log(8 * math.pi) - 3, abs=1e-12)
    dice = np.random.default_rng(0)
    x, y = dice.standard_normal((2, 20, 3))
    joint = stats.multivariate_t.logpdf(np.concatenate([x, y], axis=1), np.zeros(6), np.eye(6), 3)
    apart = sum(stats.multivariate_t.logpdf(side, np.zeros(3), np.eye(3), 3) for side in (x, y))
    assert EXTRA_TASKS["student-3-3"].log_ratio(x, y) == pytest.approx(joint - apart)


def test_channels_with_normal_noise_by_quadrature():
    for mu, name in ((0.5, "coin-0.5"), (1, "T18"), (2, "coin-2")):
        value = entropy(lambda y, m=mu: (phi(y - m) + phi(y + m)) / 2, -14, 14) - NOISE
        assert value == pytest.approx(ALL[name].mi, abs=1e-8)
    sums = [a + b - c for a in range(3) for b in range(3) for c in range(3)]
    value = entropy(lambda y: np.mean([phi(y - s) for s in sums], axis=0), -14, 16) - NOISE
    assert value == pytest.approx(EXTRA_TASKS["sums"].mi, abs=1e-8)
    value = entropy(lambda y: np.mean([phi(y - 2 * s) for s in range(3)], axis=0), -14, 18) - NOISE
    assert value - 0.5 * math.log(1 - 0.64) == pytest.approx(EXTRA_TASKS["label-beside"].mi, abs=1e-8)
    value = (
        entropy(lambda y: np.mean([2 * phi(2 * (y - s)) for s in range(1, 5)], axis=0), -8, 13) - NOISE + math.log(2)
    )
    assert value - 0.5 * math.log(1 - 0.64) == pytest.approx(EXTRA_TASKS["clustered"].mi, abs=1e-8)


def test_functions_with_noise_by_quadrature():
    t = np.linspace(0, 9, 2001)
    y = np.linspace(-3, 11, 2001)
    p = integrate.simpson(stats.chi.pdf(t, 4) * phi((y[:, None] - t) / 0.3) / 0.3, x=t, axis=1)
    value = -integrate.simpson(special.xlogy(p, p), x=y) - NOISE - math.log(0.3)
    assert value == pytest.approx(EXTRA_TASKS["norm"].mi, abs=1e-6)
    y = np.linspace(-4, 75, 6001)
    p = integrate.simpson(2 * phi(t) * phi((y[:, None] - t**2) / 0.5) / 0.5, x=t, axis=1)
    value = -integrate.simpson(special.xlogy(p, p), x=y) - NOISE - math.log(0.5)
    assert value == pytest.approx(EXTRA_TASKS["parabola-20"].mi, abs=1e-6)
    t, y = np.linspace(-9, 9, 3001), np.linspace(-4, 4, 2001)
    p = integrate.simpson(phi(t) * phi((y[:, None] - np.sin(2 * t)) / 0.3) / 0.3, x=t, axis=1)
    value = -integrate.simpson(special.xlogy(p, p), x=y) - NOISE - math.log(0.3)
    assert 10 * value == pytest.approx(EXTRA_TASKS["sines-10"].mi, abs=1e-6)


def test_shells_by_quadrature():
    for d, name in ((3, "concentric-3"), (5, "T17"), (25, "concentric-25")):
        scales = np.arange(1, 6)
        r = np.linspace(1e-6, 5 * (math.sqrt(d) + 9), 40_001)
        logs = np.stack([stats.chi.logpdf(r / s, d) - math.log(s) for s in scales])
        mixture = special.logsumexp(logs, axis=0) - math.log(5)
        value = np.mean([integrate.simpson(np.exp(log) * (log - mixture), x=r) for log in logs])
        assert value == pytest.approx(ALL[name].mi, abs=1e-7)


def test_zero_inflated_poisson_is_below_what_the_literature_says():
    x = np.linspace(1e-9, 60, 20_001)

    def value(p):
        total = 0.0
        for y in range(100):
            given = (1 - p) * stats.poisson.pmf(y, x) + p * (y == 0)
            whole = (1 - p) * 2.0 ** -(y + 1) + p * (y == 0)
            total += integrate.simpson(np.exp(-x) * special.xlogy(given, given / whole), x=x)
        return total

    assert value(0.0) == pytest.approx(EXTRA_TASKS["poisson"].mi, abs=1e-6)
    assert value(0.15) == pytest.approx(EXTRA_TASKS["poisson-inflated"].mi, abs=1e-6)
    assert value(0.15) < 0.85 * value(0.0) - 0.02


def test_products_with_noise_by_quadrature():
    # The product of two standard normal variables has the density K0(|y|) / pi.
    def term(y):
        p = special.k0(y) / math.pi
        return -p * math.log(p)

    h = 2 * (integrate.quad(term, 0, 1e-3)[0] + integrate.quad(term, 1e-3, 60, limit=200)[0])
    value = h - NOISE + (np.euler_gamma + math.log(2)) / 2
    assert value == pytest.approx(EXTRA_TASKS["scaled"].mi, abs=1e-6)


def rho_terms(a, b, rho=0.8):
    log = -0.5 * math.log(1 - rho**2) - (rho**2 * (a * a + b * b) - 2 * rho * a * b) / (2 * (1 - rho**2))
    return phi(a) * phi(b) * np.exp(log) * log


def test_rectified_columns_by_quadrature():
    y = np.linspace(0, 9, 1201)
    whole = np.linspace(-9, 9, 2401)

    def below(z):  # the other one is below 0
        return special.ndtr(-0.8 * z / 0.6)

    zero = integrate.simpson(phi(whole) * special.xlogy(below(whole), 2 * below(whole)), x=whole)
    rest = integrate.simpson(integrate.simpson(rho_terms(whole[:, None], y), x=y), x=whole)
    assert zero + rest == pytest.approx(EXTRA_TASKS["rectified"].mi, abs=1e-6)
    both = 0.25 + math.asin(0.8) / (2 * math.pi)
    one = integrate.simpson(phi(y) * special.xlogy(below(y), 2 * below(y)), x=y)
    rest = integrate.simpson(integrate.simpson(rho_terms(y[:, None], y), x=y), x=y)
    assert 3 * (both * math.log(4 * both) + 2 * one + rest) == pytest.approx(EXTRA_TASKS["rectified-3"].mi, abs=1e-6)


def test_rounded_columns_by_sums():
    step, rho = 0.05, 0.75
    edges = np.arange(-8, 8 + step / 2, step) - step / 2
    nodes, weights = np.polynomial.legendre.leggauss(4)
    p = 0
    for node, weight in zip(nodes, weights, strict=True):
        x = (edges[:-1] + edges[1:] + node * step) / 2
        reach = special.ndtr((edges - rho * x[:, None]) / math.sqrt(1 - rho**2))
        p = p + (weight / 2 * step * phi(x))[:, None] * np.diff(reach, axis=1)
    value = (
        special.xlogy(p, p).sum() - special.xlogy(p.sum(0), p.sum(0)).sum() - special.xlogy(p.sum(1), p.sum(1)).sum()
    )
    assert value == pytest.approx(EXTRA_TASKS["rounded"].mi, abs=1e-6)


def test_maps_lose_nothing():
    z = np.sort(np.random.default_rng(0).standard_normal((500, 1)), axis=0)
    for rising in (bimodal(0.3, 0, 5), half_cube, uniform):
        assert (np.diff(rising(z)[:, 0]) > 0).all()
    x = np.random.default_rng(1).standard_normal((100, 3))
    turned = spiral(0, 1, 1 / 3)(x)
    assert spiral(0, 1, -1 / 3)(turned) == pytest.approx(x)
    assert np.hypot(*swiss_roll(z).T) * 21 == pytest.approx(1.5 * math.pi * (1 + 2 * uniform(z)[:, 0]))
    mapped = bimodal(0.3, 0, 5)(np.random.default_rng(2).standard_normal(20_000))
    expected = stats.norm.cdf(2.5)
    assert np.mean(mapped < 2.5) == pytest.approx(0.3 * expected + 0.7 * (1 - expected), abs=0.015)


def test_evaluate():
    found = evaluate(gaussian, n=400, tasks={k: TASKS[k] for k in ("T01", "T06")}, seeds=range(4)).set_index("task")
    values = [gaussian(*TASKS["T01"].sample(400, s)).value for s in range(4)]
    row = found.loc["T01"]
    assert row["mean"] == pytest.approx(np.mean(values))
    assert row["sd"] == pytest.approx(np.std(values, ddof=1))
    assert row["bias"] == pytest.approx(np.mean(values) - TASKS["T01"].mi)
    assert row["rmse"] == pytest.approx(math.sqrt(np.mean((np.array(values) - TASKS["T01"].mi) ** 2)))
    assert (row["runs"], row["n"], row["error"]) == (4, 400, "")
    assert row["seconds"] > 0
    assert row["passed"] == (abs(row["bias"]) <= 0.05)
    assert not found.loc["T06", "passed"]


def test_a_run_that_raises_or_gives_no_number_has_failed():
    def broken(x, y):
        raise ValueError("too hard")

    one = {"T16": TASKS["T16"]}
    for estimator, error in ((broken, "ValueError: too hard"), (lambda x, y: math.nan, "gave nan")):
        row = evaluate(estimator, one, n=50, seeds=[0, 1]).iloc[0]
        assert row["error"] == error
        assert not row["passed"]
        assert math.isnan(row["mean"])
    assert evaluate(lambda x, y: 0.0, one, n=50, seeds=[0]).iloc[0]["passed"]


def test_memory_is_what_a_run_adds():
    held = []

    def hungry(x, y):
        held.append(np.ones(6_000_000))
        return 0.0

    row = evaluate(hungry, {"T16": TASKS["T16"]}, n=50, seeds=[0]).iloc[0]
    assert math.isnan(row["memory"]) or row["memory"] == pytest.approx(46, abs=15)


def test_an_estimator_that_is_right_passes_and_one_in_bits_does_not():
    one = {"T05": TASKS["T05"]}
    assert evaluate(ksg, one, n=2000, seeds=range(2)).iloc[0]["passed"]
    assert not evaluate(lambda x, y: ksg(x, y).bits, one, n=2000, seeds=range(2)).iloc[0]["passed"]


def test_laws_know_their_closed_forms():
    assert pairs([0.5, 0.8], 3, 4).mi == pytest.approx(-0.5 * (math.log(0.75) + math.log(0.36)))
    closed = {"dense-2": 0.2938933, "dense-50": 1.6242654, "student-2-2": 0.1931472, "student-3-5": 0.2985436}
    assert {k: EXTRA_TASKS[k].mi for k in closed} == pytest.approx(closed, abs=5e-8)
    assert EXTRA_TASKS["rho-0.9999"].mi == pytest.approx(4.2586216, abs=5e-8)
    assert EXTRA_TASKS["flipped-0.1"].mi == pytest.approx(0.3680642, abs=5e-8)
    for i in (2, 4, 6, 8, 10):
        assert EXTRA_TASKS[f"staircase-{i}-cubed"].mi == pytest.approx(i)
