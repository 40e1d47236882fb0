"""The tasks that every estimator of mutual information is scored on, and `evaluate`.

`TASKS` are the 18 of the scoreboard. `EXTRA_TASKS` are other laws; the rule of `auto` was improved on some of them, so
that they are a check and no test. Values in nats are closed forms, or quadratures and long simulations that
`tests/information/test_tasks.py` repeats.

For the zero-inflated Poisson law (x exponential, y 0 with probability p, otherwise Poisson with mean x) the literature
gives (1 - p) 0.30124, which is I(x; y, whether y was inflated), an upper bound. At p = 0.15 that is 0.25606, the truth
0.22978.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from narrows.core.seeds import derive
from narrows.information import laws
from narrows.information.inputs import Real
from narrows.information.laws import Law

if TYPE_CHECKING:
    from pandas import DataFrame

Estimator = Callable[[Real, Real], Any]


@dataclass(frozen=True)
class Task:
    """A law to draw from: `sample(n, seed)` gives x (n, dim_x) and y (n, dim_y), which share `mi` nats.

    `mi_se` is the standard error of that value where it is a simulation. `log_ratio`, where known, is
    ln p(x, y) / p(x) p(y) of each row. `discrete` names the sides that are one column of few values.
    """

    name: str
    sample: Callable[[int, int], tuple[Real, Real]]
    mi: float
    mi_se: float
    dim_x: int
    dim_y: int
    log_ratio: Callable[[Real, Real], Real] | None = None
    discrete: Literal["x", "y", "both"] | None = None

    @property
    def tolerance(self) -> float:
        """How far the mean estimate may be off for the task to be passed: 0.05 nats or a tenth."""
        return max(0.05, 0.1 * self.mi)


def evaluate(
    estimator: Estimator, tasks: Mapping[str, Task] | None = None, n: int = 5000, seeds: Iterable[int] = range(5)
) -> DataFrame:
    """Score an estimator: one row a task (default `TASKS`), from `n` rows of data and one run a seed.

    The columns are task, n, runs, mi, mean, sd, bias, rmse, seconds (a run), memory (MiB by which the process grew at
    most, NaN where the system does not tell), passed (mean within `Task.tolerance`) and error. A run that raises or
    gives no finite number makes the task failed and its figures NaN; `error` says why. `estimator` takes x and y and
    gives a float or an `Estimate`.
    """
    import pandas as pd

    chosen = TASKS if tasks is None else tasks
    return pd.DataFrame([_score(estimator, task, n, list(seeds)) for task in chosen.values()])


def _score(estimator: Estimator, task: Task, n: int, seeds: list[int]) -> dict[str, Any]:
    values, seconds, memory, error = [], [], math.nan, ""
    for seed in seeds:
        x, y = task.sample(n, seed)
        before = _reset_peak()
        start = time.perf_counter()
        try:
            value = float(estimator(x, y))
        except Exception as problem:  # whatever it is, it is what the estimator does on this task
            error = f"{type(problem).__name__}: {problem}"
            break
        seconds.append(time.perf_counter() - start)
        memory = np.fmax(memory, _peak() - before)
        values.append(value)
        if not math.isfinite(value):
            error = f"gave {value}"
            break
    mean = float(np.mean(values)) if values and not error else math.nan
    return {
        "task": task.name,
        "n": n,
        "runs": len(values),
        "mi": task.mi,
        "mean": mean,
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 and not error else math.nan,
        "bias": mean - task.mi,
        "rmse": float(np.sqrt(np.mean((np.array(values) - task.mi) ** 2))) if values and not error else math.nan,
        "seconds": float(np.mean(seconds)) if seconds else math.nan,
        "memory": float(memory),
        "passed": bool(abs(mean - task.mi) <= task.tolerance),
        "error": error,
    }


def _reset_peak() -> float:
    """The process's memory in MiB, from which its peak is counted anew; NaN where the system cannot do that."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed must not be there to be used again unseen
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError, TypeError):
        return math.nan
    return _status("VmRSS")


def _peak() -> float:
    return _status("VmHWM")


def _status(key: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return math.nan
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(key)), math.nan)


def _task(name: str, law: Law) -> Task:
    def sample(n: int, seed: int) -> tuple[Real, Real]:
        return law.draw(np.random.default_rng(derive(seed, "task", name)), n)

    return Task(name, sample, law.mi, law.mi_se, *law.dims, law.log_ratio, law.discrete)


def _tasks(entries: Mapping[str, Law]) -> dict[str, Task]:
    return {name: _task(name, law) for name, law in entries.items()}


_SIGNS = 0.4084425498  # one pair of signs with rho = 0.9
# 20 pairs with the correlation share that many nats.
_STEPS = {i: math.sqrt(1 - math.exp(-i / 10)) for i in (2, 4, 6, 8, 10)}
_PAIR = laws.pairs([0.75], 1, 1)
_TWO = laws.pairs([0.8, 0.8], 5, 5)


def _cube(x: Real) -> Real:
    return np.asarray(x**3)


def _same(x: Real) -> Real:
    return x


def _random_covariance(d: int, seed: int) -> Real:
    wide = np.random.default_rng(seed).standard_normal((d, d + 15))
    covariance = wide @ wide.T
    scale = np.sqrt(np.diag(covariance))
    return np.asarray(covariance / np.outer(scale, scale))


def _blocks(dice: np.random.Generator, n: int) -> tuple[Real, Real]:
    """Student's t with 2 degrees of freedom in 5 columns a side, each side with its own scale in a row."""
    x, y = dice.standard_normal((2, n, 5)) / np.sqrt(dice.chisquare(2, (2, n, 1)) / 2)
    return x, y


