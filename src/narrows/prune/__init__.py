"""What to cut: one file per method, and one door to all of them.

A pruner turns a `Problem` (model, anatomy, calibration data, limits) into an `Outcome` with a `Plan`; `pruner(name)`
gives it. Methods that score units share `allocate` and the planner; a new one is a file with a `..._scores` function
and a line in `methods.py`. The room itself can be called: `narrows.prune(model, data, budget="20% params")` runs the
main road.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from narrows.prune.fisher import fisher_scores
from narrows.prune.magnitude import magnitude_scores
from narrows.prune.methods import METHODS, Outcome, Problem, Pruner, pruner
from narrows.prune.planner import Trial, choose_plan
from narrows.prune.random import random_scores
from narrows.prune.scores import Limits, Scores, allocate
from narrows.prune.taylor import taylor_scores
from narrows.prune.vib import VIBGate
from narrows.prune.vtrans import VTransConfig, VTransObjective, VTransResult, vtrans_plan

__all__ = [
    "METHODS",
    "Limits",
    "Outcome",
    "Problem",
    "Pruner",
    "Scores",
    "Trial",
    "VIBGate",
    "VTransConfig",
    "VTransObjective",
    "VTransResult",
    "allocate",
    "choose_plan",
    "fisher_scores",
    "magnitude_scores",
    "pruner",
    "random_scores",
    "taylor_scores",
    "vtrans_plan",
]


class _Room(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """See `narrows.road.prune`."""
        from narrows.road import prune

        return prune(*arguments, **options)


sys.modules[__name__].__class__ = _Room
