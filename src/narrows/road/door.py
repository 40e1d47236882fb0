"""The two calls of the road: `prune` and `evaluate`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from narrows.core.budget import Budget
from narrows.core.errors import BudgetError, CheckpointError, DataError, ModelError, NarrowsError, TrainingError
from narrows.core.files import write_text
from narrows.data import Examples
from narrows.distill import EncodedTexts, Evaluation
from narrows.distill import evaluate as evaluate_model
from narrows.road.options import Nobody, Options, Watcher
from narrows.road.record import Report
from narrows.road.sources import aligned, examples_of, label_names, read
from narrows.road.sources import loaded as loaded_model
from narrows.road.stages import Road
from narrows.transformer.checkpoint import save
from narrows.transformer.family import longest


def prune(
    model: str | Path | PreTrainedModel,
    data: str | Path | Examples,
    *,
    budget: str | Budget | Sequence[str | Budget],
    out: str | Path | None = None,
    evaluation: str | Path | Examples | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    resume: bool = False,
    command: str | None = None,
    watcher: Watcher | None = None,
    columns: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[PreTrainedModel, Report]:
    """Shrink a model to a budget: the small model and its report.

    `model`: a folder, a Hub id, or a loaded model with its `tokenizer`. `data`: a CSV, TSV, JSONL or Parquet file
    (`columns` are the options of `read_examples`), or `Examples`; names of what ships with narrows ("minilm",
    "movie-reviews") are understood as well. `budget`: such as "20% params" or "2 GMACs"; several must all hold. With
    `out` the checkpoint and report.html are written there, and what a stopped run needs to go on with `resume=True`
    is kept beside it in `out.work` until then. `options` are the fields of `Options`. Raises `NarrowsError` with one
    line for anything that a user can mend.
    """
    wanted = budget if isinstance(budget, (list, tuple)) else (budget,)
    budgets = tuple(b if isinstance(b, Budget) else Budget.parse(b) for b in wanted)
    settings = Options(budgets=budgets, **options)
    train_set, held_out, name = examples_of(data, evaluation, columns or {}, settings)
    target = None if out is None else Path(out)
    if target is not None and target.exists():
        _require_empty(target)
    with _work_folder(target, resume) as work:
        road = Road(work, settings, train_set, held_out, name, watcher or Nobody())
        road.claim(model, resume)
        small, report = road.run(model, tokenizer, command)
        if target is not None:
            whole = save(small, report.tokenizer, work / "result", record=report.record, overwrite=True)
            write_text(whole / "report.html", report.html)
            whole.rename(target)
        return small, report


def evaluate(
    model: str | Path | PreTrainedModel,
    data: str | Path | Examples,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    columns: Mapping[str, Any] | None = None,
    max_length: int = 128,
) -> Evaluation:
    """The quality of a trained model on all of the data: accuracy, or Pearson's correlation with values."""
    loaded = loaded_model(model, tokenizer, None)
    if loaded.missing_head:
        raise ModelError("the model has no trained head for this data; `narrows prune` fine-tunes one")
    given = dict(columns or {}) | ({"task": "regression"} if loaded.model.config.num_labels == 1 else {})
    examples = data if isinstance(data, Examples) else read(data, given, label_names(loaded.model))
    examples = aligned(examples, loaded.model)
    length = min(max_length, longest(loaded.model))
    return evaluate_model(loaded.model, EncodedTexts(examples, loaded.tokenizer, length))


def _require_empty(target: Path) -> None:
    """Remove an empty folder, whose place the finished one takes; refuse now what could not be done at the end."""
    if not target.is_dir() or any(target.iterdir()):
        raise NarrowsError(f"{target} exists already: name another folder or remove it")
    try:
        target.rmdir()
    except OSError as error:  # a mount point, or the folder that the command runs in
        raise NarrowsError(f"{target} cannot be replaced ({error.strerror}): name a new folder") from error


@contextmanager
def _work_folder(target: Path | None, resume: bool) -> Iterator[Path]:
    """The folder of the stages: beside the target and kept after a stop, or a temporary one."""
    if target is None:
        with tempfile.TemporaryDirectory(prefix="narrows-") as folder:
            yield Path(folder)
        return
    work = target.with_name(target.name + ".work")
    begun = work.exists()
    if begun and not resume:
        raise NarrowsError(f"{work} holds a run that was stopped: add --resume to go on with it, or remove the folder")
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NarrowsError(f"{target} cannot be written ({error.strerror}): name another place with --out") from error
    try:
        yield work
    except (BudgetError, CheckpointError, DataError, ModelError, TrainingError) as error:
        # The same command would meet it again: only what the message names is worth keeping.
        if not begun and str(work) not in str(error):
            shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)
