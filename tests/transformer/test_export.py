"""ONNX files give the model's outputs, for every batch size and length."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from narrows.core.errors import MissingExtra
from narrows.transformer import export
from narrows.transformer.export import export_onnx
from narrows.transformer.narrow import narrow_class, narrow_config


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(chr, range(97, 123))]
    return BertTokenizer(vocab={token: i for i, token in enumerate(tokens)})


def shrink(model: PreTrainedModel) -> PreTrainedModel:
    sizes: dict[str, Any] = {"heads": (2, 0, 1), "neurons": (5, 3, 0), "rank": 4, "vocab": 40, "tail": 24}
    config = narrow_config(model.config, hidden=13, head_dim=6, **sizes)
    small = narrow_class(type(model))(config)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return small


@pytest.mark.parametrize(
    ("family", "head"),
    [
        ("bert", "ForSequenceClassification"),
        pytest.param("roberta", "Model", marks=pytest.mark.slow),
        pytest.param("distilbert", "ForTokenClassification", marks=pytest.mark.slow),
        pytest.param("electra", "ForSequenceClassification", marks=pytest.mark.slow),
    ],
)
def test_onnx_equals_the_model_at_every_shape(
    family: str,
    head: str,
    tiny: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = shrink(tiny(family, head=head))
    folder = export_onnx(model, tokenizer, tmp_path / "onnx")
    assert capfd.readouterr() == ("", "")
    assert model.training  # as it was
    model.eval()
    assert {"model.onnx", "config.json", "tokenizer.json"} <= {file.name for file in folder.iterdir()}

    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    names = [value.name for value in session.get_inputs()]
    assert set(names) == {"input_ids", "attention_mask"} | ({"token_type_ids"} if family != "distilbert" else set())
    generator = torch.Generator().manual_seed(0)
    for shape in ((1, 1), (1, 30), (2, 7), (5, 3)):
        ids = torch.randint(5, 31, shape, generator=generator)
        mask = torch.ones_like(ids)
        mask[-1, shape[1] // 2 + 1 :] = 0
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": (ids % 2) * (family == "bert")}
        inputs = {name: inputs[name] for name in names}
        got = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        with torch.no_grad():
            want = model(**inputs).to_tuple()
        assert [value.name for value in session.get_outputs()] == list(model(**inputs))
        for a, b in zip(got, want, strict=True):
            assert a.shape == tuple(b.shape)
            assert float(np.abs(a - b.numpy()).max()) <= 1e-4


def test_export_names_the_extra_it_needs(
    tiny: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"onnx.*pip install 'narrows\[onnx\]'"):
        export_onnx(tiny("bert"), tokenizer, tmp_path / "onnx")
    assert list(tmp_path.iterdir()) == []
