"""Labelled texts, read from a user's file and split without leaks."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from narrows.core.errors import DataError
from narrows.core.seeds import derive
from narrows.data.formats import read_columns

Task = Literal["classification", "regression"]

MIN_ROWS = 8
# Whole numbers written as floats (1.0, 2.0) are classes up to this many values, measurements beyond.
MAX_FLOAT_CLASSES = 20


@dataclass(frozen=True)
class Examples:
    """Texts (or pairs of texts) with labels.

    Classification: `labels` are indices into `label_names`, which are sorted (numbers by value).
    Regression: `labels` are finite floats and `label_names` is None.
    """

    texts: tuple[str, ...]
    pairs: tuple[str, ...] | None
    labels: tuple[int, ...] | tuple[float, ...]
    label_names: tuple[str, ...] | None

    def __post_init__(self) -> None:
        n = len(self.texts)
        if len(self.labels) != n or (self.pairs is not None and len(self.pairs) != n):
            raise DataError(
                f"{n} texts need as many labels and second texts, got {len(self.labels)} labels"
                + ("" if self.pairs is None else f" and {len(self.pairs)} second texts")
            )
        if self.label_names is not None and not all(
            isinstance(y, int) and 0 <= y < len(self.label_names) for y in self.labels
        ):
            raise DataError(f"class labels must be whole numbers from 0 to {len(self.label_names) - 1}")

    @property
    def task(self) -> Task:
        """What is asked of the model."""
        return "regression" if self.label_names is None else "classification"

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, indices: Sequence[int]) -> Examples:
        """The examples at `indices`, in that order."""
        return Examples(
            texts=tuple(self.texts[i] for i in indices),
            pairs=None if self.pairs is None else tuple(self.pairs[i] for i in indices),
            labels=tuple(self.labels[i] for i in indices),
            label_names=self.label_names,
        )


def read_examples(
    path: str | Path,
    *,
    text: str = "text",
    text_pair: str | None = None,
    label: str = "label",
    task: str = "auto",
    label_names: Sequence[str] | None = None,
) -> Examples:
    """Read labelled texts from CSV, TSV, JSON Lines (all also .gz) or Parquet.

    `text`, `text_pair` and `label` name columns. `task` is "classification", "regression" or "auto":
    then numbers that are not all whole are regression, and so are whole numbers written as floats with over
    20 different values; everything else is classification. `label_names` are the classes of the training
    data, to which the labels of an evaluation file are mapped.

    Raises DataError for everything that is wrong with the file: format, columns, empty texts, missing or
    infinite labels, a single class, fewer than 8 rows, a label that is not among `label_names` (see `class_numbers`).
    """
    path = Path(path)
    if task not in ("auto", "classification", "regression"):
        raise DataError(f"task must be auto, classification or regression, got {task!r}")
    wanted = [(text, "text"), (label, "label")] + ([] if text_pair is None else [(text_pair, "text_pair")])
    texts, raw, *second = read_columns(path, wanted)
    if not texts:
        raise DataError(f"{path}: the file has a header and no rows")
    words = _texts(path, text, texts)
    pairs = None if text_pair is None else _texts(path, text_pair, second[0])
    values = _label_values(path, label, raw)
    evaluation = label_names is not None
    if len(words) < MIN_ROWS and not evaluation:
        raise DataError(f"{path}: {len(words)} rows are too few to learn from; bring at least {MIN_ROWS}")
    if task == "auto":
        task = "classification" if evaluation else _guess_task(path, label, values)
    if task == "regression":
        return Examples(words, pairs, _measurements(path, label, values), None)
    names = [_class_name(v) for v in values]
    known = tuple(label_names) if label_names is not None else _sorted_names(set(names))
    index = class_numbers(names, known)
    for row, name in enumerate(names, start=1):
        if name not in index:
            raise DataError(
                f"{path}: row {row} has the label {name!r}, which is none of the known ones: "
                f"{', '.join(map(repr, known))}"
            )
    if len(known) < 2:
        raise DataError(f"{path}: all {len(words)} rows have the label {known[0]!r}; a classifier needs two classes")
    return Examples(words, pairs, tuple(index[name] for name in names), known)


def class_numbers(found: Iterable[str], known: Sequence[str]) -> dict[str, int]:
    """Which of the `known` classes each name found in data is; names that are none of them are left out.

    A name is a known one whatever its case. Where no name is known and all are numbers of classes (from 0), they are
    taken as that.
    """
    names = set(found)
    folded = {name.casefold(): i for i, name in reversed(list(enumerate(known)))}
    numbers = {name: i for i, name in enumerate(known)}
    matched = {name: numbers.get(name, folded.get(name.casefold(), -1)) for name in names}
    if set(matched.values()) == {-1} and names <= {str(i) for i in range(len(known))}:
        return {name: int(name) for name in names}
    return {name: i for name, i in matched.items() if i >= 0}


def _texts(path: Path, column: str, values: Sequence[Any]) -> tuple[str, ...]:
    for row, value in enumerate(values, start=1):
        if value is not None and not isinstance(value, str):
            if isinstance(value, float) and math.isnan(value):
                continue
            raise DataError(
                f"{path}: column {column!r} holds {value!r} ({type(value).__name__}) in row {row}, not text"
            )
    empty = [row for row, v in enumerate(values, start=1) if not isinstance(v, str) or not v.strip()]
    if empty:
        raise DataError(f"{path}: column {column!r} is empty in {_rows(empty)}; remove such rows or fill them in")
    return tuple(values)


def _rows(rows: Sequence[int]) -> str:
    return f"row {rows[0]}" if len(rows) == 1 else f"{len(rows)} rows, the first is row {rows[0]}"


def _label_values(path: Path, column: str, values: Sequence[Any]) -> list[str | int | float]:
    """Labels as int, float or text, alike for all file formats: "1" is 1, "1.0" is 1.0, true is "True"."""
    result: list[str | int | float] = []
    missing: list[int] = []
    for row, value in enumerate(values, start=1):
        if isinstance(value, Decimal):
            value = float(value)
        if isinstance(value, bool):
            value = str(value)
        if isinstance(value, str):
            value = _number(value.strip())
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            missing.append(row)
            continue
        if not isinstance(value, str | int | float):
            raise DataError(
                f"{path}: column {column!r} holds {value!r} in row {row}, expected a number or a class name"
            )
        result.append(value)
    if missing:
        raise DataError(
            f"{path}: the label (column {column!r}) is missing in {_rows(missing)}; remove or label such rows"
        )
    return result


def _number(word: str) -> str | int | float:
    if not word.isascii() or "_" in word or len(word) > 40:
        return word
    try:
        number = int(word)
    except ValueError:
        value = _as_float(word)
        return word if value is None else value
    # "007" and "+1" are names: as numbers they could not be written back.
    return number if str(number) == word else word


def _as_float(value: str | int | float) -> float | None:
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _guess_task(path: Path, column: str, values: Sequence[str | int | float]) -> Task:
    numbers = [_as_float(v) for v in values]
    measured = next((v for v in numbers if v is not None and not v.is_integer()), None)
    different = len({_class_name(v) for v in values})
    if measured is not None:
        if None in numbers:
            row = numbers.index(None)
            raise DataError(
                f"{path}: the label in row {row + 1} is {values[row]!r}, but others are numbers such as "
                f"{measured!r}; correct it, or say --task classification"
            )
        return "regression"
    most = max(2, len(values) // 2)
    if None not in numbers and any(isinstance(v, float) for v in values):
        return "regression" if different > min(MAX_FLOAT_CLASSES, most) else "classification"
    if different > most:
        raise DataError(
            f"{path}: the label column {column!r} has {different} different values in {len(values)} rows, "
            "too many for classes; name another one with --label, or say --task regression"
        )
    return "classification"


def _measurements(path: Path, column: str, values: Sequence[str | int | float]) -> tuple[float, ...]:
    result = []
    for row, value in enumerate(values, start=1):
        number = _as_float(value)
        if number is None or not math.isfinite(number):
            raise DataError(f"{path}: column {column!r} is {value!r} in row {row}; regression needs finite numbers")
        result.append(number)
    return tuple(result)


def _class_name(value: str | int | float) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _sorted_names(names: set[str]) -> tuple[str, ...]:
    try:
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    except ValueError:
        return tuple(sorted(names))


def split(examples: Examples, fraction: float, seed: int) -> tuple[Examples, Examples]:
    """Split into (rest, held_out) with `fraction` of the rows held out, both in the order of `examples`.

    Rows with the same text (or the same pair) stay together, so none is on both sides. Classes are held out
    in proportion and keep at least one text in the rest. Deterministic in `seed`. The size is exact unless
    repeated texts stand in the way. Raises DataError when `fraction` is not inside (0, 1) or a side would be
    empty.
    """
    if not 0 < fraction < 1:
        raise DataError(f"the held-out fraction must lie between 0 and 1, got {fraction}")
    groups: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    for i, words in enumerate(examples.texts):
        groups[words, None if examples.pairs is None else examples.pairs[i]].append(i)
    strata: dict[int, list[list[int]]] = defaultdict(list)
    for rows in groups.values():
        strata[0 if examples.label_names is None else int(examples.labels[rows[0]])].append(rows)
    dice = random.Random(derive(seed, "split"))
    total = round(fraction * len(examples))
    quotas = _quotas({s: sum(map(len, members)) for s, members in strata.items()}, total)
    held: list[int] = []
    left: list[list[int]] = []
    for stratum in sorted(strata):
        members = strata[stratum]
        dice.shuffle(members)
        room = quotas[stratum]
        for rows in members[:-1]:
            if len(rows) <= room:
                held += rows
                room -= len(rows)
            else:
                left.append(rows)
    # What repeated texts left open in one class is filled from the others.
    for rows in left:
        if len(rows) <= total - len(held):
            held += rows
    if not held or len(held) == len(examples):
        raise DataError(
            f"cannot hold out {total} of {len(examples)} rows with {len(groups)} different texts; bring "
            "more rows or another fraction"
        )
    chosen = set(held)
    rest = [i for i in range(len(examples)) if i not in chosen]
    return examples.select(rest), examples.select(sorted(chosen))


def _quotas(sizes: dict[int, int], total: int) -> dict[int, int]:
    """Largest remainders: whole numbers in proportion to `sizes` that sum to `total`."""
    everything = Counter(sizes).total()
    exact = {s: total * n / everything for s, n in sizes.items()}
    quotas = {s: math.floor(x) for s, x in exact.items()}
    by_remainder = sorted(sizes, key=lambda s: (quotas[s] - exact[s], s))
    for s in by_remainder[: total - sum(quotas.values())]:
        quotas[s] += 1
    return quotas
