"""Commands about models that exist: `narrows evaluate` and `narrows compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from narrows.cli.console import print_facts, print_json, print_table
from narrows.cli.options import Data, Json, Label, MaxLength, Model, Task, TaskOption, Text, TextPair, columns
from narrows.cli.records import read_record, summary


def evaluate(
    model: Model,
    data: Data,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    task: TaskOption = Task.auto,
    max_length: MaxLength = 128,
    as_json: Json = False,
) -> None:
    """Measure how good a trained model is on all of the data.

    \b
    Examples:
      narrows evaluate small --data more-reviews.csv
      narrows evaluate small --data test.parquet --text sentence --label score --json
    """
    from narrows.road import evaluate as judge
    from narrows.transformer.checkpoint import quiet

    with quiet():
        named = columns(text=text, text_pair=text_pair, label=label, task=task)
        result = judge(model, data, columns=named, max_length=max_length)
    found = {
        "quality": result.quality,
        "quality_se": result.standard_error,
        "name": result.name,
        "examples": len(result.predictions),
        **result.figures,
    }
    if as_json:
        print_json({"model": model, "data": data, **found})
        return
    from narrows.report.words import quality_name, sentence

    facts = {sentence(quality_name(name)): f"{value:.4f}" for name, value in result.figures.items()}
    shown = f"{result.quality:.4f} ± {result.standard_error:.4f}"
    print_facts({sentence(quality_name(result.name)): shown, **facts, "Examples": found["examples"]})


def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders that narrows prune wrote.")],
    html: Annotated[Path | None, typer.Option(help="Write the comparison to this file as a page.")] = None,
    as_json: Json = False,
) -> None:
    """Put several results side by side.

    Only runs on the same model and data are compared. Those that no other beats in both size and quality
    are marked with a star.

    \b
    Examples:
      narrows compare small smaller
      narrows compare runs/* --html comparison.html
    """
    from narrows.core.files import write_text
    from narrows.report import compare_report
    from narrows.report.compare import sections

    records = [read_record(folder) for folder in folders]
    short = [folder.resolve().name for folder in folders]
    names = short if len(set(short)) == len(short) else [str(folder) for folder in folders]
    if html is not None:
        write_text(html, compare_report(records, names))
    if as_json:
        print_json({"runs": [summary(record, folder) for record, folder in zip(records, folders, strict=True)]})
        return
    for section in sections(records, names):
        dense = section["dense"]
        quality = dense["low"] if dense["low"] == dense["high"] else f"{dense['low']} to {dense['high']}"
        title = f"{section['model']} for {section['data']}: {section['quality']} {quality} before"
        latency = f"batch {section['batch']}" if section["batch"] else "latency"
        rows = [
            (
                f"{row['title']}{' *' if row['best'] else ''}",
                row["name"],
                f"{row['quality']} ± {row['error']}" if row["error"] else row["quality"],
                row["params"],
                row["share"],
                row["macs"],
                row["bytes"],
                row["latency"],
            )
            for row in section["rows"]
        ]
        print_table(
            title, ("", "run", section["quality"], "parameters", "share", "MACs", "bytes", latency), rows, left=2
        )
    if html is not None:
        print_facts({"page": html})
