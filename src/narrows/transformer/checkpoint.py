"""Checkpoints: plain Hugging Face folders that load with narrows and where narrows is unknown.

`save` writes weights (safetensors), config, tokenizer, the modelling file where the model needs it, and the
record of the run (narrows.json). `load` reads such folders and stock ones, and trusts neither: it reads JSON
and safetensors only, compares every shape with the config before memory is taken, and runs no code that lies
in a folder unless it is told to.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from narrows.core.errors import CheckpointError, NarrowsError
from narrows.core.files import new_directory, write_json
from narrows.transformer.narrow import NARROW_CLASSES, NARROW_CONFIGS

RECORD = "narrows.json"
"""The file of a checkpoint that says how it was made."""

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_HUB_FILES = ("*.json", "*.txt", "*.model", "model.safetensors", "model-*-of-*.safetensors")
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")

# Keys of a config.json that make transformers fetch kernels, read other files or need other packages.
_IGNORED = ("attn_implementation", "experts_implementation")
_REFUSED = ("quantization_config", "transformers_weights", "fusion_config")


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A model in evaluation mode with its tokenizer; `record` is its narrows.json, if it has one.

    `missing_head` says that the folder has no (fitting) weights for the task head: it is freshly initialised.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    record: dict[str, Any] | None
    missing_head: bool


def register() -> None:
    """Make the `Auto*` classes of transformers know the narrow models; may be called again.

    Models loaded through them take their modelling file along when they are saved.
    """
    for model_type, config_class in NARROW_CONFIGS.items():
        AutoConfig.register(model_type, config_class, exist_ok=True)
        config_class.register_for_auto_class()
        family = config_class.__name__.removesuffix("Config")
        for task in config_class.tasks:
            model_class: Any = NARROW_CLASSES[f"{family}{task or 'Model'}"]
            auto_class = getattr(transformers, f"AutoModel{task}")
            auto_class.register(config_class, model_class, exist_ok=True)
            model_class.register_for_auto_class(auto_class.__name__)


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    path: str | Path,
    *,
    record: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model, its tokenizer and the record of its making into the folder `path`, which appears whole.

    Raises `NarrowsError` where `path` exists and is not empty (unless `overwrite`) or cannot be written.
    """
    register()
    with new_directory(path, overwrite) as folder, quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if record is not None:
            write_json(folder / RECORD, record)
    return Path(path)


def load(
    path: str | Path,
    *,
    head: str | None = None,
    dtype: torch.dtype | None = None,
    trust_remote_code: bool = False,
    **changes: Any,
) -> LoadedCheckpoint:
    """Load a local folder or a model of the Hugging Face Hub, narrow or stock.

    The class is the one the folder names; `head` asks for another ("ForSequenceClassification", "" for the
    bare encoder), and `changes` are config values to set first (num_labels=2). `dtype` is that of the stored
    weights unless given. `trust_remote_code` lets the folder's own Python code run where narrows does not
    know the model. Raises `CheckpointError` for a folder that is damaged or not safe to read.
    """
    register()
    folder = _local_folder(path, with_code=trust_remote_code)
    settings = _read_json(folder / "config.json")
    ours = str(settings.get("model_type")) in NARROW_CONFIGS
    foreign = bool(settings.get("auto_map")) and not ours
    if foreign and not trust_remote_code:
        raise CheckpointError(
            f"{path} brings its own Python code ({_code_names(settings)}), which was not run; read it, "
            "and if you trust it allow it (trust_remote_code=True)"
        )
    if not any(next(folder.glob(pattern), None) for pattern in _TOKENIZERS):
        # transformers would make one that knows the special tokens and nothing else
        raise CheckpointError(f"{path} has no tokenizer: neither tokenizer.json nor a vocabulary")
    try:
        with quiet():
            if foreign:
                model, missing_head = _load_foreign(folder, settings, head, dtype, changes)
            else:
                model, missing_head = _load_known(folder, settings, head, dtype, changes)
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except NarrowsError:
        raise
    # Whatever the folder makes torch, transformers or tokenizers raise means that it cannot be loaded.
    except Exception as error:
        raise CheckpointError(f"{path} cannot be loaded: {_one_line(error)}") from error
    model.name_or_path = model.config.name_or_path = str(path)
    if ours and len(tokenizer) > model.config.vocab_size:
        raise CheckpointError(
            f"{path} is damaged: its tokenizer has {len(tokenizer)} tokens, the model {model.config.vocab_size}"
        )
    record = _read_json(folder / RECORD) if (folder / RECORD).is_file() else None
    return LoadedCheckpoint(model, tokenizer, record, missing_head)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' log and progress bars, and leave both as they were."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else f"{text[:400]} ..."


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{file.parent} is not a checkpoint: it has no {file.name}") from None
    # RecursionError: a file of a million brackets.
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not readable as JSON: {_one_line(error)}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file} must hold a JSON object, but holds a {type(value).__name__}")
    return value


