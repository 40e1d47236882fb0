"""The information-bottleneck bound of the generalisation gap, and a loss that holds information at a target.

Kawaguchi, Deng, Ji and Huang, "How Does Information Bottleneck Help Deep Learning?" (2023): for a network whose layer l
makes codes Z of the inputs, the expected loss exceeds the mean over n training rows, with high probability, by at most

    G3 sqrt((I(X; Z | Y) + I(S; theta_l) + G2) / n) + G1 / sqrt(n),
    G3 = max_y sum_k loss(a_k, y) sqrt(2 |Y| P(Z = a_k | Y = y)),

information in nats. theta_l are the parameters up to the layer, learned from the training set S (no term for an encoder
that is fixed before). Information about the label costs nothing. For the whole network, with losses up to R,

    R sqrt((I(S; theta) + G2) / (2 n)).

G1 and G2 hold constants of the encoder that cannot be read off a sample. They are 0 unless given, so that the value is
the leading term and no certificate; and codes that all differ make G3 grow like sqrt(n), so that even this term need
not fall. It serves to rank models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from narrows.core.cite import cites
from narrows.core.errors import DataError
from narrows.information.encoder_mi import GENERALIZATION
from narrows.information.estimate import Caution
from narrows.information.inputs import Codes, Samples, codes, columns


@dataclass(frozen=True)
class GeneralizationBound:
    """The leading term `value` of the bound, in units of the loss, and what went into it.

    `information` and `parameter_information` in nats, `factor` is G3, `n_codes` the number of different codes,
    `trivial` the largest loss there can be, which bounds the gap without any theory.
    """

    value: float
    information: float
    parameter_information: float
    factor: float
    n: int
    n_codes: int
    trivial: float
    cautions: tuple[Caution, ...] = ()

    @property
    def vacuous(self) -> bool:
        """Whether it says no more than that a loss is at most `trivial`."""
        return self.value >= self.trivial


@cites(GENERALIZATION.key)
def generalization_bound(
    information: float,
    losses: Samples,
    labels: Samples,
    *,
    trivial: float,
    parameter_information: float = 0.0,
    z: Samples | None = None,
    g1: float = 0.0,
    g2: float = 0.0,
) -> GeneralizationBound:
    """The bound of one layer from I(X; Z | Y) and I(S; theta) in nats and the training rows.

    `losses` (n,) at least 0 and at most `trivial`; `labels` (n,); `z`: the layer's codes as (n,) or (n, d), such as
    binned activations, or None where every row has its own. `g1`, `g2`: the constants G1 and G2, if you know them.
    Raises DataError for information below 0 and losses outside [0, trivial]. Source: Kawaguchi et al. 2023.
    """
    loss, _, code = _rows(losses, labels, z)
    if not 0 < trivial < math.inf or loss.max() > trivial:
        raise DataError(f"losses go up to {loss.max():g} and 'trivial' is {trivial:g}: it must bound every loss")
    if not all(0 <= v < math.inf for v in (information, parameter_information, g1, g2)):
        raise DataError(
            f"information and constants must be finite and at least 0, got {information}, {parameter_information}, "
            f"{g1}, {g2}; a Monte-Carlo estimate below 0 counts as 0"
        )
    n, n_codes, factor = len(loss), int(code.max()) + 1, loss_factor(losses, labels, z)
    value = factor * math.sqrt((information + parameter_information + g2) / n) + g1 / math.sqrt(n)
    cautions = []
    if g1 == 0 and g2 == 0:
        cautions.append(Caution("assumption", "G1 and G2 count as 0: the leading term, not a certificate"))
    if n_codes > n / 2:
        text = f"{n_codes} different codes in {n} rows: G3 grows like the root of n; bin them, or use it to rank only"
        cautions.append(Caution("resolution", text))
    return GeneralizationBound(
        value, information, parameter_information, factor, n, n_codes, float(trivial), tuple(cautions)
    )


@cites(GENERALIZATION.key)
def loss_factor(losses: Samples, labels: Samples, z: Samples | None = None) -> float:
    """G3: the largest over labels of sum_k loss_k sqrt(2 |Y| p_k) over the codes k of that label.

    `p_k` is a code's frequency in its class, `loss_k` the mean loss of its rows there. With codes that all differ it is
    sqrt(2 |Y| n_y) times the mean loss of class y. Shapes as in `generalization_bound`. Source: Kawaguchi et al. 2023.
    """
    loss, label, code = _rows(losses, labels, z)
    classes = int(label.max()) + 1
    largest = 0.0
    for y in range(classes):
        own, which = loss[label == y], np.unique(code[label == y], return_inverse=True)[1]
        counts = np.bincount(which)
        means = np.bincount(which, weights=own) / counts
        largest = max(largest, float((means * np.sqrt(2 * classes * counts / len(own))).sum()))
    return largest


@cites(GENERALIZATION.key)
def parameter_bound(parameter_information: float, n: int, trivial: float, g2: float = 0.0) -> float:
    """The bound of the whole network from I(S; theta) in nats: trivial * sqrt((I + G2) / (2 n))."""
    if n < 1 or not all(0 <= v < math.inf for v in (parameter_information, trivial, g2)):
        raise DataError("parameter_bound wants at least one row, and information, 'trivial' and g2 finite and >= 0")
    return trivial * math.sqrt((parameter_information + g2) / (2 * n))


@cites(GENERALIZATION.key)
class MIConstraint(nn.Module):
    """Holds an estimate of information near `target` nats during training, by a multiplier that learns.

    Add `constraint(information)` to the loss and call `constraint.step(information)` after the optimiser: the loss is
    multiplier * (target - information), the step adds lr * (target - information) to the multiplier, which begins at 0.
    With little information the multiplier grows and pushes it up, with much it falls below 0 and pushes it down.
    """

    multiplier: Tensor

    def __init__(self, target: float, lr: float) -> None:
        super().__init__()
        if not math.isfinite(target) or not 0 <= lr < math.inf:
            raise DataError(f"the target must be finite and lr at least 0, got {target} and {lr}")
        self.target, self.lr = target, lr
        self.register_buffer("multiplier", torch.zeros(()))

    def forward(self, information: Tensor) -> Tensor:
        """The loss for an estimate of shape ()."""
        return self.multiplier * (self.target - information)

    @torch.no_grad()
    def step(self, information: Tensor | float) -> None:
        """Move the multiplier; DataError for an estimate that is not finite."""
        value = float(information)
        if not math.isfinite(value):
            raise DataError(f"the estimate of information is {value}")
        self.multiplier += self.lr * (self.target - value)


def _rows(losses: Samples, labels: Samples, z: Samples | None) -> tuple[np.ndarray, Codes, Codes]:
    loss = columns(losses, "losses")
    label = codes(labels, "labels")
    code = np.arange(len(loss), dtype=np.int64) if z is None else codes(z, "z")
    if loss.shape[1] != 1:
        raise DataError(f"losses has {loss.shape[1]} columns, expected one loss a row")
    if not len(loss) == len(label) == len(code):
        raise DataError(f"there are {len(loss)} losses, {len(label)} labels and {len(code)} codes, expected as many")
    if loss.min() < 0:
        raise DataError(f"a loss is {loss.min():g}: losses must be at least 0")
    return loss[:, 0], label, code
