"""The end of a run: `run.json`, the notebooks as HTML, and one page that shows it all."""

import importlib.metadata
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd

from clippan_lib import __version__
from clippan_lib.evaluation.judgement import verdict
from clippan_lib.evaluation.scores import CONVENTION
from clippan_lib.figures.page import Link, Opening, PageTable, Picture, Section, render
from clippan_lib.files import write_text
from clippan_lib.runs import opening, results, topics
from clippan_lib.runs.folder import PAGE, RECORD
from clippan_lib.runs.headline import headline, warning
from clippan_lib.runs.notebook_page import write_html
from clippan_lib.runs.plan import Plan
from clippan_lib.runs.records import write_record
from clippan_lib.runs.report_tables import tables_of

_READING = (
    "Numbers are means over the scenes. Where a method was trained with several seeds, they are mean ± standard "
    "deviation over the seeds. An arrow says which way is better. Bold is the best of its column as printed. "
    f"{CONVENTION}"
)
_GLOSSARY = "10_glossary"
_FILES = (
    Link(RECORD, RECORD, note="settings, seed, versions and times"),
    Link(results.FILE, results.FILE, results.CSV, "all numbers, scene by scene and seed by seed"),
)
PACKAGES = ("torch", "open_clip_torch", "numpy", "scipy", "h5py", "papermill", "nbconvert")


def write(plan: Plan, stamps: dict[str, dict[str, Any]]) -> None:
    """Write the notebooks' HTML, `run.json` and, last, `index.html` beside the run's other results.

    Args:
        plan: of the run, all of whose notebooks are through.
        stamps: per notebook, seconds and the largest process until then.
    """
    folder = plan.place.results
    for path in plan.notebooks:
        write_html(folder / path.name)
    if found := headline(results.load(plan.folder), plan.config.network):
        opening.draw_opening(plan, found)
    record = run_record(plan, stamps)
    write_record(folder / RECORD, record)
    write_text(folder / PAGE, index_page(plan, record))


def is_whole(plan: Plan) -> bool:
    """Whether the report of a finished run is there: its record, as it was written, and pages up to their last line."""
    pages = [plan.folder / f"{path.stem}.html" for path in plan.notebooks] + [plan.folder / PAGE]
    return plan.place.read_record() is not None and all(map(_ends, pages))


def _ends(page: Path) -> bool:
    try:
        return page.read_bytes().rstrip().endswith(b"</html>")
    except OSError:
        return False


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
        "data": dict(plan.settings.data),
        "files": plan.files,
        "versions": {"clippan": __version__, "python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "commit": commit(plan.notebooks[0].parent),
        "seconds": {stem: stamp["seconds"] for stem, stamp in stamps.items()},
        "metrics": results.digest(plan.folder),
        "peak_process_mb": max(stamp["peak_mb"] or 0 for stamp in stamps.values()) or None,
    }


def index_page(plan: Plan, record: dict[str, Any]) -> str:
    """The run on one page: what it found, then all tables and figures, and how it was made.

    Args:
        plan: of the run.
        record: from `run_record`.
    """
    title = f"{plan.manifest.title}: {plan.config.network}, {plan.preset} preset"
    links, ours = glossary_links(plan), f"{plan.config.network}-C"
    tables: dict[str, list[PageTable]] = {topic: [] for topic in topics.TOPICS}
    for rows in results.frames(plan.folder).values():
        for topic, table in tables_of(rows, ours, links):
            tables[topic].append(table)
    pictures: dict[str, list[Picture]] = {topic: [] for topic in topics.TOPICS}
    for path in sorted(plan.place.figures.glob("*.png")):
        if path.stem != opening.NAME:
            shown = Picture(f"figures/{path.name}", topics.caption(path.stem), f"figures/{path.stem}.pdf")
            pictures[topics.topic_of_figure(path.stem)].append(shown)
    sections = [
        Section(topic, note, tables[topic], pictures[topic])
        for topic, note in topics.TOPICS.items()
        if tables[topic] or pictures[topic]
    ]
    sections += [
        Section("How to read the tables", _READING),
        Section("Notebooks, as they ran", links=_notebooks(plan, record)),
        Section("How it was made", links=_FILES, facts=_facts(plan, record)),
    ]
    return render(title, sections, opening=_opening(plan, links))


def _opening(plan: Plan, links: Mapping[str, str]) -> Opening:
    caution = warning(plan.preset, plan.config.stage2_iterations)
    found = headline(results.load(plan.folder), plan.config.network, links)
    if found is None:
        return Opening("The run compared no network of its own with a classical method.", warning=caution)
    return Opening(found.sentence, found.numbers, opening.opening_picture(plan, found), caution)


def glossary_links(plan: Plan) -> dict[str, str]:
    """Name of a number to its place on the page of the glossary, if that notebook is a part of the run."""
    for path in plan.notebooks:
        if path.stem == _GLOSSARY:
            texts = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"]
            headings = re.findall(r"^### (.+)$", "\n".join(texts), re.M)
            places = {name: f"{_GLOSSARY}.html#{name.replace(' ', '-')}" for name in headings}
            # "Zero-shot accuracy" is recorded as zero_shot_accuracy
            recorded = {re.sub("[- ]", "_", name).lower(): place for name, place in places.items()}
            return recorded | places
    return {}


def _notebooks(plan: Plan, record: dict[str, Any]) -> list[Link]:
    return [
        Link(f"{path.stem}.html", path.stem, path.name, f"{record['seconds'][path.stem]:.0f} s")
        for path in plan.notebooks
    ]


def _facts(plan: Plan, record: dict[str, Any]) -> dict[str, str]:
    peak = record["peak_process_mb"]
    return {
        "Sensor": plan.manifest.resolve_sensor().name,
        "CLIP": f"{plan.config.clip_model} ({plan.config.clip_weights or 'shipped weights'})",
        "Supervisor": _supervisor(results.load(plan.folder)),
        "Seed": str(plan.seed),
        "Device": plan.device,
        "Commit": record["commit"] or "not in a git repository",
        "Time": f"{sum(record['seconds'].values()) / 60:.1f} min",
        "Largest process": f"{peak} MiB" if peak else "not measured",
        "Data licence": plan.manifest.licence,
        "Data citation": plan.manifest.citation,
    }


def _supervisor(rows: pd.DataFrame) -> str:
    """What its gates said, as 02_stage1_adaptation recorded them."""
    found = rows[(rows.table == results.GATES) & (rows.metric == "passed")]
    return verdict(found.set_index("variant").value) if len(found) else "was not judged"


def commit(folder: Path) -> str | None:
    """The commit of a folder's repository, marked if files differ from it; None where there is none."""
    try:
        command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty"]
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
