"""Campaigns: which runs a table needs, and that they are done once, side by side, again after a stop, and read back."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from distributed import Client, LocalCluster
from tiny import tiny_manifest
from tiny_notebooks import MANIFEST, write_notebook

from clippan_lib.campaign import record, tables
from clippan_lib.campaign.engine import run_campaign
from clippan_lib.campaign.grid import Campaign, plan_campaign
from clippan_lib.campaign.pages import write_pages
from clippan_lib.campaign.rows import TITLES
from clippan_lib.campaign.task import CLASSICAL, EXPERIMENT, PSEUDO, SUPERVISOR, fields_of
from clippan_lib.cli import main
from clippan_lib.errors import ManifestError
from clippan_lib.fusion import build_network
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.runs.folder import RunFolder
from clippan_lib.sensors import get_sensor
from clippan_lib.training.config import STAGES

QB, LARGE = MANIFEST.with_name("synthetic_qb.yaml"), MANIFEST.with_name("synthetic_wv3_large.yaml")

COMMON = 'manifest = ""\ndata_root = ""\nrun_dir = ""\npreset = ""\nseed = 0\ndevice = ""\noverrides = {}\n'
LOG = """
from pathlib import Path
with (Path(run_dir).parents[1] / "order.txt").open("a") as log:
    log.write(Path(run_dir).name + "\\n")
"""
PRODUCT = """
import shutil
place = Path(run_dir) / {product}
place.parent.mkdir(parents=True, exist_ok=True)
shutil.copy({source!r}, place)
"""
# As results.record leaves it, without the seconds that importing the library takes
SCORES = """
import json
from pathlib import Path
about = dict(notebook="any", table="Scores", variant=None, seed=seed, metric="MPSNR", unit="dB")
rows = [about | dict(method=method, scene=str(scene), resolution=resolution, value=30.0 + seed + scene + {value})
        for method in {methods} for resolution in ("reduced", "full") for scene in (0, 1)]
rows += [rows[0] | dict(table="Losses", value=99.0)]
(Path(run_dir) / "unfinished" / "metrics.json").write_text(json.dumps(rows))
"""


@pytest.fixture(autouse=True)
def library(monkeypatch) -> None:
    """Stands for the digest of the library, whose files somebody may be editing while the tests run."""
    monkeypatch.setattr("clippan_lib.runs.runner.library_digest", lambda: "one state of the library")


def write_notebooks(folder: Path, in_experiment: str = "pass", in_supervisor: str = "pass") -> Path:
    """Notebooks that leave what the real ones leave, without training; the two texts are run inside them."""
    folder.mkdir(exist_ok=True)
    network = folder / "network.safetensors"
    TrainedNetwork(build_network("pnn", 8, 4, 0), "pnn", get_sensor("WV3"), 2047.0, {}).save(network)
    (folder / "any.safetensors").write_bytes(b"stands for a supervisor")
    supervisor = PRODUCT.format(
        product="'stage1/supervisor.safetensors'", source=str(folder / "any.safetensors")
    )
    product = 'f\'networks/reduced/{overrides.get("pseudo", "pnn")}-pseudo-{seed}.safetensors\''
    pseudo = PRODUCT.format(product=product, source=str(network))
    empty = SCORES.format(methods="['none']", value=0)
    write_notebook(folder / f"{SUPERVISOR}.ipynb", COMMON, LOG, in_supervisor, supervisor, empty)
    write_notebook(folder / f"{PSEUDO}.ipynb", COMMON, LOG, pseudo, empty)
    parameters = COMMON + 'resolution = ""\nsupervisor = "of the notebook"\nshuffle = False'
    experiment = SCORES.format(methods="['any']", value="bool(supervisor) + 10 * shuffle + len(overrides)")
    write_notebook(folder / f"{EXPERIMENT}.ipynb", parameters, LOG, in_experiment, experiment)
    classical = SCORES.format(methods="['SR-D', 'MTF-GLP-HPM-R']", value="len(method)")
    write_notebook(folder / f"{CLASSICAL}.ipynb", COMMON + "names = []", LOG, classical)
    return folder


def campaign(folder: Path, table: int = 2, **changes) -> Campaign:
    settings = {"seeds": [0], "preset": "smoke", "device": "cpu", "runs": folder / "runs"}
    manifests = changes.pop("manifests", [MANIFEST if table == 1 else LARGE])
    return plan_campaign(table, manifests, **settings | changes)


def small(folder: Path, **changes) -> Campaign:
    """Seven runs: classical, pseudo-supervisor, supervisor, and PNN without and with language at both resolutions."""
    return campaign(folder, 1, **changes | {"changes": {"compared": ["pnn"]}})


def order(planned: Campaign) -> list[str]:
    path = planned.runs / "order.txt"
    return path.read_text().split() if path.exists() else []


def scores(planned: Campaign) -> pd.DataFrame:
    return record.load(planned.folder).scores


# ---------------------------------------------------------------- which runs a table needs


def changes_of(planned: Campaign, row: str, seed: int = 0) -> tuple[dict, dict]:
    """Fields that a row's network was trained with, and those its supervisor was (none: without language)."""
    [task] = {
        entry.task.place: entry.task for entry in planned.entries if (entry.row, entry.seed) == (row, seed)
    }.values()
    guide = task.needs.get("supervisor")
    return dict(task.changes) | dict(task.extra), dict(guide.changes) if guide else None


