"""What the teacher says about each example: computed once and kept on disk, or computed at every step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from narrows.core.errors import TrainingError
from narrows.core.files import new_directory, write_json
from narrows.distill.encode import EncodedTexts, model_inputs, sorted_batches
from narrows.distill.evaluate import evaluating
from narrows.distill.objective import Progress

_MARKER = "teacher.json"
_LARGEST_FP16 = 65504.0
_TINY = 1e-12  # a site that never varies must not divide by zero
_SAMPLE = 640  # examples that an online teacher measures its variances on


@dataclass(frozen=True)
class TeacherBatch:
    """The teacher's outputs on one batch.

    `logits` (B x C, float32); `hidden` (N x S x d): the N tokens that are not padding, row after row, at the
    S sites (the embedding output and every layer's output).
    """

    logits: Tensor
    hidden: Tensor


@dataclass(frozen=True)
class TeacherScale:
    """The teacher's variances, for losses that do not depend on its units.

    `sites` (S): per site, the variance over tokens of each channel, averaged over the channels; `logits`: the
    same over examples. float32.
    """

    sites: Tensor
    logits: Tensor


class Teacher(Protocol):
    """Where an objective gets the teacher's outputs from."""

    @property
    def scale(self) -> TeacherScale:
        """The teacher's variances."""
        ...

    @property
    def width(self) -> int:
        """The teacher's hidden width d."""
        ...

    def outputs(self, index: Tensor, tokens: int) -> TeacherBatch:
        """Of the examples `index` (B), which must have `tokens` tokens together, or TrainingError."""


def teacher_bytes(teacher: PreTrainedModel, data: EncodedTexts, indices: Sequence[int]) -> int:
    """Bytes on disk that the teacher's outputs for `indices` will take."""
    tokens = int(data.lengths[torch.tensor(list(indices))].sum())
    config = teacher.config
    outputs = 4 * len(indices) * (config.num_labels or 0)
    return int(2 * tokens * (config.num_hidden_layers + 1) * config.hidden_size + outputs)


def open_teacher(
    teacher: PreTrainedModel,
    data: EncodedTexts,
    indices: Sequence[int],
    path: str | Path,
    *,
    limit_bytes: int = 4_000_000_000,
    progress: Progress | None = None,
) -> TeacherCache | OnlineTeacher:
    """The cache at `path` if the outputs fit into `limit_bytes`, otherwise a teacher that runs at every step.

    `data` are the examples as the teacher reads them; `indices` those that training visits.
    """
    if teacher_bytes(teacher, data, indices) > limit_bytes:
        return OnlineTeacher(teacher, data, indices)
    return TeacherCache.build(teacher, data, indices, path, progress=progress)


class OnlineTeacher:
    """A teacher that runs on every batch; its variances are measured on up to 640 of `indices`."""

    def __init__(self, teacher: PreTrainedModel, data: EncodedTexts, indices: Sequence[int]) -> None:
        self._teacher, self._data = teacher, data
        variances = _Variances()
        for rows in sorted_batches(data.lengths, 32, indices[:: max(1, len(indices) // _SAMPLE)][:_SAMPLE]):
            variances.add(_outputs(teacher, data, rows))
        self.scale = variances.scale()
        self.width = variances.width

    def outputs(self, index: Tensor, tokens: int) -> TeacherBatch:
        """See `Teacher`."""
        batch = _outputs(self._teacher, self._data, index.tolist())
        _check_tokens(len(batch.hidden), tokens)
        return batch


class TeacherCache:
    """The teacher's outputs on disk: hidden states in float16 (memory-mapped), logits in float32.

    Every example's tokens lie together, so that a batch is read as B slices.
    """

    def __init__(self, path: str | Path) -> None:
        """Open what `build` wrote; TrainingError where it is damaged."""
        try:
            self._marker: dict[str, Any] = json.loads((Path(path) / _MARKER).read_text(encoding="utf-8"))
            self._hidden = np.load(Path(path) / "hidden.npy", mmap_mode="r", allow_pickle=False)
            tables = load_file(str(Path(path) / "outputs.safetensors"))
            self.scale = TeacherScale(tables["site_variance"], tables["logit_variance"])
            self._logits, self._starts, self._lengths = tables["logits"], tables["start"], tables["length"]
            self._row = {index: row for row, index in enumerate(tables["index"].tolist())}
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise TrainingError(f"{path} is not a whole cache of teacher outputs ({error}): remove it") from error

    @property
    def width(self) -> int:
        """The teacher's hidden width d."""
        width: int = self._hidden.shape[2]
        return width

    @classmethod
    def build(
        cls,
        teacher: PreTrainedModel,
        data: EncodedTexts,
        indices: Sequence[int],
        path: str | Path,
        *,
        progress: Progress | None = None,
    ) -> TeacherCache:
        """Compute the outputs for `indices` in fixed batches of 32, or reopen them if they are there.

        The folder appears when it is whole; what a killed build left behind is removed. `progress` counts
        batches. Errors: TrainingError where a hidden state is beyond float16, NarrowsError where the disk is
        full.
        """
        path = Path(path)
        for left in path.absolute().parent.glob(f".{path.name}.*.tmp"):
            shutil.rmtree(left)
        identity = _identity(teacher, data, indices)
        if path.exists():
            try:
                cache = cls(path)
            except TrainingError:
                pass
            else:
                if cache._marker["identity"] == identity:
                    return cache
        with new_directory(path, overwrite=True) as folder:
            _write(folder, teacher, data, indices, progress)
            write_json(folder / _MARKER, {"identity": identity, "examples": len(indices)})
        return cls(path)

    def outputs(self, index: Tensor, tokens: int) -> TeacherBatch:
        """See `Teacher`; TrainingError for an example that is not in the cache."""
        try:
            rows = [self._row[i] for i in index.tolist()]
        except KeyError as error:
            raise TrainingError(
                f"example {error} is not in the teacher's cache: build it for every example that is visited"
            ) from error
        lengths = [int(self._lengths[row]) for row in rows]
        _check_tokens(sum(lengths), tokens)
        hidden = np.empty((tokens, *self._hidden.shape[1:]), dtype=np.float16)
        end = 0
        for row, length in zip(rows, lengths, strict=True):
            start = int(self._starts[row])
            hidden[end : end + length] = self._hidden[start : start + length]
            end += length
        return TeacherBatch(self._logits[torch.tensor(rows)], torch.from_numpy(hidden))


class _Variances:
    """Variances over everything added, in float64."""

    def __init__(self) -> None:
        self._tokens = 0
        self._sum: Tensor | None = None
        self._square: Tensor | None = None
        self._logits: list[Tensor] = []

    def add(self, batch: TeacherBatch) -> None:
        hidden = batch.hidden.double()
        total, square = hidden.sum(0), hidden.square().sum(0)
        self._tokens += len(hidden)
        self._sum = total if self._sum is None else self._sum + total
        self._square = square if self._square is None else self._square + square
        self._logits.append(batch.logits.double())

    @property
    def width(self) -> int:
        assert self._sum is not None
        return self._sum.shape[1]

    def scale(self) -> TeacherScale:
        assert self._sum is not None
        assert self._square is not None
        mean = self._sum / self._tokens
        sites = (self._square / self._tokens - mean.square()).mean(1)
        logits = torch.cat(self._logits).var(0, correction=0).mean()
        return TeacherScale(sites.clamp(min=_TINY).float().cpu(), logits.clamp(min=_TINY).float().cpu())


def _outputs(teacher: PreTrainedModel, data: EncodedTexts, indices: Sequence[int]) -> TeacherBatch:
    batch = {k: v.to(teacher.device) for k, v in model_inputs(data.batch(indices)).items()}
    with evaluating(teacher), torch.autocast(teacher.device.type, enabled=False):
        output = teacher(**batch, output_hidden_states=True)
    hidden = torch.stack(token_rows(output.hidden_states, batch["attention_mask"]), dim=1)
    return TeacherBatch(output.logits.float(), hidden)


def token_rows(hidden_states: Sequence[Tensor], attention_mask: Tensor) -> list[Tensor]:
    """Per site, the rows (N x d) of the tokens that are not padding; states (B x T x d), mask (B x T)."""
    rows = attention_mask.flatten().nonzero().squeeze(1)
    return [states.flatten(0, 1).index_select(0, rows) for states in hidden_states]


def _check_tokens(got: int, expected: int) -> None:
    if got != expected:
        raise TrainingError(
            f"the teacher reads a batch as {got} tokens, the student as {expected}: both need the same tokenisation"
        )


def _identity(teacher: PreTrainedModel, data: EncodedTexts, indices: Sequence[int]) -> str:
    hasher = blake2b(data.digest.encode(), digest_size=16)
    hasher.update(torch.tensor(list(indices)).numpy().tobytes())
    for name, tensor in teacher.state_dict().items():
        hasher.update(name.encode())
        hasher.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()


def _write(
    folder: Path,
    teacher: PreTrainedModel,
    data: EncodedTexts,
    indices: Sequence[int],
    progress: Progress | None,
) -> None:
    """The cache's files but the marker; in sequence, as a full disk would kill who writes through a map."""
    batches = sorted_batches(data.lengths, 32, indices)
    order = [index for batch in batches for index in batch]
    lengths = data.lengths[torch.tensor(order)]
    variances, logits = _Variances(), []
    with (folder / "hidden.npy").open("wb") as file:
        for number, rows in enumerate(batches):
            batch = _outputs(teacher, data, rows)
            if float(batch.hidden.abs().max()) > _LARGEST_FP16:
                raise TrainingError(
                    "the teacher has hidden states beyond float16, which cannot be kept on disk: use limit_bytes=0"
                )
            if number == 0:
                shape = (int(lengths.sum()), *batch.hidden.shape[1:])
                header = {"descr": "<f2", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(batch.hidden.half().cpu().numpy().astype("<f2", copy=False).tobytes())
            variances.add(batch)
            logits.append(batch.logits.cpu())
            if progress is not None:
                progress.update(number + 1, len(batches), {})
    scale = variances.scale()
    tables = {
        "index": torch.tensor(order),
        "start": lengths.cumsum(0) - lengths,
        "length": lengths,
        "logits": torch.cat(logits),
        "site_variance": scale.sites,
        "logit_variance": scale.logits,
    }
    save_file(tables, str(folder / "outputs.safetensors"))
