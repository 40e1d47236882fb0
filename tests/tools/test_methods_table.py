import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "methods_table.py"
PAPER = """
title = "Pruning | by gates"
authors = ["A. Person", "B. Person"]
year = 2024
arxiv = "2406.05276"
entry_points = ["narrows.prune.VTrans"]
claim = "Gates beat magnitude."
figures = ["accuracy", "test"]
"""
RESULT = {
    "verdict": "partly",
    "rule": "Partly when\n  so.",
    "seconds": 120,
    "environment": {"cpu": "a processor"},
    "figures": {
        "accuracy": {"mean": 0.81234, "spread": 0.0123, "count": 3},
        "test": {"p": 0.04},
        "other": {"mean": 1.0},
    },
}


@pytest.fixture
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("methods_table", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["methods_table"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path: Path, tool: ModuleType) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(f"# x\n\n{tool.BEGIN}\nold\n{tool.END}\n\nrest\n")
    return tmp_path


def add(root: Path, slug: str, paper: str = PAPER, result: dict | None = None) -> None:
    folder = root / "papers" / slug
    folder.mkdir(parents=True)
    (folder / "paper.toml").write_text(paper)
    if result:
        (folder / "result.json").write_text(json.dumps(result))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_writes_once_and_then_is_up_to_date(root: Path, tool: ModuleType, count: int) -> None:
    for i in range(count):
        add(root, f"0{i}-x", result=RESULT)
    assert tool.main(["--check"], root) == 1
    assert "old" in (root / "README.md").read_text()
    assert tool.main([], root) == 0
    assert tool.main(["--check"], root) == 0
    readme = (root / "README.md").read_text()
    assert "old" not in readme
    assert readme.endswith("rest\n")


def test_a_new_verdict_makes_it_stale(root: Path, tool: ModuleType) -> None:
    add(root, "01-x", result=RESULT)
    tool.main([], root)
    (root / "papers/01-x/result.json").write_text(json.dumps(RESULT | {"verdict": "contradicted"}))
    assert tool.main(["--check"], root) == 1


def test_shows_verdict_claim_entry_points_and_key_figures(root: Path, tool: ModuleType) -> None:
    add(root, "01-x", result=RESULT)
    add(root, "02-y")
    tool.main([], root)
    page = (root / "docs/methods.md").read_text()
    assert "| accuracy | 0.8123 ± 0.012 (3 runs) |" in page
    assert "| test | p 0.04 |" in page
    assert "other" not in page
    assert "The rule: Partly when so." in page
    for text in (page, (root / "README.md").read_text()):
        assert "Gates beat magnitude." in text
        assert "`narrows.prune.VTrans`" in text
        assert "[Pruning \\| by gates (2024)](https://arxiv.org/abs/2406.05276)" in text
        assert "| partly |" in text
        assert "| not run yet |" in text


@pytest.mark.parametrize(
    ("paper", "result"),
    [("title = 'x'", None), ("title =", None), (PAPER.replace('"test"', '"missing"'), RESULT)],
)
def test_incomplete_folders_are_named(
    root: Path, tool: ModuleType, paper: str, result: dict | None, capsys: pytest.CaptureFixture[str]
) -> None:
    add(root, "01-x", paper, result)
    assert tool.main([], root) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_readme_without_markers(root: Path, tool: ModuleType) -> None:
    (root / "README.md").write_text("# x\n")
    assert tool.main([], root) == 2
