"""Fixtures and helpers shared by all tests: tiny random models, no network."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from hypothesis import settings

torch.set_num_threads(1)

# Deadlines measure the machine, not the code.
settings.register_profile("narrows", deadline=None, max_examples=50, print_blob=True)
settings.load_profile("narrows")

_SMALL: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 20},
    "distilbert": {"dim": 24, "n_layers": 3, "n_heads": 4, "hidden_dim": 20},
}
_NO_DROPOUT = {
    "bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0},
    "distilbert": {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0, "qa_dropout": 0.0},
}
_CLASSES = {"bert": "Bert", "roberta": "Roberta", "distilbert": "DistilBert", "electra": "Electra"}


def tiny(
    family: str,
    *,
    head: str = "ForSequenceClassification",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    **over: Any,
) -> transformers.PreTrainedModel:
    """A tiny random model in eval mode, without dropout; `over` are configuration values of the family.

    Every parameter is random, biases and LayerNorms too: zeros and ones hide mistakes.
    """
    kind = "distilbert" if family == "distilbert" else "bert"
    values = {"vocab_size": 40, "max_position_embeddings": 34, "num_labels": 3} | _SMALL[kind] | _NO_DROPOUT[kind]
    if family == "roberta":
        values |= {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1}
    if family == "electra":
        values["embedding_size"] = over.get("hidden_size", values["hidden_size"])
    name = _CLASSES[family]
    config = getattr(transformers, f"{name}Config")(**values | over)
    torch.manual_seed(seed)
    model: transformers.PreTrainedModel = getattr(transformers, name + head)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.to(dtype).eval()


@pytest.fixture(name="tiny", scope="session")
def tiny_fixture() -> Callable[..., transformers.PreTrainedModel]:
    """`tiny(family, **over)` as a fixture: with importmode=importlib tests cannot import conftest."""
    return tiny
