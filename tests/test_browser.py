"""The explorers in JupyterLab in a browser: what is moved there redraws, and nothing complains."""

import shutil
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import browser
import nbformat
import papermill
import pytest
from browser import EXPLORERS
from tiny import open_tiny, tiny_manifest
from tiny_notebooks import write_notebook

from clippan_lib.runs.plan import plan_run
from clippan_lib.runs.run import open_run

SOURCE = Path(__file__).resolve().parents[1] / "notebooks" / "09_explore.ipynb"
DEGRADE, COMPARE, EMBEDDING, PROMPTS, HISTORY = EXPLORERS.values()
WIDGET = "application/vnd.jupyter.widget-view+json"

TINY = """
from IPython.display import Javascript
from ipywidgets import IntSlider
from matplotlib.figure import Figure

from clippan_lib.explore.base import Explorer

class Tiny(Explorer):
    def __init__(self, name):
        super().__init__({"at": IntSlider(0, 0, 9, description=name)})

    def _build(self):
        figure = Figure((2, 1))
        text = figure.text(0.5, 0.5, "")
        return figure, lambda: text.set_text(str(self["at"]))

    def _numbers(self):
        return f"at {self['at']}"
"""
PLANTS = {
    "well": "pass",
    "picture": "view._render = lambda view=view: view.picture.value",
    "numbers": "view._numbers = lambda view=view: view.numbers.value",
    "both": "view.controls['at'].unobserve_all()",
    "error": "view._settle = lambda: 1 / 0",
}
COMPLAINTS = """
Javascript("console.error('planted in the console'); setTimeout(() => { throw Error('planted and not caught') })")
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    if reason := browser.missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("lab")
    run = open_tiny(folder)
    run.stage1(run.new_supervisor(), "supervisor")
    parameters = {"manifest": str(folder / "tiny.yaml"), "run_dir": str(run.folder), "preset": "smoke"}
    papermill.execute_notebook(str(SOURCE), str(folder / "here.ipynb"), parameters, prepare_only=True)
    shutil.copy(SOURCE, folder / "cloned.ipynb")
    planted = [f"view = Tiny({name!r})\n{plant}\nview" for name, plant in PLANTS.items()]
    write_notebook(folder / "planted.ipynb", "", TINY, *planted, COMPLAINTS, "1 / 0")
    with browser.lab(folder) as lab:
        yield lab


@pytest.fixture(scope="module")
def notebook(lab):
    notebook = lab.open("here.ipynb")
    notebook.run()
    return notebook


# Short enough for a test; the notebooks are not told of it
SHORT = {"stage1_iterations": 3, "pseudo_iterations": 2, "stage2_iterations": 2, "n_seeds": 1}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone with the run that `clippan run` leaves in it, on a few small scenes, and JupyterLab there."""
    if reason := browser.missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("clone")
    for name in ("notebooks", "data_manifests"):
        (folder / name).mkdir()
    manifest = folder / "data_manifests" / "synthetic_wv3.yaml"
    manifest.write_text(tiny_manifest().replace("name: tiny", "name: synthetic_wv3"))
    for name in AFTER_A_RUN:
        shutil.copy(SOURCE.with_name(name), folder / "notebooks" / name)
    made = plan_run(manifest, preset="demo", device="cpu", changes=SHORT, runs=folder / "runs")
    made.place.write_settings(made.settings)
    run = open_run(manifest, "", made.folder, "demo", 0, "cpu", SHORT)
    run.stage1(run.new_supervisor(), "supervisor")
    variants = {"pnn": None, "pnn-C": run.adapted_supervisor()}
    for resolution in ("full", "reduced"):
        run.stage2(variants, run.pseudo_supervisor(), resolution)
    with browser.lab(folder) as lab:
        yield lab


AFTER_A_RUN = ("05_zooms_and_errors.ipynb", "09_explore.ipynb")


