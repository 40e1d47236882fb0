"""Mutual information from a trained critic: InfoNCE, MINE, NWJ and SMILE, the value of held-out rows.

A critic f(x, y) = g(x) . h(y), two small networks, is trained to maximise one of the `objectives` on half of the rows
(Adam). The other half is in two parts: the step that is best on one part gives the value on the other, both ways
round, and the two are averaged. So neither the rows that trained the critic nor those that chose the step are
reported: the value of the training rows is far too high, and that of the last step far too low. Training stops when no
part has improved for a while.

Columns become normal scores first, which changes no mutual information and tames long tails; a label becomes
indicator columns. InfoNCE, MINE and NWJ estimate lower bounds, as far as the critic was able to learn. No such
bound from n rows can certify more than O(ln n) nats (McAllester and Stratos 2020, arXiv:1811.04251).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.core.seeds import generator
from narrows.information import objectives
from narrows.information.estimate import Caution, Kind, MIEstimate
from narrows.information.inputs import Samples, codes, column_cautions, columns, is_label, normal_scores, same_rows
from narrows.information.objectives import Bound

LIMITS = register_reference(
    Reference(
        "arXiv:1811.04251",
        "Formal limitations on the measurement of mutual information",
        ("David McAllester", "Karl Stratos"),
        2020,
        "International Conference on Artificial Intelligence and Statistics",
    )
)

_LEAST = 20  # rows
_MATRIX = 2048  # held-out rows that are scored against each other at once
_HELD_OUT = 5000  # rows of each held-out part at most
_EVERY = 20  # steps between two looks at the held-out rows
_PATIENCE = 200  # steps without a better value until training stops
_BETTER = 1e-3  # nats that count as better


@dataclass(frozen=True)
class _Recipe:
    """How a method trains and what it reports.

    `choose`: by what a step is chosen (None: by what is reported, less its error). `capped`: see `_cap`.
    """

    bound: Bound
    kind: Kind
    ascend: Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]
    choose: Callable[[Tensor], Tensor] | None = None
    capped: bool = False
    shift: float = 0.0  # is added to what the critic says


_RECIPES: Mapping[str, _Recipe] = {
    "infonce": _Recipe("infonce", "lower", lambda scores, _: (objectives.infonce_bound(scores), None)),
    "mine": _Recipe("dv", "lower", objectives.mine_objective, capped=True),
    # NWJ's best critic is 1 + the log ratio: one that knows nothing gives 0.
    "nwj": _Recipe("nwj", "lower", lambda scores, _: (objectives.nwj_bound(scores), None), capped=True, shift=1.0),
    "smile": _Recipe(
        "smile", "point", lambda scores, _: (objectives.smile_objective(scores), None), objectives.js_objective
    ),
}


@dataclass(frozen=True)
class _Training:
    steps: int
    batch: int
    rate: float
    seed: int

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 2 or not self.rate > 0:
            raise DataError(
                "a critic needs at least 1 step, batches of at least 2 and a positive rate, got "
                f"steps={self.steps}, batch={self.batch}, rate={self.rate}"
            )


class SeparableCritic(nn.Module):
    """Scores (n, m) of x (n, dx) and y (m, dy): the inner products of two networks dx-64-64-32 and dy-64-64-32."""

    def __init__(self, dx: int, dy: int, *, hidden: int = 64, embedding: int = 32, seed: int = 0) -> None:
        super().__init__()
        dice = generator(seed, "critic")
        self.x = _network(dx, hidden, embedding, dice)
        self.y = _network(dy, hidden, embedding, dice)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = self.x(x) @ self.y(y).T
        return found


@cites(objectives.INFONCE.key, LIMITS.key)
def infonce(
    x: Samples, y: Samples, *, steps: int = 2000, batch: int = 256, rate: float = 1e-3, seed: int = 0
) -> MIEstimate:
    """A lower bound in nats of the mutual information of x (n, dx) and y (n, dy) or labels: InfoNCE, held out.

    At most `steps` steps of Adam at `rate` on batches of `batch` rows. It is steady, and saturates near ln(batch),
    about which there is a caution. The standard error is over held-out rows, for the critic that was found. Raises
    DataError for fewer than 20 rows. Source: van den Oord et al. 2018.
    """
    return _neural("infonce", x, y, _Training(steps, batch, rate, seed))


@cites(objectives.MINE.key, LIMITS.key)
def mine(
    x: Samples, y: Samples, *, steps: int = 2000, batch: int = 256, rate: float = 1e-3, seed: int = 0
) -> MIEstimate:
    """A lower bound in nats of the mutual information of x (n, dx) and y (n, dy) or labels: MINE, held out.

    Options and errors as in `infonce`. Its variance is at least (e^I - 1) / n, so that large values are noise, about
    which there is a caution. Source: Belghazi et al. 2018.
    """
    return _neural("mine", x, y, _Training(steps, batch, rate, seed))


@cites(objectives.BOUNDS.key, LIMITS.key)
def nwj(
    x: Samples, y: Samples, *, steps: int = 2000, batch: int = 256, rate: float = 1e-3, seed: int = 0
) -> MIEstimate:
    """A lower bound in nats of the mutual information of x (n, dx) and y (n, dy) or labels: NWJ, held out.

    Options and errors as in `infonce`, variance as of `mine`. Source: Poole et al. 2019.
    """
    return _neural("nwj", x, y, _Training(steps, batch, rate, seed))


@cites(objectives.SMILE.key, LIMITS.key)
def smile(
    x: Samples, y: Samples, *, steps: int = 2000, batch: int = 256, rate: float = 1e-3, seed: int = 0
) -> MIEstimate:
    """Mutual information in nats of x (n, dx) and y (n, dy) or labels by SMILE with tau = 5, held out.

    Options and errors as in `infonce`. Scores are clamped in the partition sum: less variance than `mine`, and no
    bound any more. Source: Song and Ermon 2020.
    """
    return _neural("smile", x, y, _Training(steps, batch, rate, seed))


def _neural(method: str, x: Samples, y: Samples, training: _Training) -> MIEstimate:
    a, cautions_x, dx = _side(x, "x")
    b, cautions_y, dy = _side(y, "y")
    same_rows(a.numpy(), b.numpy(), _LEAST)
    n = len(a)
    order = torch.randperm(n, generator=generator(training.seed, "split"))
    held = min(n // 4, _HELD_OUT)
    parts = [(a[rows], b[rows]) for rows in (order[:held], order[held : 2 * held])]
    train = (a[order[2 * held :]], b[order[2 * held :]])
    critic = SeparableCritic(a.shape[1], b.shape[1], seed=training.seed)
    found, ran = _train(_RECIPES[method], critic, train, parts, training)
    terms = [best.terms.double() for best in found]
    value = float(sum(t.mean() for t in terms)) / 2
    spread = math.sqrt(sum(float(t.var()) / len(t) for t in terms)) / 2
    scored = min(held, _MATRIX)
    return MIEstimate(
        value,
        method,
        n,
        (dx, dy),
        standard_error=spread,
        kind=_RECIPES[method].kind,
        cautions=(*cautions_x, *cautions_y, *_ceiling(method, value, min(training.batch, len(train[0])), scored)),
        details={"steps": ran, "chosen steps": [best.step for best in found], "rows held out": 2 * held},
    )


def _side(side: Samples, name: str) -> tuple[Tensor, tuple[Caution, ...], int]:
    """What the critic sees of a side, the cautions about its columns, and how many columns it has."""
    if is_label(side):
        which = codes(side, name)
        return torch.eye(int(which.max()) + 1)[torch.from_numpy(which)], (), 1
    real = columns(side, name)
    cautions = tuple(c for c in column_cautions(**{name: real}) if c.trouble not in ("heavy tails", "ties"))
    return torch.from_numpy(normal_scores(real).astype(np.float32)), cautions, real.shape[1]


Rows = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class _Best:
    """The best step on one held-out part: by which figure, and the terms of the other part at that step."""

    figure: float
    step: int
    terms: Tensor


def _train(
    recipe: _Recipe, critic: nn.Module, train: Rows, parts: list[Rows], training: _Training
) -> tuple[list[_Best], int]:
    """Train until neither part gets better; the best step of each part, and how many steps were made."""
    optimizer = torch.optim.Adam(critic.parameters(), lr=training.rate)
    batches = _batches(len(train[0]), training)
    average: Tensor | None = None
    best: list[_Best] = []
    step = 0
    while True:
        if step % _EVERY == 0 or step == training.steps:
            best = _better(best, _judge(recipe, critic, parts), step)
            if step == training.steps or step - max(b.step for b in best) >= _PATIENCE:
                return best, step
        rows = next(batches)
        value, average = recipe.ascend(critic(train[0][rows], train[1][rows]) + recipe.shift, average)
        optimizer.zero_grad()
        (-value).backward()
        optimizer.step()
        step += 1


def _better(best: list[_Best], new: list[tuple[float, Tensor]], step: int) -> list[_Best]:
    now = [_Best(figure, step, terms) for figure, terms in new]
    return [n if n.figure > b.figure + _BETTER else b for n, b in zip(now, best, strict=True)] if best else now


@torch.no_grad()
def _judge(recipe: _Recipe, critic: nn.Module, parts: list[Rows]) -> list[tuple[float, Tensor]]:
    """For each part: what chooses the step on it, and the terms of the reported bound on the other part.

    A value that chooses counts less its standard error: where the critic has learnt rows by heart a few pairs rule DV
    and NWJ, and the largest value is the luckiest.
    """
    scored = [_scores(recipe, critic, part) for part in parts]
    found = []
    for own, other in (scored, scored[::-1]):
        cap = _cap(own) if recipe.capped else math.inf
        terms = _terms(recipe, own, cap)
        figure = float(terms.mean() - terms.std() / math.sqrt(len(terms)))
        if recipe.choose is not None:
            figure = float(torch.stack([recipe.choose(scores) for scores in own]).mean())
        found.append((figure, _terms(recipe, other, cap)))
    return found


def _scores(recipe: _Recipe, critic: nn.Module, rows: Rows) -> list[Tensor]:
    groups = math.ceil(len(rows[0]) / _MATRIX)
    pairs = zip(rows[0].tensor_split(groups), rows[1].tensor_split(groups), strict=True)
    return [critic(x, y) + recipe.shift for x, y in pairs]


def _cap(matrices: list[Tensor]) -> float:
    """Where scores are cut, by the rows that choose: a cut critic is a critic like any other.

    Larger ones than any of a pair here, or that stand for a ratio above n^2, which n rows cannot show, are errors of
    extrapolation, and a single one could rule DV and NWJ.
    """
    largest = max(float(scores.diagonal().max()) for scores in matrices)
    level = max(float(objectives.log_mean_exp_off(scores)) for scores in matrices)
    return min(largest, level + 2 * math.log(len(matrices[0])))


def _terms(recipe: _Recipe, matrices: list[Tensor], cap: float) -> Tensor:
    return torch.cat([objectives.pair_terms(recipe.bound, scores.clamp(max=cap)) for scores in matrices])


def _batches(n: int, training: _Training) -> Iterator[Tensor]:
    """Rows for each step: every row once in a pass, as many whole batches as there are."""
    dice = generator(training.seed, "batches")
    size = min(training.batch, n)
    while True:
        order = torch.randperm(n, generator=dice)
        yield from (order[start : start + size] for start in range(0, n - size + 1, size))


def _network(d: int, hidden: int, out: int, dice: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for wide, narrow in ((d, hidden), (hidden, hidden), (hidden, out)):
        layer = nn.utils.skip_init(nn.Linear, wide, narrow)
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(wide), 1 / math.sqrt(wide), generator=dice)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _ceiling(method: str, value: float, batch: int, scored: int) -> tuple[Caution, ...]:
    """The caution that the value is within one nat of what its matrices can show."""
    rows = min(batch, scored) if method == "infonce" else scored
    if value < math.log(rows) - 1:
        return ()
    why = (
        f"InfoNCE saturates near the logarithm of its batch, ln {rows} = {math.log(rows):.2f} nats"
        if method == "infonce"
        else f"with {rows} held-out rows a time {method} is mostly noise from about {math.log(rows):.2f} nats on"
    )
    return (Caution("saturated", f"{why}: take {value:.2f} as a floor; more rows and larger batches show more"),)
