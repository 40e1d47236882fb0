"""The choice of bf16 follows a measurement."""

import pytest
import torch

from narrows.distill import TrainConfig, bf16_helps, precision, train
from narrows.distill.finetune import LabelObjective


@pytest.fixture
def measured(monkeypatch):
    """Replace the clock: `measured(fp32, bf16)` seconds a try."""
    calls = []

    def use(fp32, bf16):
        precision._measure.cache_clear()

        def seconds(layer, x, is_bf16):
            calls.append((layer.in_features, layer.out_features))
            return bf16 if is_bf16 else fp32

        monkeypatch.setattr(precision, "_seconds", seconds)
        monkeypatch.setattr(precision, "NARROW", 16)
        return calls

    yield use
    precision._measure.cache_clear()


@pytest.mark.parametrize(
    ("fp32", "bf16", "helps"), [(1.0, 0.5, True), (1.0, 0.7, False), (1.0, 1.5, False), (1.0, 25.0, False)]
)
def test_only_a_clear_gain_counts(tiny, measured, fp32, bf16, helps):
    calls = measured(fp32, bf16)
    assert bf16_helps(tiny("bert")) is helps
    count = len(calls)
    assert count == (2 if bf16 > 3 else 10)
    assert bf16_helps(tiny("bert")) is helps
    assert len(calls) == count, "measured once per process"
    assert set(calls) == {(512, 512)}


def test_never_for_narrow_models(tiny, measured, monkeypatch):
    calls = measured(1.0, 0.1)
    monkeypatch.setattr(precision, "NARROW", 25)
    assert not bf16_helps(tiny("bert"))
    assert not calls


def test_never_for_models_in_another_precision(tiny, measured):
    measured(1.0, 0.1)
    assert not bf16_helps(tiny("bert", dtype=torch.float64))


def test_a_resumed_run_keeps_the_choice_of_its_start(tiny, encode, tmp_path, measured, monkeypatch):
    data, used = encode(20), []

    class Notes(LabelObjective):
        def loss(self, model, batch, step):
            used.append(torch.is_autocast_enabled("cpu"))
            return super().loss(model, batch, step)

        def after_step(self, model, step, optimizer):
            if step == 2 and len(used) == 2:
                raise KeyboardInterrupt

    config = TrainConfig(steps=4, batch_size=8, save_every=1)
    measured(1.0, 0.5)
    with pytest.raises(KeyboardInterrupt):
        train(tiny("bert"), Notes(data), data, config, tmp_path)
    measured(1.0, 2.0)
    train(tiny("bert"), Notes(data), data, config, tmp_path, resume=True)
    assert used == [True] * 5
