"""Photograph the explorers of notebooks/09_explore.ipynb in JupyterLab, in a window of 1280 by 800 px.

    python docs/screenshots.py [FOLDER]

Needs a browser (see tests/browser.py) and a run of `make demo`.
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import papermill
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from browser import EXPLORERS, Notebook, lab  # noqa: E402

WINDOW = (1280, 800)  # px
COLOURS = (
    256  # of a file: a quarter of the bytes; chosen so that no pixel is far off, else colour bars show steps
)


def photograph(notebook: Notebook, folder: Path) -> None:
    """Write <explorer>.png, for all explorers of a notebook that was run."""
    for name, label in EXPLORERS.items():
        picture = Image.open(io.BytesIO(notebook.explorer(label).screenshot())).convert("RGB")
        few = picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
        path = folder / f"{name}.png"
        few.save(path, optimize=True)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=ROOT / "docs" / "explore", help="docs/explore"
    )
    folder = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    demo = {
        "manifest": str(ROOT / "data_manifests" / "synthetic_wv3.yaml"),
        "runs": str(ROOT / "runs"),
    }
    source = ROOT / "notebooks" / "09_explore.ipynb"
    with tempfile.TemporaryDirectory() as made:
        papermill.execute_notebook(str(source), f"{made}/{source.name}", demo, prepare_only=True)
        with lab(Path(made)) as opened:
            notebook = opened.open(source.name, *WINDOW)
            notebook.run()
            photograph(notebook, folder)


if __name__ == "__main__":
    main()
