"""What a measurement of layers says: profiles, the information plane over training, spectra, cautions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from narrows.core.errors import NarrowsError
from narrows.report import words
from narrows.report.svg import Line, Rule, line_chart, padded, plane

NAMES = {
    "label": ("About the label", "lower bound on I(T;Y)"),
    "input": ("About the input", "I(X; T + noise), upper bound"),
    "spectrum": ("Spectral entropy", "diffusion spectral entropy"),
}
_NUMBER = re.compile(r"[-+]?\d[\d.,e+-]*")
CSS = ("kept", "ffn")
_REQUIRED = ("command", "environment", "data", "measures", "columns", "models", "moments", "seconds")


def check(record: Mapping[str, Any]) -> None:
    """NarrowsError where this is no record of a measurement."""
    missing = [key for key in _REQUIRED if key not in record]
    if record.get("kind") != "measurement" or record.get("schema") != 1 or missing:
        what = f"it lacks {', '.join(missing)}" if missing else "its kind is not measurement, schema 1"
        raise NarrowsError(f"this is no record of `narrows measure`: {what}")


def short(layer: str) -> str:
    """A layer's name as a picture has room for it."""
    parts = [part for part in layer.split(".") if part]
    if parts and parts[-1].isdigit():
        return f"layer {parts[-1]}"
    return "embeddings" if "embeddings" in parts else parts[-1] if parts else layer


