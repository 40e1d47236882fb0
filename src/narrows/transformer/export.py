"""ONNX: the same model for runtimes without PyTorch, through the exporters of transformers."""

from __future__ import annotations

import importlib.util
import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from narrows.core.errors import MissingExtra
from narrows.core.files import new_directory
from narrows.transformer.checkpoint import quiet, register


def export_onnx(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: str | Path, *, overwrite: bool = False
) -> Path:
    """Write the folder `path`: model.onnx with its weights, the config and the tokenizer. Returns `path`.

    Inputs are those the tokenizer makes and the model takes (input_ids, attention_mask, ...), int64
    of shape (batch, tokens) with both axes free; outputs are named as in the model (logits, ...).
    Raises `MissingExtra` without the packages of the extra `onnx`.
    """
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra.for_package(package, "onnx")
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    taken = inspect.signature(model.forward).parameters
    batch = tokenizer(["one text", "another, longer text"], padding=True, return_tensors="pt")
    inputs = {name: value.to(model.device) for name, value in batch.items() if name in taken}
    free = {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in inputs}

    register()
    training = model.training
    try:
        model.eval()
        with new_directory(path, overwrite) as folder, quiet(), _quiet_torch():
            exported = OnnxExporter().export(model, inputs, config=OnnxConfig(dynamic_shapes=free))
            exported.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    finally:
        model.train(training)
    return Path(path)


@contextmanager
def _quiet_torch() -> Iterator[None]:
    """Silence the stages that torch.onnx prints and its remarks on operators that no encoder uses."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