def _code_names(settings: Mapping[str, Any]) -> str:
    names = settings["auto_map"]
    return ", ".join(sorted(str(n) for n in names.values())) if isinstance(names, dict) else str(names)


def _local_folder(path: str | Path, *, with_code: bool) -> Path:
    """The folder itself, or a local copy of a Hub model's JSON, vocabulary and safetensors files."""
    folder = Path(path)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CheckpointError(f"{path} is a file; a model is a folder with config.json and model.safetensors")
    if not _HUB_ID.fullmatch(str(path)):
        raise CheckpointError(f"there is no folder {path}")
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.snapshot_download(
                str(path), allow_patterns=[*_HUB_FILES, "*.py"] if with_code else [*_HUB_FILES]
            )
        )
    except Exception as error:  # many kinds: no network, no such name, no right to read, a full disk
        raise CheckpointError(
            f"{path} is no folder here, and could not be had from the Hugging Face Hub: {_one_line(error)}"
        ) from error


def _load_known(
    folder: Path,
    settings: dict[str, Any],
    head: str | None,
    dtype: torch.dtype | None,
    changes: Mapping[str, Any],
) -> tuple[PreTrainedModel, bool]:
    """Load with classes of narrows or transformers. Returns the model, and whether its head is fresh."""
    if refused := [key for key in _REFUSED if settings.get(key)]:
        raise CheckpointError(f"{folder / 'config.json'} has {refused[0]}, which is not supported")
    weights = _read_weights(folder)
    for name in ("num_hidden_layers", "n_layers"):  # before transformers counts to a billion
        if isinstance(layers := settings.get(name), int) and layers > len(weights):
            raise CheckpointError(
                f"{folder} is damaged: config.json speaks of {layers} layers, and the weights are "
                f"{len(weights)} tensors in all"
            )
    config = _config(folder, settings)
    for name, value in changes.items():
        setattr(config, name, value)
    model_class = _class_of(config, settings.get("architectures"), head)
    with torch.device("meta"):
        empty = model_class(config)
    missing_head = _compare(folder, empty, weights, new_head=head is not None or bool(changes))
    loader: Any = model_class  # its annotations do not know output_loading_info
    model, report = loader.from_pretrained(
        None,
        config=config,
        state_dict=weights,
        dtype=dtype or "auto",
        ignore_mismatched_sizes=missing_head,
        output_loading_info=True,
    )
    if not missing_head and report["missing_keys"]:
        raise CheckpointError(f"{folder} is damaged: {_first(report['missing_keys'])} missing from the weights")
    return model, missing_head


def _load_foreign(
    folder: Path,
    settings: dict[str, Any],
    head: str | None,
    dtype: torch.dtype | None,
    changes: Mapping[str, Any],
) -> tuple[PreTrainedModel, bool]:
    """Load with the folder's own code, which the user trusts."""
    _read_weights(folder)  # for its refusals
    named = [f".{name}" for name in settings.get("architectures") or ()]
    auto_class = next(
        (key for key, value in settings["auto_map"].items() if any(str(value).endswith(name) for name in named)),
        "AutoModel",
    )
    model, report = getattr(transformers, auto_class if head is None else f"AutoModel{head}").from_pretrained(
        folder,
        trust_remote_code=True,
        use_safetensors=True,
        dtype=dtype or "auto",
        output_loading_info=True,
        **changes,
    )
    inner = [key for key in report["missing_keys"] if key.startswith(f"{model.base_model_prefix}.")]
    if inner or (report["missing_keys"] and model.base_model is model):
        raise CheckpointError(f"{folder} is damaged: {_first(report['missing_keys'])} missing from the weights")
    return model, bool(report["missing_keys"])


def _config(folder: Path, settings: dict[str, Any]) -> PreTrainedConfig:
    model_type = settings.get("model_type")
    try:
        config_class = type(AutoConfig.for_model(str(model_type)))
    except ValueError:
        raise CheckpointError(
            f"{folder / 'config.json'} names the model type {model_type!r}, which transformers "
            f"{transformers.__version__} does not know"
        ) from None
    config: PreTrainedConfig = config_class.from_dict(
        {key: value for key, value in settings.items() if not key.startswith("_") and key not in _IGNORED}
    )
    return config


