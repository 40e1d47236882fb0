"""The main road: a model and its data go in; a smaller model, its checkpoint and its report come out.

load -> (fine-tune) -> (trim the vocabulary) -> plan -> rebuild -> heal -> measure -> save. Every stage leaves its
result in a work folder when it is done, so that a run that was stopped or killed goes on where it was, and ends at
the same weights.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from narrows.core.budget import Budget
from narrows.core.cite import references
from narrows.core.cost import Cost
from narrows.core.errors import BudgetError, CheckpointError, DataError, ModelError, NarrowsError, TrainingError
from narrows.core.files import write_json, write_text
from narrows.core.record import environment
from narrows.core.seeds import derive
from narrows.data import Examples, read_examples, shipped_examples, shipped_model, split
from narrows.distill import (
    DistillObjective,
    EncodedTexts,
    Evaluation,
    Teacher,
    TrainConfig,
    finetune,
    open_teacher,
    train,
)
from narrows.distill import evaluate as evaluate_model
from narrows.distill.encode import StepSampler
from narrows.prune.magnitude import magnitude_scores
from narrows.prune.methods import Outcome, Problem, pruner, resolve
from narrows.prune.planner import shape_for
from narrows.prune.scores import Limits
from narrows.transformer.anatomy import Anatomy
from narrows.transformer.calibrate import Calibration, calibrate
from narrows.transformer.checkpoint import LoadedCheckpoint, load, save
from narrows.transformer.cost import cost_of, least_cost
from narrows.transformer.cut import cut, fold
from narrows.transformer.family import family_of
from narrows.transformer.latency import TOKENS, measure_latency
from narrows.transformer.plan import Basis, Plan
from narrows.transformer.rebuild import rebuild
from narrows.transformer.vocabulary import keep_rows, trim_tokenizer, used_tokens

CALIBRATION = 40  # batches
HEAL_RATE = 3e-4
"""Learning rate of healing (spec of the recipe: AdamW, linear to 0, 5 % warm-up)."""
CHANGED = 12  # examples of each kind in the report
LATENCY_TRIALS = 8


class Watcher(Protocol):
    """Who is told how a run gets on."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def update(self, step: int, total: int, figures: Mapping[str, float]) -> None:
        """`step` of `total` parts of the stage are done; a total of 0 means that it is not known."""


class _Nobody:
    def stage(self, name: str) -> None: ...

    def update(self, step: int, total: int, figures: Mapping[str, float]) -> None: ...


@dataclass(frozen=True)
class Options:
    """What a run is asked for, besides the model and the data; all of it decides the result.

    `steps`: training steps after the dense model exists (`epochs` over the data instead, if given).
    `dense_epochs`, `dense_rate`: fine-tuning of a model without a head for the data. `held_out`: the share of the
    data to judge on, where there is no evaluation file. `vocab="data"` keeps the words of the training texts only.
    """

    budgets: tuple[Budget, ...]
    method: str = "auto"
    basis: Basis = "pca"
    vocab: Literal["all", "data"] = "all"
    steps: int = 1200
    epochs: float | None = None
    dense_epochs: float = 2.0
    dense_rate: float = 1e-4
    batch_size: int = 32
    max_length: int = 128
    held_out: float = 0.2
    uniform: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        pruner(self.method, uniform=self.uniform)
        if not self.budgets:
            raise BudgetError('name at least one budget, such as "20% params"')
        for name, low in (("steps", 1), ("batch_size", 1), ("max_length", 4)):
            if getattr(self, name) < low:
                raise NarrowsError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if not 0 < self.held_out < 1:
            raise NarrowsError(f"the held-out share lies between 0 and 1, got {self.held_out:g}")
        if (self.epochs is not None and self.epochs <= 0) or self.dense_epochs <= 0:
            raise NarrowsError("epochs must be above 0")

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"budgets": [str(b) for b in self.budgets]}


