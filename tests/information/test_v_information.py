"""Predictive V-information: closed forms, what computation changes, a bound that holds, honest errors."""

import math

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from narrows.core.errors import DataError
from narrows.information import mutual_information, v_information
from narrows.information.inputs import is_label


def correlated(n, rho, d=1, seed=0):
    dice = np.random.default_rng(seed)
    x = dice.standard_normal((n, d))
    return x, rho * x + math.sqrt(1 - rho**2) * dice.standard_normal((n, d))


def channel(n, mu=1.0, seed=0):
    dice = np.random.default_rng(seed)
    label = dice.integers(0, 2, n)
    return mu * (2 * label - 1) + dice.standard_normal(n), label


def bits(n, seed=0):
    return np.random.default_rng(seed).choice([-1.0, 1.0], (n, 2))


@pytest.mark.parametrize(("rho", "d"), [(0.6, 1), (0.8, 3)])
def test_linear_predictors_read_all_that_gaussians_share(rho, d):
    found = v_information(*correlated(8000, rho, d))
    assert abs(found.value + 0.5 * d * math.log(1 - rho**2)) < 4 * found.standard_error
    assert found.kind == ("lower" if d == 1 else "point")
    assert found.has("assumption") == (d > 1)


def test_a_logistic_law_is_read_in_full():
    found = v_information(*channel(8000))
    assert abs(found.value - 0.3368308) < 4 * found.standard_error
    assert found.kind == "lower"
    assert found.details["entropy"] == pytest.approx(math.log(2), abs=1e-3)
    assert found.details["entropy"] - found.details["conditional entropy"] == pytest.approx(found.value)


def test_computation_raises_it():
    x = bits(1000)
    product = x.prod(axis=1)
    label = (product > 0).astype(int)
    blind = v_information(x, label)
    assert abs(blind.value) < 0.02
    assert v_information(np.column_stack([x, product]), label).value > 0.95 * math.log(2)
    assert v_information(x, label, "boosting").value > 0.95 * math.log(2)


def test_a_richer_family_reads_more_of_a_curve():
    x, noise = correlated(800, 0.0)
    y = x**2 + 0.3 * noise
    linear, boosting = v_information(x, y), v_information(x, y, "boosting")
    assert abs(linear.value) < 0.03
    assert boosting.value > 0.6
    own = v_information(np.column_stack([x, x**2]), y, LinearRegression())
    assert own.value > linear.value + 0.4


def test_the_sides_are_not_alike():
    x, noise = correlated(2000, 0.0)
    y = x**2 + 0.1 * noise
    # y says nothing linear about the sign of x; |x| nearly fixes y.
    assert v_information(np.abs(x), y).value > v_information(y, x).value + 0.5


def test_nothing_shared_is_nothing_read():
    dice = np.random.default_rng(0)
    for family in ("linear", DecisionTreeClassifier(random_state=0)):
        assert abs(v_information(dice.standard_normal((200, 3)), dice.integers(0, 3, 200), family).value) < 0.06
    values = [v_information(*(s[:, :1] for s in correlated(200, 0.0, 20, s))).value for s in range(20)]
    assert np.mean(values) < 0.0 + 2 * np.std(values) / math.sqrt(20)


def test_many_columns_are_scored_on_rows_they_were_not_fitted_to():
    dice = np.random.default_rng(0)
    x, y = dice.standard_normal((200, 100)), dice.standard_normal(200)
    # In the sample, 100 columns explain half of the variance of anything: 0.35 nats.
    assert abs(v_information(x, y, LinearRegression()).value) < 0.1
    assert abs(v_information(x, (y > 0).astype(int)).value) < 0.1


