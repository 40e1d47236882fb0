"""Make neural networks fit a budget, and see what that costs in information.

    import narrows
    small = narrows.prune(model, data, budget="20% params")

Importing narrows registers its checkpoint classes with transformers, so that `Auto*.from_pretrained` loads
narrow models. With NARROWS_LAZY set in the environment (the command line does so) nothing heavy is imported.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from narrows.core import Budget as Budget
    from narrows.core import Cost as Cost
    from narrows.core import Frontier as Frontier
    from narrows.core import cite as cite
    from narrows.road import evaluate as evaluate
    from narrows.transformer.checkpoint import load as load
    from narrows.transformer.plan import Plan as Plan

__version__ = "0.1.0"

__all__ = ["Budget", "Cost", "Frontier", "Plan", "cite", "evaluate", "load", "prune"]

_HOME = {
    "Budget": "narrows.core",
    "Cost": "narrows.core",
    "Frontier": "narrows.core",
    "Plan": "narrows.transformer.plan",
    "cite": "narrows.core",
    "evaluate": "narrows.road",
    "load": "narrows.transformer.checkpoint",
}


def __getattr__(name: str) -> Any:
    if name == "prune":  # the room itself, which can be called
        return importlib.import_module("narrows.prune")
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'narrows' has no attribute {name!r}; the public names are {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not os.environ.get("NARROWS_LAZY"):
    importlib.import_module("narrows.transformer.checkpoint").register()
