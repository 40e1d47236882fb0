"""The picture: R^2 by layer, K against importance, K against learning time; from the record alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from narrows.report.figures import PALETTE, SHAPES, STYLE


def finish(record: Mapping[str, Any], folder: Path) -> None:
    """Write figure.png into `folder`."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 3.4), layout="constrained")
        depth, importance, time = figure.subplots(1, 3)
        groups: dict[str, list[Mapping[str, Any]]] = {}
        for entry in record["cells"]:
            groups.setdefault(entry["cell"]["features"], []).append(entry["result"])
        for i, (kind, runs) in enumerate(groups.items()):
            style = {"color": PALETTE[i], "marker": SHAPES[i], "markersize": 4}
            label = "digits: neurons" if kind == "neurons" else f"sentences: {kind}"
            for j, run in enumerate(runs):
                depth.plot(run["mean R2"], **style, linewidth=1, alpha=0.8, label=label if j == 0 else None)
            if kind in ("pca", "neurons"):
                # Each seed's importance beside its own largest, as heads differ in scale.
                for j, run in enumerate(runs):
                    share = [v / max(run["importance"]) for v in run["importance"]]
                    importance.plot(run["K"], share, **style, linestyle="", alpha=0.55, label=label if j == 0 else None)
        for run in groups.get("neurons", ()):
            time.plot(
                [max(t, 0.5) for t in run["learning time"]],
                run["K"],
                SHAPES[3],
                color=PALETTE[3],
                markersize=4,
                alpha=0.4,
            )
        depth.set_title("mean held-out R² of the features, by layer (0: embedding or input)", loc="left", fontsize=8)
        depth.set_xlabel("layer")
        depth.legend(frameon=False, fontsize=8)
        importance.set_title("importance (share of the largest) against complexity K", loc="left", fontsize=8)
        importance.set_xlabel("K")
        importance.set_yscale("log")
        importance.legend(frameon=False, fontsize=8)
        time.set_title("digits: K against the epoch at which a feature was learned", loc="left", fontsize=8)
        time.set_xlabel("epoch (0 drawn at 0.5)")
        time.set_xscale("log")
        figure.savefig(folder / "figure.png", dpi=160)