def laws(n=1000):
    dice = np.random.default_rng(1)
    x, y = correlated(n, 0.8)
    yield "cubed", (x, y**3), -0.5 * math.log(1 - 0.64)
    yield "curved x", (np.exp(x), y), -0.5 * math.log(1 - 0.64)
    u = dice.random(n)
    yield "uniform noise", (u, u + dice.uniform(-0.1, 0.1, n)), 1.7094379
    whole = dice.integers(0, 5, n)
    yield "from a label", (whole, whole + dice.uniform(0, 2, n)), 1.0549202
    yield "to a label", (whole + dice.uniform(0, 2, n), whole), 1.0549202
    flip = dice.random(n) < 0.1
    bit = dice.integers(0, 2, n)
    yield "binary channel", (bit, bit ^ flip), 0.3680642


@pytest.mark.parametrize(("name", "sides", "truth"), list(laws()), ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("family", ["linear", "tree"])
def test_it_stays_below_mutual_information(name, sides, truth, family):
    if family == "tree":
        family = DecisionTreeClassifier(random_state=0) if is_label(sides[1]) else DecisionTreeRegressor(random_state=0)
    found = v_information(*sides, family)
    assert found.kind == "lower"
    assert 0.1 * truth < found.value < truth + 2 * found.standard_error


def test_labels_that_are_fully_known_give_their_entropy_and_no_more():
    label = np.repeat([0, 1, 2, 2], 100)
    found = v_information(label, label)
    entropy = -(0.5 * math.log(0.5) + 0.5 * math.log(0.25))
    assert entropy - 0.03 < found.value <= entropy
    assert v_information(label.astype(str), label.astype(str)).value == pytest.approx(found.value, abs=1e-9)


def test_monotone_maps_of_y_and_affine_maps_of_x_change_nothing():
    x, y = correlated(300, 0.7)
    value = v_information(x, y).value
    assert v_information(x, np.exp(3 * y)).value == pytest.approx(value, abs=1e-12)
    assert v_information(5 - 100 * x, y).value == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(
    ("sides", "family"),
    [(lambda s: correlated(300, 0.7, seed=s), "linear"), (lambda s: channel(300, seed=s), GaussianNB())],
    ids=["real", "label"],
)
def test_the_standard_error_is_that_of_repeated_samples(sides, family):
    runs = [v_information(*sides(s), family) for s in range(40)]
    assert np.mean([r.standard_error for r in runs]) == pytest.approx(np.std([r.value for r in runs]), rel=0.35)


def test_other_folds_and_classifiers():
    x, label = channel(1000)
    value = v_information(x, label).value
    for other in (v_information(x, label, folds=10), v_information(x, label, GaussianNB())):
        assert other.value == pytest.approx(value, abs=0.02)
    # A tree that is certain of everything is wrong with probability 0 for some rows; ignorance is part of the family.
    assert v_information(x, label, DecisionTreeClassifier(random_state=0)).value > -0.05


def test_a_repeated_value_is_named_and_no_bound():
    x, label = channel(500)
    found = v_information(x, label.astype(float))
    assert found.has("ties")
    assert found.kind == "point"


def test_rare_classes_are_named():
    x, label = channel(300)
    label[:3] = 7
    found = v_information(x, label)
    assert found.has("few samples")
    alone = np.zeros(300, dtype=int)
    alone[5] = 1
    assert abs(v_information(x, alone).value) < 0.05


def test_what_cannot_be_answered_is_refused():
    x, y = correlated(200, 0.5)
    with pytest.raises(DataError, match="at least 40"):
        v_information(x[:39], y[:39])
    with pytest.raises(DataError, match="at least 300"):
        v_information(x, np.random.default_rng(0).standard_normal((200, 30)))
    with pytest.raises(DataError, match="one value only"):
        v_information(x, np.zeros(200, dtype=int))
    with pytest.raises(DataError, match="never changes"):
        v_information(x, np.zeros(200))
    with pytest.raises(DataError, match="repeat each other"):
        v_information(x, np.column_stack([y, np.exp(y)]))
    for family in ("cubic", LinearRegression()):
        with pytest.raises(DataError, match="the family is one of linear, boosting"):
            v_information(x, (y[:, 0] > 0), family)
    with pytest.raises(DataError, match="2 to 20 folds"):
        v_information(x, y, folds=21)


def test_the_door_knows_it():
    assert mutual_information(*channel(200), "v_information", family="linear").method == "v_information"
