"""The runner on notebooks of a few lines: refusals, order, resumption, failures, the report."""

import functools
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import nbformat
import psutil
import pytest
import rasterio
import rasterio.shutil
import torch
import yaml
from rasterio.vrt import WarpedVRT
from rasters import grid, noise, save
from safetensors.torch import save_file
from tiny_notebooks import LOG, MANIFEST, SECOND, foreign_kernel, write_notebook, write_pair

from clippan_lib.data import Dataset
from clippan_lib.errors import DataError, ManifestError, Refusal, RunFailed
from clippan_lib.files import held
from clippan_lib.fusion import build_network
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.runs import folder, results, runner
from clippan_lib.runs.kernels import SETTINGS
from clippan_lib.runs.plan import Plan, plan_run
from clippan_lib.runs.runner import execute
from clippan_lib.sensors import get_sensor

LEFT_BY_A_FINISHED_RUN = ("index.html", "run.json")


def plan(folder: Path, **changes) -> Plan:
    return plan_run(MANIFEST, **{"name": "one", "device": "cpu", "runs": folder / "runs"} | changes)


def go(plan: Plan) -> str:
    stream = io.StringIO()
    execute(plan, stream)
    return stream.getvalue()


def order(plan: Plan) -> str:
    return (plan.folder / "order.txt").read_text()


@pytest.fixture(autouse=True)
def library(monkeypatch) -> pytest.MonkeyPatch:
    """Stands for the digest of the library, whose files somebody may be editing while the tests run."""
    monkeypatch.setattr("clippan_lib.runs.runner.library_digest", lambda: "one state of the library")
    return monkeypatch


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Plan:
    folder = tmp_path_factory.mktemp("finished {seed} a{b")  # papermill formats paths
    changes = {"perplexity": 7.0, "verbose": True, "stage1_lr": 1e-4}
    made = plan(folder, notebooks=write_pair(folder / "notebooks"), seed=3, changes=changes)
    go(made)
    return made


def test_data_that_the_notebooks_cannot_use_are_refused_at_once(tmp_path, monkeypatch):
    reduced_only = property(lambda self: (("train", "reduced"), ("test", "reduced"), ("test", "full")))
    monkeypatch.setattr(Dataset, "available", reduced_only)
    with pytest.raises(
        Refusal, match="the notebooks need train full, and it has only train reduced, test reduced"
    ):
        plan(tmp_path)
    assert not (tmp_path / "runs").exists()


def test_another_network_is_its_own_start(tmp_path):
    found = plan(tmp_path, network="lambda_pnn", preset="smoke", name=None)
    assert (found.config.network, found.config.pseudo) == ("lambda_pnn", "lambda_pnn")
    assert found.folder.name == "smoke_lambda_pnn_seed0"
    cold = plan(tmp_path, network="lambda_pnn", preset="smoke", changes={"warm_start": False})
    assert (cold.config.network, cold.config.pseudo) == ("lambda_pnn", "pnn")


def test_notebooks_run_in_order_with_typed_parameters(finished):
    assert order(finished) == "0 1 "
    assert finished.folder.parts[-3:] == ("runs", "synthetic_wv3", "one")
    assert finished.parameters["00_first"]["overrides"] == {"stage1_lr": 1e-4}
    numbers = results.load(finished.folder).set_index("metric")["value"].to_dict()
    assert numbers == {"ERGAS": 4.25, "perplexity": 7.0, "verbose": 1.0}


def test_kernels_get_our_environment_where_the_user_has_set_nothing_and_import_before_the_first_cell(
    tmp_path, monkeypatch
):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "77")
    note = (
        'import json, os, sys\nseen = dict(os.environ, early="colorsys" in sys.modules)\nimport colorsys\n'
        '(Path(run_dir) / "seen.json").write_text(json.dumps(seen))'
    )
    made = plan(tmp_path, notebooks=write_pair(tmp_path / "notebooks", note))
    before = dict(os.environ)
    go(made)
    seen = json.loads((made.folder / "seen.json").read_text())
    assert {name: seen[name] for name in SETTINGS} == SETTINGS | {"GOMP_SPINCOUNT": "77"}
    assert seen["early"]
    assert dict(os.environ) == before


