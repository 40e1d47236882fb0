"""What a Hugging Face transformer is made of: its units and costs, how to cut and rebuild it, how to save and load it.

`Anatomy.of(model)` reads the units off the description of the model's family (`bert.py`, `roberta.py`, `distilbert.py`,
`electra.py`); a new family is one such file. `cut` and `rebuild` make the smaller model of a `Plan`.
"""

from narrows.transformer.anatomy import Anatomy
from narrows.transformer.calibrate import Calibration, calibrate
from narrows.transformer.checkpoint import LoadedCheckpoint, load, register, save
from narrows.transformer.cost import cost_of, cost_of_shape
from narrows.transformer.cut import cut, fold, table_basis
from narrows.transformer.export import export_onnx
from narrows.transformer.family import Family, Tail, family_of
from narrows.transformer.gates import attach_gates, detach_gates, gated, mask_gates
from narrows.transformer.latency import measure_latency
from narrows.transformer.plan import LayerPlan, Plan, Shape
from narrows.transformer.rebuild import Rebuilt, SiteVariance, rebuild
from narrows.transformer.vocabulary import keep_rows, trim_tokenizer, used_tokens

__all__ = [
    "Anatomy",
    "Calibration",
    "Family",
    "LayerPlan",
    "LoadedCheckpoint",
    "Plan",
    "Rebuilt",
    "Shape",
    "SiteVariance",
    "Tail",
    "attach_gates",
    "calibrate",
    "cost_of",
    "cost_of_shape",
    "cut",
    "detach_gates",
    "export_onnx",
    "family_of",
    "fold",
    "gated",
    "keep_rows",
    "load",
    "mask_gates",
    "measure_latency",
    "rebuild",
    "register",
    "save",
    "table_basis",
    "trim_tokenizer",
    "used_tokens",
]
