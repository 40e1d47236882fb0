"""The narrow classes against the stock ones, whose removed units are silenced by zero weights."""

import ast
import copy
import importlib.util
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub.errors import StrictDataclassFieldValidationError
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel
from transformers.integrations.heterogeneity import (
    AmbiguousGlobalPerLayerAttributeError,
    HeterogeneousConfigMixin,
)

from narrows.core.errors import ModelError
from narrows.transformer import modeling_narrow_encoder as modeling
from narrows.transformer.narrow import (
    NARROW_CLASSES,
    narrow_class,
    narrow_config,
    stock_class,
    stock_config,
    stock_expressible,
    tail_tensors,
)

FAMILIES = ("bert", "roberta", "distilbert", "electra")
HEADS = (
    "Model",
    "ForSequenceClassification",
    "ForMaskedLM",
    "ForTokenClassification",
    "ForQuestionAnswering",
)
CASES = [(f, h) for f in FAMILIES for h in HEADS] + [("electra", "ForPreTraining")]
HEAD_DIM = 6  # the tiny models are 24 wide with 4 heads, 20 neurons, 3 layers, 40 tokens
# Kept heads and neurons per layer; () is a removed block.
PLAN = (((0, 2, 3), (1, 4, 7, 19)), ((), tuple(range(20))), ((1,), ()))
SIZES: dict[str, Any] = {
    "head_dim": HEAD_DIM,
    "heads": [len(heads) for heads, _ in PLAN],
    "neurons": [len(neurons) for _, neurons in PLAN],
    "vocab": 40,
    "tail": 24,
}
BERT_PATHS = ("attention.self.{}", ("query", "key", "value"), "attention.output.dense")
DISTIL_PATHS = ("attention.{}", ("q_lin", "k_lin", "v_lin"), "attention.out_lin")


def make(tiny: Callable[..., PreTrainedModel], family: str, head: str, **over: Any) -> PreTrainedModel:
    labels = {"num_labels": 2} if head == "ForQuestionAnswering" else {}
    return tiny(family, head=head, **labels, **over)


def batch(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 40, (3, 9), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 5:], mask[2, 1:] = 0, 0
    return {"input_ids": ids.masked_fill(mask == 0, model.config.pad_token_id), "attention_mask": mask}


def outputs(model: PreTrainedModel, inputs: dict[str, torch.Tensor], **kwargs: Any) -> list[torch.Tensor]:
    """All output tensors, those of padding left out."""
    with torch.no_grad():
        values = model(**inputs, **kwargs).to_tuple()
    keep = inputs["attention_mask"].bool()
    flat = [t for v in values for t in (v if isinstance(v, tuple) else (v,))]
    return [t[keep] if t.shape[:2] == keep.shape else t for t in flat]


def layers_of(model: PreTrainedModel, family: str) -> tuple[str, Any]:
    base = model.base_model
    path = "transformer.layer" if family == "distilbert" else "encoder.layer"
    inner = "" if base is model else f"{model.base_model_prefix}."
    return f"{inner}{path}", base.get_submodule(path)


def silence_and_slice(model: PreTrainedModel, family: str) -> dict[str, torch.Tensor]:
    """Zero what PLAN removes in `model`, and return the weights of what it keeps."""
    inputs, names, output = DISTIL_PATHS if family == "distilbert" else BERT_PATHS
    into, outof = ("ffn.lin1", "ffn.lin2") if family == "distilbert" else ("intermediate.dense", "output.dense")
    path, layers = layers_of(model, family)
    weights = dict(model.state_dict())
    for i, (layer, (heads, neurons)) in enumerate(zip(layers, PLAN, strict=True)):
        rows = [h * HEAD_DIM + k for h in heads for k in range(HEAD_DIM)]
        for kept, entry, exit_ in (
            (rows, [inputs.format(name) for name in names], output),
            (list(neurons), [into], outof),
        ):
            last = layer.get_submodule(exit_)
            gone = [k for k in range(last.in_features) if k not in kept]
            with torch.no_grad():
                last.weight[:, gone] = 0
                if not kept:
                    last.bias.zero_()
            for name in entry:
                for kind in ("weight", "bias"):
                    full = f"{path}.{i}.{name}.{kind}"
                    weights[full] = weights[full][kept]
            full = f"{path}.{i}.{exit_}"
            weights[f"{full}.weight"] = weights[f"{full}.weight"][:, kept]
            if not kept:
                for name in (*entry, exit_):
                    del weights[f"{path}.{i}.{name}.weight"], weights[f"{path}.{i}.{name}.bias"]
    return weights


