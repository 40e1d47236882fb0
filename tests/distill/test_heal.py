"""The distillation loss in closed form, and what attaching does to a student."""

import pytest
import torch
from torch import nn

from narrows.core import ModelError, TrainingError
from narrows.distill import (
    DistillObjective,
    History,
    OnlineTeacher,
    TeacherBatch,
    TeacherCache,
    TeacherScale,
    TrainConfig,
    diverged,
    evaluate,
    model_inputs,
    train,
)

FAMILIES = ["bert", "roberta", "distilbert", "electra"]


class Fixed:
    """A teacher that answers with given tensors."""

    def __init__(self, logits, hidden, scale=None):
        self.batch = TeacherBatch(logits, hidden)
        self.scale = scale or TeacherScale(torch.ones(hidden.shape[1]), torch.tensor(1.0))
        self.width = hidden.shape[2]

    def outputs(self, index, tokens):
        assert tokens == len(self.batch.hidden)
        return self.batch


def states(model, batch):
    """Logits and hidden states (N x S x d) of a model, without padding."""
    with torch.no_grad():
        output = model(**model_inputs(batch), output_hidden_states=True)
    mask = batch["attention_mask"].bool()
    return output.logits, torch.stack([state[mask] for state in output.hidden_states], 1)


@pytest.fixture
def loss_of():
    def compute(model, objective, batch):
        objective.attach(model)
        try:
            with torch.no_grad():
                return objective.loss(model, batch, 0)
        finally:
            objective.detach(model)

    return compute


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_like_its_teacher_has_no_loss(tiny, encode, loss_of, family):
    data = encode(30)
    teacher = OnlineTeacher(tiny(family, dtype=torch.float64), data, range(30))
    student = tiny(family, dtype=torch.float64)
    loss, figures = loss_of(student, DistillObjective(teacher), data.batch(range(8)))
    assert float(loss) < 1e-10
    assert set(figures) == {"logits", "layers"}


def test_predicting_the_mean_of_every_channel_costs_one_per_site(tiny, encode, loss_of):
    data, model = encode(30), tiny("bert")
    batch = data.batch(range(30))
    logits, hidden = states(model, batch)
    scale = TeacherScale(hidden.var(0, correction=0).mean(1), torch.tensor(1.0))
    mean_only = hidden.mean(0, keepdim=True).expand_as(hidden)
    # The student is the model itself; its teacher differs by (state - mean), hence by the variance.
    teacher = Fixed(logits, 2 * hidden - mean_only, scale)
    loss, figures = loss_of(model, DistillObjective(teacher, layer_weight=1.0), batch)
    assert figures["layers"] == pytest.approx(1.0, rel=1e-5)
    assert figures["logits"] == pytest.approx(0.0, abs=1e-6)
    assert float(loss) == pytest.approx(1.0, rel=1e-5)


def test_logit_loss_by_hand(tiny, encode, loss_of):
    data, model = encode(4), tiny("bert", num_labels=2)
    batch = data.batch([0, 1])
    logits, hidden = states(model, batch)
    target = torch.tensor([[1.0, -1.0], [0.0, 3.0]])
    T = 2.0
    p, q = (target / T).softmax(1), (logits / T).softmax(1)
    expected = T * T * float((p * (p / q).log()).sum()) / 2
    loss, figures = loss_of(model, DistillObjective(Fixed(target, hidden), temperature=T), batch)
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert figures["logits"] == pytest.approx(expected, rel=1e-4)


def test_values_are_compared_in_units_of_the_teachers_variance(tiny, encode, loss_of):
    data, model = encode(4, task="regression"), tiny("bert", num_labels=1)
    batch = data.batch([0, 1])
    logits, hidden = states(model, batch)
    scale = TeacherScale(torch.ones(4), torch.tensor(25.0))
    objective = DistillObjective(Fixed(logits + 10.0, hidden, scale), label_weight=0.5)
    loss, figures = loss_of(model, objective, batch)
    labels = float((logits[:, 0] - batch["labels"]).square().mean()) / 25
    assert figures["logits"] == pytest.approx(4.0, rel=1e-4)
    assert figures["labels"] == pytest.approx(labels, rel=1e-4)
    assert float(loss) == pytest.approx(4.0 + 0.5 * labels, rel=1e-4)


def test_weights_of_the_parts(tiny, encode, loss_of):
    data, model = encode(30), tiny("bert")
    teacher = OnlineTeacher(tiny("bert", seed=1), data, range(30))
    batch = data.batch(range(8))
    loss, figures = loss_of(model, DistillObjective(teacher, layer_weight=3.0, label_weight=0.25), batch)
    parts = figures["logits"] + 3.0 * figures["layers"] + 0.25 * figures["labels"]
    assert float(loss) == pytest.approx(float(parts), rel=1e-6)
    logits, _ = states(model, batch)
    expected = torch.nn.functional.cross_entropy(logits, batch["labels"])
    assert float(figures["labels"]) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_has_no_influence(tiny, encode, tmp_path, loss_of, family):
    data = encode(30)
    teacher = TeacherCache.build(tiny(family, seed=1), data, range(30), tmp_path / "cache")
    batch = data.batch(range(8))
    # Word 7 in place of the padding token: only the mask may say what counts.
    fill = {"input_ids": 7}
    wider = {
        name: nn.functional.pad(t, (0, 5), value=fill.get(name, 0)) if t.ndim == 2 else t for name, t in batch.items()
    }
    plain, _ = loss_of(tiny(family), DistillObjective(teacher), batch)
    padded, _ = loss_of(tiny(family), DistillObjective(teacher), wider)
    assert float(padded) == pytest.approx(float(plain), rel=1e-6, abs=1e-6)