@pytest.mark.parametrize("name", AFTER_A_RUN)
def test_after_a_run_all_cells_of_a_notebook_run_as_they_stand_in_a_clone(clone, name):
    notebook = clone.open(f"notebooks/{name}")
    notebook.run()
    assert notebook.complaints == []


@pytest.fixture(scope="module")
def planted(lab):
    """A notebook with mistakes, whose last cell is one more."""
    notebook = lab.open("planted.ipynb")
    with pytest.raises(
        AssertionError, match="^cells ended with errors: ZeroDivisionError: division by zero$"
    ):
        notebook.run()
    return notebook


@pytest.mark.parametrize("control", EXPLORERS.values(), ids=EXPLORERS)
def test_every_explorer_shows_a_picture_and_numbers_and_no_error(notebook, control):
    seen = notebook.explorer(control).seen()
    assert seen.picture and seen.numbers and not seen.alarm


def test_there_are_no_other_explorers(notebook):
    assert len(notebook.explorers()) == len(EXPLORERS)


@pytest.mark.parametrize(
    ("control", "slider"),
    [(DEGRADE, "gain"), (DEGRADE, "phase (px)"), (COMPARE, "size (px)"), (EMBEDDING, "patch")],
)
def test_a_slider_changes_the_picture_and_the_numbers(notebook, control, slider):
    explorer = notebook.explorer(control)
    explorer.moved(lambda: explorer.right(slider))


def test_a_slider_changes_the_curves_of_a_training(notebook):
    explorer = notebook.explorer(HISTORY)
    explorer.moved(lambda: explorer.right("running mean"), ["picture"])


@pytest.mark.parametrize(
    ("box", "text"), [(PROMPTS, "a sharp photograph of a harbour"), (EMBEDDING, "20, 75")]
)
def test_a_text_box_changes_the_picture_and_the_numbers(notebook, box, text):
    explorer = notebook.explorer(box)
    explorer.moved(lambda: explorer.type(box, text))


def test_the_console_of_the_browser_shows_no_error(notebook):
    """The last of the tests that move something in this notebook."""
    assert notebook.complaints == []


def test_a_clone_that_was_not_run_shows_still_images(lab):
    outputs = [output for cell in nbformat.read(SOURCE, 4).cells for output in cell.get("outputs", [])]
    kinds = [set(output.get("data", {})) for output in outputs]
    assert sum({WIDGET, "image/png"} <= kind for kind in kinds) == len(EXPLORERS)
    notebook = lab.open("cloned.ipynb")
    notebook.wait_for_images(sum("image/png" in kind for kind in kinds))
    assert notebook.page.get_by_text("displaying widget").count() == 0
    assert notebook.complaints == []


def test_a_working_explorer_passes_the_check(planted):
    explorer = planted.explorer("well")
    assert explorer.moved(lambda: explorer.right("well")).numbers == "at 1"


@pytest.mark.parametrize(
    ("plant", "told"),
    [
        ("picture", "^picture as before"),
        ("numbers", "^numbers as before"),
        ("both", "^picture and numbers as before"),
        ("error", "ZeroDivisionError"),
    ],
)
def test_a_dead_callback_fails_the_check(planted, plant, told):
    explorer = planted.explorer(plant)
    with pytest.raises(AssertionError, match=told):
        explorer.moved(lambda: explorer.right(plant), patience=3)


def test_errors_in_the_console_and_uncaught_ones_are_noticed(planted):
    told = " ".join(planted.complaints)
    assert "planted in the console" in told and "uncaught: planted and not caught" in told


def test_the_server_ends_when_what_uses_it_fails(tmp_path):
    with pytest.raises(KeyError, match="planted"), browser.server(tmp_path) as address:
        urlopen(f"{address}api/status", timeout=60).close()
        raise KeyError("planted")
    with pytest.raises(URLError, match="refused"):
        urlopen(f"{address}api/status", timeout=60)


def test_without_a_browser_the_reason_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "none of chromium" in browser.missing()
    with pytest.raises(RuntimeError, match="none of chromium"), browser.lab(tmp_path):
        pass
