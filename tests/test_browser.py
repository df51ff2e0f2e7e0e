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
from tiny import open_tiny
from tiny_notebooks import write_notebook

SOURCE = Path(__file__).resolve().parents[1] / "notebooks" / "09_explore.ipynb"
DEGRADE, COMPARE, EMBEDDING, PROMPTS, WORDS, HISTORY = EXPLORERS.values()
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
    [
        (DEGRADE, "gain"),
        (DEGRADE, "phase (px)"),
        (COMPARE, "size (px)"),
        (EMBEDDING, "patch"),
    ],
)
def test_a_slider_changes_the_picture_and_the_numbers(notebook, control, slider):
    explorer = notebook.explorer(control)
    explorer.moved(lambda: explorer.right(slider))


def test_fewer_steps_along_words_change_the_picture_and_the_numbers(notebook):
    explorer = notebook.explorer(WORDS)
    explorer.moved(lambda: explorer.left("steps"))  # the notebook leaves them at their most


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
