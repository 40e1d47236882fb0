"""Encoders whose layers differ: BERT, RoBERTa, DistilBERT and ELECTRA with fewer heads, neurons and channels.

This one file is all the code that a narrow checkpoint needs. It imports torch and transformers, reads nothing
and writes nothing. Every model here is the stock transformers model: the stock constructor runs on a plain
config, then the Linear layers named in `Layout` are replaced by smaller ones. No stock `forward` is copied;
weights keep their stock names: what works with a stock class works with its narrow one.

What config.json holds beside the stock keys:

  per_layer_config  transformers' own schema: for each layer its number of heads and of feed-forward neurons,
                    and `skip` ("attention", "mlp") where a whole block is gone: the block then returns zeros,
                    and the LayerNorm after it stays. The global head and neuron numbers are nominal, 1, so
                    that stock classes refuse the folder instead of filling it with random weights.
  head_dim          width of one attention head
  pooler_size       output width of the first Linear of the head: pooler, classifier.dense, pre_classifier
  embedding_rank    null, or r: the word table is a (vocabulary x r) table times a (hidden x r) matrix
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForQuestionAnswering,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
    DistilBertModel,
    ElectraConfig,
    ElectraForMaskedLM,
    ElectraForPreTraining,
    ElectraForQuestionAnswering,
    ElectraForSequenceClassification,
    ElectraForTokenClassification,
    ElectraModel,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
    __version__,
)

if not hasattr(BertConfig, "is_heterogeneous"):
    raise ImportError(
        f"this model has layers of different sizes, which transformers {__version__} cannot describe; "
        "install transformers 5.23 or newer"
    )


class Layout(NamedTuple):
    """Where a family keeps the parts of a layer (paths inside it), and what its config calls their sizes."""

    layers: str
    attention: str
    query: str
    key: str
    value: str
    attention_output: str
    ffn: str
    ffn_input: str
    ffn_output: str
    head_count: str
    neuron_count: str


BERT = Layout(
    layers="encoder.layer",
    attention="attention.self",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    ffn="intermediate",
    ffn_input="intermediate.dense",
    ffn_output="output.dense",
    head_count="num_attention_heads",
    neuron_count="intermediate_size",
)
DISTILBERT = Layout(
    layers="transformer.layer",
    attention="attention",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attention_output="attention.out_lin",
    ffn="ffn",
    ffn_input="ffn.lin1",
    ffn_output="ffn.lin2",
    head_count="n_heads",
    neuron_count="hidden_dim",
)

# The Linear whose output is `pooler_size` wide, and the Linear that reads it, in every head that has them.
TAILS = (
    ("pooler.dense", "classifier"),
    ("classifier.dense", "classifier.out_proj"),
    ("pre_classifier", "classifier"),
    ("discriminator_predictions.dense", "discriminator_predictions.dense_prediction"),
)


# Not called NoAttention: a module class of such a name makes transformers refuse `set_attn_implementation`.
class NoHeads(nn.Module):
    """In place of a removed attention block: zeros, and no attention weights."""

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, None]:
        """(batch, tokens, hidden) -> zeros of the same shape."""
        return torch.zeros_like(hidden_states), None


class NoNeurons(nn.Module):
    """In place of a removed feed-forward block: zeros."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, hidden) -> zeros of the same shape."""
        return torch.zeros_like(hidden_states)


