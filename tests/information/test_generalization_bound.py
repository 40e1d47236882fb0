"""The bound: its factor by hand, how it falls, when it is vacuous; the multiplier of the constraint."""

import math

import numpy as np
import pytest
import torch

from narrows.core.errors import DataError
from narrows.information import MIConstraint, encoder_mi, generalization_bound, loss_factor, parameter_bound
from narrows.information.encoder_mi import log_ratios


def grid(classes=3, codes=4, each=5):
    """Labels and codes: every class has `codes` codes, equally often."""
    label = np.repeat(np.arange(classes), codes * each)
    code = np.tile(np.repeat(np.arange(codes), each), classes)
    return label, code


def test_the_factor_of_equal_codes():
    label, code = grid()
    assert loss_factor(np.ones(len(label)), label, code) == pytest.approx(math.sqrt(2 * 3 * 4))
    worst = np.where(label == 1, 1.0, 0.2)
    assert loss_factor(worst, label, code) == pytest.approx(math.sqrt(2 * 3 * 4))


def test_the_factor_of_codes_that_all_differ():
    label, _ = grid()
    losses = np.random.default_rng(0).random(len(label))
    expected = max(math.sqrt(2 * 3 * 20) * losses[label == y].mean() for y in range(3))
    assert loss_factor(losses, label) == pytest.approx(expected)


def test_the_factor_by_the_formula():
    dice = np.random.default_rng(1)
    label, code, losses = dice.integers(0, 2, 50), dice.integers(0, 4, (50, 2)), dice.random(50)
    sums = []
    for y in (0, 1):
        rows = [tuple(c) for c in code[label == y]]
        of = losses[label == y]
        sums.append(0.0)
        for k in set(rows):
            here = np.array([r == k for r in rows])
            sums[-1] += of[here].mean() * math.sqrt(4 * here.mean())
    assert loss_factor(losses, label, code) == pytest.approx(max(sums))
    assert loss_factor(torch.tensor(losses), label.astype(str), code.tolist()) == pytest.approx(max(sums))


def test_the_leading_term():
    label, code = grid()
    found = generalization_bound(1.5, np.ones(60), label, trivial=1.0, parameter_information=0.5, z=code)
    assert found.value == pytest.approx(math.sqrt(24) * math.sqrt(2 / 60))
    assert (found.n, found.n_codes) == (60, 4)
    assert not found.vacuous
    assert [c.trouble for c in found.cautions] == ["assumption"]
    full = generalization_bound(1.5, np.ones(60), label, trivial=1.0, z=code, g1=2.0, g2=3.0)
    assert full.value == pytest.approx(math.sqrt(24 * 4.5 / 60) + 2 / math.sqrt(60))
    assert full.vacuous
    assert not full.cautions


def test_it_falls_with_the_root_of_n_for_codes_that_repeat_only():
    small, large = grid(each=5), grid(each=20)

    def value(label, code):
        return generalization_bound(2.0, np.ones(len(label)), label, trivial=1.0, z=code).value

    assert value(*small) / value(*large) == pytest.approx(2)
    assert value(small[0], None) / value(large[0], None) == pytest.approx(1)
    alone = generalization_bound(2.0, np.ones(60), small[0], trivial=1.0)
    assert alone.vacuous
    assert any(c.trouble == "resolution" for c in alone.cautions)


def test_the_bound_of_the_whole_network():
    assert parameter_bound(8.0, 100, 2.0) == pytest.approx(2 * math.sqrt(0.04))
    assert parameter_bound(8.0, 100, 2.0, g2=10.0) == pytest.approx(2 * math.sqrt(0.09))
    for bad in ((-1.0, 10, 1.0), (1.0, 0, 1.0), (math.inf, 10, 1.0)):
        with pytest.raises(DataError, match="parameter_bound wants"):
            parameter_bound(*bad)


def test_what_makes_no_bound_is_refused():
    label, code = grid()
    ones = np.ones(60)
    with pytest.raises(DataError, match="must bound every loss"):
        generalization_bound(1.0, 2 * ones, label, trivial=1.0)
    with pytest.raises(DataError, match="estimate below 0 counts as 0"):
        generalization_bound(-0.1, ones, label, trivial=1.0)
    with pytest.raises(DataError, match="a loss is -1"):
        loss_factor(-ones, label)
    with pytest.raises(DataError, match="59 labels"):
        loss_factor(ones, label[1:])
    with pytest.raises(DataError, match="10 codes"):
        loss_factor(ones, label, code[:10])
    with pytest.raises(DataError, match="one loss a row"):
        loss_factor(np.ones((60, 2)), label)
    with pytest.raises(DataError, match="NaN or infinity"):
        loss_factor(ones * np.nan, label)


def test_the_multiplier_moves_by_the_excess():
    held = MIConstraint(1.5, 0.01)
    assert float(held(torch.tensor(4.0))) == 0
    held.step(torch.tensor(3.5))
    assert float(held.multiplier) == pytest.approx(-0.01 * 2.0)
    assert float(held(torch.tensor(3.5))) == pytest.approx(-0.02 * -2.0)
    held.step(0.5)
    assert float(held.multiplier) == pytest.approx(-0.02 + 0.01)
    assert "multiplier" in held.state_dict()
    with pytest.raises(DataError, match="is nan"):
        held.step(math.nan)
    with pytest.raises(DataError, match="lr at least 0"):
        MIConstraint(1.0, -1.0)


def test_the_constraint_brings_an_encoder_to_its_target():
    dice = torch.Generator().manual_seed(0)
    x = torch.randn(200, 1, generator=dice, dtype=torch.float64)
    gain = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    held, optimiser = MIConstraint(0.7, 0.05), torch.optim.SGD([gain], 0.2)
    for _ in range(400):
        noise = torch.randn(200, 1, generator=dice, dtype=torch.float64)
        kept = log_ratios(gain * x, torch.ones((), dtype=torch.float64), gain * x + noise).mean()
        # Without a task the multiplier would swing for ever: a weak pull towards much information damps it.
        loss = held(kept) - 0.3 * gain.log()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        held.step(kept.detach())
    found = encoder_mi((gain * x).detach(), 1.0)
    assert abs(found.value - 0.7) < 0.1 + 3 * found.standard_error
