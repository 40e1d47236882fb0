"""Which rows of the vocabulary a task needs, and the tokenizer that goes with them.

Removing tokens leaves the segmentation of a text unchanged as long as its own tokens stay:

- WordPiece takes the longest match, and a removed competitor was never the longest. A removed word falls
  back to shorter pieces, at worst to single characters, which therefore always stay: no new [UNK].
- Byte-level BPE applies merges by rank. With a kept token the parts of its merges stay, and their parts (the
  closure), so every merge that built the text's tokens stays; the 256 byte letters always do, so that
  decoding is exact.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from narrows.core.errors import ModelError

_BATCH = 1000
_SUPPORTED = "WordPiece (BERT, DistilBERT, ELECTRA) and byte-level BPE (RoBERTa)"

Config = TypeVar("Config", bound=PreTrainedConfig)


def used_tokens(
    tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], pairs: Iterable[str] | None = None
) -> torch.Tensor:
    """How often each row of the word embedding is read for `texts`: int64, one entry per token id.

    Special tokens are counted, padding is not, and nothing is truncated, whatever the tokenizer is set to do.
    Raises ModelError for a tokenizer without a fast backend.
    """
    backend, _ = _read(tokenizer)
    counts = torch.zeros(max(backend.get_vocab().values()) + 1, dtype=torch.int64)
    inputs: Iterator[Any] = iter(texts) if pairs is None else zip(texts, pairs, strict=True)
    while batch := list(islice(inputs, _BATCH)):
        ids = [i for encoding in backend.encode_batch_fast(batch) for i in encoding.ids]
        counts += torch.bincount(torch.tensor(ids, dtype=torch.int64), minlength=len(counts))
    return counts


def keep_rows(tokenizer: PreTrainedTokenizerBase, counts: torch.Tensor, min_count: int = 1) -> tuple[int, ...]:
    """The token ids to keep, sorted: those counted `min_count` times, and those the tokenizer depends on.

    `counts` comes from `used_tokens`. Always kept are special and added tokens and what removed words fall
    back to: single characters for WordPiece, byte letters and the parts of kept tokens for byte-level BPE.
    Raises ModelError for other kinds of tokenizer.
    """
    backend, spec = _read(tokenizer)
    ids = set(backend.get_vocab().values())
    if min_count < 1 or len(counts) <= max(ids):
        raise ValueError(f"expected min_count >= 1 and {max(ids) + 1} counts, got {min_count} and {len(counts)} counts")
    frequent = set(torch.nonzero(counts >= min_count).flatten().tolist())
    return _closed(tokenizer, backend.get_vocab(), spec, frequent & ids)


def trim_tokenizer(tokenizer: PreTrainedTokenizerBase, kept: Sequence[int]) -> PreTrainedTokenizerFast:
    """The same tokenizer with the tokens `kept` only; the new id of a token is its position in `kept`.

    `kept` comes from `keep_rows`. Class, special tokens, post-processing, truncation and padding stay as they
    are, with the new ids. Raises ModelError when `kept` lacks a token that the tokenizer needs, or for a
    tokenizer that does not keep its ids when it is saved and loaded.
    """
    backend, spec = _read(tokenizer)
    old = backend.get_vocab()
    if list(kept) != sorted(set(kept) & set(old.values())):
        raise ModelError("the kept token ids must be different, sorted, and ids of this tokenizer")
    lacking = set(_closed(tokenizer, old, spec, set(kept))) - set(kept)
    if lacking:
        words = ", ".join(repr(backend.id_to_token(i)) for i in sorted(lacking)[:5])
        raise ModelError(
            f"the kept vocabulary lacks {len(lacking)} tokens that the tokenizer needs ({words}); "
            "choose it with keep_rows"
        )
    new = {i: position for position, i in enumerate(kept)}
    text = json.dumps(_trim_spec(spec, old, new), ensure_ascii=False)
    with tempfile.TemporaryDirectory(prefix="narrows-") as folder:
        tokenizer.save_pretrained(folder)
        (Path(folder) / "tokenizer.json").write_text(text, encoding="utf-8")
        trimmed: PreTrainedTokenizerFast = type(tokenizer).from_pretrained(folder)
    trimmed.name_or_path = tokenizer.name_or_path
    trimmed.init_kwargs["name_or_path"] = tokenizer.name_or_path
    expected = {token: new[i] for token, i in old.items() if i in new}
    # Both `tokenizers` itself and transformers, which rebuilds parts of it, will read the folder.
    for reader in (_bare(text), _bare(trimmed.backend_tokenizer.to_str())):
        for pair in (None, ""):
            around = [new[i] for i in backend.encode("", pair).ids]
            if reader.get_vocab() != expected or reader.encode("", pair).ids != around:
                raise ModelError(
                    f"{type(tokenizer).__name__} does not keep its token ids when saved and loaded, so its "
                    "vocabulary cannot be trimmed; keep the whole vocabulary"
                )
    return trimmed


def trim_config_ids(config: Config, kept: Sequence[int]) -> Config:
    """A copy of `config` with `vocab_size` and every `*_token_id` as after trimming the vocabulary to `kept`.

    Ids of removed tokens become None and leave lists. Raises ModelError where the positions count from the
    padding id (RoBERTa) and that id would change.
    """
    new = {i: position for position, i in enumerate(kept)}
    trimmed = copy.deepcopy(config)
    for name, value in config.to_dict().items():
        if name.endswith("_token_id") and value is not None:
            if isinstance(value, list):
                setattr(trimmed, name, [new[i] for i in value if i in new])
            else:
                setattr(trimmed, name, new.get(value))
    padding = getattr(config, "pad_token_id", None)
    if config.model_type.endswith("roberta") and padding != getattr(trimmed, "pad_token_id", None):
        raise ModelError(
            f"the positions of a {config.model_type} model count from its padding id {padding}, which would "
            f"become {trimmed.pad_token_id}; keep the whole vocabulary"
        )
    trimmed.vocab_size = len(kept)
    return trimmed


def _bare(text: str) -> Tokenizer:
    """A tokenizer from the text of its tokenizer.json, without truncation and padding."""
    backend = Tokenizer.from_str(text)
    backend.no_truncation()
    backend.no_padding()
    return backend


def _read(tokenizer: PreTrainedTokenizerBase) -> tuple[Tokenizer, dict[str, Any]]:
    """A bare copy of the fast tokenizer behind `tokenizer`, of a supported kind, and its tokenizer.json."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise ModelError(
            f"{type(tokenizer).__name__} is a slow tokenizer without a tokenizer.json; the vocabulary can be "
            f"counted and trimmed for fast tokenizers only: {_SUPPORTED}"
        )
    text = backend.to_str()
    spec: dict[str, Any] = json.loads(text)
    model = spec["model"]
    kind = model["type"]
    if kind == "BPE" and (
        model["continuing_subword_prefix"] or model["end_of_word_suffix"] or not _has_byte_level(spec)
    ):
        kind = "BPE that does not work on bytes"
    if kind in ("WordPiece", "BPE"):
        return _bare(text), spec
    raise ModelError(
        f"the vocabulary of {type(tokenizer).__name__} is of the kind {kind}; counting and trimming support "
        f"{_SUPPORTED}; keep the whole vocabulary"
    )


