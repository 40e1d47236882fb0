"""What gates cost, and the two ways to bring them to a budget."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from narrows.core import ModelError, TrainingError
from narrows.core.seeds import generator
from narrows.prune.bill import Bill
from narrows.prune.controllers import LagrangianController, PriceController
from narrows.prune.projection import threshold
from narrows.prune.vib import VIBGate
from narrows.prune.vtrans import VTransConfig
from narrows.transformer.anatomy import Anatomy
from narrows.transformer.cost import cost_of
from narrows.transformer.plan import LayerPlan

SEEDS = st.integers(0, 2**32)
UNITS = ("hidden", "heads", "neurons", "attention", "ffn")


def sizes_of(anatomy, kinds):
    sizes = {"hidden": anatomy.shape.hidden} if "hidden" in kinds else {}
    for i in range(anatomy.layers):
        for kind, n in (("heads", anatomy.shape.heads[i]), ("neurons", anatomy.shape.neurons[i])):
            sizes |= {f"{kind}_{i}": n} if kind in kinds else {}
        sizes |= {f"{block}_{i}": 1 for block in ("attention", "ffn") if block in kinds}
    return sizes


@pytest.fixture(scope="module", name="bills")
def bills_fixture(tiny, limits_of):
    """Bills with all kinds of gates, with two of them, and with two limits."""
    made = []
    for family in ("bert", "distilbert"):
        anatomy = Anatomy.of(tiny(family))
        for kinds, budgets in (
            (UNITS, ["30% params"]),
            (("heads", "neurons"), ["20% macs", "45% params"]),
            (("neurons", "attention"), ["40% params"]),
        ):
            limits = limits_of(anatomy, *budgets)
            made.append(Bill(limits, anatomy.full_plan(), sizes_of(anatomy, kinds), 4))
    return made


def random_kept(bill, draw, chance=0.5):
    kept = {n: torch.rand(k, generator=draw) < chance for n, k in bill.sizes.items()}
    if "hidden" in kept:
        kept["hidden"][: bill.floor] = True
    return kept


def plan_of(bill, kept):
    """The plan that units which are on make."""
    full = bill.limits.anatomy.full_plan()

    def units(kind, block, layer, whole):
        if not bool(kept.get(f"{block}_{layer}", torch.ones(1)).any()):
            return ()
        mask = kept.get(f"{kind}_{layer}")
        return whole if mask is None else tuple(mask.nonzero()[:, 0].tolist())

    layers = tuple(
        LayerPlan(units("heads", "attention", i, x.heads), units("neurons", "ffn", i, x.neurons))
        for i, x in enumerate(full.layers)
    )
    hidden = tuple(kept["hidden"].nonzero()[:, 0].tolist()) if "hidden" in kept else full.hidden
    return replace(full, hidden=hidden, layers=layers)


def counts(kept):
    return {name: int(mask.sum()) for name, mask in kept.items()}


@given(SEEDS, st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), st.integers(0, 5))
def test_the_bill_of_units_that_are_on_is_the_cost_of_their_plan(bills, seed, chance, which):
    bill = bills[which]
    kept = random_kept(bill, generator(seed), chance)
    cost = cost_of(bill.limits.anatomy, plan_of(bill, kept), bill.limits.dense.tokens)
    shares = [b.spent(cost) / b.limit(bill.limits.dense) for b in bill.limits.budgets]
    assert bill.use(counts(kept)) == pytest.approx(max(shares), rel=1e-12)
    expected = bill.expected({n: m.double() for n, m in kept.items()})
    torch.testing.assert_close(expected, torch.tensor(shares, dtype=torch.float64), rtol=1e-9, atol=0)


@given(SEEDS, st.integers(0, 5))
def test_the_expected_size_of_saturated_gates_is_the_hard_size(bills, seed, which):
    bill = bills[which]
    draw = generator(seed)
    kept = random_kept(bill, draw)
    log_alpha = {n: (5 + torch.rand(len(m), generator=draw)) * (2 * m - 1.0) for n, m in kept.items()}
    expected = bill.expected({n: torch.sigmoid(10 * a) for n, a in log_alpha.items()})
    assert float(expected.max()) == pytest.approx(bill.use(counts(kept)), rel=1e-6)


def test_the_gradient_of_the_expected_size_is_the_price(bills):
    for bill in bills[1:2] + bills[4:5]:  # heads and neurons: prices do not depend on the other units
        p = {n: torch.full((k,), 0.5, dtype=torch.float64) for n, k in bill.sizes.items()}
        p = {n: torch.cat([torch.ones(1).double(), v[1:]]).requires_grad_() for n, v in p.items()}
        bill.expected(p).sum().backward()
        for name, price in bill.price.items():
            assert p[name].grad[1:].tolist() == pytest.approx([price] * (bill.sizes[name] - 1), rel=1e-6)


def test_prices_where_width_and_blocks_have_gates(bills):
    bill = bills[0]
    typical = bill._typical()
    assert bill.limits.use(typical) == pytest.approx(1, abs=0.08)
    smaller = replace(typical, hidden=typical.hidden - 1)
    assert bill.price["hidden"] == pytest.approx(bill.limits.use(typical) - bill.limits.use(smaller))
    empty = replace(typical, neurons=(0, *typical.neurons[1:]))
    assert bill.price["ffn_0"] == pytest.approx(bill.limits.use(typical) - bill.limits.use(empty))
    assert bill.price["heads_1"] == bill.limits.price(typical, "heads", 1)


def test_hidden_gates_need_the_whole_width(tiny, limits_of):
    anatomy = Anatomy.of(tiny("bert"))
    narrow = replace(anatomy.full_plan(), hidden=tuple(range(8)))
    for frame in (narrow, replace(narrow, basis="pca")):
        with pytest.raises(ModelError, match="frame of full width in the basis 'channels'"):
            Bill(limits_of(anatomy, "30% params"), frame, sizes_of(anatomy, UNITS), 4)


def random_alpha(bill, draw):
    return {n: 3 * torch.randn(k, generator=draw) for n, k in bill.sizes.items()}


@given(SEEDS, st.floats(0.3, 3.0), st.integers(0, 5))
def test_the_threshold_keeps_as_much_as_fits(bills, seed, share, which):
    bill = bills[which]
    log_alpha = random_alpha(bill, generator(seed))
    cut = threshold(bill, log_alpha, share)
    values = torch.cat(list(log_alpha.values())).double()

    def use(value):
        return bill.use({n: int((a.double() > value).sum()) for n, a in log_alpha.items()})

    below = values[values <= cut]
    if bool((values > cut).any()):
        assert use(cut) <= share
    if len(below):  # the next unit is one too many
        assert use(float(below.max()) - 1e-9) > share


@given(SEEDS)
def test_permuted_units_give_permuted_masks(bills, seed):
    bill = bills[0]
    draw = generator(seed)
    log_alpha = random_alpha(bill, draw)
    order = {n: torch.randperm(k, generator=draw) for n, k in bill.sizes.items()}
    cut = threshold(bill, log_alpha, 1.0)
    assert threshold(bill, {n: a[order[n]] for n, a in log_alpha.items()}, 1.0) == cut


def test_gates_that_are_not_finite_stop_the_run(bills):
    log_alpha = random_alpha(bills[1], generator(0))
    log_alpha["heads_0"][1] = torch.nan
    with pytest.raises(TrainingError, match="gate is not finite"):
        threshold(bills[1], log_alpha, 1.0)


def make_gates(bill, seed=0, **over):
    draw = generator(seed)
    return {
        n: VIBGate(k, mu=torch.ones(k), log_var=3 * torch.randn(k, generator=draw), **over)
        for n, k in bill.sizes.items()
    }


def hard(bill, gates):
    return bill.use({n: int(g.kept().sum()) for n, g in gates.items()})


def test_the_price_follows_the_schedule(bills):
    bill = bills[1]
    config = VTransConfig(100)
    controller, gates = PriceController(bill, config), make_gates(bill)
    before = {n: g.log_var.detach().clone() for n, g in gates.items()}
    controller.begin(gates)
    assert all(bool(g.kept().all()) for g in gates.values())
    sizes = []
    for step in range(1, 101):
        controller.after_step(gates, step)
        if step % 5 == 0:
            share = controller.share(step)
            sizes.append(hard(bill, gates))
            assert sizes[-1] == float(controller.size) <= share == float(controller.scheduled)
            dearest = max(bill.price.values()) + 0.02  # and the first unit of a block brings its bias
            assert sizes[-1] > share - dearest
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[15] <= 1  # after 80 % of the steps
    assert controller.share(0) == bill.full
    assert controller.share(40) == pytest.approx(1 + (bill.full - 1) / 8)
    for name, gate in gates.items():  # one price for all: every log variance moved by the same
        moved = gate.log_var.detach() - before[name]
        torch.testing.assert_close(moved, torch.full_like(moved, float(controller.log_price)), atol=1e-4, rtol=0)


def test_the_price_of_information(bills):
    bill = bills[1]
    controller, gates = PriceController(bill, VTransConfig(100, kl_weight=2.0)), make_gates(bill)
    controller.begin(gates)
    controller.after_step(gates, 50)
    kl = torch.cat([g.kl() for g in gates.values()])
    term, _ = controller.term(gates, kl, 50)
    lam = float(controller.log_price.exp())
    by_hand = sum(2 * lam * bill.price[n] * float(g.kl().detach().sum()) for n, g in gates.items())
    assert float(term.detach()) == pytest.approx(by_hand, rel=1e-5)
    term.backward()
    for name, gate in gates.items():
        share = torch.sigmoid(gate.log_alpha().detach())  # of d KL/d s = -alpha/(2 (1 + alpha))
        torch.testing.assert_close(gate.log_var.grad, -lam * bill.price[name] * share, rtol=1e-4, atol=0)


def test_a_budget_above_the_frame_removes_nothing(tiny, limits_of):
    anatomy = Anatomy.of(tiny("bert"))
    bill = Bill(limits_of(anatomy, "100% params"), anatomy.full_plan(), sizes_of(anatomy, ("neurons",)), 4)
    controller, gates = PriceController(bill, VTransConfig(50)), make_gates(bill)
    for step in range(51):
        controller.after_step(gates, step)
    assert all(bool(g.kept().all()) for g in gates.values())


def climb(controller, terms, steps=20):
    """Train the multipliers alone; (lambda1, lambda2) after every step."""
    group = controller.parameter_groups()[0]
    optimizer = torch.optim.AdamW([{k: group[k] for k in ("params", "lr", "weight_decay", "maximize")}])
    seen = []
    for step in range(steps):
        optimizer.zero_grad()
        terms(step).backward()
        optimizer.step()
        seen.append((controller.lambda1[0].item(), controller.lambda2[0].item()))
    return seen


def test_the_multipliers_push_towards_the_target(bills):
    bill = bills[4]
    config = VTransConfig.published(20, warmup=0.05)
    for log_var, sign in ((-1.0, -1), (4.0, 1)):  # too many units, too few
        controller = LagrangianController(bill, config)
        gates = {n: VIBGate(k, mu=torch.ones(k), log_var=torch.full((k,), log_var)) for n, k in bill.sizes.items()}
        kl = torch.zeros(sum(bill.sizes.values()))
        seen = climb(controller, lambda step, c=controller, g=gates, k=kl: c.term(g, k, 20)[0])
        first, second = (torch.tensor(x) for x in zip(*seen, strict=True))
        assert (sign * first > 0).all()
        assert (second.diff() >= 0).all()
        assert float(second[0]) >= 0
        for gate in gates.values():
            gate.log_var.grad = None
        controller.lambda2.data.zero_()
        controller.term(gates, kl, 0)[0].backward()  # where kappa is 1
        # Too many units: descending the term raises log variances, which lowers log alpha.
        assert all((sign * gate.log_var.grad > 0).all() for gate in gates.values())


def test_excess_is_expected_minus_target_sparsity(bills):
    bill = bills[4]
    controller = LagrangianController(bill, VTransConfig.published(100, warmup=0.5))
    gates = make_gates(bill, seed=3)
    kl = torch.cat([g.kl() for g in gates.values()])
    for step in (0, 25, 50, 80):
        warm = min(1.0, step / 50)
        p = {n: torch.sigmoid((1 + 9 * warm) * g.log_alpha()) for n, g in gates.items()}
        full = bill.expected({n: torch.ones(k) for n, k in bill.sizes.items()})
        excess = 1 - bill.expected(p) / full - warm * (1 - 1 / full)
        term, figures = controller.term(gates, kl, step)
        assert float(figures["excess"]) == pytest.approx(float(excess[0].detach()), rel=1e-6)
        beta = torch.cat([torch.full((k,), 256e-6 if "heads" in n else 1e-6) for n, k in bill.sizes.items()])
        assert float(term) == pytest.approx(float((beta * kl).sum()), rel=1e-5)  # the multipliers start at 0
    assert controller.share(25) == pytest.approx((bill.full + 1) / 2)
    assert len(controller.lambda1) == 2  # one pair per limit
