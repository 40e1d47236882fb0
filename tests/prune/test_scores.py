"""Scores against closed forms and finite differences; the allocation of a budget against brute force."""

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from narrows.core import BudgetError
from narrows.core.seeds import generator
from narrows.prune.fisher import fisher_scores
from narrows.prune.magnitude import magnitude_scores
from narrows.prune.random import random_scores
from narrows.prune.scores import Scores, allocate, task_losses, unit_gradients, unit_sizes
from narrows.prune.taylor import taylor_scores
from narrows.transformer.anatomy import Anatomy
from narrows.transformer.cut import cut
from narrows.transformer.gates import MaskGate, gated
from narrows.transformer.plan import LayerPlan, Plan

FAMILIES = ["bert", "roberta", "distilbert", "electra"]
SEEDS = st.integers(0, 2**32)


def flat(scores):
    return {
        "hidden": scores.hidden,
        **{f"heads_{i}": v for i, v in enumerate(scores.heads)},
        **{f"neurons_{i}": v for i, v in enumerate(scores.neurons)},
    }


def family_batches(family, batches, n):
    found = batches(n)
    for batch in found if family == "roberta" else ():
        batch["input_ids"] = torch.where(batch["attention_mask"] == 1, batch["input_ids"], 1)
    return found


# Gradients of gates


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_gates_are_finite_differences(tiny, batches, family, masked):
    model = tiny(family, dtype=torch.float64)
    anatomy = Anatomy.of(model)
    batch = family_batches(family, batches, 1)[0]
    draw = generator(0)
    sizes = unit_sizes(anatomy)
    values = {n: torch.ones(k, dtype=torch.float64) for n, k in sizes.items()}
    if masked:
        values = {n: (torch.rand(k, generator=draw) < 0.7).double() for n, k in sizes.items()}
        values["hidden"] = torch.ones(anatomy.shape.hidden, dtype=torch.float64)
        values |= {name: torch.cat([torch.ones(1), v[1:]]) for name, v in values.items() if name != "hidden"}
    gradient = next(unit_gradients(model, anatomy, [batch], values if masked else None))

    def losses(name, unit, value):
        moved = {n: v.clone() for n, v in values.items()}
        moved[name][unit] = value
        gates = {n: Shown(v, values[n] != 0) for n, v in moved.items()}
        with torch.no_grad(), gated(model, anatomy, gates):
            return task_losses(model, batch)

    step = 1e-5
    for name in ("hidden", "heads_0", "heads_2", "neurons_1"):
        for unit in (0, 1, sizes[name] - 1):
            at = float(values[name][unit])
            slope = (losses(name, unit, at + step) - losses(name, unit, at - step)) / (2 * step)
            torch.testing.assert_close(gradient[name][:, unit], slope, rtol=1e-5, atol=1e-8)


class Shown(MaskGate):
    """A mask whose units count as on or off whatever their values are."""

    def __init__(self, values, on):
        super().__init__(values)
        self.on = on

    def kept(self):
        return self.on


def test_gradients_leave_the_model_as_it_was(tiny, batches):
    model = tiny("bert").train()
    next(iter(model.parameters())).requires_grad_(False)
    anatomy, flags = Anatomy.of(model), [p.requires_grad for p in model.parameters()]

    def failing():
        yield batches(1)[0]
        raise KeyError("no more")

    def broken():
        with pytest.raises(KeyError):
            list(unit_gradients(model, anatomy, failing()))

    for run in (lambda: list(unit_gradients(model, anatomy, batches(2))), broken):
        run()
        assert model.training
        assert [p.requires_grad for p in model.parameters()] == flags
        assert all(p.grad is None for p in model.parameters())
        assert not hasattr(model, "narrows_gates")


# Closed forms


def gradients(model, anatomy, batches, masks=None):
    """The derivatives of every example's loss, examples x units."""
    rows = list(unit_gradients(model, anatomy, batches, masks))
    return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}


