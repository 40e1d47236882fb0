"""The picture of the experiment, from its record alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

ORDER = ("pixels", "random network", "Barlow Twins", "InfoNCE", "MMCR, 2 views", "MMCR, 4 views", "MMCR, 8 views")
COLOURS = ("#7f7f7f", "#CC79A7", "#E69F00", "#D55E00", "#56B4E9", "#0072B2", "#003f66")
PANELS = {
    "5 labels": "Accuracy, 5 labels a class",
    "20 labels": "Accuracy, 20 labels a class",
    "capacity of classes": "Nuclear norm of class centroids,\nshare of its bound",
}


def finish(record: Mapping[str, Any], folder: Path) -> None:
    """Write figure.png into `folder`: every method's probe accuracies and class geometry, each seed a dot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.5), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, 3, sharey=True), PANELS.items(), strict=True):
        for height, (method, colour) in enumerate(zip(ORDER, COLOURS, strict=True)):
            shown = record["figures"][f"{method}, {key}"]
            axes.plot(shown["values"], [height] * shown["count"], "o", color=colour, markersize=4, alpha=0.5)
            axes.plot(shown["mean"], height, "|", color=colour, markersize=16, markeredgewidth=2)
            axes.text(shown["mean"], height + 0.22, f"{shown['mean']:.3f}", fontsize=7, ha="center", va="bottom")
        axes.set_yticks(range(len(ORDER)), ORDER, fontsize=8)
        axes.set_title(title, fontsize=9)
        axes.margins(x=0.1, y=0.12)
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "figure.png", dpi=130)
