"""A tiny random encoder without a head and 120 short reviews, and the command line called in this process."""

import gc
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from typer.testing import CliRunner, Result

from narrows.cli import app

OTHER = ["the", "film", "was", "a", "story", "and", "it", "felt", "very", "so", "plot", "actor"]
GOOD = ["fine", "warm", "bright", "clever", "lovely"]
BAD = ["dull", "cold", "grim", "stupid", "awful"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *OTHER, *GOOD, *BAD, *LETTERS, *(f"##{c}" for c in LETTERS)]


def reviews(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """(text, label) with as many good ones as bad ones; one word decides."""
    dice = random.Random(seed)
    rows = []
    for i in range(n):
        words = [*dice.sample(OTHER, dice.randint(2, 6)), dice.choice(BAD if i % 2 else GOOD)]
        dice.shuffle(words)
        rows.append((" ".join(words), "bad" if i % 2 else "good"))
    return rows


def write_rows(path: Path, rows: list[tuple[str, Any]], header: tuple[str, str] = ("text", "label")) -> Path:
    path.write_text("".join(f"{a}\t{b}\n" for a, b in [header, *rows]), encoding="utf-8")
    return path


def word_pieces() -> transformers.PreTrainedTokenizerFast:
    """A WordPiece tokenizer as BERT has it."""
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    return transformers.BertTokenizerFast(tokenizer_object=tokenizer, **special)


@dataclass(frozen=True)
class Place:
    """Paths of the tiny model (bare encoder) and of its data."""

    model: Path
    data: Path
    more: Path


@pytest.fixture(scope="session", autouse=True)
def _frozen_heap() -> Iterator[None]:
    """Every start of a training run collects garbage: half a second with all imported modules."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., transformers.PreTrainedModel]) -> Place:
    folder = tmp_path_factory.mktemp("cli")
    model = tiny(
        "bert",
        head="Model",
        vocab_size=len(VOCABULARY),
        num_hidden_layers=2,
        max_position_embeddings=64,
        hidden_size=32,
        intermediate_size=40,
    )
    model.save_pretrained(folder / "model")
    word_pieces().save_pretrained(folder / "model")
    return Place(
        folder / "model",
        write_rows(folder / "reviews.tsv", reviews(120)),
        write_rows(folder / "more.tsv", reviews(40, seed=1)),
    )


@pytest.fixture(scope="session")
def arguments(place: Place) -> Callable[..., list[str]]:
    """`arguments(out, *more)`: those of the smallest `narrows prune`; later ones replace earlier ones."""

    def make(out: Path, *more: object) -> list[str]:
        short = ["--budget", "60% params", "--steps", "6", "--dense-epochs", "1", "--batch-size", "16"]
        return ["prune", str(place.model), "--data", str(place.data), *short, "--out", str(out), *map(str, more)]

    return make


@pytest.fixture(scope="session")
def narrows() -> Callable[..., Result]:
    """`narrows(*arguments)`: the command line in this process, with stdout and stderr apart."""

    def call(*given: object) -> Result:
        return CliRunner().invoke(app, [str(word) for word in given])

    return call


@dataclass(frozen=True)
class Run:
    """A finished run."""

    out: Path
    result: Result

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "narrows.json").read_text(encoding="utf-8"))
        return found


@pytest.fixture(scope="session")
def finished(
    place: Place,
    narrows: Callable[..., Result],
    arguments: Callable[..., list[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """The run that most tests look at; judged on a file of its own."""
    out = tmp_path_factory.mktemp("finished") / "small"
    return Run(out, narrows(*arguments(out, "--eval", place.more, "--vocab", "data")))
