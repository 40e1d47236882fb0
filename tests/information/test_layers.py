"""Noise in a network, and the information of its layers."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from narrows.core.errors import DataError, ModelError
from narrows.information import GaussianNoise, lossy, noisy_layer_information


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def test_relative_noise():
    x = torch.rand(10_000, generator=dice(), dtype=torch.float64) + 0.5
    x[:100] = 0
    noise = GaussianNoise(1e-3, generator=dice(1)).eval()
    z = noise(x)
    assert torch.equal(z[:100], x[:100])
    ratio = (z[100:] - x[100:]) / x[100:]
    assert ratio.std().item() == pytest.approx(1e-3, rel=0.02)
    assert not torch.equal(noise(x), z)


def test_additive_noise():
    x = torch.zeros(10_000)
    assert GaussianNoise(0.2, relative=False, generator=dice())(x).std().item() == pytest.approx(0.2, rel=0.03)


def test_noise_can_be_off():
    x = torch.randn(50, generator=dice())
    assert torch.equal(GaussianNoise(0.0)(x), x)
    trained_only = GaussianNoise(0.1, always=False)
    assert torch.equal(trained_only.eval()(x), x)
    assert not torch.equal(trained_only.train()(x), x)
    for bad in (-0.1, math.inf, math.nan):
        with pytest.raises(DataError, match="size of the noise"):
            GaussianNoise(bad)


def test_gradients_pass_through():
    x = torch.ones(4, requires_grad=True)
    GaussianNoise(0.5, relative=False, generator=dice())(x).sum().backward()
    assert torch.equal(x.grad, torch.ones(4))


def network(sigma=0.1):
    model = nn.Sequential(
        GaussianNoise(sigma, relative=False, generator=dice(2)),
        nn.Linear(3, 8),
        nn.LeakyReLU(),
        GaussianNoise(sigma, relative=False, generator=dice(3)),
        nn.Linear(8, 2),
    )
    for p in model.parameters():
        nn.init.normal_(p, generator=dice(4))
    return model


def test_a_channel_of_known_capacity():
    x = torch.randn(3000, 1, generator=dice(), dtype=torch.float64)
    channel = nn.Sequential(nn.Identity(), GaussianNoise(0.5, relative=False, generator=dice(1)))
    found = noisy_layer_information(channel, x, layers=["1"])["1"]
    assert found.label is None
    assert found.input.value == pytest.approx(0.5 * math.log1p(4), abs=0.06)


def test_layers_of_a_network():
    model = network().train()
    x = torch.randn(600, 3, generator=dice())
    label = (x[:, 0] > 0).long()
    found = noisy_layer_information(model, x, label, layers=["2", "4"], y_code=2, batch=97)
    assert list(found) == ["2", "4"]
    assert found["4"].input.dims == (3, 2)
    assert found["2"].input.details["codes"] == [3, 2]
    assert found["2"].label.details["codes"] == [2, 1]
    assert found["2"].label.value < math.log(2) + 0.1
    assert all(m.training for m in model.modules())
    assert not any(m._forward_hooks for m in model.modules())


def test_the_answer_is_that_of_lossy():
    x = torch.randn(300, 3, generator=dice())
    still = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    for p in still.parameters():
        nn.init.normal_(p, generator=dice(1))
    found = noisy_layer_information(still, x[:, None], layers=["1"], allow_deterministic=True, by="ksg")["1"].input
    assert found.has("deterministic")
    assert found.value == lossy(x, still(x), by="ksg").value


def test_networks_without_noise_are_refused():
    x = torch.randn(100, 3, generator=dice())
    model = network(sigma=0.0)
    with pytest.raises(DataError, match="infinite"):
        noisy_layer_information(model, x, layers=["2"])
    noisy_later = nn.Sequential(nn.Linear(3, 2), GaussianNoise(0.1), nn.Linear(2, 2))
    with pytest.raises(DataError, match=r"^0: "):
        noisy_layer_information(noisy_later, x, layers=["0", "2"])


def test_hooks_and_modes_return_after_an_error():
    model = network().train()
    with pytest.raises(RuntimeError):
        noisy_layer_information(model, torch.zeros(10, 5), layers=["2"])
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())
    with pytest.raises(ModelError, match="no module is called '9'"):
        noisy_layer_information(model, torch.zeros(10, 3), layers=["9"])
    with pytest.raises(DataError, match="no layers were named"):
        noisy_layer_information(model, torch.zeros(10, 3), layers=[])


def test_numpy_labels_and_wrong_lengths():
    x = torch.randn(200, 3, generator=dice())
    label = np.arange(200) % 2
    assert noisy_layer_information(network(), x, label, layers=["4"])["4"].label.n == 200
    with pytest.raises(DataError, match="200 rows and y has 199"):
        noisy_layer_information(network(), x, label[:-1], layers=["4"])
