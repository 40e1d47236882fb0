"""The training loop against a bare one, its records, its groups, and its ways to end."""

import os
import signal
from itertools import pairwise

import pytest
import torch
from safetensors import SafetensorError

from narrows.core import Interrupted, NarrowsError, TrainingError
from narrows.distill import (
    LabelObjective,
    Objective,
    StepSampler,
    TrainConfig,
    linear_schedule,
    model_inputs,
    train,
    weight_groups,
)
from narrows.distill.finetune import label_loss


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


class Signal:
    """A progress that sends this process a signal after one step."""

    def __init__(self, step, number=signal.SIGINT):
        self.step, self.number = step, number

    def update(self, step, total, figures):
        if step == self.step:
            os.kill(os.getpid(), self.number)


def test_same_weights_as_a_bare_loop(tiny, encode, tmp_path):
    data, config = encode(50), TrainConfig(steps=17, batch_size=8, learning_rate=1e-3, max_grad_norm=0.5)
    model, bare = tiny("bert"), tiny("bert")
    history = train(model, LabelObjective(data), data, config, tmp_path)

    bare.train()
    groups = weight_groups(bare, config)
    optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=True)
    factor, losses = linear_schedule(17, config.warmup), []
    for step, indices in enumerate(StepSampler(data.lengths, 8, 0, 17)):
        batch = data.batch(indices)
        loss = label_loss(bare(**model_inputs(batch)).logits, batch["labels"])
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * factor(step)
            torch.nn.utils.clip_grad_norm_(group["params"], 0.5)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert_same(weights(model), weights(bare))
    assert [record["step"] for record in history] == [10, 17]
    assert history[0]["loss"] == pytest.approx(sum(losses[:10]) / 10, rel=1e-12)
    assert history[1]["loss"] == pytest.approx(sum(losses[10:]) / 7, rel=1e-12)


class Gated(LabelObjective):
    """Every hook of an objective: own parameters, groups, figures, a buffer moved after each step."""

    def attach(self, model):
        super().attach(model)
        model.gate = torch.nn.Linear(1, 1)
        model.gate.register_buffer("price", torch.zeros(()))
        torch.nn.init.constant_(model.gate.weight, 5.0)
        self.seen, self.prices, self.weight = [], [], []

    def detach(self, model):
        super().detach(model)
        self.price = float(model.gate.price)
        self.gate = model.gate
        del model.gate

    def parameter_groups(self, model, config):
        own = set(model.gate.parameters())
        groups = weight_groups(model, config)
        for group in groups:
            group["params"] = [p for p in group["params"] if p not in own]
        up = {"name": "up", "params": [model.gate.weight], "maximize": True, "max_grad_norm": None}
        still = {"name": "still", "params": [model.gate.bias], "schedule": lambda step: float(step >= 3)}
        fixed = {"weight_decay": 0.0, "lr": 0.1}
        return [*groups, {**fixed, **up, "schedule": lambda step: 1.0}, {**fixed, **still}]

    def loss(self, model, batch, step):
        loss, _ = super().loss(model, batch, step)
        self.seen.append(step)
        noise = torch.rand(())
        penalty = 1000 * model.gate.weight.sum() + model.gate.bias.sum()
        return loss + penalty, {"step0": torch.tensor(float(step)), "noise": noise}

    def after_step(self, model, step, optimizer):
        assert isinstance(optimizer, torch.optim.AdamW)
        assert [group["name"] for group in optimizer.param_groups][2:] == ["up", "still"]
        model.gate.price.add_(step)
        self.weight.append((model.gate.weight.item(), model.gate.bias.item()))


def test_groups_have_their_own_rate_schedule_direction_and_clipping(tiny, encode, tmp_path):
    data = encode(40)
    config = TrainConfig(steps=12, batch_size=8, learning_rate=1e-3, max_grad_norm=1e-3, log_every=4)
    model, plain = tiny("bert"), tiny("bert")
    names = set(model.state_dict())
    objective = Gated(data)
    history = train(model, objective, data, config, tmp_path / "gated")
    train(plain, LabelObjective(data), data, config, tmp_path / "plain")
    # The gates' gradient is far beyond the clipping limit: only clipping by group leaves the weights alone.
    assert_same(weights(model), weights(plain))
    assert set(model.state_dict()) == names
    assert objective.seen == list(range(12))
    assert objective.price == sum(range(1, 13))
    up, still = zip(*objective.weight, strict=True)
    assert up == pytest.approx([5 + 0.1 * (k + 1) for k in range(12)], rel=1e-4)
    assert len(set(still[:3])) == 1
    assert all(a > b for a, b in pairwise(still[2:]))
    assert [record["step0"] for record in history] == [1.5, 5.5, 9.5]
    assert len({record["noise"] for record in history}) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [3, 7])
