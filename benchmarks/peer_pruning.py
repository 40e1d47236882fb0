"""The default of `narrows prune` beside torch-pruning: one dense model, the same budgets, data and healing.

    pip install -e '.[bench]'; python benchmarks/peer_pruning.py [WORK]      writes peer_pruning.json beside itself

MiniLM fine-tuned on movie reviews; 20 and 10 % of all parameters with the whole vocabulary. torch-pruning removes
residual channels, heads and neurons at one ratio everywhere, the largest model within the budget (found by bisection),
by weight magnitude or first-order Taylor scores; it keeps the weights as they are (its LayerNorms are put in order
here). Both are healed for the same steps with the same objective and judged on the same held-out sentences. WORK keeps
the dense model between runs.
"""

from __future__ import annotations

import copy
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from narrows import prune
from narrows.core.files import write_json
from narrows.core.record import environment
from narrows.core.statistics import paired_difference
from narrows.data import minilm, movie_reviews, split
from narrows.distill import DistillObjective, EncodedTexts, TeacherCache, TrainConfig, evaluate, finetune, train
from narrows.distill.encode import StepSampler
from narrows.road.options import HEAL_RATE
from narrows.transformer import load, measure_latency
from narrows.transformer.checkpoint import save

STEPS, BATCH, SEED = 300, 32, 0
BUDGETS = (20, 10)


def main(work: Path) -> None:
    """Measure everything and write peer_pruning.json."""
    texts, held_out = split(movie_reviews(), 0.2, SEED)
    model, tokenizer = dense(work, texts)
    rows, test = (EncodedTexts(x, tokenizer, 128) for x in (texts, held_out))
    teacher = TeacherCache.build(model, rows, range(len(rows)), work / "teacher")
    result: dict[str, Any] = {"environment": environment(), "steps": STEPS, "dense": evaluate(model, test).quality}
    for percent in BUDGETS:
        budget = percent / 100 * count(model)
        start = time.monotonic()
        ours, _ = prune(
            model, texts, tokenizer=tokenizer, evaluation=held_out, budget=f"{percent}% params", steps=STEPS, seed=SEED
        )
        models = {"narrows": (ours, time.monotonic() - start)}
        for scores in ("magnitude", "taylor"):
            start = time.monotonic()
            small, kept = largest(model, rows, scores, budget)
            basis = torch.eye(model.config.hidden_size)[:, kept]
            config = TrainConfig(STEPS, BATCH, HEAL_RATE, seed=SEED, bf16=False, save_every=STEPS)
            with tempfile.TemporaryDirectory() as folder:
                train(small, DistillObjective(teacher, initial_map=basis), rows, config, folder)
            models[f"torch-pruning, {scores}"] = (small.eval(), time.monotonic() - start)
        result[f"{percent}%"] = compared(models, test, count(model))
        print(percent, result[f"{percent}%"], flush=True)
    write_json(Path(__file__).with_suffix(".json"), result)


def compared(models: dict[str, tuple[PreTrainedModel, float]], test: EncodedTexts, whole: int) -> dict[str, Any]:
    """Quality, size, seconds and latency of each; ours minus each on the same rows."""
    labels = test.labels.numpy()
    times = measure_latency([model for model, _ in models.values()])
    found: dict[str, Any] = {}
    right: dict[str, Any] = {}
    for (name, (model, seconds)), latency in zip(models.items(), times, strict=True):
        judged = evaluate(model, test)
        right[name] = (judged.predictions == labels).astype(np.float64)
        found[name] = {
            "accuracy": judged.quality,
            "standard_error": judged.standard_error,
            "params_share": count(model) / whole,
            "seconds": seconds,
            "latency_ms": latency,
        }
        if name != "narrows":
            found[name]["narrows minus this"] = paired_difference(right["narrows"], right[name]).to_json()
    return found


def dense(work: Path, texts: Any) -> tuple[PreTrainedModel, Any]:
    """MiniLM, fine-tuned as `narrows prune` does it."""
    place = work / "dense"
    if not place.exists():
        loaded = load(minilm(), head="ForSequenceClassification", dtype=torch.float32, num_labels=2)
        rows = EncodedTexts(texts, loaded.tokenizer, 128)
        config = TrainConfig(2 * -(-len(rows) // BATCH), BATCH, warmup=0.1, seed=SEED, bf16=False)
        finetune(loaded.model, rows, config, work / "training", fresh_head=True, resume=True)
        save(loaded.model.eval(), loaded.tokenizer, place)
    loaded = load(place)
    return loaded.model, loaded.tokenizer


def count(model: PreTrainedModel) -> int:
    """All parameters."""
    return sum(p.numel() for p in model.parameters())


def largest(model: PreTrainedModel, rows: EncodedTexts, scores: str, budget: float) -> tuple[PreTrainedModel, Tensor]:
    """The largest model within the budget, and which of the residual channels it keeps."""
    low, high = 0.0, 0.99
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (low, middle) if count(by_peer(model, rows, "magnitude", middle)[0]) <= budget else (middle, high)
    return by_peer(model, rows, scores, high)


def by_peer(model: PreTrainedModel, rows: EncodedTexts, scores: str, ratio: float) -> tuple[PreTrainedModel, Tensor]:
    """What torch-pruning leaves of the model at a ratio."""
    import torch_pruning as peer

    small = copy.deepcopy(model)
    layers = small.bert.encoder.layer
    attention = [layer.attention.self for layer in layers]
    batch = {k: v for k, v in rows.batch(range(4)).items() if k in ("input_ids", "attention_mask")}
    importance = getattr(peer.importance, f"Group{scores.title()}Importance")()
    heads = small.config.num_attention_heads
    pruner = peer.pruner.BasePruner(
        small,
        batch,
        importance=importance,
        pruning_ratio=ratio,
        head_pruning_ratio=min(ratio, (heads - 0.9) / heads),  # it breaks where no head is left
        prune_head_dims=False,
        num_heads={part: heads for a in attention for part in (a.query, a.key, a.value)},
        prune_num_heads=True,
        ignored_layers=[small.classifier],
        output_transform=lambda output: output.logits.sum(),
    )
    if scores == "taylor":
        for indices in StepSampler(rows.lengths, BATCH, SEED, 10):
            data = rows.batch(indices)
            data["labels"] = data["labels"].long()
            small(**{k: data[k] for k in ("input_ids", "attention_mask", "labels")}).loss.backward()
    width = small.config.hidden_size
    kept = torch.arange(width)
    for group in pruner.step(interactive=True):
        for dependency, indices in group:
            if dependency.target.module is small.bert.embeddings.LayerNorm:
                kept = torch.tensor(sorted(set(range(width)) - set(indices)))
        group.prune()
    for name, module in small.named_modules():
        if isinstance(module, torch.nn.LayerNorm):  # torch-pruning 1.6.1 leaves their channels in the order of a set
            whole = model.get_submodule(name)
            module.weight.data, module.bias.data = whole.weight.data[kept], whole.bias.data[kept]
    for a in attention:
        a.num_attention_heads, a.all_head_size = pruner.num_heads[a.query], a.query.out_features
    small.config.hidden_size = len(kept)
    small.zero_grad()
    return small.eval(), kept


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))
