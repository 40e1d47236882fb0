"""Trimming a vocabulary changes ids and nothing else: segmentation, special tokens, decoding, saved files."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    BertConfig,
    DistilBertTokenizer,
    ElectraTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaTokenizer,
)
from transformers.tokenization_python import PreTrainedTokenizer

from narrows.core.errors import ModelError
from narrows.data import minilm, movie_reviews
from narrows.transformer.vocabulary import keep_rows, trim_config_ids, trim_tokenizer, used_tokens

TEXTS = movie_reviews().texts
ODD = [
    "", " ", "ZZZyzzyva district", "naïve café", "日本語 mixed", "\x7f\u200b odd", "a" * 150, "🙂 smile",
    "[MASK] and [SEP]", "tabs\tand\nlines", "ﬁnance ½ Å",
]  # fmt: skip


def wordpiece() -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(minilm())
    return tokenizer


def train_bpe(size: int = 3000) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS, trainer)
    return backend


@pytest.fixture(scope="module")
def bpe() -> PreTrainedTokenizerBase:
    model = json.loads(train_bpe().to_str())["model"]
    return RobertaTokenizer(vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]])


@pytest.fixture(scope="module")
def bert() -> PreTrainedTokenizerBase:
    return wordpiece()


@pytest.fixture(params=["bert", "bpe"], scope="module")
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    found: PreTrainedTokenizerBase = request.getfixturevalue(request.param)
    return found


def ids(tokenizer: PreTrainedTokenizerBase, text: str, pair: str | None = None) -> list[int]:
    return list(tokenizer(text, pair)["input_ids"])


def check_trimmed(
    tokenizer: PreTrainedTokenizerBase,
    trimmed: PreTrainedTokenizerBase,
    kept: tuple[int, ...],
    texts: list[str],
) -> int:
    """All the promises on `texts`; returns how many were kept whole."""
    new = {i: n for n, i in enumerate(kept)}
    assert sorted(trimmed.get_vocab().values()) == list(range(len(kept)))
    assert trimmed.convert_ids_to_tokens(range(len(kept))) == tokenizer.convert_ids_to_tokens(list(kept))
    whole = 0
    rows, new_rows = (t(texts)["input_ids"] for t in (tokenizer, trimmed))
    assert trimmed.batch_decode(new_rows) == tokenizer.batch_decode(rows)
    for before, after in zip(rows, new_rows, strict=True):
        assert after[0] == trimmed.cls_token_id
        assert after[-1] == trimmed.sep_token_id
        assert after.count(trimmed.unk_token_id) == before.count(tokenizer.unk_token_id)
        if set(before) <= new.keys():
            whole += 1
            assert after == [new[i] for i in before]
    return whole


@given(
    seed=st.integers(0, 2**32),
    size=st.integers(0, 400),
    min_count=st.integers(1, 4),
    chance=st.floats(0, 0.5),
)
@settings(max_examples=12)
@pytest.mark.parametrize("kind", ["bert", "bpe"])
def test_random_vocabularies_keep_segmentation_and_decoding(
    request: pytest.FixtureRequest, kind: str, seed: int, size: int, min_count: int, chance: float
) -> None:
    tokenizer = request.getfixturevalue(kind)
    dice = random.Random(seed)
    counts = used_tokens(tokenizer, dice.sample(TEXTS, size))
    # Rows that no text asked for, at random: the promises do not depend on where a vocabulary comes from.
    counts[torch.rand(len(counts), generator=torch.Generator().manual_seed(seed)) < chance / 10] += min_count
    kept = keep_rows(tokenizer, counts, min_count)
    assert set(torch.nonzero(counts >= min_count).flatten().tolist()) <= set(kept)
    trimmed = trim_tokenizer(tokenizer, kept)
    check_trimmed(tokenizer, trimmed, kept, [*dice.sample(TEXTS, 60), *ODD])


def test_texts_that_chose_the_vocabulary_are_kept_whole(tokenizer: PreTrainedTokenizerBase) -> None:
    chosen = list(TEXTS[:300])
    kept = keep_rows(tokenizer, used_tokens(tokenizer, chosen))
    assert len(kept) < 0.85 * len(tokenizer)
    assert check_trimmed(tokenizer, trim_tokenizer(tokenizer, kept), kept, chosen) == 300


def test_no_held_out_sentence_gets_a_new_unknown_token_or_another_decoding(
    bert: PreTrainedTokenizerBase,
) -> None:
    for min_count in (1, 5):
        kept = keep_rows(bert, used_tokens(bert, TEXTS[:8000]), min_count)
        whole = check_trimmed(bert, trim_tokenizer(bert, kept), kept, list(TEXTS[8000:]))
        assert whole > 300


def test_a_removed_word_falls_back_to_its_pieces(bert: PreTrainedTokenizerBase) -> None:
    counts = used_tokens(bert, TEXTS)
    counts[bert.convert_tokens_to_ids("district")] = 0
    trimmed = trim_tokenizer(bert, keep_rows(bert, counts))
    assert trimmed.tokenize("district") == ["di", "##st", "##ric", "##t"]


def test_every_removed_word_is_still_spelled(bert: PreTrainedTokenizerBase) -> None:
    kept = set(keep_rows(bert, torch.zeros(len(bert), dtype=torch.int64)))
    trimmed = trim_tokenizer(bert, tuple(sorted(kept)))
    removed = [t for t, i in bert.get_vocab().items() if i not in kept and not t.startswith(("##", "["))]
    assert len(removed) > 20_000
    for tokenizer in (bert, trimmed):
        assert not any(tokenizer.unk_token_id in row for row in tokenizer(removed)["input_ids"])


def test_the_fallback_keeps_words_that_single_characters_cannot_spell() -> None:
    words = ["[PAD]", "[UNK]", "a", "##b", "ab", "xy", "##xb", "abb"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]")),
        unk_token="[UNK]",
        pad_token="[PAD]",
    )
    kept = keep_rows(tokenizer, torch.zeros(len(words), dtype=torch.int64))
    assert tokenizer.convert_ids_to_tokens(list(kept)) == ["[PAD]", "[UNK]", "a", "##b", "xy", "##xb"]
    trimmed = trim_tokenizer(tokenizer, kept)
    assert trimmed.tokenize("abb") == ["a", "##b", "##b"]
    assert trimmed.tokenize("xy") == ["xy"]


def test_counts_are_the_rows_read(tokenizer: PreTrainedTokenizerBase) -> None:
    texts, pairs = list(TEXTS[:1500]), list(TEXTS[1500:3000])
    for seconds in (None, pairs):
        expected = torch.zeros(len(tokenizer), dtype=torch.int64)
        for row in tokenizer(texts, seconds)["input_ids"]:
            expected += torch.bincount(torch.tensor(row), minlength=len(expected))
        assert torch.equal(used_tokens(tokenizer, texts, seconds), expected)


def test_fixed_truncation_and_padding_do_not_disturb_counting_and_are_kept() -> None:
    bert = wordpiece()
    padding, truncation = bert.backend_tokenizer.padding, bert.backend_tokenizer.truncation
    assert padding["length"] == truncation["max_length"] == 128
    counts = used_tokens(bert, ["word " * 600])
    assert counts[bert.convert_tokens_to_ids("word")] == 600
    assert counts[bert.pad_token_id] == 0
    assert bert.backend_tokenizer.padding == padding

    last = Tokenizer.from_str(bert.backend_tokenizer.to_str())
    # The id need not be that of the padding token: it must stay all the same.
    last.enable_padding(length=12, pad_id=last.token_to_id("zoological"), pad_token="[MASK]")
    moved = PreTrainedTokenizerFast(tokenizer_object=last, pad_token="[MASK]", unk_token="[UNK]")
    trimmed = trim_tokenizer(moved, keep_rows(moved, used_tokens(moved, TEXTS[:50]))).backend_tokenizer
    assert trimmed.padding == last.padding | {"pad_id": trimmed.token_to_id("zoological")}
    assert trimmed.truncation == truncation
    assert trimmed.encode("good").tokens == ["[CLS]", "good", "[SEP]", *["[MASK]"] * 9]


def test_a_saved_tokenizer_is_the_same_in_both_libraries(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    kept = keep_rows(tokenizer, used_tokens(tokenizer, TEXTS[:200]))
    trimmed = trim_tokenizer(tokenizer, kept)
    new = {i: n for n, i in enumerate(kept)}
    trimmed.save_pretrained(tmp_path / "first")
    AutoTokenizer.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
    written = json.loads((tmp_path / "first" / "tokenizer_config.json").read_text())
    assert written["tokenizer_class"] == type(tokenizer).__name__
    assert "narrows-" not in json.dumps(written)
    for folder in (tmp_path / "first", tmp_path / "second"):
        assert sorted(p.name for p in folder.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
        auto = AutoTokenizer.from_pretrained(folder)
        plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
        plain.no_padding()
        plain.no_truncation()
        assert type(auto) is type(tokenizer)
        assert auto.model_max_length == tokenizer.model_max_length
        assert auto.get_vocab() == plain.get_vocab() == trimmed.get_vocab()
        for name in ("cls", "sep", "pad", "unk", "mask"):
            assert getattr(auto, f"{name}_token_id") == new[getattr(tokenizer, f"{name}_token_id")]
        for text in TEXTS[:200]:
            assert plain.encode(text).ids == ids(auto, text) == [new[i] for i in ids(tokenizer, text)]
        pair = tokenizer(TEXTS[0], TEXTS[1])
        assert [new[i] for i in pair["input_ids"]] == ids(auto, TEXTS[0], TEXTS[1])
        assert plain.encode(TEXTS[0], TEXTS[1]).ids == ids(auto, TEXTS[0], TEXTS[1])
        if "token_type_ids" in pair:
            assert auto(TEXTS[0], TEXTS[1])["token_type_ids"] == pair["token_type_ids"]


@pytest.mark.parametrize("kind", [DistilBertTokenizer, ElectraTokenizer, PreTrainedTokenizerFast])
def test_the_class_of_the_tokenizer_is_kept(kind: type[PreTrainedTokenizerFast], bert: PreTrainedTokenizerBase) -> None:
    tokenizer = kind.from_pretrained(minilm())
    kept = keep_rows(tokenizer, used_tokens(tokenizer, TEXTS[:100]))
    trimmed = trim_tokenizer(tokenizer, kept)
    assert type(trimmed) is type(tokenizer)
    check_trimmed(tokenizer, trimmed, kept, list(TEXTS[:50]))


def test_added_tokens_stay_with_their_new_ids() -> None:
    tokenizer = wordpiece()
    tokenizer.add_tokens(["wordwithoutpieces", AddedToken("<product>", lstrip=True)])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<user>"]})
    text = "great wordwithoutpieces by <user> : <product>"
    kept = keep_rows(tokenizer, used_tokens(tokenizer, ["great by :"]))
    trimmed = trim_tokenizer(tokenizer, kept)
    assert check_trimmed(tokenizer, trimmed, kept, [text]) == 1
    assert trimmed.decode(ids(trimmed, text), skip_special_tokens=True) == tokenizer.decode(
        ids(tokenizer, text), skip_special_tokens=True
    )


def test_tokens_of_a_bpe_stay_with_the_parts_of_their_merges(bpe: PreTrainedTokenizerBase) -> None:
    vocab = bpe.get_vocab()
    counts = torch.zeros(len(bpe), dtype=torch.int64)
    longest = max(vocab, key=len)
    counts[vocab[longest]] = 1
    kept = set(keep_rows(bpe, counts))
    assert {vocab[letter] for letter in pre_tokenizers.ByteLevel.alphabet()} <= kept
    trimmed = trim_tokenizer(bpe, tuple(sorted(kept)))
    model = json.loads(trimmed.backend_tokenizer.to_str())["model"]
    results = {a + b for a, b in model["merges"]}
    letters = set(pre_tokenizers.ByteLevel.alphabet())
    special = set(bpe.all_special_tokens)
    assert results == set(model["vocab"]) - letters - special
    assert longest in results
    word = bpe.convert_tokens_to_string([longest])
    assert trimmed.tokenize(word) == bpe.tokenize(word) == [longest]


def test_a_bpe_decodes_exactly_what_it_was_given(bpe: PreTrainedTokenizerBase) -> None:
    trimmed = trim_tokenizer(bpe, keep_rows(bpe, used_tokens(bpe, TEXTS[:100])))
    for text in [*TEXTS[8000:8500], *(t for t in ODD if "[" not in t)]:
        assert trimmed.decode(ids(trimmed, text), skip_special_tokens=True) == text


PROCESSORS: dict[str, Callable[[dict[str, int]], processors.PostProcessor]] = {
    "bert": lambda v: processors.BertProcessing(("[SEP]", v["[SEP]"]), ("[CLS]", v["[CLS]"])),
    "roberta": lambda v: processors.RobertaProcessing(("[SEP]", v["[SEP]"]), ("[CLS]", v["[CLS]"])),
    "sequence": lambda v: processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="[CLS] $A [SEP]",
                pair="[CLS] $A [SEP] $B:1 [SEP]:1",
                special_tokens=[("[CLS]", v["[CLS]"]), ("[SEP]", v["[SEP]"])],
            ),
        ]
    ),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_post_processors_get_the_new_ids(name: str) -> None:
    backend = Tokenizer.from_str(wordpiece().backend_tokenizer.to_str())
    backend.post_processor = PROCESSORS[name](backend.get_vocab())
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    )
    kept = keep_rows(tokenizer, used_tokens(tokenizer, TEXTS[:50]))
    trimmed = trim_tokenizer(tokenizer, kept)
    check_trimmed(tokenizer, trimmed, kept, list(TEXTS[:100]))


def test_a_bpe_without_a_post_processor() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=train_bpe(600), pad_token="<pad>", unk_token="<unk>")
    kept = keep_rows(tokenizer, used_tokens(tokenizer, TEXTS[:5]))
    trimmed = trim_tokenizer(tokenizer, kept)
    new = {i: n for n, i in enumerate(kept)}
    for text in TEXTS[:5]:
        assert ids(trimmed, text) == [new[i] for i in ids(tokenizer, text)]


def test_an_incomplete_vocabulary_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    kept = keep_rows(tokenizer, used_tokens(tokenizer, TEXTS[:10]))
    with pytest.raises(ModelError, match=r"lacks 1 tokens .*keep_rows"):
        trim_tokenizer(tokenizer, tuple(i for i in kept if i != tokenizer.cls_token_id))
    for wrong in (tuple(reversed(kept)), (*kept, len(tokenizer) + 7)):
        with pytest.raises(ModelError, match="sorted"):
            trim_tokenizer(tokenizer, wrong)
    with pytest.raises(ValueError, match="counts"):
        keep_rows(tokenizer, torch.ones(5, dtype=torch.int64))
    with pytest.raises(ValueError, match="min_count"):
        keep_rows(tokenizer, torch.ones(len(tokenizer), dtype=torch.int64), 0)


class Letters(PreTrainedTokenizer):
    """A tokenizer written in Python."""

    def get_vocab(self) -> dict[str, int]:
        return {"a": 0}

    @property
    def vocab_size(self) -> int:
        return 1

    def _tokenize(self, text: str, **_: object) -> list[str]:
        return list(text)

    def _convert_token_to_id(self, token: str) -> int:
        return 0

    def _convert_id_to_token(self, index: int) -> str:
        return "a"


def test_other_kinds_of_tokenizer_are_refused_by_name() -> None:
    scores = [("<unk>", 0.0), ("a", -1.0)]
    cases = {
        "Unigram": Tokenizer(models.Unigram(scores, unk_id=0)),
        "WordLevel": Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>")),
        "BPE that does not work on bytes": Tokenizer(models.BPE({"<unk>": 0, "a": 1}, [], unk_token="<unk>")),
    }
    for kind, backend in cases.items():
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
        for call in (
            lambda t=tokenizer: used_tokens(t, ["a"]),
            lambda t=tokenizer: keep_rows(t, torch.ones(2, dtype=torch.int64)),
            lambda t=tokenizer: trim_tokenizer(t, (0, 1)),
        ):
            with pytest.raises(ModelError, match=f"{kind}.*WordPiece.*RoBERTa"):
                call()
    with pytest.raises(ModelError, match="Letters is a slow tokenizer"):
        used_tokens(Letters(), ["a"])


def test_every_id_of_a_config_is_mapped() -> None:
    config = BertConfig(vocab_size=50, pad_token_id=0, bos_token_id=10, eos_token_id=[20, 21], sep_token_id=30)
    before = config.to_dict()
    trimmed = trim_config_ids(config, (0, 5, 10, 21, 49))
    assert type(trimmed) is BertConfig
    assert config.to_dict() == before
    assert trimmed.vocab_size == 5
    assert (trimmed.pad_token_id, trimmed.bos_token_id, trimmed.eos_token_id) == (0, 2, [3])
    assert trimmed.sep_token_id is None
    assert {k: v for k, v in trimmed.to_dict().items() if not k.endswith("_token_id") and k != "vocab_size"} == {
        k: v for k, v in before.items() if not k.endswith("_token_id") and k != "vocab_size"
    }


def test_a_moved_padding_id_is_refused_where_positions_count_from_it() -> None:
    config = RobertaConfig(vocab_size=50, pad_token_id=3, bos_token_id=0, eos_token_id=2)
    assert trim_config_ids(config, (0, 1, 2, 3, 9)).pad_token_id == 3
    with pytest.raises(ModelError, match="padding id 3, which would become 2"):
        trim_config_ids(config, (0, 2, 3, 9))


@pytest.mark.parametrize(("family", "kind"), [("bert", "bert"), ("roberta", "bpe")])
def test_a_model_with_trimmed_rows_gives_the_same_outputs(
    request: pytest.FixtureRequest, family: str, kind: str, tiny: Callable[..., torch.nn.Module]
) -> None:
    tokenizer = request.getfixturevalue(kind)
    special = {f"{n}_token_id": getattr(tokenizer, f"{n}_token_id") for n in ("pad", "bos", "eos")}
    over = {"vocab_size": len(tokenizer), "max_position_embeddings": 130, **special}
    dense = tiny(family, dtype=torch.float64, **over)
    texts = list(TEXTS[:20])
    kept = keep_rows(tokenizer, used_tokens(tokenizer, texts))
    config = trim_config_ids(dense.config, kept).to_dict()
    changed = {name: config[name] for name in (*special, "vocab_size")}
    small = tiny(family, dtype=torch.float64, **over | changed)
    state = dense.state_dict()
    name = next(n for n in state if n.endswith("word_embeddings.weight"))
    small.load_state_dict(state | {name: state[name][list(kept)]})
    with torch.no_grad():
        before = dense(**tokenizer(texts, padding=True, return_tensors="pt")).logits
        after = small(**trim_tokenizer(tokenizer, kept)(texts, padding=True, return_tensors="pt")).logits
    assert torch.equal(before, after)
