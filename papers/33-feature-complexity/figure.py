"""The picture: R^2 by layer, importance and the branches' share against K, K against learning time; from the record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from narrows.report.figures import PALETTE, SHAPES, STYLE

KINDS = ("pca", "random", "nmf", "neurons")


def finish(record: Mapping[str, Any], folder: Path) -> None:
    """Write figure.png into `folder`."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    runs: dict[str, list[Mapping[str, Any]]] = {}
    for entry in record["cells"]:
        runs.setdefault(entry["cell"]["features"], []).append(entry["result"])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.5, 6.5), layout="constrained")
        (depth, importance), (flow, time) = figure.subplots(2, 2)
        _depth(depth, runs)
        _importance(importance, runs)
        _flow(flow, runs)
        _time(time, runs.get("neurons", []))
        figure.savefig(folder / "figure.png", dpi=160)


def _depth(axes: Any, runs: Mapping[str, list[Mapping[str, Any]]]) -> None:
    for kind, found in runs.items():
        for j, run in enumerate(found if kind in KINDS else ()):
            axes.plot(run["mean R2"], **_style(kind), linewidth=1, alpha=0.8, label=_label(kind) if j == 0 else None)
    axes.set_title("mean held-out R² of the features", loc="left", fontsize=9)
    axes.set_xlabel("layer (0: embedding or input)")
    axes.set_ylim(0, 1.03)
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def _importance(axes: Any, runs: Mapping[str, list[Mapping[str, Any]]]) -> None:
    for kind in ("pca", "neurons"):
        for j, run in enumerate(runs.get(kind, ())):
            # Beside the largest of each run, as heads differ in scale.
            share = [value / max(run["importance"]) for value in run["importance"]]
            axes.plot(run["K"], share, **_style(kind), linestyle="", alpha=0.5, label=_label(kind) if j == 0 else None)
    axes.set_title("importance, as a share of the largest", loc="left", fontsize=9)
    axes.set_xlabel("complexity K")
    axes.set_yscale("log")
    axes.legend(frameon=False, fontsize=8)


def _flow(axes: Any, runs: Mapping[str, list[Mapping[str, Any]]]) -> None:
    for kind in ("pca", "random", "nmf"):
        for j, run in enumerate(runs.get(kind, ())):
            share = run["flow"]["branch's share by feature"]
            axes.plot(run["K"], share, **_style(kind), linestyle="", alpha=0.5, label=_label(kind) if j == 0 else None)
    axes.set_title("branches' share of CKA, mean over 12 residual blocks", loc="left", fontsize=9)
    axes.set_xlabel("complexity K")
    axes.legend(frameon=False, fontsize=8)


def _time(axes: Any, runs: list[Mapping[str, Any]]) -> None:
    times = sorted({t for run in runs for t in run["times"]})
    for i, run in enumerate(runs):
        places = [times.index(t) + 0.5 * (i / len(runs) - 0.5) for t in run["learning time"]]
        axes.plot(places, run["K"], **_style("neurons"), linestyle="", alpha=0.4)
    axes.set_xticks(range(len(times)), [f"{t:g}" for t in times])
    axes.set_title("digits: complexity K by learning time", loc="left", fontsize=9)
    axes.set_xlabel("epoch at which a feature can be read")


def _label(kind: str) -> str:
    return "digits: neurons" if kind == "neurons" else f"sentences: {kind}"


def _style(kind: str) -> dict[str, Any]:
    i = KINDS.index(kind)
    return {"color": PALETTE[i], "marker": SHAPES[i], "markersize": 4}
