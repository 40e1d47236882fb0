"""The report of a run, and of several runs side by side, as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from narrows.core.errors import NarrowsError
from narrows.report import compare, measured, pictures, view, words

SHOWN, MOST = 6, 60  # examples per direction: open at once, and at all


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("narrows.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("style.css", "page.js"):
        made.globals[name.replace(".", "_")] = Markup(
            resources.files("narrows.report").joinpath("templates", name).read_text(encoding="utf-8")
        )
    # Browsers run a script only if its hash is named here, so text from data cannot become a script by any way.
    digest = hashlib.sha256(str(made.globals["page_js"]).encode()).digest()
    made.globals["policy"] = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src "
        f"'sha256-{base64.b64encode(digest).decode()}'; base-uri 'none'; form-action 'none'"
    )
    made.filters.update(percent=words.percent, count=words.count, times=words.times)
    made.globals["width"] = lambda share: f"{100 * min(1.0, max(0.0, share)):.2f}%"
    return made


def render_report(record: Mapping[str, Any]) -> str:
    """The whole story of one run as a self-contained HTML page; works offline, in light and dark, and on paper.

    Args:
        record: a run record (schema 1), the content of narrows.json.

    Raises:
        NarrowsError: this is no run record of schema 1.
    """
    view.check(record)
    found = view.layers(record)
    latencies = view.batches(record)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            record=record,
            headline=view.headline(record),
            rows=view.rows(record),
            budgets=view.budgets(record),
            latencies=latencies,
            parts=view.parts(record),
            layers=found,
            kept_reading=view.kept_reading(found),
            information=pictures.information(record),
            reconstruction=pictures.reconstruction(record),
            curves=pictures.curves(record),
            groups=view.examples(record),
            stages=view.stages(record),
            total=words.duration(sum(v for v in record["seconds"].values() if words.finite(v))),
            citations=view.citations(record),
            facts=view.facts(record["environment"]),
            method=words.method(record["method"]),
            quality=words.quality_name(record["data"]["quality"]),
            shown=SHOWN,
            most=MOST,
        )
    )


def compare_report(records: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None) -> str:
    """Several runs side by side as a self-contained HTML page; runs on other data get a section of their own.

    Args:
        records: run records (schema 1), at least one.
        names: what to call each run, its folder for instance; None: its method, budget and seed.

    Raises:
        NarrowsError: no records, or one of them is no run record of schema 1.
    """
    if not records:
        raise NarrowsError("there is nothing to compare: got no run records, expected one or more")
    for record in records:
        view.check(record)
    return (
        _environment()
        .get_template("compare.html.j2")
        .render(
            sections=compare.sections(records, names),
            runs=len(records),
        )
    )


def render_measurement(record: Mapping[str, Any]) -> str:
    """What the layers of one or two models keep, as a self-contained HTML page.

    Args:
        record: what `narrows measure --json` prints.

    Raises:
        NarrowsError: this is no record of a measurement.
    """
    measured.check(record)
    return (
        _environment()
        .get_template("measure.html.j2")
        .render(
            record=record,
            headline=measured.headline(record),
            legend=measured.legend(record),
            profiles=measured.profiles(record),
            layers=[measured.short(name) for name in record["models"][0]["layers"]],
            plane=measured.the_plane(record),
            over_time=measured.over_time(record),
            spectra=measured.spectra(record),
            cautions=measured.cautions(record),
            facts=view.facts(record["environment"]),
            duration=words.duration(record["seconds"]),
        )
    )
