"""Labels: known channels, the bound, the models against scikit-learn, folds and weights."""

import math

import numpy as np
import pytest

from narrows.core.errors import DataError
from narrows.information import EXTRA_TASKS, TASKS, label
from narrows.information.label import _folds, _gaussians, _weights


def channel(n, d=3, seed=0, classes=3):
    dice = np.random.default_rng(seed)
    names = dice.integers(0, classes, n)
    x = dice.standard_normal((n, d))
    x[:, 0] += 2 * names
    return x, names


def test_a_channel_with_a_known_answer():
    found = label(*channel(2000))
    assert found.value == pytest.approx(0.6191444851, abs=3 * found.standard_error)
    assert found.kind == "lower"


def test_concentric_shells():
    x, y = TASKS["T17"].sample(2000, 0)
    found = label(x, np.rint(y[:, 0]).astype(int))
    assert found.value == pytest.approx(TASKS["T17"].mi, abs=0.05)


def test_it_is_a_bound_on_average():
    task = EXTRA_TASKS["clusters"]
    gaps = []
    for seed in range(3):
        x, y = task.sample(600, seed)
        gaps.append(label(x, y[:, 0].astype(int)).value - task.log_ratio(x, y).mean())
    assert np.mean(gaps) < 0.02
    assert np.mean(gaps) > -0.1


def test_shuffled_labels_share_nothing():
    x, names = channel(300)
    dice = np.random.default_rng(0)
    values = [label(x, dice.permutation(names)).value for _ in range(4)]
    assert abs(np.mean(values)) < 0.02


def test_names_do_not_matter():
    x, names = channel(300)
    value = label(x, names).value
    assert label(x, np.array(["a", "b", "c"])[names]).value == value
    assert label(x, names * 10.0).value == value
    assert label(x * 1000 + 7, names).value == pytest.approx(value, abs=1e-3)


def test_one_label_says_nothing():
    x, _ = channel(100)
    assert label(x, np.zeros(100, dtype=int)).value == pytest.approx(0, abs=1e-6)


def test_rare_labels_are_said_and_survived():
    x, names = channel(300)
    names[:3] = (7, 7, 9)
    found = label(x, names)
    assert found.has("few samples")
    assert math.isfinite(found.value)


def test_gaussians_for_each_class_are_quadratic_discriminant_analysis():
    from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

    x, names = channel(400)
    expected = QuadraticDiscriminantAnalysis(reg_param=1e-3).fit(x[:300], names[:300]).predict_proba(x[300:])
    assert _gaussians(x[:300], names[:300], x[300:], 3) == pytest.approx(expected, abs=0.01)


def test_without_covariances_they_are_naive_bayes():
    from sklearn.naive_bayes import GaussianNB

    x, names = channel(400)
    expected = GaussianNB().fit(x[:300], names[:300]).predict_proba(x[300:])
    assert _gaussians(x[:300], names[:300], x[300:], 3, np.eye(3)) == pytest.approx(expected, abs=0.03)


def test_every_fold_has_its_part_of_each_class():
    names = np.repeat([0, 1, 2], [50, 23, 4])
    fold = _folds(names, 5, 0)
    assert np.ptp(np.bincount(fold)) <= 1
    for c in range(3):
        assert np.ptp(np.bincount(fold[names == c], minlength=5)) <= 1


def test_weights_prefer_the_model_that_is_right():
    dice = np.random.default_rng(0)
    good, bad = dice.uniform(0.7, 0.9, 500), dice.uniform(0.05, 0.3, 500)
    weights = _weights(np.stack([bad, good], axis=1))
    assert weights.sum() == pytest.approx(1)
    assert weights[1] > 0.99


def test_stripes_are_seen_by_trees_alone():
    x = np.random.default_rng(0).uniform(size=(1000, 1))
    y = np.floor(8 * x[:, 0]).astype(int) % 2
    assert label(x, y).value > 0.6
    assert label(x, y, trees=False).value < 0.05


def test_bad_arguments():
    x, names = channel(30)
    with pytest.raises(DataError, match="labels"):
        label(names, names)
    with pytest.raises(DataError, match="two folds"):
        label(x, names, folds=1)
    with pytest.raises(DataError, match="at least 10"):
        label(x[:9], names[:9])
