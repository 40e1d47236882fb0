"""What a dense model's activations look like on calibration data: covariances of its residual stream, token counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from narrows.core.errors import DataError
from narrows.transformer.anatomy import Anatomy, part
from narrows.transformer.cut import TableBasis, table_basis

Batch = dict[str, Tensor]
Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class Calibration:
    """Calibration batches and what the dense model does on them.

    `batches` hold `input_ids`, `attention_mask` (batch, tokens) and whatever else the model takes (labels are ignored).
    `covariance` (d, d) is the mean over the LayerNorm outputs of their covariances, each divided by its trace;
    `directions` its eigenvectors by falling eigenvalue; `table` the basis of the word table weighted by
    `frequency` (V,).
    """

    batches: Sequence[Batch]
    covariance: Tensor
    directions: Tensor
    frequency: Tensor
    table: TableBasis


class Moments:
    """Running mean and covariance of vectors, in float64."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self.total = torch.zeros(width, dtype=torch.float64)
        self.second = torch.zeros(width, width, dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        """Add rows of shape (n, width)."""
        self.count += len(rows)
        self.total += rows.sum(0, dtype=torch.float64).cpu()
        self.second += (rows.T @ rows).double().cpu()

    def covariance(self) -> Tensor:
        mean = self.total / self.count
        return self.second / self.count - torch.outer(mean, mean)


@torch.no_grad()
def calibrate(model: PreTrainedModel, batches: Sequence[Batch], tick: Tick | None = None) -> Calibration:
    """One pass of the dense model over the batches; memory does not depend on how many there are.

    Raises `DataError` without batches.
    """
    if not batches:
        raise DataError("calibration needs at least one batch of examples, got none")
    anatomy = Anatomy.of(model)
    family = anatomy.family
    norms: list[nn.Module] = [model.base_model.get_submodule(family.embedding_norm)]
    for layer in range(anatomy.layers):
        norms += [part(model, family, layer, name) for name in ("attention_norm", "ffn_norm")]
    moments = [Moments(anatomy.shape.hidden) for _ in norms]
    frequency = torch.zeros(anatomy.shape.vocab, dtype=torch.float64)
    mask = torch.ones(0, dtype=torch.bool)

    def recorder(moment: Moments) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            moment.add(output[mask])

        return hook

    handles = [n.register_forward_hook(recorder(m)) for n, m in zip(norms, moments, strict=True)]
    training = model.training
    model.eval()
    try:
        for done, batch in enumerate(batches):
            mask = batch["attention_mask"].bool()
            frequency += torch.bincount(batch["input_ids"][mask].flatten().cpu(), minlength=len(frequency)).double()
            model.base_model(**model_inputs(model, batch))
            if tick:
                tick(done + 1, len(batches))
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)
    covariances = [m.covariance() for m in moments]
    covariance = torch.stack([c / c.trace().clamp_min(1e-30) for c in covariances]).mean(0)
    _, directions = torch.linalg.eigh(covariance)
    table = table_basis(word_table(model, anatomy), frequency)
    return Calibration(batches, covariance, directions.flip(1).to(model.dtype), frequency, table)


def word_table(model: PreTrainedModel, anatomy: Anatomy) -> Tensor:
    """The word table (V x d), multiplied out where it is factored."""
    module = cast(nn.Embedding, model.base_model.get_submodule(anatomy.family.word))
    table = module.weight.detach()
    return table if anatomy.shape.rank is None else table @ cast(nn.Linear, module.project).weight.detach().T


def model_inputs(model: PreTrainedModel, batch: Batch) -> Batch:
    """The part of a batch that the base model takes, on the model's device."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    return {
        k: batch[k].to(model.device) for k in names if k in batch and (k != "token_type_ids" or _token_types(model))
    }


def _token_types(model: PreTrainedModel) -> bool:
    return hasattr(model.base_model.embeddings, "token_type_embeddings")
