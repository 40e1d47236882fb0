"""Small labelled texts over a vocabulary of 40 words, and the tokenizer that reads them."""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from narrows.data import Examples
from narrows.distill import EncodedTexts

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [f"w{i}" for i in range(36)]


def make_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def make_examples(n: int = 60, seed: int = 0, task: str = "classification", longest: int = 12) -> Examples:
    """Sentences of 1 to `longest` words; the first word alone decides the label (3 classes, or a value)."""
    random = torch.Generator().manual_seed(seed)
    texts, numbers = [], []
    for _ in range(n):
        length = int(torch.randint(1, longest + 1, (1,), generator=random))
        words = torch.randint(len(WORDS), (length,), generator=random).tolist()
        texts.append(" ".join(WORDS[word] for word in words))
        numbers.append(words[0])
    if task == "regression":
        return Examples(tuple(texts), None, tuple(float(x) / 10 for x in numbers), None)
    return Examples(tuple(texts), None, tuple(x % 3 for x in numbers), ("a", "b", "c"))


@pytest.fixture(scope="session", autouse=True)
def _frozen_heap() -> Iterator[None]:
    """Every start of a training run collects garbage: half a second with all imported modules."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


@pytest.fixture(scope="session")
def encode(tokenizer: PreTrainedTokenizerFast) -> Callable[..., EncodedTexts]:
    """`encode(n, seed, task, longest)`: small encoded examples."""

    def make(*args: Any, **kwargs: Any) -> EncodedTexts:
        return EncodedTexts(make_examples(*args, **kwargs), tokenizer)

    return make
