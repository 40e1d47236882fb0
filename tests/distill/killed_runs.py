"""Train a tiny model in processes that are killed: run by test_resume.py, as `python killed_runs.py FOLDER`.

One process imports everything; every run is a fork of it, which ends by SIGKILL, at a place named below,
or at its natural end. Writes FOLDER/<run>.safetensors with the final weights and FOLDER/<run>.json with the
history.
"""

import gc
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification

from narrows.data import Examples
from narrows.distill import EncodedTexts, TrainConfig, finetune, state

sys.path.insert(0, str(Path(__file__).parent))
from conftest import make_examples, make_tokenizer

CONFIG = TrainConfig(steps=24, batch_size=8, learning_rate=1e-3, log_every=5, save_every=4)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killing_call(number: int, function: Callable[..., Any], after: bool) -> Callable[..., Any]:
    """`function`, but its `number`-th call is the process's last deed."""
    calls = 0

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and not after:
            kill()
        result = function(*args, **kwargs)
        if calls == number:
            kill()
        return result

    return wrapper


class KillAfter:
    """A progress that kills its process after one step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def update(self, step: int, total: int, figures: object) -> None:
        if step == self.step:
            kill()


def run(folder: Path, name: str, progress: KillAfter | None = None) -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        num_labels=3,
        max_position_embeddings=32,
        hidden_dropout_prob=0.2,
        attention_probs_dropout_prob=0.2,
    )
    model = BertForSequenceClassification(config)
    examples: Examples = make_examples(50)
    data = EncodedTexts(examples, make_tokenizer())
    history = finetune(model, data, CONFIG, folder / name, resume=True, progress=progress)
    save_file(model.state_dict(), folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(json.dumps([dict(record) for record in history]))


def forked(function: Callable[[], None]) -> int:
    """The pid of a fork that calls `function`."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    return pid


def ended(pid: int) -> int:
    """Wait; the exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    torch.set_num_threads(1)
    gc.freeze()  # every start of a run collects garbage
    folder = Path(sys.argv[1])
    assert ended(forked(lambda: run(folder, "whole"))) == 0

    def patched(target: Any, name: str, number: int, after: bool) -> Callable[[], None]:
        def start() -> None:
            setattr(target, name, killing_call(number, getattr(target, name), after))
            run(folder, "killed")

        return start

    # One life after another of the same run; each but the last ends in SIGKILL.
    lives = [
        lambda: run(folder, "killed", KillAfter(3)),  # nothing saved yet
        patched(state, "save_model", 1, after=False),  # inside the first save
        patched(state, "save_file", 2, after=True),  # inside the second: weights and optimizer written
        lambda: run(folder, "killed", KillAfter(7)),  # between a log point and a save
        patched(Path, "rename", 1, after=False),  # just before a save becomes visible
        patched(Path, "rename", 1, after=True),  # just after
        patched(shutil, "rmtree", 1, after=False),  # while tidying up
        lambda: run(folder, "killed", KillAfter(22)),
    ]
    for number, life in enumerate(lives):
        assert ended(forked(life)) == -signal.SIGKILL, f"life {number}"
    for delay in (0.35, 0.5):  # and at whatever moment this is
        pid = forked(lambda: run(folder, "timed"))
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
        ended(pid)
    for name in ("killed", "timed"):
        assert ended(forked(lambda name=name: run(folder, name))) == 0


if __name__ == "__main__":
    main()
