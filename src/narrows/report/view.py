"""What a run record says, in words and numbers: the headline, the tables, what was kept, what changed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from narrows.core.cite import references
from narrows.core.errors import NarrowsError
from narrows.report import words

SCHEMA = 1
REQUIRED = (
    "command",
    "started",
    "seconds",
    "environment",
    "model",
    "data",
    "method",
    "seed",
    "budgets",
    "before",
    "after",
    "plan",
    "information",
    "reconstruction",
    "history",
    "changed",
    "citations",
)
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5}(?:v\d+)?|[a-z.-]+/\d{7})", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """A line of the before/after table; `share` is after over before, between 0 and whatever it grew to."""

    name: str
    note: str
    before: str
    after: str
    ratio: str
    share: float | None
    exact: str
    kind: str  # "quality" or "cost"


@dataclass(frozen=True)
class LayerView:
    """What one layer keeps; `heads[i]` says whether head i stayed."""

    index: int
    heads: tuple[bool, ...]
    neurons: int
    neurons_of: int

    @property
    def kept_heads(self) -> int:
        """How many heads stayed."""
        return sum(self.heads)

    @property
    def share(self) -> float:
        """The share of neurons that stayed."""
        return self.neurons / self.neurons_of if self.neurons_of else 0.0

    @property
    def says(self) -> str:
        """The layer in a sentence."""
        heads = f"{self.kept_heads} of {len(self.heads)} heads" if self.kept_heads else "attention removed"
        neurons = (
            f"{self.neurons:,} of {self.neurons_of:,} neurons ({words.percent(self.share)})"
            if self.neurons
            else "feed-forward removed"
        )
        return f"layer {self.index}: {heads}, {neurons}"


@dataclass(frozen=True)
class Part:
    """One size of the whole model: its width, the rank of its word embedding, its vocabulary."""

    name: str
    kept: int
    of: int
    note: str

    @property
    def share(self) -> float:
        """The share that stayed."""
        return self.kept / self.of if self.of else 0.0


@dataclass(frozen=True)
class ExampleGroup:
    """Examples whose prediction moved in one direction: some of `total`."""

    title: str
    kind: str  # "lost", "won" or "other"
    items: tuple[Mapping[str, Any], ...]
    total: int


def check(record: Mapping[str, Any]) -> None:
    """Refuse what is no run record of this schema.

    Raises:
        NarrowsError: the schema is another one, or keys are missing.
    """
    if not isinstance(record, Mapping) or record.get("schema") != SCHEMA:
        got = record.get("schema") if isinstance(record, Mapping) else type(record).__name__
        raise NarrowsError(
            f"cannot report on this run record: its schema is {got!r}, this version of narrows reads "
            f"schema {SCHEMA}; write it again with this version's `narrows prune`"
        )
    missing = [key for key in REQUIRED if key not in record]
    if missing:
        raise NarrowsError(
            f"cannot report on this run record: it lacks {words.listing(missing)}; "
            "use the narrows.json that `narrows prune` wrote, unchanged"
        )


def body_params(cost: Mapping[str, Any]) -> int:
    """Parameters without the embedding tables."""
    return int(cost["params"]) - int(cost["embedding_params"])


def latency(record: Mapping[str, Any], batch: str) -> tuple[float, float] | None:
    """Milliseconds before and after at one batch size, when both were measured."""
    before, after = ((record[side].get("latency_ms") or {}).get(batch, 0) for side in ("before", "after"))
    if words.finite(before) and words.finite(after) and before > 0 and after > 0:
        return float(before), float(after)
    return None


def batches(record: Mapping[str, Any]) -> list[str]:
    """The batch sizes at which a latency was measured before and after, in order."""
    keys = set(record["before"].get("latency_ms") or {}) & set(record["after"].get("latency_ms") or {})
    return sorted((key for key in keys if latency(record, key)), key=int)


def kept_quality(record: Mapping[str, Any]) -> float | None:
    """Quality after over quality before; None when that is no meaningful share."""
    before, after = record["before"]["quality"], record["after"]["quality"]
    return float(after) / float(before) if before > 0 and after >= 0 else None


def headline(record: Mapping[str, Any]) -> str:
    """The run in one sentence for a person who was not there."""
    before, after = record["before"], record["after"]
    name = words.quality_name(record["data"]["quality"])
    values = f"{words.quality(after['quality'])} of {words.quality(before['quality'])}"
    share = kept_quality(record)
    if share is None:
        kept = f"went from a {name} of {words.quality(before['quality'])} to {words.quality(after['quality'])}"
    elif share >= 1:
        kept = f"kept all of its {name} ({words.quality(after['quality'])}, before {words.quality(before['quality'])})"
    else:
        kept = f"kept {words.percent(share)} of its {name} ({values})"
    said = (
        f"{words.basename(record['model']['name'])} for {words.basename(record['data']['name'])} {kept} "
        f"with {words.percent(after['params'] / before['params'])} of its parameters"
    )
    sizes = batches(record)
    if sizes:
        speed = latency(record, sizes[-1])
        assert speed is not None  # batches() names only measured sizes
        ratio = speed[0] / speed[1]
        said += (
            f" and runs {words.times(ratio)} faster" if ratio >= 1 else f" and runs {words.times(1 / ratio)} slower"
        ) + f" at batch {sizes[-1]}"
    return said


def rows(record: Mapping[str, Any]) -> list[Row]:
    """The before/after table."""
    before, after = record["before"], record["after"]
    share = kept_quality(record)
    error = [
        f" ± {words.quality(side['quality_se'])}" if words.finite(side.get("quality_se")) else ""
        for side in (before, after)
    ]
    table = [
        Row(
            words.sentence(words.quality_name(record["data"]["quality"])),
            f"± standard error, on {record['data']['held_out']:,} held-out examples",
            words.quality(before["quality"]) + error[0],
            words.quality(after["quality"]) + error[1],
            f"{words.percent(share)} kept" if share is not None else f"{after['quality'] - before['quality']:+.3f}",
            share,
            f"{before['quality']:.6f} before, {after['quality']:.6f} after",
            "quality",
        )
    ]

    def add(name: str, note: str, pair: tuple[float, float], write: Any, *, speed: bool = False) -> None:
        ratio = pair[1] / pair[0] if pair[0] else None
        said = "" if ratio is None else words.percent(ratio)
        if speed and pair[1]:
            faster = pair[0] / pair[1]
            said = f"{words.times(faster)} faster" if faster >= 1 else f"{words.times(1 / faster)} slower"
        exact = "" if speed else f"{pair[0]:,} before, {pair[1]:,} after"
        table.append(Row(name, note, write(pair[0]), write(pair[1]), said, ratio, exact, "cost"))

    add("Parameters", "all, embeddings included", (before["params"], after["params"]), words.count)
    add(
        "Parameters without embeddings",
        "the layers and the head",
        (body_params(before), body_params(after)),
        words.count,
    )
    shape = (
        f"multiply-adds per example of {after['tokens']} tokens"
        if before["tokens"] == after["tokens"]
        else f"multiply-adds per example of {before['tokens']} tokens before, {after['tokens']} after"
    )
    add("MACs", shape, (before["macs"], after["macs"]), words.short)
    add("Size on disk", "the weights as stored", (before["bytes"], after["bytes"]), words.size)
    for batch in batches(record):
        pair = latency(record, batch)
        assert pair is not None
        add(
            f"Latency, batch {batch}",
            f"{batch} × {after['tokens']} tokens, time per batch",
            pair,
            words.milliseconds,
            speed=True,
        )
    return table


def budgets(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each budget: as it was asked for, its limit, what was reached, and whether it is met."""
    told = []
    for budget in record["budgets"]:
        limit, reached = float(budget["limit"]), float(budget["reached"])
        told.append(
            {
                "text": budget["text"],
                "measure": words.MEASURES.get(budget["measure"], budget["measure"]),
                "limit": words.spend(budget["measure"], limit),
                "reached": words.spend(budget["measure"], reached),
                "used": words.percent(reached / limit),
                "met": reached <= limit,
            }
        )
    return told


