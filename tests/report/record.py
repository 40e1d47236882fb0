"""A realistic run record, made up from a fixed seed, and the corners that real runs reach."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

HEADS, NEURONS, LAYERS, WIDTH, VOCAB = 12, 1536, 6, 384, 30522

TEXTS = (
    "A quiet, observant film that earns every one of its tears.",
    "It takes a certain gift to make two hours of explosions feel this long, and the director has it in abundance.",
    "Not without charm, though the jokes that land are outnumbered three to one by those that never leave the ground.",
    "The kind of movie you admire more than you enjoy.",
    "Wise, funny and unexpectedly moving.",
    "If you liked the first one, see the first one again.",
    "An overlong but never dull account of a marriage coming apart at the seams, told with so much patience, and with "
    "such confidence in its two leads, that by the time the last letter is read aloud one has quite forgotten the "
    "clumsy opening half hour, the needless narrator and the music, which insists on telling us what we feel already.",
    "Too clever by half, and not nearly clever enough.",
    "There is a good movie in here somewhere.",
    "The script is thin, yet the performances make it worth the ticket.",
)


def _layers(rng: random.Random) -> list[dict[str, Any]]:
    shape = [(8, 402), (6, 341), (5, 298), (4, 220), (3, 131), (2, 64)]
    return [
        {
            "heads": sorted(rng.sample(range(HEADS), heads)),
            "heads_of": HEADS,
            "neurons": sorted(rng.sample(range(NEURONS), neurons)),
            "neurons_of": NEURONS,
        }
        for heads, neurons in shape
    ]


def _information(rng: random.Random, layers: list[dict[str, Any]]) -> dict[str, Any]:
    steps = list(range(0, 601, 5))
    rows = []
    for i, layer in enumerate(layers):
        attention_end, ffn_end = 2.6 * len(layer["heads"]), 0.42 * len(layer["neurons"])

        def curve(start: float, end: float) -> list[float]:
            return [end + (start - end) * math.exp(-s / 170) * (1 + 0.02 * rng.gauss(0, 1)) for s in steps]

        heads = [rng.uniform(1.4, 4.2) if h in layer["heads"] else rng.uniform(0, 0.2) for h in range(HEADS)]
        top = 2.2 + 0.2 * (LAYERS - i)
        rows.append(
            {
                "layer": i,
                "attention": curve(33 - i, attention_end),
                "ffn": curve(760 - 40 * i, ffn_end),
                "heads": heads,
                "neurons_quantiles": [top * (q / 10) ** (3 + i / 2) for q in range(11)],
            }
        )
    return {"unit": "nats", "steps": steps, "layers": rows}


def _history(rng: random.Random) -> list[dict[str, Any]]:
    def loss(start: float, end: float, step: int, half: float) -> float:
        return (end + (start - end) * math.exp(-step / half)) * (1 + 0.09 * rng.gauss(0, 1))

    history: list[dict[str, Any]] = []
    for step in range(1, 351):
        history.append({"stage": "finetune", "step": step, "loss": abs(loss(0.69, 0.36, step, 90)), "cost": None})
    for step in range(1, 601):
        cost = 2271321 + 20_442_000 * max(0.0, 1 - step / 480) ** 3 - 3321
        history.append({"stage": "prune", "step": step, "loss": abs(loss(0.2, 0.5, step, 300)), "cost": cost})
    for step in range(1, 601):
        history.append({"stage": "heal", "step": step, "loss": abs(loss(2.9, 1.05, step, 130)), "cost": None})
    return history


def make_record(**over: Any) -> dict[str, Any]:
    """A VTrans run of MiniLM on movie reviews at 10 %; `over` replaces top-level entries."""
    rng = random.Random(20240611)
    layers = _layers(rng)
    sites = ["embedding"] + [f"layer {i} {part}" for i in range(LAYERS) for part in ("attention", "ffn")]
    variances = [0.964, 0.941, 0.927, 0.893, 0.872, 0.838, 0.811, 0.776, 0.739, 0.702, 0.664, 0.603, 0.552]
    names = ("negative", "positive")
    changed = []
    for i in range(37):
        label = names[i % 2]
        right_before = i % 5 not in (1, 3)
        before = label if right_before else names[1 - i % 2]
        changed.append(
            {"text": TEXTS[i % len(TEXTS)], "label": label, "before": before, "after": names[1 - names.index(before)]}
        )
    record: dict[str, Any] = {
        "schema": 1,
        "command": "narrows prune minilm --data movie-reviews.csv --budget '10% params' --method vtrans "
        "--vocab data --out small --seed 0",
        "started": "2026-02-11T09:14:03+00:00",
        "seconds": {"finetune": 138.7, "teacher": 17.9, "prune": 61.2, "rebuild": 14.4, "heal": 94.1, "evaluate": 11.8},
        "environment": {
            "python": "3.11.7",
            "platform": "Linux-6.1-x86_64-with-glibc2.36",
            "cpu": "AMD EPYC 7B13",
            "cores": 2,
            "threads": 2,
            "accelerator": None,
            "revision": None,
            "versions": {"narrows": "0.1.0", "torch": "2.13.0", "transformers": "5.24.0"},
        },
        "model": {"name": "models/all-MiniLM-L6-v2", "family": "bert", "class": "BertForSequenceClassification"},
        "data": {
            "name": "movie-reviews",
            "task": "classification",
            "train": 7204,
            "validation": 800,
            "held_out": 2001,
            "quality": "accuracy",
        },
        "method": "vtrans",
        "seed": 0,
        "budgets": [{"text": "10% params", "measure": "params", "limit": 2271398, "reached": 2268013}],
        "before": {
            "quality": 0.8521,
            "quality_se": 0.0079,
            "params": 22713986,
            "embedding_params": 11918592,
            "macs": 691470336,
            "tokens": 64,
            "bytes": 90868592,
            "latency_ms": {"1": 5.91, "32": 158.3},
        },
        "after": {
            "quality": 0.8376,
            "quality_se": 0.0082,
            "params": 2268013,
            "embedding_params": 884632,
            "macs": 63443968,
            "tokens": 64,
            "bytes": 9079344,
            "latency_ms": {"1": 1.87, "32": 23.28},
        },
        "plan": {
            "basis": "pca",
            "hidden": {"kept": 88, "of": WIDTH},
            "rank": {"kept": 64, "of": WIDTH},
            "vocab": {"kept": 12895, "of": VOCAB},
            "layers": layers,
        },
        "information": _information(rng, layers),
        "reconstruction": [{"site": s, "variance": v} for s, v in zip(sites, variances, strict=True)],
        "history": _history(rng),
        "changed": changed,
        "citations": ["arXiv:2406.05276", "Frantar and Alistarh, 2023"],
    }
    return copy.deepcopy({**record, **over})


def make_measurement(models: int = 2, moments: int = 5) -> dict[str, Any]:
    """A record of `narrows measure`: four layers, the last of which has no estimate of its input."""
    layers = ["bert.embeddings.LayerNorm", *(f"bert.encoder.layer.{i}" for i in range(3))]

    def estimate(value: float, error: float | None = None, **over: Any) -> dict[str, Any]:
        return {"value": value, "standard_error": error, "unit": "nats", "kind": "point", "cautions": [], **over}

    def values(grown: float) -> dict[str, list[dict[str, Any]]]:
        noisy = [{"trouble": "saturated", "text": "6.9 of at most 6.9 nats: the rows limit this"}]
        known = [estimate(6.0 - grown * i, cautions=noisy if i == 0 else []) for i in range(3)]
        return {
            "label": [estimate(grown * 0.1 * i, 0.02) for i in range(4)],
            "input": [*known, {"error": "flat"}],
            "spectrum": [estimate(5.0 - i) for i in range(4)],
        }

    def moment(step: int, grown: float) -> dict[str, Any]:
        table = values(grown)
        found = {name: {k: table[k][i] for k in table} for i, name in enumerate(layers)}
        return {"step": step, "seconds": 1.0, "layers": found}

    return {
        "schema": 1,
        "kind": "measurement",
        "command": "narrows measure small --data reviews.csv",
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 12.0,
        "environment": make_record()["environment"],
        "seed": 0,
        "data": {"name": "reviews.csv", "task": "classification", "rows": 1000, "label_entropy": 0.69},
        "measures": ["label", "input", "spectrum"],
        "columns": 32,
        "models": [
            {
                "name": f"model {i}",
                "class": "BertModel",
                "layers": layers,
                "values": values(1.0),
                "spectra": [[0.5, 0.3, 0.1, 0.1], [0.97, 0.01, 0.01, 0.01], [0.2, 0.2, 0.2, 0.2], [1.0, 0.0, 0.0, 0.0]],
            }
            for i in range(models)
        ],
        "moments": [moment(100 * i, i / max(1, moments - 1)) for i in range(moments)],
    }


def make_variants() -> dict[str, dict[str, Any]]:
    """The corners: each is a whole record."""
    full = make_record()
    unmeasured = make_record()
    for side in ("before", "after"):
        unmeasured[side]["latency_ms"] = None
    removed = make_record()
    removed["plan"]["layers"][5] = {"heads": [], "heads_of": HEADS, "neurons": [], "neurons_of": NEURONS}
    removed["plan"]["layers"][3]["heads"] = []
    plain = make_record(method="fisher", information=None)
    plain["plan"] |= {"rank": None, "vocab": {"kept": VOCAB, "of": VOCAB}, "basis": "channels"}
    rating = make_record(
        method="fisher",
        information=None,
        data={
            "name": "product-reviews.csv",
            "task": "regression",
            "train": 3000,
            "validation": 300,
            "held_out": 400,
            "quality": "pearson",
        },
        changed=[
            {
                "text": TEXTS[i],
                "label": f"{1 + i / 3:.2f}",
                "before": f"{1.2 + i / 3:.2f}",
                "after": f"{1.05 + i / 2.2:.2f}",
            }
            for i in range(9)
        ],
    )
    rating["before"] |= {"quality": 0.7312, "quality_se": 0.019}
    rating["after"] |= {"quality": 0.7105, "quality_se": 0.021}
    bare = make_record(
        method="random",
        information=None,
        reconstruction=[],
        history=[],
        changed=[],
        citations=[],
        budgets=[{"text": "5 ms", "measure": "latency", "limit": 5.0, "reached": 5.31}],
    )
    better = make_record()
    better["after"] |= {"quality": 0.8613, "latency_ms": {"1": 7.2, "32": 190.1}}
    return {
        "full": full,
        "unmeasured": unmeasured,
        "removed": removed,
        "plain": plain,
        "rating": rating,
        "bare": bare,
        "better": better,
    }
