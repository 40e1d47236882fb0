import json
import subprocess
from pathlib import Path

import pytest

from narrows.core import MissingExtra, NarrowsError, environment, revision


def test_environment_is_json_and_names_what_matters() -> None:
    record = json.loads(json.dumps(environment()))
    assert {"python", "platform", "cpu", "threads", "revision", "versions"} <= record.keys()
    assert record["cpu"]
    assert record["versions"]["torch"]


def test_revision_only_of_tracked_files(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    file = tmp_path / "a.py"
    file.write_text("1")
    assert revision(file) is None
    git("init", "-q")
    assert revision(file) is None
    git("add", "a.py")
    git("commit", "-qm", "one")
    assert revision(file) == git("rev-parse", "HEAD")
    file.write_text("2")
    assert revision(file) == git("rev-parse", "HEAD") + "+changes"


def test_missing_extra_is_both_kinds_of_error() -> None:
    error = MissingExtra.for_package("onnxruntime", "onnx")
    assert isinstance(error, NarrowsError)
    assert isinstance(error, ImportError)
    assert "pip install 'narrows[onnx]'" in str(error)
    with pytest.raises(ImportError):
        raise error
