"""How a model learns: fine-tuning on labels, and healing a cut model from the dense one."""

from narrows.distill.encode import (
    BucketSampler,
    EncodedTexts,
    StepSampler,
    model_inputs,
    sorted_batches,
)
from narrows.distill.finetune import LabelObjective, check_head, finetune, head_layer, label_loss
from narrows.distill.objective import (
    History,
    Objective,
    Progress,
    TrainConfig,
    linear_schedule,
    weight_groups,
)
from narrows.distill.precision import bf16_helps
from narrows.distill.trainer import train

__all__ = [
    "BucketSampler",
    "EncodedTexts",
    "History",
    "LabelObjective",
    "Objective",
    "Progress",
    "StepSampler",
    "TrainConfig",
    "bf16_helps",
    "check_head",
    "finetune",
    "head_layer",
    "label_loss",
    "linear_schedule",
    "model_inputs",
    "sorted_batches",
    "train",
    "weight_groups",
]
