"""The first screen of a run's report: one picture, five numbers, a sentence that agrees with them, and a warning."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_markdown_cell, new_notebook
from PIL import Image
from tiny import tiny_manifest

from clippan_lib.fusion import build_network
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.metrics import BETTER
from clippan_lib.runs import opening, report, results
from clippan_lib.runs.headline import headline
from clippan_lib.runs.plan import plan_run
from clippan_lib.runs.report_tables import tables_of
from clippan_lib.sensors import get_sensor

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
SCENES = ("a", "b", "c")
SCORES = {
    "MPSNR": (30.0, 32.0),
    "SAM": (3.0, 2.0),
    "Q2n": (0.9, 0.95),
    "R_Q2n": (0.99, 0.999),
    "D_s": (2e-6, 1e-6),
}


def scores(lead: float = 2.0, seeds: int = 2, scenes=SCENES, truth: bool = True) -> pd.DataFrame:
    """Scores of EXP, BT-H, pnn and pnn-C, which leads BT-H by so many dB, a little more on each scene."""
    lines = []
    for number, scene in enumerate(scenes):
        same = {"scene": scene, "MPSNR": 30.0, "SAM": 3.0, "Q2n": 0.9, "R_Q2n": 0.99, "D_s": 2e-6}
        lines += [same | {"method": "EXP", "MPSNR": 20.0}, same | {"method": "BT-H"}]
        for seed in range(seeds):
            ours = 30.0 + lead * (1 + 0.01 * number) + 0.1 * seed
            made = {"seed": seed, "SAM": 3.0 - np.sign(lead), "R_Q2n": 0.99 + 0.001 * np.sign(lead)}
            lines.append(same | made | {"method": "pnn", "MPSNR": ours - 0.01})
            lines.append(same | made | {"method": "pnn-C", "MPSNR": ours})
    table = pd.DataFrame(lines).astype({"seed": "Int64"})
    return results.tidy(table if truth else table.drop(columns=["MPSNR", "SAM", "Q2n"]), resolution="full")


def found(folder: Path, table: pd.DataFrame):
    results.record(folder, "04_stage2_training", {"Scores": table})
    return headline(results.load(folder), "pnn")


@pytest.mark.parametrize(
    ("lead", "verdict", "judged"),
    [
        (2.0, "pnn-C is better than BT-H", "surely above 0"),
        (-2.0, "pnn-C is worse than BT-H", "surely below 0"),
        (0.0, "pnn-C may be as good as BT-H", "may be chance"),
    ],
)
def test_the_sentence_turns_with_the_numbers(tmp_path, lead, verdict, judged):
    table = scores(lead, seeds=1)
    if not lead:
        swing = table["scene"].map(dict(zip(SCENES, (-1.0, 0.0, 1.0), strict=True)))
        table["value"] += swing.where(table["method"].eq("pnn-C") & table["metric"].eq("MPSNR"), 0)
    told = found(tmp_path, table)
    assert told.sentence.startswith(f"{verdict}, the best of 2 classical methods, in MPSNR")
    assert judged in told.sentence and "3 test scenes" in told.sentence
    assert f"{1.01 * lead:+.3f} ±" in told.sentence.replace("-0.000", "+0.000")


def test_the_sentence_says_where_the_other_is_better(tmp_path):
    table = scores(2.0)
    table.loc[(table["method"] == "pnn-C") & (table["metric"] == "SAM"), "value"] = 5.0
    assert found(tmp_path, table).sentence.endswith("; BT-H is better in SAM.")


def test_one_scene_and_one_seed_allow_no_judgement(tmp_path):
    told = found(tmp_path, scores(2.0, seeds=1, scenes=("a",)))
    assert "may be as good as" in told.sentence and "on a single test scene" in told.sentence
    assert "±" not in told.sentence and "nan" not in str(told)


def test_there_are_five_numbers_at_most_each_with_unit_direction_and_what_it_is_compared_with(tmp_path):
    gates = pd.DataFrame({"passed": [1, 0, 1]}, index=pd.Index(["x", "y", "z"], name="variant"))
    results.record(tmp_path, "02_stage1_adaptation", {results.GATES: results.tidy(gates)})
    told = found(tmp_path, scores(2.0))
    assert [(n.name, n.value, n.direction) for n in told.numbers] == [
        ("MPSNR of pnn-C", "32.070 dB", "higher is better"),
        ("SAM of pnn-C", "2.000°", "lower is better"),
        ("Q2n of pnn-C", "0.9000", "higher is better"),
        ("MPSNR, change by language", "+0.010 ± 0.000 dB", "above 0 language helps"),
        ("Gates the supervisor passes", "2 of 3", "more is better"),
    ]
    assert told.numbers[0].note == "BT-H: 30.000 dB"


def test_without_a_truth_an_index_decides_and_the_sentence_says_so(tmp_path):
    told = found(tmp_path, scores(2.0, truth=False))
    assert "in R_Q2n" in told.sentence and "without a truth" in told.sentence
    assert found(tmp_path, scores(2.0)).sentence.count("against the truth") == 1


def test_reduced_resolution_with_its_truth_comes_before_an_index_at_full(tmp_path):
    reduced = scores(-2.0).assign(resolution="reduced")
    told = found(tmp_path, pd.concat([scores(2.0, truth=False), reduced[reduced["metric"] == "MPSNR"]]))
    assert told.resolution == "reduced" and "is worse than" in told.sentence


def test_scores_of_other_scenes_and_methods_that_lack_a_scene_are_not_compared(tmp_path):
    few = scores().query("method == 'BT-H'").assign(method="GSA", value=99.0).query("scene == 'a'")
    other = scores(scenes=("d", "e")).query("method == 'BT-H'").assign(method="TV", value=99.0)
    assert found(tmp_path, pd.concat([scores(), few, other])).rival == "BT-H"
    assert found(tmp_path, scores().query("method != 'pnn-C'")) is None


# ---------------------------------------------------------------- the page


class First(HTMLParser):
    """Tags in their order, addresses that are asked for, and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.asked, self.text, self.anchors, self.ids = [], [], "", [], []
        self.feed(page.partition("</style>")[2])

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        self.ids.append(given.get("id"))
        if tag == "a":
            self.anchors.append(given["href"])
        elif address := given.get("src") or given.get("href"):
            self.asked.append(address)

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def plan(tmp_path):
    def make(preset="smoke", notebooks=None):
        (tmp_path / "tiny.yaml").write_text(tiny_manifest())
        return plan_run(
            tmp_path / "tiny.yaml",
            preset=preset,
            device="cpu",
            name="one",
            runs=tmp_path / "runs",
            network="pnn",
            **({"notebooks": notebooks} if notebooks else {}),
        )

    return make


