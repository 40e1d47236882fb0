"""A cut model is the masked model: for every family, head and kind of unit, in float64."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from narrows.core.errors import ModelError
from narrows.transformer.anatomy import Anatomy
from narrows.transformer.cut import cut, table_basis
from narrows.transformer.gates import MaskGate, RankGate, gated, mask_gates
from narrows.transformer.plan import LayerPlan, Plan

FAMILIES = ("bert", "roberta", "distilbert", "electra")
UNITS = ("hidden", "heads", "neurons", "attention", "ffn")
KINDS = [*((kind,) for kind in UNITS), UNITS]


@torch.no_grad()
def outputs(model: PreTrainedModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every output of a model by name, hidden states too."""
    found = model(**inputs, output_hidden_states=True)
    tensors = {}
    for name, value in found.items():
        many = value if isinstance(value, tuple) else (value,)
        tensors |= {f"{name}_{i}": tensor for i, tensor in enumerate(many)}
    return tensors


def masked_outputs(
    model: PreTrainedModel, plan: Plan, inputs: dict[str, Tensor], more: dict[str, Any] | None = None
) -> dict[str, Tensor]:
    anatomy = Anatomy.of(model)
    with gated(model, anatomy, mask_gates(anatomy, plan, torch.float64) | (more or {})):
        return outputs(model, inputs)


def assert_same(small: dict[str, Tensor], masked: dict[str, Tensor], plan: Plan) -> None:
    """Outputs agree to 1e-9; what is as wide as the residual stream has zeros at the removed channels."""
    assert small.keys() == masked.keys()
    for name, got in small.items():
        want = masked[name]
        if "hidden_state" in name:
            assert want.abs().sum((0, 1)).nonzero().numel() <= len(plan.hidden)
            want = want[..., list(plan.hidden)]
        torch.testing.assert_close(got, want, rtol=0, atol=1e-9)


@settings(max_examples=3)
@given(data=st.data())
def test_cut_equals_masked(dense: PreTrainedModel, batch: Any, draw_plan: Callable[..., Plan], data: Any) -> None:
    inputs = batch(dense)
    for kinds in KINDS:
        plan = draw_plan(data, Anatomy.of(dense), kinds)
        assert_same(outputs(cut(dense, plan), inputs), masked_outputs(dense, plan, inputs), plan)


def test_cut_with_everything_kept_is_the_dense_model(dense: PreTrainedModel, batch: Any) -> None:
    plan = Anatomy.of(dense).full_plan()
    small = cut(dense, plan)
    want = outputs(dense, batch(dense))
    for name, got in outputs(small, batch(dense)).items():
        assert torch.equal(got, want[name]), name
    assert {n: p.shape for n, p in small.named_parameters()} == {n: p.shape for n, p in dense.named_parameters()}


@pytest.mark.parametrize("family", FAMILIES)
def test_statistics_over_removed_channels_would_be_caught(rough: Any, batch: Any, family: str) -> None:
    model, inputs = rough(family), batch(rough(family))
    anatomy = Anatomy.of(model)
    plan = replace(anatomy.full_plan(), hidden=tuple(range(0, 24, 2)))
    small = outputs(cut(model, plan), inputs)["logits_0"]
    with gated(model, anatomy, mask_gates(anatomy, plan, torch.float64)) as gates:
        right = outputs(model, inputs)["logits_0"]
        for parent, name, norm in gates.swapped:
            norm.register_forward_hook(lambda module, args, output: output * gates["hidden"].values)
            setattr(parent, name, norm)  # the stock LayerNorm over all channels, zeros included
        try:
            wrong = outputs(model, inputs)["logits_0"]
        finally:
            for _, _, norm in gates.swapped:
                norm._forward_hooks.clear()
    assert (small - right).abs().max() < 1e-9
    assert (small - wrong).abs().max() > 1e-2


@settings(max_examples=3)
@given(data=st.data())
def test_rank_equals_gated_directions_of_the_table(
    rank_case: PreTrainedModel, batch: Any, draw_plan: Callable[..., Plan], data: Any
) -> None:
    anatomy = Anatomy.of(rank_case)
    frequency = torch.tensor(data.draw(st.lists(st.integers(0, 50), min_size=40, max_size=40)))
    basis = table_basis(dict(rank_case.named_parameters())[anatomy.word].detach(), frequency)
    rank = data.draw(st.integers(1, 24), label="rank")
    plan = replace(draw_plan(data, anatomy, UNITS), rank=rank)
    leading = (torch.arange(24) < rank).double()
    gate = {"rank": RankGate(MaskGate(leading), basis.directions, basis.mean)}
    small = cut(rank_case, plan, table=basis)
    inputs = batch(rank_case)
    assert_same(outputs(small, inputs), masked_outputs(rank_case, plan, inputs, gate), plan)
    assert Anatomy.of(small).shape.rank == rank


