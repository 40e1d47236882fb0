"""Magnitude scores: the squared norm of the weights that a unit writes through."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from narrows.prune.scores import Scores
from narrows.transformer.anatomy import Anatomy, part


@torch.no_grad()
def magnitude_scores(model: PreTrainedModel, anatomy: Anatomy) -> Scores:
    """Squared norms: of a head's value rows and output columns, a neuron's two weight vectors, a channel's table column."""
    values: dict[str, Tensor] = {}
    family = anatomy.family
    for layer in range(anatomy.layers):
        if anatomy.shape.heads[layer]:
            value, out = (part(model, family, layer, n).weight for n in ("value", "attention_out"))
            channels = value.square().sum(1) + out.square().sum(0)  # type: ignore[operator, union-attr]
            values[f"heads_{layer}"] = channels.view(-1, anatomy.head_dim).sum(1).double()
        if anatomy.shape.neurons[layer]:
            inner, out = (part(model, family, layer, n).weight for n in ("ffn_in", "ffn_out"))
            values[f"neurons_{layer}"] = (inner.square().sum(1) + out.square().sum(0)).double()  # type: ignore[operator, union-attr]
    word = model.base_model.get_submodule(family.word)
    table = word.weight if anatomy.shape.rank is None else word.weight @ word.project.weight.T  # type: ignore[operator, union-attr]
    values["hidden"] = table.square().sum(0).double()  # type: ignore[operator, union-attr]
    return Scores.from_gates(anatomy, values)
