"""Rebuilt models: exact where nothing is removed, least squares where something is, and no trace left behind."""

import copy
import gc
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from narrows.core.errors import DataError, ModelError, NarrowsError
from narrows.transformer import rebuild as rebuild_function
from narrows.transformer.anatomy import Anatomy
from narrows.transformer.calibrate import Moments, calibrate
from narrows.transformer.cut import cut, fold
from narrows.transformer.plan import LayerPlan, Plan
from narrows.transformer.rebuild import LeastSquares, Spread, rebuild

FAMILIES = ("bert", "roberta", "distilbert", "electra")
CLASSIFIERS = ("ForSequenceClassification", "ForTokenClassification")
LAYERS = (LayerPlan((0, 2, 3), tuple(range(3, 18))), LayerPlan((1, 2), tuple(range(12))))
PLANS = {
    "channels": Plan(tuple(range(0, 24, 2)), LAYERS),
    "pca": Plan(tuple(range(12)), LAYERS, basis="pca"),
    "no blocks": Plan(tuple(range(20)), (LayerPlan((), (1, 2, 3)), LayerPlan((0, 1, 3), ())), basis="pca"),
    "rank": Plan(tuple(range(16)), LAYERS, rank=6, basis="pca"),
}


@torch.no_grad()
def logits(model: PreTrainedModel, batches: Sequence[dict[str, Tensor]]) -> Tensor:
    """The first output of all real tokens or texts."""
    found = []
    for inputs in batches:
        output, mask = model(**inputs)[0], inputs["attention_mask"].bool()
        found.append((output[mask] if output.shape[:2] == mask.shape else output).flatten())
    return torch.cat(found)


def some_batches(batch: Any, model: PreTrainedModel, count: int = 6, **options: Any) -> list[dict[str, Tensor]]:
    return [batch(model, seed=i, rows=8, **options) for i in range(count)]


def error(model: PreTrainedModel, dense: PreTrainedModel, batches: Sequence[dict[str, Tensor]]) -> float:
    wanted = logits(dense, batches)
    return float((logits(model, batches) - wanted).square().mean() / wanted.var())


# Exactness


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", CLASSIFIERS)
@pytest.mark.parametrize("basis", ["channels", "pca"])
def test_everything_kept_gives_the_dense_model(rough: Any, batch: Any, family: str, head: str, basis: str) -> None:
    model = rough(family, head)
    batches = some_batches(batch, model, 2)
    built = rebuild(model, replace(Anatomy.of(model).full_plan(), basis=basis), batches)
    torch.testing.assert_close(logits(built.model, batches), logits(model, batches), rtol=0, atol=1e-6)
    fresh = some_batches(batch, model, 3)[2:]
    torch.testing.assert_close(logits(built.model, fresh), logits(model, fresh), rtol=0, atol=1e-6)
    assert torch.equal(built.basis, torch.eye(24, dtype=torch.float64))
    names = ["embedding", *(f"layer {i} {block}" for i in (0, 1) for block in ("attention", "ffn"))]
    assert [site.site for site in built.reconstruction] == names
    assert all(abs(1 - site.variance) < 1e-9 for site in built.reconstruction)


@pytest.mark.parametrize("head", ["ForMaskedLM", "untied", "ForQuestionAnswering", "Model"])
def test_everything_kept_gives_the_dense_model_of_other_heads(rough: Any, batch: Any, head: str) -> None:
    for family in FAMILIES:
        model = rough(family, head)
        batches = some_batches(batch, model, 2)
        built = rebuild(model, Anatomy.of(model).full_plan(), batches)
        torch.testing.assert_close(logits(built.model, batches), logits(model, batches), rtol=0, atol=1e-6)