def parts(record: Mapping[str, Any]) -> list[Part]:
    """Width, embedding rank and vocabulary."""
    plan, vocab = record["plan"], record["plan"]["vocab"]
    hidden, rank = plan["hidden"], plan["rank"]
    basis = (
        "principal directions of the residual stream" if plan["basis"] == "pca" else "channels of the residual stream"
    )
    found = [Part("Hidden width", hidden["kept"], hidden["of"], basis)]
    if rank is not None:
        found.append(Part("Embedding rank", rank["kept"], rank["of"], "the word table as a product of two thin ones"))
    note = (
        "all word pieces, as before"
        if vocab["kept"] == vocab["of"]
        else "word pieces; the others are spelled with smaller pieces"
    )
    return [*found, Part("Vocabulary", vocab["kept"], vocab["of"], note)]


def layers(record: Mapping[str, Any]) -> list[LayerView]:
    """What each layer keeps."""
    return [
        LayerView(
            i,
            tuple(head in set(layer["heads"]) for head in range(layer["heads_of"])),
            len(layer["neurons"]),
            layer["neurons_of"],
        )
        for i, layer in enumerate(record["plan"]["layers"])
    ]


def kept_reading(found: Sequence[LayerView]) -> str:
    """One sentence on where most and least stayed."""
    said = []
    attended = [layer for layer in found if layer.kept_heads]
    if len({layer.kept_heads for layer in attended}) > 1:
        most, least = max(attended, key=lambda x: x.kept_heads), min(attended, key=lambda x: x.kept_heads)
        said.append(
            f"layer {most.index} keeps the most heads ({most.kept_heads}) and layer {least.index} "
            f"the fewest ({least.kept_heads})"
        )
    fed = [layer for layer in found if layer.neurons]
    if len({layer.neurons for layer in fed}) > 1:
        top, low = max(fed, key=lambda x: x.share), min(fed, key=lambda x: x.share)
        said.append(
            f"neurons range from {words.percent(low.share)} in layer {low.index} to "
            f"{words.percent(top.share)} in layer {top.index}"
        )
    gone = [f"attention of layer {x.index}" for x in found if not x.kept_heads]
    gone += [f"feed-forward block of layer {x.index}" for x in found if not x.neurons]
    if gone:
        said.append(f"removed whole: {words.listing(gone)}")
    return "Here, " + "; ".join(said) + "." if said else "Here, all layers keep the same number of heads and neurons."


