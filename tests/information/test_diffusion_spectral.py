"""Diffusion spectral entropy and information: closed forms, invariances, brute force, the bound of what is left out."""

import math

import numpy as np
import pytest
import torch

from narrows.core.errors import DataError
from narrows.information import (
    DSELoss,
    dependence,
    diffusion_spectral_entropy,
    diffusion_spectral_information,
    entropy,
    median_distance,
    spectral_clusters,
    suggest_sigma,
    suggest_t,
)
from narrows.information.diffusion_spectral import _bound, _lost
from narrows.information.kernel_spectrum import SMALL, Kernel


def cloud(n=60, d=4, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def clusters(sizes, spread=0.0, seed=0):
    """Points around centres that are 100 apart, and which centre each belongs to."""
    label = np.repeat(np.arange(len(sizes)), sizes)
    centres = 100 * np.eye(len(sizes)) / math.sqrt(2)
    dice = np.random.default_rng(seed)
    return centres[label] + spread * dice.standard_normal((len(label), len(sizes))), label


def matrices(x, sigma):
    """K and the row-normalised P of the paper's text, in plain numpy."""
    distances = ((x[:, None] - x[None]) ** 2).sum(-1)
    g = np.exp(-distances / (2 * sigma**2))
    k = g / np.sqrt(np.outer(g.sum(1), g.sum(1)))
    return k, k / k.sum(1, keepdims=True)


def from_eigenvalues(values, t):
    p = np.abs(values) ** t
    p = p / p.sum()
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


def bits(x, sigma, t=1.0, **options):
    return diffusion_spectral_entropy(x, sigma, t, **options).bits


@pytest.mark.parametrize(("apart", "known"), [(0.5, 0.3224690), (1.0, 0.7153492), (2.0, 0.9867474)])
def test_two_points_have_two_eigenvalues_in_closed_form(apart, known):
    r = math.exp(-(apart**2) / 2)
    value = bits([[0.0], [apart]], 1.0)
    assert value == pytest.approx(from_eigenvalues(np.array([1, (1 - r) / (1 + r)]), 1) / math.log(2), abs=1e-12)
    assert value == pytest.approx(known, abs=5e-8)


@pytest.mark.parametrize(("t", "known"), [(1, 3.0444861), (3, 2.1857329)])
def test_points_on_a_circle_have_the_eigenvalues_of_a_circulant(t, known):
    angle = 2 * np.pi * np.arange(16) / 16
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    row = np.exp(-((x - x[0]) ** 2).sum(1) / (2 * 0.5**2))
    value = bits(x, 0.5, t)
    assert value == pytest.approx(from_eigenvalues(np.fft.fft(row).real / row.sum(), t) / math.log(2), abs=1e-10)
    assert value == pytest.approx(known, abs=5e-8)


@pytest.mark.parametrize("t", [1, 2, 3])
def test_both_normalizations_are_what_brute_force_gives(t):
    x = cloud()
    k, p = matrices(x, 1.0)
    assert entropy(x, "diffusion_spectral_entropy", sigma=1.0, t=t).value == pytest.approx(
        from_eigenvalues(np.linalg.eigvalsh(k), t), abs=1e-10
    )
    paper = diffusion_spectral_entropy(x, 1.0, t, normalization="paper").value
    assert paper == pytest.approx(from_eigenvalues(np.linalg.eigvals(p).real, t), abs=1e-10)


@pytest.mark.parametrize("t", [1, 2, 3])
def test_the_authors_package_gives_the_same(t):
    peer = pytest.importorskip("dse_dsmi")
    x = cloud(200)
    assert bits(x, 1.0, t) == pytest.approx(peer.diffusion_spectral_entropy(x, gaussian_kernel_sigma=1, t=t), abs=1e-8)


def test_the_two_normalizations_differ_though_the_authors_code_says_they_do_not():
    k, p = matrices(cloud(), 1.0)
    code, paper = np.sort(np.linalg.eigvalsh(k)), np.sort(np.linalg.eigvals(p).real)
    assert np.abs(code - paper).max() > 0.05


@pytest.mark.parametrize("twice", [False, True])
def test_the_spectrum_lies_in_0_to_1_and_reaches_1(twice):
    kernel = Kernel.of(torch.from_numpy(cloud(200)), 1.0).balanced()
    values = torch.linalg.eigvalsh((kernel.balanced() if twice else kernel).whole())
    assert float(values.max()) == pytest.approx(1, abs=1e-10)
    assert float(values.min()) >= -1e-10


def test_the_ends_of_the_range():
    assert bits(np.ones((20, 3)), 1.0) < 1e-9
    assert bits(cloud(50), 1e-3) == pytest.approx(math.log2(50), abs=1e-9)
    assert bits(cloud(50), 1e6) < 1e-6


@pytest.mark.parametrize("sizes", [(10, 10), (90, 10), (5, 7, 20, 1)])
def test_clusters_far_apart_count_once_each_whatever_their_sizes(sizes):
    exact = math.log2(len(sizes))
    assert bits(clusters(sizes)[0], 1.0) == pytest.approx(exact, abs=1e-9)
    assert exact < bits(clusters(sizes, 0.001)[0], 1.0) < exact + 2e-4


def test_rotations_shifts_and_the_order_of_rows_change_nothing():
    x = cloud()
    value = bits(x, 1.5)
    turn = np.linalg.qr(cloud(4, 4, 1))[0]
    assert bits(x @ turn + 1000, 1.5) == pytest.approx(value, abs=1e-9)
    assert bits(7 * x, 7 * 1.5) == pytest.approx(value, abs=1e-9)
    assert bits(x[::-1], 1.5) == pytest.approx(value, abs=1e-9)
    assert bits(np.concatenate([x, x]), 1.5) == pytest.approx(value, abs=1e-8)
    assert bits(7 * x, "median") == pytest.approx(bits(x, "median"), abs=1e-9)


def test_far_outliers_do_not_spoil_the_distances_of_the_others():
    x = np.concatenate([cloud(), [[1e9] * 4]])
    k, _ = matrices(x, 1.0)
    exact = from_eigenvalues(np.linalg.eigvalsh(k), 1)
    assert diffusion_spectral_entropy(x, 1.0).value == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_more_steps_leave_less_and_smaller_bandwidths_tell_more_apart(seed):
    x = cloud(seed=seed)
    steps = [bits(x, 1.0, t) for t in (0.5, 1, 2, 3, 5)]
    widths = [bits(x, sigma) for sigma in (10, 3, 1, 0.3, 0.1)]
    assert steps == sorted(steps, reverse=True)
    assert widths == sorted(widths)


LINE = np.random.default_rng(5).standard_normal((900, 2))  # more than SMALL rows whose eigenvalues decay


@pytest.mark.parametrize("t", [0.7, 1, 2, 3])
@pytest.mark.parametrize("normalization", ["code", "paper"])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-7])
def test_a_part_of_the_spectrum_is_as_near_as_it_says(t, normalization, tolerance):
    assert len(LINE) > SMALL
    whole = diffusion_spectral_entropy(LINE, 2.0, t, normalization=normalization, tolerance=0)
    part = diffusion_spectral_entropy(LINE, 2.0, t, normalization=normalization, tolerance=tolerance)
    assert whole.details["eigenvalues"] == 900
    assert whole.details["remainder bound"] == 0
    assert part.details["eigenvalues"] < 450
    assert abs(part.value - whole.value) <= part.details["remainder bound"] + 1e-12
    assert part.details["remainder bound"] <= tolerance