@pytest.mark.parametrize("where", ["JUPYTER_PATH", "JUPYTER_DATA_DIR"])
def test_a_run_takes_this_interpreters_kernel_whatever_the_user_has_installed(tmp_path, monkeypatch, where):
    monkeypatch.setenv(where, str(foreign_kernel(tmp_path / "foreign")))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    note = 'import sys\n(Path(run_dir) / "python.txt").write_text(sys.executable)'
    made = plan(tmp_path, notebooks=write_pair(tmp_path / "notebooks", note))
    go(made)
    assert (made.folder / "python.txt").read_text() == sys.executable


def test_run_json_holds_what_repeats_the_run(finished):
    record = json.loads((finished.folder / "run.json").read_text())
    assert (record["dataset"], record["preset"], record["seed"]) == ("synthetic_wv3", "demo", 3)
    assert record["manifest_digest"] == finished.manifest.digest()
    assert record["config"]["stage1_lr"] == 1e-4
    assert record["parameters"]["01_second"]["perplexity"] == 7
    assert record["versions"].keys() >= {"python", "torch", "clippan"}
    assert record["seconds"].keys() == {"00_first", "01_second"}
    assert record["peak_process_mb"] > 20


def test_a_run_is_reported_where_the_system_knows_no_peak_of_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "resource", None)
    made = plan(tmp_path, notebooks=write_pair(tmp_path / "notebooks"))
    go(made)
    assert json.loads((made.folder / "run.json").read_text())["peak_process_mb"] is None
    assert "<dt>Largest process</dt><dd>not measured</dd>" in (made.folder / "index.html").read_text()


def test_the_page_shows_tables_and_figures_and_its_links_lead_somewhere(finished):
    page = (finished.folder / "index.html").read_text()
    assert "Test scenes" in page
    assert "4.25" in page
    for link in ("figures/a_zoom.png", "00_first.html", "01_second.ipynb", "run.json", "metrics.json"):
        assert f'"{link}"' in page
        assert (finished.folder / link).is_file()
    assert "http" not in page


def test_a_finished_run_is_not_repeated_and_a_change_repeats_only_what_depends_on_it(tmp_path, library):
    notebooks = write_pair(tmp_path / "notebooks")
    first = plan(tmp_path, notebooks=notebooks)
    go(first)
    assert go(first).count("finished before") == 2
    assert order(first) == "0 1 "
    go(plan(tmp_path, notebooks=notebooks, changes={"perplexity": 9.0}))
    assert order(first) == "0 1 1 "
    library.setattr("clippan_lib.runs.runner.library_digest", lambda: "another state")
    go(first)
    assert order(first) == "0 1 1 0 1 "


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("perplexty", 5.0, "perplexty: unknown parameter; did you mean perplexity"),
        ("stage1_iteration", 5, "did you mean stage1_iterations"),
        ("zzz", 5, "known: .*w_language"),
        ("perplexity", "high", "expected float .*got 'high'"),
        ("verbose", 1, "expected bool .*got 1"),
        ("stage1_iterations", "many", "stage1_iterations: .*'many'"),
        ("stage1_iterations", 1.5, "stage1_iterations"),
        ("warm_start", 1, "warm_start"),
        ("stage1_lr", -1.0, "stage1_lr"),
        ("network", "pnm", "network: .*choose from"),
        ("prompts", "walt", "prompts: .*wald"),
        ("seed", 3, "seed cannot be set among the parameters: set it by --seed"),
        ("run_dir", "x", "set it by --name"),
        ("patch", 12, "patch=12: at ratio 4 that is 48 PAN px"),
        ("patch", 32, "patch size 32 does not fit 24 x 24 LRMS px .reduced resolution."),
        ("w_gt", 0.0, "w_gt=0"),
        ("clip_model", "ViT-B-23", "unknown CLIP architecture 'ViT-B-23'; near matches"),
        ("clip_model", "local-dir:nowhere", "there is no such folder"),
        ("clip_weights", "nowhere.pt", "this is no file"),
    ],
)
def test_a_wrong_change_is_refused_by_name_before_anything_is_written(tmp_path, name, value, message):
    notebooks = write_pair(tmp_path / "notebooks")
    with pytest.raises(ValueError, match=message):
        plan(tmp_path, notebooks=notebooks, changes={name: value})
    assert not (tmp_path / "runs").exists()


def test_weights_that_do_not_fit_are_refused_before_the_first_notebook(tmp_path):
    file = tmp_path / "weights.safetensors"
    save_file({"one": torch.zeros(2)}, file)
    with pytest.raises(Refusal, match=r"(?s)weights\.safetensors.*Missing key"):
        plan(tmp_path, changes={"clip_model": "embedded", "clip_weights": str(file)})
    assert not (tmp_path / "runs").exists()


