"""A linear probe: ridge regression of many targets at once, each with its own penalty.

Columns of X are brought to mean 0 and deviation 1, then min ||y - a - X w||^2 + alpha ||w||^2 is solved for every alpha
from one eigendecomposition of the Gram matrix. Each target takes the alpha with the least generalised cross-validation
error (Golub, Heath and Wahba, "Generalized cross-validation as a method for choosing a good ridge parameter", 1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

ALPHAS = (0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)
_ROWS = 4096  # centred at once

Real = NDArray[np.float64]


class RidgeProbe(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Ridge regression in the form of scikit-learn; `alphas` are penalties of standardised columns.

    Fitted: `coef_` (d,) or (targets, d) and `intercept_`, in the units of X; `alpha_`, one per target.
    """

    def __init__(self, alphas: Sequence[float] = ALPHAS) -> None:
        self.alphas = alphas

    def fit(self, X: Any, y: Any) -> Self:
        """Fit X (n, d) to y (n,) or (n, targets). Raises ValueError for fewer than 2 rows and penalties below 0."""
        X, y = validate_data(
            self, X, y, multi_output=True, y_numeric=True, dtype=np.float64, ensure_min_samples=2, force_writeable=True
        )
        alphas = np.asarray(self.alphas, dtype=np.float64)
        if alphas.ndim != 1 or not len(alphas) or not (np.isfinite(alphas).all() and (alphas > 0).all()):
            raise ValueError(f"alphas must be positive numbers, got {self.alphas!r}")
        targets = np.asarray(y, dtype=np.float64).reshape(len(X), -1)
        middle, level = X.mean(axis=0), targets.mean(axis=0)
        scale = np.where(np.ptp(X, axis=0) > 0, X.std(axis=0), 1.0)
        gram, moments, power = _sums(X, targets, middle, scale, level)
        eigenvalues, vectors = eigh(gram, overwrite_a=True, check_finite=False)
        turned = vectors.T @ moments
        eigenvalues = eigenvalues.clip(0.0)
        best = alphas[_cross_validation(eigenvalues, turned, power, alphas, len(X)).argmin(axis=0)]
        weights = (vectors @ (turned / (eigenvalues[:, None] + best))) / scale[:, None]
        offset = level - middle @ weights
        single = np.ndim(y) == 1
        self.coef_ = weights[:, 0] if single else weights.T
        self.intercept_ = float(offset[0]) if single else offset
        self.alpha_ = float(best[0]) if single else best
        return self

    def predict(self, X: Any) -> Real:
        """Predictions of the shape of the y that was fitted."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return np.asarray(X @ self.coef_.T + self.intercept_, dtype=np.float64)


def _sums(X: Real, y: Real, middle: Real, scale: Real, level: Real) -> tuple[Real, Real, Real]:
    """Gram matrix of the standardised X, its products with the centred y, and the sums of squares of y."""
    d = X.shape[1]
    gram, moments, power = np.zeros((d, d)), np.zeros((d, y.shape[1])), np.zeros(y.shape[1])
    for start in range(0, len(X), _ROWS):
        a = (X[start : start + _ROWS] - middle) / scale
        b = y[start : start + _ROWS] - level
        gram += a.T @ a
        moments += a.T @ b
        power += (b**2).sum(axis=0)
    return gram, moments, power


def _cross_validation(eigenvalues: Real, turned: Real, power: Real, alphas: Real, n: int) -> Real:
    """Generalised cross-validation error, shape (alphas, targets)."""
    seen = eigenvalues > eigenvalues.max(initial=0.0) * len(eigenvalues) * np.finfo(float).eps
    s, explained = eigenvalues[seen, None], turned[seen] ** 2 / eigenvalues[seen, None]
    rest = (power - explained.sum(axis=0)).clip(0.0)
    shrunk = alphas[:, None] / (s.T + alphas[:, None])  # (alphas, directions)
    free = 1 - (1 + (1 - shrunk).sum(axis=1)) / n
    return np.asarray((shrunk**2 @ explained + rest) / free.clip(np.finfo(float).tiny)[:, None] ** 2, dtype=np.float64)
