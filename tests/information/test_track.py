"""Tracking: what is measured, when, and that the model and the random numbers stay as they were."""

import itertools
import math
import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from narrows.core.errors import DataError, ModelError, NarrowsError
from narrows.information import Estimate, entropy, layer_activations, principal, reservoir, track
from narrows.information.track import QUESTIONS


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Tanh(), nn.Linear(6, 2))


@pytest.fixture
def data():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(200, 4, generator=draw)
    return x, (x[:, 0] > 0).long()


def mean_of(t, _):
    return Estimate(float(t.mean()), "mean_of", len(t), (t.shape[1],), unit="none")


def state(model):
    return {k: v.clone() for k, v in model.state_dict().items()}, [m.training for m in model.modules()]


def test_a_moment_is_the_estimators_on_the_activations(model, data):
    with track(model, ["0", "3"], *data, measures=["spectrum", "kde_entropy"], samples=100) as tracker:
        pass
    rows = sorted(reservoir(range(200), 100, 0))
    model.eval()
    with torch.no_grad():
        hidden = model[0](data[0][rows])
    found = tracker.moments[0].layers["0"]
    assert found["kde_entropy"].value == pytest.approx(entropy(hidden, "kde_entropy").value, abs=1e-9)
    assert found["spectrum"].value == pytest.approx(QUESTIONS["spectrum"](hidden, None).value, abs=1e-9)
    assert set(tracker.moments[0].layers) == {"0", "3"}


def test_the_model_and_the_random_numbers_stay(model, data):
    model[1].eval()
    weights, modes = state(model)
    hooks = [len(m._forward_hooks) for m in model.modules()]
    numbers = np.random.get_state()[1].copy(), torch.get_rng_state()
    model.zero_grad()
    with track(model, ["3"], *data) as tracker:
        tracker.measure()
    after, modes_after = state(model)
    assert modes == modes_after
    assert all(torch.equal(weights[k], after[k]) for k in weights)
    assert [len(m._forward_hooks) for m in model.modules()] == hooks
    assert np.array_equal(np.random.get_state()[1], numbers[0])
    assert torch.equal(torch.get_rng_state(), numbers[1])
    assert all(p.grad is None for p in model.parameters())


def test_every_so_many_steps(model, data):
    with track(model, ["0"], *data, measures={"mean": mean_of}, every=3) as tracker:
        for _ in range(7):
            tracker.step()
    assert [m.step for m in tracker.moments] == [0, 3, 6, 7]


def test_a_failed_training_is_not_measured_at_the_end(model, data):
    tracker = track(model, ["0"], *data, measures={"m": mean_of})

    def training():
        with tracker:
            tracker.count = 5
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        training()
    assert [m.step for m in tracker.moments] == [0]


