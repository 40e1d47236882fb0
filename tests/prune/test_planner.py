"""The planner meets budgets at real sizes, takes the best of its trials, and its uniform plans are stock models."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import PreTrainedModel

from narrows.core.errors import BudgetError, NarrowsError
from narrows.core.seeds import generator
from narrows.prune import methods, planner
from narrows.prune.methods import METHODS, Problem, pruner
from narrows.prune.planner import Trial, choose_plan, shape_for
from narrows.prune.scores import Limits, Scores, unit_sizes
from narrows.transformer.anatomy import Anatomy
from narrows.transformer.calibrate import Calibration, calibrate
from narrows.transformer.cost import cost_of
from narrows.transformer.cut import cut
from narrows.transformer.plan import LayerPlan, Plan
from narrows.transformer.rebuild import rebuild

FAMILIES = ("bert", "roberta", "distilbert", "electra")
SEEDS = st.integers(0, 10**6)


def worth(anatomy: Anatomy, seed: int) -> Scores:
    """Scores that span orders of magnitude, as measured ones do."""
    draw = generator(seed, "worth")
    return Scores.from_gates(
        anatomy,
        {n: (2 * torch.randn(k, generator=draw, dtype=torch.float64)).exp() for n, k in unit_sizes(anatomy).items()},
    )


def search(limits: Limits, seed: int, **options: Any) -> tuple[Plan, tuple[Trial, ...]]:
    """`choose_plan` for a shape without weights: what a trial would measure is drawn instead."""
    draw = generator(seed, "divergence")
    nothing = torch.zeros(0)
    data = Calibration([{}], nothing, nothing, nothing, None)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "_predictions", lambda model, batch: torch.zeros(1, 2))
        patch.setattr(planner._Search, "_judge", lambda self, plan: Trial(plan, float(torch.rand((), generator=draw))))
        return choose_plan(None, data, limits, worth(limits.anatomy, seed), **options)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def trimmed_shape(minilm_shape: Anatomy) -> Anatomy:
    """MiniLM with the words of the movie reviews only."""
    config = transformers.BertConfig(
        vocab_size=12895, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    with torch.device("meta"):
        return Anatomy.of(transformers.BertForSequenceClassification(config))


BUDGETS = st.sampled_from(
    [("{}% params",), ("{}% MACs",), ("{}% bytes",), ("{}% params", "{}% MACs"), ("{}% MACs", "{}% bytes")]
)


def check(anatomy: Anatomy, limits: Limits, plan: Plan, multiple: int) -> None:
    use = limits.use(anatomy.shape_of(plan))
    assert 0.97 <= use <= 1
    cost = cost_of(anatomy, plan, limits.dense.tokens)
    assert all(budget.allows(cost, limits.dense) for budget in limits.budgets)
    assert len(plan.hidden) % multiple == 0
    assert plan.rank is None or (plan.rank % multiple == 0 and plan.rank < len(plan.hidden))
    assert all(len(layer.neurons) % multiple == 0 for layer in plan.layers)


@settings(max_examples=8)
@given(SEEDS, BUDGETS, st.floats(4, 99), st.booleans(), st.sampled_from(["pca", "channels"]))
def test_budgets_are_met_and_used_at_real_sizes(
    minilm_shape: Anatomy,
    trimmed_shape: Anatomy,
    limits_of: Any,
    seed: int,
    budgets: tuple[str, ...],
    percent: float,
    trimmed: bool,
    basis: str,
) -> None:
    anatomy = trimmed_shape if trimmed else minilm_shape
    limits = limits_of(anatomy, *(text.format(percent) for text in budgets))
    plan, trials = search(limits, seed, basis=basis)
    for trial in trials:
        check(anatomy, limits, trial.plan, 8)
        assert trial.plan.basis == basis
    assert plan == min(trials, key=lambda t: t.divergence).plan
    if basis == "channels":
        assert set(plan.hidden) == set(worth(anatomy, seed).hidden.topk(len(plan.hidden)).indices.tolist())


@pytest.mark.parametrize("percent", [2, 4, 5, 8])
def test_a_tight_budget_is_tried_with_the_whole_table_too(minilm_shape: Anatomy, limits_of: Any, percent: int) -> None:
    """At these budgets a step of eight channels is a large one, and must not step over all widths."""
    _, trials = search(limits_of(minilm_shape, f"{percent}% params"), 0)
    assert any(trial.plan.rank is None for trial in trials)


def test_a_budget_above_the_whole_model_keeps_it(minilm_shape: Anatomy, limits_of: Any) -> None:
    for budget in ("100% params", "30M params"):
        plan, _ = search(limits_of(minilm_shape, budget), 0)
        assert minilm_shape.shape_of(plan) == minilm_shape.shape
    plan, trials = search(limits_of(minilm_shape, "97% params"), 0)
    assert all(limits_of(minilm_shape, "97% params").use(minilm_shape.shape_of(t.plan)) >= 0.97 for t in trials)


@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("budget", ["1000 params", "0.5% params", "0.001% MACs", "20 kB"])
def test_a_budget_below_the_smallest_model_is_refused(
    minilm_shape: Anatomy, limits_of: Any, uniform: bool, budget: str
) -> None:
    with pytest.raises(BudgetError, match=r"uses 97 % of the budget and not more.*below the smallest possible model"):
        search(limits_of(minilm_shape, budget), 0, uniform=uniform)


@settings(max_examples=10)
@given(SEEDS, BUDGETS, st.floats(8, 95))
def test_uniform_plans_can_be_said_by_a_stock_class(
    trimmed_shape: Anatomy, limits_of: Any, seed: int, budgets: tuple[str, ...], percent: float
) -> None:
    limits = limits_of(trimmed_shape, *(text.format(percent) for text in budgets))
    plan, trials = search(limits, seed, uniform=True)
    scores = worth(trimmed_shape, seed)
    for trial in trials:
        check(trimmed_shape, limits, trial.plan, 8)
        assert trial.plan.uniform
        heads = len(trial.plan.layers[0].heads)
        assert len(trial.plan.hidden) == 32 * heads == trial.plan.tail
        assert trial.plan.rank is None
        for layer, worths in zip(trial.plan.layers, scores.heads, strict=True):
            assert set(layer.heads) == set(worths.topk(heads).indices.tolist())
    assert plan in [trial.plan for trial in trials]


def test_the_shape_to_measure_fits(minilm_shape: Anatomy, limits_of: Any) -> None:
    for percent in (5, 10, 30, 60, 100):
        limits = limits_of(minilm_shape, f"{percent}% params")
        assert limits.use(minilm_shape.shape_of(shape_for(limits, worth(minilm_shape, 0)))) <= 1
    with pytest.raises(BudgetError, match=r"width 8 without any head or neuron already needs \d+% of the budget"):
        shape_for(limits_of(minilm_shape, "0.5% params"), worth(minilm_shape, 0))


# With models


@pytest.fixture(scope="session")
def trained(tiny: Callable[..., PreTrainedModel], batches: Any) -> Callable[..., PreTrainedModel]:
    """`trained(family)`: a small model that has learned the labels of a few batches."""
    made: dict[str, PreTrainedModel] = {}

    def build(family: str) -> PreTrainedModel:
        if family not in made:
            wide = {"hidden_dim" if family == "distilbert" else "intermediate_size": 64}
            model = tiny(family, **wide).train()
            optimiser = torch.optim.Adam(model.parameters(), 3e-3)
            for _ in range(15):
                for batch in data_of(model, batches, 3):
                    optimiser.zero_grad()
                    model(**batch).loss.backward()
                    optimiser.step()
            made[family] = model.eval()
        return made[family]

    return build


def data_of(model: PreTrainedModel, batches: Any, count: int) -> list[dict[str, torch.Tensor]]:
    found = batches(count, rows=8, tokens=7)
    pad = model.config.pad_token_id
    return [b | {"input_ids": b["input_ids"].masked_fill(b["attention_mask"] == 0, pad)} for b in found]


def problem_of(model: PreTrainedModel, batches: Any, limits_of: Any, *budgets: str, **options: Any) -> Problem:
    anatomy = Anatomy.of(model)
    calibration = calibrate(model, data_of(model, batches, 6))
    return Problem(model, anatomy, calibration, limits_of(anatomy, *budgets), **{"multiple": 4, **options})


@pytest.mark.parametrize("family", FAMILIES)
def test_the_plan_is_the_trial_with_the_least_divergence(
    trained: Any, batches: Any, limits_of: Any, family: str
) -> None:
    problem = problem_of(trained(family), batches, limits_of, "40% params")
    scores = worth(problem.anatomy, 0)
    ticks: list[tuple[int, int]] = []
    plan, trials = choose_plan(
        problem.model,
        problem.calibration,
        problem.limits,
        scores,
        multiple=4,
        tick=lambda done, total: ticks.append((done, total)),
    )
    assert len(trials) >= 3
    assert len({trial.plan for trial in trials}) == len(trials)
    assert len(ticks) >= len(trials)
    judged, fitted = problem.calibration.batches[:2], problem.calibration.batches[2:]
    divergences = []
    for trial in trials:
        check(problem.anatomy, problem.limits, trial.plan, 4)
        small = rebuild(problem.model, trial.plan, replace(problem.calibration, batches=fitted)).model
        kl: list[float] = []
        for batch in judged:
            ids = {k: v for k, v in batch.items() if k != "labels"}
            with torch.no_grad():
                wanted, got = (F.softmax(m(**ids).logits.double(), -1) for m in (problem.model, small))
            kl += (wanted * (wanted / got).log()).sum(-1).tolist()
        divergences.append(sum(kl) / len(kl))
        assert trial.divergence == pytest.approx(divergences[-1], rel=1e-3, abs=1e-7)
    assert plan == trials[divergences.index(min(divergences))].plan


def test_the_divergence_of_a_regression_is_its_squared_error(tiny: Any, batches: Any, limits_of: Any) -> None:
    problem = problem_of(tiny("bert", num_labels=1, intermediate_size=64), batches, limits_of, "40% params")
    _, trials = choose_plan(
        problem.model, problem.calibration, problem.limits, worth(problem.anatomy, 0), multiple=4, uniform=True
    )
    judged, fitted = problem.calibration.batches[:2], problem.calibration.batches[2:]
    small = rebuild(problem.model, trials[0].plan, replace(problem.calibration, batches=fitted)).model
    with torch.no_grad():
        errors = [
            (small(**ids).logits - problem.model(**ids).logits)[:, 0].square()
            for ids in ({k: v for k, v in b.items() if k != "labels"} for b in judged)
        ]
    assert trials[0].divergence == pytest.approx(float(torch.cat(errors).mean()), rel=1e-3)


@pytest.mark.parametrize("name", ["random", "magnitude", "taylor", "fisher", "fisher-iterative"])
@pytest.mark.parametrize("uniform", [False, True])
def test_every_method_meets_both_budgets(trained: Any, batches: Any, limits_of: Any, name: str, uniform: bool) -> None:
    model = trained("bert")
    state = torch.get_rng_state()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    problem = problem_of(model, batches, limits_of, "40% params", "35% MACs", uniform=uniform)
    plan = pruner(name, uniform=uniform)(problem).plan
    check(problem.anatomy, problem.limits, plan, 4 if not uniform else 2)
    assert plan.uniform or not uniform
    assert plan == pruner(name)(problem).plan
    rebuild(model, plan, problem.calibration, stock=uniform)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_learned_gates_cannot_be_uniform() -> None:
    with pytest.raises(NarrowsError, match="vtrans gives every layer its own shape"):
        pruner("vtrans", uniform=True)
    with pytest.raises(NarrowsError, match="unknown method 'obd'; methods are auto, vtrans, random"):
        pruner("obd")


def test_iterative_rounds_never_bring_a_unit_back(
    trained: Any, batches: Any, limits_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[Plan] = []

    def recording(*arguments: Any, **options: Any) -> Plan:
        rounds.append(allocate(*arguments, **options))
        return rounds[-1]

    allocate = methods.allocate
    monkeypatch.setattr(methods, "allocate", recording)
    for multiple in (1, 4):
        rounds.clear()
        problem = problem_of(trained("bert"), batches, limits_of, "35% params", multiple=multiple)
        METHODS["fisher-iterative"](problem)
        assert len(rounds) == methods.ROUNDS
        for earlier, later in pairwise(rounds):
            for a, b in zip(earlier.layers, later.layers, strict=True):
                assert set(a.heads) >= set(b.heads)
                assert set(a.neurons) >= set(b.neurons)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_was_cut_before_is_planned_again(trained: Any, batches: Any, limits_of: Any, family: str) -> None:
    dense = trained(family)
    full = Anatomy.of(dense).full_plan()
    layers = (LayerPlan((), tuple(range(60))), LayerPlan((0, 1, 2), ()), full.layers[2])
    model = cut(dense, replace(full, layers=layers, rank=12))
    problem = problem_of(model, batches, limits_of, "50% params")
    plan = METHODS["fisher-iterative"](problem).plan
    use = problem.limits.use(problem.anatomy.shape_of(plan))
    assert 0.97 <= use <= 1
    assert plan.rank is not None
    assert not plan.layers[0].heads
    assert not plan.layers[1].neurons
    small = rebuild(model, plan, problem.calibration).model
    assert Anatomy.of(small).shape == problem.anatomy.shape_of(plan)


STRANGER = """
import json, sys
sys.modules["narrows"] = None
import torch
from transformers import AutoModelForSequenceClassification
found = {}
for folder in sys.argv[1:]:
    model, log = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    ids = torch.arange(5, 12)[None]
    with torch.no_grad():
        logits = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    found[folder] = [type(model).__module__, sorted(map(str, log["missing_keys"])), logits.tolist()]