def page_of(made) -> str:
    record = {"seconds": {path.stem: 2.0 for path in made.notebooks}, "commit": None, "peak_process_mb": None}
    return report.index_page(made, record)


def with_network(made) -> None:
    sensor = get_sensor("QB")
    network = TrainedNetwork(build_network("pnn", 4, 4), "pnn", sensor, 2047.0, {})
    network.save(made.place.network("full", "pnn-C", 0))


def test_the_page_opens_with_picture_numbers_and_sentence_then_contents_then_sections(plan):
    made = plan()
    told = found(made.folder, scores())
    with_network(made)
    opening.draw_opening(made, told)
    page = page_of(made)
    places = [page.index(text) for text in ("<img", 'class="numbers"', told.sentence, "<nav>", 'id="part-1"')]
    assert places == sorted(places)
    first = First(page)
    assert page.partition("<nav>")[0].count("<img") == 1 and first.asked[0] == "figures/report.png"
    assert page.count('<dd class="small">') == len(told.numbers) <= 5
    assert {anchor for anchor in first.anchors if anchor.startswith("#")} == {
        f"#{each}" for each in first.ids if each and each.startswith("part-")
    }
    width, height = Image.open(made.place.figures / "report.png").size
    assert width == 1200 and height < 400


def test_the_picture_shows_inputs_best_classical_ours_and_truth_under_one_stretch(plan, monkeypatch):
    made, seen = plan(), {}
    show = opening.figures.show_images

    def noting(images, sensor, stretch, columns):
        seen.update(images)
        return show(images, sensor, stretch, columns)

    monkeypatch.setattr(opening.figures, "show_images", noting)
    with_network(made)
    opening.draw_opening(made, found(made.folder, scores()))
    titles = ["LRMS (input)", "PAN (input)", "BT-H (best classical)", "pnn-C (this run)", "truth"]
    assert list(seen) == titles
    assert [image.shape[-1] for image in seen.values()] == [24, 96, 96, 96, 96]


def test_a_run_without_its_network_has_numbers_and_no_picture(plan):
    made = plan()
    told = found(made.folder, scores())
    opening.draw_opening(made, told)
    assert "<img" not in page_of(made) and told.sentence in page_of(made)


def test_only_a_smoke_run_is_warned_of(plan):
    found((made := plan()).folder, scores())
    page = page_of(made)
    assert page.index("mean nothing") < page.index('class="numbers"')
    assert "mean nothing" not in page_of(plan("demo"))


def test_truth_comes_before_indices_and_no_number_has_an_exponent_or_hides_behind_zeros(plan):
    made = plan()
    found(made.folder, scores())
    page = page_of(made)
    assert page.index("Scores against the truth") < page.index("Indices without a truth")
    cells = re.findall(r'<td class="number[^"]*">([^<]+)</td>', page)
    assert cells and not [cell for cell in cells if re.search(r"e[-+]\d", cell)]
    assert not [cell for cell in cells if re.fullmatch(r"-?0\.0+", cell)]
    assert "D_s (10⁻⁶) ↓" in First(page).text


def test_a_metric_leads_to_its_place_in_the_glossary_where_that_is_a_part_of_the_run(plan, tmp_path):
    made = plan()
    found(made.folder, scores())
    assert {"10_glossary.html#MPSNR", "10_glossary.html#D_s"} <= {*First(page_of(made)).anchors}
    (tmp_path / "some").mkdir()
    shutil.copy(NOTEBOOKS / "04_stage2_training.ipynb", tmp_path / "some")
    without = plan(notebooks=tmp_path / "some")
    assert not [a for a in First(page_of(without)).anchors if "glossary" in a]