def test_where_eigenvalues_do_not_decay_all_of_them_are_taken():
    x = cloud(700, 30)
    part = diffusion_spectral_entropy(x, 3.0)
    assert part.details["eigenvalues"] == 700
    assert part.value == pytest.approx(from_eigenvalues(np.linalg.eigvalsh(matrices(x, 3.0)[0]), 1), abs=1e-9)


@pytest.mark.parametrize("t", [0.5, 1, 2, 3])
def test_the_bound_holds_for_any_way_to_share_out_what_is_missing(t):
    dice = np.random.default_rng(0)
    for _ in range(200):
        n = int(dice.integers(2, 40))
        found = np.sort(dice.random(n)) ** dice.integers(1, 9)
        found[dice.random(n) < 0.3] = 0
        found[-1] = 0.9
        grown = found + dice.random(n) ** dice.integers(1, 9) * (1 - found) * 10.0 ** -dice.integers(0, 9)
        missing = float((grown - found).sum())
        bound = _bound(_lost(missing, t, n), float((found**t).sum()), n)
        assert abs(from_eigenvalues(grown, t) - from_eigenvalues(found, t)) <= bound + 1e-12


@pytest.mark.parametrize(("k", "low", "high"), [(2, 0.99, 1.001), (4, 1.99, 2.001), (8, 2.9, 3.0)])
@pytest.mark.parametrize("seed", range(2))
def test_labels_of_clusters_are_worth_the_logarithm_of_their_number(k, low, high, seed):
    x, label = clusters([25] * k, 0.01, seed)
    found = dependence(x, label, "diffusion_spectral_information", sigma=1.0, seed=seed)
    assert low < found.bits < high
    renamed = np.array(list("hgfedcba"))[label]
    assert diffusion_spectral_information(x, renamed, 1.0, seed=seed).value == pytest.approx(found.value, abs=1e-12)


