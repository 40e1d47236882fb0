"""The gate: its information, its closed-form optimum, its noise, its gradients."""

import copy
import math

import pytest
import torch

from narrows.core import TrainingError
from narrows.core.seeds import generator
from narrows.prune.vib import VIBGate, normal

CPU = torch.device("cpu")


def gate_of(mu, log_var, **over):
    mu, log_var = torch.as_tensor(mu).float(), torch.as_tensor(log_var).float()
    return VIBGate(len(mu), mu=mu, log_var=log_var, **over).train()


def draw(gate, *lead):
    return gate.factor(torch.Size(lead), torch.float32)


def test_information_of_a_new_gate():
    kl = gate_of(torch.ones(3), torch.full((3,), -9.0)).kl()
    assert kl.tolist() == pytest.approx([4.500062] * 3, abs=2e-6)


def test_information_and_its_gradients():
    mu = torch.tensor([1.0, 0.5, -2.0, 0.03, 1.0, 0.0])
    log_var = torch.tensor([-9.0, 0.0, 1.5, -3.0, 20.0, -2.0])
    gate = gate_of(mu, log_var)
    gate.kl().sum().backward()
    m, v = mu.double(), log_var.double().exp()
    torch.testing.assert_close(gate.kl().double(), (1 + m**2 / v).log() / 2, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gate.mu.grad.double(), m / (m**2 + v), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gate.log_var.grad.double(), -(m**2) / (2 * (m**2 + v)), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gate.log_alpha()[:-1].double(), (m**2 / v).log()[:-1], rtol=1e-4, atol=1e-4)


def test_information_can_leave_the_mean_alone():
    gate = gate_of(torch.ones(2), torch.zeros(2))
    gate.kl(through_mu=False).sum().backward()
    assert gate.mu.grad is None
    assert gate.log_var.grad.tolist() == pytest.approx([-0.25, -0.25])


@pytest.mark.parametrize("log_var", [-1e4, -80.0, 80.0, 1e4])
@pytest.mark.parametrize("mu", [0.0, 1e-20, 1.0, 1e6])
def test_extreme_gates_stay_finite(mu, log_var):
    gate = gate_of([mu], [log_var])
    (draw(gate, 4, 3).sum() + gate.kl().sum()).backward()
    for value in (gate.kl(), gate.log_alpha(), draw(gate, 4, 3), gate.mu.grad, gate.log_var.grad):
        assert torch.isfinite(value).all()


CURVATURE = torch.tensor([4, 1, 0.5, 0.3, 0.12, 0.1, 0.06, 0.04, 0.01])
BETA = 0.1


def fit(gate, loss, rates):
    for rate, steps in rates:
        optimizer = torch.optim.Adam(gate.parameters(), rate)
        for _ in range(steps):
            optimizer.zero_grad()
            (loss() + BETA * gate.kl().sum()).backward()
            optimizer.step()


def test_the_closed_form_optimum_of_a_quadratic_loss():
    # loss c((1 - mu)^2 + sigma^2) + beta KL: mu = max(0, 1 - beta/2c), sigma^2 = mu(1 - mu), keep iff c > beta
    gate = gate_of(torch.ones(9), torch.full((9,), -3.0))

    def loss():
        return (CURVATURE * ((1 - gate.mu).square() + gate.log_var.exp())).sum()

    fit(gate, loss, [(0.02, 1500), (0.003, 500)])
    mu = (1 - BETA / (2 * CURVATURE)).clamp_min(0)
    alpha = (2 * CURVATURE / BETA - 1).clamp_min(0)
    torch.testing.assert_close(gate.mu.detach(), mu, atol=0.01, rtol=0)
    torch.testing.assert_close(gate.log_alpha().exp().detach(), alpha, atol=0.03, rtol=0.03)
    assert gate.kept().tolist() == [True] * 5 + [False] * 4


def test_sampled_noise_finds_the_same_units():
    torch.manual_seed(0)
    gate = gate_of(torch.ones(9), torch.full((9,), -3.0), soft=True)

    def loss():
        return (CURVATURE * (1 - draw(gate, 16, 8)).square()).mean((0, 1)).sum()

    fit(gate, loss, [(0.02, 1000), (0.003, 300)])
    clear = (CURVATURE - BETA).abs() > 0.2 * BETA
    assert torch.equal(gate.kept()[clear], (CURVATURE > BETA)[clear])


