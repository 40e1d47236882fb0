"""Fine-tuning on labels alone: what makes the dense model that is cut later."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from narrows.core.errors import ModelError
from narrows.distill.encode import EncodedTexts, model_inputs
from narrows.distill.objective import History, Objective, Progress, TrainConfig
from narrows.distill.trainer import train


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy for class numbers, mean squared error for values; logits (B x C or B x 1), labels (B)."""
    if labels.is_floating_point():
        return F.mse_loss(logits.float().squeeze(-1), labels.float())
    return F.cross_entropy(logits.float(), labels)


def check_head(model: PreTrainedModel, data: EncodedTexts) -> None:
    """ModelError where the model's outputs do not match the labels: one for values, else one per class."""
    outputs = model.config.num_labels or 0
    if data.task == "regression":
        if outputs != 1:
            raise ModelError(f"the labels are values, which need a head with 1 output, but the model has {outputs}")
    elif int(data.labels.max()) >= outputs:
        classes = int(data.labels.max()) + 1
        raise ModelError(f"the labels have {classes} classes, but the model's head has {outputs} outputs")


def head_layer(model: PreTrainedModel) -> nn.Linear:
    """The last linear layer that gives the logits."""
    outputs = model.config.num_labels
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == outputs]
    if not layers:
        raise ModelError(f"{type(model).__name__} has no linear layer with {outputs} outputs to train labels with")
    return layers[-1]


class LabelObjective(Objective):
    """The labels' loss: cross entropy, or mean squared error of standardised values for regression.

    For regression the head works in units of the labels' standard deviation around their mean while attached,
    and is folded back by `detach`: the result does not depend on the labels' unit. A `fresh_head` starts at
    the mean.
    """

    def __init__(self, data: EncodedTexts, *, fresh_head: bool = False) -> None:
        self._fresh = fresh_head
        self._mean, self._scale = 0.0, 1.0
        if data.task == "regression":
            self._mean = float(data.labels.double().mean())
            self._scale = float(data.labels.double().std(correction=0)) or 1.0

    def attach(self, model: PreTrainedModel) -> None:
        """Take the head from the labels' unit to the standardised one."""
        head = head_layer(model)
        with torch.no_grad():
            if self._fresh:
                head.bias.zero_()
            else:
                head.weight.div_(self._scale)
                head.bias.sub_(self._mean).div_(self._scale)

    def detach(self, model: PreTrainedModel) -> None:
        """Take the head back to the labels' unit."""
        head = head_layer(model)
        with torch.no_grad():
            head.weight.mul_(self._scale)
            head.bias.mul_(self._scale).add_(self._mean)

    def loss(self, model: PreTrainedModel, batch: dict[str, Tensor], step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The mean loss of the batch; no figures beside it."""
        labels = batch["labels"]
        if labels.is_floating_point():
            labels = (labels - self._mean) / self._scale
        return label_loss(model(**model_inputs(batch)).logits, labels), {}


def finetune(
    model: PreTrainedModel,
    data: EncodedTexts,
    config: TrainConfig,
    run_dir: str | Path,
    *,
    fresh_head: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> History:
    """Train `model` (a sequence classification model) on the labels of `data`; see `train` for the rest.

    `fresh_head`: the head was never trained. Errors: ModelError where the head does not match the labels.
    """
    check_head(model, data)
    objective = LabelObjective(data, fresh_head=fresh_head)
    return train(model, objective, data, config, run_dir, resume=resume, progress=progress)