@settings(max_examples=20)
@given(
    st.tuples(st.integers(1, 12), st.integers(1, 4), st.integers(8, 40), st.integers(0, 10**6)),
    st.sampled_from([1e-4, 1e-3, 0.5]),
)
def test_least_squares_is_ridge_regression_however_it_is_streamed(sizes: tuple[int, ...], ridge: float) -> None:
    inputs, outputs, rows, seed = sizes
    draw = np.random.default_rng(seed)
    x = draw.normal(3, 1 + np.arange(inputs), (rows, inputs))
    y = draw.normal(-1, 2, (rows, outputs))
    streamed, whole = (LeastSquares(inputs, outputs, torch.device("cpu")) for _ in range(2))
    whole.add(torch.tensor(x), torch.tensor(y))
    cuts = sorted({0, rows, *draw.integers(0, rows, 3).tolist()})
    for a, b in pairwise(cuts):
        streamed.add(torch.tensor(x[a:b]), torch.tensor(y[a:b]))
    # The intercept is free: ordinary least squares of the centred data with sqrt(rows x strength) rows below it.
    centred = x - x.mean(0)
    strength = ridge * np.square(centred).mean()
    stacked = np.vstack([centred, np.sqrt(rows * strength) * np.eye(inputs)])
    wanted = np.linalg.lstsq(stacked, np.vstack([y - y.mean(0), np.zeros((inputs, outputs))]), rcond=None)[0]
    for squares in (whole, streamed):
        weight, bias = squares.solve(ridge)
        np.testing.assert_allclose(weight.numpy(), wanted.T, rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(bias.numpy(), y.mean(0) - wanted.T @ x.mean(0), rtol=1e-5, atol=1e-7)


def still_rows() -> tuple[Tensor, Tensor]:
    """The state of [CLS] behind layers without heads is nearly the same for all texts, and what is wanted is not."""
    draw = torch.Generator().manual_seed(0)
    x = (20 + 3e-3 * torch.randn(600, 8, generator=draw, dtype=torch.float64)).float()
    wanted = (x.double() - 20) @ torch.randn(8, 2, generator=draw, dtype=torch.float64) * 100
    return x, wanted + torch.randn(600, 2, generator=draw, dtype=torch.float64)


def test_inputs_that_hardly_vary_are_fitted_by_what_they_vary_and_not_by_rounding() -> None:
    x, wanted = still_rows()
    squares = LeastSquares(8, 2, torch.device("cpu"))
    for part in range(0, 600, 100):
        squares.add(x[part : part + 100], wanted[part : part + 100].float())
    weight, bias = squares.solve(1e-10)
    centred, target = x.double() - x.double().mean(0), wanted - wanted.mean(0)
    exact = torch.linalg.lstsq(centred, target).solution
    assert torch.allclose(weight, exact.T, rtol=1e-2, atol=0.5), (weight, exact.T)
    assert torch.allclose(x.double() @ weight.T + bias, centred @ exact + wanted.mean(0), atol=0.05)


def test_inputs_that_hardly_vary_are_not_amplified() -> None:
    """At the ridge of a rebuild 0.1 % of an input moves an output by less than its own spread."""
    x, wanted = still_rows()
    squares = LeastSquares(8, 2, torch.device("cpu"))
    squares.add(x, wanted.float())
    weight, _ = squares.solve(1e-3)
    assert float((weight.abs() * 1e-3 * 20).max()) < float(wanted.std())


def test_least_squares_of_single_precision_rows_with_a_large_mean() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 3, generator=draw) + 20
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 3
    squares = LeastSquares(3, 1, torch.device("cpu"))
    for rows in range(0, len(x), 1000):
        squares.add(x[rows : rows + 1000], y[rows : rows + 1000])
    weight, _ = squares.solve(1e-9)
    torch.testing.assert_close(weight, torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64), rtol=0, atol=2e-3)


