"""A family says, in one declarative value, where an architecture keeps its parts.

Adding a family means writing such a description (see `bert.py`); no method and no other file of this room changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from transformers import PreTrainedModel

from narrows.core.errors import ModelError

TailKind = Literal["read", "transform", "norm", "table", "free"]


@dataclass(frozen=True)
class Tail:
    """A module behind the last layer, and which of its axes belong to the residual stream.

    `path` is relative to the whole model, or to its base model when `in_base`.
    Kinds: `read` (Linear, input is the residual stream), `transform` (Linear from the residual stream to itself),
    `norm` (LayerNorm over it), `table` (Linear to the vocabulary), `free` (Linear that touches neither).
    `per_token` says whether the module runs for every token or once per example.
    """

    path: str
    kind: TailKind
    per_token: bool = False
    in_base: bool = False


@dataclass(frozen=True)
class Family:
    """Where a post-LayerNorm encoder keeps its parts.

    Paths of the embedding are relative to the base model, paths of a block to its layer.
    `tails` maps the end of a class name (`Model`, `ForSequenceClassification`, ...) to what follows the last layer.
    """

    model_type: str
    layers: str
    word: str
    positions: str
    token_types: str | None
    embedding_norm: str
    query: str
    key: str
    value: str
    attention_out: str
    attention_norm: str
    ffn_in: str
    activation: str
    ffn_out: str
    ffn_norm: str
    tails: Mapping[str, tuple[Tail, ...]]

    def tails_of(self, class_name: str) -> tuple[Tail, ...]:
        """The tails of a model class.

        Raises `ModelError` when the family does not describe the class.
        """
        for suffix, tails in self.tails.items():
            if class_name.endswith(suffix):
                return tails
        raise ModelError(
            f"{class_name} is not described for the family {self.model_type!r}; described are classes ending in "
            f"{', '.join(self.tails)}"
        )


def family_of(model_type: str) -> Family:
    """The description of a `config.model_type`, stock (`bert`) or narrow (`narrow-bert`).

    Raises `ModelError` naming the supported families.
    """
    from narrows.transformer.bert import BERT
    from narrows.transformer.distilbert import DISTILBERT
    from narrows.transformer.electra import ELECTRA
    from narrows.transformer.roberta import ROBERTA

    families = {f.model_type: f for f in (BERT, ROBERTA, DISTILBERT, ELECTRA)}
    try:
        return families[model_type.removeprefix("narrow-")]
    except KeyError:
        raise ModelError(
            f"model type {model_type!r} is not supported; supported are {', '.join(sorted(families))}"
        ) from None


def longest(model: PreTrainedModel) -> int:
    """The longest text that the model has positions for, in tokens."""
    table: Any = model.base_model.get_submodule(family_of(model.config.model_type).positions)
    # RoBERTa counts positions from behind the padding id.
    return int(table.num_embeddings) - (0 if table.padding_idx is None else table.padding_idx + 1)
