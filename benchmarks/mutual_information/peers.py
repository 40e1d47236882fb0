"""Peers as estimators: each runs in a worker process, with the interpreter of its own environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

WORKER = Path(__file__).with_name("worker.py")
sys.path.insert(0, str(WORKER.parent))

from worker import PEERS  # noqa: E402

__all__ = ["PEERS", "Peer", "interpreter"]


def interpreter(folder: Path | None, name: str) -> str:
    """The Python of the environment that is called like the peer's package in `folder`, otherwise this one."""
    if folder is not None:
        own = folder / name.split()[0] / "bin" / "python"
        if own.exists():
            return str(own)
    return sys.executable


class Peer:
    """An estimator in a worker. `problem` says why it cannot run; `seconds` (of the clock and of the processor) and
    `memory` are of its answers."""

    def __init__(self, name: str, python: str) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        self._process = subprocess.Popen(
            [python, str(WORKER), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.problem: str | None = self._read().get("error")
        self.seconds: list[float] = []
        self.processor: list[float] = []
        self.memory: list[float] = []
        self.discrete = ""

    def __call__(self, x: Any, y: Any) -> float:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sides.npz"
            np.savez(path, x=x, y=y, discrete=self.discrete)
            assert self._process.stdin is not None
            self._process.stdin.write(f"{path}\n")
            self._process.stdin.flush()
            found = self._read()
        if found.get("error"):
            raise RuntimeError(found["error"])
        self.seconds.append(found["seconds"])
        self.processor.append(found["processor"])
        self.memory.append(found["memory"])
        return float(found["value"])

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return dict(json.loads(line)) if line else {"error": "the worker died"}