def test_a_tag_that_a_clip_does_not_have_is_refused_with_those_it_has(tmp_path):
    changes = {"clip_model": "ViT-B-32", "clip_weights": "openia"}
    with pytest.raises(Refusal, match="(?s)neither a known tag nor a file.*openai"):
        plan(tmp_path, notebooks=write_pair(tmp_path / "notebooks"), changes=changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "fast"}, "unknown preset 'fast'"),
        ({"network": "pnm"}, "network: .*choose from"),
        ({"network": "pnn", "changes": {"network": "lambda_pnn"}}, "contradict"),
        ({"name": "a/b"}, "not the name of a folder"),
        ({"name": ".hidden"}, "not the name of a folder"),
        ({"seed": -1}, "a seed is 0 or more"),
    ],
)
def test_a_wrong_option_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        plan(tmp_path, **{"notebooks": write_pair(tmp_path / "notebooks")} | changes)
    assert not (tmp_path / "runs").exists()


def test_a_gpu_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    notebooks = write_pair(tmp_path / "notebooks")
    with pytest.raises(ValueError, match="no GPU"):
        plan(tmp_path, notebooks=notebooks, device="cuda")
    assert plan(tmp_path, notebooks=notebooks, device="auto").device == "cpu"


def test_a_bad_manifest_and_missing_data_are_refused(tmp_path):
    notebooks = write_pair(tmp_path / "notebooks")
    content = yaml.safe_load(MANIFEST.read_text())
    (tmp_path / "typo.yaml").write_text(yaml.safe_dump(content | {"senzor": "WV3"}))
    with pytest.raises(ManifestError, match="senzor"):
        plan_run(tmp_path / "typo.yaml", notebooks=notebooks, runs=tmp_path / "runs")
    with pytest.raises(DataError, match="imgWV2"):
        real = MANIFEST.with_name("wv2_grip.yaml")
        plan_run(real, data=tmp_path, notebooks=notebooks, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("parameters", ["seed = 1 + 1", "import os", "seed, other = 1, 2", "seed ="])
def test_a_parameters_cell_with_more_than_literals_is_refused(tmp_path, parameters):
    write_notebook(tmp_path / "00_first.ipynb", parameters)
    with pytest.raises(Refusal, match=r"00_first\.ipynb.*may only assign literals"):
        plan(tmp_path, notebooks=tmp_path)


def test_no_notebooks_are_refused(tmp_path):
    with pytest.raises(Refusal, match="clone the repository"):
        plan(tmp_path, notebooks=tmp_path)


def test_other_settings_get_another_folder(tmp_path):
    notebooks = write_pair(tmp_path / "notebooks")
    names = [
        plan(tmp_path, notebooks=notebooks, name=None, **changes).folder.name
        for changes in (
            {},
            {"seed": 1},
            {"preset": "smoke"},
            {"network": "lambda_pnn", "changes": {"warm_start": False}},
            {"changes": {"w_language": 0.0}},
            {"changes": {"perplexity": 9.0}},
        )
    ]
    assert names[:3] == ["demo_pnn_seed0", "demo_pnn_seed1", "smoke_pnn_seed0"]
    assert len(set(names)) == 6


STOPS = {
    "an error": ("answer = 1\nraise KeyError('no such scene')", "KeyError: 'no such scene'"),
    "a dead kernel": ("import os\nos.kill(os.getpid(), 9)", "the kernel did not start, died"),
    "an early exit": ("import sys\nsys.exit()", "left before its end"),
}


@pytest.mark.parametrize("stop", STOPS)
def test_a_notebook_that_stops_names_its_cell_and_leaves_nothing_finished(tmp_path, stop):
    cell, reason = STOPS[stop]
    failing = plan(tmp_path, notebooks=write_pair(tmp_path / "notebooks", first=cell))
    with pytest.raises(RunFailed) as caught:
        go(failing)
    message = str(caught.value)
    assert "00_first failed in code cell 3" in message
    assert textwrap.indent(cell, "    ") in message
    assert reason in message
    assert f"So far: {failing.folder / 'unfinished' / '00_first.failed.ipynb'}" in message
    left = {path.relative_to(failing.folder).as_posix() for path in failing.folder.rglob("[!.]*")}
    assert left == {"order.txt", "settings.json", "unfinished", "unfinished/00_first.failed.ipynb"}


FIGURES = """
(Path(run_dir) / "unfinished" / "figures").mkdir(exist_ok=True)
for name in {names}:
    (Path(run_dir) / "unfinished" / "figures" / f"00_{{name}}.png").write_text({content!r})
"""


def shown(made: Plan) -> dict[str, bytes]:
    """All that a run shows, by name."""
    kinds = ("*.ipynb", "*.html", "*.json", "*.csv", "figures/*")
    files = (path for kind in kinds for path in made.folder.glob(kind) if path.name != "settings.json")
    return {path.relative_to(made.folder).as_posix(): path.read_bytes() for path in files}


def test_the_old_report_stays_until_the_new_one_is_whole_and_no_figure_is_left_from_before(tmp_path):
    notebooks = tmp_path / "notebooks"
    drawn = FIGURES.format(names=["old", "both"], content="old")
    first = plan(tmp_path, notebooks=write_pair(notebooks, drawn))
    go(first)
    before = shown(first)
    assert {"figures/00_old.png", "figures/00_both.png", "index.html", "metrics.json"} <= before.keys()
    redrawn = FIGURES.format(names=["new", "both"], content="new")
    failing = plan(
        tmp_path, notebooks=write_pair(notebooks, redrawn, "raise ValueError"), changes={"w_qnr": 0.3}
    )
    with pytest.raises(RunFailed):
        go(failing)
    assert shown(first) == before
    made = plan(tmp_path, notebooks=write_pair(notebooks, redrawn), changes={"w_qnr": 0.3})
    assert "00_first: finished before" in go(made)
    after = shown(made)
    assert after.keys() ^ before.keys() == {"figures/00_old.png", "figures/00_new.png"}
    assert after["figures/00_both.png"] == b"new" and after["index.html"] != before["index.html"]
    assert not made.place.unfinished.exists()


def test_results_that_were_stopped_on_the_way_to_their_places_get_there(tmp_path, monkeypatch):
    made = plan(tmp_path, notebooks=write_pair(tmp_path / "notebooks"))
    copy, done = folder._copy, []

    def stopping(source: Path, target: Path) -> None:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(target)
        copy(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(folder, "_copy", stopping)
        with pytest.raises(KeyboardInterrupt):
            go(made)
    assert not (made.folder / "index.html").exists()
    assert go(made).count("finished before") == 2
    assert order(made) == "0 1 "
    assert {"00_first.html", "01_second.ipynb", "figures/a_zoom.png", "index.html"} <= shown(made).keys()


def test_a_notebook_that_was_only_saved_is_not_run_again(tmp_path):
    notebooks = write_pair(tmp_path / "notebooks")
    made = plan(tmp_path, notebooks=notebooks)
    go(made)
    before = shown(made)
    for path in notebooks.glob("*.ipynb"):
        notebook = nbformat.read(path, 4)
        notebook.metadata["language_info"] = {"name": "python", "version": "3.99"}
        notebook.cells.append(nbformat.v4.new_markdown_cell("A remark."))
        for number, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                cell.execution_count = number + 7
                cell.outputs = [nbformat.v4.new_output("stream", text="hello")]
        nbformat.write(notebook, path)
    assert go(plan(tmp_path, notebooks=notebooks)).count("finished before") == 2
    assert shown(made) == before
    path = notebooks / "01_second.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.cells[1].source += "\nchanged = True"
    nbformat.write(notebook, path)
    go(plan(tmp_path, notebooks=notebooks))
    assert order(made) == "0 1 1 "


def test_a_run_on_data_that_were_replaced_is_not_called_finished(tmp_path):
    manifest = tmp_path / "own.yaml"
    content = {"name": "own", "title": "t", "sensor": "QB", "licence": "l", "citation": "c", "homepage": "h"}
    split = {"train": 0.4, "val": 0.2, "test": 0.4}
    source = {"kind": "geotiff", "ms": "ms.vrt", "pan": "pan.tif"}
    content |= {"how_to_get": "here", "source": source, "split": split}
    manifest.write_text(yaml.safe_dump(content))
    save(tmp_path / "pan.tif", noise(1, 256, 1408), grid())
    save(tmp_path / "ms.tif", noise(4, 64, 352), grid(4))
    with rasterio.open(tmp_path / "ms.tif") as file, WarpedVRT(file) as warped:
        rasterio.shutil.copy(warped, tmp_path / "ms.vrt", driver="VRT")
    notebooks = write_pair(tmp_path / "notebooks")
    ran = []
    for change in (lambda: None, lambda: None, lambda: os.utime(tmp_path / "ms.tif", (1, 1))):
        change()
        made = plan_run(manifest, name="one", device="cpu", notebooks=notebooks, runs=tmp_path / "runs")
        go(made)
        ran.append(order(made))
    assert ran == ["0 1 ", "0 1 ", "0 1 0 1 "]


def test_a_file_that_a_parameter_names_repeats_its_notebook_when_it_is_replaced(tmp_path, monkeypatch):
    notebooks = write_pair(tmp_path / "notebooks")
    write_notebook(notebooks / "02_third.ipynb", 'run_dir = ""\nsupervisor = ""', LOG.format(2))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.safetensors").write_text("one")
    made = plan(tmp_path, notebooks=notebooks, changes={"supervisor": "s.safetensors"})
    assert made.parameters["02_third"]["supervisor"] == str(tmp_path / "s.safetensors")
    go(made)
    (tmp_path / "s.safetensors").write_text("another")
    go(plan(tmp_path, notebooks=notebooks, changes={"supervisor": "s.safetensors"}))
    assert order(made) == "0 1 2 0 1 2 "


def test_a_run_without_numbers_is_not_finished(tmp_path):
    write_notebook(tmp_path / "00_first.ipynb", 'run_dir = ""')
    with pytest.raises(RunFailed, match="no notebook recorded a table"):
        go(plan(tmp_path, notebooks=tmp_path))


def test_two_processes_cannot_share_a_folder(tmp_path):
    made = plan(tmp_path, notebooks=write_pair(tmp_path / "notebooks"))
    made.folder.mkdir(parents=True)
    with (
        held(made.folder, AssertionError("free until now")),
        pytest.raises(Refusal, match="another process is running"),
    ):
        go(made)


WAIT_ONCE = """
import os, time
if not (Path(run_dir) / "kernel.pid").exists():
    (Path(run_dir) / "kernel.pid").write_text(str(os.getpid()))
    time.sleep(120)
"""
RUN = """
import functools, sys
from pathlib import Path
from clippan_lib import cli
from clippan_lib.runs import runner
from clippan_lib.commands import run
runner.library_digest = lambda: "one state of the library"
run.plan_run = functools.partial(run.plan_run, notebooks=Path(sys.argv[1]), runs=Path(sys.argv[2]))
sys.exit(cli.main(["run", sys.argv[3], "--name", "one", "--device", "cpu"]))
"""


def wait_for(condition, seconds: float = 200) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.1)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_stopped_run_goes_on_where_it_was(tmp_path, number, status):
    notebooks = write_pair(tmp_path / "notebooks", second=WAIT_ONCE)
    write_notebook(notebooks / "02_third.ipynb", SECOND, LOG.format(2))
    made = plan(tmp_path, notebooks=notebooks)
    command = [sys.executable, "-c", RUN, str(tmp_path / "notebooks"), str(tmp_path / "runs"), str(MANIFEST)]
    # A shell starts background jobs with Ctrl-C ignored, and children inherit that
    listening = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=listening)
    pid_file = made.folder / "kernel.pid"
    try:
        wait_for(lambda: process.poll() is not None or (pid_file.exists() and pid_file.read_text()))
        kernels = psutil.Process(process.pid).children()  # the third notebook's has been started, too
        process.send_signal(number)
        errors = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == status, errors
    if number == signal.SIGINT:
        # not always the last line: libraries may have words of their own when the interpreter ends
        assert "clippan: interrupted; the same command goes on from here" in errors.splitlines(), errors
    assert len(kernels) == 2 and int(pid_file.read_text()) in [kernel.pid for kernel in kernels]
    wait_for(lambda: not any(is_alive(kernel.pid) for kernel in kernels), 20)
    assert not [*made.folder.rglob("01_second.ipynb")]
    assert not any((made.folder / name).exists() for name in LEFT_BY_A_FINISHED_RUN)
    assert "00_first: finished before" in go(made)
    assert order(made) == "0 1 1 2 "
    assert all((made.folder / name).exists() for name in LEFT_BY_A_FINISHED_RUN)


def test_other_weights_in_a_given_file_repeat_the_run(tmp_path):
    notebooks, file = write_pair(tmp_path / "notebooks"), tmp_path / "given.safetensors"
    for seed in (0, 0, 1):
        network = build_network("pnn", 8, 4, seed)
        TrainedNetwork(network, "pnn", get_sensor("WV3"), 2047.0, {}).save(file)
        made = plan(tmp_path, notebooks=notebooks, changes={"pseudo": str(file)})
        go(made)
    assert order(made) == "0 1 0 1 "
