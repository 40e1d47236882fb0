"""Nearest neighbours and counts under the maximum norm.

A row is within reach of another where every column is. In one column the rows within reach are a stretch of the sorted
column, so they are kept as bits, 64 rows to a word: the exclusive or of two sets {rows of rank < r}. Columns are then
joined by "and", and counts are counts of bits. This costs n^2 d / 64 words where all distances cost n^2 d numbers, and
takes the same decisions to the last bit: the rounded difference of two values grows with either of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from narrows.information.inputs import Real

Counts = NDArray[np.int64]
Places = NDArray[np.intp]

TREE = 6
"""From this many dimensions on bits are faster than a tree."""
_CHUNK = 4096  # rows in a set of bits; their sets of all ranks fill the cache
_ROWS = 32_768  # rows whose neighbours are held as bits at once
_BLOCK = 5_000_000  # distances held at once


def kth_distances(x: Real, ks: Sequence[int], norm: float = np.inf) -> Real:
    """Distance of each row to its k-th other row, for each k; shape (n, len(ks)). `norm` 2 is Euclid's."""
    if x.shape[1] < TREE:
        reach = cKDTree(x).query(x, k=[k + 1 for k in ks], p=norm, workers=-1)[0]
        return np.asarray(reach, dtype=np.float64)
    found = _nearest(x, max(ks)) if norm == np.inf else _all_distances(x, max(ks), norm)
    return found[:, [k - 1 for k in ks]]


def neighbour_counts(x: Real, y: Real, ks: Sequence[int]) -> tuple[Real, Counts, Counts]:
    """The k-th joint distance of each row, and how many other rows are strictly nearer in x alone and in y alone.

    The joint distance is the larger of those in x and in y. All three have the shape (n, len(ks)).
    """
    reach = kth_distances(np.concatenate([x, y], axis=1), ks)
    return reach, nearer(x, reach), nearer(y, reach)


def nearer(x: Real, reach: Real) -> Counts:
    """How many other rows are strictly nearer to each row than its `reach` (n, m); shape (n, m)."""
    counts = np.zeros(reach.shape, dtype=np.int64)
    if x.shape[1] == 1:
        order = np.sort(x[:, 0])
        for j, r in enumerate(reach.T):
            first, end = _stretch(order, x[:, 0], r)
            counts[:, j] = end - first
    else:
        for rows, chunk in _pieces(len(x)):
            for j, marks in enumerate(_marks(x[rows], x[chunk], reach[rows])):
                counts[rows, j] += np.bitwise_count(marks).sum(axis=1, dtype=np.int64)
    return counts - (reach > 0)  # the row itself


