"""The end of a run: `run.json`, the notebooks as HTML, and one page that shows it all."""

import importlib.metadata
import platform
import re
import subprocess
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from clippan_lib import __version__
from clippan_lib.runs import results
from clippan_lib.files import write_json, write_text
from clippan_lib.runs.plan import Plan

PAGE = "index.html"
RECORD = "run.json"
_WIDGET = "application/vnd.jupyter.widget-view+json"
_LINK = re.compile(r"\]\((\d\d_\w+)\.ipynb")
PACKAGES = ("torch", "open_clip_torch", "numpy", "scipy", "h5py", "papermill", "nbconvert")

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-size: .9rem } td, th { padding: .2rem .7rem; text-align: right }
td:first-child, th:first-child { text-align: left } tbody tr:nth-child(odd) { background: #f3f4f6 }
img { max-width: 100% } figure { margin: 1.5rem 0 } figcaption { color: #555 } div.table { overflow-x: auto }
dl { display: grid; grid-template-columns: max-content auto; gap: 0 1rem } dd { margin: 0 }
"""


def write(plan: Plan, stamps: dict[str, dict[str, Any]]) -> None:
    """Write the notebooks' HTML, `run.json` and, last, `index.html` into the run's folder.

    Args:
        plan: of the run, all of whose notebooks are through.
        stamps: per notebook, seconds and the largest process until then.
    """
    for path in plan.notebooks:
        write_html(plan.folder / path.name)
    record = run_record(plan, stamps)
    write_json(plan.folder / RECORD, record)
    write_text(plan.folder / PAGE, index_page(plan, record))


def write_html(notebook: Path, folder: Path | None = None) -> Path:
    """Write an executed notebook as HTML, beside itself or into another folder.

    Widgets are dead there, so the still image that goes with each is shown; links between numbered notebooks lead to
    their pages.

    Args:
        notebook: the file.
        folder: where the page goes, if not beside it.
    """
    shown = nbformat.read(notebook, 4)
    shown.metadata.pop("widgets", None)
    for cell in shown.cells:
        if cell.cell_type == "markdown":
            cell.source = _LINK.sub(r"](\1.html", cell.source)
        for output in cell.get("outputs", ()):
            _keep_still(output)
    page, _ = HTMLExporter().from_notebook_node(shown)
    path = (folder or notebook.parent) / f"{notebook.stem}.html"
    write_text(path, page)
    return path


def _keep_still(output: NotebookNode) -> None:
    if any(kind.startswith("image/") for kind in output.get("data", {})):
        output.data.pop(_WIDGET, None)


def run_record(plan: Plan, stamps: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What somebody needs to repeat the run, as JSON."""
    return {
        "dataset": plan.manifest.name,
        "manifest": str(plan.manifest.file),
        "manifest_digest": plan.manifest.digest(),
        "preset": plan.preset,
        "seed": plan.seed,
        "device": plan.device,
        "config": plan.config.model_dump(mode="json"),
        "parameters": plan.parameters,
        "versions": {"clippan": __version__, "python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "commit": commit(plan.notebooks[0].parent),
        "seconds": {stem: stamp["seconds"] for stem, stamp in stamps.items()},
        "peak_process_mb": max(stamp["peak_mb"] or 0 for stamp in stamps.values()) or None,
    }


def index_page(plan: Plan, record: dict[str, Any]) -> str:
    """The run on one page: tables, figures and links, all relative to the run's folder."""
    title = escape(f"{plan.manifest.title}: {plan.config.network}, {plan.preset} preset")
    notebooks = "".join(
        f'<li><a href="{path.stem}.html">{escape(path.stem)}</a>'
        f' (<a href="{path.name}">ipynb</a>, {record["seconds"][path.stem]:.0f} s)</li>\n'
        for path in plan.notebooks
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head><body>
<h1>{title}</h1>
{_facts(plan, record)}
<h2>Numbers</h2>
{_tables(plan.folder)}
<h2>Pictures</h2>
{_figures(plan.folder)}
<h2>Notebooks, as they ran</h2>
<ul>
{notebooks}</ul>
<p>Settings, seed, versions and times are in <a href="{RECORD}">{RECORD}</a>,
all numbers in <a href="{results.FILE}">{results.FILE}</a>.</p>
</body></html>
"""


def _facts(plan: Plan, record: dict[str, Any]) -> str:
    clip = f"{plan.config.clip_model} ({plan.config.clip_weights or 'shipped weights'})"
    made_with = record["commit"] or "not in a git repository"
    peak = record["peak_process_mb"]
    facts = {
        "Sensor": plan.manifest.resolve_sensor().name,
        "CLIP": clip,
        "Seed": plan.seed,
        "Device": plan.device,
        "Commit": made_with,
        "Time": f"{sum(record['seconds'].values()) / 60:.1f} min",
        "Largest process": f"{peak} MiB" if peak else "not measured",
        "Data licence": plan.manifest.licence,
        "Data citation": plan.manifest.citation,
    }
    rows = (f"<dt>{name}</dt><dd>{escape(str(value))}</dd>\n" for name, value in facts.items())
    return f"<dl>{''.join(rows)}</dl>"


def _tables(folder: Path) -> str:
    style = {"index": False, "border": 0, "float_format": "{:.4g}".format, "na_rep": "-"}
    return "\n".join(
        f"<h3>{escape(title)}</h3><p>from {escape(section)}</p>\n"
        f'<div class="table">{table.to_html(**style)}</div>'
        for (section, title), table in results.frames(folder).items()
    )


def _figures(folder: Path) -> str:
    return "\n".join(
        f'<figure><img src="figures/{escape(path.name)}" alt="{caption}" loading="lazy">'
        f'<figcaption>{caption} (<a href="figures/{escape(path.stem)}.pdf">PDF</a>)</figcaption></figure>'
        for path in sorted((folder / "figures").glob("*.png"))
        for caption in [escape(path.stem.replace("_", " "))]
    )


def commit(folder: Path) -> str | None:
    """The commit of a folder's repository, marked if files differ from it; None where there is none."""
    try:
        command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty"]
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
