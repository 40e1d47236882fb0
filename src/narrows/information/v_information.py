"""Predictive V-information: how much of y a family V of predictors can read from x.

Xu, Zhao, Song, Stewart and Ermon, "A Theory of Usable Information Under Computational Constraints" (2020): with
f[x] the law that a predictor f of V gives for y, and f[] one that ignores x,

    I_V(x -> y) = H_V(y) - H_V(y|x) = inf E[-log f[](y)] - inf E[-log f[x](y)].

Unlike mutual information it is not symmetric, and computation can raise it: a linear family reads nothing from two
fair bits about their exclusive or, and all of it once their product is a column.

Here every row is scored by a predictor that was fitted without it. For a label y the predictors give probabilities; for
real columns, which become normal scores, they give a Gaussian with the covariance of their errors. Each may be mixed
with, or shrunk towards, the law that ignores x, by a share chosen on rows that the fit has not seen.

It is a lower bound of mutual information, in expectation, for a label (the loss is at least H(y|x), the plug-in entropy
at most H(y)) and for one real column (its normal scores have the law that H_V assumes). Several real columns are
jointly normal only if their copula is, so there it is no bound, and a caution says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.core.seeds import derive
from narrows.information.discrete import counted_entropy
from narrows.information.estimate import Caution, MIEstimate, saturation
from narrows.information.inputs import (
    Codes,
    Real,
    Samples,
    codes,
    column_cautions,
    columns,
    is_label,
    normal_scores,
    same_rows,
)
from narrows.information.ridge_probe import RidgeProbe

USABLE = register_reference(
    Reference(
        "arXiv:2002.10689",
        "A Theory of Usable Information Under Computational Constraints",
        ("Yilun Xu", "Shengjia Zhao", "Jiaming Song", "Russell Stewart", "Stefano Ermon"),
        2020,
        "International Conference on Learning Representations",
    )
)

FAMILIES = ("linear", "boosting")
_LEAST = 40
_PENALTIES = (0.01, 0.1, 1.0, 10.0)  # of logistic regression: 1 / its C
_MIXTURES = np.array([0.001, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0])
_NARROWEST = 1e-9  # least variance of an error, beside the unit variance of normal scores
_TIED = 0.05

Fit = Callable[[Real, Any], Any]


@cites(USABLE.key)
def v_information(x: Samples, y: Samples, family: str | Any = "linear", *, folds: int = 5, seed: int = 0) -> MIEstimate:
    """Predictive V-information in nats from x (n, dx) or labels to y, labels (n,) or real (n, dy): held out.

    `family`: "linear" (multinomial logistic or ridge regression), "boosting" (boosted trees), or a scikit-learn
    classifier with `predict_proba` (y is a label) or regressor (y is real). A label is a column that `is_label`.
    `kind` is "lower" where it bounds mutual information. The standard error is that of the mean over rows; it leaves
    out what other training rows would change. Raises DataError for fewer than 40 rows or 10 a column of y, for a y
    that never changes, and for columns of y that repeat each other. Source: Xu et al. 2020.
    """
    a = _inputs(x)
    labelled = is_label(y)
    b: Any = codes(y, "y") if labelled else columns(y, "y")
    width = 1 if labelled else b.shape[1]
    same_rows(a, b, max(_LEAST, 10 * width))
    if not 2 <= folds <= len(a) // 10:
        raise DataError(f"{len(a)} rows can be held out in 2 to {len(a) // 10} folds, got {folds}")
    score = _of_label if labelled else _of_columns
    dice = np.random.default_rng(derive(seed, "v_information"))
    terms, alone, limits = score(a, b, _members(family, labelled, seed), folds, dice)
    value = float(terms.mean())
    return MIEstimate(
        value,
        "v_information",
        len(a),
        (1 if is_label(x) else a.shape[1], width),
        standard_error=float(terms.std(ddof=1) / math.sqrt(len(a))),
        kind="point" if any(c.trouble in ("assumption", "ties") for c in limits) else "lower",
        cautions=(*column_cautions(x=a), *limits, *saturation(value, len(a))),
        details={
            "family": family if isinstance(family, str) else type(family).__name__,
            "entropy": alone,
            "conditional entropy": alone - value,
        },
    )


def _inputs(x: Samples) -> Real:
    """Real columns, or one column per value of a label."""
    if not is_label(x):
        return columns(x, "x")
    number = codes(x, "x")
    return np.asarray(number[:, None] == np.arange(number.max() + 1), dtype=np.float64)


def _members(family: str | Any, labelled: bool, seed: int) -> list[Fit]:
    """Ways to fit a member of the family to (x, y); of several the best on unseen rows is taken."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression
    from sklearn.multioutput import MultiOutputRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if family == "linear" and labelled:
        members = [make_pipeline(StandardScaler(), LogisticRegression(C=1 / p, max_iter=1000)) for p in _PENALTIES]
    elif family == "linear":
        members = [RidgeProbe()]
    elif family == "boosting":
        state = derive(seed, "boosting") % 2**32
        if labelled:
            members = [HistGradientBoostingClassifier(random_state=state)]
        else:
            members = [MultiOutputRegressor(HistGradientBoostingRegressor(random_state=state))]
    elif hasattr(family, "fit") and hasattr(family, "predict_proba" if labelled else "predict"):
        members = [family]
    else:
        want = "classifier with predict_proba" if labelled else "regressor"
        raise DataError(f"the family is one of {', '.join(FAMILIES)} or a scikit-learn {want}, got {family!r}")
    return [partial(_fitted, member) for member in members]


