"""Formulas are MathML when a page is written: it asks no network, and what is no formula stays text."""

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from clippan_lib.figures.formulas import mathml, mathml_or_text
from clippan_lib.runs.notebook_page import write_html

COURSE = sorted((Path(__file__).resolve().parents[1] / "notebooks").rglob("*.ipynb"))


class Formulas(IPythonRenderer):
    """Collects the formulas of Markdown."""

    def __init__(self) -> None:
        super().__init__(escape=False)
        self.found: list[tuple[str, str]] = []

    def inline_math(self, body):
        self.found.append((body, "inline"))
        return ""

    def block_math(self, body):
        self.found.append((body, "block"))
        return ""

    def latex_environment(self, name, body):
        raise AssertionError(f"{name}: write $$ instead")


class Resources(HTMLParser):
    """What a page asks for when it is opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.asked = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        names = {"link": "href"}.get(tag, "src")
        if tag != "a" and given.get(names) and not given[names].startswith("data:"):
            self.asked.append((tag, given[names]))
        if tag == "script":
            self.asked.append((tag, given.get("type")))


def page_of(folder: Path, *cells) -> str:
    nbformat.write(new_notebook(cells=[*cells]), folder / "00_a.ipynb")
    return write_html(folder / "00_a.ipynb").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)
def test_every_formula_of_the_course_becomes_mathml(path):
    collect = Formulas()
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "markdown":
            rest = MarkdownWithMath(collect).render(cell.source)
            assert "$" not in re.sub("(?s)<(pre|code).*?</(pre|code)>", "", rest), cell.source
    for tex, display in collect.found:
        formula = ElementTree.fromstring(mathml(tex, display))
        assert formula.tag == "math" and formula.get("display") == display
        assert "".join(formula.itertext()).strip() and "$" not in "".join(formula.itertext())


def test_a_formula_has_the_parts_that_its_latex_says():
    formula = ElementTree.fromstring(mathml(r"\mathcal L = \frac{1}{\|x\|} \sum_b \arg\max_M F_b"))
    assert formula.find(".//mfrac") is not None
    assert "".join(formula.itertext()).replace(" ", "").replace("\u2061", "") == "ℒ=1‖x‖∑bargmaxMFb"


@pytest.mark.parametrize("tex", ["1", "5 and ", r"\nothing{", "_", r"\frac", r"\unheard x", ""])
def test_what_is_no_formula_stays_the_text_it_was(tex):
    made = mathml_or_text(tex)
    assert made == f"${tex}$" or (made.startswith("<math") and "\\" not in made)
    assert (made == f"${tex}$") == (tex not in ("1", "5 and "))


@pytest.mark.parametrize(
    "tex",
    [
        r"\text{<script>alert(1)</script>}",
        "<img src=x onerror=alert(1)>",
        r"\href{javascript:alert(1)}{x}",
        r"\style{background:url(http://a.org)}{x}",
        r'\color{red"><img src=x>}x',
        r"\text{&lt;b&gt;}",
    ],
)
def test_a_formula_of_others_runs_nothing_and_asks_for_nothing(tex):
    made = mathml_or_text(tex)
    tags = re.findall(r"<(\w+)", made)
    assert tags == [tag for tag in tags if tag == "math" or tag.startswith("m")]
    for element in ElementTree.fromstring(made).iter():
        assert not {"href", "style", "src", "onerror"} & element.attrib.keys()


def test_dollar_signs_in_a_table_and_in_printed_text_are_no_formula(tmp_path):
    outputs = [
        new_output("stream", text="$x_1$ printed\n"),
        new_output("display_data", {"text/html": "<table><td>$x_2$</td></table>", "text/plain": ""}),
    ]
    page = page_of(tmp_path, new_markdown_cell("It is $x_3$."), new_code_cell("'$x_4$'", outputs=outputs))
    assert page.count("<math") == 1 and "<msub><mi>x</mi><mn>3</mn></msub>" in page
    assert "$x_1$ printed" in page and "<td>$x_2$</td>" in page


def test_the_page_of_a_notebook_asks_for_no_other_file(tmp_path):
    text = "```mermaid\ngraph TD\n```\n$$x$$\n[a](https://example.org)"
    page = page_of(tmp_path, new_markdown_cell(text), new_code_cell("1"))
    assert Resources(page).asked == []
    assert "@import" not in page and not re.search(r"url\((?!['\"]?(data:|#))", page)
    assert 'href="https://example.org"' in page and '<math display="block">' in page