def test_fisher_of_the_last_layer_by_hand(tiny, batches):
    """Only the first token of the last layer reaches the head, through one LayerNorm and the pooler."""
    model = tiny("bert", num_labels=1, dtype=torch.float64)
    anatomy, found = Anatomy.of(model), batches(3)
    for batch in found:
        batch["labels"] = torch.randn(len(batch["labels"]), dtype=torch.float64, generator=generator(1))
    layer, pooler = model.bert.encoder.layer[2], model.bert.pooler.dense
    caught = {}
    handles = [
        layer.output.dense.register_forward_pre_hook(lambda m, a: caught.update(act=a[0][:, 0])),
        layer.output.LayerNorm.register_forward_pre_hook(lambda m, a: caught.update(before=a[0][:, 0])),
        pooler.register_forward_pre_hook(lambda m, a: caught.update(after=a[0])),
    ]
    rows = []
    with torch.no_grad():
        for batch in found:
            ids = {k: batch[k] for k in ("input_ids", "attention_mask")}
            error = 2 * (model(**ids).logits[:, 0] - batch["labels"])
            x = caught["before"]
            centred = x - x.mean(1, keepdim=True)
            sd = (centred.square().mean(1, keepdim=True) + layer.output.LayerNorm.eps).sqrt()
            unit = centred / sd
            hidden = caught["after"][:, 0] if caught["after"].ndim == 3 else caught["after"]
            tanh = torch.tanh(pooler(hidden))
            back = (error[:, None] * model.classifier.weight * (1 - tanh**2)) @ pooler.weight
            back = back * layer.output.LayerNorm.weight
            back = (back - back.mean(1, keepdim=True) - unit * (back * unit).mean(1, keepdim=True)) / sd
            rows.append((back @ layer.output.dense.weight) * caught["act"])
    for handle in handles:
        handle.remove()
    by_hand = torch.cat(rows)
    scores = fisher_scores(model, anatomy, found)
    torch.testing.assert_close(scores.neurons[2], by_hand.square().mean(0) / 2, rtol=1e-9, atol=0)
    taylor = taylor_scores(model, anatomy, found)
    torch.testing.assert_close(taylor.neurons[2], by_hand.abs().mean(0), rtol=1e-9, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_fisher_and_taylor_are_moments_of_the_gradients(tiny, batches, family):
    model = tiny(family)
    anatomy, found = Anatomy.of(model), family_batches(family, batches, 3)
    found[1] = {k: v[:2] for k, v in found[1].items()}  # batches of unlike size count by examples
    g = {n: v.double() for n, v in gradients(model, anatomy, found).items()}
    assert len(g["hidden"]) == 8
    for name, score in flat(fisher_scores(model, anatomy, found)).items():
        torch.testing.assert_close(score, g[name].square().mean(0) / 2)
    for name, score in flat(taylor_scores(model, anatomy, found)).items():
        torch.testing.assert_close(score, g[name].abs().mean(0))


def test_fisher_is_the_loss_of_small_noise(tiny, batches):
    """c is the curvature of cross entropy at its own predictions: labels drawn from the model."""
    model = tiny("bert", dtype=torch.float64)
    anatomy, batch = Anatomy.of(model), batches(1, rows=2)[0]
    probabilities = F.softmax(model(**{k: batch[k] for k in ("input_ids", "attention_mask")}).logits, 1).detach()
    expected = 0.0
    for label in range(3):  # the expectation over labels, example by example
        g = gradients(model, anatomy, [{**batch, "labels": torch.full((2,), label)}])["heads_1"]
        expected = expected + (probabilities[:, label, None] * g.square()).sum(0) / 4
    step = 1e-3

    def divergence(unit):
        values = {n: torch.ones(k, dtype=torch.float64) for n, k in unit_sizes(anatomy).items()}
        values["heads_1"][unit] += step
        with torch.no_grad(), gated(model, anatomy, {n: MaskGate(v) for n, v in values.items()}):
            moved = model(**{k: batch[k] for k in ("input_ids", "attention_mask")}).logits
        return F.kl_div(moved.log_softmax(1), probabilities.log(), log_target=True, reduction="batchmean")

    measured = torch.stack([divergence(unit) for unit in range(4)]) / step**2
    torch.testing.assert_close(measured, expected, rtol=5e-3, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_fisher_of_a_masked_model_is_that_of_the_cut_one(tiny, batches, family):
    model = tiny(family, dtype=torch.float64)
    anatomy, found = Anatomy.of(model), family_batches(family, batches, 2)
    plan = Plan(tuple(range(24)), (LayerPlan((0, 2), (1, 5, 7)), LayerPlan((1,), ()), LayerPlan((), (0, 19))))
    masks = {"hidden": torch.ones(24, dtype=torch.float64)}
    for i, layer in enumerate(plan.layers):
        for kind, ids, n in (("heads", layer.heads, 4), ("neurons", layer.neurons, 20)):
            masks[f"{kind}_{i}"] = torch.zeros(n, dtype=torch.float64)
            masks[f"{kind}_{i}"][list(ids)] = 1
    masked = fisher_scores(model, anatomy, found, masks)
    small = cut(model, plan)
    cut_scores = fisher_scores(small, Anatomy.of(small), found)
    torch.testing.assert_close(masked.hidden, cut_scores.hidden, rtol=1e-8, atol=1e-14)
    for i, layer in enumerate(plan.layers):
        torch.testing.assert_close(masked.heads[i][list(layer.heads)], cut_scores.heads[i], rtol=1e-8, atol=1e-14)
        torch.testing.assert_close(masked.neurons[i][list(layer.neurons)], cut_scores.neurons[i], rtol=1e-8, atol=1e-14)


def test_units_that_do_nothing_score_nothing(tiny, batches):
    model = tiny("bert")
    with torch.no_grad():
        layer = model.bert.encoder.layer[1]
        layer.output.dense.weight[:, 3] = 0
        layer.attention.output.dense.weight[:, 6:12] = 0
    anatomy = Anatomy.of(model)
    for scores in (fisher_scores(model, anatomy, batches(2)), taylor_scores(model, anatomy, batches(2))):
        assert float(scores.neurons[1][3]) == float(scores.heads[1][1]) == 0
        assert all(bool((v >= 0).all()) and bool(torch.isfinite(v).all()) for v in flat(scores).values())
        assert int((torch.cat(list(flat(scores).values())) == 0).sum()) == 2


def test_magnitudes_by_hand(tiny):
    model = tiny("bert")
    scores = magnitude_scores(model, Anatomy.of(model))
    layer = model.bert.encoder.layer[1]
    head = (
        layer.attention.self.value.weight[12:18].square().sum()
        + layer.attention.output.dense.weight[:, 12:18].square().sum()
    )
    neuron = layer.intermediate.dense.weight[7].square().sum() + layer.output.dense.weight[:, 7].square().sum()
    assert float(scores.heads[1][2]) == pytest.approx(head.item(), rel=1e-6)
    assert float(scores.neurons[1][7]) == pytest.approx(neuron.item(), rel=1e-6)
    table = model.bert.embeddings.word_embeddings.weight
    assert float(scores.hidden[5]) == pytest.approx(table[:, 5].square().sum().item(), rel=1e-6)


def test_magnitudes_of_a_factored_table_are_those_of_its_product(tiny):
    model = tiny("bert")
    small = cut(model, replace(Anatomy.of(model).full_plan(), rank=5))
    word = small.base_model.embeddings.word_embeddings
    table = (word.weight @ word.project.weight.T).detach()
    torch.testing.assert_close(magnitude_scores(small, Anatomy.of(small)).hidden, table.square().sum(0).double())


def test_random_scores(minilm_shape):
    one, same, other = (random_scores(minilm_shape, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(flat(one).values(), flat(same).values(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(flat(one).values(), flat(other).values(), strict=True))
    heads, neurons = torch.cat(one.heads), torch.cat(one.neurons)
    assert float(neurons.mean()) == pytest.approx(1, abs=0.05)
    assert float(heads.mean()) == pytest.approx(64, rel=0.15)  # as a head has 64 times a neuron's weights


@pytest.mark.parametrize("score", [fisher_scores, taylor_scores, lambda m, a, b: magnitude_scores(m, a)])
def test_permuted_units_have_permuted_scores(tiny, batches, score):
    model = tiny("bert", dtype=torch.float64)
    draw = generator(3)
    heads, neurons = torch.randperm(4, generator=draw), torch.randperm(20, generator=draw)
    channels = (heads[:, None] * 6 + torch.arange(6)).flatten()
    other = copy.deepcopy(model)
    with torch.no_grad():
        layer = other.bert.encoder.layer[0]
        for linear in (layer.attention.self.query, layer.attention.self.key, layer.attention.self.value):
            linear.weight.copy_(linear.weight[channels])
            linear.bias.copy_(linear.bias[channels])
        layer.attention.output.dense.weight.copy_(layer.attention.output.dense.weight[:, channels])
        layer.intermediate.dense.weight.copy_(layer.intermediate.dense.weight[neurons])
        layer.intermediate.dense.bias.copy_(layer.intermediate.dense.bias[neurons])
        layer.output.dense.weight.copy_(layer.output.dense.weight[:, neurons])
    anatomy = Anatomy.of(model)
    a, b = (flat(score(m, anatomy, batches(2))) for m in (model, other))
    a["heads_0"], a["neurons_0"] = a["heads_0"][heads], a["neurons_0"][neurons]
    for name in a:
        torch.testing.assert_close(b[name], a[name], rtol=1e-9, atol=1e-14)


# Allocation


def random_worth(anatomy, seed):
    draw = generator(seed)
    spread = float(torch.rand((), generator=draw)) * 5
    values = {n: (spread * torch.randn(k, generator=draw)).double().exp() for n, k in unit_sizes(anatomy).items()}
    for name, value in values.items():
        if float(torch.rand((), generator=draw)) < 0.1:
            value.fill_(0.0 if name.startswith("heads") else 1.0)  # ties
    return Scores.from_gates(anatomy, values)


FRAMES = st.tuples(
    st.sampled_from([50, 30, 20, 10]), st.integers(8, 40), st.integers(4, 12), st.sampled_from(["channels", "pca"])
)


@given(SEEDS, FRAMES, st.sampled_from([1, 4, 8]), st.booleans())
def test_budgets_are_met_and_used(medium_shape, limits_of, seed, frame, multiple, two):
    percent, hidden, rank, basis = frame
    anatomy = medium_shape
    budgets = [f"{percent}% params", f"{percent}% macs"]
    limits = limits_of(anatomy, *(budgets if two else budgets[:1]))
    scores = random_worth(anatomy, seed)
    bare = replace(anatomy.full_plan(), hidden=tuple(range(hidden)), rank=rank, basis=basis)
    plan = allocate(limits, scores, bare, multiple=multiple)
    assert limits.use(anatomy.shape_of(plan)) <= 1
    assert (plan.hidden, plan.rank, plan.basis) == (bare.hidden, bare.rank, bare.basis)
    if plan.layers != bare.layers:  # all units: the frame was too small for the budget
        assert limits.use(anatomy.shape_of(plan)) >= 0.97
        for more in larger(anatomy, plan, scores, multiple):
            assert limits.use(anatomy.shape_of(more)) > 1
    for i, layer in enumerate(plan.layers):
        assert len(layer.neurons) % multiple == 0
        for kind, ids in (("heads", layer.heads), ("neurons", layer.neurons)):
            worth = getattr(scores, kind)[i]
            rest = sorted(set(range(len(worth))) - set(ids))
            assert not ids or not rest or worth[list(ids)].min() >= worth[rest].max()


def larger(anatomy, plan, scores, multiple):
    """The plans with one more group of units in one layer."""
    for i, layer in enumerate(plan.layers):
        for kind, step in (("heads", 1), ("neurons", multiple)):
            kept = set(getattr(layer, kind))
            order = torch.argsort(getattr(scores, kind)[i], descending=True).tolist()
            more = [u for u in order if u not in kept][:step]
            if more:
                new = replace(layer, **{kind: tuple(sorted(kept | set(more)))})
                yield replace(plan, layers=(*plan.layers[:i], new, *plan.layers[i + 1 :]))


@settings(max_examples=20)
@given(SEEDS)
def test_permuted_scores_give_the_permuted_plan(medium_shape, limits_of, seed):
    draw = generator(seed)
    limits = limits_of(medium_shape, "20% params")
    worth = {n: torch.rand(k, generator=draw, dtype=torch.float64) for n, k in unit_sizes(medium_shape).items()}
    order = {n: torch.randperm(k, generator=draw) for n, k in unit_sizes(medium_shape).items()}
    bare = replace(medium_shape.full_plan(), hidden=tuple(range(40)), rank=12, basis="pca")
    plan = allocate(limits, Scores.from_gates(medium_shape, worth), bare)
    moved = Scores.from_gates(medium_shape, {n: v[order[n]] for n, v in worth.items()})
    other = allocate(limits, moved, bare)
    for i, (a, b) in enumerate(zip(plan.layers, other.layers, strict=True)):
        assert {int(order[f"heads_{i}"][j]) for j in b.heads} == set(a.heads)
        assert {int(order[f"neurons_{i}"][j]) for j in b.neurons} == set(a.neurons)


@settings(max_examples=10)
@given(SEEDS, st.floats(0.05, 0.95))
def test_allocation_against_brute_force(tiny, limits_of, seed, share):
    """MACs are additive, so this is a knapsack: the greedy plan loses less than its dearest unit is worth."""
    anatomy = Anatomy.of(tiny("bert", num_hidden_layers=2, num_attention_heads=2, intermediate_size=3))
    limits = limits_of(anatomy, "100% macs")
    bare = replace(anatomy.full_plan(), layers=(LayerPlan((), ()),) * 2)
    low, full = (limits.use(anatomy.shape_of(p)) for p in (bare, anatomy.full_plan()))
    limits = limits_of(anatomy, f"{100 * (low + share * (full - low))}% macs")
    scores = random_worth(anatomy, seed)

    def value(plan):
        return sum(
            float(getattr(scores, kind)[i][list(getattr(layer, kind))].sum())
            for i, layer in enumerate(plan.layers)
            for kind in ("heads", "neurons")
        )

    best = 0.0
    units = [c for n in (2, 3) for c in [[s for k in range(n + 1) for s in itertools.combinations(range(n), k)]] * 2]
    for h0, h1, n0, n1 in itertools.product(*units):
        plan = replace(bare, layers=(LayerPlan(h0, n0), LayerPlan(h1, n1)))
        if limits.use(anatomy.shape_of(plan)) <= 1:
            best = max(best, value(plan))
    reached = value(allocate(limits, scores, bare, multiple=1))
    largest = max(float(v.max()) for v in (*scores.heads, *scores.neurons))
    assert best - largest < reached <= best + 1e-9


def test_equal_prices_make_the_allocation_optimal(tiny, limits_of):
    anatomy = Anatomy.of(tiny("bert"))
    bare = replace(anatomy.full_plan(), layers=(LayerPlan((), ()),) * 3)
    nine = replace(bare, layers=tuple(LayerPlan((), tuple(range(3))) for _ in range(3)))
    base = limits_of(anatomy, "100% macs")
    limits = limits_of(anatomy, f"{100 * base.use(anatomy.shape_of(nine)) + 1e-6}% macs")
    worth = torch.rand(60, generator=generator(4), dtype=torch.float64)
    scores = Scores(torch.zeros(24), tuple(torch.zeros(4) for _ in range(3)), worth.split(20))
    plan = allocate(limits, scores, bare, multiple=1)
    kept = sorted(20 * i + j for i, layer in enumerate(plan.layers) for j in layer.neurons)
    assert kept == sorted(worth.topk(9).indices.tolist())


def test_a_frame_that_does_not_fit(medium_shape, limits_of):
    scores = random_worth(medium_shape, 0)
    with pytest.raises(BudgetError, match="a model of width 128 without any head or neuron already needs"):
        allocate(limits_of(medium_shape, "5% params"), scores, medium_shape.full_plan())


def test_latency_is_not_a_limit_of_plans(medium_shape, limits_of):
    with pytest.raises(BudgetError, match="latency budget must be turned into parameters or MACs"):
        limits_of(medium_shape, "5 ms")


def test_limits_count_the_tightest(medium_shape, limits_of):
    shape = medium_shape.shape
    one, two = limits_of(medium_shape, "40% params"), limits_of(medium_shape, "10% macs")
    both = limits_of(medium_shape, "40% params", "10% macs")
    assert both.use(shape) == max(one.use(shape), two.use(shape)) == pytest.approx(10)
    assert both.price(shape, "heads", 1) == pytest.approx(
        one.price(shape, "heads", 1) + two.price(shape, "heads", 1), rel=1e-12
    )
