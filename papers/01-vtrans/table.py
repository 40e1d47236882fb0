"""The tables (`results.md`) and the pictures of the finished experiment, from its record alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from narrows.core.files import write_text
from narrows.core.frontier import Frontier, Point
from narrows.report import frontier_figure

Record = Mapping[str, Any]
Figure = Mapping[str, Any]


def finish(record: Record, folder: Path) -> None:
    """Write results.md, frontier.png (rebuilt) and frontier-cut.png (plain cut) into `folder`.

    The models trained from scratch are in the tables only: they stay at chance, and would flatten the rest.
    """
    write_text(folder / "results.md", "\n".join(_page(record)) + "\n")
    first = record["cells"][0]["cell"]["data"]
    for rebuilt, name in ((True, "frontier.png"), (False, "frontier-cut.png")):
        frontier_figure(_frontier(record, first, rebuilt), folder / name)


def _frontier(record: Record, data: str, rebuilt: bool) -> Frontier:
    points = [
        Point(
            float(cell["budget"]),
            result["quality"],
            cell["method"],
            cell["seed"],
            {"budget": f"{cell['budget']}%"},
        )
        for cell, result in _main(record, data)
        if cell["rebuild"] == rebuilt and cell["method"] != "scratch"
    ]
    dense = _of(record, f"{data} dense")["mean"]
    how = "rebuilt and healed" if rebuilt else "cut plainly and healed"
    return Frontier(
        points, "Budget, % of the dense model's parameters", f"Test accuracy, {how}; the dense model has {dense:.3f}"
    )


def _main(record: Record, data: str) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    return [
        (entry["cell"], entry["result"])
        for entry in record["cells"]
        if entry["cell"]["part"] == "main" and entry["cell"]["data"] == data
    ]


def _of(record: Record, name: str) -> Figure:
    found: Figure = record["figures"][name]
    return found


def _page(record: Record) -> list[str]:
    lines = [
        "# Results",
        "",
        f"Written by `run.py` ({record['mode']} mode, {record['seconds'] / 60:.0f} minutes). Verdict: "
        f"**{record['verdict']}**.",
        "",
        "Means over seeds ± half the 95 % t-interval (number of seeds, where above 1). Accuracy or Pearson's "
        "correlation on the test rows.",
    ]
    for data in dict.fromkeys(entry["cell"]["data"] for entry in record["cells"]):
        dense = _number(_of(record, f"{data} dense"))
        for healed in (True, False):
            state = "after healing" if healed else "before healing"
            lines += ["", f"## {data}, {state}", "", f"Dense model: {dense}.", ""]
            lines += _qualities(record, data, "" if healed else ", unhealed")
        lines += ["", f"## {data}, paired differences in points (100 = 1.0)", ""]
        lines += _differences(record, data)
    lines += ["", "## The default of `narrows prune` (one-shot Fisher, rebuilt), 1,200 steps", "", *_targets(record)]
    lines += ["", "## Remedies, one at a time", "", *_rows(record, "remedies")]
    lines += ["", "## Where gates could pay", "", *_rows(record, "gates")]
    lines += ["", "## What was kept, and nats per layer", "", *_kept(record)]
    return lines


def _qualities(record: Record, data: str, suffix: str) -> list[str]:
    main = [cell for cell, _ in _main(record, data)]
    budgets = sorted({cell["budget"] for cell in main}, reverse=True)
    kinds = sorted({(cell["method"], cell["rebuild"]) for cell in main}, key=lambda k: (not k[1], k[0]))
    rows = []
    for method, rebuilt in kinds:
        how = "rebuilt" if rebuilt else "cut"
        names = [f"{data} {budget}% {method}, {how}{suffix}" for budget in budgets]
        rows.append([method, how, *(_number(record["figures"].get(name)) for name in names)])
    return _table(["method", "", *(f"{budget} %" for budget in budgets)], rows)


def _targets(record: Record) -> list[str]:
    figures, end = record["figures"], ", share of dense"
    names = [name.removesuffix(end) for name in figures if name.endswith(end)]
    rows = [[name, _number(figures[name]), _number(figures[name + end])] for name in names]
    return _table(["what", "quality", "share of the dense model's"], rows)


def _differences(record: Record, data: str) -> list[str]:
    rows = []
    for name, figure in record["figures"].items():
        if name.startswith(f"{data} ") and "rows" in figure:
            over = figure["rows"]
            interval = f"{100 * over['low']:+.2f} to {100 * over['high']:+.2f}"
            p = f"{over['p']:.2g}" if "p" in over else ""
            rows.append([name, _number(figure, 100), interval, p])
    return _table(["first - second", "over seeds", "95 % over test rows", "p (McNemar)"], rows)


def _rows(record: Record, part: str) -> list[str]:
    rows = []
    for entry in record["cells"]:
        cell, result = entry["cell"], entry["result"]
        if cell["part"] == part:
            rows.append(
                [
                    cell["method"],
                    "rebuilt" if cell["rebuild"] else "cut",
                    f"{cell['gate_steps']} of {cell['steps']}",
                    f"{result['unhealed']:.4f}",
                    f"{result['quality']:.4f}",
                ]
            )
    return _table(["what", "", "steps on gates", "unhealed", "healed"], rows)


def _kept(record: Record) -> list[str]:
    rows = []
    for entry in record["cells"]:
        cell, result = entry["cell"], entry["result"]
        if "plan" not in result or cell["seed"] != 0 or not cell["rebuild"]:
            continue
        plan = result["plan"]
        nats = result.get("nats", {})
        rows.append(
            [
                f"{cell['data']} {cell['budget']}%",
                cell["method"],
                f"{100 * result['params_share']:.2f} / {100 * result['macs_share']:.2f}",
                f"{plan['width']} / {plan['rank'] or '-'} / {plan['vocab']}",
                _list(plan["heads"]),
                _list(plan["neurons"]),
                _list(round(x) for x in nats.get("attention", ())),
                _list(round(x) for x in nats.get("ffn", ())),
                f"{entry['seconds']:.0f}",
            ]
        )
    head = ["", "method", "params / MACs, %", "width / rank / words", "heads", "neurons", "nats attention"]
    return _table([*head, "nats ffn", "seconds"], rows)


def _list(values: Iterable[Any]) -> str:
    return " ".join(str(value) for value in values)


def _number(figure: Figure | None, scale: float = 1.0) -> str:
    if figure is None:
        return ""
    digits = 2 if scale > 1 else 4
    text = f"{scale * figure['mean']:.{digits}f}"
    if figure["count"] < 2:
        return text
    return f"{text} ± {scale * (figure['high'] - figure['mean']):.{digits}f} ({figure['count']})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