print(json.dumps(found))
"""


def test_uniform_plans_load_into_stock_classes_without_narrows(
    trained: Any, batches: Any, limits_of: Any, tmp_path: Path
) -> None:
    folders, wanted = [], []
    ids = torch.arange(5, 12)[None]
    for family in FAMILIES:
        problem = problem_of(trained(family), batches, limits_of, "40% params", uniform=True)
        plan = pruner("magnitude")(problem).plan
        stock = rebuild(problem.model, plan, problem.calibration, stock=True).model
        narrow = rebuild(problem.model, plan, problem.calibration).model
        assert type(stock) is type(problem.model)
        assert type(narrow) is not type(stock)
        with torch.no_grad():
            a, b = (m(input_ids=ids, attention_mask=torch.ones_like(ids)).logits for m in (stock, narrow))
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
        folders.append(str(tmp_path / family))
        stock.save_pretrained(folders[-1])
        assert "auto_map" not in json.loads((tmp_path / family / "config.json").read_text())
        wanted.append(a)
    run = subprocess.run([sys.executable, "-I", "-c", STRANGER, *folders], capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)
    for family, folder, logits in zip(FAMILIES, folders, wanted, strict=True):
        module, missing, got = found[folder]
        assert module == f"transformers.models.{family}.modeling_{family}"
        assert not missing
        torch.testing.assert_close(torch.tensor(got), logits, rtol=0, atol=1e-6)
