"""The 12-bit task of Shwartz-Ziv and Tishby (2017, arXiv:1703.00810): all patterns on the corners of an icosahedron.

A pattern is known by its number of ones k, of adjacent pairs of ones a and of opposite pairs of ones n, which take 64
values: those fix its power spectrum in spherical harmonics, the symmetry that the labels respect.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ADJACENT = (
    (0, 1), (0, 3), (0, 5), (0, 10), (0, 11), (1, 2), (1, 3), (1, 4), (1, 11), (2, 3), (2, 4), (2, 8), (2, 9), (3, 8),
    (3, 10), (4, 6), (4, 9), (4, 11), (5, 6), (5, 7), (5, 10), (5, 11), (6, 7), (6, 9), (6, 11), (7, 8), (7, 9),
    (7, 10), (8, 9), (8, 10),
)  # fmt: skip
_OPPOSITE = ((0, 9), (1, 7), (2, 5), (3, 6), (4, 10), (8, 11))
_THRESHOLD, _SLOPE = 17.8958333, 39.65791022864


def icosahedron_patterns() -> NDArray[np.int64]:
    """All patterns of 12 bits in counting order, the first bit the most significant; shape (4096, 12)."""
    return (np.arange(4096)[:, None] >> np.arange(11, -1, -1)) & 1


def icosahedron_invariants(x: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each pattern (n, 12) its ones, adjacent pairs of ones and opposite pairs of ones; shape (n, 3)."""
    pairs = [x[:, [i for i, _ in edges]] & x[:, [j for _, j in edges]] for edges in (_ADJACENT, _OPPOSITE)]
    return np.stack([x.sum(axis=1), *(p.sum(axis=1) for p in pairs)], axis=1)


def icosahedron_task() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The patterns (4096, 12) and their labels 0 or 1 (4096,), which the pattern determines; 2118 are 1."""
    x = icosahedron_patterns()
    k, a, n = icosahedron_invariants(x).T
    six = (k == 6) & ((a >= 7) | ((a == 6) & (n == 0)))
    seven = (k == 7) & ~((a == 8) & (n == 2))
    return x, ((k >= 8) | seven | six | ((k == 5) & (a == 7))).astype(np.int64)


def icosahedron_noisy_task() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The patterns (4096, 12) and the probability of the label 1 (4096,): I(X;Y) is 0.99 bits.

    A sigmoid of a score that separates the labels of `icosahedron_task`; the score is ours, the paper's is not known.
    """
    x = icosahedron_patterns()
    k, a, n = icosahedron_invariants(x).T
    score = a - n / 2 + 19 * k / 4 - 11 * k**2 / 24
    return x, 1 / (1 + np.exp(-_SLOPE * (score - _THRESHOLD)))
