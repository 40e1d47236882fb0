import json

import pytest

from narrows.core import Cost, NarrowsError


def test_json_round_trip_with_and_without_latency() -> None:
    for latency in (None, {"1": 2.5, "32": 30.0}):
        cost = Cost(10, 4, 100, 64, 40, latency)
        assert Cost.from_json(json.loads(json.dumps(cost.to_json()))) == cost
    assert Cost.from_json({**Cost(10, 4, 100, 64, 40).to_json(), "quality": 0.8}).body_params == 6


def test_what_is_measured_stays_as_it_was_measured() -> None:
    latency = {"1": 2.5}
    cost = Cost(10, 4, 100, 64, 40, latency)
    latency["1"] = 1.0
    assert cost.latency_ms == {"1": 2.5}
    with pytest.raises(TypeError):
        cost.latency_ms["1"] = 1.0


def test_impossible_costs() -> None:
    with pytest.raises(NarrowsError, match="never negative"):
        Cost(-1, 0, 0, 0, 0)
    with pytest.raises(NarrowsError, match="embedding"):
        Cost(3, 4, 0, 0, 0)
    with pytest.raises(NarrowsError, match="macs"):
        Cost.from_json({"params": 1, "embedding_params": 0})
