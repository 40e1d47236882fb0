"""The picture of the finished experiment, from its record alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from narrows.report.figures import PALETTE, STYLE

MEASURES = ("no bins", "noise", "adaptive bins", "bins 0.07 wide", "30 bins")
LABELS = {
    "no bins": "no bins (exact)",
    "noise": "noise of variance 0.001, upper bound",
    "adaptive bins": "30 adaptive bins",
    "bins 0.07 wide": "bins 0.07 wide",
    "30 bins": "30 bins over the range",
}


def finish(record: Mapping[str, Any], folder: Path) -> None:
    """Write figure.png: layer 5 and the output of both networks by five measures, and layer 5 in more or fewer bins."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 5.6), layout="constrained")
        axes = figure.subplots(2, 3, sharex=True, sharey="col")
        for row, activation in enumerate(("tanh", "relu")):
            runs = [
                e["result"]
                for e in record["cells"]
                if e["cell"]["part"] == "task" and e["cell"]["activation"] == activation
            ]
            for column, layer in enumerate(("layer 5", "output")):
                for color, measure in zip(PALETTE, MEASURES, strict=False):
                    _band(axes[row, column], runs, measure, layer, color, LABELS[measure])
            for color, count in zip(PALETTE, (10, 30, 100), strict=False):
                _band(axes[row, 2], runs, f"{count} bins", "layer 5", color, f"{count} bins")
            name = {"tanh": "tanh", "relu": "ReLU"}[activation]
            for column, what in enumerate(("layer 5", "output", "layer 5, by number of bins")):
                axes[row, column].set_title(f"{name}, {what}", fontsize=9, loc="left")
            axes[row, 0].set_ylabel("I(X;T), bits")
        for ax in axes[1]:
            ax.set_xlabel("epoch")
        axes[0, 0].set_xscale("log")
        lines = axes[0, 0].get_legend_handles_labels()
        figure.legend(*lines, loc="outside upper left", ncols=5, fontsize=7.5, frameon=False)
        axes[1, 2].legend(fontsize=7.5, frameon=False)
        figure.savefig(folder / "figure.png", dpi=150)


def _band(ax: Any, runs: Sequence[Mapping[str, Any]], measure: str, layer: str, color: str, label: str) -> None:
    """The mean over seeds as a line, each seed faint."""
    curves = np.array([run["curves"][measure][layer].split() for run in runs], dtype=float)
    epochs = runs[0]["noise epochs" if measure == "noise" else "epochs"]
    ax.plot(epochs, curves.T, color=color, lw=0.5, alpha=0.35)
    ax.plot(epochs, curves.mean(axis=0), color=color, lw=1.6, label=label)