def test_a_signal_stops_after_the_step_and_resuming_ends_as_if_nothing_had_happened(
    tiny, encode, tmp_path, number, step
):
    data, config = encode(40), TrainConfig(steps=14, batch_size=8, learning_rate=1e-3, log_every=4)
    whole = tiny("bert", hidden_dropout_prob=0.2)
    objective = Gated(data)
    history = train(whole, objective, data, config, tmp_path / "whole")
    before = signal.getsignal(number)

    stopped = tiny("bert", hidden_dropout_prob=0.2)
    with pytest.raises(Interrupted, match=f"after step {step} of 14") as error:
        train(stopped, Gated(data), data, config, tmp_path / "stopped", progress=Signal(step, number))
    assert (error.value.step, error.value.total) == (step, 14)
    assert "\n" not in str(error.value)
    assert signal.getsignal(number) is before
    # Another process would start from the dense model again, whatever became of the first.
    resumed, again = tiny("bert", hidden_dropout_prob=0.2), Gated(data)
    assert train(resumed, again, data, config, tmp_path / "stopped", resume=True) == history
    assert_same(weights(resumed), weights(whole))
    assert_same(again.gate.state_dict(), objective.gate.state_dict())


def test_a_second_signal_acts_at_once(tiny, encode, tmp_path):
    class Impatient(Signal):
        def update(self, step, total, figures):
            super().update(step, total, figures)
            super().update(step, total, figures)

    model, data = tiny("bert"), encode(40)
    with pytest.raises(KeyboardInterrupt):
        train(model, Gated(data), data, TrainConfig(steps=9, batch_size=8), tmp_path, progress=Impatient(2))
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_finished_run_comes_back_without_training(tiny, encode, tmp_path):
    data, config = encode(40), TrainConfig(steps=6, batch_size=8, learning_rate=1e-2)
    first, second, objective = tiny("bert"), tiny("bert"), Gated(data)
    history = train(first, objective, data, config, tmp_path)
    again = Gated(data)
    assert train(second, again, data, config, tmp_path, resume=True) == history
    assert again.seen == []
    assert again.price == objective.price
    assert_same(weights(first), weights(second))


