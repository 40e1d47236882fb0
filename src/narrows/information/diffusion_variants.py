"""Other entropies of a cloud of rows that come with diffusion spectral entropy, for comparison with it.

Liao et al. (2023; see `diffusion_spectral`) compare, and their package ships, with G_ij = exp(-|z_i - z_j|^2 / (2
sigma^2)), K = G divided by the square roots of its row sums from both sides, and P = K divided by its row sums:

    matrix entry entropy           of the entries P_ij / n
    adjacency spectral entropy     of |l_i| / sum_j |l_j|, l the eigenvalues of G, or of a graph of nearest neighbours
    classic Shannon entropy        of rows cut into 2 bins a column

The first and the one of neighbours are here. The one of G is `renyi_entropy(x, bandwidth=sigma)`, as G / n has the
trace 1, and the classic one is `discrete_entropy(FixedBins(2, per_column=True).codes(x), correction="none")`, where a
column that never changes has one bin and says nothing.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch.special import entr

from narrows.core.cite import cites
from narrows.core.errors import DataError
from narrows.information.diffusion_spectral import (
    DSE,
    Sigma,
    bandwidth,
    extreme,
    median_distance,
    row_cautions,
)
from narrows.information.estimate import Estimate
from narrows.information.inputs import Samples, columns, same_rows
from narrows.information.kernel_spectrum import Kernel

DENSE = 5000
"""Rows beyond which the eigenvalues of a graph are refused."""
_SAME = 1e-6  # of a distance: by so little two of them do not differ


@cites(DSE.key)
def matrix_entry_entropy(x: Samples, sigma: Sigma = 10.0) -> Estimate:
    """Entropy in nats of the entries of the diffusion matrix of x (n, d): from ln n (rows far apart) to 2 ln n (alike).

    That is ln n plus the mean entropy of one step from a row, so it falls where diffusion spectral entropy rises: tight
    clusters far apart give ln n + sum_c (n_c / n) ln n_c. `sigma` as in `diffusion_spectral_entropy`. Time is of order
    n^2 d; the matrix is never held. Source: Liao et al. 2023.
    """
    rows = columns(x)
    same_rows(rows, rows)
    n = len(rows)
    middle = median_distance(rows)
    width = bandwidth(sigma, middle)
    kernel = Kernel.of(torch.from_numpy(rows), width).balanced()
    steps = 0.0
    for part in kernel.parts():
        block = kernel.block(part, slice(None))
        steps += float(entr(block.div_(block.sum(dim=1, keepdim=True))).sum()) / n
    return Estimate(
        math.log(n) + steps,
        "matrix_entry_entropy",
        n,
        (rows.shape[1],),
        cautions=(*row_cautions(rows), *extreme(1 - steps / math.log(n), width, middle)),
        details={"sigma": width, "median distance": middle},
    )


@cites(DSE.key)
def neighbour_graph_entropy(x: Samples, neighbours: int = 10) -> Estimate:
    """Spectral entropy in nats of the graph that joins each row of x (n, d) to its nearest rows, itself the first.

    The entropy of |l_i| / sum_j |l_j|, l the eigenvalues of its matrix of zeros and ones; it needs no bandwidth.
    Rows as near as the last of the `neighbours` count too. A row need not be a neighbour of its own neighbours, so the
    matrix is not symmetric and its eigenvalues hang on rounding: trust six digits. Time is of order n^3. Raises
    DataError for more than 5,000 rows, or no more than `neighbours`. Source: Liao et al. 2023, as their package has it.
    """
    rows = columns(x)
    n = len(rows)
    if not 1 <= neighbours < n:
        raise DataError(f"neighbours must lie between 1 and n - 1 = {n - 1}, got {neighbours}")
    if n > DENSE:
        raise DataError(f"{n} rows have a graph of {n}^2 entries: draw at most {DENSE} of them")
    distances = cdist(rows, rows)
    last = np.partition(distances, neighbours - 1, axis=1)[:, neighbours - 1]
    graph = (distances <= last[:, None] * (1 + _SAME)).astype(np.float64)
    sizes = torch.from_numpy(np.abs(np.linalg.eigvals(graph)))
    return Estimate(
        float(entr(sizes / sizes.sum()).sum()),
        "neighbour_graph_entropy",
        n,
        (rows.shape[1],),
        cautions=row_cautions(rows),
        details={"neighbours": neighbours, "edges": int(graph.sum())},
    )
