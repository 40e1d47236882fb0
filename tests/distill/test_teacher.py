"""The teacher's outputs: the same from disk as from the model, reopened only where they are right."""

import shutil

import numpy as np
import pytest
import torch

from narrows.core import NarrowsError, TrainingError
from narrows.distill import (
    DistillObjective,
    EncodedTexts,
    OnlineTeacher,
    TeacherCache,
    TrainConfig,
    model_inputs,
    open_teacher,
    teacher_bytes,
    train,
)


def direct(teacher, data, indices):
    """Logits and, example after example, hidden states (N x S x d), one example at a time."""
    logits, hidden = [], []
    with torch.no_grad():
        for i in indices:
            output = teacher(**model_inputs(data.batch([i])), output_hidden_states=True)
            logits.append(output.logits)
            hidden.append(torch.stack([state[0] for state in output.hidden_states], 1))
    return torch.cat(logits), torch.cat(hidden)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra"])
def test_outputs_are_the_models(tiny, encode, tmp_path, family):
    teacher, data = tiny(family), encode(70)
    indices = [0, *range(3, 70)]
    cache = TeacherCache.build(teacher, data, indices, tmp_path / "cache")
    online = OnlineTeacher(teacher, data, indices)
    wanted = [69, 5, 0, 33]
    logits, hidden = direct(teacher, data, wanted)
    assert hidden.shape[1:] == (4, 24)
    for source, tolerance in ((cache, 2e-3), (online, 1e-5)):
        batch = source.outputs(torch.tensor(wanted), len(hidden))
        torch.testing.assert_close(batch.logits, logits, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(batch.hidden.float(), hidden, rtol=tolerance, atol=tolerance)
        assert source.width == 24
    logits, hidden = direct(teacher, data, indices)
    torch.testing.assert_close(cache.scale.sites, hidden.var(0, correction=0).mean(1), rtol=1e-5, atol=0)
    torch.testing.assert_close(cache.scale.logits, logits.var(0, correction=0).mean(), rtol=1e-5, atol=0)
    torch.testing.assert_close(online.scale.sites, cache.scale.sites, rtol=1e-5, atol=0)


def test_size_on_disk_is_known_beforehand(tiny, encode, tmp_path):
    teacher, data, indices = tiny("distilbert"), encode(50), range(0, 50, 2)
    TeacherCache.build(teacher, data, indices, tmp_path / "cache")
    values = np.load(tmp_path / "cache" / "hidden.npy").nbytes + 4 * 25 * 3
    assert teacher_bytes(teacher, data, indices) == values


def test_the_limit_decides_between_disk_and_model(tiny, encode, tmp_path):
    teacher, data = tiny("bert"), encode(20)
    size = teacher_bytes(teacher, data, range(20))
    online = open_teacher(teacher, data, range(20), tmp_path / "a", limit_bytes=size - 1)
    cached = open_teacher(teacher, data, range(20), tmp_path / "a", limit_bytes=size)
    assert isinstance(online, OnlineTeacher)
    assert isinstance(cached, TeacherCache)


class Batches:
    def __init__(self):
        self.steps = []

    def update(self, step, total, figures):
        self.steps.append((step, total))


@pytest.mark.parametrize("change", ["nothing", "weights", "examples", "data", "cut", "unmarked"])
def test_reopened_only_if_it_is_the_same_and_whole(tiny, encode, tmp_path, change):
    teacher, data, indices, path = tiny("bert"), encode(40), range(40), tmp_path / "cache"
    TeacherCache.build(teacher, data, indices, path)
    if change == "weights":
        teacher.classifier.bias.data[0] += 1e-3
    elif change == "examples":
        indices = range(39)
    elif change == "data":
        data = encode(40, seed=1)
    elif change == "cut":
        (path / "hidden.npy").write_bytes((path / "hidden.npy").read_bytes()[:-10])
    elif change == "unmarked":
        (path / "teacher.json").unlink()
    (tmp_path / ".cache.0123456789ab.tmp").mkdir()
    batches = Batches()
    cache = TeacherCache.build(teacher, data, indices, path, progress=batches)
    assert batches.steps == ([] if change == "nothing" else [(1, 2), (2, 2)])
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]
    logits, hidden = direct(teacher, data, [3, 7])
    torch.testing.assert_close(cache.outputs(torch.tensor([3, 7]), len(hidden)).logits, logits)


def test_building_twice_gives_the_same_bytes(tiny, encode, tmp_path):
    for name in "ab":
        TeacherCache.build(tiny("bert"), encode(40), range(40), tmp_path / name)
    for name in ("hidden.npy", "outputs.safetensors", "teacher.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_build_that_fails_leaves_nothing(tiny, encode, tmp_path, monkeypatch):
    def full(tensors, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("narrows.distill.teacher.save_file", full)
    with pytest.raises(NarrowsError, match="disk is full"):
        TeacherCache.build(tiny("bert"), encode(20), range(20), tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_back_is_refused(tiny, encode, tmp_path):
    teacher, data = tiny("bert"), encode(20)
    cache = TeacherCache.build(teacher, data, range(10), tmp_path / "cache")
    with pytest.raises(TrainingError, match="example 15 is not in"):
        cache.outputs(torch.tensor([15]), int(data.lengths[15]))
    for source in (cache, OnlineTeacher(teacher, data, range(10))):
        with pytest.raises(TrainingError, match="same tokenisation"):
            source.outputs(torch.tensor([5]), int(data.lengths[5]) + 1)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(TrainingError, match="not a whole cache"):
        TeacherCache(tmp_path / "cache")


def test_hidden_states_beyond_float16(tiny, encode, tmp_path):
    teacher, data = tiny("bert"), encode(20)
    teacher.bert.encoder.layer[1].output.LayerNorm.bias.data[3] = 7e4
    with pytest.raises(TrainingError, match="beyond float16"):
        TeacherCache.build(teacher, data, range(20), tmp_path / "cache")
    batch = OnlineTeacher(teacher, data, range(20)).outputs(torch.tensor([1]), int(data.lengths[1]))
    assert batch.hidden[:, 2, 3].mean() == pytest.approx(7e4, rel=1e-3)


def test_saved_states_do_not_hold_the_teacher(tiny, encode, tmp_path):
    data: EncodedTexts = encode(40)
    teacher, student = tiny("bert"), tiny("bert", seed=1)
    train(
        student,
        DistillObjective(OnlineTeacher(teacher, data, range(40))),
        data,
        TrainConfig(steps=2, batch_size=8),
        tmp_path,
    )
    values = sum(p.numel() for p in student.parameters()) + 24 * 24
    size = (tmp_path / "checkpoint-2" / "model.safetensors").stat().st_size
    assert 4 * values < size < 4 * values + 20_000
    assert not teacher.training
