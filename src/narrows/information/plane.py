"""The information plane: what each layer of a network keeps of the inputs and of the labels, epoch by epoch.

Shwartz-Ziv and Tishby, "Opening the Black Box of Deep Neural Networks via Information" (2017), drew the plane and read
a phase of compression in it. Saxe et al., "On the Information Bottleneck Theory of Deep Learning" (2018), showed that
the reading rests on the bins: a deterministic network keeps all of its inputs, I(X;T) is ln n for n different inputs
(infinite for continuous ones), and what falls is the entropy of T rounded to bins, or the information left under noise
that the network does not have. So every figure here comes with its setting, its ceiling and its cautions:

    looks = {"30 bins": FixedBins(30, (-1, 1)), "noise": KernelNoise()}
    plane = InformationPlane(model, ["0", "2"], inputs, labels, looks)
    plane.record(epoch)         in the training loop
    plane.to_dataframe()        i_xt, i_ty in nats, i_xt_ceiling, saturated, frac_extreme, ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.information.activations import layer_activations
from narrows.information.binning import ADAPTIVE, Bins
from narrows.information.discrete import FULL, ROWS, counted_information, row_codes
from narrows.information.estimate import Caution
from narrows.information.inputs import Codes, Samples, codes, columns, same_rows
from narrows.information.kde import MIXTURES, Noise, noisy_layer

if TYPE_CHECKING:
    import pandas as pd

PLANE = register_reference(
    Reference(
        "arXiv:1703.00810",
        "Opening the Black Box of Deep Neural Networks via Information",
        ("Ravid Shwartz-Ziv", "Naftali Tishby"),
        2017,
    )
)
SAXE = register_reference(
    Reference(
        "saxe2018",
        "On the Information Bottleneck Theory of Deep Learning",
        (
            "Andrew M. Saxe",
            "Yamini Bansal",
            "Joel Dapello",
            "Madhu Advani",
            "Artemy Kolchinsky",
            "Brendan D. Tracey",
            "David D. Cox",
        ),
        2018,
        "International Conference on Learning Representations",
        "https://openreview.net/forum?id=ry_WPG-A-",
    )
)


@dataclass(frozen=True)
class LayerInformation:
    """One layer in the plane, in nats.

    `i_xt`: information about the input, `i_ty`: about the label, and `i_ty_bias`: how much of it independent labels
    would show (Miller and Madow's first order; None under noise). `ceiling`: the entropy of the inputs, which no i_xt
    exceeds. `states`: how many different states the layer takes (None under noise). `extreme`: the share of values in
    the lowest and highest bin that occur (None under noise). `i_xt_lower`: the lower bound that belongs to the upper
    bound i_xt under noise (None for bins). `setting`: bins or noise in words.
    """

    i_xt: float
    i_ty: float
    ceiling: float
    setting: str
    i_ty_bias: float | None = None
    states: int | None = None
    extreme: float | None = None
    i_xt_lower: float | None = None
    cautions: tuple[Caution, ...] = ()

    @property
    def saturated(self) -> bool:
        """Whether the number of inputs, not the network, decides i_xt."""
        return any(caution.trouble == "saturated" for caution in self.cautions)


@dataclass(frozen=True)
class KernelNoise:
    """Noise for the analysis of layers; the fields are those of `noise_variance`."""

    noise: Noise = "std"
    scale: float = 1e-2


@cites(PLANE.key, SAXE.key, ADAPTIVE.key, MIXTURES.key)
def layer_information(
    t: Samples, y: Samples, by: Bins | KernelNoise, inputs: Samples | None = None
) -> LayerInformation:
    """What activations `t` (n, d) keep of the inputs and of the labels `y` (n,), in bins or under noise.

    `inputs` (n, ...) says which rows come from the same input, for stochastic layers; without it each row is an input
    of its own. Raises DataError for NaN and infinity, unequal lengths, fewer than two rows, and, under noise, for
    inputs that repeat.
    """
    a, label = columns(t, "t"), codes(y, "y")
    same_rows(a, label)
    inputs_of = np.arange(len(a)) if inputs is None else codes(inputs, "inputs")
    if len(inputs_of) != len(a):
        raise DataError(f"t has {len(a)} rows and inputs has {len(inputs_of)}")
    ceiling = float(np.log(len(a)) - _mean_log(np.bincount(inputs_of)))
    if isinstance(by, KernelNoise):
        if len(np.unique(inputs_of)) < len(a):
            raise DataError("inputs repeat: for the noise that a network has itself see `mixture_information`")
        found = noisy_layer(a, label, by.noise, by.scale)
        setting = f"noise of variance {found.variance:.4g}"
        added = Caution("resolution", f"{setting} ({by.noise}, {by.scale:g}), added for the analysis only")
        lower, upper = found.i_xt
        full = _full(upper, ceiling)
        return LayerInformation(upper, found.i_ty, ceiling, setting, i_xt_lower=lower, cautions=(added, *full))
    return _in_bins(a, label, inputs_of, by, ceiling)


def compression(i_xt: Sequence[float]) -> float:
    """How far I(X;T) falls over training, as a share: (largest - last) / largest, and 0 where all is 0."""
    top = max(i_xt)
    return (top - i_xt[-1]) / top if top > 0 else 0.0


class InformationPlane:
    """Records `layer_information` of a model's layers during training.

    `layers` are names as in `model.named_modules()`; `inputs` go through the model as they are, all at once, in
    evaluation mode and without gradients; `measures` name the bins or noise to look with (take several: the plane
    depends on them). `rows` are the records so far.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str],
        inputs: Tensor,
        labels: Samples,
        measures: Mapping[str, Bins | KernelNoise],
    ) -> None:
        self.model, self.layers, self.inputs, self.labels, self.measures = model, list(layers), inputs, labels, measures
        self.rows: list[dict[str, Any]] = []

    def record(self, epoch: int) -> None:
        """Measure all layers now. Raises DataError that names the layer where activations are broken."""
        for name, t in layer_activations(self.model, self.layers, [self.inputs], pool="flat").items():
            for measure, by in self.measures.items():
                try:
                    found = layer_information(t, self.labels, by)
                except DataError as error:
                    raise DataError(f"layer {name!r} at epoch {epoch}: {error}") from error
                self.rows.append(
                    {
                        "epoch": epoch,
                        "layer": name,
                        "estimator": measure,
                        "setting": found.setting,
                        "i_xt": found.i_xt,
                        "i_ty": found.i_ty,
                        "i_xt_ceiling": found.ceiling,
                        "saturated": found.saturated,
                        "frac_extreme": found.extreme,
                        "i_ty_bias": found.i_ty_bias,
                        "i_xt_lower": found.i_xt_lower,
                    }
                )

    def to_dataframe(self) -> pd.DataFrame:
        """The records as a table, in nats."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def violations(self) -> list[tuple[int, str, str, str]]:
        """Where a later layer seems to know more of the input than an earlier one, which no true information can.

        `layers` must be in the order of the forward pass. Each entry: epoch, estimator, earlier and later layer.
        """
        found = []
        for row, after in zip(self._ordered(), self._ordered()[1:], strict=False):
            same = (row["epoch"], row["estimator"]) == (after["epoch"], after["estimator"])
            if same and after["i_xt"] > row["i_xt"] + 1e-9:
                found.append((row["epoch"], row["estimator"], row["layer"], after["layer"]))
        return found

    def _ordered(self) -> list[dict[str, Any]]:
        return sorted(self.rows, key=lambda r: (r["epoch"], r["estimator"], self.layers.index(r["layer"])))


def _in_bins(t: Any, label: Codes, inputs: Codes, bins: Bins, ceiling: float) -> LayerInformation:
    table = bins.codes(t)
    states = row_codes(table)
    i_xt, _, (n_inputs, n_states, pairs) = counted_information(inputs, states)
    i_ty, _, (_, n_labels, _) = counted_information(states, label)
    n = len(t)
    setting = bins.describe(t)
    cautions = [Caution("resolution", f"{setting}: the figure depends on that")]
    if pairs == n_inputs:
        text = "each input has one state: this is the entropy of the binned states, not a property of the network alone"
        cautions.append(Caution("deterministic", text))
    if n_states * ROWS > n:
        text = f"{n_states} states among {n} rows: i_ty is too high, by more than `i_ty_bias`"
        cautions.append(Caution("few samples", text))
    return LayerInformation(
        i_xt,
        i_ty,
        ceiling,
        setting,
        i_ty_bias=(n_states - 1) * (n_labels - 1) / (2 * n),
        states=n_states,
        extreme=float(((table == table.min()) | (table == table.max())).mean()),
        cautions=(*cautions, *_full(i_xt, ceiling)),
    )


def _full(i_xt: float, ceiling: float) -> tuple[Caution, ...]:
    if i_xt <= FULL * ceiling or ceiling == 0:
        return ()
    text = f"{i_xt:.2f} of at most {ceiling:.2f} nats: the number of inputs limits this value, not the network"
    return (Caution("saturated", text),)


def _mean_log(counts: Any) -> float:
    counts = counts[counts > 0]
    return float(counts @ np.log(counts) / counts.sum())
