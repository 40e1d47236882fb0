"""Reading a user's file: every format gives the same examples, and everything wrong gives one clear line."""

import gzip
import json
from decimal import Decimal
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from narrows.core.errors import DataError
from narrows.data import Examples, class_numbers, movie_reviews, movie_reviews_path, read_examples
from narrows.data.formats import read_columns

TEXTS = [
    "plain",
    "with, comma",
    'with "quotes" inside',
    "two\nlines",
    "NA",
    "null",
    " padded ",
    "naïve — 日本語 \u2028 end",
    "'' doubled ''",
    "007",
]
LABELS = ["good", "bad"] * 5


def csv_line(fields: list[str], separator: str = ",") -> str:
    return separator.join('"' + field.replace('"', '""') + '"' for field in fields)


def write_csv(path: Path, rows: list[list[str]], separator: str = ",", encoding: str = "utf-8") -> Path:
    path.write_bytes("\r\n".join(csv_line(row, separator) for row in rows).encode(encoding))
    return path


def write_labels(folder: Path, labels: list[object], name: str = "data.jsonl") -> Path:
    path = folder / name
    rows = [{"text": f"text {i}", "label": label} for i, label in enumerate(labels)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def write_csv_labels(folder: Path, labels: list[str]) -> Path:
    rows = [[f"text {i}", label] for i, label in enumerate(labels)]
    return write_csv(folder / "data.csv", [["text", "label"], *rows])


def message(path: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        read_examples(path, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


@pytest.fixture(
    params=[
        "csv",
        "csv.gz",
        "bom",
        "semicolon",
        "utf16",
        "quoted.tsv",
        "jsonl",
        "json",
        "ndjson.gz",
        "parquet",
    ]
)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    rows = [
        ["id", "text", "label"],
        *([str(i), t, y] for i, (t, y) in enumerate(zip(TEXTS, LABELS, strict=True))),
    ]
    objects = [{"text": t, "label": y, "id": i} for i, (t, y) in enumerate(zip(TEXTS, LABELS, strict=True))]
    lines = "\n".join(json.dumps(o, ensure_ascii=False) for o in objects) + "\n\n"
    path = tmp_path / f"data.{request.param}"
    match request.param:
        case "csv":
            write_csv(path, rows)
        case "csv.gz":
            path.write_bytes(gzip.compress(write_csv(tmp_path / "plain.csv", rows).read_bytes()))
        case "bom":
            path = write_csv(tmp_path / "bom.csv", rows, encoding="utf-8-sig")
        case "utf16":
            path = write_csv(tmp_path / "excel.tsv", rows, "\t", encoding="utf-16")
        case "semicolon":
            path = write_csv(tmp_path / "excel.csv", rows, ";")
        case "quoted.tsv":
            path = write_csv(tmp_path / "quoted.tsv", rows, "\t")
        case "jsonl":
            path.write_text(lines)
        case "ndjson.gz":
            path.write_bytes(gzip.compress(lines.encode()))
        case "json":
            path.write_text(json.dumps(objects))
        case "parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(objects), path)
    return path


def test_every_format_gives_the_same_examples(file: Path) -> None:
    read = read_examples(file)
    assert read == Examples(tuple(TEXTS), None, (1, 0) * 5, ("bad", "good"))
    assert read.task == "classification"
    assert len(read) == 10


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip),
            st.sampled_from(["a", "b", 'c "d"']),
        ),
        min_size=8,
        max_size=20,
    ).filter(lambda rows: len({y for _, y in rows}) > 1)
)
def test_any_text_survives_csv_and_json_lines(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    written = write_csv(folder / "a.csv", [["text", "label"], *map(list, rows)])
    lines = folder / "a.jsonl"
    lines.write_text("\n".join(json.dumps({"text": t, "label": y}) for t, y in rows))
    for path in (written, lines):
        read = read_examples(path)
        assert list(read.texts) == [t for t, _ in rows]
        assert read.label_names is not None
        assert [read.label_names[int(i)] for i in read.labels] == [y for _, y in rows]


def test_columns_are_chosen_by_name_and_pairs_are_read(tmp_path: Path) -> None:
    rows = [[f"premise {i}", f"hypothesis {i}", str(i % 3)] for i in range(9)]
    path = write_csv(tmp_path / "nli.csv", [["a", "b", "gold"], *rows])
    read = read_examples(path, text="a", text_pair="b", label="gold")
    assert read.pairs == tuple(f"hypothesis {i}" for i in range(9))
    assert read.label_names == ("0", "1", "2")
    some = read.select([4, 0])
    assert some == Examples(("premise 4", "premise 0"), ("hypothesis 4", "hypothesis 0"), (1, 0), ("0", "1", "2"))


def test_tsv_quotes_are_only_letters_unless_a_csv_writer_made_them(tmp_path: Path) -> None:
    texts = ['"an open quote', 'a 5" screen', 'closed"', '"both"', '"', "plain", 'say "hi"', "x"]
    loose = tmp_path / "loose.tsv"
    loose.write_text("text\tlabel\n" + "".join(f"{t}\t{i % 2}\n" for i, t in enumerate(texts)))
    assert list(read_examples(loose).texts) == texts
    assert list(read_examples(loose.rename(tmp_path / "loose.csv")).texts) == texts

    # Read as CSV, each pair of lines would silently become one row.
    spanning = tmp_path / "spanning.tsv"
    texts_across = ['"opened here', 'closed there"'] * 8
    spanning.write_text("text\tlabel\n" + "".join(f"{t}\t{i % 2}\n" for i, t in enumerate(texts_across)))
    assert list(read_examples(spanning).texts) == texts_across

    minimal = tmp_path / "minimal.tsv"
    fields = [csv_line([t]) if '"' in t else t for t in texts]
    written = "".join(f"{field}\t{i % 2}\n" for i, field in enumerate(fields))
    minimal.write_text("text\tlabel\n" + written)
    assert list(read_examples(minimal).texts) == texts

    tabs = tmp_path / "tabs.tsv"
    tabs.write_text("text\tlabel\n" + "".join(f'"tab\there {i}"\t{i % 2}\n' for i in range(8)))
    assert read_examples(tabs).texts[3] == "tab\there 3"


def test_the_movie_file_reads_like_the_shipped_set() -> None:
    path = movie_reviews_path()
    scored = read_examples(path, label="score")
    assert scored.task == "regression"
    kept = [i for i, y in enumerate(scored.labels) if y != 0]
    shipped = movie_reviews()
    assert tuple(scored.texts[i] for i in kept) == shipped.texts
    assert [int(scored.labels[i] > 0) for i in kept] == list(shipped.labels)
    raw = [line.split("\t") for line in gzip.decompress(path.read_bytes()).decode().split("\n")[1:] if line]
    assert len(raw) == len(scored) == 10_605
    # One sentence of the file is quoted as a CSV writer does it; all others are as in the file.
    different = [(theirs[2], ours) for theirs, ours in zip(raw, scored.texts, strict=True) if theirs[2] != ours]
    assert [theirs[1:-1].replace('""', '"') for theirs, _ in different] == [ours for _, ours in different]
    assert len(different) == 1


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([0, 1] * 4, ("0", "1")),
        ([2, 10] * 4, ("2", "10")),
        ([-1, 1] * 4, ("-1", "1")),
        ([1.0, 2.0] * 4, ("1", "2")),
        ([True, False] * 4, ("False", "True")),
        (["yes", "no"] * 4, ("no", "yes")),
        ([1, "other"] * 4, ("1", "other")),
        ([" a", "a", "b ", "b"] * 2, ("a", "b")),
    ],
)
def test_class_labels(tmp_path: Path, labels: list[object], names: tuple[str, ...]) -> None:
    from_json = read_examples(write_labels(tmp_path, labels))
    from_csv = read_examples(write_csv_labels(tmp_path, [str(y) for y in labels]))
    assert from_json == from_csv
    assert from_json.label_names == names


