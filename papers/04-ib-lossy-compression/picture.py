"""The picture of the finished experiment, from its record alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from narrows.report.figures import PALETTE, SHAPES, SOFT, STYLE

SHOWN = {
    "centres ksg": "KSG on the centres",
    "raw ksg": "KSG on raw images",
    "pca-5 ksg": "KSG on PCA-5",
    "pca-2 entropies": "entropies on PCA-2",
    "ae-2 entropies": "entropies on autoencoder-2",
    "mine raw": "MINE on raw images",
    "infonce raw": "InfoNCE on raw images",
}


def finish(record: Mapping[str, Any], folder: Path) -> None:
    """Write figure.png into `folder`."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 6.4), layout="constrained")
        axes = figure.subplots(2, 2)
        for place, noise in zip(axes[0], (0.0, 1.0), strict=True):
            _bumps(place, record["figures"], noise)
        axes[0, 0].legend(frameon=False, fontsize=7)
        _input(axes[1, 0], record)
        _codes(axes[1, 1], record)
        figure.savefig(folder / "figure.png", dpi=150)


def _bumps(axes: Any, figures: Mapping[str, Any], noise: float) -> None:
    for i, (name, label) in enumerate(SHOWN.items()):
        points = [
            (nats, figures[key]["mean"], figures[key]["spread"] or 0.0)
            for nats in (0, 2, 4, 8)
            if (key := f"{name}, noise {noise}, {nats} nats") in figures
        ]
        if points:
            x, y, spread = zip(*points, strict=True)
            axes.errorbar(x, y, spread, color=PALETTE[i], marker=SHAPES[i], ms=4, lw=1.2, label=label)
    axes.plot([0, 8], [0, 8], color=SOFT, lw=0.8, ls=":")
    axes.set(xlabel="true nats between the centres", ylabel="estimated nats", title=f"Bumps, pixel noise {noise}")


def _input(axes: Any, record: Mapping[str, Any]) -> None:
    ways = (("code 4", "codes of 4, entropies", "-"), ("infonce", "InfoNCE, raw", ":"), ("raw ksg", "KSG, raw", "--"))
    lines = [
        (f"I(X;{layer}) {key}", f"{layer}: {label}", i, style)
        for i, layer in enumerate(("L1", "L3"))
        for key, label, style in ways
    ]
    _courses(axes, record, lines)
    axes.set(ylabel="nats", title="Digits: I(image; layer), every seed")


def _codes(axes: Any, record: Mapping[str, Any]) -> None:
    lines = [(f"I(X;L3) code {code}", f"I(image; L3), codes of {code}", i, "-") for i, code in enumerate((2, 4, 8))]
    _courses(axes, record, [*lines, ("I(L3;Y) code 4", "I(L3; label), codes of 4", 3, "-")])
    axes.axhline(np.log(10), color=SOFT, lw=0.8, ls=":")
    axes.set(ylabel="nats", title="Digits: the logits by codes (dotted: ln 10)")


def _courses(axes: Any, record: Mapping[str, Any], lines: list[tuple[str, str, int, str]]) -> None:
    runs = [entry["result"]["points"] for entry in record["cells"] if entry["cell"]["part"] == "plane"]
    for key, label, i, style in lines:
        for number, points in enumerate(runs):
            shown = [(p["epoch"], p[key]) for p in points if key in p]
            if shown:
                x, y = zip(*shown, strict=True)
                axes.plot(
                    x, y, style, color=PALETTE[i], lw=1.1, marker=SHAPES[i], ms=3, label=label if not number else None
                )
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xticks([0, 1, 2, 5, 10, 30, 100], ["0", "1", "2", "5", "10", "30", "100"])
    axes.set_xlabel("epoch")
    axes.legend(frameon=False, fontsize=7)
