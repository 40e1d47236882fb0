"""What the main road costs: rebuild, gated training, the trainer against a bare loop, latency, start-up.

    python benchmarks/road.py            writes road.json beside itself

Everything that is compared runs in turns in this one process, on MiniLM and movie reviews; quote the ratios.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.optim import AdamW

from narrows.core.budget import Budget
from narrows.core.files import write_json
from narrows.core.record import environment
from narrows.data import minilm, movie_reviews
from narrows.distill import DistillObjective, EncodedTexts, OnlineTeacher, TrainConfig, train
from narrows.distill.encode import StepSampler
from narrows.prune import Limits, fisher_scores
from narrows.prune.methods import AUTO, METHODS, Problem
from narrows.prune.planner import frame_of
from narrows.prune.vtrans import VTransConfig, VTransObjective
from narrows.road.options import CALIBRATION
from narrows.transformer import Anatomy, calibrate, cost_of, cut, load, measure_latency, rebuild
from narrows.transformer.latency import TOKENS
from narrows.transformer.vocabulary import keep_rows, trim_tokenizer, used_tokens

TURNS, STEPS = 3, 12
BUDGETS = {"20% params": "all", "10% params": "data"}  # and the vocabulary


def main() -> None:
    """Measure everything and write road.json."""
    loaded = load(minilm(), head="ForSequenceClassification", num_labels=2, dtype=torch.float32)
    model = loaded.model
    examples = EncodedTexts(movie_reviews(), loaded.tokenizer, 128)
    anatomy = Anatomy.of(model)
    dense = cost_of(anatomy, anatomy.full_plan(), TOKENS)
    result: dict[str, Any] = {"environment": environment()}
    for text, vocab in BUDGETS.items():
        result[text] = shrunk(model, loaded.tokenizer, Budget.parse(text).limit(dense), vocab)
    scores = fisher_scores(model, anatomy, batches(examples)[:10])
    result |= steps(model, examples, Limits(anatomy, [Budget.parse("20% params")], dense), scores)
    result["help_s"] = statistics.median(
        wall(
            lambda: subprocess.run(
                [Path(sys.executable).with_name("narrows"), "--help"], capture_output=True, check=True
            )
        )
        for _ in range(TURNS)
    )
    write_json(Path(__file__).with_suffix(".json"), result)
    print({k: v for k, v in result.items() if k != "environment"})


def batches(examples: EncodedTexts) -> list[Any]:
    """Calibration data as a run takes it."""
    return [examples.batch(b) for b in StepSampler(examples.lengths, 32, 0, CALIBRATION)]


def shrunk(model: Any, tokenizer: Any, limit: float, vocab: str) -> dict[str, Any]:
    """The default plan for a number of parameters: seconds of its rebuild, and what its shape gains."""
    anatomy = Anatomy.of(model)
    dense = cost_of(anatomy, anatomy.full_plan(), TOKENS)
    whole = model
    if vocab == "data":
        kept = keep_rows(tokenizer, used_tokens(tokenizer, movie_reviews().texts))
        model = cut(model, replace(anatomy.full_plan(), vocab=kept)).eval()
        tokenizer, anatomy = trim_tokenizer(tokenizer, kept), Anatomy.of(model)
    start = time.monotonic()
    calibration = calibrate(model, batches(EncodedTexts(movie_reviews(), tokenizer, 128)))
    seconds = {"calibrate_s": time.monotonic() - start}
    limits = Limits(anatomy, (Budget("params", limit, relative=False),), dense)
    start = time.monotonic()
    plan = METHODS[AUTO](Problem(model, anatomy, calibration, limits, seed=0, basis="pca")).plan
    seconds["plan_s"] = time.monotonic() - start
    start = time.monotonic()
    small = rebuild(model, plan, calibration).model
    seconds["rebuild_s"] = time.monotonic() - start
    before, after = measure_latency((whole, small), runs=30)
    macs = dense.macs / cost_of(anatomy, plan, TOKENS).macs
    return seconds | {
        "width": len(plan.hidden),
        "rank": plan.rank,
        "mac_ratio": macs,
        "speed_up": {b: before[b] / after[b] for b in before},
        "share_of_mac_ratio": {b: before[b] / after[b] / macs for b in before},
        "latency_ms": {"dense": before, "small": after},
    }


class Clock:
    """The moments at which steps were done; as the progress of `train`."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def update(self, step: int = 0, total: int = 0, figures: Any = None) -> None:
        """A step is done."""
        self.times.append(time.monotonic())

    def median(self) -> float:
        """Seconds between two steps."""
        return statistics.median(b - a for a, b in pairwise(self.times))


def steps(model: Any, examples: EncodedTexts, limits: Limits, scores: Any) -> dict[str, float]:
    """Seconds a step of healing bare, in the trainer, and with gates, as medians of turns; and the peak memory."""
    order = StepSampler(examples.lengths, 32, 0, STEPS)
    teacher = OnlineTeacher(model, examples, order.visited())
    plain = DistillObjective(teacher)
    frame = frame_of(limits.anatomy, scores, limits.anatomy.shape.hidden // 2, None, "pca")
    gates = VTransObjective(plain, limits, frame, VTransConfig(STEPS, weights="trained"), scores)
    config = TrainConfig(STEPS, learning_rate=1e-9, seed=0, save_every=10**6, bf16=False)

    def bare(clock: Clock) -> None:
        plain.attach(model)
        optimizer = AdamW(model.parameters(), lr=1e-9, fused=True)
        model.train()
        for indices in order:
            loss, _ = plain.loss(model, examples.batch(indices), 0)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            model.zero_grad()
            clock.update()
        plain.detach(model)

    def trained(objective: Any, clock: Clock) -> None:
        with tempfile.TemporaryDirectory() as folder:
            train(model, objective, examples, config, folder, progress=clock)

    runs: dict[str, Callable[[Clock], None]] = {
        "bare": bare,
        "trainer": lambda clock: trained(plain, clock),
        "gated": lambda clock: trained(gates, clock),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    memory: dict[str, int] = {}
    for _ in range(TURNS):
        for name, run in runs.items():
            clock = Clock()
            run(clock)
            times[name].append(clock.median())
            memory.setdefault(name, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

    def ratio(a: str, b: str) -> float:
        return statistics.median(x / y for x, y in zip(times[a], times[b], strict=True))

    return {f"{name}_step_s": statistics.median(t) for name, t in times.items()} | {
        "trainer_to_bare": ratio("trainer", "bare"),
        "gated_to_plain": ratio("gated", "trainer"),
        "gated_to_plain_peak_memory": memory["gated"] / memory["trainer"],
    }


def wall(run: Callable[[], Any]) -> float:
    """Seconds of a call."""
    start = time.monotonic()
    run()
    return time.monotonic() - start


if __name__ == "__main__":
    main()
