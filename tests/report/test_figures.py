"""The figures are files that show every label, and the words write numbers as people do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import image

from narrows.core.errors import NarrowsError
from narrows.core.frontier import Frontier, Point
from narrows.report import frontier_figure, summary_figure, words
from narrows.report.svg import Axis, thin


def frontier() -> Frontier:
    points = [
        Point(cost, quality - (0.02 if label == "random" else 0) + 0.003 * seed, label, seed, {"budget": cost})
        for label in ("fisher", "random")
        for cost, quality in ((1.1e6, 0.82), (2.2e6, 0.84), (4.5e6, 0.85))
        for seed in range(3)
    ]
    return Frontier(points, "parameters", "accuracy")


def drawn(path: Path) -> str:
    """The texts of an SVG figure: matplotlib writes each as a comment beside its outlines."""
    return " ".join(part.split("-->")[0].strip() for part in path.read_text().split("<!--")[1:])


def test_the_frontier_names_its_axes_and_labels(tmp_path: Path) -> None:
    path = frontier_figure(frontier(), tmp_path / "frontier.svg")
    texts = drawn(path)
    for text in ("parameters (log scale)", "accuracy", "fisher", "random", "Pareto line of the means", "1.10"):
        assert text in texts
    assert "standard deviation" in texts
    once = Frontier([Point(1e6, 0.8, "one", 0)], "parameters", "accuracy")
    assert "standard deviation" not in drawn(frontier_figure(once, tmp_path / "once.svg"))


def test_figures_are_twice_the_screen_s_resolution_and_repeatable(
    tmp_path: Path, variants: dict[str, dict[str, Any]]
) -> None:
    for name in ("full", "removed"):
        path = summary_figure(variants[name], tmp_path / f"{name}.png")
        assert image.imread(path).shape[1] == 2000
    again = summary_figure(variants["full"], tmp_path / "again.png")
    assert again.read_bytes() == (tmp_path / "full.png").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.png", "full.png", "removed.png"]


def test_the_summary_says_the_run(tmp_path: Path, make_record: Callable[..., dict[str, Any]]) -> None:
    texts = drawn(summary_figure(make_record(), tmp_path / "summary.svg")).replace("\u00a0", " ")
    for text in ("kept 98.3 % of its accuracy", "0.852 → 0.838", "22.7 M → 2.27 M", "158 ms → 23.3 ms", "26.2 %",
                 "hidden width 88 of 384"):  # fmt: skip
        assert text in texts


def test_figures_refuse_what_they_cannot_draw(tmp_path: Path, make_record: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(NarrowsError, match="one point or more"):
        frontier_figure(Frontier([], "parameters", "accuracy"), tmp_path / "a.png")
    with pytest.raises(NarrowsError, match="costs above zero"):
        frontier_figure(Frontier([Point(0, 1, "a")], "parameters", "accuracy"), tmp_path / "a.png")
    with pytest.raises(NarrowsError, match=r"end in \.png, \.svg or \.pdf"):
        summary_figure(make_record(), tmp_path / "a.jpeg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (words.percent(0.98299), "98.3 %"), (words.percent(0.1), "10 %"), (words.percent(0.0042), "0.42 %"),
        (words.percent(0.99996), "99.996 %"), (words.percent(1), "100 %"), (words.percent(0), "0 %"),
        (words.short(22713986), "22.7 M"), (words.short(999_700), "1.00 M"), (words.short(691), "691"),
        (words.size(9079344), "9.08 MB"), (words.size(512), "512 B"), (words.milliseconds(0.0423), "0.0423 ms"),
        (words.milliseconds(158.3), "158 ms"), (words.milliseconds(9.996), "10.0 ms"),
        (words.duration(134), "2 min 14 s"), (words.duration(59.96), "1 min 0 s"),
        (words.duration(3780), "1 h 3 min"), (words.times(6.799), "6.8 ×"), (words.times(132.4), "132 ×"),
        (words.basename("sentence-transformers/all-MiniLM-L6-v2"), "all-MiniLM-L6-v2"),
        (words.basename("runs\\small\\"), "small"), (words.basename("/pkg/minilm/model"), "minilm"),
        (words.listing(["a", "b", "c"]), "a, b and c"),
    ],
)  # fmt: skip
def test_words(got: str, expected: str) -> None:
    assert got.replace(words.SPACE, " ") == expected


@given(st.floats(-1e9, 1e9, allow_subnormal=False), st.floats(1e-6, 1e9, allow_subnormal=False), st.booleans())
def test_ticks_lie_on_the_axis_and_are_few(low: float, span: float, log: bool) -> None:
    if log:
        low = abs(low) + 1e-3
        axis = Axis(low, low * (1.3 + span % 1e4), "", log=True)
    else:
        span = max(span, 1e-6 * abs(low))
        axis = Axis(low, low + span, "")
    ticks = axis.ticks()
    assert ticks == sorted(ticks)
    assert len(ticks) <= 12
    assert log or len(ticks) >= 2
    assert all(-0.01 <= axis.place(tick) <= 1.01 for tick in ticks)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=500), st.integers(2, 90))
def test_thinning_keeps_the_ends_and_the_range(values: list[float], bins: int) -> None:
    points = [(float(i), value) for i, value in enumerate(values)]
    means, band = thin(points, bins)
    assert len(means) == min(len(points), bins)
    assert (means[0][0], means[-1][0]) == (0.0, float(len(values) - 1))
    if band:
        assert min(low for low, _ in band) == min(values)
        assert max(high for _, high in band) == max(values)
        assert all(low - 1e-9 <= mean <= high + 1e-9 for (_, mean), (low, high) in zip(means, band, strict=True))
