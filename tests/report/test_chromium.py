"""The pages in a real browser: no console errors, nothing from data runs, the slider moves, narrow screens fit."""

import html as escaping
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib import image

from narrows.report import compare_report, render_measurement, render_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None and not os.environ.get("CI"), reason="chromium is not installed (a must where CI is set)"
)

# Frames share the origin of this page, which may therefore look inside and move their sliders; the policy of each
# report holds inside its frame.
HARNESS = """<!doctype html><title>harness</title><pre id="found"></pre><script>
const pages = %s;
Promise.all(pages.map(([name, html, width]) => new Promise((done) => {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width:${width}px;height:900px`;
  frame.srcdoc = html;
  frame.onload = () => setTimeout(() => {
    const page = frame.contentDocument, root = page.documentElement;
    const found = { name, title: page.title, hacked: frame.contentWindow.hacked === undefined ? "no" : "yes",
      script: root.classList.contains("js"), wide: root.scrollWidth - root.clientWidth };
    const slider = page.getElementById("information-step");
    if (slider) {
      const read = () => ({ step: page.getElementById("information-now").textContent,
        width: page.querySelector("[data-kind=ffn][data-row='0']").style.width,
        text: page.getElementById("nats-ffn-0").textContent,
        mark: page.querySelector("#information svg .now").getAttribute("x1") });
      found.end = read();
      slider.value = 0;
      slider.dispatchEvent(new Event("input", { bubbles: true }));
      found.start = read();
    }
    const mover = page.getElementById("plane-step");
    if (mover) {
      const read = () => ({ step: page.getElementById("plane-now").textContent,
        at: page.querySelector("[data-mark='1']").getAttribute("transform") });
      found.end = read();
      mover.value = 0;
      mover.dispatchEvent(new Event("input", { bubbles: true }));
      found.start = read();
    }
    const cell = page.querySelector("[data-tip]");
    cell.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
    const tip = page.querySelector(".tip");
    found.tip = !tip.hidden && tip.textContent === cell.dataset.tip;
    done(found);
  }, 50);
  document.body.append(frame);
}))).then((all) => { document.getElementById("found").textContent = JSON.stringify(all); });
</script>"""
POISON = "<script>window.hacked=1;document.title='hacked'</script>\"'><img src=x onerror=window.hacked=1>"


def browse(tmp_path: Path, page: Path, *options: str) -> tuple[str, list[str]]:
    """What headless Chromium prints for a page, and its console lines."""
    assert BROWSER is not None, "chromium is not installed, and CI is set: install it, these tests must run"
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
         "--enable-logging=stderr", "--virtual-time-budget=4000", f"--user-data-dir={tmp_path / 'profile'}",
         *options, page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def poisoned(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: v if k in {"task", "measure", "basis", "stage"} else poisoned(v) for k, v in value.items()}
    if isinstance(value, list):
        return [poisoned(item) for item in value]
    return POISON + value if isinstance(value, str) else value


def test_pages_run_without_errors_and_data_never_runs(
    tmp_path: Path,
    make_record: Callable[..., dict[str, Any]],
    make_measurement: Callable[..., dict[str, Any]],
    variants: dict[str, dict[str, Any]],
) -> None:
    pages = [(name, render_report(record), 1200) for name, record in variants.items()]
    pages += [("narrow", render_report(variants["full"]), 480), ("phone", render_report(variants["removed"]), 360)]
    pages.append(("compare", compare_report(list(variants.values())), 480))
    for name, width in (("measured", 1200), ("measured on a phone", 360)):
        pages.append((name, render_measurement(make_measurement()), width))
    evil_layers = make_measurement(1)
    evil_layers |= {"command": POISON, "data": evil_layers["data"] | {"name": POISON}}
    evil_layers["models"][0]["name"] = POISON
    pages.append(("evil measurement", render_measurement(evil_layers), 480))
    evil = poisoned(make_record())
    pages += [("evil", render_report(evil), 480), ("evil compare", compare_report([evil], names=[POISON]), 480)]
    harness = tmp_path / "harness.html"
    harness.write_text(HARNESS % json.dumps(pages).replace("<", "\\u003c"), encoding="utf-8")
    out, console = browse(tmp_path, harness, "--dump-dom")
    assert console == []
    match = re.search(r'<pre id="found">(.*?)</pre>', out, flags=re.S)
    assert match is not None
    found = {item["name"]: item for item in json.loads(escaping.unescape(match[1]))}
    assert set(found) == {name for name, _, _ in pages}
    for name, item in found.items():
        assert item["hacked"] == "no", name
        assert item["title"] != "hacked"
        assert item["script"], name
        assert item["tip"], name
        assert item["wide"] <= 0, name

    moved = found["measured"]
    assert (moved["start"]["step"], moved["end"]["step"]) == ("step 0", "step 400")
    assert moved["start"]["at"] != moved["end"]["at"]

    info = variants["full"]["information"]["layers"]
    peak = max(v for layer in info for v in layer["ffn"])
    full = found["full"]
    assert (full["start"]["step"], full["end"]["step"]) == ("step 0", "step 600")
    for side, at in (("start", 0), ("end", -1)):
        assert float(full[side]["width"].rstrip("%")) == pytest.approx(100 * info[0]["ffn"][at] / peak, rel=2e-3)
        assert full[side]["text"] == f"{info[0]['ffn'][at]:.0f}\u00a0nats"
    assert float(full["start"]["mark"]) < float(full["end"]["mark"])


def test_a_script_that_slips_into_the_page_is_refused_by_the_browser(
    tmp_path: Path, make_record: Callable[..., dict[str, Any]]
) -> None:
    page = tmp_path / "page.html"
    broken = render_report(make_record()).replace("<main>", "<main><script>document.title='hacked'</script>")
    page.write_text(broken, encoding="utf-8")
    out, console = browse(tmp_path, page, "--dump-dom")
    assert "<title>hacked" not in out
    assert len(console) == 1
    assert "Content Security Policy" in console[0]


@pytest.mark.parametrize(("scheme", "dark"), [(1, False), (0, True)])
def test_light_and_dark(tmp_path: Path, make_record: Callable[..., dict[str, Any]], scheme: int, dark: bool) -> None:
    page, shot = tmp_path / "page.html", tmp_path / "shot.png"
    page.write_text(render_report(make_record()), encoding="utf-8")
    _, console = browse(
        tmp_path,
        page,
        f"--screenshot={shot}",
        "--window-size=900,700",
        f"--blink-settings=preferredColorScheme={scheme}",
    )
    assert console == []
    pixels = image.imread(shot)[..., :3]
    assert pixels.shape[:2] == (700, 900)
    paper = pixels[3, 3].mean()
    assert paper < 0.15 if dark else paper > 0.95
    assert (abs(pixels - pixels[3, 3]).max(axis=-1) > 0.5).mean() > 0.01  # there is ink on the paper