def test_random_labels_are_worth_nothing_only_because_sizes_are_matched():
    x = cloud(1000, 5)
    values = []
    for seed in range(3):
        label = np.random.default_rng(seed).integers(0, 5, 1000)
        found = diffusion_spectral_information(x, label, 1.0, seed=seed)
        values.append(found.bits)
        own = np.array(found.details["entropy of classes"])
        unmatched = bits(x, 1.0) - np.array(found.details["class sizes"]) @ own / 1000 / math.log(2)
        assert unmatched > 1
    assert np.abs(values).max() < 0.06


def test_one_class_and_classes_of_one_row_are_worth_nothing():
    assert diffusion_spectral_information(cloud(), np.zeros(60, dtype=int), 1.0).value == pytest.approx(0, abs=1e-12)
    alone = diffusion_spectral_information(cloud(), np.arange(60), 1.0)
    assert alone.value == pytest.approx(0, abs=1e-12)
    assert alone.has("few samples")


@pytest.mark.filterwarnings("ignore:Graph is not fully connected")
def test_quantities_are_binned_and_vectors_clustered_with_a_caution():
    x, label = clusters([30] * 3, 0.01)
    exact = diffusion_spectral_information(x, label, 1.0)
    assert not exact.has("resolution")
    assert diffusion_spectral_information(x, label[:, None], 1.0).value == exact.value
    binned = diffusion_spectral_information(x, label * 0.37, 1.0)
    assert binned.has("resolution")
    assert binned.value == pytest.approx(exact.value, abs=1e-12)
    tight = np.random.default_rng(1).standard_normal((90, 2)) + 100 * label[:, None]
    clustered = diffusion_spectral_information(x, tight, 1.0, bins=3)
    assert clustered.has("resolution")
    assert clustered.dims == (3, 2)
    assert clustered.value == pytest.approx(exact.value, abs=1e-12)
    assert len(set(zip(label, spectral_clusters(tight, 3), strict=True))) == 3


def test_it_says_when_the_bandwidth_answers_instead_of_the_data():
    wide = np.random.default_rng(0).standard_normal((300, 2048))
    found = diffusion_spectral_entropy(wide)
    assert found.saturated
    assert found.bits == pytest.approx(math.log2(300), rel=0.02)
    assert "half the median distance" in found.cautions[-1].text
    assert diffusion_spectral_entropy(0.01 * cloud()).saturated
    assert not diffusion_spectral_entropy(cloud(), "median").saturated
    assert dependence(0.01 * cloud(), np.arange(60) % 3, "diffusion_spectral_information").saturated


def test_suggestions():
    x = cloud(400)
    every = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))[np.triu_indices(400, 1)]
    assert median_distance(x) == pytest.approx(np.median(every), abs=1e-12)
    assert suggest_sigma(3 * x) == pytest.approx(1.5 * np.median(every), abs=1e-9)
    assert median_distance(np.concatenate([x] * 4)) == pytest.approx(np.median(every), rel=0.05)
    k = np.linalg.eigvalsh(matrices(x, 1.0)[0])
    off = [abs((k**t > 0.01).mean() - 0.01) for t in (1, 2, 3)]
    assert suggest_t(x, 1.0) == 1 + int(np.argmin(off))


