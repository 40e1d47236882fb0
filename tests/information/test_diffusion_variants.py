"""Entropies beside diffusion spectral entropy: closed forms, brute force, limits, and what other functions give."""

import math

import numpy as np
import pytest

from narrows.core.errors import DataError
from narrows.information import (
    FixedBins,
    diffusion_spectral_entropy,
    discrete_entropy,
    matrix_entry_entropy,
    neighbour_graph_entropy,
    renyi_entropy,
)
from narrows.information import kernel_spectrum as kernel_spectrum_module


def cloud(n=60, d=4, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def clusters(sizes):
    """Identical points at places that are 100 apart."""
    label = np.repeat(np.arange(len(sizes)), sizes)
    return 100 * np.eye(len(sizes))[label]


def of_shares(p):
    p = np.asarray(p, dtype=float).ravel()
    p = p[p > 0] / p.sum()
    return float(-(p * np.log(p)).sum())


def kernel(x, sigma):
    return np.exp(-((x[:, None] - x[None]) ** 2).sum(-1) / (2 * sigma**2))


def graph(x, k):
    distances = ((x[:, None] - x[None]) ** 2).sum(-1)
    nearest = np.argsort(distances, axis=1)[:, :k]
    return np.array([[float(j in row) for j in range(len(x))] for row in nearest])


def test_entries_of_a_cloud_by_brute_force(monkeypatch):
    x = cloud()
    g = kernel(x, 1.3)
    k = g / np.sqrt(np.outer(g.sum(1), g.sum(1)))
    expected = of_shares(k / k.sum(1, keepdims=True))
    assert matrix_entry_entropy(x, 1.3).value == pytest.approx(expected, abs=1e-11)
    monkeypatch.setattr(kernel_spectrum_module, "_BLOCK", 7 * 60)
    assert matrix_entry_entropy(x, 1.3).value == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize("apart", [0.5, 1.0, 2.0])
def test_entries_of_two_points_and_of_clusters(apart):
    r = math.exp(-(apart**2) / 2)
    step = of_shares([1 / (1 + r), r / (1 + r)])
    assert matrix_entry_entropy([[0.0], [apart]], 1.0).value == pytest.approx(math.log(2) + step, abs=1e-12)
    sizes = np.array([1, 5, 14])
    expected = math.log(20) + float(sizes @ np.log(sizes)) / 20
    assert matrix_entry_entropy(clusters(sizes), 1.0).value == pytest.approx(expected, abs=1e-12)


def test_entries_at_the_ends_of_the_range():
    x = cloud(50)
    alone, one = matrix_entry_entropy(x, 1e-3), matrix_entry_entropy(x, 1e6)
    assert alone.value == pytest.approx(math.log(50), abs=1e-9)
    assert one.value == pytest.approx(2 * math.log(50), abs=1e-9)
    assert "every row is alone" in alone.cautions[0].text
    assert "all rows are nearly one" in one.cautions[0].text
    assert not matrix_entry_entropy(x, "median").cautions


def test_entries_fall_where_the_spectral_entropy_rises():
    x = cloud(100)
    values = [(matrix_entry_entropy(x, s).value, diffusion_spectral_entropy(x, s).value) for s in (0.3, 0.6, 1.2, 2.4)]
    entries, spectral = np.diff(values, axis=0).T
    assert (entries > 0).all()
    assert (spectral < 0).all()


@pytest.mark.parametrize("k", [1, 4, 10])
def test_the_graph_by_brute_force(k):
    x = cloud()
    found = neighbour_graph_entropy(x, k)
    assert found.value == pytest.approx(of_shares(np.abs(np.linalg.eigvals(graph(x, k)))), abs=1e-6)
    assert found.details["edges"] == 60 * k


def test_graphs_in_closed_form():
    # Each row of a triple is joined to all three: an eigenvalue 3 for each triple, and zeros.
    x = np.repeat(np.arange(4), 3) * 100.0 + np.tile([0.0, 1.0, 2.0], 4)
    assert neighbour_graph_entropy(x, 3).value == pytest.approx(math.log(4), abs=1e-6)
    assert neighbour_graph_entropy(cloud(12), 1).value == pytest.approx(math.log(12), abs=1e-12)  # each to itself
    # On a circle of n points with both neighbours: 1 + 2 cos(2 pi j / n).
    angle = 2 * np.pi * np.arange(16) / 16
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert neighbour_graph_entropy(circle, 3).value == pytest.approx(of_shares(np.abs(1 + 2 * np.cos(angle))), abs=1e-9)


def test_rows_as_near_as_the_last_neighbour_count_too():
    # Ten times the same point, three times: whatever k, the graph has three blocks of ones.
    x = clusters([10, 10, 10])
    for k in (2, 10):
        assert neighbour_graph_entropy(x, k).value == pytest.approx(math.log(3), abs=1e-6)
    assert neighbour_graph_entropy(x, 2).details["edges"] == 300


@pytest.mark.parametrize("measure", [lambda x: matrix_entry_entropy(x, 1.0), neighbour_graph_entropy])
def test_rotations_shifts_and_the_order_of_rows_change_nothing(measure):
    x = cloud()
    turn = np.linalg.qr(cloud(4, 4, seed=1))[0]
    value = measure(x).value
    for same in (x @ turn + 7, x[np.random.default_rng(2).permutation(60)]):
        assert measure(same).value == pytest.approx(value, abs=1e-8)


def test_the_graph_does_not_know_the_scale():
    assert neighbour_graph_entropy(1e3 * cloud()).value == pytest.approx(
        neighbour_graph_entropy(cloud()).value, abs=1e-8
    )


def test_the_spectrum_of_the_kernel_itself_is_von_neumanns_entropy():
    x = cloud()
    assert renyi_entropy(x, bandwidth=1.3).value == pytest.approx(
        of_shares(np.abs(np.linalg.eigvalsh(kernel(x, 1.3)))), abs=1e-10
    )


def test_the_classic_entropy_is_that_of_rows_in_two_bins_a_column():
    x = np.column_stack([cloud(), np.ones(60)])  # the last column is 0 / 0 after scaling by its range
    middle = (x.min(0) + x.max(0)) / 2
    expected = of_shares(np.unique(x >= middle, axis=0, return_counts=True)[1])
    found = discrete_entropy(FixedBins(2, per_column=True).codes(x), correction="none")
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert discrete_entropy(FixedBins(2, per_column=True).codes(np.ones((5, 2))), correction="none").value == 0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: matrix_entry_entropy(cloud(), 0.0), "positive"),
        (lambda: matrix_entry_entropy(np.ones((9, 2)), "median"), "the same"),
        (lambda: neighbour_graph_entropy(cloud(10)), "n - 1 = 9"),
        (lambda: neighbour_graph_entropy(cloud(), 0), "n - 1 = 59"),
        (lambda: neighbour_graph_entropy(np.zeros(5001)), "at most 5000"),
    ],
)
def test_bad_arguments(call, said):
    with pytest.raises(DataError, match=said):
        call()


@pytest.mark.parametrize("sigma", [0.8, 2.0])
def test_the_authors_package_gives_the_same(sigma):
    peer = pytest.importorskip("dse_dsmi")
    x = cloud(200, 5)
    entries = peer.diffusion_spectral_entropy(x, gaussian_kernel_sigma=sigma, matrix_entry_entropy=True)
    assert matrix_entry_entropy(x, sigma).bits == pytest.approx(entries, abs=1e-8)
    spectral = peer.adjacency_spectral_entropy(x, gaussian_kernel_sigma=sigma)
    assert renyi_entropy(x, bandwidth=sigma).bits == pytest.approx(spectral, abs=1e-8)
    assert neighbour_graph_entropy(x).bits == pytest.approx(peer.adjacency_spectral_entropy(x, use_knn=True), abs=1e-6)
    classic = discrete_entropy(FixedBins(2, per_column=True).codes(x), correction="none")
    assert classic.bits == pytest.approx(peer.diffusion_spectral_entropy(x, classic_shannon_entropy=True), abs=1e-8)
