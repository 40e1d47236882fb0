"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Task(StrEnum):
    """What the labels are."""

    auto = "auto"
    classification = "classification"
    regression = "regression"


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A folder, the name of a model on the Hugging Face Hub, or minilm.",
        show_default=False,
    ),
]
Data = Annotated[
    str,
    typer.Option(
        help="A CSV, TSV, JSON Lines (all also .gz) or Parquet file; or movie-reviews or product-reviews.",
        show_default=False,
    ),
]
Text = Annotated[str | None, typer.Option(help="The column of the text.  [default: text]")]
TextPair = Annotated[str | None, typer.Option(help="The column of a second text, for pairs.")]
Label = Annotated[str | None, typer.Option(help="The column of the label.  [default: label]")]
TaskOption = Annotated[
    Task, typer.Option(help="What the labels are; auto: numbers that are not whole are values to predict.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and no progress.")]
MaxLength = Annotated[int, typer.Option(min=4, help="Longer texts are cut at this many tokens.")]


def columns(*, text: str | None, text_pair: str | None, label: str | None, task: Task) -> dict[str, str]:
    """The options of `read_examples` that were given."""
    named = {"text": text, "text_pair": text_pair, "label": label, "task": None if task is Task.auto else task.value}
    return {name: value for name, value in named.items() if value is not None}
