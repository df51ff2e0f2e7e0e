"""Notebooks of a few lines for the tests of the runner and of the notebook checks."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

MANIFEST = Path(__file__).resolve().parents[1] / "data_manifests" / "synthetic_wv3.yaml"

FIRST = 'manifest = ""\nrun_dir = ""\nseed = 0\npreset = "demo"\noverrides = {}'
SECOND = 'run_dir = ""\nseed = 0\nperplexity = 5.0\nverbose = False'
LOG = 'from pathlib import Path\nwith (Path(run_dir) / "order.txt").open("a") as log:\n    log.write("{} ")'
RECORD = """
import pandas as pd
from clippan_lib.runs.results import record, tidy
table = pd.DataFrame({"method": ["EXP"], "ERGAS": [1.25 + seed]})
settings = pd.DataFrame({"perplexity": [perplexity], "verbose": [int(verbose)]})
record(run_dir, "01_second", {"Test scenes": tidy(table), "Settings": tidy(settings)})
(Path(run_dir) / "unfinished" / "figures").mkdir(exist_ok=True)
(Path(run_dir) / "unfinished" / "figures" / "a_zoom.png").write_bytes(b"png")
"""


def write_notebook(path: Path, parameters: str, *cells: str) -> Path:
    """A notebook with a parameters cell and further code cells, not run."""
    first = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    notebook = new_notebook(cells=[first, *map(new_code_cell, cells)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return path


def write_pair(folder: Path, first: str = "", second: str = "") -> Path:
    """Two notebooks that note their order and record a table; `first` and `second` are run inside them."""
    folder.mkdir(exist_ok=True)
    write_notebook(folder / "00_first.ipynb", FIRST, LOG.format(0), first or "pass", "done = True")
    write_notebook(folder / "01_second.ipynb", SECOND, LOG.format(1), second or "pass", RECORD)
    return folder
