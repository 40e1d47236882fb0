"""First-order Taylor scores: how much the loss would change to first order if a unit's factor went to 0.

|E over tokens dL/dz_j|, averaged over examples (Molchanov et al., "Importance Estimation for Neural Network Pruning",
2019, arXiv:1906.10771; for heads: Michel et al., "Are Sixteen Heads Really Better than One?", 2019, arXiv:1905.10650).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedModel

from narrows.core.cite import Reference, cites, register_reference
from narrows.prune.scores import Scores, mean_over_examples, unit_gradients
from narrows.transformer.anatomy import Anatomy
from narrows.transformer.calibrate import Batch

register_reference(
    Reference(
        "arXiv:1906.10771",
        "Importance Estimation for Neural Network Pruning",
        ("Pavlo Molchanov", "Arun Mallya", "Stephen Tyree", "Iuri Frosio", "Jan Kautz"),
        2019,
    )
)
register_reference(
    Reference(
        "arXiv:1905.10650",
        "Are Sixteen Heads Really Better than One?",
        ("Paul Michel", "Omer Levy", "Graham Neubig"),
        2019,
    )
)


@cites("arXiv:1906.10771", "arXiv:1905.10650")
def taylor_scores(model: PreTrainedModel, anatomy: Anatomy, batches: Sequence[Batch]) -> Scores:
    """E |dL/dz_j| of every unit, from batches with labels."""
    return Scores.from_gates(anatomy, mean_over_examples(unit_gradients(model, anatomy, batches), Tensor.abs))
