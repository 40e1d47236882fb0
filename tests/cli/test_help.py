"""The program as a whole: help, version, speed, defaults."""

import inspect
import os
import resource
import subprocess
import sys
from dataclasses import fields

import pytest

from narrows import __version__
from narrows.cli import pruning
from narrows.road import Options

COMMANDS = ["inspect", "prune", "measure", "evaluate", "compare", "cite", "papers"]
HEAVY = {"torch", "transformers", "numpy", "scipy", "pandas", "datasets", "matplotlib", "rich"}


def launched(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "importtime", "-m", "narrows_launcher", *words]
    clean = {key: value for key, value in os.environ.items() if key not in ("NARROWS_LAZY", "NARROWS_DEBUG")}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=clean)


@pytest.mark.parametrize("words", [["--help"], ["prune", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(words):
    done = launched(*words)
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "narrows.cli" in imported
    assert not HEAVY & imported


def test_help_answers_at_once():
    def processor_seconds() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    best = float("inf")
    for _ in range(3):
        before = processor_seconds()
        subprocess.run([sys.executable, "-m", "narrows_launcher", "--help"], capture_output=True, check=True)
        best = min(best, processor_seconds() - before)
    assert best < 0.5  # seconds of processor time: other processes do not count


def test_help_and_version(narrows):
    whole = narrows("--help")
    assert whole.exit_code == 0
    assert all(f"\n  {name}" in whole.stdout for name in COMMANDS)
    assert narrows().stdout == whole.stdout
    assert narrows("--version").stdout == f"narrows {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples(narrows, command):
    done = narrows(command, "--help")
    assert done.exit_code == 0
    assert f"\n  Examples:\n    narrows {command}" in done.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["grow"], "narrows: No such command 'grow' (see narrows --help)\n"),
        (["inspect"], "narrows: Missing argument 'MODEL' (see narrows inspect --help)\n"),
        (["evaluate", "m"], "narrows: Missing option '--data' (see narrows evaluate --help)\n"),
    ],
)
def test_wrong_usage_is_one_line(narrows, words, line):
    done = narrows(*words)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", line)


def test_an_option_of_no_command(narrows):
    done = narrows("--colour")
    assert (done.exit_code, done.stdout) == (2, "")


def test_defaults_are_those_of_the_library():
    defaults = {f.name: f.default for f in fields(Options)}
    given = {name: p.default for name, p in inspect.signature(pruning.prune).parameters.items()}
    shared = defaults.keys() & given.keys() - {"steps"}
    assert shared >= {"method", "basis", "vocab", "dense_epochs", "batch_size", "max_length", "held_out", "seed"}
    assert {name: given[name] for name in shared} == {name: defaults[name] for name in shared}
    assert defaults.keys() - given.keys() == {"budgets"}
    text = inspect.get_annotations(pruning.prune, eval_str=True)["steps"].__metadata__[0].help
    assert f"[default: {defaults['steps']}]" in text
