"""Gates inside models, from the first step to the plan."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from narrows.core import BudgetError, TrainingError
from narrows.core.seeds import generator
from narrows.distill.finetune import LabelObjective
from narrows.distill.heal import DistillObjective
from narrows.distill.objective import Objective, TrainConfig
from narrows.distill.teacher import OnlineTeacher
from narrows.prune.fisher import fisher_scores
from narrows.prune.projection import project
from narrows.prune.random import random_scores
from narrows.prune.vib import VIBGate
from narrows.prune.vtrans import VTransConfig, VTransObjective, vtrans_plan
from narrows.transformer.anatomy import Anatomy
from narrows.transformer.calibrate import model_inputs
from narrows.transformer.cost import cost_of
from narrows.transformer.cut import cut, fold
from narrows.transformer.gates import attach_gates, detach_gates, gated
from narrows.transformer.plan import LayerPlan

FAMILIES = ["bert", "roberta", "distilbert", "electra"]
SEEDS = st.integers(0, 2**32)


def logits(model, batch):
    with torch.no_grad():
        return model(**model_inputs(model, batch)).logits


def random_gates(anatomy, seed, kinds, *, scaled):
    """Gates with random units on; layer 0 loses its attention and layer 1 its FFN."""
    draw = generator(seed, "gates")

    def gate(n, chance=0.6, first=False):
        on = torch.rand(n, generator=draw) < chance
        on[0] |= first
        mu = 0.4 + 2 * torch.rand(n, generator=draw) if scaled else torch.ones(n)
        return VIBGate(n, mu=mu, log_var=torch.where(on, -4.0, 4.0))

    gates = {"hidden": gate(anatomy.shape.hidden, first=True)} if "hidden" in kinds else {}
    for i in range(anatomy.layers):
        gates[f"heads_{i}"] = gate(anatomy.shape.heads[i], 0.6 * (i != 0), first=i != 0)
        gates[f"neurons_{i}"] = gate(anatomy.shape.neurons[i], 0.6 * (i != 1), first=i != 1)
        if "blocks" in kinds:
            gates |= {f"{b}_{i}": gate(1, 0.7, first=i == 2) for b in ("attention", "ffn")}
    return gates


def plan_of(anatomy, gates):
    """The plan of what is on."""

    def units(kind, block, layer):
        if f"{block}_{layer}" in gates and not bool(gates[f"{block}_{layer}"].kept().any()):
            return ()
        return tuple(gates[f"{kind}_{layer}"].kept().nonzero()[:, 0].tolist())

    full = anatomy.full_plan()
    hidden = gates["hidden"].kept().nonzero()[:, 0].tolist() if "hidden" in gates else full.hidden
    layers = tuple(LayerPlan(units("heads", "attention", i), units("neurons", "ffn", i)) for i in range(anatomy.layers))
    return replace(full, hidden=tuple(hidden), layers=layers)


@pytest.mark.parametrize("head", ["ForSequenceClassification", "ForMaskedLM"])
@pytest.mark.parametrize("family", FAMILIES)
def test_fold_then_cut_is_the_gated_model(tiny, batches, family, head):
    model = tiny(family, head=head, dtype=torch.float64)
    anatomy = Anatomy.of(model)
    batch = batches(1)[0]
    if family == "roberta":
        batch["input_ids"] = torch.where(batch["attention_mask"] == 1, batch["input_ids"], 1)
    for seed, (kinds, scaled) in enumerate(
        [(("hidden", "blocks"), True), (("hidden",), True), ((), True), (("hidden", "blocks"), False)]
    ):
        gates = random_gates(anatomy, seed, kinds, scaled=scaled)
        with gated(model, anatomy, gates):
            expected = logits(model.eval(), batch)
        scales = {name: gate.mu.detach().double() for name, gate in gates.items()} if scaled else {}
        small = cut(fold(model, anatomy, scales), plan_of(anatomy, gates))
        torch.testing.assert_close(logits(small, batch), expected, atol=1e-9, rtol=1e-9)
        assert not torch.allclose(expected, logits(model, batch), atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_gates_at_one_change_nothing(tiny, batches, family):
    model = tiny(family)
    anatomy, batch = Anatomy.of(model), batches(1)[0]
    expected, state = logits(model, batch), copy.deepcopy(model.state_dict())
    sizes = {f"{k}_{i}": n for i in range(3) for k, n in (("heads", 4), ("neurons", 20), ("attention", 1), ("ffn", 1))}
    gates = {n: VIBGate(k, mu=torch.ones(k), log_var=torch.full((k,), -9.0), noise=0.0) for n, k in sizes.items()}
    attach_gates(model, anatomy, gates)
    assert torch.equal(logits(model.eval(), batch), expected)  # mu where on
    assert torch.equal(logits(model.train(), batch), expected)  # the mean: no noise
    for gate in gates.values():
        gate.noise = 1.0
    assert 1e-5 < float((logits(model, batch) - expected).abs().max()) < 0.1  # a hundredth of noise
    detach_gates(model.eval())
    assert torch.equal(logits(model, batch), expected)
    assert all(torch.equal(a, state[n]) for n, a in model.state_dict().items())


def test_a_copied_model_uses_its_own_gates(tiny, batches):
    model = tiny("bert")
    anatomy, batch = Anatomy.of(model), batches(1)[0]
    attach_gates(model, anatomy, random_gates(anatomy, 0, ("hidden", "blocks"), scaled=True))
    expected = logits(model.eval(), batch)
    other = copy.deepcopy(model)
    assert torch.equal(logits(other, batch), expected)
    with torch.no_grad():
        for _, gate in other.narrows_gates.items():
            gate.mu.mul_(3)
    assert torch.equal(logits(model, batch), expected)
    assert not torch.equal(logits(other, batch), expected)
    detach_gates(other)
    assert torch.equal(logits(model, batch), expected)


def test_layers_that_are_all_off_keep_the_graph(tiny, batches):
    model = tiny("bert").train()
    anatomy, batch = Anatomy.of(model), batches(1)[0]
    gates = random_gates(anatomy, 0, ("hidden", "blocks"), scaled=False)
    for name, gate in gates.items():
        if name != "hidden":
            gate.log_var.data.fill_(30.0)
    with gated(model, anatomy, gates):
        out = model(**model_inputs(model, batch)).logits
        loss = F.cross_entropy(out, batch["labels"]) + sum(g.kl().sum() for g in gates.values())
        loss.backward()
    for gate in gates.values():
        assert torch.isfinite(gate.log_var.grad).all()
        assert torch.isfinite(gate.mu.grad).all()
    assert all(float(g.mu.grad.abs().sum()) > 0 for n, g in gates.items() if n == "hidden")
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_gated_steps_in_half_precision(tiny, batches, dtype):
    model = tiny("distilbert").to(dtype).train()
    anatomy, batch = Anatomy.of(model), batches(1)[0]
    gates = random_gates(anatomy, 2, ("hidden", "blocks"), scaled=True)
    with gated(model, anatomy, gates), torch.autocast("cpu", torch.bfloat16):
        out = model(**model_inputs(model, batch)).logits
        (out.float().square().sum() + sum(g.kl().sum() for g in gates.values())).backward()
    for gate in gates.values():
        assert gate.mu.grad.dtype == torch.float32
        assert torch.isfinite(gate.log_var.grad).all()


# The projection


def random_alpha(anatomy, draw, kinds, spread=1.0):
    """Log alphas of all gates of some kinds."""
    alpha = {"hidden": spread * torch.randn(anatomy.shape.hidden, generator=draw)} if "hidden" in kinds else {}
    for i in range(anatomy.layers):
        for kind, n in (("heads", anatomy.shape.heads[i]), ("neurons", anatomy.shape.neurons[i])):
            alpha[f"{kind}_{i}"] = spread * torch.randn(n, generator=draw).double()
        if "blocks" in kinds:
            alpha |= {f"{b}_{i}": 3 * torch.randn(1, generator=draw) for b in ("attention", "ffn")}
    return alpha


@given(SEEDS, st.sampled_from([50, 20, 10]), st.booleans(), st.booleans(), st.floats(0.01, 8))
def test_the_projection_meets_the_budget(medium_shape, limits_of, seed, percent, hidden, blocks, spread):
    anatomy = medium_shape
    limits = limits_of(anatomy, f"{percent}% params", f"{percent + 10}% macs")
    frame = replace(anatomy.full_plan(), rank=None if percent == 50 else percent // 2)
    if not hidden:
        frame = replace(frame, hidden=tuple(range(2 * percent)), basis="pca")
    kinds = ["hidden"] * hidden + ["blocks"] * blocks
    log_alpha = random_alpha(anatomy, generator(seed), kinds, spread)
    plan = project(limits, frame, log_alpha)
    assert 0.97 <= limits.use(anatomy.shape_of(plan)) <= 1
    assert all(len(layer.neurons) % 8 == 0 for layer in plan.layers)
    if hidden:
        assert len(plan.hidden) % 8 == 0
        dropped = sorted(set(range(128)) - set(plan.hidden))
        kept = log_alpha["hidden"][list(plan.hidden)]
        assert not dropped or kept.min() >= log_alpha["hidden"][dropped].max()
    else:
        assert plan.hidden == frame.hidden


def test_one_threshold_for_all_layers_and_kinds(medium_shape, limits_of):
    log_alpha = random_alpha(medium_shape, generator(0), [])
    limits = limits_of(medium_shape, "15% params")
    frame = replace(medium_shape.full_plan(), hidden=tuple(range(40)), rank=16, basis="pca")
    plan = project(limits, frame, log_alpha, multiple=1)
    kept, dropped = [], []
    for i, layer in enumerate(plan.layers):
        for kind, ids in (("heads", layer.heads), ("neurons", layer.neurons)):
            on = torch.zeros(len(log_alpha[f"{kind}_{i}"]), dtype=torch.bool)
            on[list(ids)] = True
            kept.append(log_alpha[f"{kind}_{i}"][on])
            dropped.append(log_alpha[f"{kind}_{i}"][~on])
    kept, dropped = torch.cat(kept), torch.cat(dropped)
    best = dropped.max()  # what was too large to fit at the end; behind it only small units fit
    assert int((kept < best).sum()) <= 64
    assert min(len(kept), len(dropped)) > 500


def test_a_block_takes_its_units_with_it(minilm_shape, limits_of):
    log_alpha = {f"neurons_{i}": torch.ones(1536) for i in range(6)}
    log_alpha |= {f"{b}_{i}": torch.tensor([1.0 if i else -9.0]) for i in range(6) for b in ("attention", "ffn")}
    frame = replace(minilm_shape.full_plan(), hidden=tuple(range(96)), rank=32, basis="pca")
    whole = replace(frame, layers=(LayerPlan((), ()), *frame.layers[1:]))
    limits = limits_of(minilm_shape, f"{cost_of(minilm_shape, whole, 16).params} params")
    assert project(limits, frame, log_alpha) == whole


def test_units_without_gates_come_first(medium_shape, limits_of):
    log_alpha = {n: a for n, a in random_alpha(medium_shape, generator(1), []).items() if "neurons" in n}
    frame = replace(medium_shape.full_plan(), hidden=tuple(range(48)), rank=16, basis="pca")
    plan = project(limits_of(medium_shape, "20% params"), frame, log_alpha)
    assert all(len(layer.heads) == 8 for layer in plan.layers)
    assert all(0 < len(layer.neurons) < 512 for layer in plan.layers)


@settings(max_examples=20)
@given(SEEDS)
def test_permuted_units_give_the_permuted_plan(medium_shape, limits_of, seed):
    draw = generator(seed)
    limits, frame = limits_of(medium_shape, "30% params"), medium_shape.full_plan()
    log_alpha = random_alpha(medium_shape, draw, ["hidden"])
    order = {name: torch.randperm(len(a), generator=draw) for name, a in log_alpha.items()}
    plan = project(limits, frame, log_alpha)
    other = project(limits, frame, {n: a[order[n]] for n, a in log_alpha.items()})
    assert {int(order["hidden"][j]) for j in other.hidden} == set(plan.hidden)
    for i, (a, b) in enumerate(zip(plan.layers, other.layers, strict=True)):
        assert {int(order[f"heads_{i}"][j]) for j in b.heads} == set(a.heads)
        assert {int(order[f"neurons_{i}"][j]) for j in b.neurons} == set(a.neurons)


# Whole runs


@pytest.fixture(scope="module", name="case")
def case_fixture(tiny, texts, limits_of):
    model = tiny("bert", seed=1)
    anatomy = Anatomy.of(model)
    batches = [texts.batch(range(8 * i, 8 * i + 8)) for i in range(6)]
    scores = fisher_scores(model, anatomy, batches)
    return model, anatomy, limits_of(anatomy, "40% params"), scores, OnlineTeacher(model, texts, range(48))


def run(case, texts, path, config, **over):
    model, anatomy, limits, scores, teacher = case
    frame = anatomy.full_plan() if "hidden" in config.units else frame_of(anatomy)
    scores = scores if config.start is None else None
    options = {"batch_size": 8, "seed": 3, "bf16": False, "log_every": 2, "save_every": 4} | over
    return vtrans_plan(model, limits, frame, scores, texts, DistillObjective(teacher), config, path, **options)


def frame_of(anatomy):
    return replace(anatomy.full_plan(), hidden=tuple(range(12)), basis="pca")


CONFIGS = {
    "price": VTransConfig(12, multiple=2),
    "mu fixed": VTransConfig(12, multiple=2, train_mu=False),
    "trained": VTransConfig(12, multiple=2, weights="trained", kl_on_mu=True, units=("heads", "neurons", "blocks")),
    "hidden": VTransConfig(12, multiple=2, units=("hidden", "heads", "neurons")),
    "published": VTransConfig.published(12, multiple=2),
}


class PowerCutError(Exception):
    """The process ends here."""


class StopAt:
    def __init__(self, step):
        self.step = step

    def update(self, step, total, figures):
        if step == self.step:
            raise PowerCutError


@pytest.mark.parametrize("name", CONFIGS)
def test_a_stopped_run_ends_like_a_whole_one(case, texts, tmp_path, name):
    config = CONFIGS[name]
    whole = run(case, texts, tmp_path / "whole", config)
    with pytest.raises(PowerCutError):
        run(case, texts, tmp_path / "cut", config, progress=StopAt(9))
    resumed = run(case, texts, tmp_path / "cut", config, resume=True)
    again = run(case, texts, tmp_path / "cut", config, resume=True)  # a finished run
    for other in (resumed, again):
        assert other.plan == whole.plan
        assert list(other.history) == list(whole.history)
        assert other.gates.keys() == whole.gates.keys()
        for gate, expected in zip(other.gates.values(), whole.gates.values(), strict=True):
            assert torch.equal(gate.mu, expected.mu)
            assert torch.equal(gate.log_alpha, expected.log_alpha)
        state = whole.model.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in other.model.state_dict().items())


@pytest.mark.parametrize("name", CONFIGS)
def test_what_a_run_gives(case, texts, tmp_path, name):
    model, anatomy, limits, _, _ = case
    config, before = CONFIGS[name], copy.deepcopy(model.state_dict())
    result = run(case, texts, tmp_path, config)
    assert 0.9 < limits.use(anatomy.shape_of(result.plan)) <= 1
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.requires_grad for p in result.model.parameters())
    assert result.model.state_dict().keys() == before.keys()
    same = all(torch.equal(value, before[key]) for key, value in result.model.state_dict().items())
    assert same == (config.weights == "frozen")
    assert bool(result.scales) == config.train_mu
    if not config.train_mu:
        assert all(torch.equal(g.mu, torch.ones_like(g.mu)) for g in result.gates.values())
    else:
        assert any(not torch.equal(g.mu, torch.ones_like(g.mu)) for g in result.gates.values())
    records = list(result.history)
    assert [r["step"] for r in records] == [2, 4, 6, 8, 10, 12]
    assert {"loss", "logits", "layers", "kl", "size", "scheduled"} <= records[-1].keys()
    if config.controller == "price":
        assert all(r["size"] <= r["scheduled"] + 1e-9 for r in records)
        assert records[-1]["size"] <= 1 + 1e-9
    information = result.information()
    assert json.loads(json.dumps(information)) == information
    assert information["steps"] == [2, 4, 6, 8, 10, 12]
    for i, row in enumerate(information["layers"]):
        assert row["attention"] == [r[f"nats/attention/{i}"] for r in records]
        assert row["ffn"] == [r[f"nats/ffn/{i}"] for r in records]
        gate = result.gates[f"heads_{i}"]
        assert row["heads"] == gate.nats.tolist()
        assert all((x > 0) == (a > 0) for x, a in zip(gate.nats, gate.log_alpha, strict=True))
        assert row["neurons_quantiles"][-1] == pytest.approx(float(result.gates[f"neurons_{i}"].nats.max()))
    if config.weights == "trained" or "hidden" in config.units:
        return
    plan = replace(result.plan, hidden=tuple(range(24)), basis="channels")
    small = cut(fold(result.model, anatomy, result.scales), plan)
    gates = {n: VIBGate(len(g.mu), mu=g.mu, log_var=g.mu.square().log() - 1) for n, g in result.gates.items()}
    for i, layer in enumerate(result.plan.layers):
        for kind, ids in (("heads", layer.heads), ("neurons", layer.neurons)):
            off = [j for j in range(len(gates[f"{kind}_{i}"].mu)) if j not in ids]
            gates[f"{kind}_{i}"].log_var.data[off] += 2
    batch = texts.batch(range(5))
    with gated(model, anatomy, gates):
        expected = logits(model.eval(), batch)
    torch.testing.assert_close(logits(small.eval(), batch), expected, atol=2e-5, rtol=0)


class Quiet(Objective):
    """A loss that is the sum of the squared logits."""

    def loss(self, model, batch, step):
        return model(**model_inputs(model, batch)).logits.square().sum(), {}


def test_groups_and_what_is_trained(tiny, limits_of):
    model = tiny("bert")
    anatomy = Anatomy.of(model)
    limits, scores = limits_of(anatomy, "40% params"), random_scores(anatomy, 0)
    weights = [n for n, _ in model.named_parameters()]
    for config in (VTransConfig(10), VTransConfig(10, weights="trained"), VTransConfig.published(10)):
        objective = VTransObjective(Quiet(), limits, frame_of(anatomy), config, scores)
        objective.attach(model)
        groups = objective.parameter_groups(model, TrainConfig(10))
        names = {id(p): n for n, p in model.named_parameters()}
        named = {g["name"]: [names[id(p)] for p in g["params"]] for g in groups}
        trained = [n for name, group in named.items() if "gate" not in name for n in group]
        assert [n for n in trained if not n.startswith("narrows_")] == sorted(
            [n for n in weights if config.weights == "trained"], key=trained.index
        )
        assert (len([n for n in trained if n in weights]) == len(weights)) == (config.weights == "trained")
        assert all(n.endswith(".log_var") for n in named["gates"])
        assert all(n.endswith(".mu") for n in named["gate means"])
        assert len(named["gates"]) == len(named["gate means"]) == 6
        rates = {g["name"]: g.get("lr") for g in groups}
        assert (rates["gates"], rates["gate means"]) == (config.gate_rate, config.mean_rate)
        schedule = next(g for g in groups if g["name"] == "gates")["schedule"]
        assert [schedule(s) for s in (0, 5, 10)] == [1.0, 0.5, 0.0]
        if config.controller == "lagrangian":
            multipliers = groups[-1]
            assert multipliers["maximize"]
            assert multipliers["max_grad_norm"] is None
            assert multipliers["lr"] == config.multiplier_rate
        objective.detach(model)
        assert [n for n, p in model.named_parameters() if p.requires_grad] == weights


def test_gates_start_at_their_optimum(tiny, limits_of):
    model = tiny("bert")
    anatomy = Anatomy.of(model)
    limits, scores = limits_of(anatomy, "40% params"), random_scores(anatomy, 0)
    objective = VTransObjective(Quiet(), limits, frame_of(anatomy), VTransConfig(10), scores)
    objective.attach(model)
    box = model.narrows_gates
    lam = float(box.controller.log_price.exp())
    for i in range(3):
        for kind in ("heads", "neurons"):
            price = limits.price(anatomy.shape_of(frame_of(anatomy)), kind, i)
            c = getattr(scores, kind)[i]
            alpha = box[f"{kind}_{i}"].log_alpha().detach().double().exp()
            torch.testing.assert_close(alpha, 2 * c / (lam * price), rtol=1e-4, atol=0)  # M1, small beta
            assert bool(box[f"{kind}_{i}"].kept().all())
    objective.detach(model)


def test_permuted_models_give_permuted_plans(tiny, texts, limits_of, tmp_path):
    """Without noise, which belongs to positions, the result follows the units."""
    model = tiny("bert", seed=2)
    anatomy = Anatomy.of(model)
    draw = generator(5)
    heads, neurons = torch.randperm(4, generator=draw), torch.randperm(20, generator=draw)
    channels = (heads[:, None] * 6 + torch.arange(6)).flatten()
    other = copy.deepcopy(model)
    with torch.no_grad():
        for layer in other.bert.encoder.layer:
            for linear in (layer.attention.self.query, layer.attention.self.key, layer.attention.self.value):
                linear.weight.copy_(linear.weight[channels])
                linear.bias.copy_(linear.bias[channels])
            out = layer.attention.output.dense
            out.weight.copy_(out.weight[:, channels])
            layer.intermediate.dense.weight.copy_(layer.intermediate.dense.weight[neurons])
            layer.intermediate.dense.bias.copy_(layer.intermediate.dense.bias[neurons])
            layer.output.dense.weight.copy_(layer.output.dense.weight[:, neurons])
    plans = []
    for name, m in (("one", model), ("other", other)):
        scores = fisher_scores(m, anatomy, [texts.batch(range(24))])
        plans.append(
            vtrans_plan(
                m,
                limits_of(anatomy, "40% params"),
                frame_of(anatomy),
                scores,
                texts,
                LabelObjective(texts),
                VTransConfig(8, noise=0.0, multiple=1),
                tmp_path / name,
                batch_size=8,
                bf16=False,
            ).plan
        )
    for a, b in zip(plans[0].layers, plans[1].layers, strict=True):
        assert {int(heads[j]) for j in b.heads} == set(a.heads)
        assert {int(neurons[j]) for j in b.neurons} == set(a.neurons)


def test_a_loss_that_is_not_finite_stops_the_run(case, texts, tmp_path):
    class Broken(Quiet):
        def loss(self, model, batch, step):
            loss, figures = super().loss(model, batch, step)
            return loss * (torch.nan if step == 5 else 1.0), figures

    model, anatomy, limits, scores, _ = case
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(TrainingError, match="loss is nan at step 6 of 12"):
        vtrans_plan(
            model,
            limits,
            frame_of(anatomy),
            scores,
            texts,
            Broken(),
            CONFIGS["trained"],
            tmp_path,
            batch_size=8,
            bf16=False,
        )
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not hasattr(model, "narrows_gates")


def test_a_budget_that_cannot_be_met_fails_before_training(case, texts, tmp_path, limits_of):
    model, anatomy, _, scores, teacher = case
    with pytest.raises(BudgetError, match="without any head or neuron already needs"):
        vtrans_plan(
            model,
            limits_of(anatomy, "2% params"),
            frame_of(anatomy),
            scores,
            texts,
            DistillObjective(teacher),
            CONFIGS["price"],
            tmp_path,
        )
    assert not any(tmp_path.iterdir())


def test_bad_scores(case):
    _, anatomy, limits, scores, _ = case
    frame = frame_of(anatomy)
    with pytest.raises(TrainingError, match="need scores"):
        VTransObjective(Quiet(), limits, frame, VTransConfig(10), None)
    for bad in (torch.nan, -1.0, torch.inf):
        heads = (scores.heads[0].clone(), *scores.heads[1:])
        heads[0][1] = bad
        with pytest.raises(TrainingError, match="scores of heads_0 must be 4 finite values"):
            VTransObjective(Quiet(), limits, frame, VTransConfig(10), replace(scores, heads=heads))
    zero = replace(scores, heads=(torch.zeros(4), *scores.heads[1:]))
    starts = VTransObjective(Quiet(), limits, frame, VTransConfig(10), zero)._starts
    assert all(torch.isfinite(start).all() for start in starts.values())


@pytest.mark.parametrize(
    ("over", "text"),
    [
        ({"controller": "magic"}, "controller can be lagrangian, price; got magic"),
        ({"weights": "soft"}, "weights can be frozen, trained; got soft"),
        ({"units": ()}, "units can be blocks, heads, hidden, neurons; got nothing"),
        ({"units": ("heads", "bones")}, "got bones"),
        ({"noise": -1.0}, "noise must not be negative, got -1.0"),
        ({"gate_rate": 0.0}, "gate_rate must be above 0"),
        ({"noise": float("nan")}, "noise must not be negative"),
        ({"warmup": 0.0}, "warmup is a share of the steps"),
    ],
)
def test_senseless_settings(over, text):
    with pytest.raises(TrainingError, match=text):
        VTransConfig(10, **over)