def test_states_are_whole_few_and_without_pickle(tiny, encode, tmp_path):
    data = encode(40)
    train(tiny("bert"), LabelObjective(data), data, TrainConfig(steps=9, batch_size=8, save_every=2), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-8", "checkpoint-9"]
    assert {p.suffix for p in tmp_path.glob("checkpoint-*/*")} == {".safetensors", ".json"}


@pytest.mark.parametrize("damage", ["cut", "missing", "renamed", "empty"])
def test_a_broken_state_is_removed_and_the_one_before_taken(tiny, encode, tmp_path, damage):
    data, config = encode(40), TrainConfig(steps=12, batch_size=8, learning_rate=1e-3, save_every=4)
    whole = tiny("bert", hidden_dropout_prob=0.2)
    history = train(whole, LabelObjective(data), data, config, tmp_path)
    newest = tmp_path / "checkpoint-12"
    if damage == "cut":
        file = newest / "optimizer.safetensors"
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "missing":
        (newest / "trainer_state.json").unlink()
    elif damage == "renamed":
        newest = newest.rename(tmp_path / "checkpoint-11")
    else:
        (newest / "progress.json").write_text("")
    (tmp_path / ".checkpoint-12.0123456789ab.tmp").mkdir()
    resumed = tiny("bert", hidden_dropout_prob=0.2)
    steps = []

    class Steps:
        def update(self, step, total, figures):
            steps.append(step)
            assert not newest.exists() or step == 12

    assert train(resumed, LabelObjective(data), data, config, tmp_path, resume=True, progress=Steps()) == history
    assert steps == [9, 10, 11, 12]
    assert_same(weights(resumed), weights(whole))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-12", "checkpoint-8"]


class Poisoned(LabelObjective):
    """A loss (or its gradient) that is not finite from a given step on."""

    def __init__(self, data, step, gradient=False):
        super().__init__(data)
        self.step, self.gradient = step, gradient

    def loss(self, model, batch, step):
        loss, figures = super().loss(model, batch, step)
        if step < self.step:
            return loss, figures
        if self.gradient:  # sqrt has an infinite slope at 0
            return loss + (0 * model.classifier.bias.sum()).sqrt(), figures
        return loss * float("nan"), figures


@pytest.mark.parametrize("gradient", [False, True])
def test_a_loss_or_gradient_that_is_not_finite_stops_the_run(tiny, encode, tmp_path, gradient):
    data, config = encode(40), TrainConfig(steps=10, batch_size=8, save_every=2)
    model = tiny("bert")
    with pytest.raises(TrainingError, match=r"is nan at step 6 of 10.*learning rate.*checkpoint-4") as error:
        train(model, Poisoned(data, 5, gradient), data, config, tmp_path)
    assert "\n" not in str(error.value)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-4"]


def test_weights_that_are_not_finite_are_never_saved(tiny, encode, tmp_path):
    class Breaks(LabelObjective):
        def after_step(self, model, step, optimizer):
            if step == 4:
                model.classifier.bias.data[0] = float("inf")

    data = encode(40)
    with pytest.raises(TrainingError, match=r"classifier.bias is no longer finite.*checkpoint-2"):
        train(tiny("bert"), Breaks(data), data, TrainConfig(steps=8, batch_size=8, save_every=2), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-2"]


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tiny, encode, tmp_path, monkeypatch):
    def full(tensors, path):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("narrows.distill.state.save_file", full)
    data = encode(40)
    with pytest.raises(NarrowsError, match="disk is full") as error:
        train(tiny("bert"), LabelObjective(data), data, TrainConfig(steps=3, batch_size=8), tmp_path)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_another_run_is_refused(tiny, encode, tmp_path):
    data, config = encode(40), TrainConfig(steps=3, batch_size=8)
    train(tiny("bert"), LabelObjective(data), data, config, tmp_path)
    with pytest.raises(TrainingError, match="holds the states of an earlier run"):
        train(tiny("bert"), LabelObjective(data), data, config, tmp_path)
    longer = TrainConfig(steps=4, batch_size=8)
    with pytest.raises(TrainingError, match="another steps: 3 there, 4 now"):
        train(tiny("bert"), LabelObjective(data), data, longer, tmp_path, resume=True)
    other = encode(40, seed=1)
    with pytest.raises(TrainingError, match="another data"):
        train(tiny("bert"), LabelObjective(other), other, config, tmp_path, resume=True)


def test_training_says_nothing_and_leaves_random_numbers_and_modes_alone(tiny, encode, tmp_path, capfd):
    import random

    import numpy as np

    data, model = encode(40), tiny("bert")
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    train(model, LabelObjective(data), data, TrainConfig(steps=3, batch_size=8), tmp_path)
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected
    assert not model.training
    out, err = capfd.readouterr()
    assert out == err == ""


def test_the_seed_decides_order_and_noise(tiny, encode, tmp_path):
    data, results = encode(40), []
    for run, seed in enumerate([0, 0, 1]):
        model = tiny("bert", hidden_dropout_prob=0.3)
        torch.manual_seed(run)
        train(model, LabelObjective(data), data, TrainConfig(6, batch_size=8, seed=seed), tmp_path / str(run))
        results.append(weights(model))
    assert_same(results[0], results[1])
    assert not torch.equal(results[0]["classifier.weight"], results[2]["classifier.weight"])


def test_progress_counts_every_step(tiny, encode, tmp_path):
    calls = []

    class Note:
        def update(self, step, total, figures):
            calls.append((step, total, dict(figures)))

    data = encode(40)
    config = TrainConfig(steps=5, batch_size=8, log_every=2)
    history = train(tiny("bert"), LabelObjective(data), data, config, tmp_path, progress=Note())
    assert [call[:2] for call in calls] == [(k, 5) for k in range(1, 6)]
    assert calls[0][2] == {}
    assert calls[3][2] == history[1]


def test_nothing_to_train(tiny, encode, tmp_path):
    model, data = tiny("bert").requires_grad_(False), encode(8)
    with pytest.raises(TrainingError, match="nothing to train"):
        train(model, LabelObjective(data), data, TrainConfig(steps=2), tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"warmup": 1.0},
        {"weight_decay": -1.0},
        {"save_every": 0},
        {"bf16": "yes"},
    ],
)
def test_senseless_settings(wrong):
    with pytest.raises(TrainingError, match=next(iter(wrong))):
        TrainConfig(**{"steps": 10, **wrong})


def test_schedule():
    factor = linear_schedule(100, 0.1)
    values = [factor(step) for step in range(100)]
    assert values[0] > 0
    assert values[10] == 1.0 == max(values)
    assert values[-1] == pytest.approx(1 / 90)
    assert all(a < b for a, b in pairwise(values[:11]))
    assert all(a > b for a, b in pairwise(values[10:]))
    assert linear_schedule(1, 0.5)(0) > 0


def test_objective_without_a_loss(tiny, encode, tmp_path):
    with pytest.raises(NotImplementedError):
        train(tiny("bert"), Objective(), encode(8), TrainConfig(steps=1), tmp_path)
