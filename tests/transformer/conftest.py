"""Rough random models of every family and head, their inputs, and random plans for them."""

from collections.abc import Callable, Collection
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from narrows.transformer.anatomy import Anatomy
from narrows.transformer.plan import LayerPlan, Plan

FAMILIES = ("bert", "roberta", "distilbert", "electra")
HEADS = (
    "Model",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMaskedLM",
    "untied",
)
CASES = [(family, head) for family in FAMILIES for head in HEADS] + [("electra", "ForPreTraining")]


@pytest.fixture(scope="session")
def rough(tiny: Callable[..., PreTrainedModel]) -> Callable[..., PreTrainedModel]:
    """`rough(family, head)`: two layers in float64, far from initialisation; `untied` is a masked LM with two tables.

    24 channels, 4 heads of 6, 20 neurons, 40 words. The models are shared: tests leave them as they are.
    """
    made: dict[Any, PreTrainedModel] = {}

    def build(family: str, head: str = "ForSequenceClassification", **over: Any) -> PreTrainedModel:
        key = (family, head, *sorted(over.items()))
        if key not in made:
            labels = {"num_labels": 2} if head == "ForQuestionAnswering" else {}
            if head == "untied":
                head, labels = "ForMaskedLM", {"tie_word_embeddings": False}
            layers = {"n_layers" if family == "distilbert" else "num_hidden_layers": 2}
            model = tiny(family, head=head, dtype=torch.float64, **labels | layers | over)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.3 * torch.randn_like(parameter))
            made[key] = model
        return made[key]

    return build


@pytest.fixture(scope="session", params=CASES, ids="-".join)
def dense(request: pytest.FixtureRequest, rough: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    """One model of every family and head; tests leave it as it is."""
    return rough(*request.param)


@pytest.fixture(scope="session")
def batch() -> Callable[..., dict[str, Tensor]]:
    """`batch(model)`: three texts of 9, 5 and 1 tokens, with padding, and token types where the model has them.

    `words` restricts the tokens to some ids, `seed` gives other texts.
    """

    def build(
        model: PreTrainedModel, *, words: Collection[int] | None = None, seed: int = 0, rows: int = 3, tokens: int = 9
    ) -> dict[str, Tensor]:
        draw = torch.Generator().manual_seed(seed)
        pad = model.config.pad_token_id
        allowed = torch.tensor([i for i in words or range(model.config.vocab_size) if i != pad])
        ids = allowed[torch.randint(len(allowed), (rows, tokens), generator=draw)]
        lengths = torch.randint(1, tokens + 1, (rows,), generator=draw)
        lengths[:3] = torch.tensor([tokens, (tokens + 1) // 2, 1])[:rows]
        mask = (torch.arange(tokens) < lengths[:, None]).long()
        inputs = {"input_ids": ids.masked_fill(mask == 0, pad), "attention_mask": mask}
        if getattr(model.config, "type_vocab_size", 1) > 1:
            inputs["token_type_ids"] = torch.randint(2, (rows, tokens), generator=draw)
        return inputs

    return build


@pytest.fixture(scope="session")
def draw_plan() -> Callable[..., Plan]:
    """`draw_plan(data, anatomy, kinds)`: a random plan that removes only units of the kinds named.

    Kinds are hidden, heads, neurons (at least one of each stays), attention and ffn (whole blocks).
    """

    def build(data: Any, anatomy: Anatomy, kinds: Collection[str]) -> Plan:
        def some(kind: str, size: int) -> tuple[int, ...]:
            if kind not in kinds or not size:
                return tuple(range(size))
            return tuple(sorted(data.draw(st.sets(st.integers(0, size - 1), min_size=1), label=kind)))

        def layer(heads: int, neurons: int) -> LayerPlan:
            keep_attention = "attention" not in kinds or data.draw(st.booleans(), label="attention")
            keep_ffn = "ffn" not in kinds or data.draw(st.booleans(), label="ffn")
            return LayerPlan(
                some("heads", heads) if keep_attention else (), some("neurons", neurons) if keep_ffn else ()
            )

        shape = anatomy.shape
        layers = tuple(layer(h, n) for h, n in zip(shape.heads, shape.neurons, strict=True))
        return Plan(some("hidden", shape.hidden), layers, rank=shape.rank)

    return build
