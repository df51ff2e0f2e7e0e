"""Parameters of notebooks under plain papermill: what is misspelt or does not fit is an error there, too."""

import io

import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError
from tiny import tiny_manifest
from tiny_notebooks import write_notebook

from clippan_lib.runs.kernels import kernel_environment
from clippan_lib.runs.parameters import refuse_unknown_parameters
from clippan_lib.runs.plan import plan_run
from clippan_lib.runs.results import load
from clippan_lib.runs.runner import execute as execute_run

CALL = "from clippan_lib.runs.parameters import refuse_unknown_parameters\nrefuse_unknown_parameters()"
OPEN = """
from clippan_lib.runs.run import open_run
run = open_run("tiny.yaml", "", "run", preset, 0, "cpu", overrides)
print(run.config.w_qnr)
"""


def execute(folder, **parameters):
    with kernel_environment():
        return papermill.execute_notebook(
            folder / "a.ipynb", folder / "out.ipynb", parameters, cwd=folder, progress_bar=False
        )


def test_a_misspelt_parameter_is_an_error_and_a_right_one_or_none_is_not(tmp_path):
    write_notebook(tmp_path / "a.ipynb", "seed = 0\nperplexity = 5.0", CALL)
    execute(tmp_path)
    execute(tmp_path, perplexity=7.0)
    with pytest.raises(
        PapermillExecutionError, match="perplexty: unknown parameter; did you mean perplexity"
    ):
        execute(tmp_path, perplexty=7.0)


def test_the_same_holds_for_a_notebook_that_papermill_has_filled_before(tmp_path):
    write_notebook(tmp_path / "a.ipynb", "seed = 0", CALL)
    with pytest.raises(PapermillExecutionError):
        execute(tmp_path, sed=1)
    (tmp_path / "out.ipynb").rename(tmp_path / "a.ipynb")
    notebook = nbformat.read(tmp_path / "a.ipynb", 4)
    assert any("injected-parameters" in cell.metadata.get("tags", []) for cell in notebook.cells)
    with pytest.raises(PapermillExecutionError, match="sed: unknown parameter; did you mean seed"):
        execute(tmp_path, sed=2)


def test_outside_a_notebook_nothing_is_refused():
    refuse_unknown_parameters()


@pytest.mark.slow
def test_weights_of_zero_and_a_truth_for_hrms_come_to_their_end_in_the_notebooks(tmp_path):
    (tmp_path / "tiny.yaml").write_text(tiny_manifest())
    zero = dict.fromkeys(("w_qnr", "w_pseudo", "w_language", "w_inter"), 0.0) | {"hrms_source": "gt"}
    only = ("02_stage1_adaptation", "04_stage2_training")
    made = plan_run(
        tmp_path / "tiny.yaml", preset="smoke", device="cpu", changes=zero, only=only, runs=tmp_path / "runs"
    )
    execute_run(made, io.StringIO())
    scores = load(made.folder).query("notebook == '04_stage2_training' and metric == 'MPSNR'")
    plain, guided = (scores.query(f"method == '{name}'")["value"].tolist() for name in ("pnn", "pnn-C"))
    assert plain == guided and len(plain) > 0


@pytest.mark.slow
def test_a_folder_that_was_made_with_other_settings_is_refused_under_papermill(tmp_path):
    (tmp_path / "tiny.yaml").write_text(tiny_manifest())
    write_notebook(tmp_path / "a.ipynb", 'preset = "smoke"\noverrides = {}', OPEN)
    execute(tmp_path)
    before = (tmp_path / "run" / "settings.json").read_bytes()
    with pytest.raises(PapermillExecutionError, match="was made with other settings: .*there and .*here"):
        execute(tmp_path, overrides={"w_qnr": 0.5})
    assert (tmp_path / "run" / "settings.json").read_bytes() == before
    execute(tmp_path, preset="smoke")
