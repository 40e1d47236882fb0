"""What all cells of one data set and seed share: the dense model, its outputs, calibration and scores.

Everything is kept in the work folder, so that it is made once.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from narrows.core.budget import Budget
from narrows.core.cost import Cost
from narrows.core.files import new_directory, write_json
from narrows.core.seeds import derive
from narrows.data import Examples, split
from narrows.data.shipped import minilm, movie_reviews, product_reviews
from narrows.distill import EncodedTexts, StepSampler, TeacherCache, TrainConfig, finetune
from narrows.prune.fisher import fisher_scores
from narrows.prune.methods import Outcome, Problem
from narrows.prune.scores import Limits, Scores
from narrows.road import CALIBRATION
from narrows.transformer.anatomy import Anatomy
from narrows.transformer.calibrate import Batch, Calibration, calibrate
from narrows.transformer.checkpoint import load, save
from narrows.transformer.cost import cost_of
from narrows.transformer.cut import TableBasis, cut
from narrows.transformer.latency import TOKENS
from narrows.transformer.plan import Plan
from narrows.transformer.vocabulary import keep_rows, trim_tokenizer, used_tokens

BATCH = 32
HELD_OUT = 0.2
DENSE_EPOCHS = 2
LENGTH = 128
TOY = ("movie-toy", "product-toy")  # 200 sentences, cut at 16 tokens, and a tiny random model


@dataclass(frozen=True)
class Shared:
    """`model` is the dense model (with the vocabulary of the data, if that was asked for); `whole` its whole cost."""

    folder: Path
    seed: int
    model: PreTrainedModel
    anatomy: Anatomy
    train: EncodedTexts
    test: EncodedTexts
    teacher: TeacherCache
    calibration: Calibration
    scores: Scores
    whole: Cost

    def problem(self, budget: float) -> Problem:
        """What a pruner gets: `budget` is a percentage of all parameters of the whole dense model."""
        limit = Budget("params", Budget("params", budget, relative=True).limit(self.whole), relative=False)
        limits = Limits(self.anatomy, (limit,), self.whole)
        return Problem(self.model, self.anatomy, self.calibration, limits, seed=self.seed, basis="pca")

    def decided(
        self, method: str, budget: float, gate_steps: int, decide: Callable[[], Outcome]
    ) -> tuple[Outcome, float]:
        """What `decide` gives and its seconds, or what it gave to an earlier cell."""
        place = self.folder / f"{method}-{budget:g}-{gate_steps}"
        if not place.exists():
            start = time.monotonic()
            outcome = decide()
            facts = {
                "plan": outcome.plan.to_json(),
                "steps": outcome.steps,
                "information": outcome.information,
                "seconds": time.monotonic() - start,
            }
            with new_directory(place) as folder:
                write_json(folder / "outcome.json", facts)
                save_file({k: v.contiguous() for k, v in (outcome.scales or {}).items()}, folder / "scales")
        stored = json.loads((place / "outcome.json").read_text(encoding="utf-8"))
        scales = load_file(str(place / "scales"))
        plan = Plan.from_json(stored["plan"])
        return Outcome(plan, stored["steps"], scales, stored["information"]), float(stored["seconds"])


@lru_cache(maxsize=2)
def shared(data: str, seed: int, vocab: str, work: Path) -> Shared:
    """Everything for one data set, seed (split, fine-tuning and order follow it) and vocabulary."""
    folder = work / f"{data}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    train, test = split(_examples(data), HELD_OUT, seed)
    model, tokenizer = _dense(data, folder, train, seed)
    anatomy = Anatomy.of(model)
    whole = cost_of(anatomy, anatomy.full_plan(), TOKENS)
    length = 16 if data in TOY else LENGTH
    rows = EncodedTexts(train, tokenizer, length)
    teacher = TeacherCache.build(model, rows, range(len(rows)), folder / "teacher")
    if vocab == "data":
        kept = keep_rows(tokenizer, used_tokens(tokenizer, train.texts))
        model = cut(model, replace(anatomy.full_plan(), vocab=kept)).eval()
        tokenizer, anatomy = trim_tokenizer(tokenizer, kept), Anatomy.of(model)
        # On these texts the model says what it said before: the teacher's outputs hold for it too.
        rows = EncodedTexts(train, tokenizer, length)
    order = StepSampler(rows.lengths, BATCH, derive(seed, "calibration"), 4 if data in TOY else CALIBRATION)
    batches = [rows.batch(b) for b in order]
    calibration = _calibration(model, batches, folder / f"calibration-{vocab}.safetensors")
    scores = _scores(model, anatomy, calibration, folder / "fisher.safetensors")
    held_out = EncodedTexts(test, tokenizer, length)
    return Shared(folder, seed, model, anatomy, rows, held_out, teacher, calibration, scores, whole)


@contextmanager
def scratch_folder(work: Path, name: str) -> Iterator[Path]:
    """An empty folder for one training run, removed at the end; a cell that was killed starts again."""
    folder = work / "runs" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _examples(data: str) -> Examples:
    examples = movie_reviews() if data.startswith("movie") else product_reviews()
    return examples.select(range(0, len(examples), len(examples) // 200)[:200]) if data in TOY else examples


def _dense(data: str, folder: Path, train: Examples, seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    place = folder / "dense-model"
    if not place.exists():
        names = train.label_names
        outputs = 1 if names is None else len(names)
        with torch.random.fork_rng():
            torch.manual_seed(derive(seed, "head"))
            if data in TOY:
                model, tokenizer = _toy(train.texts, outputs)
            else:
                start = load(minilm(), head="ForSequenceClassification", dtype=torch.float32, num_labels=outputs)
                model, tokenizer = start.model, start.tokenizer
        if names is not None:
            model.config.id2label = dict(enumerate(names))
            model.config.label2id = {name: i for i, name in enumerate(names)}
        rows = EncodedTexts(train, tokenizer, 16 if data in TOY else LENGTH)
        steps = DENSE_EPOCHS * -(-len(rows) // BATCH)
        config = TrainConfig(steps, BATCH, warmup=0.1, seed=derive(seed, "dense"), bf16=False)
        finetune(model, rows, config, folder / "dense", fresh_head=True, resume=True)
        save(model.eval(), tokenizer, place)
        shutil.rmtree(folder / "dense")
    loaded = load(place)
    return loaded.model, loaded.tokenizer


def _toy(texts: tuple[str, ...], outputs: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A random BERT of 2 layers and a tokenizer that knows the 200 most frequent words."""
    known = Counter(word for text in texts for word in text.lower().split() if word.isalpha()).most_common(200)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(word for word, _ in known)]
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(words)}, model_max_length=LENGTH)
    sizes: dict[str, Any] = {
        "vocab_size": len(words),
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "intermediate_size": 192,
        "max_position_embeddings": LENGTH,
        "num_labels": outputs,
    }
    return BertForSequenceClassification(BertConfig(**sizes)), tokenizer


