"""The picture of the finished experiment, from its record alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from narrows.report.figures import INK, LINE, PALETTE, SHAPES, SOFT, STYLE

METHODS = ("wpc", "wpc, two-sided", "cpc, decay", "cpc", "untrained", "cpc, cosine")


def finish(record: Mapping[str, Any], folder: Path) -> None:
    """Write figure.png: accuracy against the number of digits, and against the batch at 4 digits."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        for axes, key in ((left, "digits"), (right, "batch")):
            for i, method in enumerate(METHODS):
                _line(axes, record, method, key, PALETTE[i], SHAPES[i])
            axes.grid(axis="y", color=LINE, linewidth=0.7)
            axes.set_axisbelow(True)
        left.set_xticks(sorted({entry["cell"]["digits"] for entry in record["cells"]}))
        left.set_xlabel("digits in a row (each shares ln 10 nats), batch 64")
        left.set_title("Accuracy of a linear probe for the digits", loc="left", fontsize=9, color=SOFT)
        right.set_xscale("log", base=2)
        batches = sorted({entry["cell"]["batch"] for entry in record["cells"]})
        right.set_xticks(batches, [str(b) for b in batches])
        right.set_xlabel("batch, at 4 digits")
        left.legend(frameon=False, fontsize=8, labelcolor=INK)
        figure.savefig(folder / "figure.png", dpi=160)


def _line(axes: Any, record: Mapping[str, Any], method: str, key: str, color: str, shape: str) -> None:
    points: dict[int, list[float]] = {}
    for entry in record["cells"]:
        cell = entry["cell"]
        wanted = cell["batch"] == 64 if key == "digits" else cell["digits"] == 4
        if cell["method"] == method and wanted:
            points.setdefault(cell[key], []).append(entry["result"]["accuracy"])
    at = sorted(points)
    if key == "batch" and len(at) < 2:
        return
    means = [fmean(points[p]) for p in at]
    spread = [stdev(points[p]) if len(points[p]) > 1 else 0.0 for p in at]
    axes.errorbar(at, means, spread, color=color, marker=shape, markersize=5, capsize=2.5, linewidth=1.4, label=method)