@dataclass(frozen=True)
class Report:
    """What a run found: `record` is plain data (what `--json` prints and narrows.json holds)."""

    record: dict[str, Any]
    plan: Plan
    tokenizer: PreTrainedTokenizerBase

    @property
    def html(self) -> str:
        """The report as one self-contained page."""
        from narrows.report import render_report

        return render_report(self.record)

    def __getitem__(self, key: str) -> Any:
        return self.record[key]


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
    train_set, held_out, name = _examples(data, evaluation, columns or {}, settings)
    target = None if out is None else Path(out)
    if target is not None and target.exists():
        _require_empty(target)
    with _work_folder(target, resume) as work:
        road = _Road(work, settings, train_set, held_out, name, watcher or _Nobody())
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
    loaded = _loaded(model, tokenizer, None)
    if loaded.missing_head:
        raise ModelError("the model has no trained head for this data; `narrows prune` fine-tunes one")
    given = dict(columns or {}) | ({"task": "regression"} if loaded.model.config.num_labels == 1 else {})
    examples = _aligned(data if isinstance(data, Examples) else _read(data, given), loaded.model)
    length = min(max_length, _longest(loaded.model))
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


def _read(data: str | Path, columns: Mapping[str, Any]) -> Examples:
    shipped = shipped_examples(data) if isinstance(data, str) else None
    if shipped is not None and set(columns) - {"task"}:
        raise DataError(f"{data} ships with narrows and its columns are known: leave out the names of columns")
    return read_examples(data, **columns) if shipped is None else shipped


def _examples(
    data: str | Path | Examples, evaluation: str | Path | Examples | None, columns: Mapping[str, Any], options: Options
) -> tuple[Examples, Examples, str]:
    examples = data if isinstance(data, Examples) else _read(data, columns)
    name = "examples" if isinstance(data, Examples) else Path(data).name
    if evaluation is None:
        rest, held = split(examples, options.held_out, options.seed)
        return rest, held, name
    given = {**columns, "label_names": examples.label_names, "task": examples.task}
    held = evaluation if isinstance(evaluation, Examples) else read_examples(evaluation, **given)
    if held.task != examples.task:
        raise DataError(f"the evaluation data is for {held.task}, the training data for {examples.task}")
    return examples, held, name


def _longest(model: PreTrainedModel) -> int:
    """The longest text that the model has positions for, in tokens."""
    table: Any = model.base_model.get_submodule(family_of(model.config.model_type).positions)
    # RoBERTa counts positions from behind the padding id.
    return int(table.num_embeddings) - (0 if table.padding_idx is None else table.padding_idx + 1)


def _label_names(model: PreTrainedModel) -> tuple[str, ...] | None:
    labels = getattr(model.config, "id2label", None) or {}
    names = tuple(str(labels[i]) for i in sorted(labels))
    generic = names == tuple(f"LABEL_{i}" for i in range(len(names)))
    return None if generic or model.config.num_labels == 1 else names


def _aligned(examples: Examples, model: PreTrainedModel) -> Examples:
    """The examples with their classes numbered as the model's outputs are."""
    names = _label_names(model)
    if names is None or examples.label_names is None or names == examples.label_names:
        return examples
    number = {name.casefold(): i for i, name in enumerate(names)}
    unknown = [name for name in examples.label_names if name.casefold() not in number]
    if unknown:
        raise ModelError(
            f"the data has the label {unknown[0]!r}, the model knows {', '.join(names)}: rename the labels in the data"
        )
    new = [number[name.casefold()] for name in examples.label_names]
    return replace(examples, labels=tuple(new[int(label)] for label in examples.labels), label_names=names)


def _loaded(
    model: str | Path | PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, head: Mapping[str, Any] | None
) -> LoadedCheckpoint:
    if isinstance(model, PreTrainedModel):
        if tokenizer is None:
            raise ModelError("a loaded model needs its tokenizer: prune(model, data, tokenizer=...)")
        return LoadedCheckpoint(model, tokenizer, None, missing_head=False)
    folder = shipped_model(model) if isinstance(model, str) else None
    return load(folder or model, head="ForSequenceClassification", dtype=torch.float32, **(head or {}))