def narrowed(model: PreTrainedModel, family: str) -> PreTrainedModel:
    """The narrow model with the sliced weights of `model`, which is silenced to match; names fit exactly."""
    weights = silence_and_slice(model, family)
    config = narrow_config(model.config, hidden=24, rank=None, **SIZES)
    small = narrow_class(type(model))(config).to(model.dtype).eval()
    small.load_state_dict(weights, strict=True)
    return small


@pytest.mark.parametrize(("family", "head"), CASES)
def test_narrow_model_equals_stock_model_with_silenced_units(tiny: Any, family: str, head: str) -> None:
    stock = make(tiny, family, head, dtype=torch.float64)
    small = narrowed(stock, family)
    inputs = batch(stock)
    got = outputs(small, inputs, output_hidden_states=True)
    want = outputs(stock, inputs, output_hidden_states=True)
    assert len(got) == len(want) >= 4
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in stock.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_flow_and_checkpointing_does_not_change_them(tiny: Any, family: str) -> None:
    small = narrowed(make(tiny, family, "ForSequenceClassification", dtype=torch.float64), family)
    inputs = batch(small)

    def gradients() -> dict[str, torch.Tensor]:
        small.zero_grad()
        small.train()(**inputs, labels=torch.tensor([0, 1, 2])).loss.backward()
        return {name: p.grad.clone() for name, p in small.named_parameters() if p.grad is not None}

    plain = gradients()
    small.activation_checkpointing_enable()
    again = gradients()
    assert plain.keys() == again.keys()
    assert len(plain) > 20
    for name, gradient in plain.items():
        torch.testing.assert_close(gradient, again[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_kernels_agree_and_can_be_switched(tiny: Any, family: str) -> None:
    small = narrowed(make(tiny, family, "ForSequenceClassification", dtype=torch.float64), family)
    inputs = batch(small)
    (fast,) = outputs(small, inputs)
    small.set_attn_implementation("eager")
    slow, *attentions = outputs(small, inputs, output_attentions=True)
    torch.testing.assert_close(slow, fast, rtol=0, atol=1e-12)
    # One entry per layer that still has attention, with its own number of heads.
    assert [a.shape[1] for a in attentions] == [3, 1]


@pytest.mark.parametrize("family", FAMILIES)
def test_factored_table_equals_the_product_of_its_factors(tiny: Any, family: str) -> None:
    model = make(tiny, family, "ForSequenceClassification")
    sizes = SIZES | {"hidden": 17, "tail": 21}
    factored = narrow_class(type(model))(narrow_config(model.config, rank=5, **sizes)).double().eval()
    plain = narrow_class(type(model))(narrow_config(model.config, rank=None, **sizes)).double().eval()
    weights = factored.state_dict()
    name = f"{model.base_model_prefix}.embeddings.word_embeddings"
    assert weights[f"{name}.weight"].shape == (40, 5)
    assert weights[f"{name}.project.weight"].shape == (17, 5)
    weights[f"{name}.weight"] = weights[f"{name}.weight"] @ weights.pop(f"{name}.project.weight").T
    plain.load_state_dict(weights, strict=True)
    inputs = batch(factored)
    torch.testing.assert_close(outputs(factored, inputs), outputs(plain, inputs), rtol=0, atol=1e-12)
    table = factored.get_input_embeddings()
    assert table.padding_idx == model.config.pad_token_id
    # Growing the vocabulary goes through the factored table as through a plain one.
    before = factored(input_ids=inputs["input_ids"]).logits
    factored.resize_token_embeddings(45, mean_resizing=False)
    torch.testing.assert_close(factored(input_ids=inputs["input_ids"]).logits, before)
    assert factored.config.vocab_size == 45


@pytest.mark.parametrize("family", FAMILIES)
def test_factored_table_cannot_be_tied_to_a_language_model_head(tiny: Any, family: str) -> None:
    model = make(tiny, family, "ForMaskedLM")
    config = narrow_config(model.config, hidden=24, rank=5, **SIZES)
    with pytest.raises(ValueError, match="embedding_rank"):
        narrow_class(type(model))(config)
    config.tie_word_embeddings = False
    untied = narrow_class(type(model))(config)
    assert untied.get_output_embeddings().weight.shape == (40, 24)


@pytest.mark.parametrize("family", FAMILIES)
def test_masked_lm_decoder_stays_tied(tiny: Any, family: str) -> None:
    small = narrowed(make(tiny, family, "ForMaskedLM"), family)
    assert small.get_output_embeddings().weight is small.get_input_embeddings().weight


@pytest.mark.parametrize(("family", "head"), CASES)
def test_tail_tensors_are_all_that_depends_on_the_tail(tiny: Any, family: str, head: str) -> None:
    model = make(tiny, family, head)
    shapes = []
    for tail in (24, 31):
        config = narrow_config(model.config, hidden=13, rank=None, **SIZES | {"tail": tail})
        with torch.device("meta"):
            small = narrow_class(type(model))(config)
        shapes.append({name: tuple(t.shape) for name, t in small.state_dict().items()})
    changed = {
        (name, axis) for name, shape in shapes[0].items() for axis, n in enumerate(shape) if n != shapes[1][name][axis]
    }
    assert changed == set(tail_tensors(model)) == set(tail_tensors(small))
    for name, axis in changed:
        assert (shapes[0][name][axis], shapes[1][name][axis]) == (24, 31)
    assert bool(changed) == (
        head in ("ForSequenceClassification", "ForPreTraining") or (head == "Model" and family in ("bert", "roberta"))
    )


def test_construction_leaves_the_config_as_it_was(tiny: Any) -> None:
    model = tiny("bert")
    config = narrow_config(model.config, hidden=13, rank=None, **SIZES)
    before = config.to_dict()
    small = narrow_class(type(model))(config)
    assert config.to_dict()["per_layer_config"] == before["per_layer_config"]
    assert small.config is config
    assert small.base_model.config is config
    bad = copy.deepcopy(config)
    bad.pooler_size = "wide"
    with pytest.raises(ValueError, match="pooler_size"):
        narrow_class(type(model))(bad)
    assert bad.to_dict()["per_layer_config"] == before["per_layer_config"]


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        ({"num_attention_heads": -1}, "num_attention_heads"),
        ({"num_attention_heads": 0}, "num_attention_heads"),  # without skip
        ({"num_attention_heads": "9"}, "num_attention_heads"),
        ({"num_attention_heads": 2.5}, "num_attention_heads"),
        ({"intermediate_size": None}, "intermediate_size"),
        ({"head_dim": -8}, "head_dim"),
        ({"skip": ["pooler"]}, "skip"),
    ],
)
def test_sizes_that_no_model_can_have_are_refused(tiny: Any, layer: dict[str, Any], name: str) -> None:
    config = narrow_config(tiny("bert").config, hidden=13, rank=None, **SIZES)
    config.per_layer_config = {0: {"num_attention_heads": 2, "intermediate_size": 3} | layer}
    with pytest.raises((ValueError, StrictDataclassFieldValidationError), match=name):
        modeling.NarrowBertModel(config)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("heads", "neurons"),
    [([3, 1, 2], [4, 4, 4]), ([3, 3, 3], [9, 9, 9]), ([0, 0, 0], [0, 0, 0]), ([4, 0, 4], [1, 1, 1])],
)
def test_stock_classes_refuse_a_narrow_config(tiny: Any, family: str, heads: list[int], neurons: list[int]) -> None:
    model = tiny(family)
    config = narrow_config(model.config, hidden=24, rank=None, **SIZES | {"heads": heads, "neurons": neurons})
    with pytest.raises(AmbiguousGlobalPerLayerAttributeError):
        type(model)(config)


