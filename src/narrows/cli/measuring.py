"""`narrows measure`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from narrows.cli.console import print_facts, print_json, print_table
from narrows.cli.options import Data, Json, Label, MaxLength, Model, Task, TaskOption, Text, TextPair, columns
from narrows.cli.progress import watching
from narrows.cli.pruning import command_line


def measure(
    ctx: typer.Context,
    model: Model,
    data: Data,
    against: Annotated[
        str | None, typer.Option(help="Another model, measured on the same texts: the one before pruning, for example.")
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(help="A module whose output is measured; may be given several times.  [default: every block]"),
    ] = None,
    measures: Annotated[
        list[str] | None,
        typer.Option(
            help="label, input, spectrum, or an estimator of narrows.information; may be given several times."
        ),
    ] = None,
    during_training: Annotated[
        bool, typer.Option("--during-training", help="Fine-tune the model on the other rows, and measure meanwhile.")
    ] = False,
    epochs: Annotated[float, typer.Option(help="Passes of that fine-tuning.")] = 2.0,
    html: Annotated[Path | None, typer.Option(help="Write the pictures to this file as a page.")] = None,
    rows: Annotated[int, typer.Option(help="How many rows of the data are measured.")] = 1000,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    task: TaskOption = Task.auto,
    max_length: MaxLength = 128,
    seed: Annotated[int, typer.Option(help="Decides the rows and everything random.")] = 0,
    as_json: Json = False,
) -> None:
    """Show how much each layer of a model keeps of its input and of the label.

    \b
    Examples:
      narrows measure small --data reviews.csv --html layers.html
      narrows measure small --against dense --data reviews.csv --html before-and-after.html
      narrows measure minilm --data movie-reviews --during-training --html plane.html
      narrows measure small --data reviews.csv --measures label --measures kde --json
    """
    from narrows.core.files import write_text

    more: dict[str, Any] = {"measures": measures} if measures else {}
    with watching(silent=as_json) as watcher:
        watcher.stage("load")
        from narrows.road.measuring import measure as look
        from narrows.transformer.checkpoint import quiet

        with quiet():
            found = look(
                model,
                data,
                against=against,
                layers=layers or None,
                rows=rows,
                during_training=during_training,
                epochs=epochs,
                max_length=max_length,
                data_columns=columns(text=text, text_pair=text_pair, label=label, task=task),
                seed=seed,
                command=command_line(ctx.meta["arguments"], resume=False),
                watcher=watcher,
                **more,
            )
    if html is not None:
        write_text(html, found.html)
    if as_json:
        print_json(found.record)
        return
    _show(found.record)
    if html is not None:
        print_facts({"page": html})


def _show(record: Mapping[str, Any]) -> None:
    from narrows.report import measured

    for model in record["models"]:
        names = [measured.NAMES.get(name, (name,))[0].lower() for name in record["measures"]]
        table = [model["values"][name] for name in record["measures"]]
        rows = [
            (measured.short(layer), *(measured.cell(column[i]) for column in table))
            for i, layer in enumerate(model["layers"])
        ]
        title = f"{model['name']} on {record['data']['rows']} texts of {record['data']['name']}, nats"
        print_table(title, ("layer", *names), rows)
    said = measured.cautions(record)
    if said:
        print_facts({f"caution ({c['trouble']})": f"{c['measure'].lower()}: {c['text']}" for c in said})
