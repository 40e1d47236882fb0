"""How a model learns: fine-tuning on labels, and healing a cut model from the dense one."""

from narrows.distill.encode import (
    BucketSampler,
    EncodedTexts,
    StepSampler,
    model_inputs,
    sorted_batches,
)
from narrows.distill.evaluate import Evaluation, evaluate, evaluating, predict
from narrows.distill.finetune import LabelObjective, check_head, finetune, head_layer, label_loss
from narrows.distill.heal import DistillObjective, diverged
from narrows.distill.objective import (
    History,
    Objective,
    Progress,
    TrainConfig,
    linear_schedule,
    weight_groups,
)
from narrows.distill.precision import bf16_helps
from narrows.distill.teacher import (
    OnlineTeacher,
    Teacher,
    TeacherBatch,
    TeacherCache,
    TeacherScale,
    open_teacher,
    teacher_bytes,
)
from narrows.distill.trainer import train

__all__ = [
    "BucketSampler",
    "DistillObjective",
    "EncodedTexts",
    "Evaluation",
    "History",
    "LabelObjective",
    "Objective",
    "OnlineTeacher",
    "Progress",
    "StepSampler",
    "Teacher",
    "TeacherBatch",
    "TeacherCache",
    "TeacherScale",
    "TrainConfig",
    "bf16_helps",
    "check_head",
    "diverged",
    "evaluate",
    "evaluating",
    "finetune",
    "head_layer",
    "label_loss",
    "linear_schedule",
    "model_inputs",
    "open_teacher",
    "predict",
    "sorted_batches",
    "teacher_bytes",
    "train",
    "weight_groups",
]
