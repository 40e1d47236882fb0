import errno
import json
import os
from pathlib import Path

import pytest

from narrows.core import NarrowsError, new_directory, write_json, write_text


def test_writes_and_replaces_leaving_nothing_else(tmp_path: Path) -> None:
    for value in ({"a": 1}, {"ü": [1.5, None]}):
        write_json(tmp_path / "x.json", value)
        assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == value
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x.txt"
    write_text(target, "old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(NarrowsError, match="disk is full") as caught:
        write_text(target, "new")
    assert "\n" not in str(caught.value)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.txt"]


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not any(tmp_path.iterdir())


def test_directory_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "out"
    with new_directory(path) as folder:
        (folder / "weights").write_text("w")
        assert not path.exists()
    assert os.listdir(tmp_path / "deep") == ["out"]
    assert (path / "weights").read_text() == "w"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [False, True])
def test_directory_under_exceptions(tmp_path: Path, error: type[BaseException], before: bool) -> None:
    path = tmp_path / "out"
    if before:
        path.mkdir()
        (path / "old").write_text("old")

    def fill() -> None:
        with new_directory(path, overwrite=True) as folder:
            (folder / "half").write_text("h")
            raise error

    with pytest.raises(error):
        fill()
    assert os.listdir(tmp_path) == (["out"] if before else [])
    assert not before or os.listdir(path) == ["old"]


def test_directory_never_overwrites_unasked(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir()
    with new_directory(path) as folder:  # an empty folder is nobody's loss
        (folder / "a").touch()
    with pytest.raises(NarrowsError, match="exists already"), new_directory(path):
        pass
    with new_directory(path, overwrite=True) as folder:
        (folder / "b").touch()
    assert os.listdir(path) == ["b"]
    (tmp_path / "file").touch()
    with (
        pytest.raises(NarrowsError, match="exists already"),
        new_directory(tmp_path / "file", overwrite=True),
    ):
        pass


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "x"),
        OSError(errno.EDQUOT, "x"),
        OSError(errno.EROFS, "x"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_the_disk_says_no(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(NarrowsError), new_directory(tmp_path / "out"):
        raise error
    assert not any(tmp_path.iterdir())