def _has_byte_level(spec: Mapping[str, Any]) -> bool:
    stages = [spec.get("pre_tokenizer"), spec.get("normalizer")]
    while stages:
        stage = stages.pop()
        if stage:
            if stage["type"] == "ByteLevel":
                return True
            stages += stage.get("pretokenizers", []) + stage.get("normalizers", [])
    return False


def _closed(
    tokenizer: PreTrainedTokenizerBase, ids: Mapping[str, int], spec: Mapping[str, Any], chosen: set[int]
) -> tuple[int, ...]:
    """`chosen` and everything that must stay with it, sorted; `ids` has the added tokens too."""
    model = spec["model"]
    vocab: dict[str, int] = model["vocab"]
    keep = (
        chosen
        | (set(tokenizer.all_special_ids) & set(ids.values()))
        | {ids[added["content"]] for added in spec["added_tokens"]}
    )
    keep |= {holder[place] for holder, place in _post_processor_ids(spec["post_processor"])}
    if spec["padding"]:
        keep.add(spec["padding"]["pad_id"])
    if model["unk_token"] in vocab:
        keep.add(vocab[model["unk_token"]])
    if model["type"] == "WordPiece":
        keep |= _word_piece_fallback(vocab, model["continuing_subword_prefix"])
    else:
        keep |= {vocab[letter] for letter in ByteLevel.alphabet() if letter in vocab}
        keep = _merge_closure(vocab, model["merges"], keep)
    return tuple(sorted(keep))