LOWERED = {"scale": "reduced"}
FULL = LOWERED | {"resolution": "full"}
QNR = {"w_qnr": 0.1}
UNTUNED = {"stage1_iterations": 0, "image_residual": 0.0, "text_residual": 0.0}
ROWS = {
    # the demo preset has no L_QNR, which Table 2 is about
    (2, "L_spec + L_spat"): ({"w_pseudo": 0.0}, None),
    (2, "L_QNR"): (QNR | {"w_spec": 0.0, "w_spat": 0.0, "w_pseudo": 0.0}, None),
    (2, "L_unsup"): (QNR | {"w_pseudo": 0.0}, None),
    (2, "L_unsup + L_ship"): (QNR, None),
    (2, "L_unsup + L_d"): (QNR | {"w_pseudo": 0.0}, {}),
    (2, "L_unsup + L_ship + L_d"): (QNR, {}),
    (2, "random CLIP"): (QNR, {"clip_weights": "random:0"}),
    (2, "shuffled prompts"): (QNR | {"shuffle": True}, {}),
    (3, "without language"): ({}, None),
    (3, "w/o fine-tuning"): ({}, UNTUNED),
    (3, "L_intra"): ({}, {"w_inter": 0.0, "w_fusion": 0.0}),
    (3, "L_intra + L_inter"): ({}, {"w_fusion": 0.0}),
    (3, "L_intra + L_inter + L_1"): ({}, {}),
    (3, "ours: LoRA in place of CA"): ({}, {"adapters": "lora"}),
    (3, "ours: learned prompts in place of CA"): ({}, {"adapters": "prompts"}),
    (4, "PCA"): ({}, {"stem": "pca"}),
    (4, "RGB"): ({}, {"stem": "rgb"}),
    (4, "GBNIR"): ({}, {"stem": "gbnir"}),
    (4, "Conv"): ({}, {}),
    (5, "Noise"): ({}, {"prompts": "noise"}),
    (5, "I"): ({}, {"prompts": "i"}),
    (5, "II"): ({}, {"prompts": "ii"}),
    (5, "Khan's"): ({}, {"prompts": "khan"}),
    (5, "Wald's"): ({}, {}),
}


@pytest.mark.parametrize(("place", "expected"), ROWS.items(), ids=[f"{table} {row}" for table, row in ROWS])
def test_a_row_is_trained_as_the_paper_says(tmp_path, place, expected):
    table, row = place
    network, guide = expected
    # the notebook has a supervisor of its own, which a row without language must not get
    without = {"supervisor": ""} if guide is None else {}
    guide = None if guide is None else LOWERED | guide
    assert changes_of(campaign(tmp_path, table), row) == (FULL | without | network, guide)


