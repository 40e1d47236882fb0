"""Small line and scatter charts as inline SVG: text stays text, colours come from the page's own style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from narrows.report import words

LEFT, RIGHT, TOP, BOTTOM = 52, 16, 30, 42  # room for labels around the plotting area


@dataclass(frozen=True)
class Axis:
    """One axis: its range, its label with the unit, its scale, and how its ticks are written."""

    low: float
    high: float
    label: str
    log: bool = False
    write: Callable[[float], str] = words.tick

    def place(self, value: float) -> float:
        """Where `value` lies between the ends: 0 at `low`, 1 at `high`."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """About five round numbers inside the range."""
        return _log_ticks(self.low, self.high) if self.log else _linear_ticks(self.low, self.high)


@dataclass(frozen=True)
class Line:
    """A curve: points in data units, and the lowest and highest value behind each averaged point."""

    css: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Rule:
    """A horizontal line that means something, a budget for instance, with its label."""

    value: float
    label: str


@dataclass(frozen=True)
class Dot:
    """A mark of a scatter chart: where it is, its half error bar, its short label and its tooltip."""

    x: float
    y: float
    label: str
    tip: str
    css: str
    error: float = 0.0
    hollow: bool = False


@dataclass(frozen=True)
class Chart:
    """A finished picture, and its horizontal axis from `left` to `right`, for a script that moves a marker over it."""

    markup: Markup
    axis: Axis
    left: float
    right: float


@dataclass(frozen=True)
class Plane:
    """A finished picture of marks that move, and where each of them is at each moment (None: nowhere)."""

    markup: Markup
    places: list[list[tuple[float, float] | None]]


@dataclass(frozen=True)
class _Canvas:
    """The plotting area of a chart `width` x `height` units large."""

    x: Axis
    y: Axis
    width: int = 400
    height: int = 250

    @property
    def right(self) -> int:
        return self.width - RIGHT

    @property
    def floor(self) -> int:
        return self.height - BOTTOM

    def px(self, value: float) -> float:
        return LEFT + self.x.place(value) * (self.right - LEFT)

    def py(self, value: float) -> float:
        return self.floor - self.y.place(value) * (self.floor - TOP)

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        return "M" + "L".join(f"{self.px(a):.1f} {self.py(b):.1f}" for a, b in points)

    def frame(self) -> list[Markup]:
        parts = []
        for value in self.y.ticks():
            at = self.py(value)
            parts.append(_line("grid", LEFT, self.right, at, at))
            parts.append(_text("tick end", LEFT - 7, at + 4, self.y.write(value)))
        parts += [_text("tick mid", self.px(value), self.floor + 17, self.x.write(value)) for value in self.x.ticks()]
        parts.append(_line("axis", LEFT, self.right, self.floor, self.floor))
        parts.append(_text("axis-name", 4, 14, self.y.label))
        parts.append(_text("axis-name end", self.right, self.height - 7, self.x.label))
        return parts

    def finish(self, parts: Sequence[Markup], alternative: str, css: str = "") -> Markup:
        return Markup('<svg class="chart{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
            css, self.width, self.height, alternative, Markup("").join(parts)
        )


def _line(css: str, x1: float, x2: float, y1: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(css, x1, x2, y1, y2)


def _text(css: str, x: float, y: float, text: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(css, x, y, text)


def _linear_ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        found = [m * 10.0**d for d in decades for m in steps if low * 0.999 <= m * 10.0**d <= high * 1.001]
        if len(found) >= 3:
            return found
    return found


def padded(
    values: Sequence[float],
    label: str,
    *,
    zero: bool = False,
    log: bool = False,
    write: Callable[[float], str] = words.tick,
) -> Axis:
    """An axis that holds `values` with a little air; from zero where lengths are compared."""
    low, high = min(values), max(values)
    if log:
        room = max((high / low) ** 0.08, 1.15)
        return Axis(low / room, high * room, label, log=True, write=write)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return Axis(min(0.0, low) if zero else low - room, high + room, label, write=write)


def thin(
    points: Sequence[tuple[float, float]], bins: int = 80
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """At most `bins` points, each the mean of its neighbours, and the (lowest, highest) value behind each."""
    if len(points) <= bins:
        return list(points), []
    means, bands = [], []
    for i in range(bins):
        part = points[i * len(points) // bins : (i + 1) * len(points) // bins]
        ys = [y for _, y in part]
        means.append((sum(x for x, _ in part) / len(part), sum(ys) / len(ys)))
        bands.append((min(ys), max(ys)))
    means[0], means[-1] = (points[0][0], means[0][1]), (points[-1][0], means[-1][1])  # the ends of the axis
    return means, bands


def line_chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    alternative: str,
    rules: Sequence[Rule] = (),
    zero: bool = True,
    marker: bool = False,
    write: Callable[[float], str] = words.tick,
) -> Chart:
    """Curves over a number of steps.

    Args:
        lines: at least one line with at least one point.
        x_label: name and unit of the horizontal axis.
        y_label: name and unit of the vertical axis.
        alternative: what the picture says, for those who cannot see it.
        rules: horizontal lines with a meaning.
        zero: start the vertical axis at zero.
        marker: add a vertical line that a script can move (class `now`).
        write: how the ticks of the vertical axis are written.
    """
    xs = [a for line in lines for a, _ in line.points]
    ys = [b for line in lines for _, b in line.points] + [rule.value for rule in rules]
    ys += [b for line in lines for pair in line.band for b in pair]
    first, last = min(xs), max(xs)
    x = Axis(0.0 if 0 < first <= 0.1 * last else first, last if last > first else first + 1, x_label)
    canvas = _Canvas(x, padded(ys, y_label, zero=zero, write=write))
    parts = canvas.frame()
    for line in lines:
        if line.band:
            upper = [(a, high) for (a, _), (_, high) in zip(line.points, line.band, strict=True)]
            lower = [(a, low) for (a, _), (low, _) in zip(line.points, line.band, strict=True)]
            parts.append(Markup('<path class="band {}" d="{}Z"/>').format(line.css, canvas.path(upper + lower[::-1])))
        parts.append(Markup('<path class="line {}" d="{}"/>').format(line.css, canvas.path(line.points)))
        end_x, end_y = line.points[-1]
        parts.append(
            Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(
                line.css, canvas.px(end_x), canvas.py(end_y)
            )
        )
    for rule in rules:
        at = canvas.py(rule.value)
        parts += [_line("rule", LEFT, canvas.right, at, at), _text("rule-name", LEFT + 6, at - 6, rule.label)]
    if marker:
        parts.append(_line("now", canvas.right, canvas.right, TOP, canvas.floor))
    return Chart(canvas.finish(parts, alternative), x, LEFT, canvas.right)


def plane(
    x: Axis,
    y: Axis,
    tracks: Sequence[Sequence[tuple[float, float] | None]],
    names: Sequence[str],
    alternative: str,
    others: Sequence[tuple[tuple[float, float], str]] = (),
) -> Plane:
    """Marks on two axes at their last place, with their paths; a script may move those of class `moving`.

    `others` are hollow marks that stay, each with its tip, joined in their order.
    """
    canvas = _Canvas(x, y, width=720, height=380)
    parts = canvas.frame()
    if others:
        parts.append(Markup('<path class="line thin other" d="{}"/>').format(canvas.path([at for at, _ in others])))
    for at, tip in others:
        parts.append(
            Markup('<circle class="dot hollow" cx="{:.1f}" cy="{:.1f}" r="5" tabindex="0" data-tip="{}"/>').format(
                canvas.px(at[0]), canvas.py(at[1]), tip
            )
        )
    places: list[list[tuple[float, float] | None]] = []
    for i, (track, name) in enumerate(zip(tracks, names, strict=True)):
        shade = f"shade s{round(9 * i / max(1, len(tracks) - 1))}"
        way = [None if p is None else (round(canvas.px(p[0]), 1), round(canvas.py(p[1]), 1)) for p in track]
        places.append(way)
        known = [p for p in track if p is not None]
        if not known:
            continue
        if len(known) > 1:
            parts.append(Markup('<path class="line thin {}" d="{}"/>').format(shade, canvas.path(known)))
        end_x, end_y = canvas.px(known[-1][0]), canvas.py(known[-1][1])
        parts.append(
            Markup(
                '<g class="moving" data-mark="{}" transform="translate({:.1f} {:.1f})">'
                '<circle class="dot {}" r="6" tabindex="0" data-tip="{}"/>'
                '<text class="name" x="9" y="4">{}</text></g>'
            ).format(i, end_x, end_y, shade, name, name.removeprefix("layer "))
        )
    return Plane(canvas.finish(parts, alternative, " wide"), places)


def scatter(
    dots: Sequence[Dot],
    *,
    x_label: str,
    y_label: str,
    alternative: str,
    steps: Sequence[tuple[float, float]] = (),
    write: Callable[[float], str] = words.tick,
) -> Markup:
    """Cost (log scale) against quality, one numbered mark per run; `steps` is the frontier as a staircase."""
    x = padded([dot.x for dot in dots], x_label, log=True)
    y = padded([dot.y + sign * dot.error for dot in dots for sign in (-1, 1)], y_label, write=write)
    canvas = _Canvas(x, y, width=720, height=340)
    parts = canvas.frame()
    if len(steps) > 1:
        corners = [steps[0]]
        for a, b in steps[1:]:
            corners += [(a, corners[-1][1]), (a, b)]
        parts.append(Markup('<path class="line frontier" d="{}"/>').format(canvas.path(corners)))
    taken: list[tuple[float, float]] = []
    for dot in sorted(dots, key=lambda dot: (dot.x, -dot.y)):
        cx, cy = canvas.px(dot.x), canvas.py(dot.y)
        if dot.error:
            parts.append(
                _line(f"whisker {dot.css}", cx, cx, canvas.py(dot.y - dot.error), canvas.py(dot.y + dot.error))
            )
        parts.append(
            Markup('<circle class="dot {}{}" cx="{:.1f}" cy="{:.1f}" r="5" tabindex="0" data-tip="{}"/>').format(
                dot.css, " hollow" if dot.hollow else "", cx, cy, dot.tip
            )
        )
        sides = [(9, -5), (-9, -5), (9, 14), (-9, 14)] if cx < canvas.right - 45 else [(-9, -5), (-9, 14)]
        free = [
            (dx, dy) for dx, dy in sides if all(abs(cx + 1.8 * dx - a) > 18 or abs(cy + dy - b) > 12 for a, b in taken)
        ]
        dx, dy = (free or sides)[0]
        taken.append((cx + 1.8 * dx, cy + dy))
        parts.append(_text("name end" if dx < 0 else "name", cx + dx, cy + dy, dot.label))
    return canvas.finish(parts, alternative, " wide")
