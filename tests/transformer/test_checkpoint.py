"""Checkpoints load everywhere, bit for bit; damaged and malicious ones are refused in one line."""

import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import BertTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from narrows.core.errors import CheckpointError, NarrowsError
from narrows.transformer.checkpoint import load, register, save
from narrows.transformer.narrow import narrow_class, narrow_config, stock_class, stock_config

FAMILIES = ("bert", "roberta", "distilbert", "electra")
SIZES: dict[str, Any] = {
    "hidden": 13, "head_dim": 6, "heads": (2, 0, 1), "neurons": (5, 3, 0), "vocab": 40, "tail": 24
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *map(chr, range(97, 123)),
        *(f"##{c}" for c in "adeou"),
    ]
    return BertTokenizer(vocab={token: i for i, token in enumerate(tokens)})


def shrink(model: PreTrainedModel, seed: int = 0, rank: int | None = None, **sizes: Any) -> PreTrainedModel:
    """A narrow model of the class and config of `model`, with random weights everywhere."""
    torch.manual_seed(seed)
    small = narrow_class(type(model))(narrow_config(model.config, rank=rank, **SIZES | sizes)).eval()
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return small


@pytest.fixture(scope="module")
def models(tiny: Callable[..., PreTrainedModel]) -> dict[str, PreTrainedModel]:
    return {
        **{family: shrink(tiny(family), rank=4) for family in FAMILIES},
        "bert-plain": shrink(tiny("bert", head="Model")),
        "bert-gone": shrink(tiny("bert"), heads=(0, 0, 0), neurons=(0, 0, 0)),
        "roberta-mlm": shrink(tiny("roberta", head="ForMaskedLM", pad_token_id=0)),
        "electra-rtd": shrink(tiny("electra", head="ForPreTraining")),
        "distilbert-qa": shrink(tiny("distilbert", head="ForQuestionAnswering", num_labels=2)),
    }


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 36, (3, 8), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


