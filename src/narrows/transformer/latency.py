"""Measured latency of a forward pass."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from narrows.transformer.family import longest

BATCHES = (1, 32)
TOKENS = 64
_LONGEST = 3.0  # seconds per model and batch size


@torch.inference_mode()
def measure_latency(models: Sequence[PreTrainedModel], tokens: int = TOKENS, runs: int = 15) -> list[dict[str, float]]:
    """Median milliseconds of a forward pass of each model, by batch size as text (`"1"`, `"32"`).

    Texts have `tokens` tokens, or as many as all the models have positions for.
    The models take turns, so that a machine whose speed drifts treats them alike. At most `runs` passes each, fewer
    where they are slow.
    """
    modes = [model.training for model in models]
    results: list[dict[str, float]] = [{} for _ in models]
    try:
        for model in models:
            model.eval()
        tokens = min(tokens, *(longest(model) for model in models))
        for batch in BATCHES:
            inputs = [
                {
                    "input_ids": torch.full((batch, tokens), 5, device=m.device),
                    "attention_mask": torch.ones(batch, tokens, dtype=torch.int64, device=m.device),
                }
                for m in models
            ]
            times: list[list[float]] = [[] for _ in models]
            for _ in range(runs + 1):
                for seconds, model, x in zip(times, models, inputs, strict=True):
                    if sum(seconds) < _LONGEST:
                        seconds.append(_once(model, x))
            for result, seconds in zip(results, times, strict=True):
                result[str(batch)] = 1e3 * statistics.median(seconds[1:] or seconds)
    finally:
        for model, mode in zip(models, modes, strict=True):
            model.train(mode)
    return results


def _once(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> float:
    start = time.perf_counter()
    model(**inputs)
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
