"""Exact costs of a shape, computed without building the model."""

from __future__ import annotations

from dataclasses import replace

from narrows.core.cost import Cost
from narrows.transformer.anatomy import Anatomy, Axis, Slot
from narrows.transformer.plan import Plan, Shape


def cost_of(anatomy: Anatomy, plan: Plan, tokens: int) -> Cost:
    """The cost of the model that `plan` leaves, MACs for one example of `tokens` tokens."""
    return cost_of_shape(anatomy, anatomy.shape_of(plan), tokens)


def cost_of_shape(anatomy: Anatomy, shape: Shape, tokens: int) -> Cost:
    """The cost of a shape.

    `params` counts tied tensors once. `macs` are the multiply-accumulates of all matrix products of one example of
    `tokens` tokens: every Linear, and the two products of each attention head. `bytes` are the weights as stored.
    """
    params = embedding = macs = 0
    for name, slot in anatomy.slots.items():
        if slot.block == "attention" and not shape.heads[slot.layer or 0]:
            continue
        if slot.block == "ffn" and not shape.neurons[slot.layer or 0]:
            continue
        if "rank" in slot.axes and slot.use == "tokens":
            continue  # the second factor of a word table is counted with the first
        if name == anatomy.word and shape.rank is not None:
            size = shape.rank * (shape.vocab + shape.hidden)
            macs += tokens * shape.rank * shape.hidden
        else:
            size = 1
            for axis, fixed in zip(slot.axes, slot.size, strict=True):
                size *= fixed if axis is None else _length(anatomy, shape, axis, slot)
            if slot.use in ("tokens", "once"):
                macs += size * (tokens if slot.use == "tokens" else 1)
        params += size
        if slot.use == "lookup" or name == anatomy.word:
            embedding += size
    macs += 2 * tokens**2 * anatomy.head_dim * sum(shape.heads)
    return Cost(params=params, embedding_params=embedding, macs=macs, tokens=tokens, bytes=params * anatomy.itemsize)


def least_cost(anatomy: Anatomy, tokens: int, *, width: int = 8, vocab: int | None = None) -> Cost:
    """The cost of `width` directions without a head or neuron, and a table of `vocab` words: no plan goes below it."""
    shape, none = anatomy.shape, (0,) * anatomy.layers
    width = min(width, shape.hidden)
    return cost_of_shape(
        anatomy,
        replace(
            shape,
            hidden=width,
            heads=none,
            neurons=none,
            vocab=shape.vocab if vocab is None else vocab,
            rank=None if shape.rank is None else min(width, shape.rank),
        ),
        tokens,
    )


def _length(anatomy: Anatomy, shape: Shape, axis: Axis, slot: Slot) -> int:
    if axis == "heads":
        return shape.heads[slot.layer or 0] * anatomy.head_dim
    if axis == "neurons":
        return shape.neurons[slot.layer or 0]
    length = getattr(shape, axis)
    assert isinstance(length, int)
    return length
