"""Plans: what they accept, and that JSON keeps them."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narrows.core.errors import NarrowsError
from narrows.transformer.plan import LayerPlan, Plan

ids = st.sets(st.integers(0, 400)).map(sorted).map(tuple)
some = st.sets(st.integers(0, 400), min_size=1).map(sorted).map(tuple)
optional = st.none() | st.integers(1, 400)


@st.composite
def plans(draw: Any) -> Plan:
    hidden, basis = draw(some), draw(st.sampled_from(["channels", "pca"]))
    return Plan(
        tuple(range(len(hidden))) if basis == "pca" else hidden,
        tuple(draw(st.lists(st.builds(LayerPlan, ids, ids), max_size=4))),
        draw(optional),
        draw(st.none() | some),
        basis,
        draw(optional),
    )


@given(plans())
def test_json_round_trip(plan: Plan) -> None:
    text = json.dumps(plan.to_json(), allow_nan=False)
    assert Plan.from_json(text) == plan
    assert Plan.from_json(json.loads(text)) == plan
    assert hash(Plan.from_json(text)) == hash(plan)


@given(plans())
def test_uniform_means_equal_counts(plan: Plan) -> None:
    counts = [(len(layer.heads), len(layer.neurons)) for layer in plan.layers]
    assert plan.uniform == bool(counts and counts.count(counts[0]) == len(counts))


GOOD = Plan((0, 1, 5), (LayerPlan((0, 1), ()), LayerPlan((), (2, 9))))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"hidden": ()}, r"hidden has \[\]"),
        ({"hidden": (3, 1)}, r"sorted.*hidden has \[3, 1\]"),
        ({"hidden": (1, 1)}, "distinct"),
        ({"hidden": (-1, 2)}, "non-negative"),
        ({"vocab": ()}, r"vocab has \[\]"),
        ({"vocab": (7, 7)}, r"vocab has \[7, 7\]"),
        ({"layers": (LayerPlan((2, 0), ()),)}, r"heads of layer 0 has \[2, 0\]"),
        ({"layers": (LayerPlan((), ()), LayerPlan((), (-4,)))}, r"neurons of layer 1 has \[-4\]"),
        ({"rank": 0}, "rank of a word table is at least 1, got 0"),
        ({"tail": 0}, "tail.* at least 1, got 0"),
        ({"basis": "pca"}, "leading directions"),
        ({"basis": "fourier"}, "a basis is channels or pca, got 'fourier'"),
        ({"hidden": tuple(range(9, 0, -1))}, r"\[9, 8, 7, 6, 5, 4, \.\.\.\]"),
    ],
)
def test_what_no_plan_can_be(change: dict[str, Any], text: str) -> None:
    with pytest.raises(NarrowsError, match=text):
        replace(GOOD, **change)


@pytest.mark.parametrize(
    "data",
    [
        "{",
        "[]",
        "3",
        "null",
        {},
        GOOD.to_json() | {"hidden": None},
        GOOD.to_json() | {"hidden": ["a", "b"]},
        GOOD.to_json() | {"hidden": [0.5, 1.5]},
        GOOD.to_json() | {"layers": [[0, 1]]},
        GOOD.to_json() | {"layers": [{"heads": [0]}]},
        GOOD.to_json() | {"rank": "many"},
        {k: v for k, v in GOOD.to_json().items() if k != "basis"},
    ],
)
def test_what_is_not_a_plan(data: Any) -> None:
    with pytest.raises(NarrowsError):
        Plan.from_json(data)