def test_streamed_moments_are_those_of_all_rows() -> None:
    rows = torch.randn(60, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 2
    moments, spread = Moments(5), Spread()
    for part in rows.split([1, 20, 39]):
        moments.add(part)
        spread.add(part)
    torch.testing.assert_close(moments.covariance(), torch.cov(rows.T, correction=0))
    assert spread.variance() == pytest.approx(float(rows.var(0, correction=0).sum()), rel=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_calibration_is_the_principal_basis_of_the_norm_outputs(rough: Any, batch: Any, family: str) -> None:
    model = rough(family, "Model")
    batches = some_batches(batch, model)
    calibration = calibrate(model, batches)
    states = [[], [], []]  # the embedding and the two layers; LayerNorm outputs inside a layer are caught by name
    inner: list[list[Tensor]] = [[], []]
    norms = [m for n, m in model.named_modules() if n.endswith(("attention.output.LayerNorm", "sa_layer_norm"))]
    for i, norm in enumerate(norms):
        norm.register_forward_hook(lambda module, args, output, i=i: inner[i].append(output))
    masks = [inputs["attention_mask"].bool() for inputs in batches]
    for inputs in batches:
        with torch.no_grad():
            for i, state in enumerate(model(**inputs, output_hidden_states=True).hidden_states):
                states[i].append(state)
    for norm in norms:
        norm._forward_hooks.clear()
    wanted = torch.zeros(24, 24, dtype=torch.float64)
    for site in (*states, *inner):
        rows = torch.cat([rows[mask] for rows, mask in zip(site, masks, strict=True)])
        covariance = torch.cov(rows.T, correction=0)
        wanted += covariance / covariance.trace() / 5
    torch.testing.assert_close(calibration.covariance, wanted, rtol=0, atol=1e-12)
    diagonal = calibration.directions.T @ wanted @ calibration.directions
    torch.testing.assert_close(diagonal, torch.diag(diagonal.diagonal()), rtol=0, atol=1e-12)
    assert torch.equal(diagonal.diagonal(), diagonal.diagonal().sort(descending=True).values)
    counts = torch.bincount(torch.cat([b["input_ids"][m] for b, m in zip(batches, masks, strict=True)]), minlength=40)
    assert torch.equal(calibration.frequency, counts.double())


# What a rebuild is for


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", PLANS)
def test_rebuild_is_closer_to_the_dense_model_than_the_cut(rough: Any, batch: Any, family: str, name: str) -> None:
    model, plan = rough(family), PLANS[name]
    batches = some_batches(batch, model, 12)
    built = rebuild(model, plan, batches)
    kept = replace(plan, basis="channels") if plan.basis == "pca" else plan
    assert error(built.model, model, batches) < 0.5 * error(cut(model, kept), model, batches)
    assert Anatomy.of(built.model).shape == Anatomy.of(model).shape_of(plan)
    assert all(site.variance <= 1 for site in built.reconstruction)
    torch.testing.assert_close(
        built.basis.T @ built.basis, torch.eye(len(plan.hidden), dtype=torch.float64), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("head", ["ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM", "ForPreTraining"])
def test_rebuild_beats_the_cut_under_heads_that_read_every_token(rough: Any, batch: Any, head: str) -> None:
    model = rough("electra", head)
    plan, batches = PLANS["channels"], some_batches(batch, model, 12)
    assert error(rebuild(model, plan, batches).model, model, batches) < 0.9 * error(cut(model, plan), model, batches)


def in_a_subspace(model: PreTrainedModel, width: int) -> PreTrainedModel:
    """A BERT whose residual stream lies in a subspace of dimension `width` behind every LayerNorm."""
    model = copy.deepcopy(model)
    draw = torch.Generator().manual_seed(0)
    axes = torch.randn(24, width + 1, generator=draw, dtype=torch.float64)
    axes[:, 0] = 1  # LayerNorm takes this direction out
    axes = torch.linalg.qr(axes).Q[:, 1:]
    project = axes @ axes.T
    with torch.no_grad():
        for name, parameter in model.bert.named_parameters():
            if "LayerNorm.weight" in name:
                parameter.fill_(1)
            elif name.startswith("embeddings") and parameter.ndim == 2:
                parameter.copy_(parameter @ project)
            elif "LayerNorm.bias" in name or "output.dense" in name:
                parameter.copy_(project @ parameter)
    return model


def test_a_stream_of_low_rank_is_rebuilt_at_that_width(rough: Any, batch: Any) -> None:
    model = in_a_subspace(rough("bert"), 6)
    batches = some_batches(batch, model, 12)
    calibration = calibrate(model, batches)
    spectrum = torch.linalg.eigvalsh(calibration.covariance).flip(0)
    assert spectrum[6:].abs().max() < 1e-12 < spectrum[5]
    full = Anatomy.of(model).full_plan()

    def variance(width: int) -> float:
        built = rebuild(model, replace(full, hidden=tuple(range(width)), basis="pca"), calibration)
        assert all(site.variance <= 1 for site in built.reconstruction)
        return float(np.mean([site.variance for site in built.reconstruction]))

    variances = [variance(width) for width in (2, 3, 4, 5, 6)]
    assert variances == sorted(variances)
    assert variances[-1] > 0.6
    # The six channels with the most variance are another subspace.
    channels = torch.topk(calibration.covariance.diagonal(), 6).indices.sort().values.tolist()
    built = rebuild(model, replace(full, hidden=tuple(channels)), calibration)
    assert np.mean([site.variance for site in built.reconstruction]) < variances[-1]


@pytest.mark.parametrize("family", FAMILIES)
def test_variance_is_that_of_the_activations(rough: Any, batch: Any, family: str) -> None:
    model, plan = rough(family, "Model"), PLANS["pca"]
    batches = some_batches(batch, model)
    built = rebuild(model, plan, batches)

    def last(of: PreTrainedModel) -> Tensor:
        with torch.no_grad():
            return torch.cat([of(**b).last_hidden_state[b["attention_mask"].bool()] for b in batches])

    wanted = last(model)
    left = (wanted - last(built.model) @ built.basis.T).var(0, correction=0).sum()
    explained = 1 - float(left / wanted.var(0, correction=0).sum())
    assert built.reconstruction[-1].variance == pytest.approx(explained, abs=1e-9)


def test_the_refit_starts_at_a_folded_model_but_aims_at_the_dense_one(rough: Any, batch: Any) -> None:
    model = rough("bert")
    anatomy, batches = Anatomy.of(model), some_batches(batch, model)
    draw = torch.Generator().manual_seed(0)
    scales = {f"neurons_{i}": 0.2 + torch.rand(20, generator=draw, dtype=torch.float64) for i in (0, 1)}
    folded = fold(model, anatomy, scales)
    built = rebuild(model, anatomy.full_plan(), batches, start=folded, ridge=1e-9)
    assert error(built.model, model, batches) < 1e-6 < error(folded, model, batches)


# Data


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["channels", "pca", "rank"])
def test_padding_has_no_influence(rough: Any, batch: Any, family: str, name: str) -> None:
    model = rough(family)
    batches = some_batches(batch, model, 3)
    pad = {"input_ids": model.config.pad_token_id, "attention_mask": 0, "token_type_ids": 1}
    padded = [{k: F.pad(v, (0, 1 + i), value=pad[k]) for k, v in inputs.items()} for i, inputs in enumerate(batches)]
    built, again = (rebuild(model, PLANS[name], found) for found in (batches, padded))
    sign = (built.basis * again.basis).sum(0).sign()
    torch.testing.assert_close(built.basis, again.basis * sign, rtol=0, atol=1e-9)
    torch.testing.assert_close(logits(again.model, batches), logits(built.model, batches), rtol=0, atol=1e-9)
    for a, b in zip(built.reconstruction, again.reconstruction, strict=True):
        assert a.site == b.site
        assert a.variance == pytest.approx(b.variance, abs=1e-9)


def test_labels_and_the_order_of_batches_do_not_matter(rough: Any, batch: Any) -> None:
    model = rough("bert")
    batches = some_batches(batch, model, 4)
    labelled = [inputs | {"labels": torch.zeros(8, dtype=torch.int64)} for inputs in reversed(batches)]
    built, again = (rebuild(model, PLANS["channels"], found).model for found in (batches, labelled))
    for (name, a), (_, b) in zip(built.named_parameters(), again.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["pca", "rank"])
def test_a_plan_with_a_vocabulary_maps_the_tokens(rough: Any, batch: Any, family: str, name: str) -> None:
    model = rough(family)
    vocab = (0, 1, 2, *range(20, 40))
    batches = some_batches(batch, model, 4, words=vocab)
    plan = replace(PLANS[name], vocab=vocab)
    built = rebuild(model, plan, batches)
    whole = rebuild(model, replace(plan, vocab=None), batches)
    new = torch.full((40,), -1)
    new[list(vocab)] = torch.arange(len(vocab))
    mapped = [b | {"input_ids": new[b["input_ids"]]} for b in batches]
    torch.testing.assert_close(logits(built.model, mapped), logits(whole.model, batches), rtol=0, atol=1e-9)
    for a, b in zip(built.reconstruction, whole.reconstruction, strict=True):
        assert a.variance == pytest.approx(b.variance, abs=1e-9)
    with pytest.raises(ModelError, match="calibration data uses tokens that the plan removes"):
        rebuild(model, replace(plan, vocab=vocab[:-1]), batches)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_was_cut_before_is_rebuilt(rough: Any, batch: Any, family: str) -> None:
    dense = rough(family)
    first = replace(Anatomy.of(dense).full_plan(), layers=(LayerPlan((), (0, 5, 6)), LayerPlan((1, 2), ())), rank=9)
    model = cut(dense, first)
    anatomy, batches = Anatomy.of(model), some_batches(batch, model)
    built = rebuild(model, anatomy.full_plan(), batches)
    torch.testing.assert_close(logits(built.model, batches), logits(model, batches), rtol=0, atol=1e-6)
    plan = Plan(tuple(range(12)), (LayerPlan((), (0, 2)), LayerPlan((1,), ())), rank=5, basis="pca")
    built = rebuild(model, plan, batches)
    assert Anatomy.of(built.model).shape == anatomy.shape_of(plan)
    assert error(built.model, model, batches) < 0.5 * error(cut(model, replace(plan, basis="channels")), model, batches)


def test_what_cannot_be_rebuilt(rough: Any, batch: Any) -> None:
    for family, head in [*((f, "ForMaskedLM") for f in FAMILIES), ("electra", "ForPreTraining")]:
        model = rough(family, head)
        with pytest.raises(ModelError, match="cannot be rebuilt in the basis 'pca'; use basis='channels'"):
            rebuild(model, PLANS["pca"], [batch(model)])
    with pytest.raises(DataError, match="at least one batch"):
        rebuild(rough("bert"), PLANS["pca"], [])


# Traces


def hooks_of(model: Any) -> list[int]:
    """Hooks per module; transformers leaves its own on a model that once gave hidden states."""
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]


def test_nothing_of_the_model_or_the_random_state_changes(rough: Any, batch: Any) -> None:
    model = copy.deepcopy(rough("bert")).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    hooks = hooks_of(model)
    state = torch.get_rng_state()
    ticks: list[tuple[int, int]] = []
    built = rebuild(model, PLANS["pca"], [batch(model)], tick=lambda done, total: ticks.append((done, total)))
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert built.model.training
    assert ticks == [(1, 3), (2, 3), (3, 3)]
    assert hooks_of(model) == hooks
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("fails", [False, True])
def test_temporary_files_are_gone_also_after_an_error(
    rough: Any, batch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    model = copy.deepcopy(rough("bert")).train()
    hooks = hooks_of(model)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[set[str]] = []

    def solve(self: LeastSquares, ridge: float) -> Any:
        seen.append({path.name for path in tmp_path.rglob("*") if path.is_file()})
        if fails and len(seen) == 3:
            raise RuntimeError("singular")
        return real(self, ridge)

    real = LeastSquares.solve
    monkeypatch.setattr(LeastSquares, "solve", solve)
    if fails:
        with pytest.raises(RuntimeError, match="singular"):
            rebuild(model, PLANS["pca"], [batch(model)])
    else:
        rebuild(model, PLANS["pca"], [batch(model)])
    assert all(files == {"dense", "narrow", "context"} for files in seen)
    assert len(seen) >= 3
    assert not list(tmp_path.iterdir())
    assert model.training
    assert hooks_of(model) == hooks


def test_a_full_disk_is_told_before_anything_is_written(
    rough: Any, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing into a mapped file for which there is no room would kill the process."""

    def full(descriptor: int, start: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(NarrowsError, match=r"no room for .* MB of activations"):
        rebuild(rough("bert"), PLANS["pca"], [batch(rough("bert"))])


def test_memory_does_not_grow_with_the_batches(rough: Any, batch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All living float tensors at every solution, those in mapped files left out."""
    model = rough("bert")
    mapped: set[int] = set()
    most = 0
    from_file, real = torch.from_file, LeastSquares.solve

    def mapping(*arguments: Any, **options: Any) -> Tensor:
        tensor = from_file(*arguments, **options)
        mapped.add(tensor.untyped_storage().data_ptr())
        return tensor

    def solve(self: LeastSquares, ridge: float) -> Any:
        nonlocal most
        storages = {
            t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
            for t in gc.get_objects()
            if type(t) is Tensor and t.is_floating_point() and t.device.type == "cpu"
        }
        most = max(most, sum(size for pointer, size in storages.items() if pointer not in mapped))
        return real(self, ridge)

    monkeypatch.setattr(torch, "from_file", mapping)
    monkeypatch.setattr(LeastSquares, "solve", solve)

    def peak(count: int) -> int:
        nonlocal most
        most = 0
        batches = [batch(model, seed=i, rows=8) for i in range(count)]
        gc.collect()
        rebuild(model, PLANS["pca"], batches)
        return most

    peak(2)
    one_batch = 8 * 9 * 24 * 8  # bytes of one batch of activations
    assert peak(40) - peak(4) < one_batch
    assert mapped


def test_rebuild_is_public() -> None:
    assert rebuild_function is rebuild