@pytest.mark.parametrize("overhead", [0.05, 0.1, 0.5])
def test_measurements_keep_their_share_of_the_time(model, data, monkeypatch, overhead):
    """A clock on which a training step takes 1 s and a measurement 2 s."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def slow(t, y):
        now[0] += 2.0
        return mean_of(t, y)

    with track(model, ["0"], *data, measures={"slow": slow}, overhead=overhead) as tracker:
        for _ in range(1000):
            now[0] += 1.0
            tracker.step()
            spent = 2.0 * len(tracker.moments)
            if len(tracker.moments) > 1:
                assert spent + 2.0 <= overhead * (now[0] - spent) + 1e-9
    assert len(tracker.moments) >= 3
    assert 2.0 * len(tracker.moments) <= overhead * 1000, "the last one too"
    gaps = np.diff([m.step for m in tracker.moments[1:-1]])
    assert (gaps[1:] >= gaps[:-1] - 1).all() or overhead < 0.5


def test_moments_lie_on_growing_steps_where_time_allows(model, data, monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    with track(model, ["0"], *data, measures={"mean": mean_of}) as tracker:
        for _ in range(60):
            tracker.step()
    steps = [m.step for m in tracker.moments]
    assert steps[:8] == [0, 1, 2, 3, 4, 5, 6, 8]
    assert all(b <= math.ceil(1.2 * a) or b == a + 1 for a, b in itertools.pairwise(steps[1:]))


def test_what_cannot_be_estimated_is_said(model, data):
    with torch.no_grad():
        model[0].weight.zero_()

    def refusing(t, y):
        raise DataError("these activations are flat")

    with track(model, ["0"], *data, measures={"refusing": refusing, "mean": mean_of}) as tracker:
        pass
    assert tracker.moments[0].layers["0"]["refusing"] == "these activations are flat"
    found = tracker.to_json()["moments"][0]["layers"]["0"]
    assert found["refusing"] == {"error": "these activations are flat"}
    assert math.isfinite(found["mean"]["value"])


def test_a_loader_gives_the_same_rows_as_tensors(model, data):
    loader = DataLoader(TensorDataset(*data), batch_size=32)
    first = track(model, ["0"], loader, samples=50, seed=3)
    second = track(model, ["0"], *data, samples=50, seed=3)
    rows = {tuple(row.tolist()) for batch in second.batches for row in batch}
    assert {tuple(row.tolist()) for batch in first.batches for row in batch} == rows
    assert sorted(np.asarray(first.labels).tolist()) == sorted(np.asarray(second.labels).tolist())


def test_every_row_has_the_same_chance():
    counts = np.zeros(30)
    for seed in range(3000):
        counts[reservoir(iter(range(30)), 6, seed)] += 1
    assert counts.sum() == 18000
    chi2 = ((counts - 600) ** 2 / 600).sum()
    assert chi2 < 58, "the 99.9 % point of chi-squared with 29 degrees of freedom"
    assert sorted(reservoir(range(4), 6, 0)) == [0, 1, 2, 3]


def test_principal_directions_keep_the_most_variance():
    draw = torch.Generator().manual_seed(0)
    t = torch.randn(300, 20, generator=draw) * torch.arange(1, 21)
    kept = principal(t, 5)
    values = torch.linalg.eigvalsh(torch.cov(t.double().T))
    assert kept.shape == (300, 5)
    assert torch.cov(kept.T).diagonal().sum() == pytest.approx(values[-5:].sum().item(), rel=1e-9)
    assert torch.equal(principal(t, 20), t.double())


def test_tokens_of_the_padding_do_not_count():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Identity()

        def forward(self, x, attention_mask):
            return self.body(x)

    x = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    batch = {"x": x, "attention_mask": mask}
    found = layer_activations(Tokens(), ["body"], [batch], call=lambda m, b: m(**b))["body"]
    for i, n in enumerate((5, 2, 1)):
        assert torch.allclose(found[i], x[i, :n].mean(dim=0), atol=1e-6)


def test_about_the_input_is_at_most_the_number_of_inputs_and_about_the_label_its_entropy(model, data):
    with track(model, ["0", "4"], *data) as tracker:
        pass
    for values in tracker.moments[0].layers.values():
        assert values["input"].value <= math.log(200) + 1e-9
        assert values["input"].kind == "upper"
        assert values["label"].value <= math.log(2) + 0.01
        assert values["label"].kind == "lower"


def test_the_callback_of_the_trainer_counts_steps(model, data):
    tracker = track(model, ["0"], *data, measures={"mean": mean_of}, every=2)
    callback = tracker.callback()
    for _ in range(4):
        callback.on_step_end(None, None, None)
    assert [m.step for m in tracker.moments] == [2, 4]


def test_bad_arguments(model, data):
    x, y = data
    with pytest.raises(NarrowsError, match="no module is called 'nine'; there are 0, 1, 2, 3, 4"):
        track(model, ["nine"], x, y)
    with pytest.raises(NarrowsError, match="no layers were named"):
        track(model, [], x, y)
    with pytest.raises(NarrowsError, match="no measure is called 'guess'; there are label, input, spectrum"):
        track(model, ["0"], x, y, measures=["guess"])
    with pytest.raises(DataError, match="200 inputs and 199 labels"):
        track(model, ["0"], x, y[:-1])
    with pytest.raises(NarrowsError, match="every must be at least 1"):
        track(model, ["0"], x, y, every=0)
    with pytest.raises(NarrowsError, match="overhead lies between 0 and 1"):
        track(model, ["0"], x, y, overhead=0)
    with pytest.raises(NarrowsError, match="at least 2 samples"):
        track(model, ["0"], x, y, samples=1)
    with pytest.raises(DataError, match=r"iterable of \(inputs, labels\) batches"):
        track(model, ["0"], [x])
    with pytest.raises(DataError, match="no batches"):
        track(model, ["0"], [])

    class Pair(nn.Module):
        def forward(self, x):
            return {"a": x}

    odd = nn.Sequential(nn.Identity(), Pair())
    with pytest.raises(ModelError, match="answers with dict"), track(odd, ["1"], x, y):
        pass
