"""The picture: the gap against three quantities in both pools, and all correlations; from the record alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from narrows.report.figures import PALETTE, SHAPES, SOFT, STYLE

FITTED = 0.85


def finish(record: Mapping[str, Any], folder: Path) -> None:
    """Write figure.png into `folder`."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    pools = list(dict.fromkeys(entry["cell"]["pool"] for entry in record["cells"]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 3.3 * len(pools)), layout="constrained")
        grid = figure.subplots(len(pools), 3, width_ratios=(1, 1, 1.5), squeeze=False)
        for axes, name in zip(grid, pools, strict=True):
            _gaps(axes[:2], record, name)
            _bars(axes[2], record, name)
        figure.savefig(folder / "figure.png", dpi=160)


def _gaps(axes: Any, record: Mapping[str, Any], name: str) -> None:
    entries = [entry for entry in record["cells"] if entry["cell"]["pool"] == name]
    widths = sorted({entry["cell"]["width"] for entry in entries})
    for panel, key, label in zip(axes, ("I(X;Z|Y) jensen", "I(X;Z) jensen"), ("I(X;Z|Y)", "I(X;Z)"), strict=True):
        for i, width in enumerate(widths):
            rows = [
                model
                for entry in entries
                if entry["cell"]["width"] == width
                for model in entry["result"]["models"]
                if model["train accuracy"] > FITTED
            ]
            panel.plot(
                [row[key] for row in rows],
                [row["gap"] for row in rows],
                SHAPES[i],
                color=PALETTE[i],
                markersize=4.5,
                alpha=0.75,
                label=f"width {width}",
            )
        panel.set_xlabel(f"{label}, Jensen, nats")
        panel.set_title(f"{name}: gap in cross-entropy", loc="left", fontsize=9)
    axes[0].legend(frameon=False, fontsize=8)


def _bars(axes: Any, record: Mapping[str, Any], name: str) -> None:
    begin = f"{name}: "
    shown = [(key, f) for key, f in record["figures"].items() if key.startswith(begin) and "pearson" in f]
    for i, (_, found) in enumerate(reversed(shown)):
        axes.plot([found["low"], found["high"]], [i, i], color=SOFT, linewidth=1.5)
        axes.plot(found["pearson"], i, "o", color=PALETTE[0], markersize=5)
    axes.axvline(0, color=SOFT, linewidth=0.8, linestyle=(0, (3, 3)))
    axes.set_yticks(range(len(shown)), [key.removeprefix(begin) for key, _ in reversed(shown)])
    axes.set_xlim(-1.05, 1.05)
    axes.set_title("Pearson's correlation with the gap, 90 % interval", loc="left", fontsize=9)
