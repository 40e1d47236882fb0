"""What the layers of a noisy network tell of its input and of the label: a point of the information plane.

The outputs of named submodules are collected with hooks and measured by `lossy` (Butakov et al. 2024,
arXiv:2305.08013). A network without noise has infinite information about continuous inputs, whatever a finite sample
says, as Goldfeld et al. 2019 (arXiv:1810.05728) show: hence `GaussianNoise`, which stays on in evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.information.activations import layer_activations
from narrows.information.estimate import Caution, MIEstimate
from narrows.information.inputs import Samples
from narrows.information.lossy import LOSSY, lossy

NOISY = register_reference(
    Reference(
        "arXiv:1810.05728",
        "Estimating information flow in deep neural networks",
        (
            "Ziv Goldfeld",
            "Ewout van den Berg",
            "Kristjan Greenewald",
            "Igor Melnyk",
            "Nam Nguyen",
            "Brian Kingsbury",
            "Yury Polyanskiy",
        ),
        2019,
        "International Conference on Machine Learning",
    )
)

_PROBE = 64  # rows that are passed twice to see whether a layer is noisy


@cites(NOISY.key)
class GaussianNoise(nn.Module):
    """Adds `sigma` x eps (`relative`) or `sigma` eps to a tensor x, eps standard normal, elementwise.

    It works in evaluation as well unless `always` is False: the noise is part of the network, and makes its mutual
    information finite. Relative noise leaves zeros as they are. `generator` gives the noise a stream of its own.
    """

    def __init__(
        self, sigma: float, *, relative: bool = True, always: bool = True, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        if not 0 <= sigma < float("inf"):
            raise DataError(f"the size of the noise must be 0 or positive, got {sigma}")
        self.sigma, self.relative, self.always, self.generator = sigma, relative, always, generator

    def forward(self, x: Tensor) -> Tensor:
        if self.sigma == 0 or not (self.training or self.always):
            return x
        noise = torch.randn(x.shape, generator=self.generator, dtype=x.dtype, device=x.device)
        return x + self.sigma * (noise * x if self.relative else noise)

    def extra_repr(self) -> str:
        return f"{self.sigma}, relative={self.relative}, always={self.always}"


@dataclass(frozen=True)
class NoisyLayer:
    """What a layer tells of the input, and of the label where one was given."""

    input: MIEstimate
    label: MIEstimate | None


@cites(LOSSY.key, NOISY.key)
def noisy_layer_information(
    model: nn.Module,
    inputs: Tensor,
    labels: Samples | None = None,
    *,
    layers: Sequence[str],
    allow_deterministic: bool = False,
    batch: int = 1024,
    **options: Any,
) -> dict[str, NoisyLayer]:
    """I(X; L) and I(L; Y) in nats for the named submodules of a network, in evaluation mode, by `lossy`.

    `inputs` (n, ...) pass through `model` in batches, and the outputs of `layers` are flattened; `options` are those of
    `lossy` (x the input, y the layer). Every layer must be noisy (see `GaussianNoise`), as the information of a
    deterministic layer about continuous inputs is infinite: DataError, unless `allow_deterministic`, which leaves a
    caution. Names that are not there raise DataError.
    """
    if not layers:
        raise DataError("no layers were named")
    outputs = layer_activations(model, layers, inputs.split(batch), pool="flat")
    first, second = (layer_activations(model, layers, [inputs[:_PROBE]], pool="flat") for _ in range(2))
    still = [name for name in layers if torch.equal(first[name], second[name])]
    if still and not allow_deterministic:
        raise DataError(
            f"{', '.join(still)}: the output is the same in two passes, so its mutual information with a continuous "
            "input is infinite. Put a GaussianNoise before the layer, or pass allow_deterministic=True"
        )
    flat = inputs.flatten(1)
    found = {}
    for name, output in outputs.items():
        of_input = lossy(flat, output, **options)
        if name in still:
            of_input = _infinite(of_input)
        of_label = None if labels is None else lossy(output, labels, **_of_label(options))
        found[name] = NoisyLayer(of_input, of_label)
    return found


def _of_label(options: dict[str, Any]) -> dict[str, Any]:
    """The options for I(L; Y), where the layer is the first side."""
    return {key: value for key, value in options.items() if key not in ("x_code", "y_code")} | (
        {"x_code": options["y_code"]} if "y_code" in options else {}
    )


def _infinite(found: MIEstimate) -> MIEstimate:
    text = "the layer has no noise: the true value is infinite, and this figure is one of the number of rows"
    return replace(found, cautions=(*found.cautions, Caution("deterministic", text)))