@pytest.mark.parametrize("family", FAMILIES)
def test_narrowing_twice_is_narrowing_once(tiny: Any, family: str) -> None:
    config = tiny(family).config
    first = narrow_config(config, hidden=20, rank=9, **SIZES)
    sizes = {"hidden": 11, "rank": None, "head_dim": 6, "heads": [1, 0, 0], "neurons": [2, 8, 0], "vocab": 33}
    assert narrow_config(first, tail=24, **sizes).to_dict() == narrow_config(config, tail=24, **sizes).to_dict()


def test_narrow_config_keeps_what_it_does_not_change(tiny: Any) -> None:
    config = tiny("roberta", layer_norm_eps=1e-3, hidden_act="relu").config
    config.id2label, config.label2id = {0: "no", 1: "yes"}, {"no": 0, "yes": 1}
    config.problem_type = "multi_label_classification"
    config.house = {"made": "up"}
    before = config.to_dict()
    narrow = narrow_config(config, hidden=13, rank=None, **SIZES)
    assert config.to_dict() == before
    for name in ("layer_norm_eps", "hidden_act", "id2label", "problem_type", "pad_token_id", "house"):
        assert getattr(narrow, name) == getattr(config, name)
    assert narrow.auto_map["AutoModelForMaskedLM"] == "modeling_narrow_encoder.NarrowRobertaForMaskedLM"