def test_moments_and_independence_of_the_noise():
    torch.manual_seed(1)
    mu, log_var = torch.tensor([1.0, -0.5, 2.0]), torch.tensor([-1.0, -3.0, 0.5])
    gate = gate_of(mu, log_var, noise=0.5)
    with torch.no_grad():
        z = draw(gate, 40_000, 2)
        again = draw(gate, 40_000, 2)
    sd = 0.5 * (log_var / 2).exp()
    torch.testing.assert_close(z.mean((0, 1)), mu, atol=0.02, rtol=0)
    torch.testing.assert_close(z.std((0, 1)), sd, atol=0, rtol=0.02)
    columns = torch.cat([(x - mu).flatten(1) for x in (z, again)], 1).T  # two tokens, three units, two uses
    others = torch.corrcoef(columns) - torch.eye(12)
    assert others.abs().max() < 0.02


def test_noise_is_standard_normal():
    torch.manual_seed(2)
    eps = normal(torch.Size((400, 500)), CPU).double().flatten()
    assert abs(float(eps.mean())) < 0.01
    assert float(eps.var()) == pytest.approx(1, abs=0.01)
    assert float(eps.pow(4).mean()) == pytest.approx(3, abs=0.06)
    shares = torch.linspace(0.01, 0.99, 25, dtype=torch.float64)
    torch.testing.assert_close(eps.quantile(shares), torch.special.ndtri(shares), atol=0.03, rtol=0)
    torch.manual_seed(2)
    assert torch.equal(eps, normal(torch.Size((400, 500)), CPU).double().flatten())
    assert normal(torch.Size((3, 1)), CPU).shape == (3, 1)


def test_a_unit_that_is_off_gives_zero_and_keeps_its_gradient():
    mu, log_var = torch.tensor([1.0, 0.2, 0.7]), torch.tensor([-2.0, 1.0, 3.0])
    weight = torch.randn(5, 4, 3, generator=generator(0, "weight"))
    gradients = []
    for soft in (False, True):
        gate = gate_of(mu, log_var, soft=soft)
        torch.manual_seed(3)
        z = draw(gate, 5, 4)
        (z * weight).sum().backward()
        gradients.append((gate.mu.grad, gate.log_var.grad))
        assert (z[..., 1:] == 0).all() != soft
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    torch.manual_seed(3)
    eps = normal(torch.Size((5, 4, 3)), CPU)
    torch.testing.assert_close(gradients[0][0], weight.sum((0, 1)))
    torch.testing.assert_close(gradients[0][1], (weight * eps).sum((0, 1)) * (log_var / 2).exp() / 2)


def test_evaluation_gives_the_mean_of_units_that_are_on():
    gate = gate_of([1.0, -1.5, 0.1], [-2.0, 0.0, 0.0]).eval()
    assert gate.factor(torch.Size((7, 2)), torch.float64).tolist() == [1.0, -1.5, 0.0]


def test_without_noise_training_gives_the_mean():
    gate = gate_of([1.0, 0.1], [-2.0, 0.0], noise=0.0)
    z = draw(gate, 2, 3)
    z.sum().backward()
    assert z.tolist() == [1.0, 0.0]
    assert gate.mu.grad.tolist() == [1.0, 1.0]
    assert gate.log_var.grad is None


def test_half_precision_models_have_gates_in_single_precision():
    gate = gate_of([1.0, 1.0], [-9.0, -9.0])
    z = gate.factor(torch.Size((2, 3)), torch.bfloat16)
    z.float().sum().backward()
    assert z.dtype == torch.bfloat16
    assert gate.mu.grad.dtype == gate.mu.dtype == torch.float32


def test_the_floor_keeps_the_best_units():
    gate = gate_of([1.0, 1.0, 1.0], [3.0, 1.0, 2.0], floor=2)
    assert gate.kept().tolist() == [False, True, True]
    assert gate_of([1.0], [3.0], floor=8).kept().tolist() == [True]


def test_starts():
    torch.manual_seed(4)
    gate = VIBGate(4000).requires_grad_(False)
    assert float(gate.mu.mean()) == pytest.approx(1, abs=1e-3)
    assert float(gate.log_var.mean()) == pytest.approx(-9, abs=1e-3)
    assert float(gate.log_var.std()) == pytest.approx(0.01, rel=0.1)
    assert float(gate.kl().mean()) == pytest.approx(math.log1p(math.exp(9)) / 2, abs=1e-3)
    with pytest.raises(TrainingError, match=r"gate of 3 units needs values of shape \(3,\), got \(2,\)"):
        VIBGate(3, mu=torch.ones(2))


def test_copies_are_independent():
    gate = gate_of([1.0], [-2.0])
    other = copy.deepcopy(gate)
    other.log_var.data.fill_(2.0)
    assert gate.kept().tolist() == [True]
    assert other.kept().tolist() == [False]
