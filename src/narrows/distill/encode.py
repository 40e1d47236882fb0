"""Tokenised examples, batches of similar length, and their order as a function of the seed and the step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from narrows.core.errors import DataError
from narrows.core.seeds import generator

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from narrows.data.table import Examples

_NOT_FOR_THE_MODEL = ("labels", "index")


class EncodedTexts(Dataset[dict[str, Tensor]]):
    """Examples as token ids, cut at `max_length` tokens.

    Item i is {input_ids, attention_mask, [token_type_ids], labels, index}.
    Labels are int64 class numbers or float32 values. Errors: DataError where the tokenizer has no padding
    token or makes no token of a text.
    """

    def __init__(self, examples: Examples, tokenizer: PreTrainedTokenizerBase, max_length: int = 128) -> None:
        if tokenizer.pad_token_id is None:
            raise DataError("the tokenizer has no padding token, so texts cannot be batched: set tokenizer.pad_token")
        self.task = examples.task
        self.label_names = examples.label_names
        self.pad_token_id = int(tokenizer.pad_token_id)
        encoded = tokenizer(
            list(examples.texts),
            None if examples.pairs is None else list(examples.pairs),
            truncation=True,
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
        )
        rows: Sequence[Sequence[int]] = encoded["input_ids"]
        self.lengths = torch.tensor([len(row) for row in rows])
        if len(rows) == 0 or int(self.lengths.min()) == 0:
            raise DataError("every text must give at least one token; there is an empty text, or no text at all")
        self._offsets = torch.cat([torch.zeros(1, dtype=torch.int64), self.lengths.cumsum(0)])
        names = [name for name in ("input_ids", "token_type_ids") if name in encoded]
        self._tokens = {n: torch.tensor([t for row in encoded[n] for t in row], dtype=torch.int32) for n in names}
        whole = examples.task == "classification"
        self.labels = torch.tensor(examples.labels, dtype=torch.int64 if whole else torch.float32)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: column[0] for name, column in self.batch([index]).items()}

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """The examples `indices` as one batch, padded on the right to the longest of them (B x T)."""
        lengths = self.lengths[list(indices)]
        shape = (len(indices), int(lengths.max()))
        columns = {name: torch.zeros(shape, dtype=torch.int64) for name in self._tokens}
        columns["input_ids"].fill_(self.pad_token_id)
        for row, index in enumerate(indices):
            start, end = int(self._offsets[index]), int(self._offsets[index + 1])
            for name, tokens in self._tokens.items():
                columns[name][row, : end - start] = tokens[start:end]
        mask = torch.arange(shape[1]) < lengths[:, None]
        rows = torch.tensor(list(indices))
        return {**columns, "attention_mask": mask.to(torch.int64), "labels": self.labels[rows], "index": rows}

    @cached_property
    def digest(self) -> str:
        """A fingerprint of tokens, lengths and labels."""
        hasher = blake2b(digest_size=16)
        for tensor in (*self._tokens.values(), self.lengths, self.labels):
            hasher.update(tensor.numpy().tobytes())
        return hasher.hexdigest()


def model_inputs(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The columns of a batch that a model's forward takes, without the labels."""
    return {name: column for name, column in batch.items() if name not in _NOT_FOR_THE_MODEL}


def sorted_batches(lengths: Tensor, batch_size: int, indices: Sequence[int] | None = None) -> list[list[int]]:
    """`indices` (default: all) in batches from long to short, for passes without training."""
    chosen = torch.arange(len(lengths)) if indices is None else torch.tensor(list(indices), dtype=torch.int64)
    order = chosen[lengths[chosen].argsort(descending=True, stable=True)].tolist()
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


class BucketSampler(Sampler[list[int]]):
    """Batches of similar length: shuffle, sort by length within pools of batches, shuffle the batches.

    The order is a function of (seed, epoch). Every epoch holds each example once; one batch may be smaller. A
    pool is 20 batches, or a quarter of the data where that is less: one pool of everything would give the
    same batches every epoch.
    """

    POOL = 20

    def __init__(self, lengths: Tensor, batch_size: int, seed: int) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        random = generator(self.seed, "batch order", self.epoch)
        order = torch.randperm(len(self.lengths), generator=random)
        pool = max(1, min(self.POOL, len(self) // 4)) * self.batch_size
        pools = [part[self.lengths[part].argsort(stable=True)] for part in order.split(pool)]
        # Only the last pool can end with a smaller batch, which holds its longest examples.
        batches = [batch.tolist() for part in pools for batch in part.split(self.batch_size)]
        for position in torch.randperm(len(batches), generator=random).tolist():
            yield batches[position]


class StepSampler(Sampler[list[int]]):
    """The batches of `steps` training steps, epoch after epoch: step k's batch is a function of (seed, k)."""

    def __init__(self, lengths: Tensor, batch_size: int, seed: int, steps: int) -> None:
        self.buckets = BucketSampler(lengths, batch_size, seed)
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.steps):
            epoch, position = divmod(step, len(self.buckets))
            if position == 0:
                self.buckets.set_epoch(epoch)
                batches = list(self.buckets)
            yield batches[position]

    def visited(self) -> list[int]:
        """The examples that the steps use, sorted."""
        return sorted({index for batch in self for index in batch})
