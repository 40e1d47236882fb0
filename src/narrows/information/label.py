"""Mutual information of a label and many columns, from classifiers that have not seen the rows they are asked about.

    I >= H(L) + mean_i ln p(l_i | x_i)

for any predicted p (Barber and Agakov, "The IM algorithm", 2003). The prediction is a mixture of multinomial logistic
regression, a Gaussian for each class (with all covariances, QDA, and with none, naive Bayes), gradient boosting and the
shares of the labels; each is fitted on other folds than it predicts, and the weights of the mixture are those that are
best on other folds, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.core.seeds import derive
from narrows.information.estimate import Caution, MIEstimate
from narrows.information.inputs import (
    Codes,
    Real,
    Samples,
    codes,
    column_cautions,
    columns,
    refuse_labels,
    same_rows,
    standardised,
)

BOUND = register_reference(
    Reference(
        "nips:2003-barber-agakov",
        "The IM algorithm: a variational approach to information maximization",
        ("David Barber", "Felix Agakov"),
        2003,
        "Advances in Neural Information Processing Systems",
    )
)

Model = Callable[[Real, Codes, Real, int], Real]

_BOOSTED = 20  # classes beyond which boosting, with trees for each of them, takes too long
_REGULAR = 1e-3  # share of the unit matrix in a class's covariance


@cites(BOUND.key)
def label(x: Samples, y: Samples, *, folds: int = 5, trees: bool = True, seed: int = 0) -> MIEstimate:
    """A lower bound in nats of the mutual information of real x (n, d) and a label y (n,), by classification.

    `y` may be numbers, text or booleans; every different value is a class. `trees` says whether boosting is among the
    models: most of the time goes there, and activations of networks gain nothing by it. Raises DataError where x is a
    label, for fewer than two folds, and for fewer rows than two for each fold. Source: Barber and Agakov 2003.
    """
    refuse_labels("label", x=x)
    a, classes = columns(x, "x"), codes(y, "y")
    if folds < 2:
        raise DataError(f"label needs at least two folds, got {folds}")
    same_rows(a, classes, 2 * folds)
    n, count = len(a), int(classes.max()) + 1
    cautions = list(column_cautions(x=a))
    sizes = np.bincount(classes)
    if sizes.min() < 2 * folds:
        text = f"{int((sizes < 2 * folds).sum())} of {count} labels have fewer than {2 * folds} rows"
        cautions.append(Caution("few samples", text))
    terms = _log_likelihoods(standardised(a), classes, folds, trees, seed) - np.log(sizes / n)[classes]
    return MIEstimate(
        float(terms.mean()) + (count - 1) / (2 * n),  # the entropy of few rows is too low by that (Miller)
        "label",
        n,
        (a.shape[1], 1),
        standard_error=float(terms.std(ddof=1) / math.sqrt(n)),
        kind="lower",
        cautions=tuple(cautions),
        details={"classes": count, "folds": folds},
    )


def _log_likelihoods(x: Real, classes: Codes, folds: int, trees: bool, seed: int) -> Real:
    """ln p(l_i | x_i) of each row, by models and weights of other folds."""
    fold = _folds(classes, folds, seed)
    models: list[Model] = [_shares, _logistic, _gaussians, _naive]
    if trees and classes.max() < _BOOSTED:
        models.append(_boosting)
    given = np.empty((len(x), len(models)))
    for f in range(folds):
        rows, train = fold == f, fold != f
        for m, model in enumerate(models):
            predicted = model(x[train], classes[train], x[rows], int(classes.max()) + 1)
            given[rows, m] = predicted[np.arange(rows.sum()), classes[rows]]
    found = np.empty(len(x))
    for f in range(folds):
        found[fold == f] = given[fold == f] @ _weights(given[fold != f])
    return np.log(found)


def _folds(classes: Codes, folds: int, seed: int) -> NDArray[np.int64]:
    """A fold for each row, in equal parts of each class."""
    dice = np.random.default_rng(derive(seed, "folds"))
    fold = np.empty(len(classes), dtype=np.int64)
    place = 0
    for c in range(int(classes.max()) + 1):
        rows = dice.permutation(np.flatnonzero(classes == c))
        fold[rows] = (place + np.arange(len(rows))) % folds
        place += len(rows)
    return fold


def _weights(given: Real) -> Real:
    """Weights of a mixture that make the given probabilities likeliest; 30 steps of expectation-maximisation."""
    weights = np.full(given.shape[1], 1 / given.shape[1])
    for _ in range(30):
        share = given * weights
        weights = (share / share.sum(axis=1, keepdims=True)).mean(axis=0)
    # The shares of the labels, which come first, are never 0.
    weights[0] += 1e-6
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def _shares(x: Real, classes: Codes, asked: Real, count: int) -> Real:
    shares = (np.bincount(classes, minlength=count) + 0.5) / (len(classes) + 0.5 * count)
    return np.tile(shares, (len(asked), 1))


def _logistic(x: Real, classes: Codes, asked: Real, count: int) -> Real:
    from sklearn.linear_model import LogisticRegression

    return _fitted(LogisticRegression(max_iter=200), x, classes, asked, count)


def _boosting(x: Real, classes: Codes, asked: Real, count: int) -> Real:
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        max_iter=50, learning_rate=0.15, max_leaf_nodes=12, early_stopping=False, random_state=0
    )
    return _fitted(model, x, classes, asked, count)


def _fitted(model: object, x: Real, classes: Codes, asked: Real, count: int) -> Real:
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    known = np.unique(classes)
    predicted = np.zeros((len(asked), count))
    if len(known) == 1:
        predicted[:, known] = 1.0
        return predicted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a model that has not converged is a lower bound as well
        predicted[:, known] = model.fit(x, classes).predict_proba(asked)  # type: ignore[attr-defined]
    return predicted


def _naive(x: Real, classes: Codes, asked: Real, count: int) -> Real:
    return _gaussians(x, classes, asked, count, np.eye(x.shape[1]))


def _gaussians(x: Real, classes: Codes, asked: Real, count: int, keep: Real | float = 1.0) -> Real:
    """A Gaussian for each class; `keep` says which entries of its covariance matrix are not 0."""
    n, d = x.shape
    scores = np.full((len(asked), count), -np.inf)
    pooled = np.cov(x.T).reshape(d, d)
    for c in np.unique(classes):
        own = x[classes == c]
        covariance = np.cov(own.T).reshape(d, d) if len(own) > d + 1 else pooled
        root = np.linalg.cholesky((1 - _REGULAR) * covariance * keep + _REGULAR * np.eye(d))
        away = np.linalg.solve(root, (asked - own.mean(axis=0)).T)
        scores[:, c] = math.log(len(own) / n) - np.log(np.diag(root)).sum() - 0.5 * (away**2).sum(axis=0)
    scores -= scores.max(axis=1, keepdims=True)
    densities = np.exp(scores)
    return np.asarray(densities / densities.sum(axis=1, keepdims=True), dtype=np.float64)
