"""What the layers of a network answer, as one matrix a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from narrows.core.errors import DataError, ModelError

Pool = Literal["mean", "flat"]


def layer_activations(
    model: nn.Module,
    layers: Sequence[str],
    batches: Iterable[Any],
    *,
    pool: Pool = "mean",
    call: Callable[[nn.Module, Any], Any] = lambda model, batch: model(batch),
) -> dict[str, Tensor]:
    """The outputs of the named modules over all batches, as float32 on the CPU of shape (n, d), in evaluation mode.

    `pool` "mean" averages images (n, channels, height, width) over places and tokens (n, tokens, d) over tokens, those
    of the batch's "attention_mask" if it is a mapping that has one; "flat" keeps every number. `call` runs the model on
    one batch. Modes of the modules are restored. Raises ModelError for unknown names and for modules that do not answer
    with one tensor a batch, and DataError where there are no batches.
    """
    require_layers(model, layers)
    modules = dict(model.named_modules())
    found: dict[str, list[Tensor]] = {name: [] for name in layers}

    def hook(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) and output else output
            if not isinstance(tensor, Tensor):
                raise ModelError(f"{name!r} answers with {type(output).__name__}, not with a tensor")
            found[name].append(_pooled(tensor.detach(), pool, mask).float().cpu())

        return keep

    modes = {name: module.training for name, module in modules.items()}
    handles = [modules[name].register_forward_hook(hook(name)) for name in found]
    count, mask = 0, None
    try:
        model.eval()
        with torch.no_grad():
            for batch in batches:
                mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
                call(model, batch)
                count += 1
    finally:
        for handle in handles:
            handle.remove()
        for name, module in modules.items():
            module.training = modes[name]
    if not count:
        raise DataError("there are no batches")
    for name, parts in found.items():
        if len(parts) != count:
            raise ModelError(f"{name!r} answered {len(parts)} times in {count} batches, expected once a batch")
    return {name: torch.cat(parts) for name, parts in found.items()}


def require_layers(model: nn.Module, layers: Sequence[str]) -> None:
    """ModelError for a name that no module of the model has."""
    known = dict(model.named_modules())
    if unknown := [name for name in layers if name not in known]:
        raise ModelError(f"no module is called {unknown[0]!r}; there are {', '.join(n for n in known if n)}")


def _pooled(tensor: Tensor, pool: Pool, mask: Tensor | None) -> Tensor:
    if tensor.ndim < 2:
        raise ModelError(f"a layer answered with the shape {tuple(tensor.shape)}, expected rows first")
    if pool == "flat" or tensor.ndim == 2:
        return tensor.flatten(1)
    if mask is not None and tensor.ndim == 3 and tensor.shape[:2] == mask.shape:
        share = mask.to(tensor) / mask.sum(dim=1, keepdim=True)
        return torch.einsum("nt,ntd->nd", share, tensor)
    return tensor.mean(dim=1) if tensor.ndim == 3 else tensor.flatten(2).mean(dim=2)
