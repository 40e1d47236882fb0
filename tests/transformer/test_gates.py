"""Gates change what a model computes and nothing else; folding their factors gives the same model without them."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from narrows.core.errors import ModelError
from narrows.transformer.anatomy import Anatomy, part
from narrows.transformer.cut import cut, fold, table_basis
from narrows.transformer.gates import (
    ATTRIBUTE,
    MaskGate,
    ProbeGate,
    RankGate,
    attach_gates,
    detach_gates,
    gated,
    mask_gates,
)
from narrows.transformer.plan import LayerPlan, Plan

FAMILIES = ("bert", "roberta", "distilbert", "electra")


@torch.no_grad()
def first(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
    """The first output, that of padding left out."""
    output = model(**inputs)[0]
    mask = inputs["attention_mask"].bool()
    return output[mask] if output.shape[:2] == mask.shape else output


def sizes(anatomy: Anatomy) -> dict[str, int]:
    found = {"hidden": anatomy.shape.hidden}
    for i, (heads, neurons) in enumerate(zip(anatomy.shape.heads, anatomy.shape.neurons, strict=True)):
        found |= {f"heads_{i}": heads, f"neurons_{i}": neurons, f"attention_{i}": 1, f"ffn_{i}": 1}
    return {name: size for name, size in found.items() if size}


def rank_gate(model: PreTrainedModel, unit: nn.Module) -> RankGate:
    basis = table_basis(dict(model.named_parameters())[Anatomy.of(model).word].detach())
    return RankGate(unit, basis.directions, basis.mean)


def scale_gates(anatomy: Anatomy, seed: int = 0) -> dict[str, MaskGate]:
    """Factors of both signs, none near 0."""
    draw = torch.Generator().manual_seed(seed)

    def values(n: int) -> Tensor:
        sign = torch.where(torch.rand(n, generator=draw) < 0.3, -1.0, 1.0)
        return (sign * (0.5 + torch.rand(n, generator=draw))).double()

    return {name: MaskGate(values(n)) for name, n in sizes(anatomy).items()}


def snapshot(model: PreTrainedModel) -> dict[str, Any]:
    return {
        "modules": [(name, type(module), id(module)) for name, module in model.named_modules()],
        "parameters": [(name, id(p)) for name, p in model.named_parameters(remove_duplicate=False)],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()],
        "attributes": [sorted(m.__dict__) for m in model.modules()],
        "keys": list(model.state_dict()),
    }


def test_gates_of_one_change_nothing_and_leave_no_trace(dense: PreTrainedModel, batch: Any) -> None:
    inputs, anatomy = batch(dense), Anatomy.of(dense)
    before, want = snapshot(dense), first(dense, inputs)
    state = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    ones = {name: MaskGate(torch.ones(size, dtype=torch.float64)) for name, size in sizes(anatomy).items()}
    ones_and_rank = ones | {"rank": rank_gate(dense, MaskGate(torch.ones(24, dtype=torch.float64)))}
    attach_gates(dense, anatomy, ones_and_rank)
    assert [n for n, _ in dense.named_parameters()] == [
        n for n in before["keys"] if n in dict(dense.named_parameters())
    ]
    torch.testing.assert_close(first(dense, inputs), want, rtol=0, atol=1e-9)
    detach_gates(dense)
    detach_gates(dense)
    assert snapshot(dense) == before
    for name, tensor in dense.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert torch.equal(first(dense, inputs), want)


def test_gates_leave_also_after_an_error(rough: Any) -> None:
    model = rough("bert")
    before = snapshot(model)
    with pytest.raises(ZeroDivisionError), gated(model, Anatomy.of(model), scale_gates(Anatomy.of(model))):
        _ = 1 / 0
    assert snapshot(model) == before


def test_a_second_set_of_gates_is_refused_and_the_first_stays(rough: Any, batch: Any) -> None:
    model = rough("bert")
    anatomy = Anatomy.of(model)
    with gated(model, anatomy, scale_gates(anatomy)) as gates:
        want = first(model, batch(model))
        with pytest.raises(ModelError, match="gates already"), gated(model, anatomy, scale_gates(anatomy, seed=1)):
            pass
        assert getattr(model, ATTRIBUTE) is gates
        assert torch.equal(first(model, batch(model)), want)


@pytest.mark.parametrize("name", ["heads_2", "neurons", "attention", "rank_0"])
def test_a_gate_without_a_place_is_refused(rough: Any, name: str) -> None:
    model = rough("bert")
    before = snapshot(model)
    with pytest.raises(ModelError, match=f"no place for gates .*{name}"):
        attach_gates(model, Anatomy.of(model), {name: MaskGate(torch.ones(4))})
    assert snapshot(model) == before


@pytest.mark.parametrize(("name", "size"), [("hidden", 12), ("heads_0", 3), ("neurons_1", 4), ("attention_0", 4)])
def test_a_gate_of_another_size_is_refused(rough: Any, name: str, size: int) -> None:
    model = rough("bert")
    before = snapshot(model)
    with pytest.raises(ModelError, match=f"the gate {name} has {size} units"):
        attach_gates(model, Anatomy.of(model), {name: MaskGate(torch.ones(size))})
    assert snapshot(model) == before


@pytest.mark.parametrize("family", FAMILIES)
def test_a_copy_of_a_gated_model_has_its_own_gates(rough: Any, batch: Any, family: str) -> None:
    model = copy.deepcopy(rough(family))
    plain, inputs, anatomy = first(model, batch(model)), batch(model), Anatomy.of(model)
    hooks = snapshot(model)["hooks"]  # transformers leaves its own on a model that once gave hidden states
    gates = attach_gates(model, anatomy, scale_gates(anatomy) | {"rank": rank_gate(model, MaskGate(torch.ones(24)))})
    want = first(model, inputs)
    twin = copy.deepcopy(model)
    assert torch.equal(first(twin, inputs), want)
    for _, gate in twin.narrows_gates.items():
        getattr(gate, "gate", gate).values.fill_(0.7)
    changed = first(twin, inputs)
    assert (changed - want).abs().max() > 1e-3
    assert torch.equal(first(model, inputs), want)
    for name, gate in gates.items():
        getattr(gate, "gate", gate).values.fill_(0.3)
        assert not torch.equal(first(model, inputs), want), name
    assert torch.equal(first(twin, inputs), changed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    detach_gates(twin)
    assert torch.equal(first(twin, inputs), plain)
    assert snapshot(twin)["hooks"] == hooks


@pytest.mark.parametrize("family", FAMILIES)
def test_a_gated_model_is_saved_as_the_dense_one(tiny: Any, batch: Any, tmp_path: Path, family: str) -> None:
    model = tiny(family)
    anatomy, want = Anatomy.of(model), first(model, batch(model))
    with gated(model, anatomy, scale_gates(anatomy)):
        model.save_pretrained(tmp_path)
    again, log = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert torch.equal(first(again.eval(), batch(model)), want)
    assert not log["missing_keys"]
    assert not [key for key in log["unexpected_keys"] if not key.startswith(ATTRIBUTE)]


@pytest.mark.parametrize("family", FAMILIES)
def test_probe_gradient_is_that_of_finite_differences(rough: Any, batch: Any, family: str) -> None:
    model = copy.deepcopy(rough(family)).requires_grad_(False)
    inputs, anatomy = batch(model), Anatomy.of(model)
    labels = torch.tensor([0, 1, 2])

    def losses(gates: dict[str, nn.Module]) -> Tensor:
        with gated(model, anatomy, gates):
            return F.cross_entropy(model(**inputs).logits, labels, reduction="none")

    def gates_of(kind: Callable[[int], nn.Module]) -> dict[str, nn.Module]:
        return {name: kind(n) for name, n in sizes(anatomy).items()} | {"rank": rank_gate(model, kind(24))}

    def ones(n: int) -> Tensor:
        return torch.ones(n, dtype=torch.float64)

    probes = gates_of(lambda n: ProbeGate(n, ones(n)))
    for _ in range(2):  # a second pass starts from nothing
        losses(probes).sum().backward()
        gradients = {name: getattr(gate, "gate", gate).gradient() for name, gate in probes.items()}
    step = 1e-5
    for name, gradient in gradients.items():
        assert gradient.shape == (3, 24 if name == "rank" else sizes(anatomy)[name])
        for unit in range(0, gradient.shape[1], 5):
            sides = []
            for sign in (1, -1):
                fixed = gates_of(lambda n: MaskGate(ones(n)))
                getattr(fixed[name], "gate", fixed[name]).values[unit] += sign * step
                sides.append(losses(fixed))
            slope = (sides[0] - sides[1]) / (2 * step)
            torch.testing.assert_close(gradient[:, unit], slope, rtol=1e-4, atol=1e-7)


def test_probe_of_units_that_are_off_says_what_switching_them_on_would_do(rough: Any, batch: Any) -> None:
    model = copy.deepcopy(rough("bert")).requires_grad_(False)
    inputs, anatomy = batch(model), Anatomy.of(model)
    labels = torch.tensor([0, 1, 2])

    def mask(**change: float) -> Tensor:
        values = torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
        for unit, value in change.items():
            values[int(unit[1:])] = value
        return values

    probe = ProbeGate(4, mask())
    with gated(model, anatomy, {"heads_0": probe}):
        F.cross_entropy(model(**inputs).logits, labels, reduction="sum").backward()
    gradient = probe.gradient().sum(0)
    for unit in (1, 3):
        sides = []
        for value in (1e-5, -1e-5):
            with gated(model, anatomy, {"heads_0": MaskGate(mask(**{f"u{unit}": value}))}):
                sides.append(F.cross_entropy(model(**inputs).logits, labels, reduction="sum"))
        torch.testing.assert_close(gradient[unit], (sides[0] - sides[1]) / 2e-5, rtol=1e-4, atol=1e-7)


def test_fold_gives_what_the_gates_give(dense: PreTrainedModel, batch: Any) -> None:
    inputs, anatomy = batch(dense), Anatomy.of(dense)
    gates = scale_gates(anatomy)
    with gated(dense, anatomy, gates):
        want = first(dense, inputs)
    assert (want - first(dense, inputs)).abs().max() > 1e-3
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    folded = fold(dense, anatomy, {name: gate.values for name, gate in gates.items()})
    torch.testing.assert_close(first(folded, inputs), want, rtol=0, atol=1e-9)
    for name, tensor in dense.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert Anatomy.of(folded).tied == anatomy.tied


@pytest.mark.parametrize("family", FAMILIES)
def test_fold_of_a_factored_model_with_removed_blocks(rough: Any, batch: Any, family: str) -> None:
    model = rough(family)
    layers = (LayerPlan((), (0, 5, 6)), LayerPlan((1, 2), ()))
    # Rank and width are equal: a scale along the wrong one would fit in shape.
    model = cut(model, replace(Anatomy.of(model).full_plan(), layers=layers, hidden=tuple(range(9)), rank=9))
    inputs, anatomy = batch(model), Anatomy.of(model)
    gates = scale_gates(anatomy)
    with gated(model, anatomy, gates):
        want = first(model, inputs)
    folded = fold(model, anatomy, {name: gate.values for name, gate in gates.items()})
    torch.testing.assert_close(first(folded, inputs), want, rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", ["ForSequenceClassification", "ForMaskedLM"])
def test_scaled_masks_are_folded_and_cut(rough: Any, batch: Any, family: str, head: str) -> None:
    model = rough(family, head)
    inputs, anatomy = batch(model), Anatomy.of(model)
    layers = (LayerPlan((0, 3), (1, 2, 19)), LayerPlan((), (4,)))
    plan = Plan((0, 3, 4, 5, 11, 17, 22), layers)
    masks = mask_gates(anatomy, plan, torch.float64)
    scales = {name: gate.values for name, gate in scale_gates(anatomy).items()}
    scaled = {
        name: MaskGate(values * masks[name].values if name in masks else values) for name, values in scales.items()
    }
    with gated(model, anatomy, scaled):
        want = first(model, inputs)
    small = cut(fold(model, anatomy, {name: gate.values for name, gate in scaled.items()}), plan)
    torch.testing.assert_close(first(small, inputs), want, rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("block", "out"), [("heads", "attention_out"), ("neurons", "ffn_out")])
def test_a_block_without_units_gives_exact_zeros(rough: Any, batch: Any, family: str, block: str, out: str) -> None:
    model = rough(family)
    anatomy = Anatomy.of(model)
    linear = part(model, anatomy.family, 1, out)
    assert linear.bias.abs().min() > 0
    seen: list[Tensor] = []
    size = sizes(anatomy)[f"{block}_1"]
    for values in (torch.zeros(size), torch.eye(size)[0]):
        with gated(model, anatomy, {f"{block}_1": MaskGate(values.double())}):
            # Behind the hooks of the gates.
            handle = linear.register_forward_hook(lambda module, args, output: seen.append(output))
            first(model, batch(model))
            handle.remove()
    assert torch.equal(seen[0], torch.zeros_like(seen[0]))
    assert seen[1].abs().min() > 0


def test_masks_refuse_a_rotated_plan(rough: Any) -> None:
    anatomy = Anatomy.of(rough("bert"))
    with pytest.raises(ModelError, match="'pca' has no mask"):
        mask_gates(anatomy, replace(anatomy.full_plan(), basis="pca"))
