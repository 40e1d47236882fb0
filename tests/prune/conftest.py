"""Budgets against small models, shapes of larger ones without weights, and small encoded texts."""

from collections.abc import Callable, Sequence

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from narrows.core.budget import Budget
from narrows.core.seeds import generator
from narrows.data import Examples
from narrows.distill.encode import EncodedTexts
from narrows.prune.scores import Limits
from narrows.transformer.anatomy import Anatomy
from narrows.transformer.cost import cost_of


@pytest.fixture(scope="session")
def limits_of() -> Callable[..., Limits]:
    """`limits_of(anatomy, "20% params", ...)`."""

    def make(anatomy: Anatomy, *budgets: str) -> Limits:
        dense = cost_of(anatomy, anatomy.full_plan(), 16)
        return Limits(anatomy, [Budget.parse(b) for b in budgets], dense)

    return make


def shape(vocab: int, hidden: int, layers: int, heads: int, neurons: int) -> Anatomy:
    config = BertConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=neurons,
    )
    with torch.device("meta"):
        return Anatomy.of(BertForSequenceClassification(config))


@pytest.fixture(scope="session")
def minilm_shape() -> Anatomy:
    return shape(30522, 384, 6, 12, 1536)


@pytest.fixture(scope="session")
def medium_shape() -> Anatomy:
    return shape(4000, 128, 4, 8, 512)


def make_batch(rows: int, tokens: int, seed: int = 0, classes: int = 3) -> dict[str, torch.Tensor]:
    """Random tokens of a vocabulary of 40 with padding, and labels."""
    draw = generator(seed, "batch")
    lengths = torch.randint(2, tokens + 1, (rows,), generator=draw)
    lengths[0] = tokens
    mask = (torch.arange(tokens) < lengths[:, None]).long()
    return {
        "input_ids": torch.randint(4, 40, (rows, tokens), generator=draw) * mask,
        "attention_mask": mask,
        "labels": torch.randint(classes, (rows,), generator=draw),
    }


@pytest.fixture(scope="session")
def batches() -> Callable[..., Sequence[dict[str, torch.Tensor]]]:
    """`batches(n, rows, tokens)`: random ones."""
    return lambda n, rows=3, tokens=6: [make_batch(rows, tokens, seed) for seed in range(n)]


@pytest.fixture(scope="session")
def texts() -> EncodedTexts:
    """48 sentences of 1 to 8 words over a vocabulary of 40; the first word decides one of three classes."""
    words = ["[PAD]", "[UNK]", *(f"w{i}" for i in range(38))]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_input_names=["input_ids", "attention_mask"],
    )
    draw = generator(0, "texts")
    rows = [torch.randint(38, (1 + i % 8,), generator=draw).tolist() for i in range(48)]
    sentences = tuple(" ".join(f"w{w}" for w in row) for row in rows)
    examples = Examples(sentences, None, tuple(row[0] % 3 for row in rows), ("a", "b", "c"))
    return EncodedTexts(examples, tokenizer)