def test_each_link_to_the_glossary_leads_to_a_heading_of_its_page(plan, tmp_path):
    links = report.glossary_links(plan())
    glossary = nbformat.read(NOTEBOOKS / "10_glossary.ipynb", 4)
    cells = [cell for cell in glossary.cells if cell.cell_type == "markdown"]
    nbformat.write(
        new_notebook(cells=[new_markdown_cell(c.source) for c in cells]), tmp_path / "10_glossary.ipynb"
    )
    page = First(report.write_html(tmp_path / "10_glossary.ipynb").read_text())
    assert links["zero_shot_accuracy"] == "10_glossary.html#Zero-shot-accuracy"
    assert {"MPSNR", "D_s", "RQNR"} <= links.keys()
    assert {link.partition("#")[2] for link in links.values()} <= {*page.ids}


def test_the_page_asks_for_nothing_outside_the_folder_and_text_stays_text(plan, tmp_path):
    made = plan()
    found(made.folder, scores().replace({"method": {"EXP": "$x_1$ <b>bold</b>"}}))
    made.place.figures.mkdir(parents=True)
    (made.place.figures / "a_$y$_zoom.png").write_bytes(b"png")
    first = First(page_of(made))
    assert not {"script", "link", "math"} & {*first.tags}
    assert all(not re.match(r"\w+:|//", address) for address in first.asked)
    assert first.text.count("$x_1$ <b>bold</b>") == 2 and "A $y$ zoom." in first.text


def test_a_table_says_who_is_best_and_where_ours_stands(tmp_path):
    found(tmp_path, scores(-2.0))
    [rows] = results.frames(tmp_path).values()
    parts = dict(tables_of(rows, "pnn-C", {}))
    with_truth = parts["Scores against the truth"]
    assert with_truth.note.startswith("Best in MPSNR: BT-H (30.000 dB); pnn-C is number 2 of 4.")
    assert list(with_truth.columns) == ["method", "MPSNR (dB) ↑", "SAM (°) ↓", "Q2n ↑"]


def test_many_measures_of_few_rows_stand_below_one_another_and_methods_do_not(tmp_path):
    names = [f"a_measure_with_a_long_name_{number}" for number in range(8)]
    index = pd.MultiIndex.from_tuples([("seen", "before"), ("seen", "after")], names=["method", "variant"])
    table = pd.DataFrame(np.arange(16.0).reshape(2, 8), columns=names, index=index)
    results.record(tmp_path, "03_embeddings", {"Held-out patches": results.tidy(table)})
    [(topic, turned)] = tables_of(*results.frames(tmp_path).values(), "pnn-C", {})
    assert topic == "The supervisor" and list(turned.columns) == ["metric", "seen, before", "seen, after"]
    assert turned.rows[7].cells == [names[7], "7", "15"]
    few = results.tidy(pd.DataFrame({name: [0.5, 0.6] for name in BETTER}, index=index), scene="a")
    results.record(tmp_path, "03_embeddings", {"Scores": few})
    for _, table in tables_of(*results.frames(tmp_path).values(), "pnn-C", {}):
        assert table.columns[:2] == ["method", "variant"] and len(table.rows) == 2


def test_differences_stand_below_one_another_with_the_interval_that_is_told(tmp_path):
    index = pd.Index([0, 1, 2], name="seed")
    change = pd.DataFrame({"MPSNR": [0.1, 0.2, 0.3], "Q2n": [1e-5, 2e-5, 3e-5]}, index=index)
    rows = results.tidy_differences({"pnn-C": change, "random CLIP": -change}, "pnn", resolution="full")
    results.record(tmp_path, "04_stage2_training", {"Change by the language term": rows})
    [recorded] = results.frames(tmp_path).values()
    [(topic, table)] = tables_of(recorded, "pnn-C", {"MPSNR": "10_glossary.html#MPSNR"})
    assert topic == "What the language term changes"
    assert list(table.columns) == ["metric", "pnn-C minus pnn", "random CLIP minus pnn"]
    assert table.rows[0].cells == ["MPSNR difference (dB) ↑", "0.200 ± 0.248", "-0.200 ± 0.248"]
    assert table.rows[1].cells[0] == "Q2n difference (10⁻⁶) ↑"
    assert "pnn-C minus pnn: +0.200 ± 0.248 dB, which may be chance" in table.note
    assert table.links == {"MPSNR difference (dB) ↑": "10_glossary.html#MPSNR"}


@pytest.mark.parametrize("notebook", sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")))
def test_every_figure_and_notebook_of_the_course_has_a_caption_and_a_topic(notebook):
    cells = nbformat.read(NOTEBOOKS / f"{notebook}.ipynb", 4).cells
    names = re.findall(
        r'save_figure\([^"]*"(\w+)"', "\n".join(c.source for c in cells if c.cell_type == "code")
    )
    assert set(names) <= {*report.topics.FIGURES} and notebook in report.topics.NOTEBOOKS
