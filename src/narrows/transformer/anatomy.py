"""The units of one concrete model, read off the description of its family."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import nn
from transformers import PreTrainedModel

from narrows.core.errors import ModelError
from narrows.transformer.family import Family, family_of
from narrows.transformer.plan import LayerPlan, Plan, Shape

Axis = Literal["hidden", "heads", "neurons", "vocab", "rank", "tail"]
Block = Literal["attention", "ffn"]
Use = Literal["tokens", "once", "lookup", "norm", "none"]

BLOCK_PARTS: dict[Block, tuple[str, ...]] = {
    "attention": ("query", "key", "value", "attention_out"),
    "ffn": ("ffn_in", "ffn_out"),
}


@dataclass(frozen=True)
class Slot:
    """One parameter tensor: the unit axis of each dimension (None: fixed), its size now, its block, how often it
    multiplies.

    `heads` counts single channels here: the axis has heads x head size entries.
    """

    axes: tuple[Axis | None, ...]
    size: tuple[int, ...]
    layer: int | None = None
    block: Block | None = None
    use: Use = "none"


def part(model: PreTrainedModel, family: Family, layer: int, name: str) -> nn.Module:
    """The module that plays the role `name` (a field of `Family`) in a layer."""
    module: nn.Module = model.base_model.get_submodule(f"{family.layers}.{layer}.{getattr(family, name)}")
    return module


@dataclass(frozen=True)
class Anatomy:
    """What a transformer is made of: its shape and, for every parameter tensor, which units own which slices.

    `slots` is keyed by parameter name; `aliases` maps the other names of tied tensors to the name that owns them;
    `word` is the name of the word table.
    """

    family: Family
    class_name: str
    shape: Shape
    head_dim: int
    slots: dict[str, Slot]
    aliases: dict[str, str]
    word: str
    itemsize: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> Anatomy:
        """Read a model, dense or already cut.

        Raises `ModelError` for a family, class or module that is not described, and for quantised weights.
        """
        family = family_of(model.config.model_type)
        if getattr(model.config, "embedding_size", model.config.hidden_size) != model.config.hidden_size:
            raise ModelError(
                f"embedding_size {model.config.embedding_size} differs from hidden_size {model.config.hidden_size}; "
                "only models whose embedding is as wide as their layers are supported"
            )
        slots, aliases = _slots(model, family)
        shape, head_dim = _shape(model, family, slots)
        itemsize = next(model.parameters()).element_size()
        word = f"{_root(model)}{family.word}.weight"
        return cls(family, type(model).__name__, shape, head_dim, slots, aliases, word, itemsize)

    @property
    def layers(self) -> int:
        return len(self.shape.heads)

    @property
    def tied(self) -> bool:
        """Whether an output table shares the word table's weights, which then cannot be factored."""
        return self.word in self.aliases.values()

    def full_plan(self) -> Plan:
        """The plan that keeps everything."""
        return Plan(
            hidden=tuple(range(self.shape.hidden)),
            layers=tuple(
                LayerPlan(tuple(range(h)), tuple(range(n)))
                for h, n in zip(self.shape.heads, self.shape.neurons, strict=True)
            ),
            rank=self.shape.rank,
        )

    def shape_of(self, plan: Plan) -> Shape:
        """The shape of the model that a plan leaves.

        Raises `ModelError` when the plan names units that the model does not have.
        """
        dense = self.shape
        if len(plan.layers) != self.layers:
            raise ModelError(f"the plan has {len(plan.layers)} layers, the model {self.layers}")
        checks = [("hidden", plan.hidden, dense.hidden), ("vocab", plan.vocab or (), dense.vocab)]
        for i, layer in enumerate(plan.layers):
            checks += [
                (f"heads of layer {i}", layer.heads, dense.heads[i]),
                (f"neurons of layer {i}", layer.neurons, dense.neurons[i]),
            ]
        for name, ids, size in checks:
            if ids and ids[-1] >= size:
                raise ModelError(f"the plan keeps unit {ids[-1]} of {name}, but the model has only {size}")
        if plan.rank is not None and self.tied:
            raise ModelError("the word table is tied to the output table and cannot be factored; use rank=None")
        if plan.rank is not None and plan.rank > (dense.rank or dense.hidden):
            raise ModelError(f"rank {plan.rank} exceeds the {dense.rank or dense.hidden} that the word table has")
        if dense.rank is not None and plan.rank is None:
            raise ModelError(f"the word table is factored already; the plan must name a rank of at most {dense.rank}")
        if plan.tail is not None and not 1 <= plan.tail <= dense.tail:
            raise ModelError(f"the plan keeps {plan.tail} units inside the head, but the model has {dense.tail}")
        return Shape(
            hidden=len(plan.hidden),
            heads=tuple(len(layer.heads) for layer in plan.layers),
            neurons=tuple(len(layer.neurons) for layer in plan.layers),
            vocab=dense.vocab if plan.vocab is None else len(plan.vocab),
            rank=plan.rank,
            tail=dense.tail if plan.tail is None else plan.tail,
        )


