"""KSG and its relatives: hand cases, brute force, closed forms, invariances."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma

from narrows.core.errors import DataError
from narrows.information import EXTRA_TASKS, TASKS, ksg, ksg_extrapolated, mixed_ksg, neighbours
from narrows.information.inputs import centred_ranks, normal_scores, scores_of_ranks, telling, untied_ranks
from narrows.information.neighbours import TREE, kth_distances, nearer, neighbour_counts


def correlated(n, rho, d=1, seed=0):
    dice = np.random.default_rng(seed)
    x = dice.standard_normal((n, d))
    return x, rho * x + math.sqrt(1 - rho**2) * dice.standard_normal((n, d))


def brute(x, y, k):
    dx = np.abs(x[:, None] - x[None]).max(-1)
    dy = np.abs(y[:, None] - y[None]).max(-1)
    joint = np.maximum(dx, dy)
    np.fill_diagonal(joint, np.inf)
    eps = np.sort(joint, axis=1)[:, k - 1]
    return eps, (dx < eps[:, None]).sum(1) - (eps > 0), (dy < eps[:, None]).sum(1) - (eps > 0)


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.booleans())
@settings(max_examples=60, deadline=None)
def test_counts_are_those_of_brute_force(seed, dx, dy, k, coarse):
    dice = np.random.default_rng(seed)
    x, y = dice.standard_normal((30, dx)), dice.standard_normal((30, dy))
    if coarse:  # many equal distances
        x, y = x.round(1), y.round(1)
    eps, in_x, in_y = neighbour_counts(x, y, [k])
    for found, true in zip((eps, in_x, in_y), brute(x, y, k), strict=True):
        assert np.array_equal(found[:, 0], true)


def test_both_ways_of_finding_neighbours_agree():
    dice = np.random.default_rng(0)
    x = dice.standard_normal((200, TREE - 1))
    wide = np.concatenate([x, np.zeros((200, 2))], axis=1)  # the same distances, by all distances
    assert np.array_equal(kth_distances(x, [1, 3]), kth_distances(wide, [1, 3]))


def test_nobody_is_strictly_nearer_than_nothing():
    x = np.array([[0.0], [0.0], [1.0]])
    assert nearer(x, np.zeros((3, 1))).tolist() == [[0], [0], [0]]
    assert nearer(np.repeat(x, 2, axis=1), np.zeros((3, 1))).tolist() == [[0], [0], [0]]


def test_the_hand_case():
    x, y = np.array([0.0, 1, 3, 7]), np.array([0.0, 2, 1, 5])
    eps, in_x, in_y = neighbour_counts(x[:, None], y[:, None], [1])
    assert eps[:, 0].tolist() == [2, 2, 2, 4]
    assert (in_x[:, 0].tolist(), in_y[:, 0].tolist()) == ([1, 1, 0, 0], [1, 1, 2, 1])
    assert ksg(x, y, 1, standardise=False).value == pytest.approx(5 / 24, abs=1e-12)


@pytest.mark.parametrize("variant", [1, 2])
def test_ksg_on_a_gaussian(variant):
    x, y = correlated(5000, 0.75)
    found = ksg(x, y, variant=variant)
    assert 0.38 <= found.value <= 0.43
    assert found.cautions == ()
    assert abs(found.value - 0.4133393) < 4 * found.standard_error


def test_variant_2_by_brute_force():
    x, y = correlated(40, 0.5)
    k, n = 3, 40
    total = 0.0
    for i in range(n):
        dx, dy = np.abs(x - x[i])[:, 0], np.abs(y - y[i])[:, 0]
        near = [j for j in np.argsort(np.maximum(dx, dy)) if j != i][:k]
        total += digamma(sum(dx <= dx[near].max()) - 1) + digamma(sum(dy <= dy[near].max()) - 1)
    expected = digamma(k) - 1 / k + digamma(n) - total / n
    assert ksg(x, y, k, variant=2, standardise=False).value == pytest.approx(expected, abs=1e-12)


def test_the_standard_error_is_that_of_repeated_samples():
    runs = [ksg(*correlated(500, 0.6, seed=s)) for s in range(60)]
    assert np.mean([r.standard_error for r in runs]) == pytest.approx(np.std([r.value for r in runs]), rel=0.35)


def test_scale_and_shift_do_not_matter():
    x, y = correlated(400, 0.6)
    assert ksg(1000 * x - 5, 0.001 * y).value == pytest.approx(ksg(x, y).value, abs=1e-9)


def test_extrapolation_is_blind_to_monotone_maps_and_better_than_one_k():
    x, y = correlated(2000, 0.75)
    value = ksg_extrapolated(x, y).value
    assert ksg_extrapolated(np.exp(3 * x), y**3).value == pytest.approx(value, abs=1e-12)
    truth = -1.5 * math.log(1 - 0.64)
    runs = [correlated(1000, 0.8, d=3, seed=s) for s in range(8)]
    bias = [np.mean([f(*sides).value for sides in runs]) - truth for f in (ksg_extrapolated, ksg)]
    assert abs(bias[0]) < 0.7 * abs(bias[1])


def test_extrapolation_is_the_weighted_line_at_zero():
    x, y = correlated(300, 0.5)
    found = ksg_extrapolated(x, y, ks=(1, 2, 5))
    ks = np.array(found.details["k"])
    slope_and_intercept = np.polyfit((ks / 300) ** (2 / 2), found.details["values"], 1, w=np.sqrt(ks))
    assert found.value == pytest.approx(slope_and_intercept[1], abs=1e-10)


@pytest.mark.parametrize("function", [ksg, ksg_extrapolated, mixed_ksg])
def test_shuffled_rows_share_nothing(function):
    x, y = correlated(600, 0.9, d=2)
    dice = np.random.default_rng(0)
    values = [function(x, dice.permutation(y)).value for _ in range(20)]
    assert abs(np.mean(values)) < np.std(values)


def test_mixed_ksg_on_discrete_and_mixed_laws():
    dice = np.random.default_rng(0)
    x = dice.integers(0, 4, 2000)
    assert mixed_ksg(x, x).value == pytest.approx(math.log(4), abs=0.003)
    assert mixed_ksg(x.astype(float), x.astype(float)).value == pytest.approx(math.log(4), abs=0.003)
    assert abs(mixed_ksg(x, dice.integers(0, 3, 2000)).value) < 0.01
    values = []
    for seed in range(3):
        dice = np.random.default_rng(seed)
        x = dice.integers(0, 5, 3000)
        values.append(mixed_ksg(x.astype(float), x + dice.uniform(0, 2, 3000)).value)
    assert np.mean(values) == pytest.approx(1.0549202, abs=0.02)


def test_mixed_ksg_is_ksg_on_continuous_data_but_for_its_digamma_arguments():
    x, y = correlated(500, 0.7)
    _, in_x, in_y = neighbour_counts(*(v / v.std() for v in (x, y)), [5])
    expected = digamma(5) + math.log(500) - np.mean(digamma(in_x + 1) + digamma(in_y + 1))
    assert mixed_ksg(x, y).value == pytest.approx(expected, abs=1e-9)


def test_labels_have_no_order():
    dice = np.random.default_rng(0)
    label = dice.integers(0, 5, 500)
    x = label + dice.standard_normal(500)
    value = mixed_ksg(x, label).value
    assert mixed_ksg(x, np.array([3, 0, 4, 1, 2])[label]).value == pytest.approx(value, abs=1e-12)
    assert mixed_ksg(x, np.array(list("caebd"))[label]).value == pytest.approx(value, abs=1e-12)
    assert value < math.log(5)


def test_cautions_where_they_belong():
    dice = np.random.default_rng(0)
    x, y = correlated(100, 0.9999)
    assert ksg(x, y).saturated
    assert ksg(*correlated(500, 0.5, d=10)).has("high dimension")
    assert ksg(dice.standard_cauchy(500), dice.standard_normal(500)).has("heavy tails")
    assert not ksg_extrapolated(dice.standard_cauchy(500), dice.standard_normal(500)).has("heavy tails")
    assert ksg(dice.standard_normal(500).round(1), dice.standard_normal(500)).has("ties")
    x = dice.standard_normal((500, 3))
    x[:, 2] = 0
    assert ksg(x, x[:, 0] + dice.standard_normal(500)).has("constant column")
    x[:, 2] = 2 * x[:, 1] + 1
    assert ksg(x, x[:, 0] + dice.standard_normal(500)).has("duplicate columns")
    assert not ksg(*correlated(500, 0.5, d=2)).cautions


def test_bad_arguments():
    x, y = correlated(20, 0.5)
    for k in (0, 20, 25):
        with pytest.raises(DataError, match="between 1 and n - 1 = 19"):
            ksg(x, y, k)
    with pytest.raises(DataError, match="labels"):
        ksg(x, np.arange(20) % 3)
    with pytest.raises(DataError, match="variants 1 and 2"):
        ksg(x, y, variant=3)
    with pytest.raises(DataError, match="two different"):
        ksg_extrapolated(x, y, ks=[4])


@pytest.mark.parametrize(("dx", "dy", "coarse"), [(4, 4, False), (1, 7, False), (4, 5, True)])
def test_counts_of_bits_are_those_of_brute_force(monkeypatch, dx, dy, coarse):
    monkeypatch.setattr(neighbours, "_CHUNK", 300)
    monkeypatch.setattr(neighbours, "_ROWS", 500)
    dice = np.random.default_rng(0)
    x, y = dice.standard_normal((1400, dx)), dice.standard_normal((1400, dy))
    if coarse:
        x, y = x.round(0), y.round(0)
    for k in (1, 7):
        eps, in_x, in_y = neighbour_counts(x, y, [k, 12])
        for found, true in zip((eps, in_x, in_y), brute(x, y, k), strict=True):
            assert np.array_equal(found[:, 0], true)


def test_the_sides_may_change_places_where_rows_are_tied():
    x, y = correlated(300, 0.7)
    x, y = x.round(1), y.round(1)
    for function in (ksg, ksg_extrapolated):
        assert function(y, x).value == pytest.approx(function(x, y).value, abs=1e-9)


@pytest.mark.parametrize(("step", "said"), [(0.01, True), (0.05, True), (0.2, True), (1.0, False), (1e-4, False)])
def test_rounding_that_makes_mixed_ksg_wrong_is_said(step, said):
    truth = -0.5 * math.log(1 - 0.75**2)
    x, y = (np.round(side / step) * step for side in correlated(2000, 0.75))
    found = mixed_ksg(x, y)
    assert found.has("ties") is said
    assert (found.value > 1.05 * truth) is said


@pytest.mark.parametrize("name", ["T15", "T18", "poisson", "poisson-inflated", "flipped-0.1", "rectified", "T01"])
def test_ties_that_are_meant_are_not_called_rounding(name):
    assert not mixed_ksg(*{**TASKS, **EXTRA_TASKS}[name].sample(2000, 0)).has("ties")


def test_extrapolation_breaks_ties_at_random():
    task = EXTRA_TASKS["rounded"]
    found = [ksg_extrapolated(*task.sample(2000, s)) for s in range(3)]
    assert np.mean([f.value for f in found]) == pytest.approx(task.mi, abs=0.05)
    assert not found[0].has("ties")
    x = np.random.default_rng(0).integers(0, 3, (60, 2)).astype(float)
    a, b = untied_ranks(x, x)
    assert not np.array_equal(a, b)
    for ranks in (a, b):
        assert np.array_equal(np.sort(ranks, axis=0)[:, 0], np.arange(-59, 60, 2))
        assert all((np.diff(x[np.argsort(ranks[:, j]), j]) >= 0).all() for j in range(2))
    free = np.random.default_rng(1).standard_normal((60, 2))
    assert np.array_equal(untied_ranks(free, x)[0], centred_ranks(free))
    assert scores_of_ranks(centred_ranks(free)) == pytest.approx(normal_scores(free), abs=1e-12)


def test_columns_that_tell_nothing_new():
    x = np.random.default_rng(0).standard_normal((50, 1))
    assert telling(np.column_stack([x, np.exp(x), -x, x**2, np.ones(50)])) == [0, 3]