def test_the_map_says_where_the_students_channels_lie(tiny, encode, loss_of):
    data, student = encode(30), tiny("bert", hidden_size=16)
    batch = data.batch(range(8))
    logits, hidden = states(student, batch)
    kept = torch.randperm(24, generator=torch.Generator().manual_seed(0))[:16]
    wide = torch.zeros(*hidden.shape[:2], 24)
    wide[..., kept] = hidden
    objective = DistillObjective(Fixed(logits, wide), initial_map=torch.eye(24)[:, kept])
    loss, _ = loss_of(student, objective, batch)
    assert float(loss) < 1e-6
    assert torch.equal(objective.map_, torch.eye(24)[:, kept])


def test_a_map_that_does_not_fit(tiny, encode):
    data = encode(30)
    teacher = OnlineTeacher(tiny("bert"), data, range(30))
    student = tiny("bert", hidden_size=16)
    with pytest.raises(TrainingError, match=r"shape \(24, 16\); got none"):
        DistillObjective(teacher).attach(student)
    with pytest.raises(TrainingError, match=r"got one of \(16, 24\)"):
        DistillObjective(teacher, initial_map=torch.zeros(16, 24)).attach(student)
    with pytest.raises(ModelError, match="2 layers and the teacher 3"):
        DistillObjective(teacher).attach(tiny("bert", num_hidden_layers=2))
    with pytest.raises(TrainingError, match="temperature"):
        DistillObjective(teacher, temperature=0.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_attached_students_have_no_dropout_and_come_back_as_they_were(tiny, encode, family):
    rates = {
        "distilbert": {"dropout": 0.3, "attention_dropout": 0.2, "seq_classif_dropout": 0.4},
    }.get(family, {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2, "classifier_dropout": 0.4})
    student, data = tiny(family, **rates).train(), encode(20)
    names, ps = list(student.state_dict()), [m.p for m in student.modules() if isinstance(m, nn.Dropout)]
    inputs = model_inputs(data.batch(range(8)))
    assert not torch.equal(student(**inputs).logits, student(**inputs).logits)
    objective = DistillObjective(OnlineTeacher(tiny(family), data, range(20)))
    objective.attach(student)
    assert torch.equal(student(**inputs).logits, student(**inputs).logits)
    objective.detach(student)
    assert list(student.state_dict()) == names
    assert [m.p for m in student.modules() if isinstance(m, nn.Dropout)] == ps
    assert set(ps) >= {0.2, 0.3}


def test_the_map_is_trained_without_weight_decay(tiny, encode):
    student, data = tiny("bert"), encode(20)
    objective = DistillObjective(OnlineTeacher(tiny("bert"), data, range(20)))
    objective.attach(student)
    groups = objective.parameter_groups(student, TrainConfig(steps=1, weight_decay=0.1))
    assert [(g["name"], g["weight_decay"]) for g in groups] == [
        ("weights", 0.1),
        ("biases and norms", 0.0),
        ("map", 0.0),
    ]
    everything = [p for group in groups for p in group["params"]]
    assert len(everything) == len(set(everything)) == len(list(student.parameters()))


def test_a_damaged_student_heals(tiny, encode, tmp_path):
    data, test = encode(300), encode(100, seed=1)
    teacher, student = tiny("bert"), tiny("bert")
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    cache = TeacherCache.build(teacher, data, range(300), tmp_path / "cache")
    says = evaluate(teacher, test).predictions
    before = (evaluate(student, test).predictions == says).mean()
    config = TrainConfig(steps=120, batch_size=16, learning_rate=3e-3)
    history = train(student, DistillObjective(cache), data, config, tmp_path / "run")
    after = (evaluate(student, test).predictions == says).mean()
    assert after > 0.85 > 2 * before
    for part in ("loss", "logits", "layers"):
        assert history[-1][part] < 0.35 * history[0][part]


@pytest.mark.parametrize(
    ("logits", "answer"),
    [
        ([0.3, 0.2, 0.1, 0.1], False),
        ([0.3, 0.2, 0.4, 0.5], True),
        ([0.3, 0.9, 0.9, 0.9, 0.9, 0.9, 0.25, 0.3], False),
        ([0.3, 0.2, 0.2, 0.2, 0.2, 0.2, 0.25, 0.4], True),
        ([0.3, 0.9], False),
        ([], False),
    ],
)
def test_healing_diverged_where_it_ends_above_its_start(logits, answer):
    assert diverged(History(tuple({"step": i, "logits": v} for i, v in enumerate(logits)))) == answer
