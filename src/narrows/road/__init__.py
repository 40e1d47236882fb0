"""The main road: a model and its data go in; a smaller model, its checkpoint and its report come out.

load -> (fine-tune) -> (trim the vocabulary) -> plan -> rebuild -> heal -> measure -> save. Every stage leaves its
result in a work folder when it is done, so that a run that was stopped or killed goes on where it was, and ends at
the same weights.
"""

from narrows.road.door import evaluate, prune
from narrows.road.options import CALIBRATION, HEAL_RATE, Options, Watcher
from narrows.road.record import Report

__all__ = ["CALIBRATION", "HEAL_RATE", "Options", "Report", "Watcher", "evaluate", "prune"]