def _calibration(model: PreTrainedModel, batches: Sequence[Batch], file: Path) -> Calibration:
    if not file.exists():
        found = calibrate(model, batches)
        _store(
            file,
            {
                "covariance": found.covariance,
                "directions": found.directions,
                "frequency": found.frequency,
                "table_directions": found.table.directions,
                "table_mean": found.table.mean,
            },
        )
    t = load_file(str(file))
    table = TableBasis(t["table_directions"], t["table_mean"])
    return Calibration(batches, t["covariance"], t["directions"], t["frequency"], table)


def _scores(model: PreTrainedModel, anatomy: Anatomy, calibration: Calibration, file: Path) -> Scores:
    if not file.exists():
        found = fisher_scores(model, anatomy, calibration.batches)
        tensors = {"hidden": found.hidden}
        for i in range(anatomy.layers):
            tensors |= {f"heads_{i}": found.heads[i], f"neurons_{i}": found.neurons[i]}
        _store(file, tensors)
    return Scores.from_gates(anatomy, load_file(str(file)))


def _store(file: Path, tensors: dict[str, Tensor]) -> None:
    with new_directory(file.with_suffix(".tmp"), overwrite=True) as folder:
        save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "tensors")
    (file.with_suffix(".tmp") / "tensors").replace(file)
    shutil.rmtree(file.with_suffix(".tmp"))
