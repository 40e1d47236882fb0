"""The words every room uses: costs, budgets, frontiers, seeds, records, errors, citations. No model code."""

from narrows.core.budget import Budget
from narrows.core.cite import Reference, cite, cites, references, register_reference
from narrows.core.cost import Cost
from narrows.core.errors import (
    BudgetError,
    CheckpointError,
    DataError,
    Interrupted,
    MissingExtra,
    ModelError,
    NarrowsError,
    TrainingError,
)
from narrows.core.files import new_directory, write_json, write_text
from narrows.core.frontier import Frontier, Point, Summary
from narrows.core.record import environment, revision
from narrows.core.seeds import derive, generator

__all__ = [
    "Budget",
    "BudgetError",
    "CheckpointError",
    "Cost",
    "DataError",
    "Frontier",
    "Interrupted",
    "MissingExtra",
    "ModelError",
    "NarrowsError",
    "Point",
    "Reference",
    "Summary",
    "TrainingError",
    "cite",
    "cites",
    "derive",
    "environment",
    "generator",
    "new_directory",
    "references",
    "register_reference",
    "revision",
    "write_json",
    "write_text",
]
