"""What a run starts from: the user's examples and model, brought together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from narrows.core.errors import DataError, ModelError
from narrows.data import Examples, class_numbers, read_examples, shipped_examples, shipped_model, split
from narrows.road.options import Options
from narrows.transformer.checkpoint import LoadedCheckpoint, load


def read(data: str | Path, columns: Mapping[str, Any], known: Sequence[str] | None = None) -> Examples:
    """The examples of a file, whose labels may be among `known` classes, or of a shipped set."""
    shipped = shipped_examples(data) if isinstance(data, str) else None
    if shipped is None:
        return read_examples(data, **columns, label_names=known)
    if set(columns) - {"task"}:
        raise DataError(f"{data} ships with narrows and its columns are known: leave out the names of columns")
    return shipped


def examples_of(
    data: str | Path | Examples, evaluation: str | Path | Examples | None, columns: Mapping[str, Any], options: Options
) -> tuple[Examples, Examples, str]:
    """Training examples, held-out examples, and what the data is called."""
    examples = data if isinstance(data, Examples) else read(data, columns)
    name = "examples" if isinstance(data, Examples) else Path(data).name
    if evaluation is None:
        rest, held = split(examples, options.held_out, options.seed)
        return rest, held, name
    given = {**columns, "task": examples.task}
    held = evaluation if isinstance(evaluation, Examples) else read(evaluation, given, examples.label_names)
    if held.task != examples.task:
        raise DataError(f"the evaluation data is for {held.task}, the training data for {examples.task}")
    return examples, held, name


def label_names(model: PreTrainedModel) -> tuple[str, ...] | None:
    """What the model calls its classes; None where it has no names of its own for them."""
    labels = getattr(model.config, "id2label", None) or {}
    names = tuple(str(labels[i]) for i in sorted(labels))
    generic = names == tuple(f"LABEL_{i}" for i in range(len(names)))
    return None if generic or model.config.num_labels == 1 else names


def aligned(examples: Examples, model: PreTrainedModel) -> Examples:
    """The examples with their classes numbered as the model's outputs are."""
    names = label_names(model)
    if names is None or examples.label_names is None or names == examples.label_names:
        return examples
    number = class_numbers(examples.label_names, names)
    unknown = [name for name in examples.label_names if name not in number]
    if unknown:
        raise ModelError(
            f"the data has the label {unknown[0]!r}, the model knows {', '.join(names)}: rename the labels in the data"
        )
    new = [number[name] for name in examples.label_names]
    return replace(examples, labels=tuple(new[int(label)] for label in examples.labels), label_names=names)


def loaded(
    model: str | Path | PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, head: Mapping[str, Any] | None
) -> LoadedCheckpoint:
    """The model as a sequence classifier; `head` are config values for a fresh head."""
    if isinstance(model, PreTrainedModel):
        if tokenizer is None:
            raise ModelError("a loaded model needs its tokenizer: prune(model, data, tokenizer=...)")
        return LoadedCheckpoint(model, tokenizer, None, missing_head=False)
    folder = shipped_model(model) if isinstance(model, str) else None
    return load(folder or model, head="ForSequenceClassification", dtype=torch.float32, **(head or {}))
