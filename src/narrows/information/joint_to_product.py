"""How far a sample's joint law is from the product of its sides: W_1 exactly, and along lines.

For rows (x_i, y_i) the joint law has n atoms (x_i, y_i) and the product n^2 atoms (x_i, y_j), each law of equal
weights. To move one to the other is a transport problem (n by n^2). On a line sorting solves it: the k-th of the n
values goes to the k-th of n equal parts of the n^2. The mean over random lines (Rabin, Peyré, Delon and Bernot 2011) is
never above the distance itself, as no projection lengthens a distance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from narrows.core.cite import Reference, register_reference
from narrows.core.errors import DataError
from narrows.core.seeds import derive
from narrows.information.inputs import Real
from narrows.information.sliced import line_pairs

LINES = register_reference(
    Reference(
        "doi:10.1007/978-3-642-24785-9_37",
        "Wasserstein barycenter and its application to texture mixing",
        ("Julien Rabin", "Gabriel Peyré", "Julie Delon", "Marc Bernot"),
        2011,
        "Scale Space and Variational Methods in Computer Vision",
    )
)

Metric = Literal["euclidean", "cityblock"] | Callable[[Real, Real], float]

EXACT_ROWS = 80  # the product of the sides has the square of it
_ATOMS = 2**20  # of the product on a line; with fewer rows than its root, all of them
_LEAST_PARTNERS = 4


def along_lines(x: Real, y: Real, slices: int, seed: int) -> tuple[Real, int]:
    """The distances on `slices` random lines, and with how many y each x was paired: all n where these are few.

    Otherwise the y are moved on by random numbers of rows, each also back, so that x and y may change places. Every
    row is as likely a partner as any other; as W_1 is convex, the distance to this part of the product is the greater
    one on average.
    """
    n = len(x)
    theta, phi = line_pairs(x.shape[1], y.shape[1], slices, seed)
    length = np.sqrt((theta**2).sum(axis=0) + (phi**2).sum(axis=0))
    shifts = np.arange(n)
    if n * n > _ATOMS:
        half = max(_ATOMS // n, _LEAST_PARTNERS) // 2
        drawn = np.random.default_rng(derive(seed, "partners", n)).choice(n, half, replace=False)
        shifts = np.concatenate([drawn, -drawn])
    partners = (np.arange(n) + shifts[:, None]) % n
    lines = zip((theta / length).T, (phi / length).T, strict=True)
    return np.array([on_a_line(x @ t, y @ p, partners) for t, p in lines]), len(shifts)


def on_a_line(x: Real, y: Real, partners: NDArray[np.int64]) -> float:
    """W_1 between the sums x_i + y_i (n) and the sums x_i + y_j for the `partners` (m, n) j of each i."""
    product = np.sort(x + y[partners], axis=None).reshape(len(x), len(partners))
    return float(np.abs(product - np.sort(x + y)[:, None]).mean())


def costs_of(x: Real, y: Real, metric: Metric) -> Real:
    """Distances (n, n^2) from each pair (x_i, y_i) to each combination (x_k, y_l)."""
    n = len(x)
    if n > EXACT_ROWS:
        raise DataError(
            f"the exact distance moves {n} points to {n}^2 combinations: at most {EXACT_ROWS} rows; draw some of "
            "them, or take method='sliced' or 'critic'"
        )
    if metric not in ("euclidean", "cityblock") and not callable(metric):
        raise DataError(f"the metric is 'euclidean', 'cityblock' or a function, got {metric!r}")
    between = [_distances(side, metric) for side in (x, y)]
    first, second = between[0][:, :, None], between[1][:, None, :]
    costs = np.sqrt(first**2 + second**2) if metric == "euclidean" else first + second
    return np.asarray(costs.reshape(n, n * n), dtype=np.float64)


def _distances(side: Real, metric: Metric) -> Real:
    from scipy.spatial.distance import cdist

    if isinstance(metric, str):
        return np.asarray(cdist(side, side, metric), dtype=np.float64)
    found = np.array([[float(metric(u, v)) for v in side] for u in side])
    if not np.isfinite(found).all() or (found < 0).any():
        raise DataError("the metric gave a distance that is negative or not a number")
    return found


def transport(costs: Real) -> float:
    """The least mean cost of moving n points of weight 1/n to n^2 points of weight 1/n^2, costs (n, n^2).

    Each point may send n units. Units are placed one by one along the shortest path: a point without room passes one of
    its units on to another. A plan that grows by shortest paths is the best of its size at every step.
    """
    n, units = costs.shape
    sends = np.zeros((n, units), dtype=bool)
    # What it costs least to pass a unit from one point to another, and which unit that is.
    passing, passed = np.full((n, n), np.inf), np.zeros((n, n), dtype=int)
    for unit in range(units):
        reach, before = _shortest(costs[:, unit], passing)
        end = int(np.where(sends.sum(axis=1) < units // n, reach, np.inf).argmin())
        touched = [end]
        while before[end] >= 0:
            start = int(before[end])
            sends[[start, end], passed[start, end]] = False, True
            end = start
            touched.append(end)
        sends[end, unit] = True
        for point in touched:
            own = np.flatnonzero(sends[point])
            dearer = costs[:, own] - costs[point, own]
            least = dearer.argmin(axis=1)
            passing[point], passed[point] = dearer[np.arange(n), least], own[least]
    return float(costs[sends].sum() / units)


def _shortest(entry: Real, passing: Real) -> tuple[Real, NDArray[np.int64]]:
    """The least cost of a new unit at each point, and the point that it comes from there (-1: it enters there)."""
    reach, before = entry, np.full(len(entry), -1)
    while True:
        through = reach[:, None] + passing
        least = through.argmin(axis=0)
        cost = through[least, np.arange(len(entry))]
        better = cost < reach - 1e-13
        if not better.any():
            return reach, before
        reach, before = np.where(better, cost, reach), np.where(better, least, before)
