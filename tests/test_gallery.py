"""The course as web pages: nothing to run, nothing dead, no link that leads nowhere."""

import base64
import io
import re
from pathlib import Path

import nbformat
import pytest
import write_gallery
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from clippan_lib.runs.notebook_page import write_html

COURSE = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))


def png(width=1000, height=400):
    file = io.BytesIO()
    Image.new("RGB", (width, height), (0, 114, 178)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def notebook(folder, name, *outputs, text="# Is it & blue?"):
    cells = [new_markdown_cell(text), new_code_cell("shown", outputs=[*outputs])]
    path = folder / name
    nbformat.write(new_notebook(cells=cells), path)
    return path


def figure(**more):
    return new_output("display_data", {"image/png": png(), **more})


def hrefs(page):
    return set(re.findall(r'href="([^"]+)"', page))


def test_the_first_page_leads_to_every_notebook_with_its_question_and_its_first_figure(tmp_path):
    paths = [notebook(tmp_path, f"0{n}_x.ipynb", figure()) for n in range(2)]
    page = write_gallery.write_gallery(paths, tmp_path / "gallery").read_text()
    assert hrefs(page) == {"00_x.html", "01_x.html"}
    assert "00 Is it &amp; blue?" in page
    [thumbnail, _] = re.findall(r"base64,([^\"]+)", page)
    assert Image.open(io.BytesIO(base64.b64decode(thumbnail))).size == (480, 192)


def test_a_notebook_without_a_figure_is_refused_and_the_first_page_not_written(tmp_path):
    paths = [notebook(tmp_path, "00_x.ipynb", figure()), notebook(tmp_path, "01_y.ipynb")]
    with pytest.raises(ValueError, match="01_y.ipynb holds no figure: run it first"):
        write_gallery.write_gallery(paths, tmp_path / "gallery")
    assert not (tmp_path / "gallery" / "index.html").exists()


def test_a_widget_is_shown_as_its_still_image_and_a_widget_without_one_is_left(tmp_path):
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "abc", "version_major": 2}}
    alone = new_output("display_data", {**view, "text/plain": "only a widget"})
    path = notebook(tmp_path, "00_x.ipynb", figure(**view), alone)
    page = write_html(path, tmp_path).read_text()
    assert f"data:image/png;base64,{png()}" in page
    assert page.count('"model_id"') <= 1
    assert nbformat.read(path, 4).cells[1].outputs[0].data.keys() == {"image/png", *view}


def test_links_between_notebooks_lead_to_their_pages_and_others_stay(tmp_path):
    text = "# Where?\n[next](01_y.ipynb), [word](10_glossary.ipynb#MTF), [paper](https://a.org/01_y.ipynb)"
    page = write_html(notebook(tmp_path, "00_x.ipynb", text=text)).read_text()
    assert {"01_y.html", "10_glossary.html#MTF", "https://a.org/01_y.ipynb"} <= hrefs(page)


@pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)
def test_every_link_of_the_course_leads_to_a_notebook_and_a_heading(path):
    texts = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"]
    for target in re.findall(r"\]\((?!https?://)((?:[^()]|\([^()]*\))+)\)", "\n".join(texts)):
        name, _, anchor = target.partition("#")
        there = path.parent / name if name else path
        assert there.is_file(), target
        if anchor:
            cells = nbformat.read(there, 4).cells
            headings = re.findall(
                r"^#+ (.+)$", "\n".join(c.source for c in cells if c.cell_type == "markdown"), re.M
            )
            assert anchor in [heading.replace(" ", "-") for heading in headings], target