def test_tables_two_to_five_are_judged_one_scale_down_unless_another_scale_is_set(tmp_path):
    for table in (2, 3, 4, 5):
        assert {entry.judged for entry in campaign(tmp_path, table).entries} == {"lowered"}
    delivered = campaign(tmp_path, 3, manifests=[MANIFEST], changes={"scale": "full"})
    assert [entry.judged for entry in delivered.entries[:4]] == ["reduced", "full"] * 2
    assert not any("scale" in task.changes for task in delivered.tasks)
    lowered = campaign(tmp_path, 3)
    assert lowered.config.scale == "reduced" and "scale" not in lowered.command
    assert delivered.command.endswith("""-p 'scale="full"'""") and delivered.folder != lowered.folder


def test_patches_of_the_judged_scenes_reach_all_that_is_trained(tmp_path):
    planned = campaign(tmp_path, 2, changes={"patches_from": "judged"})
    assert {task.changes["patches_from"] for task in planned.tasks} == {"judged"}
    assert {entry.judged for entry in planned.entries} == {"lowered"}


def test_each_table_has_the_rows_of_the_paper_and_controls_that_are_paired(tmp_path):
    for table in (2, 3, 4, 5):
        entries = campaign(tmp_path, table).entries
        rows = list(dict.fromkeys(entry.row for entry in entries))
        assert set(rows) >= {row for number, row in ROWS if number == table}
        assert {"random CLIP", "shuffled prompts"} <= set(rows)
        assert {entry.baseline for entry in entries} <= {"", *rows}
        assert all(entry.baseline for entry in entries if entry.task.needs.get("supervisor"))


def test_table_one_has_each_network_twice_at_both_resolutions_and_the_classical_methods(tmp_path):
    planned = campaign(tmp_path, 1, changes={"compared": ["pnn", "fusionnet"]})
    rows = list(dict.fromkeys(entry.row for entry in planned.entries))
    assert rows == ["SR-D", "MTF-GLP-HPM-R", "pnn", "pnn-C", "fusionnet", "fusionnet-C"]
    for entry in planned.entries:
        if entry.task.notebook == EXPERIMENT:
            assert entry.task.extra["resolution"] == entry.judged
            assert ("supervisor" in entry.task.needs) == entry.row.endswith("-C")
            assert entry.baseline == (entry.row.removesuffix("-C") if entry.row.endswith("-C") else "")
            # the demo starts from the pseudo-supervisor, so it is the same network
            assert entry.task.needs["pseudo"].changes.get("pseudo", "pnn") == entry.row.removesuffix("-C")


def test_tables_share_stage_one_the_pseudo_supervisor_and_the_row_that_is_the_whole_method(tmp_path):
    # the demo's whole method has no L_QNR, which Table 2's has
    whole = {3: "L_intra + L_inter + L_1", 4: "Conv", 5: "Wald's"}
    planned = {table: campaign(tmp_path, table) for table in whole}
    places = {
        entry.task.place
        for table, row in whole.items()
        for entry in planned[table].entries
        if entry.row == row
    }
    assert len(places) == 1
    assert {task.place for task in campaign(tmp_path, 2).tasks if task.notebook == PSEUDO} == {
        task.place for task in planned[5].tasks if task.notebook == PSEUDO
    }
    counts = pd.Series(
        [task.notebook for task in campaign(tmp_path, 2, seeds=[0, 1, 2]).tasks]
    ).value_counts()
    assert counts.to_dict() == {EXPERIMENT: 24, SUPERVISOR: 6, PSEUDO: 3}


def test_a_run_depends_on_what_its_notebook_uses_and_on_nothing_else(tmp_path):
    def places(**changes: object) -> dict[str, set[str]]:
        found = campaign(tmp_path, 5, changes=changes).tasks
        return {
            kind: {t.place for t in found if t.notebook == kind} for kind in (SUPERVISOR, PSEUDO, EXPERIMENT)
        }

    plain = places()
    for (field, value), changed in {
        ("stage2_lr", 1e-4): {EXPERIMENT},
        ("tau_intra", 0.2): {SUPERVISOR, EXPERIMENT},
        ("pseudo_lr", 1e-4): {PSEUDO, EXPERIMENT},
        ("precision", "bfloat16"): {PSEUDO, EXPERIMENT},
        ("compared", ("ship",)): set(),
    }.items():
        other = places(**{field: [*value] if isinstance(value, tuple) else value})
        for kind in plain:
            # an experiment without language does not depend on Stage I
            same = plain[kind] & other[kind]
            assert bool(plain[kind] - other[kind]) == (kind in changed), (field, kind)
            assert len(same) == {"tau_intra": {EXPERIMENT: 1}}.get(field, {}).get(
                kind, 0 if kind in changed else len(plain[kind])
            )


