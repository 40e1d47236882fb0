"""Encoding, padding and the order of batches."""

from itertools import pairwise

import pytest
import torch

from narrows.core import DataError
from narrows.data import Examples, minilm, movie_reviews
from narrows.distill import BucketSampler, EncodedTexts, StepSampler, model_inputs, sorted_batches


def test_batch_pads_on_the_right_and_keeps_labels_and_places(tokenizer):
    data = EncodedTexts(Examples(("w0 w1 w2", "w5"), None, (1, 0), ("a", "b")), tokenizer)
    batch = data.batch([1, 0])
    assert batch["input_ids"].tolist() == [[2, 9, 3, 0, 0], [2, 4, 5, 6, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch["labels"].tolist() == [0, 1]
    assert batch["index"].tolist() == [1, 0]
    assert set(model_inputs(batch)) == {"input_ids", "attention_mask", "token_type_ids"}
    assert torch.equal(data[0]["input_ids"], torch.tensor([2, 4, 5, 6, 3]))


def test_pairs_are_cut_together_and_told_apart(tokenizer):
    examples = Examples(("w0 " * 9, "w1"), ("w2 " * 9, "w3"), (0.5, 1.5), None)
    data = EncodedTexts(examples, tokenizer, max_length=11)
    assert data.lengths.tolist() == [11, 5]
    assert data.batch([0])["token_type_ids"][0].tolist() == [0] * 6 + [1] * 5
    assert data.labels.dtype == torch.float32


def test_digest_sees_tokens_and_labels(tokenizer):
    def digest(text: str, label: int) -> str:
        return EncodedTexts(Examples((text, "w9"), None, (label, 0), ("a", "b")), tokenizer).digest

    assert digest("w0 w1", 1) == digest("w0 w1", 1)
    assert len({digest("w0 w1", 1), digest("w1 w0", 1), digest("w0 w1", 0)}) == 3


def test_no_padding_token_is_a_data_error(tokenizer):
    from copy import deepcopy

    without = deepcopy(tokenizer)
    without.pad_token = None
    with pytest.raises(DataError, match="padding token"):
        EncodedTexts(Examples(("w0",), None, (0,), ("a", "b")), without)


@pytest.mark.parametrize("n", [1, 7, 64, 250])
def test_every_epoch_holds_each_example_once_in_an_order_of_its_own(n):
    lengths = torch.randint(3, 50, (n,), generator=torch.Generator().manual_seed(n))
    sampler = BucketSampler(lengths, 8, seed=3)
    epochs = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler) == -(-n // 8)
        assert sorted(i for batch in batches for i in batch) == list(range(n))
        assert sorted(map(len, batches))[1:] == [8] * (len(batches) - 1)
        assert batches == list(sampler)
        epochs.append(batches)
    if n >= 64:
        assert epochs[0] != epochs[1] != epochs[2]
        sets = [{frozenset(batch) for batch in batches} for batches in epochs]
        assert not sets[0] & sets[1], "the batches themselves must change, not only their order"
    assert n < 8 or list(BucketSampler(lengths, 8, seed=4)) != epochs[0]


def test_batches_are_not_in_order_of_length():
    lengths = torch.randint(3, 50, (2000,), generator=torch.Generator().manual_seed(0))
    longest = [max(lengths[i] for i in batch) for batch in BucketSampler(lengths, 20, seed=0)]
    rises = sum(bool(b > a) for a, b in pairwise(longest))
    assert 30 < rises < 70


def test_steps_run_through_the_epochs():
    lengths = torch.randint(3, 50, (50,), generator=torch.Generator().manual_seed(0))
    steps = StepSampler(lengths, 8, seed=1, steps=17)
    buckets = BucketSampler(lengths, 8, seed=1)
    expected = []
    for epoch in range(3):
        buckets.set_epoch(epoch)
        expected += list(buckets)
    assert list(steps) == expected[:17]
    assert steps.visited() == list(range(50))
    assert len(StepSampler(lengths, 8, seed=1, steps=2).visited()) <= 16


def test_sorted_batches_cover_the_chosen_examples_from_long_to_short():
    lengths = torch.tensor([3, 9, 5, 9, 1, 4])
    assert sorted_batches(lengths, 2) == [[1, 3], [2, 5], [0, 4]]
    assert sorted_batches(lengths, 2, [4, 0, 1]) == [[1, 0], [4]]


def test_padding_wastes_less_than_a_tenth_on_real_sentences():
    from transformers import AutoTokenizer

    data = EncodedTexts(movie_reviews().select(range(4000)), AutoTokenizer.from_pretrained(minilm()))
    sampler = BucketSampler(data.lengths, 32, seed=0)
    padded = sum(len(batch) * int(data.lengths[batch].max()) for batch in sampler)
    assert padded / int(data.lengths.sum()) < 1.10
