"""A machine that has never heard of narrows: run by test_checkpoint.py in a process of its own.

Loads every checkpoint of a folder (argument 1) in many ways, compares with the outputs beside it, saves
it again under `<name>-again`, and prints what happened as JSON.
"""
# ruff: noqa: E402

import sys

sys.modules["narrows"] = None  # type: ignore[assignment]  # importing it now fails

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoTokenizer, pipeline
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)

WORDS = "a bad e"


def difference(folder: Path, model: torch.nn.Module) -> float:
    """The largest difference between the model's first output and the one stored beside the checkpoint."""
    case = folder.parent / folder.name.removesuffix("-again")
    want = load_file(case.with_suffix(".outputs"))["output"]
    with torch.no_grad():
        got = model(**load_file(case.with_suffix(".inputs")))[0]
    return float((got - want).abs().max())


def attempt(call: Any) -> str:
    """The name and text of the error that `call` raises, or nothing."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def load(folder: Path, **kwargs: Any) -> Any:
    """The model by the Auto class that the folder's config names, with the folder's own code."""
    config = json.loads((folder / "config.json").read_text())
    name = config["architectures"][0]
    (auto_class,) = (key for key, value in config["auto_map"].items() if value.endswith(f".{name}"))
    return getattr(transformers, auto_class).from_pretrained(folder, trust_remote_code=True, **kwargs)


def main(root: Path) -> dict[str, Any]:
    """All trials, as {what: outcome}."""
    found: dict[str, Any] = {"narrows": attempt(lambda: __import__("narrows"))}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        model = load(folder)
        first = difference(folder, model)
        again = folder.with_name(f"{folder.name}-again")
        model.save_pretrained(again)
        AutoTokenizer.from_pretrained(folder, trust_remote_code=False).save_pretrained(again)
        eager = load(again, attn_implementation="eager")
        name = type(model).__name__.removeprefix("Narrow")
        stock = getattr(transformers, name)
        found[folder.name] = {
            "difference": first,
            "again": difference(again, load(again)),
            "eager": difference(again, eager),
            "half": difference(folder, load(folder, dtype=torch.float16).float()),
            "brain": difference(folder, load(folder, dtype=torch.bfloat16).float()),
            "module": type(model).__module__.partition(".")[0],
            "base": list(AutoModel.from_pretrained(folder, trust_remote_code=True).state_dict()),
            "without the flag": attempt(lambda f=folder: AutoModel.from_pretrained(f, trust_remote_code=False)),
            "config alone": type(AutoConfig.from_pretrained(folder, trust_remote_code=True)).__name__,
            "stock": attempt(lambda s=stock, f=folder: s.from_pretrained(f)),
            "stock, mismatches allowed": attempt(
                lambda s=stock, f=folder: s.from_pretrained(f, ignore_mismatched_sizes=True)
            ),
        }
    trusted = {"trust_remote_code": True}
    found["pipelines"] = {
        "classes": pipeline("text-classification", model=str(root / "bert"), **trusted)(WORDS),
        "features": pipeline("feature-extraction", model=str(root / "bert"), **trusted)(WORDS),
        "words": pipeline("fill-mask", model=str(root / "roberta-mlm"), **trusted)("a [MASK] e", top_k=3),
    }
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