def legend(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """The models and the colours they are drawn in."""
    return [{"name": m["name"], "class": m["class"], "css": css} for m, css in zip(record["models"], CSS, strict=False)]


def profiles(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One picture for each measure: its values over the layers, with two standard errors, a line for each model."""
    found = []
    for name in record["measures"]:
        lines, table = [], []
        for model, css in zip(record["models"], CSS, strict=False):
            values = model["values"][name]
            kept = [(i, v) for i, v in enumerate(values) if "value" in v]
            table.append([cell(v) for v in values])
            if kept:
                lines.append(Line(css, [(i, v["value"]) for i, v in kept], _band([v for _, v in kept])))
        title, says = _titles(name)
        rules = _ceiling(record, name)
        chart = None
        if lines:
            label = f"{says} (nats)" if _unit(record, name) == "nats" else says
            chart = line_chart(
                lines,
                x_label="layer, from input to output",
                y_label=label,
                rules=rules,
                alternative=f"{title} over the layers. {_spoken(record, name)}",
            ).markup
        found.append({"name": name, "title": title, "says": says, "chart": chart, "table": table})
    return found


def the_plane(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The information plane: `input` against `label`, a mark for each layer, which moves over training."""
    if not {"input", "label"} <= set(record["measures"]):
        return None
    model, *rest = record["models"]
    layers = model["layers"]
    moments = record["moments"] or [{"step": 0, "layers": _by_layer(model)}]
    tracks: list[list[tuple[float, float] | None]] = [
        [_point(moment["layers"][layer]) for moment in moments] for layer in layers
    ]
    others = [
        (at, f"{other['name']}: {short(layer)}")
        for other in rest
        for layer, values in _by_layer(other).items()
        if (at := _point(values)) is not None
    ]
    points = [p for track in tracks for p in track if p is not None]
    if not points:
        return None
    points += [at for at, _ in others]
    x = padded([a for a, _ in points], "about the input (nats)", zero=True)
    y = padded([b for _, b in points], "about the label (nats)", zero=True)
    says = "The information plane at the last moment."
    drawing = plane(x, y, tracks, [short(layer) for layer in layers], says, others)
    steps = [moment["step"] for moment in moments]
    return {
        "chart": drawing.markup,
        "steps": steps,
        "moving": len(moments) > 1,
        "others": [other["name"] for other in rest] if others else [],
        "data": {"steps": steps, "tracks": drawing.places},
    }


def over_time(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How each measure of each layer moved over training."""
    moments = record["moments"]
    if len(moments) < 2:
        return []
    layers = record["models"][0]["layers"]
    found = []
    for name in record["measures"]:
        lines = []
        for i, layer in enumerate(layers):
            values = [(m["step"], m["layers"][layer][name]) for m in moments]
            points = [(step, v["value"]) for step, v in values if "value" in v]
            if points:
                lines.append(Line(f"shade s{_shade(i, len(layers))}", points))
        if lines:
            title, says = _titles(name)
            chart = line_chart(
                lines, x_label="training step", y_label=says, alternative=f"{title} of each layer over training."
            )
            found.append({"title": title, "chart": chart.markup})
    return found


def spectra(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How fast the variance falls off over the principal directions, per model, and how many directions hold 90 %."""
    found = []
    for model in record["models"]:
        layers = model["layers"]
        lines = []
        for i, shares in enumerate(model["spectra"]):
            total, points = 0.0, []
            for k, share in enumerate(shares, start=1):
                total += share
                points.append((float(k), total))
            lines.append(Line(f"shade s{_shade(i, len(layers))}", points))
        chart = line_chart(
            lines,
            x_label="principal directions",
            y_label="share of the variance",
            alternative=f"Share of variance over the principal directions of each layer of {model['name']}.",
        )
        found.append(
            {
                "name": model["name"],
                "chart": chart.markup,
                "rows": [(short(n), directions(s)) for n, s in zip(layers, model["spectra"], strict=True)],
            }
        )
    return found


def directions(shares: Sequence[float], wanted: float = 0.9) -> str:
    """How many directions hold a share of the variance, as text."""
    total = 0.0
    for count, share in enumerate(shares, start=1):
        total += share
        if total >= wanted:
            return str(count)
    return f"over {len(shares)}"


def cautions(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the estimates say about their own limits: the first text of a kind, with the layers that say the like."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for model in record["models"]:
        for name in record["measures"]:
            for layer, value in zip(model["layers"], model["values"][name], strict=True):
                said = [{"trouble": "no estimate", "text": value["error"]}] if "error" in value else value["cautions"]
                for caution in said:
                    place = f"{model['name']} {short(layer)}" if len(record["models"]) > 1 else short(layer)
                    measure, trouble, text = NAMES.get(name, (name,))[0], caution["trouble"], caution["text"]
                    first = {"measure": measure, "trouble": trouble, "text": text, "places": []}
                    found.setdefault((measure, trouble, _NUMBER.sub("", text)), first)["places"].append(place)
    return list(found.values())


def headline(record: Mapping[str, Any]) -> str:
    """One sentence: where the first model keeps most about the label."""
    model, data = record["models"][0], record["data"]["name"]
    values = model["values"].get("label")
    known = [(v["value"], i) for i, v in enumerate(values or []) if "value" in v]
    if not known:
        return f"What the {len(model['layers'])} layers of {model['name']} keep of {data}"
    best, at = max(known)
    return f"{model['name']} keeps most about the label of {data} in {short(model['layers'][at])}: {words.nats(best)}"


def _titles(name: str) -> tuple[str, str]:
    """The title of a measure's picture, and what its axis says."""
    return NAMES.get(name, (name.replace("_", " "), name))


def _shade(i: int, count: int) -> int:
    return round(9 * i / max(1, count - 1))


def cell(value: Mapping[str, Any]) -> str:
    """An estimate with its standard error, as a table has it."""
    if "error" in value:
        return "–"
    error = value["standard_error"]
    text = f"{value['value']:.3f}"
    return text if error is None else f"{text} ± {error:.3f}"


def _band(values: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    if all(v["standard_error"] is None for v in values):
        return []
    return [
        (v["value"] - 2 * (v["standard_error"] or 0.0), v["value"] + 2 * (v["standard_error"] or 0.0)) for v in values
    ]


def _ceiling(record: Mapping[str, Any], name: str) -> list[Rule]:
    most = record["data"]["label_entropy"]
    return [Rule(most, "entropy of the label")] if name == "label" and most is not None else []


def _unit(record: Mapping[str, Any], name: str) -> str:
    values = (v for model in record["models"] for v in model["values"][name] if "unit" in v)
    return str(next(values, {"unit": "nats"})["unit"])


def _spoken(record: Mapping[str, Any], name: str) -> str:
    said = []
    for model in record["models"]:
        values = zip(model["layers"], model["values"][name], strict=True)
        said.append(f"{model['name']}: " + ", ".join(f"{short(layer)} {cell(v)}" for layer, v in values))
    return ". ".join(said)


def _by_layer(model: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The input and label of each layer of a model, in the order of its layers."""
    sides = (model["values"][name] for name in ("input", "label"))
    return {layer: {"input": a, "label": b} for layer, a, b in zip(model["layers"], *sides, strict=True)}


def _point(values: Mapping[str, Any]) -> tuple[float, float] | None:
    a, b = values["input"], values["label"]
    return (a["value"], b["value"]) if "value" in a and "value" in b else None
