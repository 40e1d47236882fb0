"""A run that is stopped or killed, whenever that is, goes on and ends as one that was left alone."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks and signals")
LENGTH = ("--steps", "40", "--dense-epochs", "6")


@pytest.fixture(scope="module")
def run(arguments, tmp_path_factory):
    """Where the runs of stopped_runs.py are, and how their lives ended."""
    folder = tmp_path_factory.mktemp("stopped")
    given = arguments(folder, *LENGTH)
    where = given.index("--out")
    given = given[1:where] + given[where + 2 :]
    script = Path(__file__).with_name("stopped_runs.py")
    environment = {**os.environ, "NARROWS_LAZY": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, script, folder, *given], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "lives.json").read_text(encoding="utf-8"))


def result(out: Path):
    record = json.loads((out / "narrows.json").read_text(encoding="utf-8"))
    facts = {key: record[key] for key in ("history", "plan", "changed", "budgets", "reconstruction")}
    facts |= {side: {k: v for k, v in record[side].items() if k != "latency_ms"} for side in ("before", "after")}
    return load_file(out / "model.safetensors"), facts


def same(a: Path, b: Path) -> None:
    (weights, facts), (expected, others) = result(a), result(b)
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in expected)
    assert facts == others
    assert (a / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "whole"), [("killed", "whole"), ("timed", "whole"), ("stopped", "whole"), ("gates", "gates whole")]
)
def test_the_result_is_that_of_a_whole_run(run, name, whole):
    folder, lives = run
    assert [life["code"] for life in lives[whole]] == [0], lives[whole]
    assert lives[name][-1]["code"] == 0, lives[name][-1]["stderr"]
    assert lives[name][-1]["left"] == ["small"]
    same(folder / name / "small", folder / whole / "small")


def test_every_killed_life_was_killed_and_left_no_half_output(run):
    _, lives = run
    *killed, placed, _ = lives["killed"]
    assert {life["code"] for life in [*killed, placed]} == {-signal.SIGKILL}
    assert all(life["left"] == ["small.work"] for life in killed)
    assert placed["left"] == ["small", "small.work"]
    # At a random moment a later life may have been done already, as it had less to do.
    assert {life["code"] for life in lives["timed"][:-1]} <= {-signal.SIGKILL, 0}


def test_a_stopped_life_says_how_to_go_on(run):
    folder, lives = run
    *stopped, _ = lives["stopped"]
    out = folder / "stopped" / "small"
    for life in stopped:
        assert (life["code"], life["stdout"], life["left"]) == (130, "", ["small.work"])
        assert life["stderr"].count("\n") == 1
        said, _, command = life["stderr"].strip().partition("; to go on: ")
        assert said.startswith("narrows: stopped")
        words = shlex.split(command)
        assert (words[:2], words[-3:]) == (["narrows", "prune"], ["--out", str(out), "--resume"][-3:])
    assert [life["stderr"].partition(";")[0] for life in stopped] == [
        "narrows: stopped after step 30 of 36",
        "narrows: stopped",
        "narrows: stopped after step 30 of 40",
        "narrows: stopped after step 35 of 40",
    ]


def test_killed_while_it_tidies_up(run):
    _, lives = run
    killed, again = lives["tidied"]
    assert (killed["code"], killed["left"]) == (-signal.SIGKILL, ["small", "small.work"])
    assert (again["code"], again["left"]) == (0, ["small"])
    assert "budget 60% params: met" in again["stdout"]


def test_control_c_in_a_shell(run, arguments, narrows, tmp_path):
    folder, _ = run
    out = tmp_path / "small"
    given = arguments(out, *LENGTH)
    command = [sys.executable, "-m", "narrows_launcher", *given]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    started = time.monotonic()
    while not (tmp_path / "small.work" / "dense").exists():
        assert process.poll() is None
        assert time.monotonic() - started < 300
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=300)
    assert (process.returncode, stdout) == (130, "")
    assert stderr.splitlines()[-1].endswith(shlex.join(["narrows", *given, "--resume"]))
    assert "Traceback" not in stderr
    assert [p.name for p in tmp_path.iterdir()] == ["small.work"]
    assert narrows(*given, "--resume").exit_code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["small"]
    same(out, folder / "whole" / "small")


def test_stopped_before_there_is_a_state(narrows, arguments, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("narrows.road.sources.read_examples", stop)
    for form, line in ([], "narrows: {}\n"), (["--json"], '{{"error": "{}"}}\n'):
        done = narrows(*arguments(tmp_path / "small"), *form)
        assert (done.exit_code, done.stdout) == (130, "")
        assert done.stderr == line.format("stopped before anything was done")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("narrows.transformer.checkpoint.load", stop)
    assert narrows("inspect", "anything").exit_code == 130
