"""Learning from labels."""

import pytest
import torch

from narrows.core import ModelError
from narrows.data import Examples
from narrows.distill import EncodedTexts, TrainConfig, evaluate, finetune, head_layer, label_loss, predict

FAST = TrainConfig(steps=200, batch_size=16, learning_rate=5e-3)


def test_learns_what_the_labels_say(tiny, encode, tmp_path):
    model = tiny("bert")
    history = finetune(model, encode(300), FAST, tmp_path)
    assert evaluate(model, encode(100, seed=1)).quality > 0.95
    assert history[-1]["loss"] < 0.2 < history[0]["loss"]


def rescaled(tokenizer, factor: float, offset: float, n: int = 120) -> EncodedTexts:
    random = torch.Generator().manual_seed(0)
    numbers = torch.randint(36, (n,), generator=random).tolist()
    labels = tuple(factor * number + offset for number in numbers)
    return EncodedTexts(Examples(tuple(f"w{i} w1" for i in numbers), None, labels, None), tokenizer)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra"])
def test_the_unit_of_the_values_does_not_matter(tiny, tokenizer, tmp_path, family):
    """Stars or percent: the same model up to the unit, and one that has learned it."""
    config = TrainConfig(steps=60, batch_size=16, learning_rate=5e-3)
    predictions = []
    for factor, offset in ((1.0, 0.0), (1000.0, 50_000.0)):
        model = tiny(family, num_labels=1)
        data = rescaled(tokenizer, factor, offset)
        finetune(model, data, config, tmp_path / str(factor), fresh_head=True)
        predictions.append((predict(model, data)[:, 0] - offset) / factor)
    torch.testing.assert_close(predictions[0], predictions[1], rtol=0, atol=0.3)  # of values from 0 to 35
    labels = rescaled(tokenizer, 1.0, 0.0).labels
    assert (predictions[1] - labels).square().mean() / labels.var() < 0.3


def test_a_trained_head_is_taken_up_where_it_is(tiny, tokenizer, tmp_path):
    model, data = tiny("bert", num_labels=1), rescaled(tokenizer, 100.0, -7.0)
    before = predict(model, data)
    finetune(model, data, TrainConfig(steps=1, batch_size=16, learning_rate=1e-9), tmp_path)
    torch.testing.assert_close(predict(model, data), before, rtol=1e-3, atol=1e-2)


def test_a_fresh_head_starts_at_the_mean(tiny, tokenizer, tmp_path):
    model, data = tiny("bert", num_labels=1), rescaled(tokenizer, 1.0, 1e4)
    with torch.no_grad():
        head_layer(model).weight.mul_(1e-3)
    finetune(model, data, TrainConfig(steps=1, batch_size=16, learning_rate=1e-9), tmp_path, fresh_head=True)
    assert predict(model, data).mean() == pytest.approx(float(data.labels.mean()), rel=1e-4)


def test_losses_by_hand():
    logits = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    expected = (torch.log(torch.tensor(2.0)) + torch.log1p(torch.tensor(2.0).exp())) / 2
    assert label_loss(logits, torch.tensor([0, 1])) == pytest.approx(float(expected))
    assert label_loss(torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 1.0])) == pytest.approx(2.5)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_the_head_is_found_in_every_family(tiny, family, outputs):
    model = tiny(family, num_labels=outputs)
    head = head_layer(model)
    ids = torch.tensor([[2, 9, 3]])
    before = model(input_ids=ids).logits
    with torch.no_grad():
        head.bias.add_(1.0)
    torch.testing.assert_close(model(input_ids=ids).logits, before + 1)


def test_labels_and_head_must_match(tiny, encode, tmp_path):
    with pytest.raises(ModelError, match="1 output"):
        finetune(tiny("bert"), encode(20, task="regression"), FAST, tmp_path)
    with pytest.raises(ModelError, match="3 classes"):
        finetune(tiny("bert", num_labels=2), encode(20), FAST, tmp_path)
