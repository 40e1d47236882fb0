"""Figures for pages that are not the report: the picture of one run, and the frontier of many, as image files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from narrows.core.errors import NarrowsError
from narrows.core.frontier import Frontier, Point, Summary
from narrows.report import view, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELLED = 14  # layers that have room for a number each
INK, SOFT, LINE, EMPTY = "#1b2327", "#566169", "#dfdcd4", "#e6e3dc"
KEPT, COST, ATTENTION, FFN = "#0e7490", "#66727a", "#1d6fb8", "#b8560f"
# Okabe and Ito's palette, told apart with any colour vision; shapes repeat the distinction for print.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7f7f7f")
SHAPES = ("o", "s", "^", "D", "v", "P", "X")
STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "axes.labelcolor": SOFT, "axes.edgecolor": SOFT,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "xtick.color": SOFT,
    "ytick.color": SOFT, "xtick.labelsize": 8, "ytick.labelsize": 8, "figure.facecolor": "white",
    "savefig.facecolor": "white", "svg.hashsalt": "narrows",
}  # fmt: skip


def frontier_figure(frontier: Frontier, path: str | Path) -> Path:
    """Draw cost (log scale) against quality: every run faint, mean and spread per label, the Pareto line.

    Args:
        frontier: at least one point with positive cost.
        path: where to write; the suffix says the format (.png at twice the screen's resolution, .svg, .pdf).

    Raises:
        NarrowsError: no points, or a cost that is not positive.
    """
    if not frontier.points or min(point.cost for point in frontier.points) <= 0:
        raise NarrowsError("cannot draw this frontier: it needs one point or more, and costs above zero")
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 4.3), layout="constrained")
        axes = figure.add_subplot()
        axes.set_xscale("log")
        labels = frontier.by_label()
        means = [row for rows in labels.values() for row in rows]
        for i, (label, rows) in enumerate(labels.items()):
            color, shape = PALETTE[i % len(PALETTE)], SHAPES[i % len(SHAPES)]
            own = [p for p in frontier.points if p.label == label]
            if len(own) > len(rows):
                axes.plot(
                    [p.cost for p in own],
                    [p.quality for p in own],
                    shape,
                    color=color,
                    markersize=3.5,
                    alpha=0.3,
                    markeredgewidth=0,
                    zorder=2,
                )
            axes.errorbar(
                [r.cost for r in rows],
                [r.quality for r in rows],
                [r.spread or 0.0 for r in rows],
                color=color,
                marker=shape,
                markersize=6,
                linewidth=1.5,
                elinewidth=1.2,
                capsize=2.5,
                markeredgecolor="white",
                markeredgewidth=0.8,
                label=label,
                zorder=3,
            )
        best = _best(means)
        if len(best) > 1:
            axes.plot(
                [p.cost for p in best],
                [p.quality for p in best],
                drawstyle="steps-post",
                color=INK,
                linewidth=1,
                linestyle=(0, (4, 3)),
                alpha=0.55,
                zorder=1,
                label="Pareto line of the means",
            )
        axes.set_xlabel(f"{frontier.cost_name} (log scale)")
        axes.set_title(frontier.quality_name, loc="left", fontsize=9, color=SOFT)
        axes.grid(axis="y", color=LINE, linewidth=0.7)
        axes.set_axisbelow(True)
        ticks = _apart(sorted(row.cost for row in means))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words.short(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        if len(ticks) <= 8:
            axes.set_xticks(ticks)
            axes.minorticks_off()
        several = any(row.count > 1 for row in means)
        axes.legend(
            frameon=False,
            fontsize=8.5,
            loc="lower right",
            title="mean ± standard deviation" if several else None,
            title_fontsize=8,
        )
        return _save(figure, path)


def _best(means: list[Summary]) -> tuple[Point, ...]:
    """The Pareto line of the means. Runs of one budget count as equally dear: their sizes differ by a hair only."""

    def cost(row: Summary) -> float:
        if row.budget is None:
            return row.cost
        return fmean(other.cost for other in means if other.budget == row.budget)

    return Frontier([Point(cost(row), row.quality, row.label) for row in means], "", "").pareto()


def summary_figure(record: Mapping[str, Any], path: str | Path) -> Path:
    """Draw one run in one picture: what it keeps and costs beside the dense model, and what was kept per layer.

    Args:
        record: a run record (schema 1).
        path: where to write; the suffix says the format (.png at twice the screen's resolution, .svg, .pdf).

    Raises:
        NarrowsError: this is no run record of schema 1.
    """
    view.check(record)
    import matplotlib as mpl
    from matplotlib.figure import Figure

    layers = view.layers(record)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.4))
        figure.text(
            0.025, 0.95, _two_lines(view.headline(record)), fontsize=13, fontweight="bold", va="top", linespacing=1.35
        )
        _shares(figure.add_axes((0.165, 0.06, 0.29, 0.63)), record)
        right = figure.add_axes((0.535, 0.06, 0.44, 0.63))
        _anatomy(right, layers, view.parts(record))
        return _save(figure, path)


def _two_lines(text: str) -> str:
    """`text` broken where both lines come out about equally long."""
    spaces = [i for i, letter in enumerate(text) if letter == " "]
    if len(text) < 70 or not spaces:
        return text
    cut = min(spaces, key=lambda i: abs(i - 0.56 * len(text)))
    return f"{text[:cut]}\n{text[cut + 1 :]}"


def _apart(values: list[float]) -> list[float]:
    """The values that stand far enough apart on a log axis to carry a label each."""
    kept: list[float] = []
    for value in values:
        if not kept or value / kept[-1] > 1.25:
            kept.append(value)
    return kept


def _shares(axes: Axes, record: Mapping[str, Any]) -> None:
    rows = [row for row in view.rows(record) if row.share is not None]
    top = max(1.0, max(row.share or 0.0 for row in rows))
    for i, row in enumerate(rows):
        share = row.share or 0.0
        color = KEPT if row.kind == "quality" else COST
        axes.barh(-i, 1, height=0.56, color=EMPTY)
        axes.barh(-i, share, height=0.56, color=color)
        inside = share > 0.6 * top
        axes.text(
            share - 0.015 * top if inside else share + 0.02 * top,
            -i,
            words.percent(share),
            va="center",
            ha="right" if inside else "left",
            color="white" if inside else color,
            fontweight="bold",
            fontsize=9,
        )
        name = "Without embeddings" if row.name == "Parameters without embeddings" else row.name
        axes.text(-0.03 * top, -i + 0.02, name, va="bottom", ha="right", fontsize=8.8)
        axes.text(
            -0.03 * top,
            -i - 0.04,
            f"{_compact(row.before)} → {_compact(row.after)}",
            va="top",
            ha="right",
            fontsize=7.2,
            color=SOFT,
        )
    axes.set_xlim(0, top)
    axes.set_ylim(-len(rows) + 0.5, 0.6)
    axes.set_axis_off()
    axes.set_title("After, as a share of before", loc="left", fontsize=9.5, fontweight="bold", pad=18)


def _compact(text: str) -> str:
    """A table entry without its error, large whole numbers shortened."""
    value = text.split(" ±")[0]
    digits = value.replace(",", "")
    return words.short(float(digits)) if digits.isdigit() else value


def _anatomy(axes: Axes, layers: list[view.LayerView], parts: list[view.Part]) -> None:
    heads_of = max(len(layer.heads) for layer in layers)
    cells, gap = 0.42, 0.06  # the heads take this much of the width; the neurons the rest
    cell = cells / heads_of
    for i, layer in enumerate(layers):
        left = cells + gap
        room = 1 - left
        if i % -(-len(layers) // LABELLED) == 0:
            axes.text(-0.02, -i, str(layer.index), ha="right", va="center", fontsize=8, color=SOFT)
        if layer.kept_heads:
            for head, on in enumerate(layer.heads):
                axes.barh(-i, cell * 0.84, left=head * cell, height=0.6, color=ATTENTION if on else EMPTY)
        else:
            _removed(axes, 0, cells - 0.16 * cell, -i)
        if layer.neurons:
            axes.barh(-i, room, left=left, height=0.6, color=EMPTY)
            axes.barh(-i, room * layer.share, left=left, height=0.6, color=FFN)
            if len(layers) <= LABELLED:
                inside = layer.share > 0.8
                axes.text(
                    left + room * layer.share + (-0.012 if inside else 0.012),
                    -i,
                    words.percent(layer.share),
                    va="center",
                    ha="right" if inside else "left",
                    fontsize=7.5,
                    color="white" if inside else SOFT,
                )
        else:
            _removed(axes, left, room, -i)
    top = 0.5 + 0.02 * len(layers)
    axes.text(0, top, "attention heads", fontsize=8, color=ATTENTION)
    axes.text(cells + gap, top, "feed-forward neurons", fontsize=8, color=FFN)
    axes.text(-0.02, top, "layer", fontsize=8, color=SOFT, ha="right")
    sizes = " · ".join(f"{part.name.lower()} {part.kept:,} of {part.of:,}" for part in parts)
    axes.text(0, -len(layers) + 0.1, sizes, fontsize=7.4, color=SOFT, va="top")
    axes.set_xlim(0, 1)
    axes.set_ylim(-len(layers) - 0.1, 0.6)
    axes.set_axis_off()
    axes.set_title("What was kept", loc="left", fontsize=9.5, fontweight="bold", pad=18)


def _removed(axes: Axes, left: float, width: float, y: float) -> None:
    axes.barh(y, width, left=left, height=0.6, facecolor="white", edgecolor=LINE, hatch="////", linewidth=0)
    axes.text(
        left + width / 2,
        y,
        "block removed",
        ha="center",
        va="center",
        fontsize=7.5,
        color=SOFT,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
    )


def _save(figure: Figure, path: str | Path) -> Path:
    """Write to a temporary name and rename, so that a reader never sees half a picture."""
    path = Path(path)
    kind = path.suffix.lstrip(".").lower()
    if kind not in ("png", "svg", "pdf"):
        raise NarrowsError(f"cannot draw {path.name}: its name should end in .png, .svg or .pdf")
    temporary = path.absolute().with_name(f".{path.name}.{uuid4().hex[:12]}.tmp")
    dates = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    try:
        figure.savefig(temporary, format=kind, dpi=200, metadata=dates[kind])
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
