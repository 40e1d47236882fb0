"""Gates in place: multiply the units of a Hugging Face model without changing its class, its names or its file format.

A gate is any module with `factor(lead, dtype)` (what its units are multiplied by) and `kept()` (which are on). What a
gated model computes with factors of exactly 0 and 1 is what `cut` computes with the units removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from narrows.core.errors import ModelError
from narrows.transformer.anatomy import Anatomy, part
from narrows.transformer.plan import Plan

ATTRIBUTE = "narrows_gates"


class Gate(Protocol):
    """What `attach_gates` needs of a gate of n units."""

    def factor(self, lead: torch.Size, dtype: torch.dtype) -> Tensor:
        """A factor that broadcasts to `lead + (n,)`; `lead` is (batch, tokens)."""
        ...

    def kept(self) -> Tensor:
        """Which units are on: a bool tensor of shape (n,)."""
        ...


class MaskGate(nn.Module):
    """A gate with fixed factors: 0 and 1 for a mask, anything else for a folded scale."""

    values: Tensor

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = nn.Buffer(values.detach().clone().float() if not values.is_floating_point() else values)

    def factor(self, lead: torch.Size, dtype: torch.dtype) -> Tensor:
        return self.values.to(dtype)

    def kept(self) -> Tensor:
        return self.values != 0


class ProbeGate(nn.Module):
    """A gate fixed at 1 that records the gradient of the loss with respect to its factor, per example.

    After a backward pass `gradient()` has shape (batch, n): summed over the tokens of each example and over all uses.
    `mask` (n,) of 0 and 1 switches units off; their gradient says what switching them on again would do.
    """

    values: Tensor

    def __init__(self, size: int, mask: Tensor | None = None) -> None:
        super().__init__()
        self.values = nn.Buffer(torch.ones(size) if mask is None else mask)
        self.uses: list[Tensor] = []

    def factor(self, lead: torch.Size, dtype: torch.dtype) -> Tensor:
        probe = self.values.to(dtype).expand(lead[0], 1, -1).clone().requires_grad_()
        self.uses.append(probe)
        return probe

    def kept(self) -> Tensor:
        return self.values != 0

    def gradient(self) -> Tensor:
        gradients = [u.grad for u in self.uses if u.grad is not None]
        self.uses = []
        return torch.stack(gradients).sum(0)[:, 0]


class RankGate(nn.Module):
    """Gates directions of the word table: `e -> mean + ((e - mean) V * z) V^T`, V (hidden x hidden) orthonormal."""

    def __init__(self, gate: nn.Module, directions: Tensor, mean: Tensor) -> None:
        super().__init__()
        self.gate = gate
        self.directions = nn.Buffer(directions)
        self.mean = nn.Buffer(mean)

    def forward(self, table: Tensor) -> Tensor:
        coordinates = (table - self.mean) @ self.directions
        factor = cast(Gate, self.gate).factor(coordinates.shape[:-1], coordinates.dtype)
        return self.mean + (coordinates * factor) @ self.directions.T


class GatedNorm(nn.Module):
    """LayerNorm over the kept channels only; the others pass unchanged, so that a gate can bring them back.

    Statistics over pruned zeros would differ from those of the cut model.
    """

    def __init__(self, norm: nn.LayerNorm, gate: nn.Module) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.__dict__["gate"] = gate
        self.__dict__["plain"] = norm

    def forward(self, x: Tensor) -> Tensor:
        kept = cast(Gate, self.gate).kept().to(x.dtype).to(x.device)
        count = kept.sum()
        centred = (x - (x * kept).sum(-1, keepdim=True) / count) * kept
        variance = centred.square().sum(-1, keepdim=True) / count
        y = centred * torch.rsqrt(variance + self.eps) * self.weight + self.bias
        return torch.where(kept.bool(), y, x)


class Gates(nn.Module):
    """The gates of a model, keyed `hidden`, `rank`, and per layer `heads_0`, `neurons_0`, `attention_0`, `ffn_0`."""

    def __init__(self, gates: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.units = nn.ModuleDict(dict(gates))
        self.handles: list[Any] = []
        self.swapped: list[tuple[nn.Module, str, nn.Module]] = []

    def __getitem__(self, key: str) -> Any:
        return self.units[key]

    def items(self) -> Iterator[tuple[str, Any]]:
        return iter(self.units.items())


def attach_gates(model: PreTrainedModel, anatomy: Anatomy, gates: Mapping[str, nn.Module]) -> Gates:
    """Put gates into a model, in place, as its submodule `narrows_gates`.

    Unit gates are sized by the anatomy: `hidden` (hidden,), `heads_l` (heads,), `neurons_l` (neurons,), and the
    scalars `attention_l`, `ffn_l` (1,). A `rank` gate is a `RankGate`. `detach_gates` restores the model bit for bit.
    Raises `ModelError` when the model has gates already, or a gate has no place or another size.
    """
    if hasattr(model, ATTRIBUTE):
        raise ModelError("this model has gates already; call detach_gates first")
    shape = anatomy.shape
    sizes = {"hidden": shape.hidden, "rank": shape.hidden}
    for i, (heads, neurons) in enumerate(zip(shape.heads, shape.neurons, strict=True)):
        sizes |= {f"heads_{i}": heads, f"neurons_{i}": neurons, f"attention_{i}": 1, f"ffn_{i}": 1}
    if unknown := sorted(set(gates) - set(sizes)):
        raise ModelError(
            f"no place for gates {unknown}; places are hidden, rank, heads_l, neurons_l, attention_l, ffn_l"
        )
    for key, gate in gates.items():
        units = len(cast(Gate, gate.gate if isinstance(gate, RankGate) else gate).kept())
        if units != sizes[key]:
            raise ModelError(f"the gate {key} has {units} units, its place in the model {sizes[key]}")
    box = Gates(gates)
    model.add_module(ATTRIBUTE, box)
    family = anatomy.family
    hidden = gates.get("hidden")
    for layer in range(anatomy.layers):
        for source, out, block in (("heads", "attention_out", "attention"), ("neurons", "ffn_out", "ffn")):
            if not getattr(anatomy.shape, source)[layer]:
                continue
            linear = part(model, family, layer, out)
            unit = gates.get(f"{source}_{layer}")
            after = [g for g in (hidden, gates.get(f"{block}_{layer}")) if g is not None]
            if unit is not None:
                linear.__dict__["narrows_in"] = unit
                box.handles.append(linear.register_forward_pre_hook(_gate_input))
            if unit is not None or after:
                linear.__dict__["narrows_out"] = (unit, after)
                box.handles.append(linear.register_forward_hook(_gate_output))
    if "rank" in gates:
        word = model.base_model.get_submodule(family.word)
        word.__dict__["narrows_rank"] = gates["rank"]
        box.handles.append(word.register_forward_hook(_gate_table))
    if hidden is not None:
        _gate_hidden(model, anatomy, box, hidden)
    return box


def detach_gates(model: PreTrainedModel) -> None:
    """Take the gates out again; without gates this does nothing."""
    box = cast("Gates | None", getattr(model, ATTRIBUTE, None))
    if box is None:
        return
    for handle in box.handles:
        handle.remove()
    for parent, name, norm in box.swapped:
        setattr(parent, name, norm)
    for module in model.modules():
        for key in ("narrows_in", "narrows_out", "narrows_rank"):
            module.__dict__.pop(key, None)
    delattr(model, ATTRIBUTE)


@contextmanager
def gated(model: PreTrainedModel, anatomy: Anatomy, gates: Mapping[str, nn.Module]) -> Iterator[Gates]:
    """The model with gates inside the `with`, and without them after it."""
    box = attach_gates(model, anatomy, gates)
    try:
        yield box
    finally:
        detach_gates(model)


def mask_gates(anatomy: Anatomy, plan: Plan, dtype: torch.dtype = torch.float32) -> dict[str, nn.Module]:
    """The 0/1 gates of a plan over channels, heads, neurons and blocks (not its rank and vocabulary).

    Raises `ModelError` for a plan in a rotated basis, which no mask can express.
    """
    if plan.basis != "channels":
        raise ModelError(f"a plan in the basis {plan.basis!r} has no mask; only 'channels' has")

    def mask(kept: tuple[int, ...], size: int) -> MaskGate:
        values = torch.zeros(size, dtype=dtype)
        values[list(kept)] = 1
        return MaskGate(values)

    gates: dict[str, nn.Module] = {"hidden": mask(plan.hidden, anatomy.shape.hidden)}
    for i, layer in enumerate(plan.layers):
        gates[f"heads_{i}"] = mask(layer.heads, anatomy.shape.heads[i])
        gates[f"neurons_{i}"] = mask(layer.neurons, anatomy.shape.neurons[i])
    return gates


def _gate_hidden(model: PreTrainedModel, anatomy: Anatomy, box: Gates, hidden: nn.Module) -> None:
    family = anatomy.family
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    norms = [prefix + family.embedding_norm]
    for layer in range(anatomy.layers):
        norms += [f"{prefix}{family.layers}.{layer}.{n}" for n in (family.attention_norm, family.ffn_norm)]
    embedding_norm = model.get_submodule(norms[0])
    for tail in family.tails_of(anatomy.class_name):
        if tail.kind == "norm":
            norms.append(tail.path)
        elif tail.kind == "transform":
            dense = model.get_submodule(tail.path)
            dense.__dict__["narrows_out"] = (None, [hidden])
            box.handles.append(dense.register_forward_hook(_gate_output))
    for path in norms:
        parent_path, _, name = path.rpartition(".")
        parent = model.get_submodule(parent_path)
        norm = cast(nn.LayerNorm, getattr(parent, name))
        box.swapped.append((parent, name, norm))
        setattr(parent, name, GatedNorm(norm, hidden))
    gated_norm = model.get_submodule(norms[0])
    assert embedding_norm is not gated_norm
    gated_norm.__dict__["narrows_in"] = hidden
    box.handles.append(gated_norm.register_forward_pre_hook(_gate_input))


def _gate_input(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    x = args[0]
    factor = cast(Gate, module.__dict__["narrows_in"]).factor(x.shape[:-1], x.dtype)
    width = x.shape[-1] // factor.shape[-1]
    if width == 1:
        return (x * factor, *args[1:])
    by_head = x.unflatten(-1, (factor.shape[-1], width))
    return ((by_head * factor.unsqueeze(-1)).flatten(-2), *args[1:])


def _gate_output(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    unit, after = module.__dict__["narrows_out"]
    if unit is not None:  # a block without units is removed, its bias too
        output = output * unit.kept().any().to(output.dtype).to(output.device)
    for gate in after:
        output = output * gate.factor(output.shape[:-1], output.dtype)
    return output


def _gate_table(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return cast(Tensor, module.__dict__["narrows_rank"](output))


def layer_norm(norm: nn.Module, x: Tensor) -> Tensor:
    """The normalised input of a LayerNorm before its slope and offset, shape of `x`."""
    return F.layer_norm(x, x.shape[-1:], eps=cast(float, norm.eps))
