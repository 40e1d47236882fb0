"""From a stock (or already narrow) class and config to the narrow ones, and back where stock can say it.

config = narrow_config(model.config, hidden=96, head_dim=32, heads=(5, 0), neurons=(300, 1536),
                       rank=None, vocab=30522, tail=384)
small = narrow_class(type(model))(config)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from narrows.core.errors import ModelError
from narrows.transformer import modeling_narrow_encoder as modeling

NARROW_CLASSES: dict[str, type[PreTrainedModel]] = {
    name: value
    for name, value in vars(modeling).items()
    if isinstance(value, type) and issubclass(value, modeling.Narrow) and issubclass(value, PreTrainedModel)
}
"""The narrow model classes by name (`NarrowBertModel`, ...)."""

NARROW_CONFIGS: dict[str, type[Any]] = {
    value.model_type: value
    for value in vars(modeling).values()
    if isinstance(value, type) and issubclass(value, modeling.NarrowConfig) and hasattr(value, "model_type")
}
"""The narrow config classes by model type (`narrow-bert`, ...)."""

_LAYOUTS = {
    value.config_class.model_type: value.layout
    for value in vars(modeling).values()
    if isinstance(value, type) and issubclass(value, modeling.Narrow) and hasattr(value, "layout")
}


def narrow_class(model_class: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The narrow class of a stock class; a narrow class gives itself.

    Raises `ModelError` for a class that has none, listing those that have one.
    """
    name = f"Narrow{_stock_name(model_class)}"
    if name not in NARROW_CLASSES:
        known = ", ".join(sorted(name.removeprefix("Narrow") for name in NARROW_CLASSES))
        raise ModelError(f"{model_class.__name__} cannot be made narrow; supported are {known}")
    return NARROW_CLASSES[name]


