"""`narrows evaluate` and `narrows compare`."""

import json
import shutil

import pytest

from narrows.data import Examples
from narrows.road import prune


def test_evaluate_agrees_with_the_record(finished, narrows, place):
    done = narrows("evaluate", finished.out, "--data", place.more, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    found, after = json.loads(done.stdout), finished.record["after"]
    assert done.stdout.count("\n") == 1
    for name in ("quality", "quality_se", "macro_f1"):
        assert found[name] == pytest.approx(after[name], abs=1e-12)
    assert (found["name"], found["examples"]) == ("accuracy", 40)


def test_evaluate_for_people(finished, narrows, place):
    done = narrows("evaluate", finished.out, "--data", place.more)
    after = finished.record["after"]
    assert done.exit_code == 0
    assert f"{after['quality']:.4f} ± {after['quality_se']:.4f}" in done.stdout
    assert done.stdout.startswith("Accuracy")


def test_evaluate_knows_labels_by_name(finished, narrows, place, tmp_path):
    """Another order of the classes, other letters: the names decide, not the numbers."""
    rows = [line.split("\t") for line in place.more.read_text(encoding="utf-8").splitlines()]
    text = "".join(f"{a}\t{b.upper() if i else b}\n" for i, (a, b) in enumerate(reversed(rows[1:]), 1))
    (tmp_path / "upper.tsv").write_text("text\tlabel\n" + text, encoding="utf-8")
    done = narrows("evaluate", finished.out, "--data", tmp_path / "upper.tsv", "--json")
    assert json.loads(done.stdout)["quality"] == finished.record["after"]["quality"]


def test_evaluate_takes_numbers_of_classes_and_a_few_rows_of_one_class(finished, narrows, place, tmp_path):
    rows = [line.split("\t") for line in place.more.read_text(encoding="utf-8").splitlines()[1:]]
    names = sorted({name for _, name in rows})
    whole = "".join(f"{text}\t{names.index(name)}\n" for text, name in rows)
    (tmp_path / "numbers.tsv").write_text("text\tlabel\n" + whole, encoding="utf-8")
    done = narrows("evaluate", finished.out, "--data", tmp_path / "numbers.tsv", "--json")
    assert json.loads(done.stdout)["quality"] == finished.record["after"]["quality"]

    (tmp_path / "one.tsv").write_text("text\tlabel\n" + "\t".join(rows[0]) + "\n", encoding="utf-8")
    done = narrows("evaluate", finished.out, "--data", tmp_path / "one.tsv", "--json")
    assert json.loads(done.stdout)["examples"] == 1, done.stderr


def test_evaluate_refuses_a_model_without_a_head(narrows, place):
    done = narrows("evaluate", place.model, "--data", place.data)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "no trained head" in done.stderr


@pytest.fixture(scope="module")
def two(finished, narrows, arguments, tmp_path_factory):
    """The finished run and one of another method and budget on the same model and data."""
    out = tmp_path_factory.mktemp("two") / "smaller"
    assert narrows(*arguments(out, "--budget", "30% params", "--method", "magnitude")).exit_code == 0
    return finished.out, out


def test_the_record_counts_all_changed_predictions(finished, place):
    counts, shown = finished.record["changed_counts"], finished.record["changed"]
    gained = round(40 * (finished.record["after"]["quality"] - finished.record["before"]["quality"]))
    assert counts["won"] - counts["lost"] == gained
    assert sum(item["before"] == item["label"] for item in shown) == min(12, counts["lost"])


def test_compare_shows_each_folder(two, narrows):
    done = narrows("compare", *two)
    assert (done.exit_code, done.stderr) == (0, "")
    for folder in two:
        params = json.loads((folder / "narrows.json").read_text(encoding="utf-8"))["after"]["params"]
        line = next(line for line in done.stdout.splitlines() if f"{params:,}" in line)
        assert folder.name in line
    assert done.stdout.count(" for reviews.tsv: accuracy") == 1


def test_compare_as_json_and_as_a_page(two, narrows, tmp_path):
    page = tmp_path / "page.html"
    done = narrows("compare", *two, "--json", "--html", page)
    assert (done.exit_code, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    runs = json.loads(done.stdout)["runs"]
    assert [run["out"] for run in runs] == [str(folder) for folder in two]
    assert all("history" not in run and run["after"]["parameters"] for run in runs)
    assert page.read_text(encoding="utf-8").lower().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ["no narrows.json", "narrows prune"]),
        ("{", ["narrows.json", "JSON"]),
        ("[" * 100_000, ["narrows.json", "JSON"]),
        ('{"schema": 1}', ["lacks"]),
        ("[]", ["schema"]),
        ('{"schema": 99}', ["schema", "99"]),
    ],
)
def test_what_is_no_record(narrows, tmp_path, text, words):
    if text is not None:
        (tmp_path / "narrows.json").write_text(text, encoding="utf-8")
    done = narrows("compare", tmp_path)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert all(word in done.stderr for word in words)


def test_a_record_of_wrong_values(finished, narrows, tmp_path):
    (tmp_path / "narrows.json").write_text(json.dumps(finished.record | {"after": {"params": "many"}}))
    done = narrows("compare", tmp_path)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "narrows.json" in done.stderr


def test_names_in_a_record_do_not_steer_the_terminal(finished, narrows, tmp_path):
    folder = tmp_path / "small"
    shutil.copytree(finished.out, folder)
    record = finished.record
    record["model"]["name"] = "\x1b]0;evil\x07[red]bert\x9b2J\u202e"
    record["method"] = "[bold]\x1b[2J"
    (folder / "narrows.json").write_text(json.dumps(record), encoding="utf-8")
    done = narrows("compare", folder)
    assert done.exit_code == 0
    assert not any(c in done.stdout for c in "\x1b\x07\x9b\u202e")
    assert "[red]bert" in done.stdout
    assert "[bold]" in done.stdout


def test_labels_of_a_trained_model_are_matched_by_name(finished, place, tmp_path):
    """A model that is fine-tuned already is used as it is, though the data numbers its classes in another way."""
    import narrows

    loaded = narrows.load(finished.out)
    rows = [line.split("\t") for line in place.data.read_text(encoding="utf-8").splitlines()[1:]]
    words = [text for text, _ in rows]
    batch = loaded.tokenizer(words, padding=True, return_tensors="pt")
    said = loaded.model(**batch).logits.argmax(-1).tolist()
    if len(set(said)) < 2:
        said[::3] = [1 - said[0]] * len(said[::3])
    examples = Examples(tuple(words), None, tuple(1 - y for y in said), ("GOOD", "bad"))
    _, report = prune(finished.out, examples, budget="100% params", steps=1, held_out=0.5)
    assert report["before"]["quality"] > 0.5
    assert [h["stage"] for h in report["history"] if h["stage"] == "finetune"] == []


def test_shipped_data_has_a_name(finished, narrows, tmp_path, monkeypatch):
    done = narrows("evaluate", finished.out, "--data", "movie-reviews")
    assert done.exit_code == 2
    assert "'negative'" in done.stderr  # the data was found; this model knows other labels
    monkeypatch.chdir(tmp_path)
    (tmp_path / "movie-reviews").mkdir()
    assert "got a folder" in narrows("evaluate", finished.out, "--data", "movie-reviews").stderr
