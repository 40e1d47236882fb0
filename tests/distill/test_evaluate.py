"""Figures of a model, against scikit-learn and scipy, and their independence of batching."""

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import f1_score

from narrows.core import ModelError
from narrows.distill import evaluate, model_inputs, predict
from narrows.distill.evaluate import macro_f1, pearson


def test_classification_figures(tiny, encode):
    model, data = tiny("bert"), encode(50)
    result = evaluate(model, data)
    labels = data.labels.numpy()
    one_by_one = []
    with torch.no_grad():
        for i in range(50):
            one_by_one.append(model(**model_inputs(data.batch([i]))).logits[0])
    torch.testing.assert_close(result.logits, torch.stack(one_by_one))
    expected = torch.stack(one_by_one).argmax(1).numpy()
    assert result.predictions.tolist() == expected.tolist()
    assert result.name == "accuracy"
    assert result.quality == np.mean(expected == labels)
    p = result.quality
    assert result.standard_error == pytest.approx(np.sqrt(p * (1 - p) / 50))
    assert result.figures["macro_f1"] == pytest.approx(f1_score(labels, expected, average="macro"))


def test_regression_figures(tiny, encode):
    model, data = tiny("bert", num_labels=1), encode(50, task="regression")
    result = evaluate(model, data)
    x, y = result.logits[:, 0].numpy(), data.labels.numpy()
    assert result.name == "pearson"
    assert result.quality == pytest.approx(pearsonr(x, y)[0], abs=1e-6)
    assert result.figures["spearman"] == pytest.approx(spearmanr(x, y)[0], abs=1e-6)
    assert result.figures["rmse"] == pytest.approx(np.sqrt(np.mean((x - y) ** 2)), rel=1e-6)


def test_any_batch_size_gives_the_same_figures(tiny, encode):
    model, data = tiny("roberta"), encode(45)
    first = predict(model, data, 45)
    for size in (1, 7, 32):
        torch.testing.assert_close(predict(model, data, size), first, rtol=1e-5, atol=1e-6)


def test_modes_come_back(tiny, encode):
    model = tiny("bert", hidden_dropout_prob=0.5).train()
    model.classifier.eval()
    first = predict(model, encode(20))
    assert torch.equal(first, predict(model, encode(20)))
    assert model.bert.training
    assert not model.classifier.training


def test_a_head_that_does_not_fit_the_labels(tiny, encode):
    with pytest.raises(ModelError, match=r"3 classes.*2 outputs"):
        evaluate(tiny("bert", num_labels=2), encode(20))
    with pytest.raises(ModelError, match="1 output"):
        evaluate(tiny("bert", num_labels=3), encode(20, task="regression"))


def test_constant_predictions_have_no_correlation():
    assert pearson(np.ones(5), np.arange(5.0)) == 0.0
    assert pearson(np.arange(5.0), -3 * np.arange(5.0)) == pytest.approx(-1.0)


def test_macro_f1_counts_classes_that_are_only_predicted():
    labels, predictions = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    assert macro_f1(predictions, labels) == pytest.approx(f1_score(labels, predictions, average="macro"))
