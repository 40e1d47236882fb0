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
    """Write figure.png: the planes by five measures and in more or fewer bins, and the layers beside the curve."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 8.6), layout="constrained")
        upper, lower = figure.subfigures(2, 1, height_ratios=[5.6, 3])
        _by_epoch(upper, record)
        _beside_the_curve(lower, record)
        figure.savefig(folder / "figure.png", dpi=150)


def _by_epoch(figure: Any, record: Mapping[str, Any]) -> None:
    """Layer 5 and the output of both networks by five measures, and layer 5 in more or fewer bins."""
    axes = figure.subplots(2, 3, sharex=True, sharey="col")
    for row, activation in enumerate(("tanh", "relu")):
        runs = _runs(record, "task", activation)
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


def _beside_the_curve(figure: Any, record: Mapping[str, Any]) -> None:
    """The tanh networks on noisy labels: their paths through the plane, and how far the layers end from the curve."""
    plane, excess, equations = figure.subplots(1, 3)
    runs = _runs(record, "noisy", "tanh")
    curve = record["figures"]["bottleneck curve"]
    x, y = (np.array(["0", *curve[name].split()], dtype=float) for name in ("I(X;T)", "I(T;Y)"))
    plane.plot([*x, 12], [*y, y[-1]], color="black", lw=1.2, label="bottleneck curve")
    layers = list(runs[0]["paths"]["I(X;T)"])
    names = [*layers[:-1], "output"]
    for color, layer, name in zip(PALETTE, layers, names, strict=False):
        for run in runs:
            kept, told = (np.array(run["paths"][what][layer].split(), dtype=float) for what in ("I(X;T)", "I(T;Y)"))
            plane.plot(kept, told, color=color, lw=0.5, alpha=0.4)
            plane.plot(kept[-1], told[-1], "o", ms=3.5, color=color, label=name if run is runs[0] else None)
    plane.set(xlabel="I(X;T), bits", ylabel="I(T;Y), bits")
    plane.set_title("noisy labels, 30 bins: path and end", fontsize=9, loc="left")
    plane.legend(fontsize=6.5, frameon=False, loc="lower right")
    places = np.arange(len(layers)) + 1
    for color, look in zip(PALETTE, ("10 bins", "30 bins", "100 bins", "no bins"), strict=False):
        _layers(excess, places, [run["ends"][look]["excess"] for run in runs], color, look)
    excess.set_title("bits of X beyond what the curve needs", fontsize=9, loc="left")
    for color, what, label in zip(PALETTE, ("I(X;T)", "divergence"), ("beta = 0: I(X;T)", "best beta"), strict=False):
        _layers(equations, places, [run["ends"]["30 bins"][what] for run in runs], color, label)
    equations.set_title("bits off the bottleneck equations, 30 bins", fontsize=9, loc="left")
    for ax in (excess, equations):
        ax.set_xticks(places, [*map(str, places[:-1]), "output"])
        ax.set(xlabel="layer", ylim=(-0.3, 12.5))
        ax.legend(fontsize=7.5, frameon=False, loc="lower left")


def _runs(record: Mapping[str, Any], part: str, activation: str) -> list[Mapping[str, Any]]:
    cells = [(entry["cell"], entry["result"]) for entry in record["cells"]]
    return [result for cell, result in cells if (cell["part"], cell["activation"]) == (part, activation)]


def _layers(ax: Any, places: Any, texts: Sequence[str], color: str, label: str) -> None:
    """The mean over seeds of a figure for each layer as a line, each seed faint."""
    values = np.array([text.split() for text in texts], dtype=float)
    ax.plot(places, values.T, color=color, lw=0.5, alpha=0.35)
    ax.plot(places, values.mean(axis=0), "o-", ms=3, color=color, lw=1.6, label=label)


def _band(ax: Any, runs: Sequence[Mapping[str, Any]], measure: str, layer: str, color: str, label: str) -> None:
    """The mean over seeds as a line, each seed faint."""
    curves = np.array([run["curves"][measure][layer].split() for run in runs], dtype=float)
    epochs = runs[0]["noise epochs" if measure == "noise" else "epochs"]
    ax.plot(epochs, curves.T, color=color, lw=0.5, alpha=0.35)
    ax.plot(epochs, curves.mean(axis=0), color=color, lw=1.6, label=label)