def test_at_the_paper_preset_one_pseudo_supervisor_serves_all_networks(tmp_path):
    planned = campaign(tmp_path, 1, preset="paper", seeds=[0, 1])
    [first, second] = [task for task in planned.tasks if task.notebook == PSEUDO]
    assert {first.seed, second.seed} == {0, 1} and first.changes == {"network": "ship"}


def test_a_classical_pseudo_supervisor_is_not_trained(tmp_path):
    planned = campaign(tmp_path, 2, changes={"warm_start": False, "pseudo": "mtf_glp_hpm_r"})
    assert PSEUDO not in {task.notebook for task in planned.tasks}
    assert all(t.changes["pseudo"] == "mtf_glp_hpm_r" for t in planned.tasks if t.notebook == EXPERIMENT)


def test_another_network_brings_its_own_start(tmp_path):
    planned = campaign(tmp_path, 2, changes={"network": "fusionnet"})
    [pseudo] = [task for task in planned.tasks if task.notebook == PSEUDO]
    assert pseudo.changes["pseudo"] == "fusionnet"
    assert pseudo.product(tmp_path) == RunFolder(tmp_path / pseudo.place).pseudo("fusionnet", pseudo.seed)


def test_another_clip_is_one_parameter(tmp_path):
    planned = campaign(tmp_path, 3, changes={"clip_model": "ViT-B-32", "clip_weights": "laion2b_s34b_b79k"})
    weights = {task.changes["clip_weights"] for task in planned.tasks if task.notebook == SUPERVISOR}
    assert weights == {"laion2b_s34b_b79k", "random:0"}
    assert {t.changes["clip_model"] for t in planned.tasks if t.notebook == SUPERVISOR} == {"ViT-B-32"}


