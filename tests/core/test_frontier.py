import json
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narrows.core import Frontier, NarrowsError, Point

# Few distinct values, so that ties in either axis and exact duplicates come up often.
points = st.lists(
    st.builds(
        Point,
        cost=st.integers(0, 5).map(float),
        quality=st.integers(0, 5).map(float),
        label=st.sampled_from("ab"),
        seed=st.none() | st.integers(0, 3),
    ),
    max_size=12,
)


def beats(a: Point, b: Point) -> bool:
    return a.cost <= b.cost and a.quality >= b.quality and (a.cost, a.quality) != (b.cost, b.quality)


@given(points)
def test_pareto_is_what_nothing_beats(drawn: list[Point]) -> None:
    front = Frontier(drawn, "parameters", "accuracy").pareto()
    expected = [p for p in drawn if not any(beats(q, p) for q in drawn)]
    assert sorted(map(repr, front)) == sorted(map(repr, expected))
    assert [p.cost for p in front] == sorted(p.cost for p in front)


@given(points)
def test_json_round_trip(drawn: list[Point]) -> None:
    frontier = Frontier(drawn, "parameters", "accuracy")
    assert Frontier.from_json(json.loads(json.dumps(frontier.to_json()))) == frontier


def test_mean_and_spread_per_label_and_budget() -> None:
    runs = [Point(10, q, "fisher", seed, {"budget": "10% params"}) for seed, q in enumerate((0.5, 0.6, 0.9))]
    runs += [Point(5, 0.4, "fisher", 0, {"budget": "5% params"}), Point(7, 0.3, "random")]
    five, ten = Frontier(runs, "c", "q").by_label()["fisher"]
    assert (five.budget, five.count, five.spread) == ("5% params", 1, None)
    assert (ten.count, ten.cost) == (3, 10)
    assert ten.quality == pytest.approx(2 / 3)
    assert ten.spread == pytest.approx(statistics.stdev([0.5, 0.6, 0.9]))


def test_refuses_what_is_not_a_number_or_not_a_frontier() -> None:
    with pytest.raises(NarrowsError, match="numbers"):
        Point(1.0, math.nan, "x")
    with pytest.raises(NarrowsError, match="not a frontier"):
        Frontier.from_json({"points": [{"cost": 1}]})