def test_more_rows_than_max_n_are_drawn():
    x = cloud(300)
    few = diffusion_spectral_entropy(x, 1.0, max_n=100)
    assert few.has("resolution")
    assert few.n == 300
    assert few.value == diffusion_spectral_entropy(x, 1.0, max_n=100).value
    assert few.value != diffusion_spectral_entropy(x, 1.0, max_n=100, seed=1).value
    assert few.value < math.log(100)
    assert diffusion_spectral_information(x, np.arange(300) % 2, 1.0, max_n=100).details["class sizes"] != [150, 150]


@pytest.mark.parametrize("normalization", ["code", "paper"])
def test_the_loss_is_the_entropy_and_has_its_gradient(normalization):
    x = torch.from_numpy(cloud())
    loss = DSELoss(1.5, 2.0, normalization)
    same = diffusion_spectral_entropy(x, 1.5, 2.0, normalization=normalization)
    assert float(loss(x)) == pytest.approx(same.value, abs=1e-9)
    assert float(loss(torch.cat([x, x]))) == pytest.approx(same.value, abs=1e-8)
    small = torch.from_numpy(cloud(6, 3)).requires_grad_()
    assert torch.autograd.gradcheck(loss, (small,))


def test_the_loss_has_a_gradient_where_rows_are_equal_and_eigenvalues_too():
    x = torch.zeros(5, 3, requires_grad=True)
    DSELoss()(x).backward()
    assert torch.isfinite(x.grad).all()
    z = torch.from_numpy(cloud(32, 8)).float().requires_grad_()
    out = DSELoss(1.0)(z)
    assert out.dtype == torch.float32
    (-out).backward()
    with torch.no_grad():
        assert DSELoss(1.0)(z - 0.1 * z.grad) > out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sigma": 0.0}, "sigma must be"),
        ({"sigma": -1.0}, "sigma must be"),
        ({"sigma": math.nan}, "sigma must be"),
        ({"sigma": "mean"}, "sigma must be"),
        ({"t": 0.0}, "t must be"),
        ({"normalization": "row"}, "normalization is"),
        ({"tolerance": -1.0}, "tolerance must be"),
        ({"max_n": 1}, "max_n at least 2"),
    ],
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(DataError, match=said):
        diffusion_spectral_entropy(cloud(), **options)
    with pytest.raises(DataError, match=said):
        diffusion_spectral_information(cloud(), np.arange(60) % 2, **options)


def test_labels_of_any_kind_of_container_are_the_same_and_broken_ones_are_refused():
    x, label = clusters([20] * 3, 0.01)
    value = diffusion_spectral_information(x, label, 1.0).value
    for same in (label.tolist(), torch.from_numpy(label), np.array(["a", "b", "c"])[label], label[:, None]):
        assert diffusion_spectral_information(x, same, 1.0).value == pytest.approx(value, abs=1e-12)
    quantities = torch.from_numpy(label * 0.25).bfloat16().requires_grad_()
    assert diffusion_spectral_information(x, quantities, 1.0).value == pytest.approx(value, abs=1e-12)
    assert diffusion_spectral_information(x, np.full(60, 0.5), 1.0).value == pytest.approx(0, abs=1e-12)
    for broken, said in (
        ([[1], [2, 3]], "different lengths"),
        (np.where(label > 1, np.nan, 0.0), "NaN"),
        (label[1:], "60 rows and y has 59"),
        (np.float64(1.0), "shape"),
    ):
        with pytest.raises(DataError, match=said):
            diffusion_spectral_information(x, broken, 1.0)


def test_data_that_says_nothing_is_refused():
    with pytest.raises(DataError, match="are the same"):
        diffusion_spectral_entropy(np.ones((9, 2)), "median")
    with pytest.raises(DataError, match="too few"):
        diffusion_spectral_entropy(np.ones((1, 2)))
    with pytest.raises(DataError, match="repeats must be"):
        diffusion_spectral_information(cloud(), np.arange(60) % 2, repeats=0)
    with pytest.raises(DataError, match="cannot be put"):
        spectral_clusters(cloud(12))
    with pytest.raises(DataError, match="two rows or more"):
        DSELoss()(torch.zeros(1, 3))
    for sigma in (0, "median"):
        with pytest.raises(DataError, match="sigma must be"):
            DSELoss(sigma)