@pytest.mark.parametrize(
    ("table", "changes", "message"),
    [
        (6, {}, "table 6: the paper has the tables 1, 2, 3, 4, 5"),
        (2, {"seeds": []}, r"--seeds \[\]: give one or more different numbers"),
        (2, {"seeds": [1, 1]}, r"--seeds \[1, 1\]"),
        (2, {"seeds": [0, -1]}, r"--seeds \[0, -1\]"),
        (2, {"changes": {"n_seeds": 3}}, "n_seeds: a table repeats whole runs; use --seeds"),
        (2, {"changes": {"w_qnt": 1.0}}, "w_qnt: unknown parameter; did you mean w_qnr"),
        (2, {"changes": {"w_qnr": -1.0}}, "w_qnr"),
        (2, {"preset": "full"}, "unknown preset 'full'"),
        (2, {"manifests": []}, r"datasets \[\]: give one or more"),
        (2, {"manifests": [MANIFEST, MANIFEST]}, "give one or more, each once"),
        (2, {"name": "../else"}, "--name '../else' is not the name of a folder"),
        (
            2,
            {"manifests": [MANIFEST]},
            "train scenes of synthetic_wv3 are 24 x 24 LRMS px one scale down, and 6 x 6 one lower still.*patch=16 "
            "needs 64 x 64.*-p scale=full",
        ),
        (
            2,
            {"changes": {"patches_from": "judged", "scale": "full"}},
            "patches_from='judged': at scale='full' no truth",
        ),
        (
            1,
            {"changes": {"scale": "reduced", "truth": "sharp"}},
            "scale='reduced', truth='sharp': Table 1 trains",
        ),
        (2, {"manifests": [MANIFEST.with_name("wv2_grip.yaml")]}, "imgWV2.mat: no such file"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, table, changes, message):
    with pytest.raises(ValueError, match=message):
        campaign(tmp_path, table, **changes)
    assert not list(tmp_path.iterdir())


def test_a_missing_manifest_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="nowhere.yaml"):
        campaign(tmp_path, manifests=[tmp_path / "nowhere.yaml"])


def test_the_command_of_a_campaign_makes_the_same_campaign(tmp_path):
    planned = campaign(
        tmp_path,
        4,
        seeds=[3, 1],
        manifests=[MANIFEST, QB],
        changes={"scale": "full", "prompts": {"lrms": "a", "pan": "b", "hrms": "c"}, "stage2_lr": 1e-4},
    )
    assert planned.command == (
        "clippan table 4 data_manifests/synthetic_wv3.yaml data_manifests/synthetic_qb.yaml --seeds 3 1 --preset smoke "
        """-p 'scale="full"' -p 'prompts={"lrms": "a", "pan": "b", "hrms": "c"}' -p stage2_lr=0.0001"""
    )


def test_each_notebook_is_given_the_fields_that_decide_its_stages_and_those_that_decide_nothing():
    assert set(fields_of(SUPERVISOR)) == {*STAGES["stage1"], "checkpoint_every"}
    assert set(fields_of(PSEUDO)) == {*STAGES["pseudo"], "network", "checkpoint_every"}
    assert set(fields_of(EXPERIMENT)) == {*STAGES["supervised"], *STAGES["unsupervised"], "checkpoint_every"}
    assert fields_of(CLASSICAL) == ["gains", "scale", "patches_from", "truth"]


# ---------------------------------------------------------------- running them


def test_a_campaign_runs_what_is_needed_first_and_everything_once(tmp_path):
    notebooks, planned, seen = write_notebooks(tmp_path / "notebooks"), small(tmp_path), []
    outcomes = run_campaign(planned, notebooks=notebooks, progress=lambda *args: seen.append(args))
    done = order(planned)
    assert sorted(done) == sorted(task.name for task in planned.tasks) and not any(
        o.failure for o in outcomes
    )
    for task in planned.tasks:
        assert all(done.index(needed.name) < done.index(task.name) for needed in task.needs.values())
    assert seen[-1] == ("runs", len(done), len(done), {})
    run_campaign(planned, notebooks=notebooks)
    run_campaign(small(tmp_path, name="another"), notebooks=notebooks)
    assert order(planned) == done


def test_scores_are_the_means_over_scenes_read_from_the_run_folders(tmp_path):
    planned = small(tmp_path, seeds=[0, 2])
    run_campaign(planned, notebooks=write_notebooks(tmp_path / "notebooks"))
    table = scores(planned).set_index(["row", "seed", "judged"])
    # 30 + mean of scenes 0 and 1, plus what each notebook adds: see SCORES
    assert table.loc[("SR-D", 0, "full"), "MPSNR"] == 30.5 + 4 == table.loc[("SR-D", 2, "full"), "MPSNR"]
    assert table.loc[("MTF-GLP-HPM-R", 2, "reduced"), "MPSNR"] == 30.5 + 13
    assert table.loc[("pnn", 2, "reduced"), "MPSNR"] == 32.5 + 2  # two overrides: pseudo and truth
    assert table.loc[("pnn-C", 2, "reduced"), "MPSNR"] == 32.5 + 3
    assert (table["status"] == "done").all() and len(table) == 4 * 2 * 2
    assert table.loc[("pnn-C", 0, "full"), "baseline"] == "pnn"


def test_one_scale_down_the_truth_leads_and_the_indices_without_stand_beside_it(tmp_path):
    planned = campaign(tmp_path, 2)
    planned = replace(planned, entries=planned.entries[:1])
    run_campaign(planned, notebooks=write_notebooks(tmp_path / "notebooks"))
    results = record.load(planned.folder)
    [line] = results.scores.to_dict("records")
    # overrides of w_pseudo, of the scale and of the pseudo-supervisor: see SCORES
    assert (line["judged"], line["MPSNR"]) == ("lowered", 30.5 + 3)
    [contest] = results.contests
    assert contest.title == f"{planned.manifests[0].title}: one scale down"
    assert contest.metrics == ["MPSNR", "ERGAS", "SAM", "Q2n", "D_lambda", "D_s", "QNR", "HQNR"]
    assert "the LRMS of before is the truth" in tables.as_markdown(results)


def test_the_record_says_how_to_repeat_a_campaign(tmp_path):
    planned = small(tmp_path)
    run_campaign(planned, notebooks=write_notebooks(tmp_path / "notebooks"))
    record = json.loads((planned.folder / "campaign.json").read_text())
    runs = [json.loads((planned.runs / task.place / "run.json").read_text()) for task in planned.tasks]
    assert record["title"] == TITLES[1] and record["command"] == planned.command
    assert record["seconds"] == round(sum(sum(run["seconds"].values()) for run in runs))
    assert record["datasets"] == {
        "synthetic_wv3": {
            "title": planned.manifests[0].title,
            "sensor": "WV3",
            "n_bands": 8,
            "manifest": "synthetic_wv3.yaml",
        }
    }


FAILS = "if supervisor and resolution == 'reduced':\n    raise RuntimeError('out of paper')"


def test_a_failed_run_shows_in_the_table_the_others_go_on_and_it_is_tried_again(tmp_path):
    planned = small(tmp_path)
    outcomes = run_campaign(planned, notebooks=write_notebooks(tmp_path / "notebooks", FAILS))
    [failed] = [outcome for outcome in outcomes if outcome.failure]
    assert "RuntimeError: out of paper" in failed.failure
    reason = json.loads((planned.runs / failed.place / "failed.json").read_text())["reason"]
    assert reason == failed.failure
    status = scores(planned).set_index(["row", "judged"])["status"]
    assert status[("pnn-C", "reduced")] == "failed" and set(status.drop(("pnn-C", "reduced"))) == {"done"}
    shown = {table.name: table.text for table in tables.all_tables(record.load(planned.folder))}
    assert (shown["synthetic_wv3_reduced"].loc["pnn-C"] == "failed").all()
    tried = len(order(planned))
    run_campaign(planned, notebooks=write_notebooks(tmp_path / "notebooks"))
    assert len(order(planned)) == tried + 1 and set(scores(planned)["status"]) == {"done"}


def test_what_needs_a_failed_run_fails_with_it_and_says_so(tmp_path):
    planned = small(tmp_path)
    notebooks = write_notebooks(tmp_path / "notebooks", in_supervisor="raise RuntimeError('no CLIP')")
    first, *others = [outcome for outcome in run_campaign(planned, notebooks=notebooks) if outcome.failure]
    assert "no CLIP" in first.failure and len(others) == 2
    assert {outcome.failure for outcome in others} == {f"it needs {first.place}, which failed"}
    status = scores(planned).set_index("row")["status"]
    assert set(status["pnn-C"]) == {"failed"} and set(status.drop("pnn-C")) == {"done"}


@pytest.mark.slow
def test_runs_side_by_side_give_the_same_table_as_one_after_another(tmp_path):
    notebooks = write_notebooks(tmp_path / "notebooks", FAILS)
    serial, parallel = small(tmp_path, runs=tmp_path / "a"), small(tmp_path, runs=tmp_path / "b")
    run_campaign(serial, notebooks=notebooks)
    outcomes = run_campaign(parallel, jobs=2, notebooks=notebooks)
    assert sorted(order(serial)) == sorted(order(parallel))
    assert sum(outcome.failure is not None for outcome in outcomes) == 1
    pd.testing.assert_frame_equal(scores(serial), scores(parallel))


@pytest.mark.slow
def test_a_cluster_that_is_there_is_used(tmp_path):
    planned = small(tmp_path)
    notebooks = write_notebooks(tmp_path / "notebooks")
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", memory_limit=0) as cluster:
        run_campaign(planned, scheduler=cluster.scheduler_address, notebooks=notebooks)
        with Client(cluster) as client:
            used = client.run(lambda: "clippan_lib.campaign.engine" in sys.modules)
    assert [*used.values()] == [True]
    assert set(scores(planned)["status"]) == {"done"}


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import clippan_lib.runs.runner
clippan_lib.runs.runner.library_digest = lambda: "one state of the library"
from test_campaign import small
from clippan_lib.campaign.engine import run_campaign
run_campaign(small(Path({folder!r}), runs=Path({folder!r})), notebooks=Path({notebooks!r}))
"""


@pytest.mark.slow
def test_a_killed_campaign_goes_on_where_it_stopped_to_the_same_table(tmp_path):
    notebooks = write_notebooks(tmp_path / "notebooks")
    whole, killed = small(tmp_path, runs=tmp_path / "whole"), small(tmp_path, runs=tmp_path / "killed")
    run_campaign(whole, notebooks=notebooks)
    script = SCRIPT.format(
        tests=str(Path(__file__).parent), folder=str(tmp_path / "killed"), notebooks=str(notebooks)
    )
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], start_new_session=True)
    deadline = time.monotonic() + 120
    while len(order(killed)) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = len(order(killed))
    assert 3 <= before < len(killed.tasks)
    assert scores_are_absent_or_incomplete(killed)
    run_campaign(killed, notebooks=notebooks)
    assert len(order(killed)) <= len(killed.tasks) + 1  # at most the one that was killed runs again
    pd.testing.assert_frame_equal(scores(whole), scores(killed))


def scores_are_absent_or_incomplete(planned: Campaign) -> bool:
    return not (planned.folder / "scores.csv").exists() or (scores(planned)["status"] != "done").any()


# ---------------------------------------------------------------- the command


def test_the_command_refuses_with_status_2_and_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["table", "2", str(MANIFEST), "--seeds", "0", "0"]) == 2
    assert capsys.readouterr().err == (
        "clippan: --seeds [0, 0]: give one or more different numbers, 0 or more each\n"
    )
    for arguments in (
        ["table", "7", str(MANIFEST)],
        ["table", "1", str(MANIFEST), "--jobs", "0"],
        ["table", "1"],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_table_one_of_the_real_notebooks_ends_with_tables_and_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(tiny_manifest())
    changes = ["-p", "compared=[pnn]"]
    status = main(["table", "1", "tiny.yaml", "--seeds", "0", "--preset", "smoke", "--jobs", "2", *changes])
    shown = capsys.readouterr()
    assert status == 0, shown.err
    [folder] = (tmp_path / "runs" / "campaigns").iterdir()
    found = record.load(folder)
    assert set(found.scores["status"]) == {"done"} and len(found.scores) == 4 * 2
    full = found.scores[found.scores["judged"] == "full"].set_index("row")
    assert full[["QNR", "HQNR", "MPSNR"]].notna().all(axis=None)
    assert (full["MPSNR"] > 20).all() and full["MPSNR"].is_unique
    for file in ("05_tables.html", "tiny/06_figures.html", "tiny/figures/06_figure_4.pdf"):
        assert (folder / file).stat().st_size > 1000, file
    assert f"Report: {folder / '05_tables.html'}" in shown.out and "pnn-C vs pnn" in shown.out
    assert list((folder / "tables").glob("*.tex"))


@pytest.mark.slow
def test_a_row_of_the_real_notebooks_trained_on_judged_scenes_is_judged_one_scale_down(tmp_path):
    manifest = tmp_path / "tiny.yaml"
    manifest.write_text(tiny_manifest(train=1, size=1024))
    planned = campaign(tmp_path, 2, manifests=[manifest], changes={"patches_from": "judged"})
    planned = replace(planned, entries=planned.entries[:1])
    assert not [outcome for outcome in run_campaign(planned) if outcome.failure]
    [line] = scores(planned).to_dict("records")
    assert 20 < line["MPSNR"] < 60 and 0 < line["QNR"] < 1 and line["judged"] == "lowered"


def test_a_page_that_cannot_be_made_is_an_error_and_leaves_no_page(tmp_path):
    notebooks, planned = write_notebooks(tmp_path / "notebooks"), small(tmp_path)
    run_campaign(planned, notebooks=notebooks)
    write_notebook(notebooks / "05_tables.ipynb", 'campaign = ""\nout = ""', "raise ValueError('no table')")
    with pytest.raises(RuntimeError, match="05_tables of .*: ValueError: no table"):
        write_pages(planned, notebooks)
    assert not (planned.folder / "05_tables.html").exists()
