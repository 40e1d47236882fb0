"""The report says what the record says, in a page that is whole, self-contained and safe."""

import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from narrows.core.errors import NarrowsError
from narrows.report import compare_report, render_report

Record = dict[str, Any]
Make = Callable[..., Record]
VOID = {"meta", "input", "br", "circle", "line", "path"}
CORNERS = ("full", "unmeasured", "removed", "plain", "rating", "bare", "better")


class Page(HTMLParser):
    """The elements of a page with their text, and a proof that every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self._open: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {[name for name, _, _ in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = (tag, {key: value or "" for key, value in attrs}, list[str]())
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}, []))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1][0] == tag, f"</{tag}> closes <{self._open[-1][0]}>"
        self._open.pop()
        if tag in {"td", "th", "small", "h3", "div", "p"}:
            self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        for _, _, text in self._open:
            text.append(data)

    def find(self, tag: str | None = None, css: str | None = None, **attributes: str) -> Iterator[dict[str, str]]:
        for name, attrs, _ in self.elements:
            fits = tag in (None, name) and (css is None or css in attrs.get("class", "").split())
            if fits and all(attrs.get(key.rstrip("_")) == value for key, value in attributes.items()):
                yield attrs

    def text(self, tag: str | None = None, css: str | None = None, **attributes: str) -> list[str]:
        wanted = [id(attrs) for attrs in self.find(tag, css, **attributes)]
        return [" ".join("".join(t).replace("\u00a0", " ").split()) for _, a, t in self.elements if id(a) in wanted]


@pytest.mark.parametrize("corner", CORNERS)
def test_every_corner_is_a_whole_page_that_loads_nothing(variants: dict[str, Record], corner: str) -> None:
    html = render_report(json.loads(json.dumps(variants[corner], allow_nan=False)))
    page = Page(html)
    assert html.startswith("<!doctype html>")
    assert len(html.encode()) < 1_000_000
    loading = {"src", "srcset", "poster", "data", "action", "formaction", "background", "xlink:href"}
    for tag, attrs, _ in page.elements:
        assert tag not in {"img", "link", "iframe", "object", "embed", "base", "form", "audio", "video"}
        assert not loading & set(attrs), (tag, attrs)
        assert not [key for key in attrs if key.startswith("on")]
        if "href" in attrs:
            assert tag == "a"
            assert attrs["href"].startswith("https://arxiv.org/abs/")
    for css in page.text("style"):
        assert "url(" not in css
        assert "@import" not in css
    scripts = list(page.find("script"))
    assert [attrs.get("type", "text/javascript") for attrs in scripts].count("text/javascript") == 1
    sections = [attrs["id"] for attrs in page.find("section")]
    assert sections == ["sizes", "kept", "information", "reconstruction", "curves", "changed", "method"]
    ids = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert not re.search(r"\b(nan|inf|None|undefined)\b", re.sub(r"<(script|style).*?</\1>", "", html, flags=re.S))


@pytest.mark.parametrize("corner", CORNERS)
def test_every_picture_has_a_caption_and_words_for_those_who_cannot_see_it(
    variants: dict[str, Record], corner: str
) -> None:
    page = Page(render_report(variants[corner]))
    figures, captions = list(page.find("figure")), page.text("figcaption")
    assert len(figures) == len(captions) >= 2
    assert all(caption.startswith("What to look for:") for caption in captions)
    pictures = list(page.find(role="img"))
    assert len(pictures) >= len(figures)
    assert all(len(picture["aria-label"]) > 30 for picture in pictures)
    assert all(svg["role"] == "img" for svg in page.find("svg"))


def test_the_headline_is_the_run_in_one_sentence(variants: dict[str, Record]) -> None:
    def headline(corner: str) -> str:
        return Page(render_report(variants[corner])).text("h1")[0]

    assert headline("full") == (
        "all-MiniLM-L6-v2 for movie-reviews kept 98.3 % of its accuracy (0.838 of 0.852) with 10 % of its "
        "parameters and runs 6.8 × faster at batch 32."
    )
    assert headline("unmeasured").endswith("with 10 % of its parameters.")
    assert "97.2 % of its Pearson correlation (0.711 of 0.731)" in headline("rating")
    assert "kept all of its accuracy (0.861, before 0.852)" in headline("better")
    assert headline("better").endswith("runs 1.2 × slower at batch 32.")


def test_the_table_shows_the_numbers_of_the_record(make_record: Make) -> None:
    record = make_record()
    [table] = Page(render_report(record)).text("section", id="sizes")
    before, after = record["before"], record["after"]
    for side in (before, after):
        assert f"{side['quality']:.3f} ± {side['quality_se']:.3f}" in table
        assert f"{side['params']:,}" in table
        assert f"{side['params'] - side['embedding_params']:,}" in table
    assert "691 M 63.4 M" in table
    assert "90.9 MB 9.08 MB" in table
    assert "5.91 ms 1.87 ms 3.2 × faster" in table
    assert "158 ms 23.3 ms 6.8 × faster" in table
    assert "64 tokens" in table


def test_unmeasured_latency_is_said_and_not_shown(variants: dict[str, Record]) -> None:
    [table] = Page(render_report(variants["unmeasured"])).text("section", id="sizes")
    assert "Latency was not measured in this run." in table
    assert " ms" not in table


@pytest.mark.parametrize("corner", ["full", "removed", "plain"])
def test_the_picture_of_what_was_kept_counts_as_the_plan_does(variants: dict[str, Record], corner: str) -> None:
    record = variants[corner]
    page = Page(render_report(record))
    layers = record["plan"]["layers"]
    cells = [attrs for attrs in page.find(css="cell") if "kept" in attrs["data-tip"] or "removed" in attrs["data-tip"]]
    assert len([a for a in cells if "on" in a["class"].split()]) == sum(len(x["heads"]) for x in layers)
    assert len(cells) == sum(x["heads_of"] for x in layers if x["heads"])
    for i, layer in enumerate(layers):
        for head in layer["heads"]:
            assert any(a["data-tip"] == f"layer {i}, head {head}: kept" for a in cells)
    [kept] = page.text("section", id="kept")
    assert kept.count("block removed") == sum((not x["heads"]) + (not x["neurons"]) for x in layers)
    for layer in layers:
        assert f"{len(layer['neurons']):,} of {layer['neurons_of']:,}" in kept
    hidden, vocab = record["plan"]["hidden"], record["plan"]["vocab"]
    assert f"Hidden width {hidden['kept']} of {hidden['of']}" in kept
    assert f"Vocabulary {vocab['kept']:,} of {vocab['of']:,}" in kept
    assert ("Embedding rank" in kept) == (record["plan"]["rank"] is not None)


def test_bars_are_as_long_as_their_numbers(make_record: Make) -> None:
    record = make_record()
    page = Page(render_report(record))
    widths = {attrs["style"] for attrs in page.find("span", css="fill")}
    for row in record["information"]["layers"]:
        for kind in ("attention", "ffn"):
            peak = max(v for other in record["information"]["layers"] for v in other[kind])
            assert any(abs(float(style[6:-1]) - 100 * row[kind][-1] / peak) < 0.05 for style in widths), (
                row["layer"],
                kind,
            )
    for site in record["reconstruction"]:
        assert f"width:{100 * site['variance']:.2f}%" in widths
        assert f"{site['variance']:.3f}" in page.text("section", id="reconstruction")[0]


def test_the_slider_has_the_record_s_information(make_record: Make) -> None:
    record = make_record()
    info = record["information"]
    [text] = [t for t in Page(render_report(record)).text("script", id="information-data") if t]
    data = json.loads(text)
    assert len(data["steps"]) <= 120
    assert data["steps"][0] == info["steps"][0]
    assert data["steps"][-1] == info["steps"][-1]
    for i, layer in enumerate(info["layers"]):
        for at, step in enumerate(data["steps"]):
            real = info["steps"].index(step)
            assert data["attention"][i][at] == pytest.approx(layer["attention"][real], rel=1e-3)
            assert data["ffn"][i][at] == pytest.approx(layer["ffn"][real], rel=1e-3)


def test_a_method_without_gates_is_said(variants: dict[str, Record]) -> None:
    page = Page(render_report(variants["plain"]))
    assert "learned no gates" in page.text("section", id="information")[0]
    assert not list(page.find("input"))


def test_what_is_empty_is_said(variants: dict[str, Record]) -> None:
    page = Page(render_report(variants["bare"]))
    assert "cut and not rebuilt" in page.text("section", id="reconstruction")[0]
    assert "Nothing was trained" in page.text("section", id="curves")[0]
    assert "No held-out example changed" in page.text("section", id="changed")[0]
    assert "no method that comes from a paper" in page.text("section", id="method")[0]
    assert "over the budget (106.2 % of it)" in page.text("header")[0]


def test_the_budget_line_lies_where_the_curve_ends(make_record: Make) -> None:
    page = Page(render_report(make_record()))
    [rule] = page.find("line", css="rule")
    [chart] = [t for t in page.text("svg") if "parameters under the gates" in t]
    assert "budget: 2.27 M" in chart
    ends = [float(c["cy"]) for c in page.find("circle", css="dot") if "kept" in c["class"].split()]
    assert min(abs(end - float(rule["y1"])) for end in ends) < 0.5

    history = [{"stage": "prune", "step": s, "loss": 1.0, "cost": None, "size": 2 - s / 50} for s in range(51)]
    page = Page(render_report(make_record(history=history)))
    [rule] = page.find("line", css="rule")
    assert any("share of the budget" in t for t in page.text("svg"))
    assert any(abs(float(c["cy"]) - float(rule["y1"])) < 0.05 for c in page.find("circle", css="dot"))


def test_changed_predictions_are_sorted_by_direction(variants: dict[str, Record]) -> None:
    changed = variants["full"]["changed"]
    lost = [x for x in changed if x["before"] == x["label"]]
    won = [x for x in changed if x["after"] == x["label"]]
    page = Page(render_report(variants["full"]))
    titles = page.text("section", id="changed")[0]
    assert f"Right before, wrong now ({len(lost)})" in titles
    assert f"Wrong before, right now ({len(won)})" in titles
    assert len(page.text("blockquote")) == len(changed)
    whole = {quote.replace("… (whole text)", "") for quote in page.text("blockquote")}
    for item in changed:
        mark = {True: "✓", False: "✗"}
        answers = (
            f"label {item['label']}before {item['before']} {mark[item['before'] == item['label']]}"
            f"after {item['after']} {mark[item['after'] == item['label']]}"
        )
        assert any(
            q.replace(" ", "").startswith(item["text"].replace(" ", ""))
            and answers.replace(" ", "") in q.replace(" ", "")
            for q in whole
        ), item

    part = {**variants["full"], "changed_counts": {"lost": 1234, "won": len(won)}}
    titles = Page(render_report(part)).text("section", id="changed")[0]
    assert f"Right before, wrong now ({len(lost)} of 1,234)" in titles
    assert f"Wrong before, right now ({len(won)})" in titles

    rating = variants["rating"]
    further = sum(
        abs(float(x["after"]) - float(x["label"])) > abs(float(x["before"]) - float(x["label"]))
        for x in rating["changed"]
    )
    text = Page(render_report(rating)).text("section", id="changed")[0]
    assert f"Further from the label ({further})" in text
    assert f"Closer to the label ({len(rating['changed']) - further})" in text


def test_how_to_do_it_again(make_record: Make) -> None:
    record = make_record()
    page = Page(render_report(record))
    assert page.text("pre") == [record["command"]]
    [text] = page.text("section", id="method")
    for value in (record["model"]["class"], record["environment"]["cpu"], "torch 2.13.0", record["started"], "7,204"):
        assert value in text
    assert "2 min 19 s" in page.text("section", id="curves")[0]
    assert [a["href"] for a in page.find("a")] == ["https://arxiv.org/abs/2406.05276"]


POISON = "<script>window.hacked=1;document.title='hacked'</script>\"'><img src=x onerror=window.hacked=1>{{7*7}}"


def poisoned(value: Any) -> Any:
    """Every text of a record replaced by an attack, except the words that decide what is drawn."""
    if isinstance(value, dict):
        keep = {"task", "measure", "basis", "unit", "stage"}
        return {key: item if key in keep else poisoned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [poisoned(item) for item in value]
    return POISON + value if isinstance(value, str) else value


def test_text_from_data_stays_text(make_record: Make) -> None:
    record = poisoned(make_record())
    record["environment"][POISON] = POISON
    record["seconds"][POISON] = 1.0
    for html in (render_report(record), compare_report([record], names=[POISON])):
        page = Page(html)
        assert not list(page.find("img"))
        assert len([a for a in page.find("script") if "type" not in a]) == 1
        assert not [key for _, attrs, _ in page.elements for key in attrs if key.startswith("on")]
        assert "{{7*7}}" in html
        assert POISON in page.text("title")[0] or "side by side" in page.text("title")[0]
    assert any(POISON in quote for quote in Page(render_report(record)).text("blockquote"))


def test_a_link_is_made_of_an_arxiv_number_only(make_record: Make) -> None:
    cited = ["javascript:alert(1)", "https://example.org/", "arXiv:1802.10399", 'arXiv:1802.10399" onclick="x']
    page = Page(render_report(make_record(citations=cited)))
    assert [a["href"] for a in page.find("a")] == ["https://arxiv.org/abs/1802.10399"]


def test_what_is_no_record_is_refused(make_record: Make) -> None:
    with pytest.raises(NarrowsError, match="schema is 2, this version of narrows reads schema 1"):
        render_report(make_record(schema=2))
    record = make_record()
    del record["after"], record["plan"]
    with pytest.raises(NarrowsError, match="lacks after and plan"):
        render_report(record)
    with pytest.raises(NarrowsError, match="nothing to compare"):
        compare_report([])


def test_runs_side_by_side(make_record: Make, variants: dict[str, Record]) -> None:
    runs = []
    for params, quality, method in (
        (4_500_000, 0.845, "vtrans"),
        (2_268_013, 0.8376, "vtrans"),
        (2_300_000, 0.81, "random"),
    ):
        run = make_record(method=method)
        run["after"] |= {"params": params, "quality": quality}
        runs.append(run)
    page = Page(compare_report([*runs, variants["rating"]], names=["a", "b", "c", "d"]))
    assert page.text("h1") == ["4 runs side by side."]
    assert page.text("h2") == ["all-MiniLM-L6-v2 for movie-reviews", "all-MiniLM-L6-v2 for product-reviews.csv"]
    rows = page.text("tr")
    for run in runs:
        shown = (f"{run['after']['params']:,}", f"{run['after']['quality']:.3f}")
        [row] = [r for r in rows if all(number in r for number in shown)]
        assert ("on the frontier" in row) == (run["method"] != "random")
    hollow = [a["data-tip"] for a in page.find("circle", css="hollow")]
    assert len(hollow) == 1
    assert "random" in hollow[0]
