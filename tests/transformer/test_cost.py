"""The cost of a plan, computed without a model, against the model itself: counted tensors and counted products."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from narrows.transformer.anatomy import Anatomy
from narrows.transformer.cost import cost_of, cost_of_shape
from narrows.transformer.cut import cut
from narrows.transformer.plan import LayerPlan, Plan

UNITS = ("hidden", "heads", "neurons", "attention", "ffn")
FAMILIES = ("bert", "roberta", "distilbert", "electra")


@torch.no_grad()
def counted_macs(model: PreTrainedModel, tokens: int) -> int:
    """Multiply-accumulates of one example: every Linear by the rows it gets, every attention product by its shapes."""
    total = 0

    def linear(module: nn.Linear, args: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal total
        total += args[0].shape[:-1].numel() * module.in_features * module.out_features

    def attention(module: Any, args: Any, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        nonlocal total
        total += 2 * output[1].numel() * module.attention_head_size  # queries by keys, and probabilities by values

    handles = []
    model.set_attn_implementation("eager")  # gives its probabilities (1, heads, queries, keys)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            handles.append(module.register_forward_hook(linear))
        if type(module).__name__.endswith("SelfAttention"):
            handles.append(module.register_forward_hook(attention))
    ids = torch.full((1, tokens), 5)
    with FlopCounterMode(display=False) as flops:
        model(input_ids=ids, attention_mask=torch.ones_like(ids), output_attentions=True)
    for handle in handles:
        handle.remove()
    assert flops.get_total_flops() == 2 * total  # torch's own counter of multiplications and additions agrees
    return total


def counted_embeddings(model: PreTrainedModel) -> int:
    return sum(p.numel() for n, p in model.base_model.embeddings.named_parameters() if "LayerNorm" not in n)


@settings(max_examples=8)
@given(data=st.data())
def test_cost_is_that_of_the_cut_model(dense: PreTrainedModel, draw_plan: Callable[..., Plan], data: Any) -> None:
    anatomy = Anatomy.of(dense)
    plan = replace(draw_plan(data, anatomy, UNITS), vocab=data.draw(st.sampled_from([None, (0, 1, *range(5, 17))])))
    if anatomy.shape.tail:
        plan = replace(plan, tail=data.draw(st.none() | st.integers(1, 24), label="tail"))
    if not anatomy.tied:
        plan = replace(plan, rank=data.draw(st.none() | st.integers(1, 24), label="rank"))
    tokens = data.draw(st.integers(1, 11), label="tokens")
    small = cut(dense, plan)
    cost = cost_of(anatomy, plan, tokens)
    assert cost.params == sum(p.numel() for p in small.parameters())
    assert cost.embedding_params == counted_embeddings(small)
    assert cost.bytes == sum(p.numel() * p.element_size() for p in small.parameters())
    assert cost.macs == counted_macs(small, tokens)
    assert cost.tokens == tokens
    again = Anatomy.of(small)
    assert cost == cost_of(again, again.full_plan(), tokens)


def test_cost_of_the_whole_is_that_of_the_dense_model(dense: PreTrainedModel) -> None:
    anatomy = Anatomy.of(dense)
    cost = cost_of(anatomy, anatomy.full_plan(), 7)
    assert cost == cost_of_shape(anatomy, anatomy.shape, 7)
    assert cost.params == sum(p.numel() for p in dense.parameters())
    assert cost.embedding_params == counted_embeddings(dense)
    assert cost.macs == counted_macs(copy.deepcopy(dense), 7)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tied_table_is_counted_once_and_multiplies_once(rough: Any, family: str) -> None:
    tied, untied = (Anatomy.of(rough(family, head)) for head in ("ForMaskedLM", "untied"))
    costs = [cost_of(a, a.full_plan(), 7) for a in (tied, untied)]
    spare_bias = 40 if family in ("bert", "roberta") else 0  # these keep a bias of their own beside the decoder's
    assert costs[1].params - costs[0].params == 40 * 24 + spare_bias
    assert costs[0].macs == costs[1].macs
    assert costs[0].embedding_params == costs[1].embedding_params


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2), (torch.float64, 8)])
def test_bytes_follow_the_precision(tiny: Any, dtype: torch.dtype, size: int) -> None:
    anatomy = Anatomy.of(tiny("bert", dtype=dtype))
    cost = cost_of(anatomy, anatomy.full_plan(), 7)
    assert cost.bytes == size * cost.params


def test_closed_form_of_minilm() -> None:
    """The 22.57 M parameters of MiniLM (6 layers, 384 wide) with a classification head, counted by hand."""
    config = transformers.BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, num_labels=2
    )
    with torch.device("meta"):
        anatomy = Anatomy.of(transformers.BertForSequenceClassification(config))
    d, f, tokens = 384, 1536, 64
    table = (30522 + 512 + 2) * d
    block = 4 * (d * d + d) + 2 * d + (d * f + f) + (f * d + d) + 2 * d
    head = d * d + d + 2 * d + 2
    cost = cost_of(anatomy, anatomy.full_plan(), tokens)
    assert cost.params == table + 2 * d + 6 * block + head == 22_713_986
    assert cost.embedding_params == table
    assert cost.macs == 6 * (tokens * (4 * d * d + 2 * d * f) + 2 * tokens**2 * d) + d * d + 2 * d
    # A plan by hand: half the width, rank 64, three heads in one layer, one layer without any block.
    layers = [LayerPlan(tuple(range(3)), tuple(range(100)))] * 5 + [LayerPlan((), ())]
    plan = Plan(tuple(range(192)), tuple(layers), rank=64)
    h = 192
    block = 3 * (h * 96 + 96) + (96 * h + h) + (h * 100 + 100) + (100 * h + h)
    table = 64 * (30522 + h) + (512 + 2) * h
    assert cost_of(anatomy, plan, tokens).params == table + 2 * h * 13 + 5 * block + (h * d + d) + 2 * d + 2
    products = tokens * (4 * h * 96 + 2 * h * 100) + 2 * tokens**2 * 96
    assert cost_of(anatomy, plan, tokens).macs == tokens * 64 * h + 5 * products + h * d + 2 * d
