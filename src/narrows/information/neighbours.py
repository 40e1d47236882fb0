"""Nearest neighbours and counts, by the maximum norm: trees in few dimensions, blocks of all distances in many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from narrows.information.inputs import Real

Counts = NDArray[np.int64]

TREE = 8
"""From this many dimensions on all distances are faster than a tree."""
_BLOCK = 5_000_000  # distances held at once


def kth_distances(x: Real, ks: Sequence[int], norm: float = np.inf) -> Real:
    """Distance of each row to its k-th other row, for each k; shape (n, len(ks)). `norm` 2 is Euclid's."""
    if x.shape[1] < TREE:
        reach = cKDTree(x).query(x, k=[k + 1 for k in ks], p=norm, workers=-1)[0]
        return np.asarray(reach, dtype=np.float64)
    return _all_distances((x,), ks, norm)[0]


def neighbour_counts(x: Real, y: Real, ks: Sequence[int]) -> tuple[Real, Counts, Counts]:
    """The k-th joint distance of each row, and how many other rows are strictly nearer in x alone and in y alone.

    The joint distance is the larger of those in x and in y. All three have the shape (n, len(ks)).
    """
    if x.shape[1] + y.shape[1] < TREE:
        reach = kth_distances(np.concatenate([x, y], axis=1), ks)
        return reach, nearer(x, reach), nearer(y, reach)
    reach, (in_x, in_y) = _all_distances((x, y), ks)
    return reach, in_x, in_y


def nearer(x: Real, reach: Real) -> Counts:
    """How many other rows are strictly nearer to each row than its `reach` (n, m); shape (n, m)."""
    if x.shape[1] == 1:
        return _nearer_on_a_line(x[:, 0], reach)
    tree = cKDTree(x)
    just = np.nextafter(reach, 0)
    counts = [tree.query_ball_point(x, r, p=np.inf, return_length=True, workers=-1) for r in just.T]
    # A reach of 0 has nobody strictly inside, though the tree counts the row itself and its twins.
    return np.where(reach > 0, np.stack(counts, axis=1) - 1, 0).astype(np.int64)


def _nearer_on_a_line(x: Real, reach: Real) -> Counts:
    order = np.sort(x)
    n = len(x)
    counts = np.empty(reach.shape, dtype=np.int64)
    for j, r in enumerate(reach.T):
        first = np.searchsorted(order, x - r, side="right")
        end = np.searchsorted(order, x + r, side="left")
        # x - r and x + r are rounded. What decides is the rounded distance, as everywhere else.
        while (more := (first > 0) & (x - order[first - 1] < r)).any():
            first -= more
        while (less := (first < n) & (x - order[np.minimum(first, n - 1)] >= r)).any():
            first += less
        while (more := (end < n) & (order[np.minimum(end, n - 1)] - x < r)).any():
            end += more
        while (less := (end > 0) & (order[end - 1] - x >= r)).any():
            end -= less
        counts[:, j] = end - first - 1
    return np.where(reach > 0, counts, 0)


def _all_distances(spaces: Sequence[Real], ks: Sequence[int], norm: float = np.inf) -> tuple[Real, list[Counts]]:
    """`neighbour_counts` in one or two spaces by all distances, a block of rows at a time."""
    n = len(spaces[0])
    tensors = [torch.from_numpy(s) for s in spaces]
    reach = torch.empty(n, len(ks), dtype=torch.float64)
    counts = [torch.empty(n, len(ks), dtype=torch.int64) for _ in spaces]
    rows = max(1, _BLOCK // n)
    for start in range(0, n, rows):
        part = slice(start, min(start + rows, n))
        # Not by squares and products: these lose the distances of near rows.
        exact = "donot_use_mm_for_euclid_dist"
        distances = [torch.cdist(s[part], s, p=norm, compute_mode=exact) for s in tensors]
        joint = distances[0] if len(spaces) == 1 else torch.maximum(*distances)
        own = torch.arange(part.stop - part.start)
        for d in {id(d): d for d in (*distances, joint)}.values():
            d[own, own + start] = torch.inf
        least = joint.topk(max(ks), dim=1, largest=False).values
        reach[part] = least[:, [k - 1 for k in ks]]
        for count, d in zip(counts, distances, strict=True):
            for j in range(len(ks)):
                count[part, j] = (d < reach[part, j, None]).sum(dim=1)
    return reach.numpy(), [c.numpy() for c in counts]
