"""What the parameters of a network remember of the training set.

SWAG (Maddox, Garipov, Izmailov, Vetrov and Wilson, "A Simple Baseline for Bayesian Uncertainty in Deep Learning", 2019)
reads a posterior off the last epochs of training: with the weights collected once an epoch, each parameter tensor gets

    q = N(mean, diag(var) + D D^T / (K - 1)),

where var is the variance over all collections and D has the deviations of the last K from the running mean.

Kawaguchi, Deng, Ji and Huang (2023) train the same setting on several training sets S_d and compare: for theta drawn
from the posterior q_d of set d

    "jensen"   I(S; theta) <= mean [log q_d(theta) - mean_d' log q_d'(theta)]
    "mixture"  I(S; theta) =  mean [log q_d(theta) - log mean_d' q_d'(theta)], at most ln(number of sets).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import LowRankMultivariateNormal

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError, ModelError
from narrows.core.seeds import generator
from narrows.information.encoder_mi import GENERALIZATION
from narrows.information.estimate import Caution, MIEstimate

SWAG = register_reference(
    Reference(
        "arXiv:1902.02476",
        "A Simple Baseline for Bayesian Uncertainty in Deep Learning",
        ("Wesley Maddox", "Timur Garipov", "Pavel Izmailov", "Dmitry Vetrov", "Andrew Gordon Wilson"),
        2019,
        "Advances in Neural Information Processing Systems",
    )
)

Posterior = Sequence[LowRankMultivariateNormal]
"""A law of the weights: one independent Gaussian a parameter tensor, in the order of their names."""


@cites(SWAG.key)
class SWAGCollector:
    """Collects the weights of `model` during training: call `collect` once an epoch, `posterior` at the end.

    `max_rank`: deviations kept a tensor (K). `var_floor`: least variance of a weight; one that never moves sits on it,
    and then weighs heavily where another posterior has it elsewhere (see `at_floor`).
    """

    def __init__(self, model: nn.Module, max_rank: int = 10, var_floor: float = 1e-30) -> None:
        if max_rank < 2 or not var_floor > 0:
            raise DataError(f"max_rank must be at least 2 and var_floor above 0, got {max_rank} and {var_floor}")
        self.model = model
        self.var_floor = var_floor
        self.count = 0
        self._mean: dict[str, Tensor] = {}
        self._squares: dict[str, Tensor] = {}
        self._deviations: dict[str, deque[Tensor]] = {}
        for name, parameter in model.named_parameters():
            zero = torch.zeros(parameter.numel(), dtype=torch.float64)
            self._mean[name], self._squares[name] = zero, zero.clone()
            self._deviations[name] = deque(maxlen=max_rank)

    def collect(self) -> None:
        """Take in the weights as they are now."""
        self.count += 1
        for name, parameter in self.model.named_parameters():
            value = parameter.detach().flatten().double().cpu()
            before = value - self._mean[name]
            self._mean[name] = self._mean[name] + before / self.count
            # Welford: the mean of squares minus the square of the mean loses every digit of a small variance.
            self._squares[name] += before * (value - self._mean[name])
            self._deviations[name].append(value - self._mean[name])

    def posterior(self, names: Iterable[str] | None = None) -> tuple[LowRankMultivariateNormal, ...]:
        """The law of the named parameters (all, where None). DataError before the second collection."""
        return tuple(self._law(name) for name in self._known(names))

    def at_floor(self, names: Iterable[str] | None = None) -> int:
        """How many of the named weights hardly moved, so that their variance is the floor."""
        return sum(int((self._squares[n] / max(self.count, 1) <= self.var_floor).sum()) for n in self._known(names))

    def _known(self, names: Iterable[str] | None) -> list[str]:
        if names is None:
            return list(self._mean)
        asked = list(names)
        unknown = [name for name in asked if name not in self._mean]
        if unknown or not asked:
            what = f"no parameter is called {unknown[0]!r}" if unknown else "no parameter is named"
            raise ModelError(f"{what}; there are {', '.join(self._mean)}")
        return asked

    def _law(self, name: str) -> LowRankMultivariateNormal:
        if self.count < 2:
            raise DataError(f"a posterior needs at least 2 collections, there are {self.count}")
        variance = (self._squares[name] / self.count).clamp(min=self.var_floor)
        deviations = torch.stack(tuple(self._deviations[name]), dim=1)
        factor = deviations / math.sqrt(deviations.shape[1] - 1)
        return LowRankMultivariateNormal(self._mean[name], factor, variance)


@cites(GENERALIZATION.key)
def parameter_mi(
    sets: Sequence[Sequence[Posterior]],
    *,
    samples: int = 10,
    form: Literal["jensen", "mixture"] = "jensen",
    seed: int = 0,
) -> MIEstimate:
    """I(S; theta) in nats between a training set and the weights learned from it.

    `sets`: for each of at least 2 independent training sets the posteriors of one setting, one per seed of training
    (the same number everywhere). With several seeds the law of a set is their mean, of logarithms for "jensen".
    The standard error is over the sets. Raises DataError for one set, or posteriors of different shapes.
    Source: Kawaguchi et al. 2023.
    """
    _check(sets, samples, form)
    m, seeds = len(sets), len(sets[0])
    dice = generator(seed, "parameter_mi")
    values = torch.zeros(m, dtype=torch.float64)
    for d, posteriors in enumerate(sets):
        for own in posteriors:
            for _ in range(samples):
                theta = [_draw(block, dice) for block in own]
                table = torch.stack([torch.stack([_log_prob(q, theta) for q in others]) for others in sets])
                values[d] += _gain(table, d, form) / (seeds * samples)
    value, size = float(values.mean()), sum(int(q.loc.numel()) for q in sets[0][0])
    cautions: tuple[Caution, ...] = ()
    if form == "mixture" and value > 0.95 * math.log(m):
        text = f"{m} training sets can show at most ln {m} = {math.log(m):.2f} nats: take it as a floor"
        cautions = (Caution("saturated", text),)
    return MIEstimate(
        value,
        "parameter_mi",
        m,
        (1, size),
        standard_error=float(values.std(correction=1) / math.sqrt(m)),
        kind="upper" if form == "jensen" else "lower",
        cautions=cautions,
        details={"form": form, "seeds": seeds, "samples": samples, "values": values.tolist()},
    )


def _gain(table: Tensor, d: int, form: str) -> Tensor:
    """From log q of shape (sets, seeds) at one theta: the law of set d against that of all."""
    if form == "jensen":
        return table[d].mean() - table.mean()
    return torch.logsumexp(table[d], 0) - torch.logsumexp(table.flatten(), 0) + math.log(len(table))


def _draw(block: LowRankMultivariateNormal, dice: torch.Generator) -> Tensor:
    # By hand: a distribution of torch draws from the global generator.
    factor, spread = block.cov_factor, block.cov_diag.sqrt()
    low = torch.randn(factor.shape[-1], generator=dice, dtype=factor.dtype)
    drawn: Tensor = block.loc + factor @ low + spread * torch.randn(spread.shape, generator=dice, dtype=spread.dtype)
    return drawn


def _log_prob(posterior: Posterior, theta: Sequence[Tensor]) -> Tensor:
    return torch.stack([block.log_prob(part) for block, part in zip(posterior, theta, strict=True)]).sum()


def _check(sets: Sequence[Sequence[Posterior]], samples: int, form: str) -> None:
    if form not in ("jensen", "mixture") or samples < 1:
        raise DataError(f"the form is 'jensen' or 'mixture' with at least 1 sample, got {form!r} and {samples}")
    if len(sets) < 2:
        raise DataError(f"at least 2 training sets are needed, got {len(sets)}")
    if not sets[0] or len({len(posteriors) for posteriors in sets}) != 1:
        raise DataError(f"every training set needs as many posteriors, got {[len(p) for p in sets]}")
    if len({tuple(q.loc.numel() for q in posterior) for posteriors in sets for posterior in posteriors}) != 1:
        raise DataError("the posteriors are of different networks: their tensors differ in number or size")