def _all_distances(x: Real, most: int, norm: float) -> Real:
    """The `most` smallest distances of each row to other rows, a block of rows at a time."""
    values, n = torch.from_numpy(x), len(x)
    best = torch.empty(n, most, dtype=torch.float64)
    for part in torch.arange(n).split(max(1, _BLOCK // n)):
        # Not by squares and products: these lose the distances of near rows.
        distances = torch.cdist(values[part], values, p=norm, compute_mode="donot_use_mm_for_euclid_dist")
        distances[torch.arange(len(part)), part] = torch.inf
        best[part] = distances.topk(most, dim=1, largest=False).values
    return best.numpy()


def _nearest(x: Real, most: int) -> Real:
    """The `most` smallest distances of each row to other rows, in ascending order."""
    best = _bounds(x, most)
    if len(x) == _sample(len(x), most).size:
        return best
    values = torch.from_numpy(x)
    for rows, chunk in _pieces(len(x)):
        # No bound is too small: `most` rows lie within it. Those strictly nearer push the bounds out of the list.
        marks = next(_marks(x[rows], x[chunk], best[rows, -1:]))
        for start in range(0, len(marks), 1024):
            part = slice(rows.start + start, min(rows.start + start + 1024, rows.stop))
            _improve(best, values, part, chunk, marks[start : start + 1024])
    return best


def _bounds(x: Real, most: int) -> Real:
    """The `most` smallest distances of each row to other rows of a sample; upper bounds all of them."""
    n = len(x)
    sample = _sample(n, most)
    values = torch.from_numpy(x)
    best = np.empty((n, most))
    rows = max(1, _BLOCK // len(sample))
    for start in range(0, n, rows):
        distances = torch.cdist(values[start : start + rows], values[sample], p=torch.inf)
        inside = np.flatnonzero((sample >= start) & (sample < start + rows))
        distances[sample[inside] - start, inside] = torch.inf
        best[start : start + rows] = distances.topk(most, dim=1, largest=False).values
    if len(sample) < n:
        # A row of the sample would be found again among all rows: only the bound itself stays.
        best[:] = best[:, -1:]
    return best


def _sample(n: int, most: int) -> Places:
    size = max(256, 4 * most, int(2 * math.sqrt(most * n)))
    return np.arange(0, n, max(1, n // size))


def _improve(best: Real, values: torch.Tensor, rows: slice, chunk: slice, marks: NDArray[np.uint64]) -> None:
    """Put the distances to the marked rows of `chunk` into the lists of `rows`."""
    bits = np.unpackbits(marks.view(np.uint8), axis=1, count=chunk.stop - chunk.start, bitorder="little")
    own = np.arange(max(rows.start, chunk.start), min(rows.stop, chunk.stop))
    bits[own - rows.start, own - chunk.start] = 0
    row, other = np.divmod(np.flatnonzero(bits.view(np.bool_)), bits.shape[1])
    if not len(row):
        return
    distances = (values[row + rows.start] - values[other + chunk.start]).abs_().amax(dim=1).numpy()
    count = np.bincount(row, minlength=len(bits))
    place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    most = best.shape[1]
    wide = np.full((len(bits), most + count.max()), np.inf)
    wide[:, :most] = best[rows]
    wide[row, most + place] = distances
    best[rows] = torch.from_numpy(wide).topk(most, dim=1, largest=False).values


def _pieces(n: int) -> Iterator[tuple[slice, slice]]:
    for row in range(0, n, _ROWS):
        for start in range(0, n, _CHUNK):
            yield slice(row, min(row + _ROWS, n)), slice(start, min(start + _CHUNK, n))


def _marks(x: Real, others: Real, reach: Real) -> Iterator[NDArray[np.uint64]]:
    """For each column of `reach` the bits of the `others` that are strictly nearer to each row of x; (n, words)."""
    found: list[torch.Tensor] = []
    for j in range(x.shape[1]):
        order = np.argsort(others[:, j])
        ascending = others[order, j]
        below = _below(order)
        for m, r in enumerate(reach.T):
            first, end = (below.index_select(0, torch.from_numpy(i)) for i in _stretch(ascending, x[:, j], r))
            first.bitwise_xor_(end)
            if j:
                found[m].bitwise_and_(first)
            else:
                found.append(first)
    return (marks.numpy().view(np.uint64) for marks in found)


def _below(order: Places) -> torch.Tensor:
    """Row r holds the bits of the r first entries of `order`; shape (len(order) + 1, words)."""
    n = len(order)
    sets = np.zeros((n + 1, -(-n // 64)), dtype=np.uint64)
    sets[np.arange(1, n + 1), order >> 6] = np.uint64(1) << (order & 63).astype(np.uint64)
    return torch.from_numpy(np.bitwise_xor.accumulate(sets, axis=0).view(np.int64))


def _stretch(order: Real, x: Real, reach: Real) -> tuple[Places, Places]:
    """Where the values of the sorted `order` that are strictly nearer than `reach` to each x begin and end."""
    n = len(order)
    first = np.searchsorted(order, x - reach, side="right")
    end = np.searchsorted(order, x + reach, side="left")
    # x - reach and x + reach are rounded. What decides is the rounded distance, as everywhere else.
    while (more := (first > 0) & (x - order[first - 1] < reach)).any():
        first -= more
    while (less := (first < n) & (x - order[np.minimum(first, n - 1)] >= reach)).any():
        first += less
    while (more := (end < n) & (order[np.minimum(end, n - 1)] - x < reach)).any():
        end += more
    while (less := (end > 0) & (order[end - 1] - x >= reach)).any():
        end -= less
    return first, np.maximum(first, end)