@pytest.fixture(
    scope="session",
    params=[(f, h) for f in FAMILIES for h in ("Model", "ForSequenceClassification", "untied")],
    ids="-".join,
)
def rank_case(request: pytest.FixtureRequest, rough: Any) -> PreTrainedModel:
    return rough(*request.param)


@pytest.mark.parametrize("family", FAMILIES)
def test_table_basis_is_the_weighted_principal_basis(rough: Any, family: str) -> None:
    model = rough(family)
    table = dict(model.named_parameters())[Anatomy.of(model).word].detach()
    frequency = torch.arange(40.0, dtype=torch.float64) ** 2
    basis = table_basis(table, frequency)
    weight = (frequency + 0.2) / (frequency + 0.2).sum()
    torch.testing.assert_close(basis.mean, weight @ table)
    centred = (table - basis.mean) * weight.sqrt()[:, None]
    # Eckart-Young: what the leading directions leave is the tail of the singular values, the least possible.
    singular = torch.linalg.svdvals(centred)
    torch.testing.assert_close(basis.directions.T @ basis.directions, torch.eye(24, dtype=torch.float64))
    for rank in (1, 7, 23):
        leading = basis.directions[:, :rank]
        left = (centred - centred @ leading @ leading.T).square().sum()
        torch.testing.assert_close(left, singular[rank:].square().sum())


@settings(max_examples=3)
@given(data=st.data())
def test_vocabulary_rows_are_renumbered(dense: PreTrainedModel, batch: Any, draw_plan: Any, data: Any) -> None:
    anatomy = Anatomy.of(dense)
    # RoBERTa counts positions from its padding id, which therefore has to stay where it is.
    vocab = tuple(sorted({0, 1, *data.draw(st.sets(st.integers(2, 39), min_size=1), label="vocab")}))
    plan = replace(draw_plan(data, anatomy, data.draw(st.sampled_from([(), UNITS]))), vocab=vocab)
    if not anatomy.tied:
        plan = replace(plan, rank=data.draw(st.sampled_from([None, 5])))
    small = cut(dense, plan)
    inputs = batch(dense, words=vocab)
    new = torch.full((40,), -1)
    new[list(vocab)] = torch.arange(len(vocab))
    without = cut(dense, replace(plan, vocab=None))
    want = outputs(without, inputs)
    for name, got in outputs(small, inputs | {"input_ids": new[inputs["input_ids"]]}).items():
        expected = want[name][..., list(vocab)] if want[name].shape[-1] == 40 else want[name]
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)
    assert small.config.vocab_size == len(vocab)
    assert small.config.pad_token_id == dense.config.pad_token_id


@pytest.mark.parametrize("family", ["bert", "distilbert", "electra"])
def test_the_padding_id_follows_its_row(rough: Any, batch: Any, family: str) -> None:
    model = rough(family, pad_token_id=9)
    vocab = (3, 4, 8, 9, 20, 33)
    small = cut(model, replace(Anatomy.of(model).full_plan(), vocab=vocab))
    assert small.config.pad_token_id == small.get_input_embeddings().padding_idx == 3
    inputs = batch(model, words=vocab)
    new = torch.full((40,), -1)
    new[list(vocab)] = torch.arange(len(vocab))
    got = outputs(small, inputs | {"input_ids": new[inputs["input_ids"]]})["logits_0"]
    torch.testing.assert_close(got, outputs(model, inputs)["logits_0"], rtol=0, atol=1e-9)
    without = cut(model, replace(Anatomy.of(model).full_plan(), vocab=(3, 4, 8)))
    assert without.config.pad_token_id is None