def _fitted(member: Any, x: Real, y: Any) -> Any:
    from sklearn.base import clone
    from sklearn.dummy import DummyClassifier

    alone = y.ndim == 1 and (y == y[0]).all()  # one label only, of which no classifier would make a model
    return (DummyClassifier() if alone else clone(member)).fit(x, y)


def _of_label(
    x: Real, y: Codes, members: Sequence[Fit], folds: int, dice: np.random.Generator
) -> tuple[Real, float, tuple[Caution, ...]]:
    """Log of each row's held-out probability over its label's frequency, H(y), and cautions."""
    counts = np.bincount(y)
    if len(counts) < 2:
        raise DataError("y has one value only: there is nothing to predict")
    frequency = counts / len(y)
    own = frequency[y]
    gained = np.empty(len(y))
    for train, test in _splits(y, folds, dice):
        tried, kept = next(_splits(y[train], 4, dice))
        tried, kept = train[tried], train[kept]
        mixtures = [_mixture(_chance(fit(x[tried], y[tried]), x[kept], y[kept]), own[kept]) for fit in members]
        best = min(range(len(members)), key=lambda i: mixtures[i][0])
        share = mixtures[best][1]
        chance = _chance(members[best](x[train], y[train]), x[test], y[test])
        gained[test] = (1 - share) * chance + share * own[test]
    terms = np.log(gained) - np.log(own)
    rare = int((counts < 2 * folds).sum())
    text = f"{rare} of {len(counts)} classes of y have fewer than {2 * folds} rows, too few to learn what they are like"
    return terms, counted_entropy(y)[0], (Caution("few samples", text),) if rare else ()


def _chance(model: Any, x: Real, y: Codes) -> Real:
    """Probability that a fitted classifier gives to each row's label; 0 for a label it has not seen."""
    given = model.predict_proba(x)
    place = np.searchsorted(model.classes_, y).clip(max=len(model.classes_) - 1)
    return np.where(model.classes_[place] == y, given[np.arange(len(y)), place], 0.0)


def _mixture(chance: Real, own: Real) -> tuple[float, float]:
    """The least loss of a mixture with the law that ignores x, and the share of that law."""
    mixed = (1 - _MIXTURES) * chance[:, None] + _MIXTURES * own[:, None]
    losses = -np.log(mixed).mean(axis=0)
    return float(losses.min()), float(_MIXTURES[losses.argmin()])


def _of_columns(
    x: Real, y: Real, members: Sequence[Fit], folds: int, dice: np.random.Generator
) -> tuple[Real, float, tuple[Caution, ...]]:
    """Log of each row's held-out Gaussian density over that without x, the entropy without x, and cautions."""
    scores = normal_scores(y)
    if (np.ptp(y, axis=0) == 0).any():
        raise DataError("a column of y never changes: there is nothing to predict in it")
    spread = scores.T @ scores / len(y)
    if np.linalg.eigvalsh(spread)[0] < _NARROWEST:
        raise DataError("columns of y repeat each other, up to monotone maps: remove all but one of them")
    gained = np.empty(len(y))
    (fit,) = members
    for train, test in _splits(np.zeros(len(y), dtype=np.int64), folds, dice):
        tried, kept = next(_splits(np.zeros(len(train), dtype=np.int64), 4, dice))
        tried, kept = train[tried], train[kept]
        guess, truth = _guess(fit(x[tried], scores[tried]), x[kept], y.shape[1]), scores[kept]
        power = (guess**2).sum(axis=0)
        share = ((guess * truth).sum(axis=0) / np.where(power > 0, power, 1.0)).clip(0.0, 1.0)
        error = truth - share * guess
        guess = share * _guess(fit(x[train], scores[train]), x[test], y.shape[1])
        gained[test] = _log_gaussian(scores[test] - guess, error.T @ error / len(kept))
    terms = gained - _log_gaussian(scores, spread)
    return terms, float(-_log_gaussian(scores, spread).mean()), _cautions_of(y)


def _guess(model: Any, x: Real, width: int) -> Real:
    # A regressor of one column may answer (n,): never let that meet (n, 1).
    return np.asarray(model.predict(x), dtype=np.float64).reshape(len(x), width)


def _log_gaussian(error: Real, covariance: Real) -> Real:
    values, vectors = np.linalg.eigh(covariance)
    values = values.clip(_NARROWEST)
    squares = ((error @ vectors) ** 2 / values).sum(axis=1)
    return np.asarray(-0.5 * (squares + np.log(2 * np.pi * values).sum()), dtype=np.float64)


def _cautions_of(y: Real) -> tuple[Caution, ...]:
    found = []
    if y.shape[1] > 1:
        text = (
            f"a lower bound only if the normal scores of the {y.shape[1]} columns of y are jointly normal; "
            "for a sure one ask column by column and take the largest"
        )
        found.append(Caution("assumption", text))
    counts = np.unique(y, axis=0, return_counts=True)[1]
    tied = counts[counts > 1].sum() / len(y)
    if tied > _TIED:
        text = (
            f"{100 * tied:.0f} % of the rows of y are the same as another one: a Gaussian can gather on a repeated "
            "value without limit, and the figure is then no bound; pass whole numbers as integers, so that they are "
            "labels"
        )
        found.append(Caution("ties", text))
    return tuple(found)


def _splits(
    strata: Codes, folds: int, dice: np.random.Generator
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of (other rows, rows of the fold), at random, every stratum spread over the folds."""
    order = dice.permutation(len(strata))
    order = order[np.argsort(strata[order], kind="stable")]
    fold = np.empty(len(strata), dtype=np.int64)
    fold[order] = np.arange(len(strata)) % folds
    for i in range(folds):
        yield np.flatnonzero(fold != i), np.flatnonzero(fold == i)
