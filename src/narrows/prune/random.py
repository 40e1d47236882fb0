"""Random scores: the baseline that every other score must beat."""

from __future__ import annotations

import torch

from narrows.core.seeds import generator
from narrows.prune.scores import Scores, unit_sizes
from narrows.transformer.anatomy import Anatomy


def random_scores(anatomy: Anatomy, seed: int) -> Scores:
    """Independent uniform scores per parameter, so that no kind of unit is favoured: a unit's score is a random
    share of its size."""
    draw = generator(seed, "random_scores")
    weight = {"hidden": 1.0, "heads_": 4.0 * anatomy.head_dim, "neurons_": 2.0}
    return Scores.from_gates(
        anatomy,
        {
            name: torch.rand(size, generator=draw, dtype=torch.float64)
            * next(w for kind, w in weight.items() if name.startswith(kind))
            for name, size in unit_sizes(anatomy).items()
        },
    )
