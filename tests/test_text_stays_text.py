"""What others say of their data stays text, on every page, in every table and in every format."""

from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import MagicMock

import nbformat
import pandas as pd
import papermill.parameterize
import pytest
import yaml
from matplotlib.figure import Figure
from nbconvert.filters import markdown2html_mistune
from nbformat.v4 import new_code_cell, new_notebook, new_output
from test_tables import RECORD, WITHOUT, line, written
from tiny_notebooks import MANIFEST

from clippan_lib import figures
from clippan_lib.audit import Audit, Finding
from clippan_lib.audit import report as audit_report
from clippan_lib.campaign import record, tables
from clippan_lib.campaign.grid import plan_campaign
from clippan_lib.cli import main
from clippan_lib.data import load_manifest
from clippan_lib.errors import Refusal
from clippan_lib.explore.base import scrolled
from clippan_lib.figures.prose import said
from clippan_lib.figures.style import styled
from clippan_lib.figures.tables import best_in_bold
from clippan_lib.figures.text import code, plain
from clippan_lib.fusion import build_network
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.metrics import BETTER
from clippan_lib.runs import report, results, runner
from clippan_lib.runs.kernels import Kernels
from clippan_lib.runs.notebook_page import write_html
from clippan_lib.runs.plan import plan_run
from clippan_lib.runs.results import save_latex

PLANTS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "{{7*7}}",
    "$x_1$ & % # ~ ^",
    "[a](javascript:alert(1))",
    "](javascript:alert(1))",
    "a | b | c",
    "`<b>` *bold* _it_ \\",
)
PLANT = " ".join(PLANTS)