def _root(model: PreTrainedModel) -> str:
    return "" if model.base_model is model else f"{model.base_model_prefix}."


def _described(model: PreTrainedModel, family: Family) -> Iterator[tuple[str, nn.Module, Slot]]:
    """(module name, module, slot of its weight without sizes) for every module that the family describes."""
    root = _root(model)
    base = model.base_model
    for table in (family.positions, family.token_types):
        if table is not None:
            yield root + table, base.get_submodule(table), Slot((None, "hidden"), (), use="lookup")
    word = base.get_submodule(family.word)
    project = getattr(word, "project", None)
    yield root + family.word, word, Slot(("vocab", "rank" if project is not None else "hidden"), (), use="lookup")
    if project is not None:
        yield f"{root}{family.word}.project", project, Slot(("hidden", "rank"), (), use="tokens")
    yield root + family.embedding_norm, base.get_submodule(family.embedding_norm), Slot(("hidden",), (), use="norm")
    body: dict[str, tuple[tuple[Axis, ...], Block | None, Use]] = {
        "query": (("heads", "hidden"), "attention", "tokens"),
        "key": (("heads", "hidden"), "attention", "tokens"),
        "value": (("heads", "hidden"), "attention", "tokens"),
        "attention_out": (("hidden", "heads"), "attention", "tokens"),
        "attention_norm": (("hidden",), None, "norm"),
        "ffn_in": (("neurons", "hidden"), "ffn", "tokens"),
        "ffn_out": (("hidden", "neurons"), "ffn", "tokens"),
        "ffn_norm": (("hidden",), None, "norm"),
    }
    for layer in range(len(base.get_submodule(family.layers))):  # type: ignore[arg-type]
        for name, (axes, block, count) in body.items():
            path = f"{family.layers}.{layer}.{getattr(family, name)}"
            try:
                module = base.get_submodule(path)
            except AttributeError:
                continue  # a removed block of a model that was cut before
            yield root + path, module, Slot(axes, (), layer, block, count)
    for tail in family.tails_of(type(model).__name__):
        path = (root if tail.in_base else "") + tail.path
        try:
            module = model.get_submodule(path)
        except AttributeError:
            continue  # e.g. a base model built without its pooler
        width: Axis | None = None if tail.per_token else "tail"
        kinds: dict[str, tuple[Axis | None, ...]] = {
            "read": (width, "hidden"),
            "transform": ("hidden", "hidden"),
            "norm": ("hidden",),
            "table": ("vocab", "hidden"),
            "free": (None, width),
        }
        use: Use = "norm" if tail.kind == "norm" else "tokens" if tail.per_token else "once"
        yield path, module, Slot(kinds[tail.kind], (), use=use)


def _slots(model: PreTrainedModel, family: Family) -> tuple[dict[str, Slot], dict[str, str]]:
    found: dict[str, Slot] = {}
    for name, module, slot in _described(model, family):
        for parameter_name, parameter in module.named_parameters(recurse=False):
            if not parameter.is_floating_point():
                raise ModelError(
                    f"{name}.{parameter_name} has type {parameter.dtype}: quantised models cannot be cut, "
                    "load the model in float32, float16 or bfloat16"
                )
            first = parameter_name == "weight"
            found[f"{name}.{parameter_name}"] = Slot(
                slot.axes if first else slot.axes[:1],
                tuple(parameter.shape),
                slot.layer,
                slot.block,
                slot.use if first else "none",
            )
    owners: dict[int, str] = {}
    slots: dict[str, Slot] = {}
    aliases: dict[str, str] = {}
    unknown = []
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name.startswith("narrows_"):
            continue  # gates and maps that training attaches
        owner = owners.setdefault(id(parameter), name)
        if owner != name:
            aliases[name] = owner
        if name in found:
            slots[owner] = found[name]  # the output table of a tied pair comes last: it multiplies, a look-up does not
        elif owner == name:
            unknown.append(name)
    unknown = [name for name in unknown if name not in slots]  # a tied tensor may be described under its other name
    if unknown:
        raise ModelError(
            f"{type(model).__name__} has parameters that the family {family.model_type!r} does not describe: "
            f"{', '.join(unknown[:3])}"
        )
    return slots, aliases


def _shape(model: PreTrainedModel, family: Family, slots: dict[str, Slot]) -> tuple[Shape, int]:
    def axis(name: Axis, layer: int | None = None) -> int:
        for slot in slots.values():
            if name in slot.axes and slot.layer == layer:
                return slot.size[slot.axes.index(name)]
        return 0

    count = len(model.base_model.get_submodule(family.layers))  # type: ignore[arg-type]
    config = model.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    shape = Shape(
        hidden=axis("hidden"),
        heads=tuple(axis("heads", i) // head_dim for i in range(count)),
        neurons=tuple(axis("neurons", i) for i in range(count)),
        vocab=axis("vocab"),
        rank=axis("rank") or None,
        tail=axis("tail"),
    )
    return shape, head_dim
