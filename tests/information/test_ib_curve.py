"""The bottleneck curve: closed forms, the 64 classes of the 12-bit task, determined labels, and descent."""

import math
from importlib import import_module

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import xlogy

from narrows.core.cite import references
from narrows.core.errors import DataError
from narrows.data import icosahedron_invariants, icosahedron_noisy_task, icosahedron_task
from narrows.information import IBCurve, ib_curve, squared_ib_curve
from narrows.information.ib_curve import Law, bottleneck_step, squared_step

BITS = 1 / math.log(2)


def h(p):
    return -(xlogy(p, p) + xlogy(1 - p, 1 - p))


def channel(flip):
    return np.array([[1 - flip, flip], [flip, 1 - flip]]) / 2


def random_law(rows, labels, seed=0, spread=0.1):
    dice = np.random.default_rng(seed)
    return dice.dirichlet(np.ones(rows))[:, None] * dice.dirichlet(np.full(labels, spread), size=rows)


def classes(p_one):
    """The joint law of the 64 kinds of pattern and the label."""
    which = np.unique(icosahedron_invariants(icosahedron_noisy_task()[0]), axis=0, return_inverse=True)[1].reshape(-1)
    assert which.max() == 63
    ones = np.bincount(which, p_one) / 4096
    return np.stack([np.bincount(which) / 4096 - ones, ones], axis=1)


def plane(encoder, p_xy):
    """I(X;T) and I(T;Y) from the definition."""

    def information(joint):
        apart = joint.sum(1, keepdims=True) * joint.sum(0)
        seen = joint > 0
        return (joint[seen] * np.log(joint[seen] / apart[seen])).sum()

    return information(encoder * p_xy.sum(1, keepdims=True)), information(encoder.T @ p_xy)


@pytest.mark.parametrize(
    ("beta", "i_xt", "i_ty"),
    [
        (1.5, 0, 0),
        (1.6, 0.12872252, 0.08144605),
        (2, 0.69643269, 0.40723381),
        (3, 0.94895082, 0.51659516),
        (5, 0.99783729, 0.53061596),
    ],
)
def test_the_binary_symmetric_channel(beta, i_xt, i_ty):
    found = ib_curve(channel(0.1), beta)
    assert found.i_xt[0] * BITS == pytest.approx(i_xt, abs=1e-6)
    assert found.i_ty[0] * BITS == pytest.approx(i_ty, abs=1e-6)
    assert found.converged.all()
    assert found.i_xy == pytest.approx(math.log(2) - h(0.1), abs=1e-12)


@pytest.mark.parametrize("flip", [0.02, 0.1, 0.3])
def test_every_symmetric_channel_by_its_formula_and_its_threshold(flip):
    gain = 1 - 2 * flip
    a = np.array([0.05, 0.15, 0.3])  # T sees X through a symmetric channel too
    c = a * (1 - flip) + flip * (1 - a)
    betas = np.log((1 - a) / a) / (gain * np.log((1 - c) / c))
    assert (betas > 1 / gain**2).all()
    found = ib_curve(channel(flip), betas)
    assert found.i_xt == pytest.approx(math.log(2) - h(a), abs=1e-6)
    assert found.i_ty == pytest.approx(math.log(2) - h(c), abs=1e-6)
    below = ib_curve(channel(flip), [0.5, 0.95 / gain**2])
    assert (below.i_xt < 1e-6).all()


def test_the_64_classes_with_noisy_labels():
    wanted = {
        1.01: (0.696875, 0.692394),
        1.1: (0.981821, 0.971007),
        1.5: (0.998397, 0.985017),
        2: (0.999123, 0.985462),
        1000: (1.392605, 0.990000),
    }
    found = ib_curve(classes(icosahedron_noisy_task()[1]), list(wanted))
    for i, (beta, (i_xt, i_ty)) in enumerate(wanted.items()):
        close = 5e-6 if beta == 1.01 else 1e-6
        assert found.i_xt[i] * BITS == pytest.approx(i_xt, abs=close)
        assert found.i_ty[i] * BITS == pytest.approx(i_ty, abs=close)
    assert found.converged.all()
    assert not found.cautions


