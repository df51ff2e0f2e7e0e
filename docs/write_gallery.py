"""Write the course as web pages, with its stored outputs, for those who only want to look; and an API reference.

    python docs/write_gallery.py [FOLDER]    index.html, a page per notebook, api/; FOLDER is gallery/ if not given

Nothing is run, and the pages need no network.
"""

import argparse
import base64
import io
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from PIL import Image
from write_reference import write_reference

from clippan_lib.figures.page import Card, Link, Section, inline, render
from clippan_lib.files import write_text
from clippan_lib.runs.notebook_page import write_html

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 480  # px of a picture on the first page
_INTRODUCTION = (
    "The notebooks with their outputs at the demo preset. To move the sliders, run them: make lab."
)


def write_gallery(notebooks: Sequence[Path], folder: Path, reference: Sequence[Link] = ()) -> Path:
    """Write a page per notebook and, last, the page that leads to them.

    Args:
        notebooks: executed notebooks, in the order shown.
        folder: where to write; it is made if it is not there.
        reference: links to the pages of the API reference.
    Returns: the first page.
    Raises: ValueError naming a notebook without a figure.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cards = [_card(path, folder) for path in notebooks]
    page = folder / "index.html"
    sections = [Section(note=_INTRODUCTION, cards=cards)]
    if reference:
        sections.append(Section("API reference", links=reference))
    write_text(page, render("CLIPPan: the course", sections))
    return page


def _card(path: Path, folder: Path) -> Card:
    notebook = nbformat.read(path, 4)
    title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
    page = write_html(path, folder)
    return Card(page.name, f"{path.stem[:2]} {title}", _thumbnail(notebook, path))


def _thumbnail(notebook: NotebookNode, path: Path) -> str:
    """The notebook's first figure, small, as a source of an image."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    figures = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    if not figures:
        raise ValueError(f"{path.name} holds no figure: run it first")
    picture = Image.open(io.BytesIO(base64.b64decode(figures[0]))).convert("RGB")
    picture.thumbnail((WIDTH, 4 * WIDTH))
    small = io.BytesIO()
    picture.save(small, "JPEG", quality=80)
    return inline(small.getvalue(), "jpeg")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "gallery")
    folder = parser.parse_args(arguments).folder
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    print(f"Gallery: {write_gallery(notebooks, folder, write_reference(folder / 'api'))}")


if __name__ == "__main__":
    main()