class _Road:
    """One run; each method is a stage and can find its own result from an earlier, stopped run."""

    def __init__(
        self, work: Path, options: Options, train_set: Examples, held_out: Examples, name: str, watcher: Watcher
    ) -> None:
        self.work, self.options, self.watcher = work, options, watcher
        self.train_set, self.held_out, self.data_name = train_set, held_out, name
        self.max_length = options.max_length
        self.seconds: dict[str, float] = self._read("seconds") or {}
        self.started = datetime.now(UTC).isoformat(timespec="seconds")

    def claim(self, model: str | Path | PreTrainedModel, resume: bool) -> None:
        """Note what this run is; a resumed one must be the same."""
        identity = {
            "options": self.options.to_json(),
            "model": model if isinstance(model, str) else str(model) if isinstance(model, Path) else "in memory",
            "data": [self.data_name, len(self.train_set), len(self.held_out)],
        }
        before = self._read("run")
        if before is not None and before != json.loads(json.dumps(identity)):
            different = [k for k in identity if before.get(k) != json.loads(json.dumps(identity))[k]]
            raise NarrowsError(
                f"{self.work} holds a run with other {', '.join(different)}: "
                "give the same arguments, or remove the folder"
            )
        write_json(self.work / "run.json", identity)

    def run(
        self, source: str | Path | PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, command: str | None
    ) -> tuple[PreTrainedModel, Report]:
        dense, tokenizer, history = self._dense(source, tokenizer)
        self.train_set, self.held_out = (_aligned(x, dense) for x in (self.train_set, self.held_out))
        anatomy = Anatomy.of(dense)
        teacher_model, small_tokenizer, kept_words = self._trim(dense, tokenizer, anatomy)
        examples = self._encode(self.train_set, small_tokenizer)
        steps = self._steps(len(examples))
        visited = StepSampler(examples.lengths, self.options.batch_size, self._seed("heal"), steps).visited()
        with self._stage("teacher"):
            teacher = open_teacher(teacher_model, examples, visited, self.work / "teacher", progress=self.watcher)
        before = cost_of(anatomy, anatomy.full_plan(), TOKENS)
        if any(b.measure == "latency" for b in self.options.budgets):
            before = replace(before, latency_ms=measure_latency((dense,))[0])
        with self._stage("plan"):
            outcome, small, basis, reconstruction = self._plan(
                teacher_model, small_tokenizer, examples, teacher, before, steps
            )
        history += [{"stage": "prune", **r} for r in outcome.history]
        with self._stage("heal"):
            objective = DistillObjective(teacher, initial_map=basis)
            healed = train(
                small,
                objective,
                examples,
                TrainConfig(
                    steps=max(1, steps - outcome.steps),
                    batch_size=self.options.batch_size,
                    learning_rate=HEAL_RATE,
                    seed=self._seed("heal"),
                ),
                self.work / "heal",
                resume=True,
                progress=self.watcher,
            )
        history += [{"stage": "heal", **r} for r in healed]
        small.eval()
        plan = replace(outcome.plan, vocab=kept_words)
        record = self._record(
            dense, tokenizer, small, small_tokenizer, anatomy, plan, outcome, reconstruction, history, before, command
        )
        return small, Report(record, plan, small_tokenizer)

    def _dense(
        self, source: str | Path | PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None
    ) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, list[dict[str, Any]]]:
        """The dense model with a trained head, and the history of its fine-tuning if it had none."""
        done = self._read("dense")
        if done is not None:
            loaded = load(self.work / "dense-model")
            self.max_length = min(self.max_length, _longest(loaded.model))
            return loaded.model, loaded.tokenizer, done["history"]
        names = self.train_set.label_names
        head = {"num_labels": 1 if names is None else len(names)}
        loaded = _loaded(source, tokenizer, None)
        self._require_possible(loaded)
        self.max_length = min(self.max_length, _longest(loaded.model))
        fresh = loaded.missing_head or loaded.model.config.num_labels != head["num_labels"]
        model, history = loaded.model, list[dict[str, Any]]()
        if fresh:
            if isinstance(source, PreTrainedModel):
                raise ModelError(
                    f"the model has {model.config.num_labels} outputs, the data needs {head['num_labels']}; "
                    "load it with the right number of labels and fine-tune it first"
                )
            with torch.random.fork_rng():
                torch.manual_seed(self._seed("head"))
                loaded = _loaded(source, None, head)
            model = loaded.model
            if names is not None:
                model.config.id2label = dict(enumerate(names))
                model.config.label2id = {name: i for i, name in enumerate(names)}
            examples = self._encode(self.train_set, loaded.tokenizer)
            batches = -(-len(examples) // self.options.batch_size)
            config = TrainConfig(
                steps=max(1, round(self.options.dense_epochs * batches)),
                batch_size=self.options.batch_size,
                learning_rate=self.options.dense_rate,
                warmup=0.1,
                seed=self._seed("dense"),
            )
            with self._stage("fine-tune"):
                trained = finetune(
                    model, examples, config, self.work / "dense", fresh_head=True, resume=True, progress=self.watcher
                )
            history = [{"stage": "finetune", **r} for r in trained]
        model = model.eval()
        save(model, loaded.tokenizer, self.work / "dense-model", overwrite=True)
        self._write("dense", {"history": history})
        return model, loaded.tokenizer, history

    def _require_possible(self, loaded: LoadedCheckpoint) -> None:
        """Refuse before any training what could only fail after it: an unknown family, a budget below every model."""
        anatomy = Anatomy.of(loaded.model)
        dense = cost_of(anatomy, anatomy.full_plan(), TOKENS)
        words = None
        if self.options.vocab == "data":
            counts = used_tokens(loaded.tokenizer, self.train_set.texts, self.train_set.pairs)
            words = len(keep_rows(loaded.tokenizer, counts))
        least = least_cost(anatomy, TOKENS, vocab=words)
        for budget in self.options.budgets:
            if budget.measure != "latency" and budget.spent(least) > budget.limit(dense):
                raise BudgetError(
                    f"{budget} is below the smallest possible model, which needs "
                    f"{100 * budget.spent(least) / budget.spent(dense):.2g}% {budget.measure}: raise the budget"
                    + (", or let words leave that the data never needs (vocab data)" if words is None else "")
                )

    def _trim(
        self, dense: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, anatomy: Anatomy
    ) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, tuple[int, ...] | None]:
        """The dense model without the words that the data never needs."""
        if self.options.vocab == "all":
            return dense, tokenizer, None
        kept = keep_rows(tokenizer, used_tokens(tokenizer, self.train_set.texts, self.train_set.pairs))
        full = replace(anatomy.full_plan(), vocab=kept)
        return cut(dense, full).eval(), trim_tokenizer(tokenizer, kept), kept

    def _plan(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: EncodedTexts,
        teacher: Teacher,
        before: Cost,
        steps: int,
    ) -> tuple[Outcome, PreTrainedModel, Tensor, list[dict[str, Any]]]:
        """Decide what stays, and rebuild it."""
        done = self._read("plan")
        if done is not None:
            small = load(self.work / "rebuilt").model
            plan = Plan.from_json(done["plan"])
            basis = torch.tensor(done["basis"])
            outcome = Outcome(plan, done["steps"], None, done["information"], done["history"])
            return outcome, small, basis, done["reconstruction"]
        anatomy = Anatomy.of(model)
        order = StepSampler(examples.lengths, self.options.batch_size, self._seed("calibration"), CALIBRATION)
        calibration = calibrate(model, [examples.batch(b) for b in order])
        problem = Problem(
            model,
            anatomy,
            calibration,
            Limits(anatomy, self._budgets(model, anatomy, calibration, before), before),
            seed=self.options.seed,
            basis=self.options.basis,
            uniform=self.options.uniform,
            steps=steps,
            train=examples,
            teacher=teacher,
            run_dir=self.work / "gates",
            resume=True,
            progress=self.watcher,
            tick=lambda done, total: self.watcher.update(done, total, {}),
        )
        outcome = pruner(self.options.method)(problem)
        source = model if outcome.scales is None else fold(model, anatomy, outcome.scales)
        rebuilt = rebuild(model, outcome.plan, calibration, start=source, stock=self.options.uniform)
        reconstruction = [{"site": s.site, "variance": s.variance} for s in rebuilt.reconstruction]
        save(rebuilt.model, tokenizer, self.work / "rebuilt", overwrite=True)
        self._write(
            "plan",
            {
                "plan": outcome.plan.to_json(),
                "basis": rebuilt.basis.tolist(),
                "steps": outcome.steps,
                "information": outcome.information,
                "history": list(outcome.history),
                "reconstruction": reconstruction,
            },
        )
        return outcome, rebuilt.model, rebuilt.basis, reconstruction

    def _budgets(
        self, model: PreTrainedModel, anatomy: Anatomy, calibration: Calibration, dense: Cost
    ) -> tuple[Budget, ...]:
        """The budgets as absolute amounts, so that they hold for a model whose vocabulary was trimmed.

        A latency budget becomes the MACs of a model that was measured to keep it, found by trial.
        """
        absolute = [Budget(b.measure, b.limit(dense), relative=False) for b in self.options.budgets]
        exact = [b for b in absolute if b.measure != "latency"]
        wanted = min((b.amount for b in absolute if b.measure == "latency"), default=None)
        if wanted is None:
            return tuple(exact)
        macs, scores = float(dense.macs), magnitude_scores(model, anatomy)
        for _ in range(LATENCY_TRIALS):
            budgets = (*exact, Budget("macs", macs, relative=False))
            plan = shape_for(Limits(anatomy, budgets, dense), scores)
            latency = measure_latency((cut(model, plan),))[0]["1"]
            if latency <= wanted:
                return budgets
            macs *= min(0.9, wanted / latency)
        raise BudgetError(
            f"a latency of {wanted:g} ms at batch size 1 was not reached: "
            f"the smallest model tried takes {latency:.2f} ms"
        )

    def _record(
        self,
        dense: PreTrainedModel,
        dense_tokenizer: PreTrainedTokenizerBase,
        small: PreTrainedModel,
        small_tokenizer: PreTrainedTokenizerBase,
        anatomy: Anatomy,
        plan: Plan,
        outcome: Outcome,
        reconstruction: list[dict[str, Any]],
        history: list[dict[str, Any]],
        cost: Cost,
        command: str | None,
    ) -> dict[str, Any]:
        """Measure before and after, and say everything that happened."""
        with self._stage("measure"):
            held = [self._encode(self.held_out, t) for t in (dense_tokenizer, small_tokenizer)]
            results = [evaluate_model(m, h) for m, h in zip((dense, small), held, strict=True)]
            latency = measure_latency((dense, small))
            small_anatomy = Anatomy.of(small)
            costs = (cost, cost_of(small_anatomy, small_anatomy.full_plan(), TOKENS))
            sides = [
                {
                    "quality": r.quality,
                    "quality_se": r.standard_error,
                    **r.figures,
                    **{k: v for k, v in asdict(c).items() if k != "latency_ms"},
                    "bytes": _stored_bytes(m, t, self.work),
                    "latency_ms": ms,
                }
                for r, c, m, t, ms in zip(
                    results, costs, (dense, small), (dense_tokenizer, small_tokenizer), latency, strict=True
                )
            ]
        measured = replace(costs[1], latency_ms=latency[1])
        origin = replace(cost, latency_ms=latency[0])
        return {
            "schema": 1,
            "command": command or f"narrows.prune(..., {self.options})",
            "started": self.started,
            "seconds": self.seconds,
            "environment": environment(),
            "model": {
                "name": self._read("run")["model"],
                "family": anatomy.family.model_type,
                "class": type(dense).__name__,
            },
            "data": {
                "name": self.data_name,
                "task": self.train_set.task,
                "train": len(self.train_set),
                "validation": 0,
                "held_out": len(self.held_out),
                "quality": results[0].name,
            },
            "method": resolve(self.options.method),
            "seed": self.options.seed,
            "options": self.options.to_json(),
            "budgets": [
                {"text": str(b), "measure": b.measure, "limit": b.limit(origin), "reached": b.spent(measured)}
                for b in self.options.budgets
            ],
            "before": sides[0],
            "after": sides[1],
            "plan": _picture(anatomy, plan),
            "information": outcome.information,
            "reconstruction": reconstruction,
            "history": [{"cost": None, **h} for h in history],
            "changed": _changed(self.held_out, results[0], results[1]),
            "citations": [r.key for r in references(pruner(self.options.method))],
        }

    def _encode(self, examples: Examples, tokenizer: PreTrainedTokenizerBase) -> EncodedTexts:
        return EncodedTexts(examples, tokenizer, self.max_length)

    def _steps(self, examples: int) -> int:
        if self.options.epochs is None:
            return self.options.steps
        return max(1, round(self.options.epochs * -(-examples // self.options.batch_size)))

    def _seed(self, what: str) -> int:
        return derive(self.options.seed, what)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self.watcher.stage(name)
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start
            self._write("seconds", self.seconds)

    def _read(self, name: str) -> Any:
        file = self.work / f"{name}.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def _write(self, name: str, value: Any) -> None:
        write_json(self.work / f"{name}.json", value)


def _stored_bytes(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, work: Path) -> int:
    """Bytes of the checkpoint's weights on disk."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        path = save(model, tokenizer, Path(folder) / "model")
        return sum(f.stat().st_size for f in path.glob("*.safetensors"))


def _picture(anatomy: Anatomy, plan: Plan) -> dict[str, Any]:
    """The plan as the report shows it: what is kept of what."""
    shape = anatomy.shape
    words = shape.vocab if plan.vocab is None else len(plan.vocab)
    return {
        "basis": plan.basis,
        "hidden": {"kept": len(plan.hidden), "of": shape.hidden},
        "rank": None if plan.rank is None else {"kept": plan.rank, "of": shape.rank or shape.hidden},
        "vocab": {"kept": words, "of": shape.vocab},
        "layers": [
            {
                "heads": list(layer.heads),
                "heads_of": shape.heads[i],
                "neurons": list(layer.neurons),
                "neurons_of": shape.neurons[i],
            }
            for i, layer in enumerate(plan.layers)
        ],
    }


def _changed(examples: Examples, before: Evaluation, after: Evaluation) -> list[dict[str, str]]:
    """Held-out examples whose prediction changed: those that became wrong and those that became right."""
    if examples.label_names is None:
        worse = abs(after.predictions - before.predictions)
        chosen = worse.argsort()[::-1][:CHANGED].tolist()

        def say(value: float) -> str:
            return f"{value:.2f}"
    else:
        names = examples.label_names
        different = (before.predictions != after.predictions).nonzero()[0].tolist()
        lost = [i for i in different if before.predictions[i] == examples.labels[i]]
        won = [i for i in different if after.predictions[i] == examples.labels[i]]
        chosen = [*lost[:CHANGED], *won[:CHANGED]]

        def say(value: float) -> str:
            return names[int(value)]

    return [
        {
            "text": examples.texts[i] + (f" | {examples.pairs[i]}" if examples.pairs else ""),
            "label": say(examples.labels[i]),
            "before": say(before.predictions[i]),
            "after": say(after.predictions[i]),
        }
        for i in chosen
    ]
