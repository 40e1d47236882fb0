"""How good a model is on labelled texts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn
from transformers import PreTrainedModel

from narrows.distill.encode import EncodedTexts, model_inputs, sorted_batches
from narrows.distill.finetune import check_head


@dataclass(frozen=True)
class Evaluation:
    """A model's figures on `n` examples, in the order of the examples.

    `name` is "accuracy" or "pearson", `quality` its value and `standard_error` that of the value. `figures`
    has macro_f1, or spearman and rmse. `predictions` (n) are class numbers or values, `logits` (n x C) in
    float32.
    """

    quality: float
    name: str
    standard_error: float
    figures: Mapping[str, float]
    predictions: NDArray[np.int64] | NDArray[np.float32]
    logits: Tensor


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the former mode of every module comes back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def predict(model: PreTrainedModel, data: EncodedTexts, batch_size: int = 32) -> Tensor:
    """Logits (n x C, float32, on the CPU) in the order of the examples."""
    rows: list[Tensor] = []
    order: list[int] = []
    with evaluating(model), torch.inference_mode():
        for indices in sorted_batches(data.lengths, batch_size):
            batch = {k: v.to(model.device) for k, v in model_inputs(data.batch(indices)).items()}
            rows.append(model(**batch).logits.float().cpu())
            order += indices
    logits = torch.empty(len(data), rows[0].shape[1])
    logits[torch.tensor(order)] = torch.cat(rows)
    return logits


def evaluate(model: PreTrainedModel, data: EncodedTexts, batch_size: int = 32) -> Evaluation:
    """Accuracy on classes, or Pearson's correlation with values, of `model` in evaluation mode.

    Errors: ModelError where the model's head does not match the labels.
    """
    check_head(model, data)
    logits = predict(model, data, batch_size)
    labels = data.labels.numpy()
    if data.task == "classification":
        return _classes(logits, labels)
    return _values(logits, labels)


def _classes(logits: Tensor, labels: NDArray[np.int64]) -> Evaluation:
    predictions = logits.argmax(dim=1).numpy()
    accuracy = float((predictions == labels).mean())
    error = math.sqrt(accuracy * (1 - accuracy) / len(labels))
    figures = {"macro_f1": macro_f1(predictions, labels)}
    return Evaluation(accuracy, "accuracy", error, figures, predictions, logits)


def _values(logits: Tensor, labels: NDArray[np.float32]) -> Evaluation:
    predictions = logits[:, 0].numpy()
    r = pearson(predictions, labels)
    error = (1 - r * r) / math.sqrt(max(1, len(labels) - 3))
    figures = {
        "spearman": pearson(rankdata(predictions), rankdata(labels)),
        "rmse": float(np.sqrt(np.mean((predictions.astype(np.float64) - labels) ** 2))),
    }
    return Evaluation(r, "pearson", error, figures, predictions, logits)


def macro_f1(predictions: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """The mean over classes of F1 = 2 TP / (2 TP + FP + FN); classes that occur in neither are left out."""
    classes = np.union1d(predictions, labels)
    hits = [np.sum((predictions == c) & (labels == c)) for c in classes]
    sizes = [np.sum(predictions == c) + np.sum(labels == c) for c in classes]
    return float(np.mean([2 * hit / size for hit, size in zip(hits, sizes, strict=True)]))


def pearson(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Pearson's correlation in [-1, 1]; 0 where either does not vary."""
    x = x.astype(np.float64) - x.mean(dtype=np.float64)
    y = y.astype(np.float64) - y.mean(dtype=np.float64)
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(np.clip(x @ y / scale, -1.0, 1.0)) if scale > 0 else 0.0
