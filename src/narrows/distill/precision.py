"""Whether bf16 autocast pays on this machine: measured, because some processors run it many times slower."""

from __future__ import annotations

import time
from functools import lru_cache

import torch
from torch import Tensor, nn

_TOKENS, _WIDTH = 256, 512  # enough to keep the cores busy, and quick where bf16 is slow
NARROW = 256
"""Below this width of its widest layer a model gains nothing from bf16 on a CPU: conversions eat it up."""


def bf16_helps(model: nn.Module) -> bool:
    """True where bf16 autocast is much faster than fp32 on the model's device, and the model is wide enough to gain.

    The device is measured once per process and number of threads, forward and backward, on a layer of a fixed size. It
    must be half as fast again: so clear a difference does not change from run to run, on which equal results depend.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not layers or any(p.dtype != torch.float32 for p in model.parameters()):
        return False
    widest = max(layers, key=lambda layer: layer.weight.numel())
    device = widest.weight.device
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False) and _measure(str(device), 0)
    return min(widest.weight.shape) >= NARROW and _measure(str(device), torch.get_num_threads())


@lru_cache
def _measure(device: str, threads: int) -> bool:
    with torch.random.fork_rng():
        layer = nn.Linear(_WIDTH, _WIDTH, device=device)
        x = torch.randn(_TOKENS, _WIDTH, device=device, requires_grad=True)
    best = {False: float("inf"), True: float("inf")}
    for _ in range(5):
        for bf16 in best:
            best[bf16] = min(best[bf16], _seconds(layer, x, bf16))
        if best[True] > 3 * best[False]:  # no luck can mend that, and each try is slow
            break
    return best[False] > 1.5 * best[True]


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
