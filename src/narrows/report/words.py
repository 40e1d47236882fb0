"""Numbers and names as people read them: one place decides digits, units and spaces for every report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

SPACE = "\u00a0"  # keeps a number and its unit on one line
TIMES = "\u00d7"
NOT_MEASURED = "not measured"

METHODS: Mapping[str, str] = {
    "vtrans": "learned gates (VTrans)",
    "auto": "the default method",
    "fisher": "Fisher scores",
    "fisher-iterative": "Fisher scores, measured anew after each of several cuts",
    "taylor": "first-order Taylor scores",
    "magnitude": "weight magnitudes",
    "random": "chance",
}
QUALITIES: Mapping[str, str] = {"pearson": "Pearson correlation", "macro_f1": "macro F1", "f1": "F1"}
MEASURES: Mapping[str, str] = {
    "params": "parameters",
    "macs": "MACs per example",
    "bytes": "bytes on disk",
    "latency": "latency",
}


def finite(value: Any) -> bool:
    """True for a real, finite number (bool is not one)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _significant(value: float, digits: int = 3) -> str:
    """`value` with `digits` significant digits, never in exponent notation; whole numbers keep every digit."""
    if value == 0:
        return "0"
    # Rounding comes first: 9.996 has one digit before the point, what is shown of it, 10.0, has two.
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}")))))
    return f"{value:,.{decimals}f}"


def count(value: float) -> str:
    """A whole number with thousands separators: 2,268,000."""
    return f"{round(value):,}"


def short(value: float) -> str:
    """A large number to three digits: 22.7 M."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{_significant(value / size)}{SPACE}{unit}"
    return _significant(value) if value != round(value) else count(value)


def tick(value: float) -> str:
    """An axis label: short, without superfluous zeros."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{value / size:.4g}{SPACE}{unit}"
    return f"{value:.4g}"


def size(value: float) -> str:
    """Bytes in decimal units: 9.1 MB."""
    return f"{short(value)}B" if abs(value) >= 999.5 else f"{count(value)}{SPACE}B"


def milliseconds(value: float) -> str:
    """A latency to three digits: 4.62 ms."""
    return f"{_significant(value)}{SPACE}ms"


def quality(value: float) -> str:
    """A quality (accuracy, correlation) with three decimals."""
    return f"{value:.3f}"


def percent(ratio: float) -> str:
    """A ratio as a percentage: 98.3 %, 10 %, 0.42 %; what is not quite 100 % gets digits until it shows, up to four."""
    value = 100 * ratio
    text = f"{value:.1f}" if abs(value) >= 1 or value == 0 else f"{value:.2g}"
    if float(text) == 100 and value != 100:
        text = next((t for t in (f"{value:.{d}f}" for d in (2, 3)) if float(t) != 100), f"{value:.4f}")
    return f"{text.removesuffix('.0')}{SPACE}%"


def times(ratio: float) -> str:
    """A factor: 6.8 x."""
    return f"{ratio:.0f}{SPACE}{TIMES}" if ratio >= 100 else f"{ratio:.1f}{SPACE}{TIMES}"


def duration(seconds: float) -> str:
    """A length of time: 1.4 s, 2 min 14 s, 1 h 3 min."""
    if seconds < 59.95:
        return f"{seconds:.1f}{SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min {rest}{SPACE}s"
    return f"{minutes // 60}{SPACE}h {minutes % 60}{SPACE}min"


def nats(value: float) -> str:
    """An amount of information: 41.2 nats."""
    return f"{_significant(value)}{SPACE}nats"


def basename(name: str) -> str:
    """The last part of a hub id or a path that says something: what people call a model or a file."""
    parts = [part for part in name.replace("\\", "/").split("/") if part]
    while len(parts) > 1 and parts[-1] in ("model", "checkpoint", "."):
        parts.pop()
    return parts[-1] if parts else name


def method(name: str) -> str:
    """A pruning method in words."""
    return METHODS.get(name, name)


def quality_name(name: str) -> str:
    """The name of a quality in words: accuracy, Pearson correlation."""
    return QUALITIES.get(name, name.replace("_", " "))


def site(name: str) -> str:
    """A place in the network in words: layer 3 feed-forward."""
    return " ".join("feed-forward" if part == "ffn" else part for part in name.split())


def spend(measure: str, value: float) -> str:
    """An amount of one budget measure with its unit."""
    if measure == "bytes":
        return size(value)
    if measure == "latency":
        return milliseconds(value)
    return short(value) if measure == "macs" else count(value)


def sentence(text: str) -> str:
    """`text` with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def listing(parts: list[str]) -> str:
    """Several things in a sentence: a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
