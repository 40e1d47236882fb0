"""Files and folders that appear whole or not at all."""

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from narrows.core.errors import NarrowsError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) so that a reader sees the old file or the new one, never a part."""
    path = Path(path)
    temporary = _beside(path)
    with _clear_errors(path):
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as JSON, the way `write_text` does; NaN and infinity raise ValueError (not JSON)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def new_directory(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` when the block ends well, and is removed otherwise.

    Raises NarrowsError where `path` exists and is not an empty folder, unless `overwrite`, and where the disk
    is full or may not be written.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and (overwrite or not any(path.iterdir()))):
        raise NarrowsError(f"{path} exists already: name another folder or remove it")
    temporary = _beside(path)
    with _clear_errors(path):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            _put(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _put(new: Path, path: Path) -> None:
    if not path.exists():
        new.rename(path)
        return
    old = _beside(path)
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old)


def _beside(path: Path) -> Path:
    """A fresh name in the same folder, hence on the same disk: renaming from there is atomic."""
    return path.absolute().with_name(f".{path.name}.{uuid4().hex[:12]}.tmp")


@contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except NarrowsError:
        raise
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        # safetensors raises its own error class, with the operating system's text in it.
        if code in _FULL or "No space left on device" in str(error):
            raise NarrowsError(f"the disk is full: {path} was not written; free some space and try again") from error
        if code in _FORBIDDEN:
            raise NarrowsError(f"{path} may not be written: {error}; name another place") from error
        raise
