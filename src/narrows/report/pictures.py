"""The pictures of one run: information over training, reconstruction, loss and cost curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from narrows.report import words
from narrows.report.svg import Line, Rule, line_chart, thin

MOMENTS = 120  # steps kept for the slider: more than a hand can tell apart
_STAGES = {"finetune": "Fine-tuning the dense model", "prune": "Pruning", "heal": "Healing"}


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def _quantile(values: Sequence[float], share: float) -> float:
    """The value at `share` of a list of quantiles at evenly spaced shares from 0 to 1."""
    at = share * (len(values) - 1)
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (at - low) * (values[high] - values[low])


def information(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Nats per layer over the steps, thinned for the slider, and per head and neuron at the end.

    Returns None where the method learned no gates. `neurons_quantiles` of the record are values at evenly spaced
    shares from 0 (the least informative neuron) to 1.
    """
    info = record["information"]
    if info is None or not info["steps"] or not info["layers"]:
        return None
    total = len(info["steps"])
    wanted = sorted({round(i * (total - 1) / max(1, min(MOMENTS, total) - 1)) for i in range(min(MOMENTS, total))})
    steps = [info["steps"][i] for i in wanted]
    kinds = {
        kind: [[_round(layer[kind][i]) for i in wanted] for layer in info["layers"]] for kind in ("attention", "ffn")
    }
    peaks = {kind: max((v for layer in table for v in layer), default=0.0) or 1.0 for kind, table in kinds.items()}
    totals = {kind: [sum(layer[i] for layer in table) for i in range(len(steps))] for kind, table in kinds.items()}
    units = _units(info["layers"])
    first, last = (totals["attention"][i] + totals["ffn"][i] for i in (0, -1))
    charts = [
        line_chart(
            [Line(kind, list(zip(steps, totals[kind], strict=True)))],
            x_label="pruning step",
            y_label=f"{name}, all layers (nats)",
            marker=True,
            alternative=f"Information in {name} over the pruning steps: {words.nats(totals[kind][0])} at step "
            f"{steps[0]}, {words.nats(totals[kind][-1])} at step {steps[-1]}.",
        )
        for kind, name in (("attention", "attention"), ("ffn", "feed-forward"))
    ]
    rows = [
        {
            "index": layer["layer"],
            **{
                kind: {
                    "first": kinds[kind][i][0] / peaks[kind],
                    "last": kinds[kind][i][-1] / peaks[kind],
                    "value": words.nats(kinds[kind][i][-1]),
                    "start": words.nats(kinds[kind][i][0]),
                }
                for kind in ("attention", "ffn")
            },
        }
        for i, layer in enumerate(info["layers"])
    ]
    richest = max(info["layers"], key=lambda x: x["attention"][-1] + x["ffn"][-1])
    return {
        "steps": steps,
        "kinds": kinds,
        "peaks": peaks,
        "peak_text": {k: words.nats(v) for k, v in peaks.items()},
        "rows": rows,
        "charts": [chart.markup for chart in charts],
        "units": units,
        "richest": richest["layer"],
        "first": words.nats(first),
        "last": words.nats(last),
        "data": {
            "steps": steps,
            "peaks": peaks,
            **kinds,
            "left": charts[0].left,
            "right": charts[0].right,
            "low": charts[0].axis.low,
            "high": charts[0].axis.high,
        },
    }


