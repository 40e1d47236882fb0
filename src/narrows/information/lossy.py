"""Mutual information of wide sides, such as the layers of a network, through lossy compression.

Butakov, Tolmachev, Malanchuk, Neopryatnaya, Frolov and Andreev, "Information bottleneck analysis of deep neural
networks via lossy compression" (2024, arXiv:2305.08013): make the network stochastic, so that its mutual information is
finite; compress the input and each layer to a few numbers; and estimate with a good method for few columns,

    I(X; L) ~ H(E(X)) + H(E'(L)) - H(E(X), E'(L)),        I(L; Y) ~ H(E'(L)) - sum_y p_y H(E'(L) | Y = y).

What compression guarantees: nothing is lost by a one-to-one map, and never anything gained: the information of the
codes is a LOWER bound (its estimate may still err upwards). A small reconstruction error guarantees nothing: where the
informative direction has little variance, PCA drops it. Nothing is lost either where the code still determines the
part of X that Y depends on, however much else it drops.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import digamma
from torch import Tensor

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.information.estimate import Caution, Estimate, MIEstimate, saturation
from narrows.information.inputs import Codes, Real, Samples, codes, column_cautions, columns, is_label, same_rows
from narrows.information.kozachenko_leonenko import WEIGHTED, kozachenko_leonenko
from narrows.information.ksg import mixed_ksg

LOSSY = register_reference(
    Reference(
        "arXiv:2305.08013",
        "Information bottleneck analysis of deep neural networks via lossy compression",
        (
            "Ivan Butakov",
            "Alexander Tolmachev",
            "Sofia Malanchuk",
            "Anna Neopryatnaya",
            "Alexey Frolov",
            "Kirill Andreev",
        ),
        2024,
        "International Conference on Learning Representations",
    )
)

By = Literal["entropies", "ksg"]
Code = int | Callable[[Real], Samples] | None

_STILL = 1e-6  # deviation of a code's column below which it is dropped
_WIDE = 10  # columns of a code beyond which neighbours are far
_BLOCK = 5_000_000  # distances held at once


@cites(LOSSY.key, WEIGHTED.key)
def lossy(
    x: Samples,
    y: Samples,
    *,
    x_code: Code = 4,
    y_code: Code = 4,
    by: By = "entropies",
    k: int = 5,
    whiten: bool = True,
    seed: int = 0,
) -> MIEstimate:
    """Mutual information in nats of the codes of x (n, dx) and y (n, dy), one of which may be a label.

    A code is a number of principal components (a side that has no more columns stays as it is), a function from
    (n, d) to (n, few), or None for the side itself. `by` "entropies" is the paper's difference of entropies, each
    by `kozachenko_leonenko` with `k` and `whiten`; "ksg" counts neighbours instead (Euclidean in each code, `mixed_ksg`
    for a label), which is better for bounded codes, where differences of entropies are up to a nat too low. The kind
    is "lower" where a side was compressed. The standard error adds those of the entropies. Raises DataError for two
    labels, codes of atoms, and classes of k + 1 rows or fewer. Source: Butakov et al. 2024.
    """
    if by not in ("entropies", "ksg"):
        raise DataError(f"codes are measured by 'entropies' or 'ksg', got {by!r}")
    if is_label(x) and is_label(y):
        raise DataError("both sides are labels: there is nothing to compress, use method='discrete'")
    a, b = _Side.of(x, x_code, "x", seed), _Side.of(y, y_code, "y", seed)
    same_rows(a.values, b.values, least=k + 2)
    value, error, cautions = (_by_entropies if by == "entropies" else _by_ksg)(a, b, k, whiten)
    n = len(a.values)
    return MIEstimate(
        value,
        "lossy",
        n,
        (a.width, b.width),
        standard_error=error,
        kind="lower" if a.lossy or b.lossy else "point",
        cautions=tuple(dict.fromkeys((*a.cautions, *b.cautions, *cautions, *saturation(value, n)))),
        details={"by": by, "codes": [a.values.shape[1], b.values.shape[1]], "variance kept": [a.kept, b.kept]},
    )


@dataclass(frozen=True)
class _Side:
    """A code (n, few), or the classes (n, 1) of a label."""

    values: NDArray[Any]
    width: int
    label: bool = False
    lossy: bool = False
    kept: float | None = None
    cautions: tuple[Caution, ...] = ()

    @classmethod
    def of(cls, side: Samples, code: Code, name: str, seed: int) -> _Side:
        if is_label(side):
            return cls(codes(side, name)[:, None], 1, label=True)
        real = columns(side, name)
        n, d = real.shape
        kept: float | None = None
        if callable(code):
            found = columns(code(real), f"the code of {name}")
            same_rows(real, found)
        elif code is not None and code < 1:
            raise DataError(f"the code of {name} must have at least 1 column, got {code}")
        elif code is None or d <= code:
            found = real
        else:
            found, kept = _principal(real, min(code, n), seed)
        moving = found.std(axis=0) > _STILL * max(1.0, float(np.abs(found).max()))
        cautions = []
        if not moving.any():
            raise DataError(f"no column of the code of {name} changes from row to row: it says nothing")
        if not moving.all():
            text = f"{(~moving).sum()} of {len(moving)} columns of the code of {name} never change, and were left out"
            cautions.append(Caution("constant column", text))
        if moving.sum() > _WIDE:
            text = f"the code of {name} has {moving.sum()} columns: with more than {_WIDE} neighbours are far away"
            cautions.append(Caution("high dimension", text))
        return cls(found[:, moving], d, lossy=found is not real, kept=kept, cautions=tuple(cautions))


def _principal(x: Real, count: int, seed: int) -> tuple[Real, float]:
    """The first principal components of the rows, and the share of the variance that they have."""
    from sklearn.decomposition import PCA

    pca = PCA(count, random_state=seed)
    return np.asarray(pca.fit_transform(x), dtype=np.float64), float(pca.explained_variance_ratio_.sum())


Measured = tuple[float, float, list[Caution]]


def _by_entropies(a: _Side, b: _Side, k: int, whiten: bool) -> Measured:
    def entropy(rows: NDArray[Any]) -> Estimate:
        return kozachenko_leonenko(rows, k, whiten=whiten)

    if a.label or b.label:
        code, classes = (b, a.values) if a.label else (a, b.values)
        return _of_classes(entropy, code.values, classes[:, 0], k)
    parts = [entropy(a.values), entropy(b.values), entropy(np.concatenate([a.values, b.values], axis=1))]
    value = parts[0].value + parts[1].value - parts[2].value
    return value, sum(p.standard_error or 0.0 for p in parts), [c for p in parts for c in p.cautions]


def _of_classes(entropy: Callable[[NDArray[Any]], Estimate], code: Real, classes: Codes, k: int) -> Measured:
    counts = np.bincount(classes)
    if counts.min() <= k + 1:
        raise DataError(f"a class has {counts.min()} rows: with k = {k} each needs more than {k + 1}")
    whole = entropy(code)
    value, error, cautions = whole.value, whole.standard_error or 0.0, list(whole.cautions)
    for c, count in enumerate(counts):
        part = entropy(code[classes == c])
        value -= count / len(code) * part.value
        error += count / len(code) * (part.standard_error or 0.0)
    if counts.min() <= 10 * k:
        text = f"a class has {counts.min()} rows: its entropy is rough with fewer than {10 * k}"
        cautions.append(Caution("few samples", text))
    return value, error, cautions


def _by_ksg(a: _Side, b: _Side, k: int, whiten: bool) -> Measured:
    if a.label or b.label:
        code, classes = (b, a.values) if a.label else (a, b.values)
        found = mixed_ksg(code.values, classes[:, 0], k)
        return found.value, found.standard_error or 0.0, [c for c in found.cautions if c.trouble != "saturated"]
    cautions = [c for c in column_cautions(x=a.values, y=b.values) if c.trouble == "ties"]
    first, second = (side.values / side.values.std(axis=0).max() for side in (a, b))
    terms = _euclidean_ksg(first, second, k)
    return float(terms.mean()), float(terms.std(ddof=1) / np.sqrt(len(terms))), cautions


def _euclidean_ksg(a: Real, b: Real, k: int) -> Real:
    """KSG-1 with the Euclidean distance in each side and the larger of the two in the joint space: a term per row."""
    n = len(a)
    sides = [torch.from_numpy(side - side.mean(axis=0)) for side in (a, b)]
    terms = np.empty(n)
    rows = max(1, _BLOCK // n)
    for start in range(0, n, rows):
        part = slice(start, min(start + rows, n))
        own = torch.arange(part.stop - part.start)
        distances = [_euclidean(side[part], side) for side in sides]
        for d in distances:
            d[own, own + start] = torch.inf
        reach = torch.maximum(*distances).kthvalue(k, dim=1, keepdim=True).values
        counts = [(d < reach).sum(dim=1).numpy() for d in distances]
        terms[part] = digamma(k) + digamma(n) - digamma(counts[0] + 1) - digamma(counts[1] + 1)
    return terms


def _euclidean(x: Tensor, z: Tensor) -> Tensor:
    # By a matrix product in many columns: in double precision its error matters for rows that nearly coincide only.
    exact = x.shape[1] <= 16
    return torch.cdist(x, z, compute_mode="donot_use_mm_for_euclid_dist" if exact else "use_mm_for_euclid_dist")
