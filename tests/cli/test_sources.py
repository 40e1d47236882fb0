"""`narrows cite` and `narrows papers`."""

import ast
import importlib
import json
import operator
from pathlib import Path

import pytest

import narrows as library
from narrows.core.cite import references
from narrows.prune import METHODS

SOURCE = Path(library.__file__).parent


def cited() -> list[tuple[str, str]]:
    """(module, how the key is written) of every `@cites(...)` in the source, without running it."""
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        module = ".".join(["narrows", *file.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for mark in getattr(node, "decorator_list", []):
                if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "cites":
                    found += [(module, ast.unparse(key)) for key in mark.args]
    return found


@pytest.mark.parametrize(("module", "written"), sorted(set(cited())))
def test_every_key_in_the_source_is_known_where_it_is_used(module, written):
    home = importlib.import_module(module)
    key = operator.attrgetter(written)(home) if written[0].isalpha() else ast.literal_eval(written)
    (reference,) = references(key)
    assert reference.key == key
    assert reference.bibtex().startswith("@")


def test_methods_name_their_papers(narrows):
    for name, method in METHODS.items():
        done = narrows("cite", name)
        if references(method):
            assert done.exit_code == 0
            assert done.stdout.count("@") == len(references(method))
        else:
            assert done.exit_code == 2
            assert name in done.stderr


@pytest.mark.parametrize("name", ["fisher", "arXiv:1801.05787", "1801.05787", "fisher_scores"])
def test_a_paper_has_many_names(narrows, name):
    done = narrows("cite", name)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("@misc{theis2018faster,")


def test_what_a_checkpoint_used(finished, narrows):
    done = narrows("cite", finished.out)
    assert (done.exit_code, done.stderr) == (0, "")
    keys = finished.record["citations"]
    assert keys
    assert [key.removeprefix("arXiv:") in done.stdout for key in keys] == [True] * len(keys)
    assert done.stdout.count("@") == len(keys)


def test_a_checkpoint_that_used_no_paper(finished, narrows, tmp_path):
    (tmp_path / "narrows.json").write_text(json.dumps(finished.record | {"citations": []}), encoding="utf-8")
    done = narrows("cite", tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")


@pytest.mark.parametrize("name", ["nonsense", "Path", "annotations"])
def test_unknown_names(narrows, name):
    done = narrows("cite", name)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert name in done.stderr
    assert "vtrans" in done.stderr


def paper(folder: Path, slug: str, result: dict | None = None, **over: object) -> Path:
    facts = {"title": "A title", "year": 2024, "figures": ["kept", "sizes"]} | over
    (folder / slug).mkdir(parents=True)
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in facts.items()]
    (folder / slug / "paper.toml").write_text("".join(lines), encoding="utf-8")
    if result is not None:
        (folder / slug / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return folder


RESULT = {
    "verdict": "partly",
    "figures": {"kept": {"mean": 0.98765, "spread": 0.0123, "values": [1]}, "sizes": {"small": 3}},
}


def test_papers_in_a_checkout(narrows, tmp_path, monkeypatch):
    paper(tmp_path / "papers", "01-done", RESULT)
    paper(tmp_path / "papers", "02-open")
    inside = tmp_path / "src" / "deep"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    done = narrows("papers")
    assert (done.exit_code, done.stderr) == (0, "")
    shown = " ".join(done.stdout.split())
    assert "01-done A title (2024) partly kept 0.9877 ± 0.012; sizes: small 3" in shown
    assert "02-open A title (2024) not run yet" in shown


def test_papers_in_a_named_folder(narrows, tmp_path):
    done = narrows("papers", "--dir", paper(tmp_path, "01-done", RESULT))
    assert (done.exit_code, "01-done" in done.stdout) == (0, True)


def test_no_papers(narrows, tmp_path, monkeypatch):
    done = narrows("papers", "--dir", tmp_path)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("narrows.__file__", str(tmp_path / "site" / "narrows" / "__init__.py"))
    done = narrows("papers")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "--dir" in done.stderr


@pytest.mark.parametrize("broken", [{"verdict": "partly", "figures": {}}, {"figures": 3}, []])
def test_a_broken_paper(narrows, tmp_path, broken):
    done = narrows("papers", "--dir", paper(tmp_path, "01-broken", broken))
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "01-broken" in done.stderr