def _class_of(config: PreTrainedConfig, architectures: Any, head: str | None) -> type[PreTrainedModel]:
    """The model class that a config.json names, or the one with another head."""
    if head is None and isinstance(architectures, list) and architectures:
        name = str(architectures[0])
        if config.model_type in NARROW_CONFIGS:
            found: Any = NARROW_CLASSES.get(f"Narrow{name.removeprefix('Narrow')}")
        else:
            found = getattr(transformers, name, None)
        if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
            raise CheckpointError(f"config.json names the model class {name!r}, which does not exist")
        if found.config_class is not type(config):
            raise CheckpointError(f"config.json names the class {name} for the model type {config.model_type!r}")
        return found
    auto_class = getattr(transformers, f"AutoModel{head or ''}", None)
    if auto_class is None or type(config) not in auto_class._model_mapping:
        raise CheckpointError(f"there is no {head} model of the type {config.model_type!r}")
    chosen: type[PreTrainedModel] = auto_class._model_mapping[type(config)]
    return chosen


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of model.safetensors, or of the parts that model.safetensors.index.json lists."""
    if (folder / "model.safetensors").is_file():
        names = {"model.safetensors"}
    elif (folder / "model.safetensors.index.json").is_file():
        table = _read_json(folder / "model.safetensors.index.json").get("weight_map")
        if not isinstance(table, dict):
            raise CheckpointError(f"{folder / 'model.safetensors.index.json'} has no table 'weight_map'")
        names = {str(name) for name in table.values()}
        if outside := [n for n in names if Path(n).name != n or "\\" in n or not n.endswith(".safetensors")]:
            raise CheckpointError(
                f"{folder / 'model.safetensors.index.json'} names {outside[0]!r}, which is no safetensors "
                "file of the folder; nothing was read"
            )
    elif any(next(folder.glob(pattern), None) for pattern in _PICKLES):
        raise CheckpointError(
            f"{folder} has its weights as pickle files only, which can run code when they are read; where "
            "you trust them, convert them: save_pretrained of a current transformers writes model.safetensors"
        )
    else:
        raise CheckpointError(f"{folder} has no weights: neither model.safetensors nor an index of its parts")
    weights: dict[str, Tensor] = {}
    for name in sorted(names):
        try:
            weights |= load_file(folder / name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{folder / name} is missing or damaged: {_one_line(error)}") from error
    return weights


def _compare(folder: Path, empty: PreTrainedModel, weights: Mapping[str, Tensor], *, new_head: bool) -> bool:
    """Compare the stored tensors with those the model needs. Returns whether the head's are missing.

    Names are compared without the prefix of the base model, which a bare encoder's checkpoint lacks. With
    `new_head` stored head weights may have another shape: they are then not used.
    """
    prefix = f"{empty.base_model_prefix}."

    def plain(name: str) -> str:
        name = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))  # BERT's first checkpoints
        return name.removeprefix(prefix)

    def in_head(name: str) -> bool:
        part = name.partition(".")[0]
        return part == "pooler" or part not in parts

    parts = {name for name, _ in empty.base_model.named_children()}
    tied = {plain(name) for name in empty.all_tied_weights_keys}
    stored = {plain(name): tuple(tensor.shape) for name, tensor in weights.items()}
    needed = {plain(name): tuple(tensor.shape) for name, tensor in empty.state_dict().items()}

    absent = [name for name in needed if name not in stored and name not in tied]
    surplus = [name for name in stored if name not in needed and not name.endswith("position_ids")]
    differing = [name for name, shape in needed.items() if stored.get(name, shape) != shape]
    if wrong := [name for name in absent if not in_head(name)]:
        raise CheckpointError(f"{folder} is damaged: {_first(wrong)} missing from the weights")
    if wrong := [name for name in surplus if not in_head(name)]:
        raise CheckpointError(f"{folder} is damaged: config.json knows nothing of the weights {_first(wrong)}")
    if wrong := [name for name in differing if not in_head(name) or not new_head]:
        raise CheckpointError(
            f"{folder} is damaged: {wrong[0]} has the shape {stored[wrong[0]]}, and config.json says "
            f"{needed[wrong[0]]}" + (f" ({len(wrong)} tensors differ)" if len(wrong) > 1 else "")
        )
    # A head is there or not; a Linear of which only the bias is left is damage.
    modules = {name.rpartition(".")[0] for name in absent}
    if half := [name for name in stored if name in needed and name.rpartition(".")[0] in modules]:
        raise CheckpointError(f"{folder} is damaged: of {half[0].rpartition('.')[0]} only {half[0]} is stored")
    return bool(absent or differing)


def _first(names: Any) -> str:
    names = sorted(names)
    return f"{names[0]} is" if len(names) == 1 else f"{names[0]} and {len(names) - 1} more are"