def output(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        first: torch.Tensor = model(**inputs)[0]
    return first


@pytest.fixture(scope="module")
def shelf(
    models: dict[str, PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    inputs: dict[str, torch.Tensor],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """One folder per model, inputs and outputs beside it; and a second save by the registered classes."""
    root = tmp_path_factory.mktemp("shelf")
    for name, model in models.items():
        save(model, tokenizer, root / name, record={"schema": 1, "model": name})
        save_file(inputs, root / f"{name}.inputs")
        save_file({"output": output(model, inputs)}, root / f"{name}.outputs")
    transformers_logging.disable_progress_bar()
    second = transformers.AutoModelForSequenceClassification.from_pretrained(root / "bert")
    second.save_pretrained(root / "bert-second")
    transformers_logging.enable_progress_bar()
    tokenizer.save_pretrained(root / "bert-second")
    for kind in ("inputs", "outputs"):
        shutil.copy(root / f"bert.{kind}", root / f"bert-second.{kind}")
    return root


@pytest.fixture(scope="module")
def elsewhere(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process that cannot import narrows makes of the shelf."""
    home = tmp_path_factory.mktemp("home")
    done = subprocess.run(
        [sys.executable, "-I", str(Path(__file__).with_name("elsewhere.py")), str(shelf)],
        cwd=home,
        env=os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


CASES = (*FAMILIES, "bert-plain", "bert-gone", "roberta-mlm", "electra-rtd", "distilbert-qa")


@pytest.mark.parametrize("name", [*CASES, "bert-second"])
def test_loads_bit_for_bit_where_narrows_is_unknown(elsewhere: dict[str, Any], name: str) -> None:
    assert "ModuleNotFoundError" in elsewhere["narrows"]
    found = elsewhere[name]
    assert found["difference"] == found["again"] == 0
    assert found["eager"] < 1e-6
    assert found["half"] < 0.02
    assert found["brain"] < 0.1
    assert found["module"] == "transformers_modules"
    assert any("embeddings.word_embeddings.weight" in key for key in found["base"])
    assert found["config alone"].startswith("Narrow")
    assert "trust_remote_code=True" in found["without the flag"]


@pytest.mark.parametrize("name", CASES)
def test_stock_classes_refuse_the_folder(elsewhere: dict[str, Any], name: str) -> None:
    assert elsewhere[name]["stock"].startswith("AmbiguousGlobalPerLayerAttributeError")
    assert elsewhere[name]["stock, mismatches allowed"].startswith("AmbiguousGlobalPerLayerAttributeError")


def test_pipelines_work_where_narrows_is_unknown(
    elsewhere: dict[str, Any], models: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    found = elsewhere["pipelines"]
    probabilities = output(models["bert"], dict(tokenizer("a bad e", return_tensors="pt"))).softmax(-1)
    assert found["classes"][0]["label"] == f"LABEL_{int(probabilities.argmax())}"
    assert found["classes"][0]["score"] == pytest.approx(float(probabilities.max()), abs=1e-6)
    assert len(found["features"][0][0]) == SIZES["hidden"]
    assert len({word["token"] for word in found["words"]}) == 3


@pytest.mark.parametrize("name", CASES)
def test_loads_bit_for_bit_with_narrows(
    name: str,
    models: dict[str, PreTrainedModel],
    inputs: dict[str, torch.Tensor],
    shelf: Path,
    elsewhere: dict[str, Any],  # has saved the folders again
) -> None:
    for folder in (shelf / name, shelf / f"{name}-again"):
        loaded = load(folder)
        assert type(loaded.model) is type(models[name])
        assert torch.equal(output(loaded.model, inputs), output(models[name], inputs))
        want, got = models[name].state_dict(), loaded.model.state_dict()
        assert want.keys() == got.keys()
        assert all(torch.equal(want[key], got[key]) for key in want)
        assert not loaded.missing_head
        assert not loaded.model.training
    assert load(shelf / name).record == {"schema": 1, "model": name}
    assert loaded.record is None
    assert sorted(p.name for p in (shelf / name).iterdir()) == [
        "config.json",
        "model.safetensors",
        "modeling_narrow_encoder.py",
        "narrows.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_auto_classes_know_the_models_and_pipelines_too(
    shelf: Path, models: dict[str, PreTrainedModel], inputs: dict[str, torch.Tensor]
) -> None:
    register()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(shelf / "electra")
    assert type(model) is type(models["electra"])
    assert torch.equal(output(model, inputs), output(models["electra"], inputs))
    assert transformers.pipeline("text-classification", model=str(shelf / "roberta"))("a bad e")[0]["score"] > 0
    # The flag changes nothing: the folder's own file is not executed.
    trusted = transformers.AutoModel.from_pretrained(shelf / "bert-plain", trust_remote_code=True)
    assert type(trusted) is type(models["bert-plain"])


def test_import_narrows_registers_and_prints_nothing(shelf: Path, tmp_path: Path) -> None:
    code = (
        "import narrows\nfrom transformers import AutoConfig\n"
        f"assert type(AutoConfig.from_pretrained({str(shelf / 'bert')!r})).__module__.startswith('narrows.')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(load.__code__.co_filename).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_registering_is_quiet_repeatable_and_leaves_stock_classes_alone(
    tiny: Callable[..., PreTrainedModel], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    register()
    register()
    assert capfd.readouterr() == ("", "")
    assert type(transformers.AutoConfig.for_model("bert")) is transformers.BertConfig
    stock = tiny("bert")
    assert type(transformers.AutoModel.from_config(stock.config)) is transformers.BertModel
    stock.save_pretrained(tmp_path)
    assert "auto_map" not in json.loads((tmp_path / "config.json").read_text())
    assert not list(tmp_path.glob("*.py"))


def test_saving_and_loading_are_silent_and_restore_the_log(
    models: dict[str, PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.DEBUG)
    try:
        save(models["bert"], tokenizer, tmp_path / "x")
        load(tmp_path / "x", head="ForTokenClassification")
        with pytest.raises(CheckpointError):
            load(tmp_path)
        assert capfd.readouterr() == ("", "")
        assert transformers_logging.get_verbosity() == logging.DEBUG
        assert transformers_logging.is_progress_bar_enabled()
    finally:
        transformers_logging.set_verbosity(level)


@pytest.mark.parametrize("family", FAMILIES)
def test_uniform_sizes_make_a_stock_folder(
    family: str, tiny: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    dense = tiny(family)
    config = stock_config(
        dense.config, hidden=12, head_dim=6, heads=[2] * 3, neurons=[5] * 3, rank=None, vocab=40, tail=12
    )
    model = stock_class(type(dense))(config)
    save(model, tokenizer, tmp_path / "x", record={})
    saved = json.loads((tmp_path / "x" / "config.json").read_text())
    assert saved["model_type"] == family
    assert not {"auto_map", "per_layer_config", "head_dim", "pooler_size", "embedding_rank"} & set(saved)
    assert not list((tmp_path / "x").glob("*.py"))
    loaded = load(tmp_path / "x")
    assert type(loaded.model) is type(dense)
    assert loaded.record == {}


def test_half_precision_is_kept_or_chosen(
    models: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase, shelf: Path, tmp_path: Path
) -> None:
    half = load(shelf / "roberta", dtype=torch.float16).model
    save(half, tokenizer, tmp_path / "x")
    assert load(tmp_path / "x").model.dtype == torch.float16
    stored = load_file(tmp_path / "x" / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.float16}
    again = load(tmp_path / "x", dtype=torch.float32).model
    for name, weight in models["roberta"].state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], weight.half().float(), rtol=0, atol=0)


def test_heads_can_be_exchanged(shelf: Path, models: dict[str, PreTrainedModel]) -> None:
    base = load(shelf / "bert", head="")
    assert type(base.model).__name__ == "NarrowBertModel"
    assert not base.missing_head  # the classifier has a pooler, and so has the encoder
    words = load(shelf / "bert", head="ForTokenClassification", num_labels=7)
    assert words.missing_head
    assert words.model.classifier.out_features == 7
    classes = load(shelf / "bert-plain", head="ForSequenceClassification", num_labels=5)
    assert classes.missing_head
    assert classes.model.classifier.in_features == SIZES["tail"]
    assert load(shelf / "bert", num_labels=5).missing_head
    for loaded in (base, words):
        name = "embeddings.position_embeddings.weight"
        assert torch.equal(loaded.model.base_model.state_dict()[name], models["bert"].base_model.state_dict()[name])


def test_encoder_saved_from_inside_a_head_loads(
    models: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    inner = models["bert"].base_model
    assert type(inner) is transformers.BertModel
    save(inner, tokenizer, tmp_path / "x")
    loaded = load(tmp_path / "x")
    assert type(loaded.model).__name__ == "NarrowBertModel"
    for name, weight in inner.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], weight)


def test_nothing_is_left_of_a_save_that_fails(
    models: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    with pytest.raises(ValueError):
        save(models["bert"], tokenizer, tmp_path / "x", record={"not json": float("nan")})
    assert list(tmp_path.iterdir()) == []
    save(models["bert"], tokenizer, tmp_path / "x")
    with pytest.raises(NarrowsError, match="exists"):
        save(models["bert"], tokenizer, tmp_path / "x")
    save(models["roberta"], tokenizer, tmp_path / "x", overwrite=True)
    assert type(load(tmp_path / "x").model) is type(models["roberta"])


# Damage and malice. Every case must end in one line, run nothing and name what is wrong.


@pytest.fixture
def folder(shelf: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shelf / "bert", tmp_path / "folder"))


def refused(folder: Path | str, words: str, **kwargs: Any) -> None:
    with pytest.raises(CheckpointError, match=words) as caught:
        load(folder, **kwargs)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def edit(file: Path, **changes: Any) -> None:
    values = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))


def layers(folder: Path, **first: Any) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text())["per_layer_config"]
    config["0"] |= first
    return {"per_layer_config": config}


def test_folders_that_are_no_checkpoints(folder: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere" / "at" / "all", "no folder")
    refused(tmp_path, "no config.json")
    refused(folder / "config.json", "is a file")
    (folder / "model.safetensors").unlink()
    refused(folder, "no weights")


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "[" * 100_000, "\x00\xff", '"text"'])
@pytest.mark.parametrize("name", ["config.json", "narrows.json"])
def test_files_that_are_not_json(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="latin-1")
    refused(folder, name)


def test_record_is_optional(folder: Path) -> None:
    (folder / "narrows.json").unlink()
    assert load(folder).record is None


def test_weights_cut_short_or_garbled(folder: Path) -> None:
    file = folder / "model.safetensors"
    content = file.read_bytes()
    for part in (content[: len(content) // 2], content[:20], b"", b"\xff" * 64, b"\xff" * 8 + content[8:]):
        file.write_bytes(part)
        refused(folder, "model.safetensors is missing or damaged")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vocab_size": 39}, r"word_embeddings.weight has the shape \(40, 4\)"),
        ({"hidden_size": 14}, "has the shape"),
        ({"vocab_size": 10**15}, "has the shape"),
        ({"hidden_size": 10**18}, "cannot be loaded"),
        ({"hidden_size": -5}, "cannot be loaded"),
        ({"max_position_embeddings": 10**14}, "has the shape"),
        ({"hidden_size": "13"}, "hidden_size"),
        ({"head_dim": 10**15}, "has the shape"),
        ({"head_dim": "6"}, "head_dim"),
        ({"pooler_size": 0}, "pooler_size"),
        ({"embedding_rank": None}, "word_embeddings"),
        ({"embedding_rank": 10**12}, "has the shape"),
        ({"num_hidden_layers": 10**9}, "layers"),
        ({"num_hidden_layers": 2}, "per_layer_config"),
        ({"num_hidden_layers": 4}, "missing from the weights"),
        ({"num_hidden_layers": -1}, "cannot be loaded"),
        ({"per_layer_config": {}}, "missing from the weights"),
        ({"per_layer_config": []}, "cannot be loaded"),
        ({"per_layer_config": {"one": {}}}, "cannot be loaded"),
        ({"per_layer_config": {"0": {"skip": "attention"}}}, "skip"),
        ({"model_type": "bert"}, "auto_map|own Python code"),
        ({"model_type": "narrow-roberta", "architectures": ...}, "shape|weights"),
        ({"model_type": "narrow-roberta"}, "NarrowBertForSequenceClassification for the model type"),
        ({"model_type": "narrow-house", "auto_map": ...}, "narrow-house"),
        ({"model_type": ..., "auto_map": ...}, "does not know"),
        ({"model_type": ["narrow-bert"], "auto_map": None}, "does not know"),
        ({"model_type": {}}, "own Python code"),
        ({"architectures": 7, "hidden_size": 14}, "has the shape"),
        ({"architectures": [None]}, "'None', which does not exist"),
        ({"architectures": ["os.system"]}, "os.system"),
        ({"architectures": ["BertTokenizer"]}, "BertTokenizer"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantization_config"),
        ({"transformers_weights": "adapter_model.bin"}, "transformers_weights"),
    ],
)
def test_config_that_does_not_describe_the_weights(folder: Path, change: dict[str, Any], words: str) -> None:
    edit(folder / "config.json", **change)
    refused(folder, words)


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ({"num_attention_heads": 3}, "query.weight has the shape"),
        ({"num_attention_heads": 10**13}, "query.weight has the shape"),
        ({"num_attention_heads": -2}, "num_attention_heads"),
        ({"num_attention_heads": "2"}, "num_attention_heads"),
        ({"intermediate_size": -1}, "intermediate_size"),
        ({"skip": ["attention"]}, "knows nothing of the weights"),
        ({"skip": ["pooler"]}, "skip"),
    ],
)
def test_layers_that_do_not_describe_the_weights(folder: Path, first: dict[str, Any], words: str) -> None:
    edit(folder / "config.json", **layers(folder, **first))
    refused(folder, words)


def test_weights_that_lack_a_tensor_or_have_one_too_many(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)

    def store(drop: str = "", **more: torch.Tensor) -> None:
        save_file({k: v for k, v in weights.items() if k != drop} | more, file, metadata={"format": "pt"})

    for name in ("bert.encoder.layer.0.attention.self.key.bias", "bert.embeddings.LayerNorm.weight"):
        store(drop=name)
        refused(folder, f"{name.removeprefix('bert.')} is missing")
    store(drop="classifier.bias")
    refused(folder, "only classifier.weight is stored")
    store(**{"bert.encoder.layer.9.output.dense.bias": torch.zeros(3)})
    refused(folder, "knows nothing of the weights encoder.layer.9")
    del weights["classifier.weight"], weights["classifier.bias"]
    store()
    assert load(folder).missing_head


def test_old_layer_norm_names_are_understood(
    tiny: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    model = tiny("bert")
    save(model, tokenizer, tmp_path / "x")
    file = tmp_path / "x" / "model.safetensors"
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): weight
        for name, weight in load_file(file).items()
    }
    save_file(old, file, metadata={"format": "pt"})
    loaded = load(tmp_path / "x")
    assert all(torch.equal(loaded.model.state_dict()[name], w) for name, w in model.state_dict().items())


def test_weights_in_several_files(folder: Path, models: dict[str, PreTrainedModel], inputs: Any) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for file, keys in parts.items():
        save_file({key: weights[key] for key in keys}, folder / file, metadata={"format": "pt"})
    index = folder / "model.safetensors.index.json"
    table = {key: file for file, keys in parts.items() for key in keys}
    index.write_text(json.dumps({"metadata": {}, "weight_map": table}))
    assert torch.equal(output(load(folder).model, inputs), output(models["bert"], inputs))

    secret = folder.parent / "secret.safetensors"
    save_file({names[0]: weights[names[0]]}, secret)
    for name in ("../secret.safetensors", str(secret), "..\\secret.safetensors", "weights.bin", "..", ""):
        index.write_text(json.dumps({"weight_map": table | {names[0]: name}}))
        refused(folder, "no safetensors file of the folder")
    index.write_text(json.dumps({"weight_map": table | {names[0]: "model-00003.safetensors"}}))
    refused(folder, "model-00003.safetensors is missing or damaged")
    index.write_text(json.dumps({"weight_map": [1]}))
    refused(folder, "weight_map")


class Marker:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "ran")


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "marker"
    assert not (tmp_path / "marker").exists(), "code of the folder was run"


def test_pickles_are_not_opened(folder: Path, marker: Path) -> None:
    content = pickle.dumps(Marker(marker))
    for name in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin"):
        (folder / name).write_bytes(content)
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(folder)})
    )
    assert not load(folder).missing_head
    (folder / "model.safetensors").unlink()
    refused(folder, "pickle")


FOREIGN = """
from pathlib import Path
from transformers import BertConfig, BertForSequenceClassification

Path({marker!r}).write_text("ran")

class OtherConfig(BertConfig):
    model_type = "other"

class OtherModel(BertForSequenceClassification):
    config_class = OtherConfig
"""


def make_foreign(folder: Path, model: PreTrainedModel, tokenizer: Any, marker: Path, model_type: str) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "other.py").write_text(FOREIGN.format(marker=str(marker)))
    names = {"AutoConfig": "other.OtherConfig", "AutoModelForSequenceClassification": "other.OtherModel"}
    edit(folder / "config.json", model_type=model_type, auto_map=names, architectures=["OtherModel"])


@pytest.mark.parametrize("model_type", ["other", "bert"])
def test_foreign_code_is_not_run_unasked(
    model_type: str, tiny: Callable[..., PreTrainedModel], tokenizer: Any, tmp_path: Path, marker: Path
) -> None:
    make_foreign(tmp_path / "x", tiny("bert"), tokenizer, marker, model_type)
    refused(tmp_path / "x", r"own Python code \(other.OtherConfig, other.OtherModel\).*was not run")


def test_foreign_code_runs_when_trusted(
    tiny: Callable[..., PreTrainedModel], tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = str(tmp_path / "modules")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    marker = tmp_path / "marker"
    model = tiny("bert")
    make_foreign(tmp_path / "x", model, tokenizer, marker, "other")
    loaded = load(tmp_path / "x", trust_remote_code=True)
    assert marker.read_text() == "ran"
    assert type(loaded.model).__name__ == "OtherModel"
    assert not loaded.missing_head
    assert torch.equal(loaded.model.classifier.weight, model.classifier.weight)


@pytest.mark.parametrize("trust", [False, True])
def test_the_modelling_file_of_a_narrow_folder_is_not_run(folder: Path, marker: Path, trust: bool) -> None:
    (folder / "modeling_narrow_encoder.py").write_text(FOREIGN.format(marker=str(marker)))
    edit(folder / "config.json", auto_map={"AutoConfig": "modeling_narrow_encoder.OtherConfig"})
    assert type(load(folder, trust_remote_code=trust).model).__name__ == "NarrowBertForSequenceClassification"


def test_tokenizer_code_is_not_run_unasked(folder: Path, marker: Path) -> None:
    (folder / "other.py").write_text(FOREIGN.format(marker=str(marker)))
    edit(
        folder / "tokenizer_config.json",
        auto_map={"AutoTokenizer": ["other.OtherModel", None]},
        tokenizer_class="OtherTokenizer",
    )
    refused(folder, "cannot be loaded")


def test_config_cannot_choose_kernels(folder: Path) -> None:
    edit(folder / "config.json", attn_implementation="someone/kernel", _attn_implementation="someone/kernel")
    assert load(folder).model.config._attn_implementation == "sdpa"


def test_tokenizers_that_do_not_fit(folder: Path) -> None:
    table = json.loads((folder / "tokenizer.json").read_text())
    table["model"]["vocab"] |= {f"word{i}": 40 + i for i in range(9)}
    (folder / "tokenizer.json").write_text(json.dumps(table))
    refused(folder, "tokenizer has .* tokens, the model 40")
    (folder / "tokenizer.json").write_text("{}")
    refused(folder, "cannot be loaded")
    (folder / "tokenizer.json").unlink()
    refused(folder, "no tokenizer")


def test_hub_names(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, "*.py" in allow_patterns, any("bin" in p for p in allow_patterns)))
        return str(shelf / "bert")

    refused("someone/model", "could not be had from the Hugging Face Hub")  # the tests are offline
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    loaded = load("someone/model")
    assert loaded.model.name_or_path == "someone/model"
    load("someone/model", trust_remote_code=True)
    assert asked == [("someone/model", False, False), ("someone/model", True, False)]
