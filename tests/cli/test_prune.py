"""What `narrows prune` writes and prints."""

import json
import os
import subprocess
import sys

import pytest
import torch

import narrows as library


def test_the_folder_loads_and_predicts(finished):
    assert finished.result.exit_code == 0, finished.result.output
    loaded = library.load(finished.out)
    batch = loaded.tokenizer(["the film was lovely", "a dull plot"], padding=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.isfinite(loaded.model(**batch).logits).all()
    assert sum(p.numel() for p in loaded.model.parameters()) == finished.record["after"]["params"]
    assert loaded.model.config.id2label == {0: "bad", 1: "good"}


def test_nothing_else_is_left(finished):
    assert [p.name for p in finished.out.parent.iterdir()] == ["small"]
    page = (finished.out / "report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")


def test_the_table_shows_the_record(finished):
    shown = finished.result.stdout
    before, after = finished.record["before"], finished.record["after"]
    for side in (before, after):
        assert f"{side['params']:,}" in shown
        assert f"{side['params'] - side['embedding_params']:,}" in shown
        assert f"{side['quality']:.3f} ± {side['quality_se']:.3f}" in shown
    for name in ("Accuracy", "MACs", "Size on disk", "Latency, batch 1", "Latency, batch 32"):
        assert name in shown
    assert "budget 60% params: met" in shown
    assert str(finished.out) in shown
    assert "\x1b" not in finished.result.output


def test_progress_is_on_stderr(finished):
    stages = [line.partition(":")[0] for line in finished.result.stderr.splitlines()]
    assert stages == ["load", "fine-tune", "teacher", "plan", "heal", "measure"]
    assert "6 steps, loss" in finished.result.stderr


def test_the_budget_is_met_and_the_vocabulary_is_that_of_the_data(finished):
    record = finished.record
    assert record["after"]["params"] <= 0.6 * record["before"]["params"]
    assert record["after"]["params"] >= 0.97 * 0.6 * record["before"]["params"]
    assert record["plan"]["vocab"]["kept"] < record["plan"]["vocab"]["of"]


def test_the_command_in_the_record_is_the_one_given(finished, place):
    command = finished.record["command"]
    assert command.startswith(f"narrows prune {place.model} --data {place.data} --budget '60% params'")
    assert command.endswith("--vocab data")


def test_a_second_run_into_the_same_folder_is_refused(finished, narrows, arguments):
    before = {p: p.read_bytes() for p in finished.out.iterdir()}
    again = narrows(*arguments(finished.out))
    assert again.exit_code == 2
    assert again.stdout == ""
    assert again.stderr == f"narrows: {finished.out} exists already: name another folder or remove it\n"
    assert {p: p.read_bytes() for p in finished.out.iterdir()} == before


def test_resuming_a_finished_run_shows_its_result_again(finished, narrows, arguments, place):
    again = narrows(*arguments(finished.out, "--eval", place.more, "--vocab", "data", "--resume"))
    assert (again.exit_code, again.stdout) == (0, finished.result.stdout)
    other = narrows(*arguments(finished.out, "--vocab", "data", "--resume"))
    assert other.exit_code == 2
    assert "exists already" in other.stderr


@pytest.fixture(scope="module")
def as_json(arguments, tmp_path_factory):
    """`narrows prune --json` in a process of its own, as a shell starts it."""
    out = tmp_path_factory.mktemp("json") / "small"
    command = [sys.executable, "-m", "narrows_launcher", *arguments(out, "--budget", "90% MACs", "--json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return out, subprocess.run(command, capture_output=True, check=False, env=environment)


def test_json_is_one_object_and_stderr_is_empty(as_json):
    out, done = as_json
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    text = done.stdout.decode()
    assert text.count("\n") == 1
    found = json.loads(text)
    record = json.loads((out / "narrows.json").read_text(encoding="utf-8"))
    for side in ("before", "after"):
        assert found[side] == record[side] | {"parameters": record[side]["params"]}
        assert {"quality", "quality_se", "macs", "bytes", "embedding_params", "tokens"} <= found[side].keys()
        assert found[side]["latency_ms"].keys() == {"1", "32"}
    assert [b["text"] for b in found["budgets"]] == ["60% params", "90% MACs"]
    assert found["budget"] == "60% params and 90% MACs"
    assert found["seed"] == 0
    assert found["out"] == str(out)
    assert found["versions"]["torch"] == record["environment"]["versions"]["torch"]
    assert "history" not in found
    kept = [(len(layer["heads"]), len(layer["neurons"])) for layer in record["plan"]["layers"]]
    assert [(layer["heads"], layer["neurons"]) for layer in found["plan"]["layers"]] == kept


def test_a_folder_without_custom_code(narrows, arguments, tmp_path):
    done = narrows(*arguments(tmp_path / "small", "--uniform"))
    assert done.exit_code == 0, done.output
    config = json.loads((tmp_path / "small" / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "bert"
    assert not list((tmp_path / "small").glob("*.py"))


def test_values_are_predicted_for_pairs(narrows, arguments, place, tmp_path):
    lines = place.data.read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    text = "".join(f"{a}\ta story\t{i % 7 / 10 + (b == 'good')}\n" for i, (a, b) in enumerate(rows))
    data = tmp_path / "pairs.tsv"
    data.write_text(f"first\tsecond\tscore\n{text}", encoding="utf-8")
    columns = ("--text", "first", "--text-pair", "second", "--label", "score")
    done = narrows(*arguments(tmp_path / "small", "--data", data, *columns))
    assert done.exit_code == 0, done.output
    assert "Pearson correlation" in done.stdout
    record = json.loads((tmp_path / "small" / "narrows.json").read_text(encoding="utf-8"))
    assert record["data"]["task"] == "regression"
    judged = narrows("evaluate", tmp_path / "small", "--data", data, *columns, "--json")
    assert judged.exit_code == 0, judged.output
    assert json.loads(judged.stdout)["name"] == "pearson"


@pytest.mark.parametrize("second", [False, True])
def test_healing_that_leads_away_is_done_again_at_a_lower_rate(narrows, arguments, tmp_path, monkeypatch, second):
    import narrows.road.stages as stages

    answers = iter([True, second])
    monkeypatch.setattr(stages, "diverged", lambda history: next(answers))
    done = narrows(*arguments(tmp_path / "small"))
    record = json.loads((tmp_path / "small" / "narrows.json").read_text(encoding="utf-8"))
    high, low = stages.HEAL_RATES
    assert low < high
    healed = [h for h in record["history"] if h["stage"] == "heal"]
    if second:
        assert record["healing"] == {"rate": None, "diverged": [high, low]}
        assert "the model is not healed" in done.stdout
        assert not healed
    else:
        assert record["healing"] == {"rate": low, "diverged": [high]}
        assert f"done again at {low:g}" in done.stdout
        assert healed
