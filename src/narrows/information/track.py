"""Watching the layers of a model while it trains: what each keeps, at moments that the training can afford.

    with track(model, ["body.0", "body.2"], inputs, labels) as tracker:
        for batch in loader:
            ...
            optimizer.step()
            tracker.step()
    tracker.moments

A measurement passes a fixed sample of rows through the model in evaluation mode, keeps one vector a row and layer only
while it is measured, and leaves the model, its modes and the random numbers as they were.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from narrows.core.errors import DataError, NarrowsError
from narrows.core.seeds import derive
from narrows.information.activations import Pool, layer_activations, require_layers
from narrows.information.diffusion_spectral import diffusion_spectral_entropy
from narrows.information.estimate import Estimate, MIEstimate
from narrows.information.inputs import Samples, is_label
from narrows.information.label import label
from narrows.information.methods import DEPENDENCE, ENTROPY, MUTUAL_INFORMATION, dependence, entropy, mutual_information
from narrows.information.plane import KernelNoise, layer_information

if TYPE_CHECKING:
    from transformers import TrainerCallback

Measure = Callable[[Tensor, Samples], Estimate]
"""What is asked of a layer: its activations (n, d) and the labels (n,) to an estimate."""

_BATCH = 256
_GROWTH = 1.2  # moments lie at steps that grow by this factor


@dataclass(frozen=True)
class Moment:
    """What the layers kept after `step` steps, by layer and measure; text instead says why there is no estimate."""

    step: int
    seconds: float
    layers: Mapping[str, Mapping[str, Estimate | str]]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        found = {
            layer: {name: {"error": e} if isinstance(e, str) else e.to_json() for name, e in values.items()}
            for layer, values in self.layers.items()
        }
        return {"step": self.step, "seconds": self.seconds, "layers": found}


def about_label(t: Tensor, y: Samples) -> MIEstimate:
    """What activations tell of the labels: a lower bound by classification, `auto` where the labels are values."""
    return label(t, y, trees=False) if is_label(y) else mutual_information(t, y)


def about_input(t: Tensor, _: Samples) -> MIEstimate:
    """What activations tell of the input once noise as strong as their mean variance is added: an upper bound.

    Without noise a deterministic layer tells all there is: ln n for n different inputs, infinite for a continuous one.
    The figure compares layers and moments; it is no property of the network alone.
    """
    rows = t.numpy()
    found = layer_information(rows, np.zeros(len(rows), dtype=np.int64), KernelNoise("std", 1.0))
    details = {"setting": found.setting, "ceiling": found.ceiling, "lower bound": found.i_xt_lower}
    return MIEstimate(
        found.i_xt,
        "about_input",
        len(rows),
        (1, rows.shape[1]),
        kind="upper",
        cautions=found.cautions,
        details=details,
    )


def spectrum(t: Tensor, _: Samples) -> Estimate:
    """Diffusion spectral entropy of activations, with a bandwidth that follows their scale."""
    return diffusion_spectral_entropy(t, sigma="median")


QUESTIONS: Mapping[str, Measure] = {"label": about_label, "input": about_input, "spectrum": spectrum}
"""What is asked of every layer unless something else is."""


class Tracker:
    """See `track`, which makes one. `moments` are the measurements so far."""

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str],
        batches: Sequence[Any],
        labels: Samples,
        measures: Mapping[str, Measure],
        *,
        every: int | None,
        overhead: float,
        columns: int,
        pool: Pool,
        call: Callable[[nn.Module, Any], Any] | None,
    ) -> None:
        self.model, self.layers, self.batches, self.labels, self.measures = model, layers, batches, labels, measures
        self.every, self.overhead, self.columns, self.pool, self.call = every, overhead, columns, pool, call
        self.moments: list[Moment] = []
        self.count = 0
        self._next = 1
        self._spent = 0.0
        self._begun = time.monotonic()

    def step(self) -> None:
        """A training step is done: measure if it is time."""
        self.count += 1
        if self.every is not None:
            if self.count % self.every == 0:
                self.measure()
        elif self.count >= self._next and self._affordable():
            self.measure()
            self._next = max(self.count + 1, math.ceil(self.count * _GROWTH))

    def measure(self) -> Moment:
        """Measure all layers now."""
        start = time.monotonic()
        found = {layer: self.ask(t) for layer, t in self.activations().items()}
        moment = Moment(self.count, time.monotonic() - start, found)
        self._spent += moment.seconds
        self.moments.append(moment)
        return moment

    def activations(self) -> dict[str, Tensor]:
        """What the layers answer now, (n, d) each."""
        call = {} if self.call is None else {"call": self.call}
        return layer_activations(self.model, self.layers, self.batches, pool=self.pool, **call)

    def ask(self, activations: Tensor) -> dict[str, Estimate | str]:
        """The estimates about one layer's activations (n, d), or why there is none."""
        t = principal(activations, self.columns)
        found: dict[str, Estimate | str] = {}
        for name, measure in self.measures.items():
            try:
                found[name] = measure(t, self.labels)
            except NarrowsError as error:
                found[name] = str(error)
        return found

    def callback(self) -> TrainerCallback:
        """The tracker as a callback of `transformers.Trainer`."""
        from transformers import TrainerCallback

        tracker = self

        class Steps(TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                tracker.step()

        return Steps()

    def to_json(self) -> dict[str, Any]:
        """All moments as a JSON-ready dictionary."""
        return {
            "layers": list(self.layers),
            "measures": list(self.measures),
            "rows": len(np.asarray(self.labels)),
            "columns": self.columns,
            "moments": [moment.to_json() for moment in self.moments],
        }

    def __enter__(self) -> Self:
        self._begun = time.monotonic()
        self.measure()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self.moments[-1].step != self.count:
            self.measure()

    def _affordable(self) -> bool:
        """Whether one more measurement, and the last one after it, keep their share of the time below the limit."""
        training = time.monotonic() - self._begun - self._spent
        return self._spent + 2 * self.moments[-1].seconds <= self.overhead * training if self.moments else True


def track(
    model: nn.Module,
    layers: Sequence[str],
    inputs: Any,
    labels: Samples | None = None,
    *,
    measures: Sequence[str] | Mapping[str, Measure] = tuple(QUESTIONS),
    samples: int = 1000,
    every: int | None = None,
    overhead: float = 0.1,
    columns: int = 32,
    pool: Pool = "mean",
    call: Callable[[nn.Module, Any], Any] | None = None,
    seed: int = 0,
) -> Tracker:
    """A context manager that measures the named `layers` of a model while it trains.

    `inputs` and `labels`: tensors of equal length, or `inputs` alone as an iterable of (inputs, labels) batches, such
    as a DataLoader; `samples` of their rows are drawn and kept. `measures`: names of `QUESTIONS` or of estimators,
    asked about activations and labels (or activations alone, if they are entropies), or functions of both by name.
    Without `every`, moments lie at steps that grow by a fifth, and further apart where they would take more than
    `overhead` of the training time; with it they come every so many steps. The first and the last are always taken,
    so only a training shorter than two moments / `overhead` takes more.
    Activations with more than `columns` columns are brought to their principal directions. `pool` and `call` are those
    of `layer_activations`. Raises NarrowsError for unknown layers, estimators, and data that does not fit together.
    """
    rows, answers = _drawn(inputs, labels, samples, seed)
    if not layers:
        raise NarrowsError("no layers were named")
    require_layers(model, layers)
    if every is not None and every < 1:
        raise NarrowsError(f"every must be at least 1, got {every}")
    if not 0 < overhead < 1 or columns < 1:
        raise NarrowsError(f"overhead lies between 0 and 1 and columns from 1, got {overhead:g} and {columns}")
    asked = measures if isinstance(measures, Mapping) else {name: named(name) for name in measures}
    batches = [rows[i : i + _BATCH] for i in range(0, len(rows), _BATCH)]
    return Tracker(
        model,
        list(layers),
        batches,
        answers,
        asked,
        every=every,
        overhead=overhead,
        columns=columns,
        pool=pool,
        call=call,
    )


def named(name: str) -> Measure:
    """The question or the estimator of that name, asked of a layer; NarrowsError where there is none."""
    if name in QUESTIONS:
        return QUESTIONS[name]
    if name in ENTROPY:
        return lambda t, _: entropy(t, name)
    if name in DEPENDENCE:
        return lambda t, y: dependence(t, y, name)
    if name in MUTUAL_INFORMATION:
        return lambda t, y: mutual_information(t, y, name)
    known = [*QUESTIONS, *MUTUAL_INFORMATION, *ENTROPY, *DEPENDENCE]
    raise NarrowsError(f"no measure is called {name!r}; there are {', '.join(dict.fromkeys(known))}")


def principal(t: Tensor, columns: int) -> Tensor:
    """Rows in their `columns` principal directions, float64; as they are where there are no more columns than that."""
    centred = t.double() - t.double().mean(dim=0)
    if t.shape[1] <= columns:
        return t.double()
    directions = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -columns:]
    found: Tensor = centred @ directions
    return found