def test_numbers_that_are_not_whole_are_regression(tmp_path: Path) -> None:
    labels = [0.5, 1, 2, 3, -4.25, 0, 1e-3, 7]
    expected = tuple(map(float, labels))
    for path in (write_labels(tmp_path, labels), write_csv_labels(tmp_path, list(map(str, labels)))):
        read = read_examples(path)
        assert (read.task, read.labels, read.label_names) == ("regression", expected, None)
    table = pyarrow.table({"text": ["t"] * 8, "label": [Decimal(str(y)) for y in labels]})
    pyarrow.parquet.write_table(table, tmp_path / "decimal.parquet")
    assert read_examples(tmp_path / "decimal.parquet").labels == expected


def test_whole_floats_with_many_values_are_regression_and_whole_numbers_never(tmp_path: Path) -> None:
    values = [i % 30 for i in range(90)]
    assert read_examples(write_labels(tmp_path, [float(v) for v in values])).task == "regression"
    assert read_examples(write_labels(tmp_path, list(values))).task == "classification"


def test_the_task_can_be_said(tmp_path: Path) -> None:
    path = write_labels(tmp_path, [1, 2, 3, 4] * 2)
    assert read_examples(path, task="regression").labels == (1.0, 2.0, 3.0, 4.0) * 2
    assert read_examples(write_csv_labels(tmp_path, ["+1", "01"] * 4), task="regression").labels == (1.0, 1.0) * 4
    halves = write_labels(tmp_path, [0.5, 1.5] * 4)
    assert read_examples(halves, task="classification").label_names == ("0.5", "1.5")
    with pytest.raises(DataError, match="task must be"):
        read_examples(path, task="ranking")