def test_all_4096_patterns_give_what_their_classes_give():
    _, p_one = icosahedron_noisy_task()
    whole = ib_curve(np.stack([1 - p_one, p_one], axis=1) / 4096, [1.1, 2])
    short = ib_curve(classes(p_one), [1.1, 2])
    assert whole.i_xt == pytest.approx(short.i_xt, abs=1e-6)
    assert whole.i_ty == pytest.approx(short.i_ty, abs=1e-6)
    assert whole.encoders.shape[:2] == (2, 4096)


def test_determined_labels_have_a_line_that_beta_jumps_over():
    joint = classes(icosahedron_task()[1])
    found = ib_curve(joint, [0.5, 0.9, 1.1, 3])
    assert found.i_xt[:2] == pytest.approx(0, abs=1e-6)
    assert found.i_xt[2:] * BITS == pytest.approx(0.9991571209, abs=1e-6)
    assert found.i_ty == pytest.approx(found.i_xt, abs=1e-9)
    assert [c.trouble for c in found.cautions] == ["deterministic"]
    assert found.most([0.1, 0.5, 5]) * BITS == pytest.approx([0.1 * BITS, 0.5 * BITS, 0.9991571209], abs=1e-6)


def test_the_squared_objective_walks_along_that_line():
    joint = classes(icosahedron_task()[1])
    gammas = np.array([0.4, 0.8, 1, 2, 5])
    found = squared_ib_curve(joint, gammas)
    assert found.i_xt == pytest.approx(np.minimum(1 / (2 * gammas), found.i_xy), abs=1e-5)
    assert found.i_ty == pytest.approx(found.i_xt, abs=1e-9)
    assert found.converged.all()
    assert not found.cautions


def test_both_objectives_trace_one_curve():
    joint = random_law(5, 3)
    squared = squared_ib_curve(joint, [0.3, 0.6, 1, 1.5])
    assert (squared.betas > 1).all()
    same = ib_curve(joint, squared.betas)
    assert same.i_xt == pytest.approx(squared.i_xt, abs=1e-4)
    assert same.i_ty == pytest.approx(squared.i_ty, abs=1e-4)


@pytest.mark.parametrize("seed", [0, 1])
def test_no_general_optimiser_gets_lower(seed):
    joint, betas = random_law(3, 3, seed), [1.5, 3.0, 8.0]
    found = ib_curve(joint, betas, seed=seed)
    dice = np.random.default_rng(seed)

    def objective(free, beta):
        encoder = np.exp(free.reshape(3, 3) - np.logaddexp.reduce(free.reshape(3, 3), axis=1, keepdims=True))
        i_xt, i_ty = plane(encoder, joint)
        return i_xt - beta * i_ty

    for beta, i_xt, i_ty in zip(betas, found.i_xt, found.i_ty, strict=True):
        tries = [minimize(objective, 3 * dice.standard_normal(9), (beta,), "BFGS").fun for _ in range(6)]
        assert i_xt - beta * i_ty <= min(tries) + 1e-9


def test_the_encoders_are_what_the_figures_say():
    joint = random_law(6, 3)
    for found in (ib_curve(joint, [20, 1.5, 4]), squared_ib_curve(joint, [0.2, 1])):
        assert found.encoders.sum(axis=2) == pytest.approx(1, abs=1e-12)
        points = np.array([plane(encoder, joint) for encoder in found.encoders]).T
        assert points[0] == pytest.approx(found.i_xt, abs=1e-10)
        assert points[1] == pytest.approx(found.i_ty, abs=1e-10)


