"""Fisher information of unit gates: how much the loss bends when a unit's factor leaves 1.

Units are scored by c_j = 1/2 E[(dL/dz_j)^2], the expectation over examples of each example's derivative summed over its
tokens: the second-order price of removing unit j (LeCun et al., "Optimal Brain Damage", 1990; Theis et al., "Faster
gaze prediction with dense networks and Fisher pruning", 2018, arXiv:1801.05787).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor
from transformers import PreTrainedModel

from narrows.core.cite import Reference, cites, register_reference
from narrows.prune.scores import Scores, mean_over_examples, unit_gradients
from narrows.transformer.anatomy import Anatomy
from narrows.transformer.calibrate import Batch

register_reference(
    Reference(
        "arXiv:1801.05787",
        "Faster gaze prediction with dense networks and Fisher pruning",
        ("Lucas Theis", "Iryna Korshunova", "Alykhan Tejani", "Ferenc Huszár"),
        2018,
    )
)


@cites("arXiv:1801.05787")
def fisher_scores(
    model: PreTrainedModel, anatomy: Anatomy, batches: Sequence[Batch], masks: Mapping[str, Tensor] | None = None
) -> Scores:
    """c_j of every unit, in nats, from batches with labels.

    `masks` scores the model with units already switched off, for pruning in several rounds.
    """
    gradients = unit_gradients(model, anatomy, batches, masks)
    return Scores.from_gates(anatomy, mean_over_examples(gradients, lambda g: g.square() / 2))
