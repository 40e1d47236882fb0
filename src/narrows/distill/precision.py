"""Whether bf16 autocast pays on this machine: measured, because some processors run it many times slower."""

from __future__ import annotations

import time
from functools import lru_cache

import torch
from torch import Tensor, nn

_TOKENS = 256  # enough to keep the cores busy, and quick where bf16 is slow


def bf16_helps(model: nn.Module) -> bool:
    """True where bf16 autocast runs the model's largest linear layer over 10 % faster than fp32.

    Measured forward and backward, once per process for each layer shape, device and number of threads.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not layers or any(p.dtype != torch.float32 for p in model.parameters()):
        return False
    widest = max(layers, key=lambda layer: layer.weight.numel())
    device = widest.weight.device
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return False
    return _measure(widest.out_features, widest.in_features, str(device), torch.get_num_threads())


@lru_cache
def _measure(outputs: int, inputs: int, device: str, threads: int) -> bool:
    with torch.random.fork_rng():
        layer = nn.Linear(inputs, outputs, device=device)
        x = torch.randn(_TOKENS, inputs, device=device, requires_grad=True)
    best = {False: float("inf"), True: float("inf")}
    for _ in range(5):
        for bf16 in best:
            best[bf16] = min(best[bf16], _seconds(layer, x, bf16))
        if best[True] > 3 * best[False]:  # no luck can mend that, and each try is slow
            break
    return best[True] < 0.9 * best[False]


def _seconds(layer: nn.Linear, x: Tensor, bf16: bool) -> float:
    kind = x.device.type
    _finish(kind)
    start = time.perf_counter()
    with torch.autocast(kind, torch.bfloat16, enabled=bf16):
        y = layer(x)
    y.float().square().mean().backward()
    _finish(kind)
    return time.perf_counter() - start


def _finish(kind: str) -> None:
    if kind == "cuda":
        torch.cuda.synchronize()
