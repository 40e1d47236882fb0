"""Trained critics: known laws, self-consistency, what is reported, cautions."""

import math

import numpy as np
import pytest
import torch

from narrows.core.cite import cite
from narrows.core.errors import DataError, NarrowsError
from narrows.information import SeparableCritic, infonce, mine, mutual_information, nwj, smile
from narrows.information.neural import _cap, _ceiling

METHODS = {"infonce": infonce, "mine": mine, "nwj": nwj, "smile": smile}
every = pytest.mark.parametrize("name", METHODS)


def correlated(n, rho, d=1, seed=0):
    dice = np.random.default_rng(seed)
    x = dice.standard_normal((n, d))
    return x, rho * x + math.sqrt(1 - rho**2) * dice.standard_normal((n, d))


@every
def test_a_normal_law(name):
    found = METHODS[name](*correlated(3000, 0.75))
    assert found.value == pytest.approx(0.4133, abs=0.06)
    assert abs(found.value - 0.4133) < 4 * found.standard_error
    assert not found.cautions
    assert found.kind == ("point" if name == "smile" else "lower")


@every
def test_independent_sides_give_nothing(name):
    found = [METHODS[name](*correlated(600, 0.0, d=5, seed=s)).value for s in range(3)]
    assert abs(np.mean(found)) < 0.03  # the last step would give -1 to -2


def test_what_is_reported_was_not_trained_on():
    # 60 rows of noise in 20 columns: a critic learns them by heart.
    dice = np.random.default_rng(0)
    found = infonce(dice.standard_normal((60, 20)), dice.standard_normal((60, 20)), seed=1)
    assert found.value < 0.2
    assert found.details["steps"] < 2000  # stopped early
    assert found.details["rows held out"] == 30


def test_processing_adds_nothing_and_a_copy_changes_nothing():
    x, y = correlated(2000, 0.8, d=2)
    plain = infonce(x, y).value
    assert infonce(x, np.concatenate([y, y**3], axis=1)).value == pytest.approx(plain, abs=0.08)
    assert infonce(x, y[:, :1]).value < plain


def test_two_copies_give_twice_as_much():
    x, y = correlated(4000, 0.75, seed=3)
    once = infonce(x[:2000], y[:2000]).value
    twice = infonce(np.concatenate([x[:2000], x[2000:]], axis=1), np.concatenate([y[:2000], y[2000:]], axis=1)).value
    assert twice == pytest.approx(2 * once, abs=0.12)


def test_monotone_maps_of_columns_change_nothing():
    x, y = correlated(300, 0.8, d=2)
    assert infonce(np.exp(3 * x), y**3).value == infonce(x, y).value


def test_labels_are_classes():
    dice = np.random.default_rng(0)
    label = dice.integers(0, 3, 600)
    x = np.array([3.0, 1.0, 2.0])[label][:, None] * 20 + dice.standard_normal((600, 1))
    entropy = -sum(p * math.log(p) for p in np.bincount(label) / 600)
    assert infonce(x, label, steps=600).value == pytest.approx(entropy, abs=0.05)
    names = np.array(["a", "b", "c"])[label]
    assert infonce(x, names, steps=40).value == infonce(x, label, steps=40).value


def test_too_much_information_is_flagged():
    found = infonce(*correlated(80, 0.9999))
    assert found.saturated
    assert found.value <= math.log(20)
    assert not infonce(*correlated(400, 0.3), steps=40).saturated


def test_the_ceiling_is_that_of_the_batch_for_infonce_and_of_the_matrix_for_the_others():
    for method in METHODS:
        assert not _ceiling(method, 3.9, 256, 1000)
    assert _ceiling("infonce", 4.6, 256, 1000)
    assert not _ceiling("mine", 4.6, 256, 1000)
    assert _ceiling("mine", 6.0, 256, 1000)
    assert _ceiling("infonce", 2.0, 256, 20)


def test_an_absurd_score_apart_is_cut():
    scores = torch.zeros(50, 50)
    scores.diagonal().fill_(2.0)
    assert _cap([scores]) == pytest.approx(2.0)
    scores.diagonal().fill_(20.0)
    assert _cap([scores]) == pytest.approx(2 * math.log(50), abs=1e-5)


def test_the_seed_decides_everything():
    data = correlated(200, 0.8)
    state = torch.get_rng_state()
    assert infonce(*data, seed=1) == infonce(*data, seed=1)
    assert infonce(*data, seed=1) != infonce(*data, seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    first, second, other = (dict(SeparableCritic(2, 3, seed=s).named_parameters()) for s in (4, 4, 5))
    assert all(torch.equal(first[p], second[p]) for p in first)
    assert not torch.equal(first["x.0.weight"], other["x.0.weight"])


def test_a_critic_scores_all_against_all():
    critic = SeparableCritic(2, 3)
    dice = torch.Generator().manual_seed(0)
    x, y = torch.randn(4, 2, generator=dice), torch.randn(6, 3, generator=dice)
    scores = critic(x, y)
    assert scores.shape == (4, 6)
    assert torch.allclose(scores[1:2, 2:3], critic(x[1:2], y[2:3]), atol=1e-6)


def test_constant_and_repeated_columns_are_named():
    x, y = correlated(100, 0.5, d=2)
    x[:, 1] = 1.0
    assert infonce(x, y, steps=20).has("constant column")
    assert infonce(y, np.repeat(y[:, :1], 2, axis=1), steps=20).has("duplicate columns")


def test_bad_options_are_refused():
    data = correlated(100, 0.5)
    for option in ({"steps": 0}, {"batch": 1}, {"rate": 0.0}, {"rate": math.nan}):
        with pytest.raises(DataError, match="a critic needs"):
            infonce(*data, **option)
    with pytest.raises(DataError, match="at least 20"):
        infonce(*correlated(19, 0.5))
    with pytest.raises(NarrowsError, match="no option 'critic'"):
        mutual_information(*data, "infonce", critic="joint")


@every
def test_every_method_names_its_paper_and_the_limits(name):
    assert "limitations" in cite(METHODS[name]).lower()
