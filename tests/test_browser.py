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
SMALL, LARGE = (1280, 800), (1600, 1000)  # px, windows
WIDGET = "application/vnd.jupyter.widget-view+json"

TINY = """
from IPython.display import Javascript
from ipywidgets import IntSlider
from matplotlib.figure import Figure

from clippan_lib.explore.base import Explorer
from clippan_lib.explore.plot import Plot, built

class Tiny(Explorer):
    def __init__(self, name):
        self.plot = Plot(self._build)
        super().__init__({"at": IntSlider(0, 0, 9, description=name)}, [self.plot.widget])

    def _build(self):
        figure = Figure((2, 1))
        text = figure.text(0.5, 0.5, "")
        return figure, lambda: text.set_text(str(self["at"]))

    def _draw(self):
        self.plot.draw()

    def _print(self):
        return built(self._build)[0]

    def _numbers(self):
        return f"at {self['at']}"
"""
PLANTS = {
    "well": "pass",
    "picture": "view._draw = lambda: None",
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
    notebook = lab.open("here.ipynb", *SMALL)
    notebook.run()
    return notebook


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
def window(request, notebook):
    """The notebook in a window of this size."""
    width, height = request.param
    notebook.page.set_viewport_size({"width": width, "height": height})
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
def test_every_explorer_shows_a_picture_and_numbers_and_no_error_and_fits_the_window(window, control):
    explorer = window.explorer(control)
    seen = explorer.seen()
    assert seen.picture and seen.numbers and not seen.alarm
    assert explorer.height() <= window.room()


@pytest.mark.parametrize("control", [DEGRADE, COMPARE])
def test_the_mouse_moves_and_zooms_the_area_of_all_pictures(window, control):
    explorer = window.explorer(control)
    frame = explorer.frame(1)
    explorer.click(0.5, 0.5, frame)
    explorer.moved(lambda: explorer.wheel(0.5, 0.5, frame, -1))
    top, left, size = explorer.state("view")
    explorer.moved(lambda: explorer.drag((0.25, 0.25), (0.5, 0.25), frame=frame))
    assert explorer.state("view")[1:] == [max(left - size / 4, 0) // 4 * 4, size]
    explorer.moved(lambda: explorer.wheel(0.5, 0.5, frame, 1))
    assert explorer.state("view")[2] > size


def test_a_click_sets_the_cross_and_keys_move_it(window):
    explorer = window.explorer(COMPARE)
    explorer.moved(lambda: explorer.click(0.25, 0.75, explorer.frame()), ["picture"])
    (top, left, size), (row, column) = explorer.state("view"), explorer.state("spot")
    assert abs(row - top - 0.75 * size) <= 2 and abs(column - left - 0.25 * size) <= 2
    explorer.moved(lambda: explorer.page.keyboard.press("ArrowUp"), ["picture"])
    assert explorer.state("spot") == [row - 1, column]


def test_shift_and_a_drag_choose_an_area(window):
    explorer = window.explorer(DEGRADE)
    explorer.wheel(0.5, 0.5, explorer.frame(), 1)
    explorer.page.wait_for_timeout(300)
    top, left, size = explorer.state("view")
    explorer.moved(lambda: explorer.drag((0.1, 0.1), (0.6, 0.6), frame=explorer.frame(), keys="Shift"))
    assert explorer.state("view")[2] < size


def test_a_drag_moves_the_line_of_a_swipe_and_the_slider_follows(window):
    explorer = window.explorer(COMPARE)
    explorer.moved(lambda: explorer.control("view").get_by_text("swipe", exact=True).click(), ["picture"])
    (split,) = explorer.state("split")
    explorer.moved(lambda: explorer.drag((split, 0.5), (0.8, 0.5), frame=explorer.frame()), ["picture"])
    assert explorer.state("split") == [pytest.approx(0.8, abs=0.02)]
    assert explorer.control("swipe (%)").locator(".widget-readout").inner_text() == "80"
    explorer.moved(lambda: explorer.control("view").get_by_text("side by side").click(), ["picture"])


def test_the_pointer_is_told_the_values_under_it(window):
    explorer = window.explorer(COMPARE)
    explorer.page.mouse.move(*explorer.point(0.5, 0.5, explorer.frame(1)))
    explorer.page.wait_for_function(
        "box => box.querySelector('.clippan-status').textContent.includes(' DN')",
        arg=explorer.canvas().element_handle(),
    )


def test_a_click_on_a_point_chooses_it_and_a_lasso_counts(window):
    explorer = window.explorer(EMBEDDING)
    across, down = explorer.state("points")[2:]  # of the last one
    explorer.moved(lambda: explorer.click(across, down, explorer.frame()))
    explorer.moved(lambda: explorer.page.keyboard.press("ArrowLeft"))
    round_all = (0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99)
    seen = explorer.moved(
        lambda: explorer.drag(*round_all, frame=explorer.frame(), keys="Shift"), ["numbers"]
    )
    assert "in the lasso" in seen.numbers
    explorer.moved(lambda: explorer.click(0.005, 0.995, explorer.frame()), ["numbers"])


def test_a_click_into_the_scene_walks_there(window):
    explorer = window.explorer(WORDS)
    at = 0.2 if window.page.viewport_size["width"] == SMALL[0] else 0.8
    explorer.moved(lambda: explorer.click(at, at, explorer.frame()))
    explorer.moved(lambda: explorer.wheel(0.5, 0.5, explorer.frame(1), -1), ["picture"])


def test_there_are_no_other_explorers(notebook):
    assert len(notebook.explorers()) == len(EXPLORERS)


@pytest.mark.parametrize("slider", ["gain", "phase (px)"])
def test_a_slider_changes_the_picture_and_the_numbers(notebook, slider):
    explorer = notebook.explorer(DEGRADE)
    explorer.moved(lambda: explorer.right(slider))


def test_fewer_steps_along_words_change_the_picture_and_the_numbers(notebook):
    explorer = notebook.explorer(WORDS)
    explorer.moved(lambda: explorer.left("steps"))  # the notebook leaves them at their most


def test_a_slider_changes_the_curves_of_a_training(notebook):
    explorer = notebook.explorer(HISTORY)
    explorer.moved(lambda: explorer.right("smooth"), ["picture"])


def test_a_text_changes_the_picture_and_the_numbers(notebook):
    explorer = notebook.explorer(PROMPTS)
    explorer.moved(lambda: explorer.type(PROMPTS, "a sharp photograph of a harbour"))


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