def test_bounds_and_the_shape_of_the_curve():
    joint = random_law(8, 3, spread=0.3)
    betas = np.geomspace(0.5, 200, 25)
    found = ib_curve(joint, betas)
    p_y = joint.sum(axis=0)
    assert (found.i_ty <= np.minimum(found.i_xt, -xlogy(p_y, p_y).sum()) + 1e-12).all()
    assert (found.i_ty <= found.i_xy + 1e-12).all()
    assert (np.diff(found.i_xt) > -1e-6).all()
    assert (np.diff(found.i_ty) > -1e-6).all()
    # Points of minima for rising beta are corners of a concave curve: the hull goes through all of them.
    assert found.most(found.i_xt) == pytest.approx(found.i_ty, abs=1e-6)
    x, y = found.hull()
    slopes = np.diff(y) / np.diff(x)
    assert (x[0], y[0]) == (0, 0)
    assert (np.diff(slopes) < 0).all()
    assert found.most(10.0) == y[-1]


def test_a_point_below_the_hull_is_no_corner():
    x, y = np.array([3.0, 1, 2, 4, 0]), np.array([0.9, 0.5, 0.6, 0.9, 0])
    found = IBCurve(x, x, y, np.empty((5, 1, 1)), np.ones(5, dtype=bool), 1.0)
    assert np.array(found.hull()).T.tolist() == [[0, 0], [1, 0.5], [3, 0.9]]
    assert found.most([[0.5, 2], [3, 9]]) == pytest.approx(np.array([[0.25, 0.7], [0.9, 0.9]]), abs=1e-12)


def test_fewer_states_reach_less():
    found = ib_curve(random_law(6, 3), [100, 3, 2], states=2)
    best = ib_curve(random_law(6, 3), np.geomspace(1, 100, 20))
    assert (found.i_ty <= best.most(found.i_xt) + 1e-3).all()
    assert found.encoders.shape == (3, 6, 2)
    assert (found.i_xt <= math.log(2)).all()


@pytest.mark.parametrize("beta", [1.01, 1.1, 2, 1000])
def test_the_objective_never_rises(beta):
    joint = classes(icosahedron_noisy_task()[1])
    law = Law(joint.sum(1), joint / joint.sum(1, keepdims=True))
    encoders = np.random.default_rng(0).dirichlet(np.ones(64), size=(3, 64))
    values = []
    for _ in range(150):
        encoders, value = bottleneck_step(encoders, law, np.full(3, beta))
        values.append(value)
    assert (np.diff(values, axis=0) < 1e-10).all()
    i_xt, i_ty = law.plane(encoders)
    information = xlogy(joint, law.p_y_x).sum() - xlogy(joint.sum(0), joint.sum(0)).sum()
    assert (i_xt + beta * (information - i_ty) <= values[-1] + 1e-10).all()


@pytest.mark.parametrize("gamma", [0.5, 2, 20])
def test_the_squared_objective_never_rises_either(gamma):
    joint = random_law(6, 3)
    law = Law(joint.sum(1), joint / joint.sum(1, keepdims=True))
    encoders = np.random.default_rng(0).dirichlet(np.full(6, 0.1), size=(3, 6))
    values = []
    for _ in range(100):
        encoders, value = squared_step(encoders, law, np.full(3, gamma))
        values.append(value)
    assert (np.diff(values, axis=0) < 1e-14).all()


def test_what_has_not_come_to_rest_is_said(monkeypatch):
    monkeypatch.setattr(import_module("narrows.information.ib_curve"), "STEPS", 30)
    found = ib_curve(channel(0.1), [1.57, 20])  # the first is just above the threshold of 1.5625
    assert found.converged.tolist() == [False, True]


def test_names_do_not_matter():
    joint = random_law(6, 3)
    dice = np.random.default_rng(1)
    rows, labels = dice.permutation(6), dice.permutation(3)
    for curve, weights in ((ib_curve, [2, 5]), (squared_ib_curve, [0.5, 1])):
        found, renamed = curve(joint, weights), curve(joint[rows][:, labels], weights)
        assert renamed.i_xt == pytest.approx(found.i_xt, abs=1e-5)
        assert renamed.i_ty == pytest.approx(found.i_ty, abs=1e-5)
    backward = ib_curve(joint, [5, 2])
    assert backward.i_xt[::-1] == pytest.approx(ib_curve(joint, [2, 5]).i_xt, abs=1e-12)