def test_roberta_counts_positions_from_its_padding_id(rough: Any) -> None:
    model = rough("roberta")
    with pytest.raises(ModelError, match="count from its padding id 1, which would become 0"):
        cut(model, replace(Anatomy.of(model).full_plan(), vocab=(1, 2, 3)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tail", [1, 7, 24])
def test_tail_width_keeps_the_first_units_of_the_head(rough: Any, batch: Any, family: str, tail: int) -> None:
    model = rough(family)
    small = cut(model, replace(Anatomy.of(model).full_plan(), tail=tail))
    silenced = copy.deepcopy(model)
    last = silenced.classifier.out_proj if hasattr(silenced.classifier, "out_proj") else silenced.classifier
    with torch.no_grad():
        last.weight[:, tail:] = 0
    inputs = batch(model)
    got, want = outputs(small, inputs)["logits_0"], outputs(silenced, inputs)["logits_0"]
    torch.testing.assert_close(got, want, rtol=0, atol=1e-9)


def compose(first: Plan, second: Plan) -> Plan:
    """The one plan that two plans in a row amount to."""

    def pick(ids: tuple[int, ...], chosen: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(ids[i] for i in chosen)

    return Plan(
        pick(first.hidden, second.hidden),
        tuple(
            LayerPlan(pick(a.heads, b.heads), pick(a.neurons, b.neurons))
            for a, b in zip(first.layers, second.layers, strict=True)
        ),
        vocab=first.vocab if second.vocab is None else pick(first.vocab or tuple(range(40)), second.vocab),
    )


@settings(max_examples=3)
@given(data=st.data())
def test_cutting_twice_is_cutting_once(dense: PreTrainedModel, draw_plan: Callable[..., Plan], data: Any) -> None:
    first = replace(draw_plan(data, Anatomy.of(dense), UNITS), vocab=tuple(range(30)))
    once = cut(dense, first)
    second = replace(draw_plan(data, Anatomy.of(once), UNITS), vocab=(0, 1, 2, 7, 29))
    twice, direct = cut(once, second), cut(dense, compose(first, second))
    assert type(twice) is type(direct)
    assert twice.config.to_dict() == direct.config.to_dict()
    want = direct.state_dict()
    assert twice.state_dict().keys() == want.keys()
    for name, tensor in twice.state_dict().items():
        assert torch.equal(tensor, want[name]), name


@settings(max_examples=3)
@given(data=st.data())
def test_a_factored_model_with_removed_blocks_is_cut_exactly_again(
    rank_case: PreTrainedModel, batch: Any, draw_plan: Callable[..., Plan], data: Any
) -> None:
    first = Anatomy.of(rank_case).full_plan()
    gone = (LayerPlan((), (0, 5, 6, 11)), LayerPlan((1, 2), ()))
    once = cut(rank_case, replace(first, layers=gone, rank=9, tail=11 if Anatomy.of(rank_case).shape.tail else None))
    plan = draw_plan(data, Anatomy.of(once), ("heads", "neurons", "attention", "ffn"))
    inputs = batch(once)
    assert_same(outputs(cut(once, plan), inputs), masked_outputs(once, plan, inputs), plan)
    # With fewer channels than the rank the product of the factors has the smaller rank, and nothing is lost either.
    plan = draw_plan(data, Anatomy.of(once), UNITS)
    assert_same(outputs(cut(once, plan), inputs), masked_outputs(once, plan, inputs), plan)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_factored_table_is_shortened_by_its_singular_values(rough: Any, family: str) -> None:
    model = rough(family)
    full = Anatomy.of(model).full_plan()
    once = cut(model, replace(full, rank=9, vocab=tuple(range(20))))

    def table(of: PreTrainedModel) -> Tensor:
        word = of.base_model.embeddings.word_embeddings
        return (word.weight @ word.project.weight.T).detach()

    assert torch.linalg.matrix_rank(table(once)) == 9
    for rank in (9, 4, 1):
        again = cut(once, replace(full, rank=rank))
        singular = torch.linalg.svdvals(table(once))
        error = (table(again) - table(once)).square().sum()
        torch.testing.assert_close(error, singular[rank:].square().sum(), rtol=1e-9, atol=1e-18)


def test_cut_leaves_the_model_and_the_random_state_alone(dense: PreTrainedModel) -> None:
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    config = dense.config.to_dict()
    state = torch.get_rng_state()
    plan = replace(Anatomy.of(dense).full_plan(), hidden=(3, 4, 5))
    small = cut(dense, plan)
    assert torch.equal(state, torch.get_rng_state())
    assert dense.config.to_dict() == config
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.zero_()  # shares no memory with the dense model
    for name, tensor in dense.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not small.training
    assert cut(copy.deepcopy(dense).train(), plan).training


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cut_keeps_the_precision(tiny: Any, dtype: torch.dtype) -> None:
    model = tiny("bert", dtype=dtype)
    plan = Anatomy.of(model).full_plan()
    assert {p.dtype for p in cut(model, replace(plan, rank=3)).parameters()} == {dtype}


def test_a_tied_model_stays_tied(rough: Any) -> None:
    for family in FAMILIES:
        small = cut(
            rough(family, "ForMaskedLM"), replace(Anatomy.of(rough(family, "ForMaskedLM")).full_plan(), hidden=(0, 2))
        )
        assert small.get_input_embeddings().weight is small.get_output_embeddings().weight
        assert Anatomy.of(small).tied
        assert not Anatomy.of(cut(rough(family, "untied"), Anatomy.of(rough(family, "untied")).full_plan())).tied


def test_cut_refuses_gates_and_a_rotated_plan_without_rotation(rough: Any) -> None:
    model = rough("bert")
    anatomy = Anatomy.of(model)
    plan = anatomy.full_plan()
    with gated(model, anatomy, mask_gates(anatomy, plan)), pytest.raises(ModelError, match="detach_gates"):
        cut(model, plan)
    with pytest.raises(ModelError, match="rebuild"):
        cut(model, replace(plan, basis="pca"))
    with pytest.raises(ModelError, match="stock checkpoint needs equal layers"):
        cut(model, replace(plan, hidden=(1, 2, 3)), stock=True)
