"""The picture of the experiment, from its record alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLOURS = {
    "pixels": "#7f7f7f",
    "random network": "#CC79A7",
    "Barlow Twins": "#F0C870",
    "Barlow Twins, balanced": "#E69F00",
    "InfoNCE": "#D55E00",
    "MMCR, 2 views": "#56B4E9",
    "MMCR, 4 views": "#0072B2",
    "MMCR, 8 views": "#003f66",
}
PANELS = {
    "5 labels": "Accuracy, 5 labels a class",
    "20 labels": "Accuracy, 20 labels a class",
    "capacity of classes": "Nuclear norm of class centroids,\nshare of its bound",
}


def finish(record: Mapping[str, Any], folder: Path) -> None:
    """Write figure.png into `folder`: every method's probe accuracies and class geometry, each seed a dot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, 3, sharey=True), PANELS.items(), strict=True):
        for height, (method, colour) in enumerate(COLOURS.items()):
            shown = record["figures"][f"{method}, {key}"]
            axes.plot(shown["values"], [height] * shown["count"], "o", color=colour, markersize=4, alpha=0.5)
            axes.plot(shown["mean"], height, "|", color=colour, markersize=16, markeredgewidth=2)
            axes.text(shown["mean"], height + 0.22, f"{shown['mean']:.3f}", fontsize=7, ha="center", va="bottom")
        axes.set_yticks(range(len(COLOURS)), list(COLOURS), fontsize=8)
        axes.set_title(title, fontsize=9)
        axes.margins(x=0.1, y=0.12)
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "figure.png", dpi=130)