class Page(HTMLParser):
    """Elements, addresses and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.addresses, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("href", "src")]
        assert not [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data):
        self.text += data

    def said(self, plant: str = PLANT, times: int = 1) -> bool:
        """Whether a plant is there as it was written, and nothing in it became an element or an address."""
        assert not [address for address in self.addresses if address.strip().startswith("javascript")]
        assert "49" not in self.text.replace("149", "")
        words = " ".join(self.text.split())
        return words.count(" ".join(plant.split())) >= times


def planted(folder: Path) -> Path:
    """A manifest with the plant in every field that takes any text."""
    content = yaml.safe_load(MANIFEST.read_text())
    sensor = {"name": PLANT, "bands": [f"{number} {PLANT}" for number in range(3)], "bits": 11, "ratio": 4}
    sensor |= {"gnyq": [0.3] * 3, "gnyq_pan": 0.15, "rgb": [2, 1, 0], "gbnir": [1, 0, 2]}
    texts = dict.fromkeys(("title", "licence", "citation", "homepage", "how_to_get"), PLANT)
    source = {"kind": "synthetic", "scenes": {"train": 1, "val": 1, "test": 1}, "size": 256, "seed": 0}
    folder.mkdir(exist_ok=True)
    path = folder / "planted.yaml"
    path.write_text(yaml.safe_dump(content | texts | {"name": "planted", "source": source, "sensor": sensor}))
    return path


@pytest.fixture
def manifest(tmp_path):
    return load_manifest(planted(tmp_path))


def test_a_manifest_and_the_numbers_of_a_run_stay_text_on_its_page(tmp_path):
    path = planted(tmp_path)
    content = yaml.safe_load(path.read_text()) | {"sensor": "WV3"}
    path.write_text(yaml.safe_dump(content))
    plan = plan_run(path, preset="smoke", device="cpu", name="one", runs=tmp_path / "runs")
    row = {"metric": PLANT, "value": 1.0, "unit": PLANT, "method": PLANT, "variant": PLANT, "scene": PLANT}
    results.record(plan.folder, PLANT, {PLANT: pd.DataFrame([row])})
    seconds = {path.stem: 2.0 for path in plan.notebooks}
    made = {"seconds": seconds, "commit": PLANT, "peak_process_mb": None}
    page = Page(report.index_page(plan, made))
    # title twice, licence, citation, commit; table, notebook, method, variant, metric with its unit
    assert page.said(times=11) and not {"script", "img"} & {*page.tags}


def test_a_manifest_and_findings_stay_text_on_the_page_of_an_audit(manifest):
    finding = Finding(PLANT, PLANT, PLANT, "fault", PLANT, 1.0, PLANT, PLANT)
    page = Page(audit_report.page(Audit(manifest, (finding,))))
    assert page.said(times=9) and not {"script", "img"} & {
        *page.tags
    }  # title twice, sensor, six of the finding


def campaign(folder: Path) -> record.Results:
    """A campaign with the plant in every text of its record, and in its rows."""
    texts = dict.fromkeys(("title", "preset", "device", "command", "commit"), PLANT)
    found = [line(row, seed, 30.0 + seed) for row in (WITHOUT, PLANT) for seed in range(3)]
    found += [line(f"no {PLANT}", 0, None)]
    facts = RECORD["datasets"]["wv2_grip"] | {"title": PLANT}
    return record.load(written(folder, found, **texts, datasets={"wv2_grip": facts}))


def test_a_campaign_stays_text_in_markdown(tmp_path):
    made = campaign(tmp_path)
    texts = [made.record.heading, tables.reading(made), *(each.heading for each in tables.all_tables(made))]
    for text in (*texts, tables.as_markdown(made)):
        page = Page(markdown2html_mistune(text))
        assert page.said() and not {"script", "img", "a", "b"} & {*page.tags}, text
        assert "$" not in text.replace(made.record.command, "")
    cells = [
        text.replace(r"\|", "") for text in tables.as_markdown(made).splitlines() if text.startswith("|")
    ]
    assert {text.count("|") for text in cells if "no " in text or WITHOUT in text} == {cells[0].count("|")}


def test_a_campaign_stays_text_in_the_tables_of_its_page(tmp_path):
    for table in tables.all_tables(campaign(tmp_path)):
        page = Page(table.styled.to_html())
        assert page.said() and not {"script", "img", "b"} & {*page.tags}


def test_texts_and_names_of_a_table_stay_text_in_html_and_latex(tmp_path):
    scores = pd.DataFrame({PLANT: [PLANT, "b"], "MPSNR": [1.23456, 2.0], "n": [1, 2]}, index=[PLANT, "other"])
    table = best_in_bold(scores[["MPSNR", "n"]], BETTER, digits=2)
    assert "1.23" in table.to_html() and "1.2346" not in table.to_html()
    whole = figures.tables.dressed(scores, pd.DataFrame(0, scores.index, scores.columns), 2)
    assert Page(whole.to_html()).said(times=3)
    save_latex(tmp_path, "t", whole)
    text = (tmp_path / "tables" / "t.tex").read_text()
    assert text.count(r"\{\{7*7\}\} \$x\_1\$ \& \% \# \textasciitilde") == 3
    assert "1.23 " in text and "1.2346" not in text


def test_a_campaign_whose_dataset_is_a_path_is_refused(tmp_path):
    facts = RECORD["datasets"]["wv2_grip"]
    with pytest.raises(ValueError, match=r"campaign.json is not a campaign's: datasets"):
        record.load(
            written(tmp_path, [line(WITHOUT, 0, 1.0, dataset="../../up")], datasets={"../../up": facts})
        )


@pytest.mark.parametrize("plant", PLANTS)
def test_a_plain_text_is_what_markdown_shows(plant):
    for text in (plain(plant), code(plant)):
        page = Page(markdown2html_mistune(f"A **{text}** b"))
        assert page.text.split() == f"A {plant} b".split()
        assert {*page.tags} <= {"p", "strong", "code", "span"}
    page = Page(markdown2html_mistune(f"| {plain(plant)} | 1 |\n| --- | --- |\n| {plain(plant)} | 2 |"))
    assert page.tags.count("td") + page.tags.count("th") == 4 and page.said(plant, times=2)


@pytest.mark.parametrize("plant", PLANTS[:2] + PLANTS[4:6])
def test_a_sentence_of_a_notebook_runs_nothing_and_keeps_its_own_links(plant):
    text = said(
        f"The gates were not tried: {plant}.", "See [04](04.ipynb), [home](https://example.org)."
    ).data
    page = Page(markdown2html_mistune(text))
    assert not {"script", "img"} & {*page.tags} and page.said(plant)
    assert page.addresses == ["04.ipynb", "https://example.org"]


def test_a_notebook_that_printed_and_showed_a_plant_is_a_page_without_it(tmp_path):
    shown = pd.DataFrame({PLANT: [PLANT]}, index=[PLANT])
    outputs = [
        new_output("stream", text=f"{PLANT}\n"),
        new_output(
            "execute_result", {"text/plain": PLANT, "text/html": shown._repr_html_()}, execution_count=1
        ),
        new_output("display_data", {"text/markdown": said(PLANT).data, "text/plain": ""}),
        new_output("error", ename="ValueError", evalue=PLANT, traceback=[PLANT]),
    ]
    cell = new_code_cell("1", outputs=outputs, execution_count=1)
    nbformat.write(new_notebook(cells=[cell]), tmp_path / "00_a.ipynb")
    page = write_html(tmp_path / "00_a.ipynb").read_text()
    assert "<script>alert" not in page and "<img src=x" not in page and 'href="javascript:' not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 6


def test_the_header_of_a_network_stays_text_in_a_table_and_in_an_explorer(tmp_path, manifest):
    origin = dict.fromkeys(("dataset", "variant", "resolution", "config"), PLANT) | {"seed": "0"}
    sensor = manifest.resolve_sensor()
    TrainedNetwork(build_network("pnn", 3, 4), "pnn", sensor, 2047.0, origin).save(tmp_path / "a.safetensors")
    header = TrainedNetwork.header(tmp_path / "a.safetensors")
    shown = pd.DataFrame({header.sensor.name: header.origin}, index=[*header.origin])
    with pd.option_context("display.max_colwidth", None):
        texts = [shown._repr_html_(), scrolled(shown), best_in_bold(shown, BETTER).to_html()]
    for html in texts:
        page = Page(html)
        assert page.said(times=3) and not {"script", "img"} & {*page.tags}


@pytest.mark.parametrize("name", ["a$b", "$x_1$", r"$\nothing{$", "$$", r"\$"])
def test_a_name_with_dollar_signs_is_no_formula_of_a_figure(name):
    @styled
    def draw() -> Figure:
        figure = Figure()
        ax = figure.subplots()
        ax.plot([1, 10, 1000], label=name)
        ax.set(title=name, xlabel=name, yscale="log")
        ax.set_xticks([0, 1], [name, name])
        ax.legend()
        figure.suptitle(name)
        return figure

    ax = draw().axes[0]
    assert ax.xaxis.get_ticklabels()[0].get_parse_math() is False
    assert all(label.get_parse_math() for label in ax.yaxis.get_ticklabels())


# ---------------------------------------------------------------- names


NO_NAMES = [
    "{seed}",
    "a{b",
    "a b",
    "a/b",
    "..",
    ".a",
    "",
    "a" * 101,
    "ä",
    "a\n",
    "<b>",
    "a\0",
    "$x",
    "a:b",
    "%s",
]


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_that_is_more_than_a_name_is_refused_before_anything_is_written(
    tmp_path, monkeypatch, capsys, name
):
    monkeypatch.chdir(tmp_path)
    for command in (["run", str(MANIFEST)], ["table", "2", str(MANIFEST)]):
        assert main([*command, f"--name={name}", "--device", "cpu"]) == 2
        said = capsys.readouterr().err
        assert said.startswith("clippan: --name ") and "is not the name of a folder; give letters" in said
        assert said.count("\n") == 1 and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["a", "A-b_c.d", "a" * 100, "0.1"])
def test_a_plain_name_is_the_name_of_the_folder(tmp_path, name):
    plan = plan_run(MANIFEST, name=name, preset="smoke", device="cpu", runs=tmp_path / "runs")
    assert plan.folder.name == name
    made = plan_campaign(1, [MANIFEST], name=name, preset="smoke", device="cpu", runs=tmp_path / "runs")
    assert made.folder.name == name


def test_the_name_of_many_datasets_is_asked_for_where_it_is_too_long(tmp_path):
    long = tmp_path / "long.yaml"
    long.write_text(MANIFEST.read_text().replace("name: synthetic_wv3", f"name: {'l' * 90}"))
    with pytest.raises(Refusal, match=r"--name 'table1_smoke_l.*at most 100"):
        plan_campaign(1, [long], preset="smoke", device="cpu", runs=tmp_path / "runs")


@pytest.mark.parametrize("folder", ["{seed}", "a{b", "a}b", "{}", "{0}", "{{x}}", "{pm[run_uuid]}", "plain"])
def test_a_folder_with_braces_reaches_papermill_as_it_is(tmp_path, monkeypatch, folder):
    seen = []

    def execute_notebook(path, output, parameters, **_):
        given = papermill.parameterize.add_builtin_parameters(parameters)
        seen.extend(papermill.parameterize.parameterize_path(each, given) for each in (path, output))
        return new_notebook()

    monkeypatch.setattr(papermill, "execute_notebook", execute_notebook)
    path, output = tmp_path / folder / "in.ipynb", tmp_path / folder / "out.ipynb"
    runner.execute_notebook(path, output, {"seed": 3}, kernels=MagicMock(spec=Kernels))
    assert seen == [str(path), str(output)]
