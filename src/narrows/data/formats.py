"""Reading the columns of a CSV, TSV, JSON Lines or Parquet file, without guessing at the texts.

The standard csv and json modules are used instead of a data-frame reader because a text like "NA" or "null"
must stay a text, errors must name the row, and nothing may be written to a cache.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from narrows.core.errors import DataError

SUPPORTED = ".csv, .tsv, .jsonl (also .json, .ndjson), each also with .gz, and .parquet"
_JSON = {".json", ".jsonl", ".ndjson"}


def read_columns(path: Path, columns: Sequence[tuple[str, str]]) -> list[list[Any]]:
    """The named columns of a file, each a list with one entry per row (absent JSON keys and nulls are None).

    `columns` holds (column name, name of the option that chooses it); the second is only used in messages.
    Raises DataError for a missing, unreadable, malformed or empty file and for a missing column.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such file")
    if not path.is_file():
        raise DataError(f"{path}: expected a data file, got a folder; supported: {SUPPORTED}")
    suffixes = [s.lower() for s in path.suffixes[-2:]]
    packed = suffixes[-1:] == [".gz"]
    kind = (suffixes[:-1] if packed else suffixes)[-1:]
    if kind == [".parquet"] and not packed:
        return _parquet(path, columns)
    if not kind or kind[0] not in {".csv", ".tsv", *_JSON}:
        raise DataError(f"{path}: unknown format; the name must end in one of {SUPPORTED}")
    text = _decode(path, packed)
    if not text.strip():
        raise DataError(f"{path}: the file is empty")
    return _json(path, text, columns) if kind[0] in _JSON else _delimited(path, text, kind[0], columns)


def _decode(path: Path, packed: bool) -> str:
    try:
        raw = path.read_bytes()
        if packed:
            raw = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: the file cannot be read ({error})") from error
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}: line {line} is not UTF-8 text ({error.reason}); save the file as UTF-8") from error


def _pick(path: Path, there: Sequence[str], columns: Sequence[tuple[str, str]]) -> list[int]:
    """Where the wanted columns are among those that are there."""
    found = []
    for name, option in columns:
        if name not in there:
            raise DataError(
                f"{path}: there is no column {name!r}; its columns are {', '.join(map(repr, there))}. "
                f"Name the right one with --{option.replace('_', '-')} ({option}=... in Python)"
            )
        if Counter(there)[name] > 1:
            raise DataError(f"{path}: {Counter(there)[name]} columns are called {name!r}; rename all but one")
        found.append(there.index(name))
    return found


def _parquet(path: Path, columns: Sequence[tuple[str, str]]) -> list[list[Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _pick(path, file.schema_arrow.names, columns)
            table = file.read(columns=[name for name, _ in columns])
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: this is not a readable Parquet file ({reason})") from error
    return [table.column(name).to_pylist() for name, _ in columns]


def _json(path: Path, text: str, columns: Sequence[tuple[str, str]]) -> list[list[Any]]:
    rows: list[Any] = []
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"{path}: this is not valid JSON ({error})") from error
    else:
        # Not splitlines(): a JSON string may hold U+2028 and the like as they are.
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except (json.JSONDecodeError, RecursionError) as error:
                    raise DataError(
                        f"{path}: line {number} is not valid JSON ({error}); expected one object a line"
                    ) from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f'{path}: row {number} is not an object such as {{"text": ..., "label": ...}}')
    there = list(dict.fromkeys(key for row in rows for key in row))
    _pick(path, there, columns)
    return [[row.get(name) for row in rows] for name, _ in columns]


def _delimited(path: Path, text: str, kind: str, columns: Sequence[tuple[str, str]]) -> list[list[Any]]:
    first = next(line for line in re.split(r"\r\n|\r|\n", text) if line.strip())
    delimiter = "\t" if kind == ".tsv" else next((d for d in ",;\t" if d in first), ",")
    header, rows = _rows(path, text, delimiter, prefer_plain=kind == ".tsv")
    found = _pick(path, [name.strip() for name in header], columns)
    return [[row[i] for row in rows] for i in found]


def _rows(path: Path, text: str, delimiter: str, prefer_plain: bool) -> tuple[list[str], list[list[str]]]:
    """Header and rows, read by whichever rule of quoting fits the whole file.

    Quotes mean something in CSV and nothing in TSV; both kinds of file are found under both names. A CSV file
    is read with quotes, and without them only where that fails (a stray quote). A TSV file is read without,
    except where a CSV writer plainly made it: each field with a quote in it is well quoted, or lines fit only
    so.
    """
    quoted = _parse(text, delimiter, csv.QUOTE_MINIMAL)
    plain = _parse(text, delimiter, csv.QUOTE_NONE)
    order = [quoted, plain]
    if prefer_plain and not (isinstance(plain, list) and _well_quoted(plain)):
        order.reverse()
    for rows in order:
        if isinstance(rows, list):
            return rows[0], rows[1:]
    raise DataError(f"{path}: {order[0]}")


def _well_quoted(rows: list[list[str]]) -> bool:
    fields = [field for row in rows for field in row if '"' in field]
    return all(len(f) > 1 and f[0] == f[-1] == '"' and '"' not in f[1:-1].replace('""', "") for f in fields)


@contextmanager
def _long_fields() -> Iterator[None]:
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _parse(text: str, delimiter: str, quoting: Literal[0, 3]) -> list[list[str]] | str:
    """The rows (the header among them), or what is wrong."""
    rows: list[list[str]] = []
    with _long_fields():
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
        try:
            for row in reader:
                if len(row) < 2 and not "".join(row).strip():
                    continue
                if rows and len(row) != len(rows[0]):
                    return (
                        f"line {reader.line_num} has {len(row)} fields, the header {len(rows[0])}; put "
                        f"quotes around a field that holds the separator {delimiter!r}"
                    )
                rows.append(row)
        except csv.Error as error:
            return f"line {reader.line_num} cannot be read ({error}); double the quotes inside a quoted field"
    return rows