def reservoir(rows: Iterable[Any], size: int, seed: int) -> list[Any]:
    """`size` items of a stream of unknown length, each with equal chance, in memory for `size` of them."""
    dice = np.random.default_rng(derive(seed, "reservoir"))
    kept: list[Any] = []
    for seen, row in enumerate(rows):
        if seen < size:
            kept.append(row)
        elif (place := int(dice.integers(seen + 1))) < size:
            kept[place] = row
    return kept


def _drawn(inputs: Any, labels: Samples | None, samples: int, seed: int) -> tuple[Tensor, Samples]:
    """A sample of the rows, and their labels."""
    if samples < 2:
        raise NarrowsError(f"at least 2 samples are needed, got {samples}")
    if labels is None:
        return _together(reservoir(_rows(inputs), samples, seed))
    x = torch.as_tensor(inputs)
    y = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if len(x) != len(y):
        raise DataError(f"there are {len(x)} inputs and {len(y)} labels: they must belong together row by row")
    chosen = sorted(reservoir(range(len(x)), samples, seed))
    return x[chosen], y[chosen]


def _rows(batches: Iterable[Any]) -> Iterator[tuple[Tensor, Any]]:
    for batch in batches:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise DataError("without labels, inputs must be an iterable of (inputs, labels) batches")
        yield from zip(*(torch.as_tensor(part).detach().cpu() for part in batch), strict=True)


def _together(rows: list[tuple[Tensor, Any]]) -> tuple[Tensor, Samples]:
    if not rows:
        raise DataError("there are no batches")
    try:
        return torch.stack([x for x, _ in rows]), np.array([y.item() for _, y in rows])
    except RuntimeError as error:
        raise DataError(f"rows of different shapes cannot be measured together: {error}") from error
