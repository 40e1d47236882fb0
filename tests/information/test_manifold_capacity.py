"""MMCR: closed forms of nuclear norms, what may and may not change them, gradients, two processes, slow networks."""

import copy
import math
import multiprocessing

import numpy as np
import pytest
import torch
from torch import nn

from narrows.core.errors import DataError
from narrows.information import (
    MMCRLoss,
    MMCRMomentumLoss,
    dependence,
    ema_update,
    mmcr_capacity,
    mmcr_loss,
)


def views(b=6, k=3, d=5, seed=0, dtype=torch.float64):
    return torch.randn(b, k, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def repeated(rows, k=3):
    return rows.repeat_interleave(k, dim=0)


def test_known_values():
    basis = torch.eye(8)
    assert float(mmcr_loss(repeated(basis[:4]), 3)) == pytest.approx(-4, abs=1e-5)
    assert float(mmcr_loss(repeated(basis[:1].expand(4, 8)), 3)) == pytest.approx(-2, abs=1e-5)
    assert float(mmcr_loss(repeated(basis.repeat(4, 1)), 3)) == pytest.approx(-16, abs=1e-5)


@pytest.mark.parametrize(("a", "b", "angle", "known"), [(0.8, 0.5, 0.7, 1.1854848), (1.0, 1.0, math.pi / 2, 2.0)])
def test_two_centroids_have_a_closed_form(a, b, angle, known):
    """Two views at an angle 2 acos(r) to each other have a centroid of length r."""

    def pair(length, turn):
        half = math.acos(length)
        return [[math.cos(turn + s * half), math.sin(turn + s * half)] for s in (1, -1)]

    z = torch.tensor([pair(a, 0.0), pair(b, angle)], dtype=torch.float64)
    exact = math.sqrt(a * a + b * b + 2 * a * b * abs(math.sin(angle)))
    assert float(mmcr_loss(z, 2)) == pytest.approx(-exact, abs=1e-12)
    assert exact == pytest.approx(known, abs=5e-8)


def test_centroids_are_not_brought_to_unit_length():
    angle = 1.1
    z = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    assert float(mmcr_loss(z, 2)) == pytest.approx(-math.cos(angle / 2), abs=1e-12)


def test_what_changes_nothing_and_what_does():
    z = views()
    value = mmcr_loss(z, 3)
    scale = torch.rand(6, 3, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.1
    turn = torch.linalg.qr(views(1, 5, 5, 1)[0])[0]
    for same in (z * scale, z @ turn, z[torch.randperm(6)], z[:, [2, 0, 1]], z.reshape(18, 5)):
        assert torch.allclose(mmcr_loss(same, 3), value, atol=1e-12)
    swapped = z.clone()
    swapped[0, 0], swapped[1, 0] = z[1, 0], z[0, 0]
    assert abs(mmcr_loss(swapped, 3) - value) > 1e-3


def test_one_view_is_its_own_centroid():
    z = views(k=1)
    unit = (z / z.norm(dim=-1, keepdim=True))[:, 0]
    assert torch.allclose(mmcr_loss(z, 1), -torch.linalg.matrix_norm(unit, "nuc"))


def test_opposite_views_count_nothing_and_have_a_gradient():
    rest = views(2, 2)
    z = torch.cat([torch.stack([rest[:1, 0], -rest[:1, 0]], dim=1), rest[1:]]).requires_grad_()
    loss = mmcr_loss(z, 2)
    assert float(loss.detach()) == pytest.approx(float(mmcr_loss(rest[1:], 2)), abs=1e-12)
    loss.backward()
    assert torch.isfinite(z.grad).all()


def test_the_local_term_and_the_reduction():
    z = repeated(views(4, 1)[:, 0])
    assert float(mmcr_loss(z, 3, 2.0) - mmcr_loss(z, 3)) == pytest.approx(2 * math.sqrt(3), abs=1e-10)
    loss = MMCRLoss(3, 2.0)
    assert loss.stats == {}
    assert float(loss(z)) == pytest.approx(2 * loss.stats["local_nuc"] - loss.stats["global_nuc"], abs=1e-10)
    plain = MMCRLoss(3)
    plain(z)
    assert "local_nuc" not in plain.stats
    assert float(mmcr_loss(z, 3, reduction="batch")) == pytest.approx(float(mmcr_loss(z, 3)) / 4, abs=1e-12)


@pytest.mark.parametrize(("b", "d"), [(3, 9), (8, 8), (20, 4)])
def test_the_loss_lies_within_its_bound(b, d):
    for seed in range(20):
        loss = MMCRLoss(2)
        value = float(loss(views(b, 2, d, seed)))
        assert -math.sqrt(b * min(b, d)) <= value <= 0
        assert loss.stats["share"] == pytest.approx(-value / loss.stats["bound"], abs=1e-12)
        assert 1 <= loss.stats["effective_rank"] <= min(b, d)


def test_random_centroids_reach_the_share_of_the_quarter_circle_law():
    for b, d, share in ((400, 400, 8 / (3 * math.pi)), (300, 600, 0.9328), (600, 300, 0.9328)):
        loss = MMCRLoss(1)
        loss(views(b, 1, d))
        assert loss.stats["share"] == pytest.approx(share, abs=0.004)


def test_gradients():
    for lmbda in (0.0, 0.3):
        assert torch.autograd.gradcheck(lambda z, w=lmbda: mmcr_loss(z, 2, w), (views(3, 2, 4).requires_grad_(),))
    z = views(3, 1, 5)
    z = (z / z.norm(dim=-1, keepdim=True)).requires_grad_()
    mmcr_loss(z, 1).backward()
    u, _, vt = torch.linalg.svd(z[:, 0].detach(), full_matrices=False)
    exact = -(u @ vt)
    tangent = exact - (exact * z[:, 0]).sum(1, keepdim=True) * z[:, 0]  # the lengths of rows do not count
    assert torch.allclose(z.grad[:, 0], tangent, atol=1e-10)
    poor = views(2, 2, 4).repeat(5, 1, 1).requires_grad_()  # B > D, repeated rows
    mmcr_loss(poor, 2).backward()
    assert torch.isfinite(poor.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_brought_to_single(dtype):
    z = views(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = mmcr_loss(z.to(dtype), 3)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(mmcr_loss(z, 3)), abs=0.03)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4)).double()


def in_a_group(rank, store):
    """Loss and averaged gradients of one of two processes, each with three images."""
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    try:
        model = network()
        value = MMCRLoss(3, 0.5, gather=True)(model(views()[3 * rank : 3 * rank + 3].reshape(9, 5)))
        value.backward()
        gradients = [p.grad for p in model.parameters()]
        for gradient in gradients:
            torch.distributed.all_reduce(gradient)
            gradient /= 2  # as DistributedDataParallel does
        return value.detach(), gradients
    finally:
        torch.distributed.destroy_process_group()


def test_two_processes_have_the_loss_and_the_gradients_of_the_whole_batch(tmp_path):
    other = multiprocessing.get_context("spawn").Process(target=in_a_group, args=(1, tmp_path / "store"))
    other.start()
    found, gradients = in_a_group(0, tmp_path / "store")
    other.join()
    assert other.exitcode == 0
    model = network()
    value = MMCRLoss(3, 0.5)(model(views().reshape(18, 5)))
    value.backward()
    assert torch.allclose(found, value, atol=1e-12)
    for one, whole in zip(gradients, model.parameters(), strict=True):
        assert torch.allclose(one, whole.grad, atol=1e-12)


def test_a_slow_network():
    fast = network()
    slow = copy.deepcopy(fast)
    z = views().reshape(18, 5)
    plain = MMCRLoss(3)(fast(z))
    ours = torch.autograd.grad(plain, list(fast.parameters()))
    both = MMCRMomentumLoss(3)(fast(z), slow(z))
    assert torch.allclose(both, plain, atol=1e-12)
    both.backward()
    for parameter, gradient in zip(fast.parameters(), ours, strict=True):
        assert torch.allclose(parameter.grad, gradient / 2, atol=1e-12)
    assert all(p.grad is None for p in slow.parameters())
    old = [p.detach().clone() for p in slow.parameters()]
    with torch.no_grad():
        for p in fast.parameters():
            p.add_(1)
    ema_update(slow, fast, 0.9)
    for was, now, new in zip(old, slow.parameters(), fast.parameters(), strict=True):
        assert torch.allclose(now, 0.9 * was + 0.1 * new, atol=1e-12)


def test_bad_embeddings_are_refused():
    loss = MMCRLoss(3)
    for bad, said in (
        (torch.randn(7, 4), "consecutive rows"),
        (torch.randn(6, 1), "D of 2 or more"),
        (torch.randn(2, 2, 4), "expected"),
        (torch.randn(0, 4), "expected"),
        (torch.full((3, 4), torch.nan), "NaN or infinity"),
    ):
        with pytest.raises(DataError, match=said):
            loss(bad)
    with pytest.warns(UserWarning, match="1 embeddings are zero"):
        loss(torch.cat([torch.zeros(1, 4), torch.ones(2, 4)]))
    with pytest.raises(DataError, match="different shapes"):
        MMCRMomentumLoss(3)(torch.randn(6, 4), torch.randn(3, 4))
    with pytest.raises(DataError, match="n_views"):
        MMCRLoss(0)
    with pytest.raises(DataError, match="reduction"):
        MMCRLoss(2, reduction="mean")


def test_the_measure_is_the_share_of_the_loss_in_its_bound():
    z = views()
    image = np.repeat(np.arange(6), 3)
    loss = MMCRLoss(3)
    loss(z)
    found = dependence(z.reshape(18, 5), image, "mmcr_capacity")
    assert found.value == pytest.approx(loss.stats["share"], abs=1e-12)
    assert found.details["effective rank"] == pytest.approx(loss.stats["effective_rank"], abs=1e-12)
    assert found.details["mean centroid norm"] == pytest.approx(loss.stats["mean_centroid_norm"], abs=1e-12)
    assert 0 < found.value < 1


def test_the_measure_at_its_ends():
    image = np.repeat(np.arange(4), 3)
    assert mmcr_capacity(repeated(torch.eye(4)), image).value == pytest.approx(1, abs=1e-12)
    assert mmcr_capacity(repeated(torch.eye(4)), image).details["local nuclear norm"] == pytest.approx(1, abs=1e-12)
    frame = np.array([[math.cos(a), math.sin(a)] for a in 2 * np.pi * np.arange(3) / 3])
    assert mmcr_capacity(np.repeat(frame, 2, axis=0), np.repeat(np.arange(3), 2)).value == pytest.approx(1, abs=1e-12)
    assert mmcr_capacity(np.ones((12, 4)), image).value == pytest.approx(1 / 2, abs=1e-12)
    spread = np.random.default_rng(0).standard_normal((20000, 4))
    assert mmcr_capacity(spread, np.arange(20000) % 4).value < 0.02
    shifted = mmcr_capacity(spread + 5, np.arange(20000) % 4).value
    assert shifted == pytest.approx(1 / 2, abs=0.05)  # all in one direction: as if every row were the same


def test_the_measure_says_what_it_cannot_see():
    x = np.random.default_rng(0).standard_normal((9, 3))
    assert mmcr_capacity(x, np.arange(9)).has("few samples")
    x[0] = 0
    assert mmcr_capacity(x, np.arange(9) % 3).has("assumption")
    with pytest.raises(DataError, match="one column"):
        mmcr_capacity(x[:, 0], np.arange(9) % 3)
