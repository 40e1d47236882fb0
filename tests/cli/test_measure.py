"""`narrows measure`: what it prints and writes, side by side, while a model trains, and bad input."""

import json
import math

import numpy as np
import pytest
import torch

import narrows as library
from narrows.data import read_examples
from narrows.information import principal, reservoir
from narrows.information.track import QUESTIONS


def test_values_are_those_of_the_estimators_on_the_layers(finished, narrows, place):
    done = narrows("measure", finished.out, "--data", place.data, "--rows", 60, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    record = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert record["data"] == {
        "name": "reviews.tsv",
        "task": "classification",
        "rows": 60,
        "label_entropy": pytest.approx(math.log(2), abs=0.05),
    }
    model = record["models"][0]
    assert model["layers"] == ["bert.embeddings.LayerNorm", "bert.encoder.layer.0", "bert.encoder.layer.1"]

    examples = read_examples(place.data)
    sample = examples.select(sorted(reservoir(range(len(examples)), 60, 0)))
    loaded = library.load(finished.out)
    batch = loaded.tokenizer(list(sample.texts), padding=True, return_tensors="pt")
    with torch.no_grad():
        states = loaded.model(**batch, output_hidden_states=True).hidden_states
    mask = batch["attention_mask"][..., None]
    for i, state in enumerate(states):
        mean = (state * mask).sum(1) / mask.sum(1)
        for name, ask in QUESTIONS.items():
            expected = ask(principal(mean, 32), np.array(sample.labels)).value
            assert model["values"][name][i]["value"] == pytest.approx(expected, abs=5e-3), (name, i)
    assert all(sum(s) == pytest.approx(1.0) for s in model["spectra"])


def test_before_and_after_side_by_side_on_a_page(finished, narrows, place, tmp_path):
    page = tmp_path / "layers.html"
    done = narrows(
        "measure", finished.out, "--against", place.model, "--data", place.data, "--rows", 40, "--html", page
    )
    assert done.exit_code == 0, done.stderr
    assert str(page) in done.stdout
    text = page.read_text(encoding="utf-8")
    assert text.lstrip().lower().startswith("<!doctype html>")
    assert "small (" in text
    assert "model (" in text
    assert done.stdout.count("on 40 texts of reviews.tsv, nats") == 2


def test_chosen_layers_and_measures(finished, narrows, place):
    words = ["--layers", "bert.encoder.layer.1", "--measures", "kde_entropy", "--measures", "label"]
    done = narrows("measure", finished.out, "--data", place.data, *words, "--rows", 40, "--json")
    model = json.loads(done.stdout)["models"][0]
    assert model["layers"] == ["bert.encoder.layer.1"]
    assert list(model["values"]) == ["kde_entropy", "label"]


def test_while_a_model_trains(narrows, place, tmp_path):
    page = tmp_path / "plane.html"
    words = ["--during-training", "--epochs", 2, "--rows", 40, "--html", page, "--json"]
    done = narrows("measure", place.model, "--data", place.data, *words)
    assert done.exit_code == 0, done.stderr
    record = json.loads(done.stdout)
    steps = [moment["step"] for moment in record["moments"]]
    assert steps[0] == 0
    assert steps == sorted(set(steps))
    assert steps[-1] == 2 * math.ceil((120 - record["data"]["rows"]) / 32)
    last = record["moments"][-1]["layers"]
    assert [last[n]["label"]["value"] for n in record["models"][0]["layers"]] == [
        v["value"] for v in record["models"][0]["values"]["label"]
    ]
    assert 'id="plane-step"' in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--measures", "guess"], ["no measure is called 'guess'", "label, input, spectrum"]),
        (["--layers", "nowhere"], ["no module is called 'nowhere'"]),
        (["--rows", 3], ["rows must be at least 10"]),
        (["--label", "stars"], ["stars"]),
        (["--against", "no/such/model"], ["no/such/model"]),
    ],
)
def test_bad_input_is_one_line(finished, narrows, place, tmp_path, words, said):
    page = tmp_path / "page.html"
    done = narrows("measure", finished.out, "--data", place.data, *words, "--html", page)
    assert done.exit_code == 2
    line = done.stderr.splitlines()[-1]
    assert line.startswith("narrows: ")
    assert all(word in line for word in said), line
    assert not page.exists()