def test_evaluation_labels_are_mapped_to_the_training_names(tmp_path: Path) -> None:
    names = ("0", "1", "2")
    assert read_examples(write_labels(tmp_path, [2, 2, 0]), label_names=names).labels == (2, 2, 0)
    assert read_examples(write_labels(tmp_path, [1.0]), label_names=names).labels == (1,)
    text = message(write_labels(tmp_path, [2, 0, 5]), label_names=names)
    assert "row 3" in text
    assert "'5'" in text
    assert "'0', '1', '2'" in text


def test_a_missing_column_names_those_there_are_and_the_option(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "d.csv", [["review", "stars"], *([["t", "1"]] * 8)])
    text = message(path)
    assert "'text'" in text
    assert "'review', 'stars'" in text
    assert "--text" in text
    assert "--label" in message(path, text="review")
    assert "--text-pair" in message(path, text="review", label="stars", text_pair="b")
    pyarrow.parquet.write_table(pyarrow.table({"review": ["a"], "stars": [1]}), tmp_path / "d.parquet")
    assert "'review', 'stars'" in message(tmp_path / "d.parquet")
    lines = tmp_path / "d.jsonl"
    lines.write_text('{"review": "a", "stars": 1}')
    assert "'review', 'stars'" in message(lines)


@pytest.mark.parametrize("missing", [None, float("nan"), "", "  ", "nan", "NaN"])
@pytest.mark.parametrize("others", [["a", "b"], [0, 1], [0.5, 1.5]])
def test_a_missing_label(tmp_path: Path, missing: object, others: list[object]) -> None:
    text = message(write_labels(tmp_path, [*others * 5, missing, missing]))
    assert "missing" in text
    assert "2 rows" in text
    assert "row 11" in text


def test_an_absent_json_key_is_a_missing_label(tmp_path: Path) -> None:
    path = write_labels(tmp_path, [0, 1] * 5)
    path.write_text(path.read_text() + '\n{"text": "unlabelled"}')
    assert "missing in row 11" in message(path)


@pytest.mark.parametrize("empty", [None, "", " \t", float("nan")])
def test_an_empty_text(tmp_path: Path, empty: object) -> None:
    path = tmp_path / "d.jsonl"
    rows = [{"text": "words", "label": i % 2} for i in range(9)] + [{"text": empty, "label": 0}]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert "'text' is empty in row 10" in message(path)


def test_texts_and_labels_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": 17, "label": 1}\n' * 8)
    assert "17 (int) in row 1" in message(path)
    assert "[1]" in message(write_labels(tmp_path, [0, 1] * 4 + [[1]]))


@pytest.mark.parametrize("bad", ["inf", "-inf", "many", "1,5"])
def test_a_label_that_is_no_finite_number(tmp_path: Path, bad: str) -> None:
    path = write_csv_labels(tmp_path, ["0.5"] * 9 + [bad])
    for task in ("auto", "regression"):
        text = message(path, task=task)
        assert "row 10" in text


def test_one_class_only(tmp_path: Path) -> None:
    text = message(write_labels(tmp_path, ["good"] * 9))
    assert "'good'" in text
    assert "two classes" in text


def test_a_column_of_names_is_no_label(tmp_path: Path) -> None:
    text = message(write_labels(tmp_path, [f"id{i}" for i in range(20)]))
    assert "20 different values" in text
    assert read_examples(write_labels(tmp_path, [f"id{i}" for i in range(20)]), task="classification")


