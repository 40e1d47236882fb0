"""The 12-bit task: the facts that are known of the original file."""

import math
from collections import Counter

import numpy as np
import pytest

from narrows.data.icosahedron import (
    _ADJACENT,
    _OPPOSITE,
    icosahedron_invariants,
    icosahedron_noisy_task,
    icosahedron_task,
)


def entropy_bits(p):
    p = np.asarray([q for q in np.ravel(p) if q > 0])
    return float(-(p * np.log2(p)).sum())


def test_the_solid_is_an_icosahedron():
    degree = Counter(corner for edge in _ADJACENT for corner in edge)
    assert len(set(_ADJACENT)) == 30
    assert set(degree.values()) == {5}
    assert sorted(corner for edge in _OPPOSITE for corner in edge) == list(range(12))
    neighbours = {c: {d for e in _ADJACENT for d in e if c in e and d != c} for c in range(12)}
    for a, b in _ADJACENT:
        assert len(neighbours[a] & neighbours[b]) == 2  # each edge borders two triangles
    for a, b in _OPPOSITE:
        assert not neighbours[a] & neighbours[b]
        assert b not in neighbours[a]


def test_labels():
    x, y = icosahedron_task()
    assert x.shape == (4096, 12)
    assert len(np.unique(x, axis=0)) == 4096
    assert x[1].tolist() == [0] * 11 + [1]
    assert y.sum() == 2118
    assert entropy_bits([y.mean(), 1 - y.mean()]) == pytest.approx(0.9991571209, abs=1e-10)
    k = x.sum(axis=1)
    for ones, positive, patterns in ((5, 60, 792), (6, 532, 924), (7, 732, 792)):
        assert (int(y[k == ones].sum()), int((k == ones).sum())) == (positive, patterns)
    influence = [np.mean(y != y[np.arange(4096) ^ (1 << bit)]) for bit in range(12)]
    assert np.allclose(influence, 0.2158, atol=5e-5)


def test_invariants_have_64_values_and_fix_the_label():
    x, y = icosahedron_task()
    _, which, counts = np.unique(icosahedron_invariants(x), axis=0, return_inverse=True, return_counts=True)
    assert len(counts) == 64
    assert entropy_bits(counts / 4096) == pytest.approx(5.5695224, abs=1e-7)
    assert all(len(set(y[which.reshape(-1) == c])) == 1 for c in range(64))


def test_the_noisy_variant():
    x, p = icosahedron_noisy_task()
    _, y = icosahedron_task()
    assert np.array_equal(p > 0.5, y == 1)
    assert p.mean() == pytest.approx(0.5167771, abs=2e-7)
    inner = np.mean([entropy_bits([q, 1 - q]) for q in p])
    assert entropy_bits([p.mean(), 1 - p.mean()]) - inner == pytest.approx(0.99, abs=1e-6)
    assert math.isclose(x.mean(), 0.5)
