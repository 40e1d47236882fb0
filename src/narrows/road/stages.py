"""The stages of a run, each of which can find its own result from an earlier run that was stopped."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from narrows.core.budget import Budget
from narrows.core.cost import Cost
from narrows.core.errors import BudgetError, ModelError, NarrowsError
from narrows.core.files import write_json
from narrows.core.seeds import derive
from narrows.data import Examples
from narrows.distill import (
    DistillObjective,
    EncodedTexts,
    History,
    Teacher,
    TrainConfig,
    diverged,
    finetune,
    open_teacher,
    train,
)
from narrows.distill.encode import StepSampler
from narrows.prune.magnitude import magnitude_scores
from narrows.prune.methods import Outcome, Problem, pruner
from narrows.prune.planner import shape_for
from narrows.prune.scores import Limits
from narrows.road.options import CALIBRATION, HEAL_RATES, Options, Watcher
from narrows.road.record import Report, Side, changed, make_record, measure, picture
from narrows.road.sources import aligned
from narrows.road.sources import loaded as loaded_model
from narrows.transformer.anatomy import Anatomy
from narrows.transformer.calibrate import Calibration, calibrate
from narrows.transformer.checkpoint import LoadedCheckpoint, load, save
from narrows.transformer.cost import cost_of, least_cost
from narrows.transformer.cut import cut, fold
from narrows.transformer.family import longest
from narrows.transformer.latency import TOKENS, measure_latency
from narrows.transformer.plan import Plan
from narrows.transformer.rebuild import rebuild
from narrows.transformer.vocabulary import keep_rows, trim_tokenizer, used_tokens

LATENCY_TRIALS = 8


class Road:
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
        """All stages; the small model and what there is to say about it."""
        dense, tokenizer, history = self._dense(source, tokenizer)
        self.train_set, self.held_out = (aligned(x, dense) for x in (self.train_set, self.held_out))
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
            small, healed, healing = self._heal(small, basis, teacher, examples, max(1, steps - outcome.steps))
        history += [{"stage": "heal", **r} for r in healed]
        small.eval()
        plan = replace(outcome.plan, vocab=kept_words)
        with self._stage("measure"):
            pair = (
                Side(dense, tokenizer, self._encode(self.held_out, tokenizer)),
                Side(small, small_tokenizer, self._encode(self.held_out, small_tokenizer)),
            )
            sides = measure(pair, before, self.work)
        facts = {
            "command": command or f"narrows.prune(..., {self.options})",
            "started": self.started,
            "seconds": self.seconds,
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
                "quality": sides.results[0].name,
            },
            "plan": picture(anatomy, plan),
            "information": outcome.information,
            "reconstruction": reconstruction,
            "healing": healing,
            "history": [{"cost": None, **h} for h in history],
            **changed(self.held_out, *sides.results),
        }
        return small, Report(make_record(self.options, sides, facts), plan, small_tokenizer)

    def _dense(
        self, source: str | Path | PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None
    ) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, list[dict[str, Any]]]:
        """The dense model with a trained head, and the history of its fine-tuning if it had none."""
        done = self._read("dense")
        if done is not None:
            loaded = load(self.work / "dense-model")
            self.max_length = min(self.max_length, longest(loaded.model))
            return loaded.model, loaded.tokenizer, done["history"]
        names = self.train_set.label_names
        head = {"num_labels": 1 if names is None else len(names)}
        loaded = loaded_model(source, tokenizer, None)
        self._require_possible(loaded)
        self.max_length = min(self.max_length, longest(loaded.model))
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
                loaded = loaded_model(source, None, head)
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

    def _heal(
        self, rebuilt: PreTrainedModel, basis: Tensor, teacher: Teacher, examples: EncodedTexts, steps: int
    ) -> tuple[PreTrainedModel, History, dict[str, Any]]:
        """Train the rebuilt model; once more at a lower rate where that took it away from the teacher."""
        tried: list[float] = []
        for rate in HEAL_RATES:
            small = copy.deepcopy(rebuilt)
            history = train(
                small,
                DistillObjective(teacher, initial_map=basis),
                examples,
                TrainConfig(steps, self.options.batch_size, rate, seed=self._seed("heal")),
                self.work / f"heal-{len(tried)}",
                resume=True,
                progress=self.watcher,
            )
            if not diverged(history):
                return small, history, {"rate": rate, "diverged": tried}
            tried.append(rate)
        return rebuilt, History(), {"rate": None, "diverged": tried}

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