def examples(record: Mapping[str, Any]) -> list[ExampleGroup]:
    """Changed predictions by direction: for the worse, for the better, neither; empty groups are left out."""
    regression = record["data"]["task"] == "regression"
    groups: dict[str, list[Mapping[str, Any]]] = {"lost": [], "won": [], "other": []}
    for item in record["changed"]:
        if regression:
            label, before, after = (float(item[key]) for key in ("label", "before", "after"))
            moved = abs(after - label) - abs(before - label)
            groups["lost" if moved > 0 else "won" if moved < 0 else "other"].append(item)
        else:
            kind = "lost" if item["before"] == item["label"] else "won" if item["after"] == item["label"] else "other"
            groups[kind].append(item)
    titles = (
        {"lost": "Further from the label", "won": "Closer to the label", "other": "As far as before"}
        if regression
        else {"lost": "Right before, wrong now", "won": "Wrong before, right now", "other": "Wrong before and now"}
    )
    counts = record.get("changed_counts") or {}
    return [
        ExampleGroup(titles[kind], kind, tuple(items), counts.get(kind, len(items)))
        for kind, items in groups.items()
        if items
    ]


def stages(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Time per stage with its share of the whole."""
    seconds = {name: float(value) for name, value in record["seconds"].items() if words.finite(value)}
    total = sum(seconds.values())
    return [
        {
            "name": words.sentence(name.replace("_", " ")),
            "seconds": words.duration(value),
            "share": value / total if total else 0.0,
        }
        for name, value in seconds.items()
    ]


def citations(record: Mapping[str, Any]) -> list[tuple[str, str, str | None]]:
    """Each citation: who and what, where narrows knows it; its key; the address of an arXiv number."""
    found = []
    for key in record["citations"]:
        try:
            known = references(key)[0]
            text = f"{words.listing(list(known.authors))} ({known.year}). {known.title}."
        except NarrowsError:
            text = ""
        match = _ARXIV.fullmatch(key.strip())
        found.append((text, key, f"https://arxiv.org/abs/{match[1]}" if match else None))
    return found


def facts(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as a flat list of names and values."""
    found: list[tuple[str, str]] = []
    for key, value in tree.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            if all(not isinstance(item, Mapping) for item in value.values()):
                found.append((name, ", ".join(f"{k} {v}" for k, v in value.items()) or "none"))
            else:
                found += facts(value, f"{name} ")
        else:
            found.append((name, "none" if value is None else str(value)))
    return found