def _word_piece_fallback(vocab: Mapping[str, int], prefix: str) -> set[int]:
    """Single characters, at the start of a word and inside it, and tokens that these cannot spell."""
    keep = set()
    for token, i in vocab.items():
        inside = len(token) > len(prefix) and token.startswith(prefix)
        letters = token[len(prefix) :] if inside else token
        pieces = [prefix + c if inside or n else c for n, c in enumerate(letters)]
        if len(pieces) == 1 or not all(piece in vocab for piece in pieces):
            keep.add(i)
    return keep


def _merge_closure(vocab: Mapping[str, int], merges: Sequence[Any], keep: set[int]) -> set[int]:
    parts: dict[int, set[int]] = {}
    for left, right in map(_pair, merges):
        parts.setdefault(vocab[left + right], set()).update((vocab[left], vocab[right]))
    closed: set[int] = set()
    waiting = list(keep)
    while waiting:
        i = waiting.pop()
        if i not in closed:
            closed.add(i)
            waiting += parts.get(i, ())
    return closed


def _pair(merge: Any) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _post_processor_ids(stage: Mapping[str, Any] | None) -> Iterator[tuple[list[Any], int]]:
    """Where the ids in a post-processor are: lists, and places in them."""
    if stage is None:
        return
    match stage["type"]:
        case "TemplateProcessing":
            for special in stage["special_tokens"].values():
                for place in range(len(special["ids"])):
                    yield special["ids"], place
        case "BertProcessing" | "RobertaProcessing":
            yield stage["sep"], 1
            yield stage["cls"], 1
        case "Sequence":
            for inner in stage["processors"]:
                yield from _post_processor_ids(inner)
        case "ByteLevel":
            return
        case other:
            raise ModelError(
                f"the tokenizer has a post-processor of the unknown kind {other}; keep the whole vocabulary"
            )


def _trim_spec(spec: dict[str, Any], old: Mapping[str, int], new: Mapping[int, int]) -> dict[str, Any]:
    """The contents of tokenizer.json with the ids in `new` only; `old` gives the ids of all tokens."""
    model = spec["model"]
    vocab = sorted((new[i], token) for token, i in model["vocab"].items() if i in new)
    model["vocab"] = {token: i for i, token in vocab}
    if model["type"] == "BPE":
        # Also where only a part is gone: tokenizers refuses such a merge.
        words = model["vocab"]
        model["merges"] = [
            [left, right]
            for left, right in map(_pair, model["merges"])
            if left in words and right in words and left + right in words
        ]
    for added in spec["added_tokens"]:
        added["id"] = new[old[added["content"]]]
    spec["added_tokens"].sort(key=lambda added: added["id"])
    for holder, place in _post_processor_ids(spec["post_processor"]):
        holder[place] = new[holder[place]]
    if spec["padding"]:
        spec["padding"]["pad_id"] = new[spec["padding"]["pad_id"]]
    return spec