TASKS: Mapping[str, Task] = _tasks(
    {
        "T01": _PAIR,
        "T02": _PAIR.mapped(laws.bimodal(0.3, 0, 5), laws.bimodal(0.5, -1, 3)),
        "T03": _PAIR.mapped(laws.half_cube, laws.half_cube),
        "T04": laws.uniform_noise(0.1),
        "T05": laws.uniform_noise(0.75),
        "T06": laws.signs(1, 0.9, _SIGNS),
        "T07": _PAIR.mapped(laws.swiss_roll, laws.uniform),
        "T08": laws.student(np.eye(4), 2, 1).mapped(np.arcsinh, np.arcsinh),
        "T09": laws.student(np.eye(10), 5, 2),
        "T10": _TWO,
        "T11": laws.pairs([0.8, 0.8], 25, 25),
        "T12": laws.dense(25, 0.5),
        "T13": laws.pairs([0.8, 0.8], 3, 3).mapped(laws.spiral(0, 1, 1 / 3), laws.spiral(1, 2, 1 / 3)),
        "T14": laws.pairs([_STEPS[8]] * 20, 20, 20),
        "T15": laws.staggered(5),
        "T16": laws.pairs([], 10, 10),
        "T17": laws.concentric(5, 0.6273911434),
        "T18": laws.coin(1, 0.3368308203),
    }
)

EXTRA_TASKS: Mapping[str, Task] = _tasks(
    {f"rho-{rho}": laws.pairs([rho], 1, 1) for rho in (0.5, 0.9, 0.99, 0.9999)}
    | {f"dense-{d}": laws.dense(d, 0.5) for d in (2, 3, 5, 10, 50)}
    | {f"student-{nu}-{d}": laws.student(np.eye(2 * d), d, nu) for nu, d in ((1, 1), (2, 2), (2, 3), (3, 3), (3, 5))}
    | {f"staircase-{i}": laws.pairs([rho] * 20, 20, 20) for i, rho in _STEPS.items()}
    | {f"staircase-{i}-cubed": laws.pairs([rho] * 20, 20, 20).mapped(_same, _cube) for i, rho in _STEPS.items()}
    | {
        "concentric-3": laws.concentric(3, 0.4554231054),
        "concentric-25": laws.concentric(25, 1.1907680267),
        "inliers-20": laws.inliers(0.2, 0.6361, 0.0005, _TWO),
        "inliers-50": laws.inliers(0.5, 0.2697, 0.0002, _TWO),
        "coin-0.5": laws.coin(0.5, 0.1114214822),
        "coin-2": laws.coin(2, 0.6327201937),
        "flipped-0.1": laws.flipped(0.1),
        "flipped-0.25": laws.flipped(0.25),
        "poisson": laws.inflated_poisson(0.0, 0.3012447796),
        "poisson-inflated": laws.inflated_poisson(0.15, 0.2297759639),
        "blocks": Law(_blocks, 0.0, (5, 5)),
        "student-copula": laws.student(np.eye(6) + 0.5 * (np.eye(6, k=3) + np.eye(6, k=-3)), 3, 4).mapped(
            np.exp, _cube
        ),
        "square": laws.uniform_noise(0.2, 2),
        "norm": laws.of_function(lambda x: np.linalg.norm(x, axis=1, keepdims=True), 0.3, 4, 0.9012017090),
        "signs-3": laws.signs(2, 0.9, _SIGNS, 3),
        "covariance": laws.normal(_random_covariance(20, 1), 10).mapped(np.sinh, _cube),
        "clusters": laws.named_clusters(0.8128, 0.0003),
        "clustered": laws.clustered(0.8, 0.8452327551),
        "ring": laws.ring(4.0),
        "null-1": laws.pairs([], 1, 1).mapped(laws.exponential, laws.exponential),
        "null-2": laws.pairs([], 2, 2).mapped(laws.exponential, laws.exponential),
        "null-3": laws.pairs([], 3, 3).mapped(laws.exponential, laws.exponential),
        "signs-10": laws.signs(1, 0.9, _SIGNS, 10),
        "signs-10-rotated": laws.signs(1, 0.9, _SIGNS, 10).mapped(laws.rotation(10, 1), laws.rotation(10, 2)),
        "signs-15-rotated": laws.signs(2, 0.9, _SIGNS, 15).mapped(laws.rotation(15, 3), laws.rotation(15, 4)),
        "signs-10-all": laws.signs(10, 0.9, _SIGNS, 10).mapped(laws.rotation(10, 5), laws.rotation(10, 6)),
        "sines-10": laws.beside(*[laws.of_function(lambda x: np.sin(2 * x), 0.3, 1, 0.8615784849)] * 10).mapped(
            laws.rotation(10, 7), laws.rotation(10, 8)
        ),
        "parabola-20": laws.of_function(lambda x: x.sum(axis=1, keepdims=True) ** 2 / 20, 0.5, 20, 0.8027025598),
        "scaled": laws.scaled(0.4203413208),
        "scaled-8": laws.scaled(0.4203413208, 8),
        "sums": laws.sums(0.5480092059),
        "bits": laws.flipped(0.1, 3),
        "label-beside": laws.beside(laws.shown_label(0.6191444851), laws.pairs([0.8], 2, 1)),
        "bits-beside": laws.beside(laws.flipped(0.1), laws.pairs([0.8], 2, 2)),
        "rectified": laws.cut(laws.pairs([0.8], 1, 1), _same, laws.rectified, 0.3887035000),
        "rectified-3": laws.cut(laws.pairs([0.8] * 3, 3, 3), laws.rectified, laws.rectified, 3 * 0.3464181433),
        "rounded": laws.cut(_PAIR, laws.rounded(0.05), laws.rounded(0.05), 0.4130715848),
    }
)