def test_too_few_rows(tmp_path: Path) -> None:
    assert "7 rows" in message(write_labels(tmp_path, [0, 1, 0, 1, 0, 1, 0]))


@pytest.mark.parametrize("name", ["e.csv", "e.tsv", "e.jsonl", "e.json"])
@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_an_empty_file(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert "empty" in message(path)


def test_a_header_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_text("text,label\n")
    assert "no rows" in message(path)
    table = pyarrow.table({"text": pyarrow.array([], pyarrow.string()), "label": pyarrow.array([], pyarrow.int8())})
    pyarrow.parquet.write_table(table, tmp_path / "h.parquet")
    assert "no rows" in message(tmp_path / "h.parquet")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "no such file" in message(tmp_path / "absent.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "folder" in message(tmp_path / "folder.csv")
    for name in ("data.xlsx", "data", "data.gz", "data.parquet.gz"):
        (tmp_path / name).write_bytes(b"text,label\n")
        assert ".parquet" in message(tmp_path / name)
    packed = gzip.compress(b"text,label\n" + b"some words,1\n" * 100)
    for name, content in {
        "not.csv.gz": b"text,label\n",
        "cut.csv.gz": packed[: len(packed) // 2],
        "not.parquet": b"PAR1 nothing",
        "latin.csv": "text,label\nna\xefve,1\n".encode("latin-1"),
    }.items():
        (tmp_path / name).write_bytes(content)
        message(tmp_path / name)
    assert "line 2 is not UTF-8" in message(tmp_path / "latin.csv")


def test_malformed_lines_are_named(tmp_path: Path) -> None:
    rows = "".join(f"text {i},{i % 2}\n" for i in range(8))
    cases = {
        "comma.csv": ("text,label\n" + rows + "one, two,1\n", "line 10 has 3 fields"),
        "short.csv": ("text,label\n" + rows + "alone\n", "line 10 has 1 fields"),
        "open.csv": ("text,label\n" + rows + '"open, never closed,1\n', "line 10"),
        "short.tsv": ("text\tlabel\n" + "a\t1\n" * 8 + "alone\n", "line 10 has 1 fields"),
        "cut.jsonl": ('{"text": "a", "label": 1}\n{"text": "b"', "line 2 is not valid JSON"),
        "list.jsonl": ('{"text": "a", "label": 1}\n["b", 1]', "row 2 is not an object"),
        "cut.json": ('[{"text": "a"}', "not valid JSON"),
        "deep.json": ("[" * 100_000, "not valid JSON"),
        "twice.csv": ("text,label,text\n" + "a,1,b\n" * 8, "2 columns are called 'text'"),
    }
    for name, (content, expected) in cases.items():
        (tmp_path / name).write_text(content)
        assert expected in message(tmp_path / name), name


def test_a_very_long_text(tmp_path: Path) -> None:
    words = "word " * 100_000
    path = write_csv(tmp_path / "long.csv", [["text", "label"], *([[words, str(i % 2)] for i in range(8)])])
    assert read_examples(path).texts[0] == words


def test_columns_come_in_the_order_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("a,b,c\n1,2,3\n\n4,5,6\n")
    assert read_columns(path, [("c", "text"), ("a", "label")]) == [["3", "6"], ["1", "4"]]


def test_examples_that_do_not_fit_together() -> None:
    with pytest.raises(DataError, match="2 texts need as many"):
        Examples(("a", "b"), None, (0,), ("x", "y"))
    with pytest.raises(DataError, match="second texts"):
        Examples(("a",), ("b", "c"), (0,), ("x", "y"))
    with pytest.raises(DataError, match="from 0 to 1"):
        Examples(("a",), None, (2,), ("x", "y"))


def test_class_numbers():
    known = ("bad", "good", "Good")
    assert class_numbers(["bad", "GOOD", "Good", "ugly"], known) == {"bad": 0, "GOOD": 1, "Good": 2}
    assert class_numbers(["2", "0"], known) == {"2": 2, "0": 0}
    assert class_numbers(["3", "0"], known) == {}
    assert class_numbers(["0", "bad"], known) == {"bad": 0}
    assert class_numbers(["1", "0"], ("1", "0")) == {"1": 0, "0": 1}, "names that are numbers are names first"
