"""`narrows measure`: what the layers of a model keep of its inputs and of the labels."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from narrows.core.errors import ModelError, NarrowsError
from narrows.core.record import environment
from narrows.core.seeds import derive
from narrows.data import Examples, split
from narrows.distill import EncodedTexts, TrainConfig, finetune, model_inputs
from narrows.information import Moment, Tracker, discrete_entropy, named, reservoir
from narrows.information.track import QUESTIONS
from narrows.road.options import Nobody, Watcher
from narrows.road.sources import label_names, read
from narrows.road.sources import loaded as loaded_model
from narrows.transformer.checkpoint import LoadedCheckpoint
from narrows.transformer.family import family_of, longest

_BATCH = 64
_WATCHING = 1.0  # measuring may take as long as the training that it is about
_DIRECTIONS = 64  # of the spectrum that are kept


@dataclass(frozen=True)
class Measurement:
    """What was found: `record` is plain data (what `--json` prints)."""

    record: dict[str, Any]

    @property
    def html(self) -> str:
        """The measurement as one self-contained page."""
        from narrows.report import render_measurement

        return render_measurement(self.record)

    def __getitem__(self, key: str) -> Any:
        return self.record[key]


@dataclass(frozen=True)
class _Site:
    """A model with the rows that are measured, as it reads them."""

    name: str
    loaded: LoadedCheckpoint
    rows: EncodedTexts
    layers: tuple[str, ...]

    def batches(self) -> list[dict[str, Tensor]]:
        order = range(len(self.rows))
        found = (self.rows.batch(order[i : i + _BATCH]) for i in range(0, len(order), _BATCH))
        return [model_inputs(batch) for batch in found]

    def tracker(self, measures: Sequence[str], columns: int) -> Tracker:
        return Tracker(
            self.loaded.model,
            self.layers,
            self.batches(),
            _labels(self.rows),
            {name: named(name) for name in measures},
            every=None,
            overhead=_WATCHING,
            columns=columns,
            pool="mean",
            call=_call,
        )


def measure(
    model: str | Path | PreTrainedModel,
    data: str | Path | Examples,
    *,
    against: str | Path | PreTrainedModel | None = None,
    layers: Sequence[str] | None = None,
    measures: Sequence[str] = tuple(QUESTIONS),
    rows: int = 1000,
    columns: int = 32,
    during_training: bool = False,
    epochs: float = 2.0,
    rate: float = 1e-4,
    max_length: int = 128,
    tokenizer: PreTrainedTokenizerBase | None = None,
    data_columns: Mapping[str, Any] | None = None,
    seed: int = 0,
    command: str | None = None,
    watcher: Watcher | None = None,
) -> Measurement:
    """What each layer of a transformer keeps, in nats: about the label, about the input, and its spectral entropy.

    `rows` of the data are drawn; each layer answers with the mean over a text's tokens, in its `columns` principal
    directions. `layers`: names of modules (default: the embeddings and every block). `against`: another model, such as
    the one before pruning, measured on the same rows. `during_training`: the model is fine-tuned on the other rows
    first, and measured while it is. `measures`: see `narrows.information.track`. Raises NarrowsError for anything that
    a user can mend.
    """
    started, begun, told = datetime.now(UTC), time.monotonic(), watcher or Nobody()
    if rows < 10 or columns < 1:
        raise NarrowsError(f"rows must be at least 10 and columns 1, got {rows} and {columns}")
    for name in measures:
        named(name)
    loaded = loaded_model(model, tokenizer, None)
    given = dict(data_columns or {})
    examples = data if isinstance(data, Examples) else read(data, given, _known(loaded, during_training))
    rest, sample = _sampled(examples, rows, seed, during_training)
    loaded = _with_head(loaded, model, rest if during_training else None, examples, seed)
    site = _site(_called(model), loaded, sample, layers, max_length)
    moments: list[Moment] = []
    if during_training:
        told.stage("fine-tune")
        moments = _trained(site, rest, measures, columns, epochs, rate, max_length, seed, told)
    sites = [site]
    if against is not None:
        sites.append(_site(_called(against), loaded_model(against, tokenizer, None), sample, layers, max_length))
    told.stage("measure")
    models = [_measured(s, measures, columns, moments[-1] if moments and s is site else None) for s in sites]
    return Measurement(
        {
            "schema": 1,
            "kind": "measurement",
            "command": command or f"narrows.road.measure({_called(model)!r}, ...)",
            "started": started.isoformat(timespec="seconds"),
            "seconds": time.monotonic() - begun,
            "environment": environment(),
            "seed": seed,
            "data": {
                "name": "examples" if isinstance(data, Examples) else Path(data).name,
                "task": sample.task,
                "rows": len(sample),
                "label_entropy": _label_entropy(sample),
            },
            "measures": list(measures),
            "columns": columns,
            "models": models,
            "moments": [moment.to_json() for moment in moments],
        }
    )


def layer_names(model: PreTrainedModel) -> tuple[str, ...]:
    """The modules whose outputs are the residual stream: the embeddings, where the family is known, and every block."""
    prefix = f"{model.base_model_prefix}." if model.base_model is not model else ""
    try:
        family = family_of(model.config.model_type)
    except ModelError:
        lists = {name: m for name, m in model.named_modules() if isinstance(m, nn.ModuleList)}
        if not lists:
            raise ModelError("the model has no list of blocks: name its layers with --layers") from None
        longest_list = max(lists, key=lambda name: len(lists[name]))
        return tuple(f"{longest_list}.{i}" for i in range(len(lists[longest_list])))
    blocks = model.base_model.get_submodule(family.layers)
    assert isinstance(blocks, nn.ModuleList)
    return (f"{prefix}{family.embedding_norm}", *(f"{prefix}{family.layers}.{i}" for i in range(len(blocks))))


def _site(
    name: str, loaded: LoadedCheckpoint, sample: Examples, layers: Sequence[str] | None, max_length: int
) -> _Site:
    length = min(max_length, longest(loaded.model))
    rows = EncodedTexts(sample, loaded.tokenizer, length)
    return _Site(name, loaded, rows, tuple(layers) if layers else layer_names(loaded.model))


def _measured(site: _Site, measures: Sequence[str], columns: int, last: Moment | None) -> dict[str, Any]:
    """The record of one model: values by measure, a list over its layers, and the spectra of the layers.

    `last` is the measurement of the model as it is now, where there is one.
    """
    tracker = site.tracker(measures, columns)
    activations = tracker.activations()
    moment = last or Moment(0, 0.0, {layer: tracker.ask(t) for layer, t in activations.items()})
    found = moment.to_json()["layers"]
    return {
        "name": site.name,
        "class": type(site.loaded.model).__name__,
        "layers": list(site.layers),
        "values": {name: [found[layer][name] for layer in site.layers] for name in measures},
        "spectra": [_spectrum(t) for t in activations.values()],
    }


def _spectrum(t: Tensor) -> list[float]:
    """Shares of the variance along the principal directions, the largest first."""
    centred = t.double() - t.double().mean(dim=0)
    variance = torch.linalg.svdvals(centred).square()
    total = float(variance.sum())
    return [float(v) / total if total > 0 else 0.0 for v in variance[:_DIRECTIONS]]


def _trained(
    site: _Site,
    rest: Examples,
    measures: Sequence[str],
    columns: int,
    epochs: float,
    rate: float,
    max_length: int,
    seed: int,
    told: Watcher,
) -> list[Moment]:
    """Fine-tune the model in place, and what its layers kept meanwhile."""
    model = site.loaded.model
    examples = EncodedTexts(rest, site.loaded.tokenizer, min(max_length, longest(model)))
    config = TrainConfig(
        max(1, round(epochs * -(-len(examples) // 32))),
        learning_rate=rate,
        warmup=0.1,
        seed=derive(seed, "dense"),
        save_every=10**9,
    )

    class Steps:
        def update(self, step: int, total: int, figures: Mapping[str, float]) -> None:
            told.update(step, total, figures)
            tracker.step()

    with tempfile.TemporaryDirectory(prefix="narrows-") as folder, site.tracker(measures, columns) as tracker:
        finetune(model, examples, config, folder, fresh_head=site.loaded.missing_head, progress=Steps())
    model.eval()
    return tracker.moments


def _with_head(
    loaded: LoadedCheckpoint, source: Any, training: Examples | None, examples: Examples, seed: int
) -> LoadedCheckpoint:
    """The model as it is, or with a fresh head where it is to be trained and has none for the labels."""
    names = examples.label_names
    outputs = 1 if names is None else len(names)
    if training is None or not (loaded.missing_head or loaded.model.config.num_labels != outputs):
        return loaded
    if isinstance(source, PreTrainedModel):
        raise ModelError(f"the model has {loaded.model.config.num_labels} outputs, the data needs {outputs}")
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, "head"))
        return loaded_model(source, None, {"num_labels": outputs})


def _known(loaded: LoadedCheckpoint, during_training: bool) -> tuple[str, ...] | None:
    return None if during_training or loaded.missing_head else label_names(loaded.model)


def _sampled(examples: Examples, rows: int, seed: int, during_training: bool) -> tuple[Examples, Examples]:
    """What is left to train on, and the rows that are measured."""
    if during_training:
        return split(examples, min(0.5, rows / len(examples)), seed)
    chosen = sorted(reservoir(range(len(examples)), rows, seed))
    return examples, examples.select(chosen)


def _labels(rows: EncodedTexts) -> Any:
    labels = rows.labels.numpy()
    return labels.astype(np.int64) if rows.task == "classification" else labels.astype(np.float64)


def _label_entropy(sample: Examples) -> float | None:
    if sample.label_names is None:
        return None
    return discrete_entropy(np.asarray(sample.labels, dtype=np.int64), correction="none").value


def _call(model: nn.Module, batch: Mapping[str, Tensor]) -> Any:
    device = next(model.parameters()).device
    return model(**{name: value.to(device) for name, value in batch.items()})


def _called(model: str | Path | PreTrainedModel) -> str:
    return type(model).__name__ if isinstance(model, PreTrainedModel) else Path(model).name
