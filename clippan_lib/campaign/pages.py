"""The pages of a campaign: its tables, and for Table 1 the paper's Figures 4 and 5 of each dataset."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clippan_lib.campaign.grid import Campaign
from clippan_lib.campaign.rows import COMPARED
from clippan_lib.campaign.task import NOTEBOOKS, file_of
from clippan_lib.errors import RunFailed
from clippan_lib.runs.folder import RunFolder
from clippan_lib.runs.notebook_page import write_html
from clippan_lib.runs.runner import execute_notebook

TABLES, FIGURES = "05_tables", "06_figures"


def write_pages(campaign: Campaign, notebooks: Path = NOTEBOOKS) -> list[Path]:
    """Run the notebooks that show a campaign, into its folder.

    Args:
        campaign: its `scores.csv` is there.
        notebooks: folder of the notebooks.
    Returns: the HTML pages.
    Raises: RunFailed if a notebook stops.
    """
    pages = []
    for name, folder, parameters in _notebooks(campaign):
        folder.mkdir(exist_ok=True)
        running, done = folder / f".{name}.running.ipynb", folder / f"{name}.ipynb"
        if reason := execute_notebook(notebooks / done.name, running, parameters):
            raise RunFailed(f"{name} of {campaign.folder.name}: {reason}\nSo far: {running}")
        os.replace(running, done)
        pages.append(write_html(done))
    return pages


def _notebooks(campaign: Campaign) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    yield TABLES, campaign.folder, {"campaign": str(campaign.folder), "out": str(campaign.folder)}
    for manifest in campaign.manifests if campaign.table == 1 else ():
        folder = campaign.folder / manifest.name
        yield (
            FIGURES,
            folder,
            {
                "manifest": str(file_of(manifest).resolve()),
                "data_root": str(campaign.data or ""),
                "run_dir": str(folder),
                "device": campaign.device,
                "full": _networks(campaign, manifest.name, "full"),
                "reduced": _networks(campaign, manifest.name, "reduced"),
                "classical": list(COMPARED),
            },
        )


def _networks(campaign: Campaign, dataset: str, resolution: str) -> dict[str, str]:
    """The trained networks of the first seed, by row; those of a failed run are left out."""
    found = {}
    for entry in campaign.entries:
        if (entry.dataset, entry.judged, entry.seed) == (dataset, resolution, campaign.seeds[0]):
            folder = RunFolder(campaign.runs / entry.task.place)
            path = folder.network(resolution, entry.row, entry.seed)
            if path.is_file():
                found[entry.row] = str(path)
    return found