def _units(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Nats per head and the spread over neurons at the end of pruning; None where no layer reports them."""
    most_head = max((v for layer in layers for v in layer.get("heads") or ()), default=0.0) or 1.0
    most_neuron = max((v for layer in layers for v in layer.get("neurons_quantiles") or ()), default=0.0) or 1.0
    rows = []
    for layer in layers:
        spread = layer.get("neurons_quantiles") or []
        five = [_quantile(spread, share) for share in (0, 0.25, 0.5, 0.75, 1)] if spread else []
        rows.append(
            {
                "index": layer["layer"],
                "heads": [{"value": words.nats(v), "share": v / most_head} for v in layer.get("heads") or ()],
                "spread": [v / most_neuron for v in five],
                "said": [words.nats(v) for v in five],
            }
        )
    if not any(row["heads"] or row["spread"] for row in rows):
        return None
    return {"rows": rows, "most_head": words.nats(most_head), "most_neuron": words.nats(most_neuron)}


def reconstruction(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Share of the dense activations' variance that the rebuilt model gives, per site; None without a rebuild."""
    sites = [site for site in record["reconstruction"] if words.finite(site["variance"])]
    if not sites:
        return None
    rows = []
    for site in sites:
        kind = next((kind for kind in ("attention", "ffn") if kind in site["site"].split()), "kept")
        rows.append(
            {
                "site": words.sentence(words.site(site["site"])),
                "kind": kind,
                "share": min(1.0, max(0.0, site["variance"])),
                "text": f"{site['variance']:.3f}",
            }
        )
    worst, best = (pick(sites, key=lambda site: site["variance"]) for pick in (min, max))
    return {
        "rows": rows,
        "worst": words.site(worst["site"]),
        "worst_text": f"{worst['variance']:.3f}",
        "best": words.site(best["site"]),
        "best_text": f"{best['variance']:.3f}",
    }


def curves(record: Mapping[str, Any]) -> dict[str, Any]:
    """A loss chart per training stage, and the cost under the gates with the budget line where it was followed."""
    stages: dict[str, list[Mapping[str, Any]]] = {}
    for entry in record["history"]:
        stages.setdefault(entry["stage"], []).append(entry)
    charts, shaded = [], False
    for stage, entries in stages.items():
        points = [(float(e["step"]), float(e["loss"])) for e in entries if words.finite(e.get("loss"))]
        if not points:
            continue
        title = _STAGES.get(stage, words.sentence(stage.replace("_", " ")))
        means, band = thin(points)
        shaded = shaded or bool(band)
        charts.append(
            {
                "title": title,
                "chart": line_chart(
                    [Line("kept", means, band)],
                    x_label="training step",
                    y_label="loss",
                    alternative=f"{title}, loss: {points[0][1]:.3g} at step {points[0][0]:.0f}, "
                    f"{points[-1][1]:.3g} at step {points[-1][0]:.0f}.",
                ).markup,
            }
        )
    return {"losses": charts, "shaded": shaded, "cost": _cost_chart(record, stages)}


def _cost_chart(record: Mapping[str, Any], stages: Mapping[str, list[Mapping[str, Any]]]) -> dict[str, Any] | None:
    """The size that the gates leave, over the steps of the stage that follows it; None where no stage does.

    A history entry says it as `cost` (parameters) or as `size` (share of what the budgets allow, 1 at the limit).
    """
    limits = [float(budget["limit"]) for budget in record["budgets"] if budget["measure"] == "params"]
    forms: tuple[tuple[str, str, list[Rule], Callable[[float], str]], ...] = (
        ("cost", "parameters under the gates", [Rule(v, f"budget: {words.short(v)}") for v in limits], words.tick),
        ("size", "size under the gates, as a share of the budget", [Rule(1.0, "budget")], words.percent),
    )
    for entries in stages.values():
        for key, label, rules, write in forms:
            points = [(float(e["step"]), float(e[key])) for e in entries if words.finite(e.get(key))]
            if len(points) < 2:
                continue
            (first, start), (last, end) = points[0], points[-1]
            said = f"{words.sentence(label)}: {write(start)} at step {first:.0f}, {write(end)} at step {last:.0f}"
            said += "".join(f"; {rule.label}" for rule in rules)
            chart = line_chart(
                [Line("kept", thin(points)[0])],
                x_label="training step",
                y_label=label,
                rules=rules,
                write=write,
                alternative=f"{said}.",
            )
            return {"budget": bool(rules), "chart": chart.markup}
    return None