def test_the_same_seed_gives_the_same_and_another_one_the_same_curve():
    joint = random_law(6, 3)
    first, again, other = (ib_curve(joint, [1.5, 3], seed=seed) for seed in (0, 0, 1))
    assert (first.encoders == again.encoders).all()
    assert other.i_xt == pytest.approx(first.i_xt, abs=1e-5)


def test_inputs_that_are_alike_never_occur_or_say_nothing():
    joint = random_law(4, 3)
    split = np.concatenate([joint[:1] / 4, joint[1:], np.zeros((1, 3)), 3 * joint[:1] / 4])
    found, wanted = ib_curve(split, [2, 6]), ib_curve(joint, [2, 6])
    assert found.i_xt == pytest.approx(wanted.i_xt, abs=1e-6)
    assert (wanted.i_xt > 0.1).all()
    assert found.encoders[:, 0] == pytest.approx(found.encoders[:, 5], abs=1e-9)
    assert found.encoders[:, 4] == pytest.approx(np.einsum("x,bxt->bt", split.sum(1), found.encoders), abs=1e-12)
    apart = np.outer([0.2, 0.3, 0.5], [0.4, 0.6])
    nothing = ib_curve(apart, [0.5, 2, 1e4])
    assert nothing.i_xt == pytest.approx(0, abs=1e-9)
    assert nothing.i_xy == pytest.approx(0, abs=1e-12)
    assert ib_curve(joint, 2, states=1).i_xt == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("rows", [5, 12, 30])
def test_a_huge_beta_keeps_all_that_there_is(rows):
    joint = random_law(rows, 3, spread=0.3)
    p_x = joint.sum(axis=1)
    found = ib_curve(joint, [1e9])
    assert found.converged.all()
    assert found.i_ty[0] == pytest.approx(found.i_xy, abs=1e-9)
    assert found.i_xt[0] == pytest.approx(-xlogy(p_x, p_x).sum(), abs=1e-6)


@pytest.mark.parametrize(
    ("joint", "betas", "options", "text"),
    [
        (channel(0.1) * 1.0001, 2, {}, "sums to 1.0001"),
        (channel(0.1) * (1 + 2e-8), 2, {}, "sums to"),
        (channel(0.1) * 50, 2, {}, "divide counts"),
        ([[0.6, -0.1], [0.2, 0.3]], 2, {}, "negative"),
        ([[np.nan, 0.5], [0.2, 0.3]], 2, {}, "NaN"),
        ([0.5, 0.5], 2, {}, "shape"),
        ([["a", "b"]], 2, {}, "expected real numbers"),
        (channel(0.1), 0, {}, "betas must be positive"),
        (channel(0.1), [2, -1], {}, "betas must be positive"),
        (channel(0.1), [2, np.inf], {}, "infinity"),
        (channel(0.1), [], {}, "betas"),
        (channel(0.1), [[1, 2]], {}, "betas"),
        (channel(0.1), 2, {"states": 0}, "at least 1"),
        (channel(0.1), 2, {"starts": 0}, "at least 1"),
    ],
)
def test_bad_input(joint, betas, options, text):
    with pytest.raises(DataError, match=text):
        ib_curve(joint, betas, **options)
    with pytest.raises(DataError):
        squared_ib_curve(joint, betas, **options)


def test_rounding_in_the_sum_is_forgiven():
    assert ib_curve(channel(0.1) * (1 + 5e-9), 2).i_xt[0] * BITS == pytest.approx(0.69643269, abs=1e-6)


def test_the_papers_are_named():
    assert [r.arxiv for r in references(ib_curve)] == ["physics/0004057", "1808.07593"]
    assert [r.year for r in references(squared_ib_curve)] == [2019]
