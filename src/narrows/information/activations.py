"""What the layers of a network answer, as one matrix a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal

import torch
from torch import Tensor, nn

from narrows.core.errors import DataError, ModelError

Pool = Literal["mean", "flat"]
_LISTED = 16  # names of modules that an error shows


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
    known = [name for name, _ in model.named_modules() if name]
    wrong = next((name for name in layers if name and name not in known), None)
    if wrong is None:
        return
    shown = known
    if len(known) > _LISTED:
        near = get_close_matches(wrong, known, _LISTED // 2, cutoff=0.5)
        outer = sorted((name for name in known if name not in near), key=lambda name: name.count("."))
        shown = [*near, *outer][:_LISTED]
    more = f" and {len(known) - len(shown)} more" if len(shown) < len(known) else ""
    raise ModelError(f"no module is called {wrong!r}; there are {', '.join(shown)}{more}")


def _pooled(tensor: Tensor, pool: Pool, mask: Tensor | None) -> Tensor:
    if tensor.ndim < 2:
        raise ModelError(f"a layer answered with the shape {tuple(tensor.shape)}, expected rows first")
    if pool == "flat" or tensor.ndim == 2:
        return tensor.flatten(1)
    if mask is not None and tensor.ndim == 3 and tensor.shape[:2] == mask.shape:
        share = mask.to(tensor) / mask.sum(dim=1, keepdim=True)
        return torch.einsum("nt,ntd->nd", share, tensor)
    return tensor.mean(dim=1) if tensor.ndim == 3 else tensor.flatten(2).mean(dim=2)
