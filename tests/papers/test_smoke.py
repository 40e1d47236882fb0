"""Every experiment runs end to end in its smallest form, and every paper's folder is complete."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from narrows.core.experiment import VERDICTS

PAPERS = Path(__file__).resolve().parents[2] / "papers"
RUNS = sorted(PAPERS.glob("*/run.py"))


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.parent.name)
def test_smoke(run: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(run), "--smoke", "--out", str(tmp_path)]
    # One thread: the tests run side by side.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["mode"] == "smoke"
    assert record["verdict"] in VERDICTS
    assert record["figures"]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.parent.name)
def test_folder_is_complete(run: Path) -> None:
    paper = tomllib.loads((run.parent / "paper.toml").read_text())
    assert {"title", "authors", "year", "entry_points", "claim", "figures"} <= paper.keys()
    assert (run.parent / "README.md").exists()
    result = run.parent / "result.json"
    if result.exists():
        record = json.loads(result.read_text())
        assert record["mode"] != "smoke", "a smoke run is no result"
        assert set(paper["figures"]) <= record["figures"].keys()