class FactoredEmbedding(nn.Embedding):
    """A word table of rank r: row i is project.weight @ weight[i]; weight is V x r, project.weight h x r."""

    def __init__(self, num_embeddings: int, rank: int, width: int, padding_idx: int | None = None) -> None:
        super().__init__(num_embeddings, rank, padding_idx=padding_idx)
        self.project = nn.Linear(rank, width, bias=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Token ids of any shape -> vectors (..., width)."""
        vectors: torch.Tensor = self.project(super().forward(input))
        return vectors


def size(config: Any, name: str) -> int:
    """The positive whole number that `config` has under `name`, or a ValueError."""
    value = getattr(config, name)
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"config: {name} must be a positive whole number, got {value!r}")
    return value


def resize(module: nn.Module, path: str, inputs: int | None = None, outputs: int | None = None) -> None:
    """Put a fresh Linear of another shape in place of the one at `path`; a width that is None stays."""
    old: Any = module.get_submodule(path)
    shape = (inputs or old.in_features, outputs or old.out_features)
    module.set_submodule(path, nn.Linear(*shape, bias=old.bias is not None))


def narrow(layer: nn.Module, config: Any, layout: Layout) -> None:
    """Give one stock layer the heads and neurons that `config`, the config of this layer, says."""
    skip = getattr(config, "skip", ())
    if unknown := set(skip) - {"attention", "mlp"}:
        raise ValueError(f"config: a layer can skip 'attention' and 'mlp', got {sorted(unknown)}")
    if "attention" in skip:
        layer.set_submodule(layout.attention_output, nn.Identity())
        layer.set_submodule(layout.attention, NoHeads())
    else:
        heads, head_dim = size(config, layout.head_count), size(config, "head_dim")
        attention: Any = layer.get_submodule(layout.attention)
        setattr(attention, layout.head_count, heads)
        attention.attention_head_size = head_dim
        attention.all_head_size = heads * head_dim
        attention.scaling = head_dim**-0.5
        for path in (layout.query, layout.key, layout.value):
            resize(layer, path, outputs=heads * head_dim)
        resize(layer, layout.attention_output, inputs=heads * head_dim)
    if "mlp" in skip:
        layer.set_submodule(layout.ffn_output, nn.Identity())
        layer.set_submodule(layout.ffn, NoNeurons())
    else:
        resize(layer, layout.ffn_input, outputs=size(config, layout.neuron_count))
        resize(layer, layout.ffn_output, inputs=size(config, layout.neuron_count))


class Narrow:
    """Stands before a stock class and narrows what the stock constructor has built."""

    config_class: Any
    layout: Layout

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        layers = config.to_dict().get("per_layer_config")
        self.__dict__["_layers"] = layers  # nn.Module takes no attributes before its own __init__
        config.per_layer_config = None  # the stock constructor must see a plain config
        try:
            super().__init__(config, *args, **kwargs)  # type: ignore[call-arg]
        finally:
            config.per_layer_config = layers

    def post_init(self) -> None:
        """Narrow the model; the stock constructor calls this, and here weights are initialised and tied."""
        model: Any = self
        base, config = model.base_model, model.config
        config.per_layer_config = self.__dict__.pop("_layers")
        for layer, layer_config in zip(base.get_submodule(self.layout.layers), config.per_layer_config, strict=True):
            narrow(layer, layer_config, self.layout)

        names = {name for name, _ in model.named_modules()}
        inner = "" if base is model else f"{model.base_model_prefix}."
        for dense, reader in TAILS:
            dense = inner + dense if dense.startswith("pooler") else dense
            if dense in names:
                resize(model, dense, outputs=size(config, "pooler_size"))
                if reader in names:
                    resize(model, reader, inputs=size(config, "pooler_size"))

        if config.embedding_rank is not None:
            if config.tie_word_embeddings and model.get_output_embeddings() is not None:
                raise ValueError("config: a word table with embedding_rank cannot be tied to a masked-LM head")
            table = base.embeddings.word_embeddings
            base.embeddings.word_embeddings = FactoredEmbedding(
                table.num_embeddings, size(config, "embedding_rank"), table.embedding_dim, table.padding_idx
            )
        super().post_init()  # type: ignore[misc]


@dataclass(kw_only=True, eq=False, repr=False)
class NarrowConfig:
    """Stands before a stock config class: the keys that are ours, and a complete `auto_map`."""

    head_dim: int = 64
    pooler_size: int = 768
    embedding_rank: int | None = None

    tasks: ClassVar[tuple[str, ...]] = (
        "",
        "ForMaskedLM",
        "ForQuestionAnswering",
        "ForSequenceClassification",
        "ForTokenClassification",
    )

    def __post_init__(self, **kwargs: Any) -> None:
        # Complete from the start, since `save_pretrained` adds only the class it saves; and never the name of the
        # repository the model came from, since the file is copied along.
        prefix = f"{__name__.rpartition('.')[2]}.{type(self).__name__.removesuffix('Config')}"
        classes = {f"AutoModel{task}": f"{prefix}{task or 'Model'}" for task in self.tasks}
        kwargs["auto_map"] = {"AutoConfig": f"{prefix}Config"} | classes
        super().__post_init__(**kwargs)  # type: ignore[misc]

    def to_dict(self) -> dict[str, Any]:
        """All values, the number of layers under its common name too."""
        # DistilBERT says n_layers; AutoTokenizer, where this file may not run, reads a config of no family.
        values: dict[str, Any] = super().to_dict()  # type: ignore[misc]
        layers: int = self.num_hidden_layers  # type: ignore[attr-defined]
        return values | {"num_hidden_layers": layers}


class NarrowBertConfig(NarrowConfig, BertConfig):
    """Config of the narrow BERT models."""

    model_type = "narrow-bert"


class NarrowRobertaConfig(NarrowConfig, RobertaConfig):
    """Config of the narrow RoBERTa models."""

    model_type = "narrow-roberta"


class NarrowDistilBertConfig(NarrowConfig, DistilBertConfig):
    """Config of the narrow DistilBERT models."""

    model_type = "narrow-distilbert"


class NarrowElectraConfig(NarrowConfig, ElectraConfig):
    """Config of the narrow ELECTRA models."""

    model_type = "narrow-electra"
    tasks = (*NarrowConfig.tasks, "ForPreTraining")


class NarrowBert(Narrow):
    """What all narrow BERT models share."""

    config_class: Any = NarrowBertConfig
    layout = BERT


class NarrowRoberta(Narrow):
    """What all narrow RoBERTa models share."""

    config_class: Any = NarrowRobertaConfig
    layout = BERT


class NarrowDistilBert(Narrow):
    """What all narrow DistilBERT models share."""

    config_class: Any = NarrowDistilBertConfig
    layout = DISTILBERT


class NarrowElectra(Narrow):
    """What all narrow ELECTRA models share."""

    config_class: Any = NarrowElectraConfig
    layout = BERT


class NarrowBertModel(NarrowBert, BertModel):
    """Narrow BERT: the encoder alone."""


class NarrowBertForMaskedLM(NarrowBert, BertForMaskedLM):
    """Narrow BERT: masked-word prediction."""


class NarrowBertForSequenceClassification(NarrowBert, BertForSequenceClassification):
    """Narrow BERT: one label or number per text."""


class NarrowBertForTokenClassification(NarrowBert, BertForTokenClassification):
    """Narrow BERT: one label per token."""


class NarrowBertForQuestionAnswering(NarrowBert, BertForQuestionAnswering):
    """Narrow BERT: start and end of an answer."""


class NarrowRobertaModel(NarrowRoberta, RobertaModel):
    """Narrow RoBERTa: the encoder alone."""


class NarrowRobertaForMaskedLM(NarrowRoberta, RobertaForMaskedLM):
    """Narrow RoBERTa: masked-word prediction."""


class NarrowRobertaForSequenceClassification(NarrowRoberta, RobertaForSequenceClassification):
    """Narrow RoBERTa: one label or number per text."""


class NarrowRobertaForTokenClassification(NarrowRoberta, RobertaForTokenClassification):
    """Narrow RoBERTa: one label per token."""


class NarrowRobertaForQuestionAnswering(NarrowRoberta, RobertaForQuestionAnswering):
    """Narrow RoBERTa: start and end of an answer."""


class NarrowDistilBertModel(NarrowDistilBert, DistilBertModel):
    """Narrow DistilBERT: the encoder alone."""


class NarrowDistilBertForMaskedLM(NarrowDistilBert, DistilBertForMaskedLM):
    """Narrow DistilBERT: masked-word prediction."""


class NarrowDistilBertForSequenceClassification(NarrowDistilBert, DistilBertForSequenceClassification):
    """Narrow DistilBERT: one label or number per text."""


class NarrowDistilBertForTokenClassification(NarrowDistilBert, DistilBertForTokenClassification):
    """Narrow DistilBERT: one label per token."""


class NarrowDistilBertForQuestionAnswering(NarrowDistilBert, DistilBertForQuestionAnswering):
    """Narrow DistilBERT: start and end of an answer."""


class NarrowElectraModel(NarrowElectra, ElectraModel):
    """Narrow ELECTRA: the encoder alone."""


class NarrowElectraForMaskedLM(NarrowElectra, ElectraForMaskedLM):
    """Narrow ELECTRA: masked-word prediction."""


class NarrowElectraForSequenceClassification(NarrowElectra, ElectraForSequenceClassification):
    """Narrow ELECTRA: one label or number per text."""


class NarrowElectraForTokenClassification(NarrowElectra, ElectraForTokenClassification):
    """Narrow ELECTRA: one label per token."""


class NarrowElectraForQuestionAnswering(NarrowElectra, ElectraForQuestionAnswering):
    """Narrow ELECTRA: start and end of an answer."""


class NarrowElectraForPreTraining(NarrowElectra, ElectraForPreTraining):
    """Narrow ELECTRA: replaced-word detection."""
