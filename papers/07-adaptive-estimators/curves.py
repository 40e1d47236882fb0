"""The picture of the finished experiment, from its record alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from narrows.report.figures import PALETTE, STYLE

NAMES = {"relu": "ReLU", "tanh": "tanh", "elu": "ELU", "softplus": "softplus"}
MEASURES = ("adaptive bins", "fixed bins", "adaptive noise", "fixed noise")


def finish(record: Mapping[str, Any], folder: Path) -> None:
    """Write figure.png: I(X;T) of the hidden layers by epoch, without and with the penalty, and by other measures."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 7.2), layout="constrained")
        axes = figure.subplots(3, 4, sharex=True, sharey=True)
        axes[0, 0].set_xscale("log")
        for column, (activation, name) in enumerate(NAMES.items()):
            for row, (penalty, words) in enumerate(((0.0, "no penalty"), (0.015, "L2 0.015"))):
                runs = _alive(record, activation, penalty)
                for color, layer in zip(PALETTE, "12345", strict=False):
                    _draw(axes[row, column], runs, layer, "adaptive bins", color, f"layer {layer}")
                axes[row, column].set_title(f"{name}, {words} ({len(runs)} runs)", fontsize=9, loc="left")
            for color, measure in zip(PALETTE, MEASURES, strict=False):
                _draw(axes[2, column], _alive(record, activation, 0.0), "5", measure, color, measure)
            axes[2, column].set_title(f"{name}, layer 5, no penalty", fontsize=9, loc="left")
            axes[2, column].set_xlabel("epoch")
        for row in axes:
            row[0].set_ylabel("I(X;T), bits")
        axes[0, 0].legend(fontsize=7, frameon=False)
        axes[2, 0].legend(fontsize=7, frameon=False)
        figure.savefig(folder / "figure.png", dpi=110)


def _alive(record: Mapping[str, Any], activation: str, penalty: float) -> list[Mapping[str, Any]]:
    return [
        entry["result"]
        for entry in record["cells"]
        if entry["cell"]["activation"] == activation
        and entry["cell"]["penalty"] == penalty
        and not entry["result"]["collapsed"]
    ]


def _draw(ax: Any, runs: Sequence[Mapping[str, Any]], layer: str, measure: str, color: str, label: str) -> None:
    """The mean over runs as a line, each run faint."""
    runs = [run for run in runs if measure in run["curves"][layer]]
    if not runs:
        return
    curves = np.array([run["curves"][layer][measure].split() for run in runs], dtype=float)
    epochs = [int(e) for e in runs[0]["noisy epochs" if "noise" in measure else "epochs"].split()]
    ax.plot(epochs, curves.T, color=color, lw=0.4, alpha=0.25)
    ax.plot(epochs, curves.mean(axis=0), color=color, lw=1.6, label=label)
