"""The information plane: known layers, the exact 12-bit task, hooks, and what the records admit."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from narrows.core.errors import DataError, ModelError
from narrows.data import icosahedron_task
from narrows.information import (
    AdaptiveBins,
    FixedBins,
    InformationPlane,
    KernelNoise,
    compression,
    layer_information,
)

BITS = 1 / math.log(2)
TANH = FixedBins(30, (-1, 1))


def test_four_levels():
    level = np.tile([-0.9, -0.4, 0.1, 0.6], 25)[:, None]
    parity = np.tile([0, 1, 0, 1], 25)
    found = layer_information(level, parity, FixedBins(4, (-1, 1)))
    assert found.i_xt * BITS == pytest.approx(2, abs=1e-12)
    assert found.i_ty * BITS == pytest.approx(1, abs=1e-12)
    assert found.states == 4
    assert found.extreme == 0.5
    still = layer_information(np.ones((100, 3)), parity, FixedBins(4, (-1, 1)))
    assert (still.i_xt, still.i_ty) == pytest.approx((0, 0), abs=1e-12)


def test_the_input_itself_as_a_layer():
    x, y = icosahedron_task()
    for bins in (FixedBins(30, (-1, 1)), FixedBins(2), AdaptiveBins(), FixedBins(width=0.07)):
        found = layer_information(x, y, bins)
        assert found.i_xt * BITS == pytest.approx(12, abs=1e-12)
        assert found.i_ty * BITS == pytest.approx(0.9991571209, abs=1e-9)
        assert found.ceiling == found.i_xt
        assert found.saturated
        assert any(c.trouble == "deterministic" for c in found.cautions)


def test_the_order_of_units_and_a_fixed_bin_for_plus_one():
    t = np.tanh(3 * np.random.default_rng(0).standard_normal((500, 4)))
    t[0] = 1.0
    y = np.arange(500) % 2
    found = layer_information(t, y, TANH)
    assert layer_information(t[:, [2, 0, 3, 1]], y, TANH) == found
    assert 0 <= found.i_ty <= math.log(2) + 1e-12
    assert found.i_xt <= found.ceiling + 1e-12


def test_several_noisy_passes_of_the_same_inputs():
    dice = np.random.default_rng(0)
    clean = np.tanh(dice.standard_normal((200, 2)))
    passes = [clean + 0.2 * dice.standard_normal(clean.shape) for _ in range(6)]
    y, bins, ids = np.arange(200) % 2, FixedBins(8, (-1, 1)), np.tile(np.arange(200), 6)
    stacked = layer_information(np.concatenate(passes), np.tile(y, 6), bins, ids)
    single = [layer_information(t, y, bins).i_xt for t in passes]
    assert stacked.i_xt < np.mean(single) - 0.1
    assert not any(c.trouble == "deterministic" for c in stacked.cautions)
    assert stacked.ceiling == pytest.approx(math.log(200), abs=1e-12)
    still = layer_information(np.tile(clean, (6, 1)), np.tile(y, 6), bins, ids)
    assert still.i_xt == pytest.approx(layer_information(clean, y, bins).i_xt, abs=1e-12)
    with pytest.raises(DataError, match="inputs repeat"):
        layer_information(np.concatenate(passes), np.tile(y, 6), KernelNoise(), ids)


@pytest.mark.parametrize(("states", "labels", "low", "high"), [(16, 3, 0.8, 1.25), (1100, 2, 0.0, 0.85)])
def test_shuffled_labels_show_the_bias_that_is_reported(states, labels, low, high):
    dice = np.random.default_rng(0)
    t = dice.integers(0, states, 2000).astype(float)[:, None]
    t[:states, 0] = np.arange(states)
    found = [layer_information(t, dice.integers(0, labels, 2000), AdaptiveBins(2000)) for _ in range(40)]
    ratio = found[0].i_ty_bias / np.mean([f.i_ty for f in found])
    assert found[0].states == states
    assert low < ratio < high
    assert any(c.trouble == "few samples" for c in found[0].cautions) == (states > 200)


def test_wide_layers_are_saturated():
    t = np.random.default_rng(0).standard_normal((500, 40))
    found = layer_information(t, np.arange(500) % 2, AdaptiveBins())
    assert found.i_xt == pytest.approx(math.log(500), abs=1e-9)
    assert found.saturated
    assert not layer_information(t[:, :1], np.arange(500) % 2, AdaptiveBins()).saturated


def test_noise_for_the_analysis():
    t = np.random.default_rng(0).standard_normal((400, 2))
    found = layer_information(t, t[:, 0] > 0, KernelNoise("std", 0.1))
    assert 0 < found.i_xt_lower < found.i_xt < found.ceiling
    assert found.states is None
    assert "variance" in found.setting
    assert layer_information(t, t[:, 0] > 0, KernelNoise("fixed", 1e-6)).saturated


def test_compression_is_the_fall_from_the_peak():
    assert compression([1, 4, 3]) == 0.25
    assert compression([1, 2, 3]) == 0
    assert compression([0, 0]) == 0


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 3), nn.Tanh())


def test_recording_leaves_the_model_as_it_was():
    x, y = icosahedron_task()
    with torch.random.fork_rng():
        model = network()
        model[2].eval()
        inputs = torch.tensor(x[:512], dtype=torch.float32)
        plane = InformationPlane(model, ["1", "4"], inputs, y[:512], {"bins": TANH, "noise": KernelNoise()})
        before = torch.get_rng_state()
        plane.record(0)
        plane.record(7)
        assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert not model[2].training
    assert not any(module._forward_hooks for module in model.modules())
    table = plane.to_dataframe()
    assert len(table) == 8
    assert set(table["epoch"]) == {0, 7}
    first = table.iloc[0]
    with torch.no_grad():
        t = torch.tanh(model[0](inputs))
    assert first["i_xt"] == layer_information(t, y[:512], TANH).i_xt
    assert table["i_xt_ceiling"].tolist() == pytest.approx([math.log(512)] * 8)
    assert plane.violations() == []


def test_layers_that_seem_to_know_more_than_earlier_ones_are_listed():
    x, y = icosahedron_task()
    model = nn.Sequential(nn.Linear(12, 1), nn.Identity(), nn.Linear(1, 1))
    with torch.no_grad():
        model[0].weight[:] = torch.arange(12) / 1000
        model[2].weight[:] = 1000
        model[0].bias[:] = model[2].bias[:] = 0
    plane = InformationPlane(model, ["0", "2"], torch.tensor(x).float(), y, {"bins": FixedBins(width=0.07)})
    plane.record(3)
    assert plane.violations() == [(3, "bins", "0", "2")]


def test_bad_input():
    x, y = icosahedron_task()
    model, inputs = network(), torch.tensor(x).float()
    with pytest.raises(ModelError, match="no module is called 'head'"):
        InformationPlane(model, ["head"], inputs, y, {"bins": TANH}).record(0)
    with torch.no_grad():
        model[3].weight[0, 0] = torch.nan
    with pytest.raises(DataError, match=r"layer '4' at epoch 2: t has NaN"):
        InformationPlane(model, ["1", "4"], inputs, y, {"bins": TANH}).record(2)

    for bad in ((x, y[:-1]), (x[:1], y[:1])):
        with pytest.raises(DataError):
            layer_information(*bad, TANH)
    with pytest.raises(DataError, match="inputs has 5"):
        layer_information(x, y, TANH, np.arange(5))
