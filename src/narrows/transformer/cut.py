"""`cut` removes units: the same class of model, smaller tensors, and the same outputs as the model masked to the
plan."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from narrows.core.errors import ModelError
from narrows.transformer.anatomy import Anatomy, Axis, Slot, part
from narrows.transformer.gates import ATTRIBUTE
from narrows.transformer.narrow import narrow_class, narrow_config, stock_class, stock_config
from narrows.transformer.plan import Plan
from narrows.transformer.vocabulary import trim_config_ids


@dataclass(frozen=True)
class TableBasis:
    """Directions of a word table by falling weighted variance: `directions` (d x d) and the weighted mean row (d,)."""

    directions: Tensor
    mean: Tensor


def table_basis(table: Tensor, frequency: Tensor | None = None) -> TableBasis:
    """The principal directions of a word table (V x d), rows weighted by sqrt(frequency + 0.2).

    `frequency` (V,) counts each row in the data; None weights all rows alike. The mean row is taken out first: it can
    live in the position table, where every token meets it once.
    """
    weight = torch.ones(len(table)) if frequency is None else frequency.double() + 0.2
    weight = (weight / weight.sum()).to(torch.float64)
    rows = table.double()
    mean = weight @ rows
    centred = (rows - mean) * weight.sqrt()[:, None]
    _, directions = torch.linalg.eigh(centred.T @ centred)
    return TableBasis(directions.flip(1).to(table.dtype), mean.to(table.dtype))


def cut(
    model: PreTrainedModel,
    plan: Plan,
    *,
    rotation: Tensor | None = None,
    table: TableBasis | None = None,
    stock: bool = False,
) -> PreTrainedModel:
    """The smaller dense model that `plan` leaves; `model` is not changed.

    For a plan over channels its outputs are those of the model with gates of exactly 0 and 1. `rotation` (d x h,
    orthonormal columns) is the basis of a `"pca"` plan; LayerNorm does not commute with it, so that such a model only
    makes sense as the start of `rebuild`. `table` is the basis in which the rank of the word table is taken; by default
    that of `table_basis` with all rows alike. `stock` gives the stock class of transformers, which can only say a plan
    that is uniform over layers, with hidden = heads x head size = tail and no rank.
    Raises `ModelError` when the plan does not fit the model.
    """
    if hasattr(model, ATTRIBUTE):
        raise ModelError("take the gates out first (detach_gates); fold their scales with fold() if they have any")
    if (plan.basis == "pca") != (rotation is not None):
        raise ModelError("a plan in the basis 'pca' is cut by rebuild(), which finds the rotation")
    anatomy = Anatomy.of(model)
    shape = anatomy.shape_of(plan)
    make_config, make_class = (stock_config, stock_class) if stock else (narrow_config, narrow_class)
    config = make_config(
        model.config,
        hidden=shape.hidden,
        head_dim=anatomy.head_dim,
        heads=shape.heads,
        neurons=shape.neurons,
        rank=shape.rank,
        vocab=shape.vocab,
        tail=shape.tail or shape.hidden,
    )
    if plan.vocab is not None:
        config = trim_config_ids(config, plan.vocab)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        small: PreTrainedModel = make_class(type(model))(config)
        cast(nn.Module, small).to(dtype=model.dtype)
        _load(small, _state(model, anatomy, plan, rotation, table))
    cast(nn.Module, small).to(device=model.device).train(model.training)
    return small


def _load(small: PreTrainedModel, state: Mapping[str, Tensor]) -> None:
    missing, unexpected = small.load_state_dict(state, strict=False)
    tied = {name for name, p in small.named_parameters(remove_duplicate=False)} - {
        name for name, p in small.named_parameters()
    }
    if unexpected or set(missing) - tied:
        raise ModelError(f"cut does not know the tensors {sorted({*unexpected, *missing} - tied)[:4]}")
    small.tie_weights()


def _state(
    model: PreTrainedModel, anatomy: Anatomy, plan: Plan, rotation: Tensor | None, table: TableBasis | None
) -> dict[str, Tensor]:
    parameters = dict(model.named_parameters(remove_duplicate=False))
    state: dict[str, Tensor] = {}
    for name, tensor in parameters.items():
        if name.startswith("narrows_"):
            continue
        slot = anatomy.slots[anatomy.aliases.get(name, name)]
        if slot.block is not None and not _units(plan, slot):
            continue
        state[name] = _slice(tensor, slot, anatomy, plan, rotation)
    for name, buffer in model.named_buffers():
        if name in model.state_dict():
            state[name] = buffer
    if plan.rank is not None:
        _factor(state, anatomy, plan, rotation, table, parameters[anatomy.word])
    return {name: tensor.contiguous().clone() for name, tensor in state.items()}


def _factor(
    state: dict[str, Tensor],
    anatomy: Anatomy,
    plan: Plan,
    rotation: Tensor | None,
    table: TableBasis | None,
    word: Tensor,
) -> None:
    assert plan.rank is not None
    project = f"{anatomy.word.removesuffix('.weight')}.project.weight"
    if anatomy.shape.rank is not None:  # factored before: shorten the factors by the singular values of their product
        left = state[anatomy.word]
        q, r = torch.linalg.qr(left)
        u, s, vh = torch.linalg.svd(r @ state[project].T, full_matrices=False)
        spare = max(0, plan.rank - len(s))  # where fewer channels or words stay than the rank
        state[anatomy.word] = F.pad(q @ (u * s)[:, : plan.rank], (0, spare))
        state[project] = F.pad(vh[: plan.rank].T, (0, spare))
        return
    basis = table or table_basis(word)
    rows = word if plan.vocab is None else word[list(plan.vocab)]
    directions = basis.directions[:, : plan.rank].to(word)
    mean = basis.mean.to(word)
    state[anatomy.word] = (rows - mean) @ directions
    state[project] = _hidden(directions, 0, plan, rotation)
    positions = anatomy.word.removesuffix(f"{anatomy.family.word}.weight") + f"{anatomy.family.positions}.weight"
    state[positions] = state[positions] + _hidden(mean, 0, plan, rotation)


def _units(plan: Plan, slot: Slot) -> tuple[int, ...]:
    layer = plan.layers[slot.layer or 0]
    return layer.heads if slot.block == "attention" else layer.neurons


def _hidden(tensor: Tensor, dim: int, plan: Plan, rotation: Tensor | None) -> Tensor:
    if rotation is None:
        return tensor.index_select(dim, torch.tensor(plan.hidden, device=tensor.device))
    rotated: Tensor = torch.tensordot(tensor, rotation.to(tensor), dims=([dim], [0]))
    return rotated.movedim(-1, dim)


def _slice(tensor: Tensor, slot: Slot, anatomy: Anatomy, plan: Plan, rotation: Tensor | None) -> Tensor:
    if rotation is not None and slot.axes == ("hidden",) and slot.use == "norm":
        return tensor @ rotation.to(tensor).square()  # the diagonal of the rotated slope
    for dim, axis in enumerate(slot.axes):
        if axis == "hidden":
            tensor = _hidden(tensor, dim, plan, rotation)
        elif axis is not None and axis != "rank" and (index := _index(axis, slot, anatomy, plan)) is not None:
            tensor = tensor.index_select(dim, index.to(tensor.device))
    return tensor


def _index(axis: Axis, slot: Slot, anatomy: Anatomy, plan: Plan) -> Tensor | None:
    """The kept entries of an axis, None for all."""
    if axis == "vocab":
        return None if plan.vocab is None else torch.tensor(plan.vocab)
    if axis == "tail":
        return None if plan.tail is None else torch.arange(plan.tail)
    units = torch.tensor(_units(plan, slot))
    if axis == "neurons":
        return units
    return (units[:, None] * anatomy.head_dim + torch.arange(anatomy.head_dim)).flatten()


def fold(model: PreTrainedModel, anatomy: Anatomy, scales: Mapping[str, Tensor]) -> PreTrainedModel:
    """A copy of the model with unit scales multiplied into its weights: the same outputs without the gates.

    `scales` is keyed as the gates are (`hidden`, `heads_l`, `neurons_l`, `attention_l`, `ffn_l`). Weights that a unit
    writes through are scaled, never those of a norm or those that read it; in a tied model the norm before the output
    table is divided instead, so that the logits stay.
    """
    folded = copy.deepcopy(model)
    hidden = scales.get("hidden")
    family = anatomy.family
    with torch.no_grad():
        for layer in range(anatomy.layers):
            for source, out, block in (("heads", "attention_out", "attention"), ("neurons", "ffn_out", "ffn")):
                if not getattr(anatomy.shape, source)[layer]:
                    continue
                linear = cast(nn.Linear, part(folded, family, layer, out))
                if (unit := scales.get(f"{source}_{layer}")) is not None:
                    linear.weight.mul_(unit.to(linear.weight).repeat_interleave(linear.in_features // len(unit)))
                for scale in (scales.get(f"{block}_{layer}"), hidden):
                    if scale is not None:
                        _scale_outputs(linear, scale)
        if hidden is not None:
            word = family.word if anatomy.shape.rank is None else None
            for table in (word, family.positions, family.token_types):
                if table is not None:
                    embedding = cast(nn.Embedding, folded.base_model.get_submodule(table))
                    embedding.weight.mul_(hidden.to(embedding.weight))
            if word is None:  # a factored table is written through its second factor
                project = cast(nn.Linear, folded.base_model.get_submodule(f"{family.word}.project"))
                project.weight.mul_(hidden.to(project.weight)[:, None])
            for tail in family.tails_of(anatomy.class_name):
                if tail.kind == "transform":
                    _scale_outputs(folded.get_submodule(tail.path), hidden)
                elif tail.kind == "norm" and anatomy.tied:
                    _scale_outputs(folded.get_submodule(tail.path), torch.where(hidden == 0, 1.0, 1 / hidden))
    return folded


def _scale_outputs(module: nn.Module, scale: Tensor) -> None:
    """Multiply what a Linear or a LayerNorm gives, channel by channel."""
    weight, bias = cast(Tensor, module.weight), cast(Tensor, module.bias)
    weight.mul_(scale.to(weight).view(-1, *[1] * (weight.ndim - 1)))
    bias.mul_(scale.to(bias))
