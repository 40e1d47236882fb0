"""Every parameter of every model belongs to known units, and a plan that does not fit is refused."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import PreTrainedModel

from narrows.core.errors import ModelError
from narrows.transformer.anatomy import Anatomy
from narrows.transformer.cut import cut
from narrows.transformer.plan import LayerPlan, Plan, Shape

UNITS = ("hidden", "heads", "neurons", "attention", "ffn")


def test_every_parameter_has_one_slot_of_its_size(dense: PreTrainedModel) -> None:
    anatomy = Anatomy.of(dense)
    every = dict(dense.named_parameters(remove_duplicate=False))
    own = dict(dense.named_parameters())
    assert anatomy.slots.keys() == own.keys()
    assert anatomy.aliases == {
        name: next(n for n, q in own.items() if q is p) for name, p in every.items() if name not in own
    }
    for name, slot in anatomy.slots.items():
        assert slot.size == tuple(every[name].shape), name
        assert len(slot.axes) == every[name].ndim, name
    has_head = "SequenceClassification" in anatomy.class_name
    has_pooler = anatomy.class_name in ("BertModel", "RobertaModel")
    tail = 24 if has_head or has_pooler else 0
    assert anatomy.shape == Shape(hidden=24, heads=(4, 4), neurons=(20, 20), vocab=40, rank=None, tail=tail)
    assert anatomy.head_dim == 6
    assert anatomy.itemsize == 8
    assert anatomy.tied == (dense.get_output_embeddings() is not None and dense.config.tie_word_embeddings)


@settings(max_examples=3)
@given(data=st.data())
def test_a_cut_model_has_the_shape_of_its_plan(
    dense: PreTrainedModel, draw_plan: Callable[..., Plan], data: Any
) -> None:
    anatomy = Anatomy.of(dense)
    plan = replace(draw_plan(data, anatomy, UNITS), vocab=data.draw(st.sampled_from([None, (0, 1, 2, 9)])))
    if anatomy.shape.tail:
        plan = replace(plan, tail=data.draw(st.none() | st.integers(1, 24)))
    if not anatomy.tied:
        plan = replace(plan, rank=data.draw(st.none() | st.integers(1, 24)))
    again = Anatomy.of(cut(dense, plan))
    assert again.shape == anatomy.shape_of(plan)
    assert again.shape_of(again.full_plan()) == again.shape
    assert (again.head_dim, again.tied, again.family) == (6, anatomy.tied, anatomy.family)


def test_full_plan_keeps_everything(dense: PreTrainedModel) -> None:
    anatomy = Anatomy.of(dense)
    assert anatomy.shape_of(anatomy.full_plan()) == anatomy.shape


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"layers": (LayerPlan((), ()),)}, "the plan has 1 layers, the model 2"),
        ({"hidden": (0, 24)}, "keeps unit 24 of hidden, but the model has only 24"),
        ({"vocab": (0, 40)}, "keeps unit 40 of vocab, but the model has only 40"),
        ({"layers": (LayerPlan((), ()), LayerPlan((4,), ()))}, "unit 4 of heads of layer 1.* only 4"),
        ({"layers": (LayerPlan((), (20,)), LayerPlan((), ()))}, "unit 20 of neurons of layer 0.* only 20"),
        ({"rank": 25}, "rank 25 exceeds the 24"),
        ({"tail": 25}, "keeps 25 units inside the head, but the model has 24"),
    ],
)
def test_a_plan_for_another_model_is_refused(rough: Any, change: dict[str, Any], text: str) -> None:
    model = rough("bert")
    plan = replace(Anatomy.of(model).full_plan(), **change)
    with pytest.raises(ModelError, match=text):
        Anatomy.of(model).shape_of(plan)
    with pytest.raises(ModelError, match=text):
        cut(model, plan)


def test_a_tied_table_has_no_rank_and_a_factored_one_keeps_having_one(rough: Any) -> None:
    tied = Anatomy.of(rough("bert", "ForMaskedLM"))
    with pytest.raises(ModelError, match="tied to the output table"):
        tied.shape_of(replace(tied.full_plan(), rank=3))
    model = rough("bert")
    factored = Anatomy.of(cut(model, replace(Anatomy.of(model).full_plan(), rank=7)))
    assert factored.shape_of(factored.full_plan()).rank == 7
    with pytest.raises(ModelError, match=r"factored already.*at most 7"):
        factored.shape_of(replace(factored.full_plan(), rank=None))
    with pytest.raises(ModelError, match="rank 8 exceeds the 7"):
        factored.shape_of(replace(factored.full_plan(), rank=8))


def test_a_base_model_without_pooler_is_read(rough: Any) -> None:
    model = transformers.BertModel(rough("bert").config, add_pooling_layer=False)
    assert Anatomy.of(model).shape.tail == 0


SMALL: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 8}


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: transformers.GPT2Model(transformers.GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=9)),
            "'gpt2' is not supported; supported are bert, distilbert, electra, roberta",
        ),
        (
            lambda: transformers.ElectraModel(transformers.ElectraConfig(**SMALL, embedding_size=12, vocab_size=9)),
            "embedding_size 12 differs from hidden_size 24",
        ),
        (
            lambda: transformers.BertForPreTraining(transformers.BertConfig(**SMALL, vocab_size=9)),
            "BertForPreTraining is not described for the family 'bert'",
        ),
        (
            lambda: transformers.BertLMHeadModel(transformers.BertConfig(**SMALL, vocab_size=9, is_decoder=True)),
            "BertLMHeadModel has parameters that the family 'bert' does not describe: cls.predictions",
        ),
    ],
)
def test_a_model_that_is_not_described_is_refused(make: Callable[[], PreTrainedModel], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        Anatomy.of(make())


def test_an_unknown_or_quantised_parameter_is_refused(tiny: Any) -> None:
    model = tiny("distilbert")
    model.distilbert.transformer.layer[1].adapter = nn.Linear(24, 2)
    with pytest.raises(ModelError, match=r"does not describe: distilbert\.transformer\.layer\.1\.adapter\.weight"):
        Anatomy.of(model)
    model = tiny("bert")
    packed = nn.Parameter(torch.zeros(24, 24, dtype=torch.int8), requires_grad=False)
    model.bert.encoder.layer[0].attention.self.query.weight = packed
    with pytest.raises(ModelError, match=r"query\.weight has type torch\.int8: quantised models cannot be cut"):
        Anatomy.of(model)
