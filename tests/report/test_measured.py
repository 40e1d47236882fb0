"""The page of `narrows measure`: what it says is what the record holds."""

import re

import pytest

from narrows.core.errors import NarrowsError
from narrows.report import measured, render_measurement


def test_figures_of_the_record_are_on_the_page(make_measurement):
    record = make_measurement()
    page = render_measurement(record)
    assert "model 0 keeps most about the label of reviews.csv in layer 2: 0.300" in page
    for model in record["models"]:
        for values in model["values"].values():
            assert all(measured.cell(v) in page for v in values)
    assert "0.200 ± 0.020" in page
    assert "entropy of the label" in page
    assert "model 1 (BertModel)" in page
    assert not re.findall(r"https?://", page), "the page works offline"


def test_cautions_are_said_once_with_their_layers(make_measurement):
    found = measured.cautions(make_measurement(1))
    full = "6.9 of at most 6.9 nats: the rows limit this"
    assert found == [
        {"measure": "About the input", "trouble": "saturated", "text": full, "places": ["embeddings"]},
        {"measure": "About the input", "trouble": "no estimate", "text": "flat", "places": ["layer 2"]},
    ]
    assert measured.cautions(make_measurement(2))[0]["places"] == ["model 0 embeddings", "model 1 embeddings"]


def test_cautions_that_differ_in_figures_only_are_one(make_measurement):
    record = make_measurement(1)
    values = record["models"][0]["values"]["input"]
    values[1]["cautions"] = [{"trouble": "saturated", "text": "5.31 of at most 6.9 nats: the rows limit this"}]
    assert measured.cautions(record)[0]["places"] == ["embeddings", "layer 0"]


def test_directions_that_hold_a_share():
    assert measured.directions([0.5, 0.3, 0.1, 0.1]) == "3"
    assert measured.directions([1.0, 0.0]) == "1"
    assert measured.directions([0.2] * 4) == "over 4"
    assert measured.directions([0.2] * 4, wanted=0.39) == "2"


def test_the_plane_moves_only_where_there_are_moments(make_measurement):
    still, moving = make_measurement(1, 0), make_measurement(1, 5)
    assert 'id="plane-step"' not in render_measurement(still)
    assert 'id="plane-step"' in render_measurement(moving)
    tracks = measured.the_plane(moving)["data"]["tracks"]
    assert [len(track) for track in tracks] == [5] * 4
    assert tracks[3] == [None] * 5, "a layer without an estimate has no place"
    label_only = {**still, "measures": ["label"]}
    assert measured.the_plane(label_only) is None
    assert render_measurement(label_only)


def test_the_other_model_has_hollow_marks_on_the_plane(make_measurement):
    alone, both = (render_measurement(make_measurement(n, 0)) for n in (1, 2))
    assert 'class="dot hollow"' not in alone
    assert both.count('class="dot hollow"') == 3, "its last layer has no estimate"
    assert 'data-tip="model 1: layer 1"' in both
    assert "are the layers of model 1." in both
    assert "are the layers of" not in alone
    far = make_measurement(2, 0)
    far["models"][1]["values"]["input"][0]["value"] = 60.0
    places = re.findall(r'class="dot hollow" cx="([\d.]+)"', render_measurement(far))
    assert max(map(float, places)) <= 720, "the axes hold both"


def test_names_of_layers():
    assert measured.short("bert.encoder.layer.3") == "layer 3"
    assert measured.short("bert.embeddings.LayerNorm") == "embeddings"
    assert measured.short("head") == "head"


@pytest.mark.parametrize("broken", [{}, {"kind": "measurement", "schema": 1}, {"schema": 1, "before": {}}])
def test_other_records_are_refused(broken):
    with pytest.raises(NarrowsError, match="no record of `narrows measure`"):
        render_measurement(broken)
