"""The picture of the experiment, from its record alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

PANELS = {
    "DSMI, sigma 10": "DSMI, σ = 10 (published)",
    "DSMI, half median": "DSMI, σ = half the median distance",
    "DSMI, half first median": "DSMI, σ = half the first median",
    "DSE, sigma 10": "DSE, σ = 10 (published)",
    "DSE, half median": "DSE, σ = half the median distance",
    "binned information": "Binned information (10 bins a unit)",
}
COLOURS = {"true": "#0072B2", "shuffled": "#D55E00"}


def finish(record: Mapping[str, Any], folder: Path) -> None:
    """Write figure.png into `folder`: curves of every seed, true against shuffled labels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.6), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(2, 3, sharex=True).flat, PANELS.items(), strict=True):
        for entry in record["cells"]:
            if entry["cell"]["part"] != "training":
                continue
            labels, curve = entry["cell"]["labels"], entry["result"]["curve"]
            axes.plot(
                [1 + point["epoch"] for point in curve],
                [point[name] for point in curve],
                color=COLOURS[labels],
                marker="o" if labels == "true" else "s",
                markersize=3,
                linewidth=1,
                label=f"{labels} labels" if entry["cell"]["seed"] == record["seeds"][0] else None,
            )
        axes.set_xscale("log")
        axes.set_title(title, fontsize=9)
        low, high = axes.get_ylim()
        axes.set_ylim(min(0, low), high + 0.05 * (high - min(0, low)))
        axes.spines[["top", "right"]].set_visible(False)
    for axes in figure.axes[3:]:
        axes.set_xlabel("1 + epoch")
    for axes in (figure.axes[0], figure.axes[3]):
        axes.set_ylabel("bits")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(folder / "figure.png", dpi=130)
