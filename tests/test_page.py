"""The one page: whatever a manifest or a file is called, it is text, and it is one template for all three pages."""

import base64
import io
import tomllib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
from matplotlib.figure import Figure
from tiny import tiny_manifest

from clippan_lib.figures.page import (
    Card,
    KeyNumber,
    Link,
    Opening,
    PageRow,
    PageTable,
    Picture,
    Section,
    drawn,
    inline,
    render,
    table_of,
)
from clippan_lib.runs import report
from clippan_lib.runs.plan import plan_run

ROOT = Path(__file__).resolve().parents[1]
EVIL = '<script>alert("x")</script>'
ESCAPED = "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;"


def test_every_text_of_a_page_is_escaped():
    section = Section(
        EVIL,
        EVIL,
        tables=[PageTable([EVIL], [PageRow([EVIL], EVIL)], EVIL, EVIL, 1, {EVIL: EVIL})],
        pictures=[Picture(EVIL, EVIL, EVIL)],
        links=[Link(EVIL, EVIL, EVIL, EVIL)],
        cards=[Card(EVIL, EVIL, EVIL)],
        facts={EVIL: EVIL},
    )
    opening = Opening(EVIL, [KeyNumber(EVIL, EVIL, EVIL, EVIL, EVIL)], Picture(EVIL, EVIL, EVIL), EVIL)
    page = render(EVIL, [section], {EVIL: EVIL}, opening)
    assert "<script" not in page
    listed, tables, pictures, links, cards = 2 + 2, 3 + 2 + 3, 4, 5, 3
    opened = 1 + 5 + 4 + 1 + 1  # sentence, a number, picture, warning, an entry of the contents
    assert page.count(ESCAPED) == 2 + listed + 2 + tables + pictures + links + cards + opened
    assert f"<title>{ESCAPED}</title>" in page


def test_what_is_not_given_leaves_no_trace():
    page = render("Title", [Section("Nothing")])
    for tag in ("<dl", "<p>", "<table", "<figure", "<ul", 'class="cards"', "<a "):
        assert tag not in page
    assert "<h1>Title</h1>" in page and '<h2 id="part-1">Nothing</h2>' in page


def test_the_best_of_a_table_is_bold_and_rows_keep_their_kind():
    names = pd.MultiIndex.from_product([["EXP", "GSA"], ["x"]], names=["method", "variant"])
    text = pd.DataFrame({"SAM (°) ↓": ["3.000", "2.000"]}, index=names)
    placed = pd.DataFrame({"SAM (°) ↓": [2, 1]}, index=names)
    page = render("Title", [Section(tables=[table_of(text, placed, "Scores", "from 04")])])
    assert (
        '<th class="name">method</th><th class="name">variant</th><th class="number">SAM (°) ↓</th>' in page
    )
    for name, cell in {"EXP": '"number">3.000', "GSA": '"number best">2.000'}.items():
        row = f'<tr><td class="name">{name}</td><td class="name">x</td><td class={cell}</td></tr>'
        assert row in page
    assert '<p class="title"><b>Scores.</b> from 04</p>' in page
    page = render("Title", [Section(tables=[PageTable(["a"], [PageRow(["b"], "fault")])])])
    assert '<tr class="fault"><td>b</td></tr>' in page and "<th>a</th>" in page


def test_the_title_and_the_licence_of_a_manifest_come_out_escaped_on_the_page_of_a_run(tmp_path):
    (tmp_path / "tiny.yaml").write_text(
        tiny_manifest()
        .replace("A few small synthetic scenes", "<script>alert(1)</script>")
        .replace("Apache-2.0", '"<img src=x>"')
    )
    plan = plan_run(tmp_path / "tiny.yaml", preset="smoke", device="cpu", name="one", runs=tmp_path / "runs")
    seconds = {path.stem: 2.0 for path in plan.notebooks}
    page = report.index_page(plan, {"seconds": seconds, "commit": None, "peak_process_mb": None})
    assert "<script" not in page and "<img" not in page
    assert "<h1>&lt;script&gt;alert(1)&lt;/script&gt;: pnn, smoke preset</h1>" in page
    assert "<dd>&lt;img src=x&gt;</dd>" in page


def test_an_image_lies_inside_the_page():
    assert inline(b"abc", "png") == "data:image/png;base64,YWJj"


def test_the_template_is_shipped_with_the_package():
    package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert "*.html" in package["package-data"]["clippan_lib.assets"]
    assert files("clippan_lib.assets").joinpath("page.html").is_file()


def test_no_other_file_of_ours_writes_a_page():
    sources = [*(ROOT / "clippan_lib").rglob("*.py"), *(ROOT / "docs").glob("*.py")]
    assert [path.name for path in sources if "<!doctype" in path.read_text(encoding="utf-8").lower()] == []


def test_a_figure_of_few_colours_is_smaller_and_looks_the_same():
    figure = Figure(figsize=(4, 3))
    figure.subplots().imshow(np.random.default_rng(0).random((60, 80)), cmap="magma")
    whole, few = drawn(figure, "noise"), drawn(figure, "noise", 256)
    assert len(few.source) < 0.6 * len(whole.source)
    bytes_of = (base64.b64decode(picture.source.partition(",")[2]) for picture in (whole, few))
    one, other = (
        np.asarray(PIL.Image.open(io.BytesIO(each)).convert("RGB")).astype(int) for each in bytes_of
    )
    assert np.abs(one - other).mean() < 3
