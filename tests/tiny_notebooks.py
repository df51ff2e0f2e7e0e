"""Notebooks of a few lines for the tests of the runner and of the notebook checks."""

import json
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

MANIFEST = Path(__file__).resolve().parents[1] / "data_manifests" / "synthetic_wv3.yaml"

FIRST = 'manifest = ""\nrun_dir = ""\nseed = 0\npreset = "demo"\noverrides = {}'
SECOND = 'run_dir = ""\nseed = 0\nperplexity = 5.0\nverbose = False'
LOG = 'from pathlib import Path\nwith (Path(run_dir) / "order.txt").open("a") as log:\n    log.write("{} ")'
# As results.record leaves it, without the seconds that importing the library takes
RECORD = """
import json
folder = Path(run_dir) / "unfinished"
about = {key: None for key in ("variant", "seed", "scene", "resolution", "unit")}
about |= {"notebook": "01_second", "table": "Test scenes", "method": "EXP"}
numbers = {"ERGAS": 1.25 + seed, "perplexity": perplexity, "verbose": float(verbose)}
rows = [about | {"metric": metric, "value": value} for metric, value in numbers.items()]
(folder / "metrics.json").write_text(json.dumps(rows))
(folder / "figures").mkdir(exist_ok=True)
(folder / "figures" / "a_zoom.png").write_bytes(b"png")
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


def foreign_kernel(folder: Path) -> Path:
    """A kernel of the name that all notebooks ask for, which is no kernel."""
    place = folder / "kernels" / "python3" / "kernel.json"
    place.parent.mkdir(parents=True)
    spec = {"argv": ["false"], "display_name": "somebody else's", "language": "python"}
    place.write_text(json.dumps(spec))
    return folder
