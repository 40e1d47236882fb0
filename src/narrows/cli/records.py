"""The record of a run, as commands read it back and show it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from narrows.cli.console import print_table
from narrows.core.errors import CheckpointError

RECORD = "narrows.json"


def read_record(folder: Path) -> dict[str, Any]:
    """The narrows.json of a checkpoint; CheckpointError where there is none, or it is not the record of a run."""
    file = folder / RECORD
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no {RECORD}: expected a folder that `narrows prune` wrote") from None
    # RecursionError: a file of a million brackets.
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not readable as JSON: {error}") from error
    from narrows.report import compare, view

    view.check(record)
    found: dict[str, Any] = record
    try:  # everything that commands show of it
        compare.sections([found])
        view.rows(found)
        json.dumps(summary(found, folder), allow_nan=False)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{file} is damaged: {type(error).__name__} {error}") from error
    return found


def summary(record: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """The record without the lists that grow with the model or the training."""
    layers = [
        {**layer, "heads": len(layer["heads"]), "neurons": len(layer["neurons"])} for layer in record["plan"]["layers"]
    ]
    sides = {side: {**record[side], "parameters": record[side]["params"]} for side in ("before", "after")}
    return {
        **{key: value for key, value in record.items() if key != "history"},
        **sides,
        "information": _last(record["information"]),
        "plan": {**record["plan"], "layers": layers},
        "budget": " and ".join(budget["text"] for budget in record["budgets"]),
        "versions": record["environment"]["versions"],
        "out": str(out),
    }


def _last(information: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The information per layer at the end of the training."""
    if information is None:
        return None
    layers = [
        {"layer": layer["layer"], **{block: layer[block][-1] for block in ("attention", "ffn") if layer[block]}}
        for layer in information["layers"]
    ]
    return {"unit": information["unit"], "layers": layers}


def print_run(record: Mapping[str, Any]) -> None:
    """The table of before and after, and whether the budgets were met."""
    from narrows.report import view

    rows = [(row.name, row.before, row.after, row.ratio) for row in view.rows(record)]
    print_table(view.headline(record), ("", "before", "after", ""), rows)
    for budget in view.budgets(record):
        met = "met" if budget["met"] else "NOT met"
        print(f"budget {budget['text']}: {met}, {budget['reached']} of {budget['limit']} {budget['measure']}")
