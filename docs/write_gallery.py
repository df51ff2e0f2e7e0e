"""Write the course as web pages, with its stored outputs, for those who only want to look.

    python docs/write_gallery.py [FOLDER]    index.html and a page per notebook; FOLDER is gallery/ if not given

Nothing is run. Formulas are typeset by MathJax from the web; without it they show as LaTeX.
"""

import argparse
import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from PIL import Image

from clippan_lib.files import write_text
from clippan_lib.runs.report import write_html

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 480  # px of a picture on the first page
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); gap: 1.5rem }
a { color: inherit; text-decoration: none; border: 1px solid #d4d4d4; border-radius: 6px; padding: 1rem }
a:hover, a:focus { border-color: #0072b2 } h2 { font-size: 1.05rem; margin: 0 0 .6rem }
img { width: 100%; height: 11rem; object-fit: cover; object-position: top left }
"""


def write_gallery(notebooks: Sequence[Path], folder: Path) -> Path:
    """Write a page per notebook and, last, the page that leads to them.

    Args:
        notebooks: executed, in the order shown.
        folder: made if it is not there.
    Returns: the first page.
    Raises: ValueError naming a notebook without a figure.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cards = "".join(_card(path, folder) for path in notebooks)
    page = folder / "index.html"
    write_text(
        page,
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>CLIPPan: the course</title><style>{_STYLE}</style></head>
<body><h1>CLIPPan: the course</h1>
<p>The notebooks with their outputs at the demo preset, on synthetic scenes. To move the sliders, run them: <code>make
lab</code>.</p>
<main>{cards}</main></body></html>
""",
    )
    return page


def _card(path: Path, folder: Path) -> str:
    notebook = nbformat.read(path, 4)
    title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
    page = write_html(path, folder)
    return (
        f'<a href="{page.name}"><h2>{path.stem[:2]} {escape(title)}</h2>'
        f'<img alt="" src="data:image/jpeg;base64,{_thumbnail(notebook, path)}"></a>\n'
    )


def _thumbnail(notebook: NotebookNode, path: Path) -> str:
    """The notebook's first figure, small, as base64."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    figures = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    if not figures:
        raise ValueError(f"{path.name} holds no figure: run it first")
    picture = Image.open(io.BytesIO(base64.b64decode(figures[0]))).convert("RGB")
    picture.thumbnail((WIDTH, 4 * WIDTH))
    small = io.BytesIO()
    picture.save(small, "JPEG", quality=80)
    return base64.b64encode(small.getvalue()).decode()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "gallery")
    folder = parser.parse_args(arguments).folder
    print(f"Gallery: {write_gallery(sorted((ROOT / 'notebooks').glob('*.ipynb')), folder)}")


if __name__ == "__main__":
    main()
