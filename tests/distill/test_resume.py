"""A run that is killed, whenever that is, ends bit for bit like one that is left alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks of one process")
def test_killed_runs_end_like_a_whole_one(tmp_path):
    script = Path(__file__).with_name("killed_runs.py")
    environment = {**os.environ, "NARROWS_LAZY": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script, tmp_path], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = load_file(tmp_path / "whole.safetensors")
    history = json.loads((tmp_path / "whole.json").read_text())
    assert [record["step"] for record in history] == [5, 10, 15, 20, 24]
    for name in ("killed", "timed"):
        weights = load_file(tmp_path / f"{name}.safetensors")
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[key], expected[key]) for key in expected)
        assert json.loads((tmp_path / f"{name}.json").read_text()) == history
        assert sorted(p.name for p in (tmp_path / name).iterdir()) == ["checkpoint-20", "checkpoint-24"]