def stock_class(model_class: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The stock class of a narrow class; a stock class gives itself. Raises as `narrow_class` does."""
    found: type[PreTrainedModel] = getattr(transformers, _stock_name(narrow_class(model_class)))
    return found


def narrow_config(
    config: PreTrainedConfig,
    *,
    hidden: int,
    head_dim: int,
    heads: Sequence[int],
    neurons: Sequence[int],
    rank: int | None,
    vocab: int,
    tail: int,
) -> PreTrainedConfig:
    """A complete narrow config of the given sizes, everything else as in `config`, which is left alone.

    `heads` and `neurons` have one number per layer, 0 where the whole block is removed; `rank` is that of a
    factored word table; `tail` the output width of the pooler or of the classification head's first Linear.
    Raises `ModelError` for an unsupported kind of model and for sizes that no model can have.
    """
    values = _common_values(config, hidden, head_dim, heads, neurons, rank, vocab, tail)
    cls = NARROW_CONFIGS[_narrow_type(config)]
    layout = _LAYOUTS[cls.model_type]
    # Nominal numbers for the whole model and true ones, 0 included, in every layer: stock code that reads the
    # former then raises instead of building another model.
    values |= {layout.head_count: 1, layout.neuron_count: 1}
    values |= {"head_dim": head_dim, "pooler_size": tail, "embedding_rank": rank}
    layers: dict[int, dict[str, Any]] = {}
    for i, (h, n) in enumerate(zip(heads, neurons, strict=True)):
        layers[i] = {layout.head_count: h, layout.neuron_count: n}
        if skip := [block for block, count in (("attention", h), ("mlp", n)) if count == 0]:
            layers[i]["skip"] = skip
    narrow: PreTrainedConfig = cls(per_layer_config=layers, **values)
    return narrow


def stock_expressible(
    *,
    hidden: int,
    head_dim: int,
    heads: Sequence[int],
    neurons: Sequence[int],
    rank: int | None,
    tail: int | None,
) -> bool:
    """Whether a stock config can say these sizes; `tail` is None for a model that has no such Linear."""
    return (
        rank is None
        and tail in (hidden, None)
        and len(set(heads)) == len(set(neurons)) == 1
        and min(*heads, *neurons) > 0
        and hidden == heads[0] * head_dim
    )


def stock_config(
    config: PreTrainedConfig,
    *,
    hidden: int,
    head_dim: int,
    heads: Sequence[int],
    neurons: Sequence[int],
    rank: int | None,
    vocab: int,
    tail: int | None,
) -> PreTrainedConfig:
    """The stock config of these sizes, everything else as in `config` (stock or narrow).

    Raises `ModelError` where `stock_expressible` is False.
    """
    if not stock_expressible(hidden=hidden, head_dim=head_dim, heads=heads, neurons=neurons, rank=rank, tail=tail):
        raise ModelError(
            "a stock checkpoint needs equal layers with no block removed, a plain word table, and heads x "
            f"head size = width everywhere; got width {hidden}, heads {list(heads)} of size {head_dim}, "
            f"neurons {list(neurons)}, embedding rank {rank}, tail width {tail}"
        )
    values = _common_values(config, hidden, head_dim, heads, neurons, rank, vocab, hidden)
    narrow = NARROW_CONFIGS[_narrow_type(config)]
    layout = _LAYOUTS[narrow.model_type]
    for ours in ("head_dim", "pooler_size", "embedding_rank"):
        values.pop(ours, None)
    values |= {layout.head_count: heads[0], layout.neuron_count: neurons[0]}
    cls: type[PreTrainedConfig] = getattr(transformers, narrow.__name__.removeprefix("Narrow"))
    return cls(**values)


def tail_tensors(model: PreTrainedModel) -> tuple[tuple[str, int], ...]:
    """The tensors, with their axis, that carry the `tail` width of a stock or narrow model; () if none does.

    A stock class can only say tail = hidden: keep the same `hidden` units of every one of them. With
    BertForSequenceClassification: the rows of bert.pooler.dense (weight and bias), the columns of classifier.
    """
    names = {name for name, _ in model.named_modules()}
    inner = "" if model.base_model is model else f"{model.base_model_prefix}."
    found: list[tuple[str, int]] = []
    for dense, reader in modeling.TAILS:
        dense = inner + dense if dense.startswith("pooler") else dense
        if dense in names:
            found += [(f"{dense}.weight", 0), (f"{dense}.bias", 0)]
            found += [(f"{reader}.weight", 1)] if reader in names else []
    return tuple(found)


def _stock_name(model_class: type[PreTrainedModel]) -> str:
    return model_class.__name__.removeprefix("Narrow")


def _narrow_type(config: PreTrainedConfig) -> str:
    name = f"narrow-{config.model_type.removeprefix('narrow-')}"
    if name not in NARROW_CONFIGS:
        known = ", ".join(sorted(name.removeprefix("narrow-") for name in NARROW_CONFIGS))
        raise ModelError(f"model type {config.model_type!r} is not supported; supported are {known}")
    return name


def _common_values(
    config: PreTrainedConfig,
    hidden: int,
    head_dim: int,
    heads: Sequence[int],
    neurons: Sequence[int],
    rank: int | None,
    vocab: int,
    tail: int,
) -> dict[str, Any]:
    """The constructor's arguments that do not depend on the layers, after a check of all sizes."""
    _narrow_type(config)
    values = config.to_dict()
    if values.get("is_decoder"):
        raise ModelError("the model is a decoder (is_decoder=true); only encoders are supported")
    own_width = values[config.attribute_map.get("hidden_size", "hidden_size")]
    if values.get("embedding_size", own_width) != own_width:
        raise ModelError(
            f"the model has embedding_size {values['embedding_size']} and hidden_size {own_width}; "
            "ELECTRA is supported where the two are equal"
        )
    layers = config.num_hidden_layers
    if not len(heads) == len(neurons) == layers:
        raise ModelError(f"{len(heads)} head and {len(neurons)} neuron counts for a model of {layers} layers")
    sizes = {"hidden": hidden, "head_dim": head_dim, "vocab": vocab, "tail": tail, "rank": rank}
    if bad := {name: value for name, value in sizes.items() if value is not None and value < 1}:
        raise ModelError(f"sizes must be at least 1, got {', '.join(f'{k} {v}' for k, v in bad.items())}")
    if min(*heads, *neurons) < 0:
        raise ModelError(f"heads and neurons cannot be negative, got {list(heads)} and {list(neurons)}")

    for key in ("model_type", "transformers_version", "per_layer_config", "auto_map", "architectures"):
        values.pop(key, None)
    values |= {config.attribute_map.get("hidden_size", "hidden_size"): hidden, "vocab_size": vocab}
    if "embedding_size" in values:
        values["embedding_size"] = hidden
    return values | {"attn_implementation": config._attn_implementation}
