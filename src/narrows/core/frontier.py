"""Cost against quality: what every experiment, benchmark and report speaks."""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from narrows.core.errors import NarrowsError


@dataclass(frozen=True)
class Point:
    """One measured model: lower `cost` and higher `quality` are better. `provenance` is JSON-ready."""

    cost: float
    quality: float
    label: str
    seed: int | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cost) and math.isfinite(self.quality)):
            raise NarrowsError(f"{self.label}: cost and quality must be numbers, got {self.cost}, {self.quality}")


@dataclass(frozen=True)
class Summary:
    """The runs of one label at one budget: means, and the sample standard deviation (None for one run)."""

    label: str
    budget: str | None
    count: int
    cost: float
    quality: float
    spread: float | None


@dataclass(frozen=True)
class Frontier:
    """Points of one trade-off, and the names of its two axes."""

    points: tuple[Point, ...]
    cost_name: str
    quality_name: str

    def __init__(self, points: Iterable[Point], cost_name: str, quality_name: str) -> None:
        object.__setattr__(self, "points", tuple(points))
        object.__setattr__(self, "cost_name", cost_name)
        object.__setattr__(self, "quality_name", quality_name)

    def pareto(self) -> tuple[Point, ...]:
        """The points no other point beats (no worse in both, better in one), by rising cost; ties stay."""
        kept: list[Point] = []
        for point in sorted(self.points, key=lambda p: (p.cost, -p.quality)):
            best = kept[-1] if kept else None
            tied = best is not None and (point.cost, point.quality) == (best.cost, best.quality)
            if best is None or point.quality > best.quality or tied:
                kept.append(point)
        return tuple(kept)

    def by_label(self) -> dict[str, tuple[Summary, ...]]:
        """Mean and spread of each label's runs, a summary per `provenance["budget"]`, by rising cost."""
        groups: dict[tuple[str, str | None], list[Point]] = {}
        for point in self.points:
            budget = point.provenance.get("budget")
            groups.setdefault((point.label, None if budget is None else str(budget)), []).append(point)
        result: dict[str, list[Summary]] = {}
        for (label, budget), points in groups.items():
            qualities = [p.quality for p in points]
            spread = statistics.stdev(qualities) if len(points) > 1 else None
            cost = statistics.fmean(p.cost for p in points)
            summary = Summary(label, budget, len(points), cost, statistics.fmean(qualities), spread)
            result.setdefault(label, []).append(summary)
        return {label: tuple(sorted(rows, key=lambda s: s.cost)) for label, rows in result.items()}

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary; `from_json` is the inverse."""
        rows = [
            {
                "cost": p.cost,
                "quality": p.quality,
                "label": p.label,
                "seed": p.seed,
                "provenance": dict(p.provenance),
            }
            for p in self.points
        ]
        return {"cost_name": self.cost_name, "quality_name": self.quality_name, "points": rows}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The frontier in a dictionary made by `to_json`."""
        try:
            return cls([Point(**row) for row in data["points"]], data["cost_name"], data["quality_name"])
        except (KeyError, TypeError) as error:
            raise NarrowsError(f"not a frontier: {error}") from None