def test_auto_map_names_every_class_of_the_family() -> None:
    for name, cls in NARROW_CLASSES.items():
        # from_dict as after a download: transformers puts the repository before each name
        config = cls.config_class.from_dict({"auto_map": {"AutoModel": "someone/model--file.Name"}})
        assert f"modeling_narrow_encoder.{name}" in config.auto_map.values()
        assert not any("--" in value for value in config.auto_map.values())
    assert len(NARROW_CLASSES) == 21


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"heads": [1, 2]}, "2 head"),
        ({"heads": [1, -2, 3]}, "negative"),
        ({"hidden": 0}, "hidden 0"),
        ({"rank": 0}, "rank 0"),
    ],
)
def test_wrong_sizes_are_named(tiny: Any, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        narrow_config(tiny("bert").config, **{"hidden": 13, "rank": None, **SIZES, **change})


def test_unsupported_models_are_named(tiny: Any) -> None:
    sizes = {"hidden": 13, "rank": None, **SIZES}
    with pytest.raises(ModelError, match=r"'albert'.*bert.*distilbert.*electra.*roberta"):
        narrow_config(transformers.AlbertConfig(), **sizes)
    with pytest.raises(ModelError, match=r"AlbertModel.*BertModel"):
        narrow_class(transformers.AlbertModel)
    with pytest.raises(ModelError, match="decoder"):
        narrow_config(tiny("bert", is_decoder=True).config, **sizes)
    with pytest.raises(ModelError, match="embedding_size 12"):
        narrow_config(transformers.ElectraConfig(embedding_size=12, hidden_size=24), **sizes)


def test_classes_map_to_themselves_and_back() -> None:
    for cls in NARROW_CLASSES.values():
        assert narrow_class(cls) is cls
        assert narrow_class(stock_class(cls)) is cls
        assert stock_class(stock_class(cls)) is stock_class(cls)


@pytest.mark.parametrize("family", FAMILIES)
def test_uniform_sizes_have_a_stock_model_with_the_same_weights(tiny: Any, family: str) -> None:
    model = tiny(family)
    sizes = {"hidden": 12, "head_dim": 6, "heads": [2] * 3, "neurons": [7] * 3, "rank": None}
    assert stock_expressible(tail=12, **sizes)
    config = stock_config(model.config, vocab=33, tail=12, **sizes)
    stock = stock_class(type(model))(config).eval()
    assert type(config) is type(model.config)
    assert config.num_labels == 3
    narrow = narrow_config(model.config, vocab=33, tail=12, **sizes)
    small = narrow_class(type(model))(narrow).eval()
    small.load_state_dict(stock.state_dict(), strict=True)
    ids = torch.randint(5, 33, (2, 8))
    torch.testing.assert_close(small(input_ids=ids).logits, stock(input_ids=ids).logits)
    # and from the narrow config back to the same stock config
    assert stock_config(narrow, vocab=33, tail=12, **sizes).to_dict() == config.to_dict()


sizes_of_a_layer = st.lists(st.integers(0, 3), min_size=1, max_size=4)


@given(heads=sizes_of_a_layer, neurons=sizes_of_a_layer, head_dim=st.integers(1, 3), hidden=st.integers(1, 9),
       rank=st.sampled_from([None, 2]), tail=st.sampled_from([None, 4, 6]))  # fmt: skip
def test_expressible_by_stock_means_a_stock_config_exists(
    heads: list[int], neurons: list[int], head_dim: int, hidden: int, rank: int | None, tail: int | None
) -> None:
    neurons = (neurons * 4)[: len(heads)]
    config = transformers.BertConfig(num_hidden_layers=len(heads), vocab_size=9)
    sizes: dict[str, Any] = {
        "hidden": hidden, "head_dim": head_dim, "heads": heads, "neurons": neurons, "rank": rank, "tail": tail
    }  # fmt: skip
    if stock_expressible(**sizes):
        stock = stock_config(config, vocab=9, **sizes)
        assert stock.hidden_size == hidden == stock.num_attention_heads * head_dim
        assert stock.intermediate_size == neurons[0]
    else:
        with pytest.raises(ModelError, match="stock checkpoint needs"):
            stock_config(config, vocab=9, **sizes)


def test_modelling_file_stands_alone() -> None:
    imported = set()
    for node in ast.walk(ast.parse(inspect.getsource(modeling))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module)
    assert imported == {"__future__", "dataclasses", "typing", "torch", "transformers"}


def test_too_old_transformers_is_refused_in_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(HeterogeneousConfigMixin, "is_heterogeneous")
    spec = importlib.util.spec_from_file_location("modeling_narrow_encoder", modeling.__file__)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match=r"transformers 5\.23 or newer"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
