"""Linear centred kernel alignment: how alike two representations of the same rows are.

Kornblith, Norouzi, Lee and Hinton, "Similarity of Neural Network Representations Revisited" (2019). Of centred X, Y,

    CKA = ||X^T Y||_F^2 / (||X^T X||_F ||Y^T Y||_F),

which lies in [0, 1] and does not change with rotations, scales or shifts of either side.
"""

from __future__ import annotations

import numpy as np

from narrows.core.cite import cites
from narrows.core.errors import DataError
from narrows.information.estimate import Caution, Estimate
from narrows.information.hsic import ALIGNMENT
from narrows.information.inputs import Samples, column_cautions, pair, refuse_labels


@cites(ALIGNMENT.key)
def linear_cka(x: Samples, y: Samples) -> Estimate:
    """Linear CKA of x (n, dx) and y (n, dy): between 0 and 1, no unit. Source: Kornblith et al. 2019.

    Independent sides give more than 0 where there are few rows, about sqrt(dx dy) / n for white columns: a caution
    says so. Raises DataError for labels and for a side that never changes.
    """
    a, b = pair(x, y)
    refuse_labels("linear_cka", x=x, y=y)
    cautions = [c for c in column_cautions(x=a, y=b) if c.trouble in ("constant column", "heavy tails")]
    for name, side in (("x", a), ("y", b)):
        if not np.ptp(side, axis=0).any():
            raise DataError(f"{name} never changes: it is like nothing")
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    # The scale of a side cancels; without it the fourth powers could overflow.
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    alike = np.linalg.norm(a.T @ b) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    n, widest = len(a), max(a.shape[1], b.shape[1])
    if n < 10 * widest:
        text = f"{n} rows are few for {widest} columns: even independent sides look alike"
        cautions.append(Caution("few samples", text))
    return Estimate(float(alike), "linear_cka", n, (a.shape[1], b.shape[1]), unit="none", cautions=tuple(cautions))
