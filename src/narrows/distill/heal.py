"""Healing: a cut model learns to answer, and to represent, as the dense one does.

Loss = T² KL(teacher || student) of the softened class probabilities
     + layer_weight · mean over sites of MSE(W h_student, h_teacher) / Var(h_teacher)
     + label_weight · the labels' loss,
with sites = the embedding output and every layer's output, W (d x h) one learned map from the student's width
to the teacher's. For values in place of classes, the first term is the squared difference divided by the
teacher's variance.

The defaults (T = 1, layer_weight = 4, and the road's rate of 2e-4) were chosen by the divergence from the teacher on
validation data, MiniLM at 10 % of its parameters: 0.077 nats after 1,200 steps, where T = 2, weight 1 and a rate of
3e-4 gave 0.086.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from narrows.core.errors import ModelError, TrainingError
from narrows.distill.encode import model_inputs
from narrows.distill.finetune import label_loss
from narrows.distill.objective import History, Objective, TrainConfig, weight_groups
from narrows.distill.teacher import Teacher, token_rows

_MAP = "distill_map"


def diverged(history: History) -> bool:
    """Whether the student ends further from the teacher's predictions than it began.

    The first record, of steps with a rate that has only begun to rise, is compared with the mean of the last quarter.
    """
    if len(history) < 4:
        return False
    last = [record["logits"] for record in history.records[-(len(history) // 4) :]]
    return sum(last) / len(last) > history[0]["logits"]


class DistillObjective(Objective):
    """Distillation from the teacher's logits and hidden states (see the head of this file).

    `initial_map` (d x h) says where the student's channels lie in the teacher's space: P for a rotated
    student, columns of the identity for kept channels; it may be left out where h = d. It is trained as part
    of the student and removed by `detach`; `map_` keeps its last value. Dropout is off while attached.
    Errors: ModelError where student and teacher differ in the number of layers, TrainingError for a map of
    another shape.
    """

    def __init__(
        self,
        teacher: Teacher,
        *,
        temperature: float = 1.0,
        layer_weight: float = 4.0,
        label_weight: float = 0.0,
        initial_map: Tensor | None = None,
    ) -> None:
        if temperature <= 0 or layer_weight < 0 or label_weight < 0:
            raise TrainingError(
                "temperature must be above 0 and the weights must not be negative, got"
                f" temperature {temperature}, layer_weight {layer_weight}, label_weight {label_weight}"
            )
        self.teacher = teacher
        self.temperature = temperature
        self.layer_weight = layer_weight
        self.label_weight = label_weight
        self.map_ = initial_map
        self._site_scale: list[float] = teacher.scale.sites.tolist()
        self._logit_scale = float(teacher.scale.logits)
        self._dropouts: list[tuple[nn.Dropout, float]] = []

    def attach(self, model: PreTrainedModel) -> None:
        """Add the map to the student and switch its dropout off."""
        sites, width = model.config.num_hidden_layers + 1, model.config.hidden_size
        if sites != len(self._site_scale):
            raise ModelError(
                f"the student has {sites - 1} layers and the teacher {len(self._site_scale) - 1}: they must be as many"
            )
        start = self.map_
        if start is None and width == self.teacher.width:
            start = torch.eye(width)
        if start is None or start.shape != (self.teacher.width, width):
            got = "none" if start is None else f"one of {tuple(start.shape)}"
            raise TrainingError(
                f"a student of width {width} needs an initial map of shape ({self.teacher.width}, {width}); got {got}"
            )
        layer = nn.Linear(width, self.teacher.width, bias=False, device=model.device, dtype=model.dtype)
        with torch.no_grad():
            layer.weight.copy_(start)
        model.add_module(_MAP, layer)
        self._dropouts = [(m, m.p) for m in model.modules() if isinstance(m, nn.Dropout)]
        for module, _ in self._dropouts:
            module.p = 0.0

    def detach(self, model: PreTrainedModel) -> None:
        """Take the map out of the student, keep it as `map_`, and switch dropout on again."""
        self.map_ = self._map(model).weight.detach().clone()
        delattr(model, _MAP)
        for module, p in self._dropouts:
            module.p = p

    def parameter_groups(self, model: PreTrainedModel, config: TrainConfig) -> list[dict[str, Any]]:
        """The student's weights, and the map in a group of its own without weight decay."""
        weight = self._map(model).weight
        groups = weight_groups(model, config)
        for group in groups:
            group["params"] = [p for p in group["params"] if p is not weight]
        return [*groups, {"name": "map", "params": [weight], "weight_decay": 0.0}]

    def loss(self, model: PreTrainedModel, batch: dict[str, Tensor], step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss above; its parts are the figures "logits", "layers" and, with labels, "labels"."""
        mask = batch["attention_mask"]
        output = model(**model_inputs(batch), output_hidden_states=True)
        target = self.teacher.outputs(batch["index"], int(mask.sum()))
        with torch.autocast(mask.device.type, enabled=False):
            logits = output.logits.float()
            terms = {
                "logits": self._logit_loss(logits, target.logits.to(mask.device)),
                "layers": self._layer_loss(model, output.hidden_states, mask, target.hidden.to(mask.device)),
            }
            loss = terms["logits"] + self.layer_weight * terms["layers"]
            if self.label_weight:
                terms["labels"] = label_loss(logits, batch["labels"])
                if logits.shape[1] == 1:
                    terms["labels"] = terms["labels"] / self._logit_scale
                loss = loss + self.label_weight * terms["labels"]
        return loss, {name: term.detach() for name, term in terms.items()}

    def _logit_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        if logits.shape[1] == 1:
            return F.mse_loss(logits, target) / self._logit_scale
        T = self.temperature
        student, teacher = F.log_softmax(logits / T, dim=1), F.log_softmax(target / T, dim=1)
        return T * T * F.kl_div(student, teacher, reduction="batchmean", log_target=True)

    def _layer_loss(self, model: PreTrainedModel, states: tuple[Tensor, ...], mask: Tensor, target: Tensor) -> Tensor:
        weight = self._map(model).weight.float()
        losses = [
            F.mse_loss(F.linear(rows.float(), weight), target[:, site].float()) / scale
            for site, (rows, scale) in enumerate(zip(token_rows(states, mask), self._site_scale, strict=True))
        ]
        return torch.stack(losses).mean()

    def _map(self, model: PreTrainedModel) -> nn.Linear:
        layer: nn.Linear = getattr(model, _MAP)
        return layer
