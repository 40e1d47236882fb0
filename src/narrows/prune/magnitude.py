"""Magnitude scores: the squared norm of the weights that a unit reads and writes through."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from narrows.prune.scores import Scores
from narrows.transformer.anatomy import Anatomy, part
from narrows.transformer.calibrate import word_table


@torch.no_grad()
def magnitude_scores(model: PreTrainedModel, anatomy: Anatomy) -> Scores:
    """Squared norms: of a head's value rows and output columns, a neuron's two vectors, a channel's table column."""

    def weight(layer: int, name: str) -> Tensor:
        return cast(nn.Linear, part(model, anatomy.family, layer, name)).weight

    values: dict[str, Tensor] = {"hidden": word_table(model, anatomy).square().sum(0).double()}
    for layer in range(anatomy.layers):
        if anatomy.shape.heads[layer]:
            channels = weight(layer, "value").square().sum(1) + weight(layer, "attention_out").square().sum(0)
            values[f"heads_{layer}"] = channels.view(-1, anatomy.head_dim).sum(1).double()
        if anatomy.shape.neurons[layer]:
            both = weight(layer, "ffn_in").square().sum(1) + weight(layer, "ffn_out").square().sum(0)
            values[f"neurons_{layer}"] = both.double()
    return Scores.from_gates(anatomy, values)
