"""After a run, notebooks of a clone run in JupyterLab as they stand: they find the run by themselves."""

import shutil
from pathlib import Path

import browser
import pytest
from tiny import tiny_manifest

from clippan_lib.runs.plan import plan_run
from clippan_lib.runs.run import open_run

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
# 09_explore, which finds a run in the same way, is what test_browser.py runs
AFTER_A_RUN = ("05_zooms_and_errors.ipynb",)
# Short enough for a test; the notebooks are not told of it
SHORT = {"stage1_iterations": 3, "pseudo_iterations": 2, "stage2_iterations": 2, "n_seeds": 1}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone with the run that `clippan run` leaves in it, on a few small scenes, and JupyterLab there."""
    if reason := browser.missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("clone")
    for name in ("notebooks", "data_manifests"):
        (folder / name).mkdir()
    manifest = folder / "data_manifests" / "synthetic_wv3.yaml"
    manifest.write_text(tiny_manifest().replace("name: tiny", "name: synthetic_wv3"))
    for name in AFTER_A_RUN:
        shutil.copy(NOTEBOOKS / name, folder / "notebooks" / name)
    made = plan_run(manifest, preset="demo", device="cpu", changes=SHORT, runs=folder / "runs")
    made.place.write_settings(made.settings)
    run = open_run(manifest, "", made.folder, "demo", 0, "cpu", SHORT)
    run.stage1(run.new_supervisor(), "supervisor")
    variants = {"pnn": None, "pnn-C": run.adapted_supervisor()}
    for resolution in ("full", "reduced"):
        run.stage2(variants, run.pseudo_supervisor(), resolution)
    with browser.lab(folder) as lab:
        yield lab


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", AFTER_A_RUN)
def test_after_a_run_all_cells_of_a_notebook_run_as_they_stand_in_a_clone(clone, name):
    notebook = clone.open(f"notebooks/{name}")
    notebook.run()
    assert notebook.complaints == []
