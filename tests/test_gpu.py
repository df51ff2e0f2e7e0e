"""`make gpu` on the CPU, at a tiny size: every part gives its rows, and what is wrong makes the status 1."""

import json
import math
import multiprocessing
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import gpu
import gpu_parts
import numpy as np
import pytest
import torch
from gpu import PARTS, Outcome, Part, check, main
from gpu_parts import ROOT, Row, compared, paper, scan, scenes, suite, training

from clippan_lib.errors import ClipWeightsError
from clippan_lib.fusion.networks.pnn import PNN

TINY = {
    "training": partial(training, networks=("pnn",), iterations=4, batch=2, side=128),
    "paper preset": partial(
        paper,
        iterations=2,
        side=256,
        clip_model="embedded",
        clip_weights=None,
        pseudo="pnn",
        stage1_batch=2,
        pseudo_batch=2,
        stage2_batch=2,
    ),
    "scenes": partial(scenes, side=256, tile=128),
    "selective scan": partial(scan, batch=1, tokens=300, d=4, n=2, timed=1),
}


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts begin at once, with all that is imported and planted here."""
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: context)


def run(tmp_path: Path, rows, limit: float = 60) -> tuple[int, dict]:
    """The status of one part on the CPU, and what was written of it."""
    out = tmp_path / "results" / "gpu.json"
    status = main({"part": Part(rows, limit)}, "cpu", out)
    return status, json.loads(out.read_text())["parts"][0]


def test_without_a_gpu_it_says_so_and_fails():
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, ROOT / "tests" / "gpu.py"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (1, "nothing to check: torch sees no GPU\n")


def test_make_gpu_runs_the_script():
    assert "\ngpu: $(READY)\n\t$(BIN)/python tests/gpu.py\n" in (ROOT / "Makefile").read_text()


def test_all_limits_together_stay_below_eight_minutes():
    assert sum(part.limit for part in PARTS.values()) < 480


def test_the_device_tests_pass_or_fail_the_first_part(tmp_path):
    file = tmp_path / "test_two.py"
    file.write_text(f"def test_one(): pass\n\n\ndef test_two(): assert {True}\n")
    (row,) = suite("cpu", [file], "not gpu")
    assert row.passed and row.numbers[""].startswith("2 passed")
    file.write_text(f"def test_one(): pass\n\n\ndef test_two(): assert {False}\n")
    (row,) = suite("cpu", [file], "not gpu")
    assert not row.passed and row.numbers[""].startswith("1 failed, 1 passed")


def test_no_test_for_a_gpu_is_no_success(tmp_path):
    (tmp_path / "test_one.py").write_text("def test_one(): pass\n")
    (row,) = suite("cpu", [tmp_path / "test_one.py"])
    assert not row.passed and row.numbers[""].startswith("1 deselected")


def test_training_gives_time_and_loss_of_both_precisions_and_their_ratio():
    exact, rounded, ratio = TINY["training"]("cpu")
    assert [row.what for row in (exact, rounded)] == ["pnn, float32, batch 2", "pnn, bfloat16, batch 2"]
    assert all(row.passed and row.numbers["s/iteration"] > 0 for row in (exact, rounded))
    assert exact.numbers["loss"] != rounded.numbers["loss"]
    assert ratio.passed and ratio.numbers["loss"] == rounded.numbers["loss"] / exact.numbers["loss"]


def test_a_loss_in_bfloat16_that_is_far_from_float32s_fails(monkeypatch):
    losses = iter([1.0, 1.3])
    monkeypatch.setattr(gpu_parts, "measured", lambda *_: Row("", True, {"loss": next(losses)}))
    *_, ratio = TINY["training"]("cpu")
    assert not ratio.passed and ratio.numbers["loss"] == 1.3


def test_the_paper_preset_gives_time_and_loss_of_its_three_trainings():
    rows = list(TINY["paper preset"]("cpu"))
    assert [row.what for row in rows] == [
        "Stage I, embedded, weights of the package, batch 2",
        "pseudo-supervisor, pnn, batch 2",
        "Stage II, pnn, batch 2",
    ]
    assert all(row.passed and row.numbers["s/iteration"] > 0 and row.numbers["loss"] > 0 for row in rows)


def test_weights_that_are_not_at_hand_become_random_ones_that_are_named_so(monkeypatch):
    load = gpu_parts.load_clip

    def without_connection(model, weights):
        if not weights.startswith("random:"):
            raise ClipWeightsError("no connection")
        return load("embedded", weights)

    monkeypatch.setattr(gpu_parts, "load_clip", without_connection)
    config = gpu_parts.make_config("paper")
    supervisor, weights = gpu_parts.build_supervisor(config, 0)
    assert (config.clip_weights, weights, supervisor.towers.weights) == ("openai", "random:0", "random:0")


def test_scenes_give_the_difference_and_the_throughput_of_every_method():
    rows = list(TINY["scenes"]("cpu"))
    assert [row.what for row in rows] == [
        "gsa",
        "mtf_glp_hpm_r",
        "fusionnet",
        "fusionnet, TF32 as torch has it",
    ]
    assert all(row.passed and row.numbers["DN apart"] == 0 and row.numbers["MP/s"] > 0 for row in rows)


def test_convolutions_round_to_tf32_only_where_they_shall():
    before, seen = torch.backends.cudnn.allow_tf32, []
    for tf32 in (False, True):
        with gpu_parts.convolutions(tf32):
            seen.append(torch.backends.cudnn.allow_tf32)
    assert seen == [False, True] and torch.backends.cudnn.allow_tf32 == before


@pytest.mark.parametrize("bound", [gpu_parts.FLOAT32, gpu_parts.TF32])
def test_one_pixel_beyond_the_bound_one_mask_or_one_nan_fails(bound):
    image = np.ma.MaskedArray(np.full((3, 8, 8), 100.0, np.float32), mask=False)
    for change, passed in ((0.9 * bound, True), (1.1 * bound, False), (math.nan, False)):
        other = image.copy()
        other[1, 2, 3] += np.float32(change)
        assert compared("", other, image, bound, {}).passed == passed
    other = image.copy()
    other[1, 2, 3] = np.ma.masked
    assert not compared("", other, image, bound, {}).passed


def test_the_scan_is_near_float64_forward_and_backward_and_timed():
    *rows, timed = TINY["selective scan"]("cpu")
    assert [row.what.split(",")[0] for row in rows] == ["y", *(f"gradient of {n}" for n in gpu_parts.NAMES)]
    assert all(row.passed and 0 < row.numbers["off by"] < 1e-5 for row in rows)
    assert timed.numbers["s/iteration"] > 0


def test_a_scan_that_is_off_by_a_thousandth_fails(monkeypatch):
    ours, calls = gpu_parts.selective_scan, []

    def worse(*given):
        calls.append(given)
        return ours(*given) * (1.001 if len(calls) == 3 else 1)

    monkeypatch.setattr(gpu_parts, "selective_scan", worse)
    assert [row.what for row in TINY["selective scan"]("cpu") if not row.passed][0] == "y, by torch"


# From the parts to the exit status


def test_a_part_that_passes_is_told_in_a_line_a_table_and_a_file(tmp_path, capsys, forked):
    status, written = run(tmp_path, lambda device: iter([Row("all", True, {"s": 0.12345, "MiB": None})]))
    said = capsys.readouterr().out
    assert status == 0 and written["passed"] and written["rows"][0]["numbers"] == {"s": 0.12345, "MiB": None}
    assert said.startswith("part: passed in 0 s of 60 s\n") and "passed  s 0.123\n" in said
    assert said.endswith("run to the end on cpu: part; not: none\n")
    about = json.loads((tmp_path / "results" / "gpu.json").read_text())["about"]
    assert about["torch"] == torch.__version__ and about["device"] == "cpu"


def test_a_planted_difference_of_one_pixel_makes_the_status_1(tmp_path, capsys, monkeypatch):
    honest, calls = gpu_parts.sharpened, []

    def planted(*arguments):
        image, rate = honest(*arguments)
        calls.append(arguments)
        if len(calls) == 3:
            image[0, 100, 100] += 1
        return image, rate

    monkeypatch.setattr(gpu_parts, "sharpened", planted)
    # GDAL's threads do not survive a fork
    here = lambda name, part, device: Outcome(name, part.limit, 0, list(part.rows(device)), "")  # noqa: E731
    monkeypatch.setattr(gpu, "check", here)
    status, written = run(tmp_path, TINY["scenes"])
    assert status == 1 and [row["passed"] for row in written["rows"]] == [True, False, True, True]
    assert "part: FAILED" in (said := capsys.readouterr().out) and ": mtf_glp_hpm_r\n" in said


def test_a_loss_that_is_no_number_makes_the_status_1_and_other_networks_go_on(tmp_path, monkeypatch, forked):
    class Broken(PNN):
        def forward(self, lrms, pan):
            return super().forward(lrms, pan) * math.nan

    build = gpu_parts.build_network
    networks = {"pnn": lambda *_: Broken(8, 4), "pannet": lambda *sizes: build("pannet", *sizes)}
    monkeypatch.setattr(gpu_parts, "build_network", lambda name, *sizes: networks[name](*sizes))
    status, written = run(tmp_path, partial(TINY["training"], networks=("pnn", "pannet")))
    assert status == 1
    assert [row["passed"] for row in written["rows"]] == [False] * 3 + [True] * 3
    assert "not finite" in written["rows"][0]["numbers"][""] and written["rows"][2]["numbers"]["loss"] is None


def test_a_pseudo_supervisor_that_fails_ends_the_paper_preset_with_status_1(tmp_path, monkeypatch, forked):
    def diverged(*_, **__):
        raise gpu_parts.TrainingError("iteration 0: total is not finite")

    monkeypatch.setattr(gpu_parts, "train_pseudo", diverged)
    status, written = run(tmp_path, TINY["paper preset"])
    assert status == 1 and [row["passed"] for row in written["rows"]] == [True, False]


def test_a_part_that_raises_makes_the_status_1_and_the_next_one_runs(tmp_path, capsys, forked):
    def failing(device):
        yield Row("before", True)
        raise RuntimeError("CUDA out of memory\nand more")

    parts = {"one": Part(failing, 60), "two": Part(lambda device: iter([Row("all", True)]), 60)}
    assert main(parts, "cpu", tmp_path / "gpu.json") == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "one: FAILED in 0 s of 60 s: RuntimeError: CUDA out of memory"
    assert said[1].startswith("two: passed") and said[-1] == "run to the end on cpu: two; not: one"


@pytest.mark.parametrize(
    ("rows", "reason"),
    [(lambda device: iter(()), "it checked nothing"), (lambda device: os._exit(3), "ended with status 3")],
)
def test_a_part_that_checks_nothing_or_dies_makes_the_status_1(tmp_path, capsys, forked, rows, reason):
    assert run(tmp_path, rows)[0] == 1
    assert reason in capsys.readouterr().out


def test_a_part_is_stopped_at_its_limit_with_all_that_it_started(tmp_path, capsys, forked):
    def endless(device):
        grandchild = subprocess.Popen(["sleep", "600"])
        yield Row("before", True, {"pid": grandchild.pid})
        time.sleep(600)

    status, written = run(tmp_path, endless, limit=2)
    assert (
        status == 1 and written["seconds"] < 30 and "stopped at its limit of 2 s" in capsys.readouterr().out
    )
    pid = written["rows"][0]["numbers"]["pid"]
    for _ in range(100):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail(f"process {pid}, which the part had started, still runs")


@pytest.mark.slow
def test_the_parts_run_in_processes_of_their_own_as_make_gpu_runs_them():
    for name, rows in TINY.items():
        outcome = check(name, Part(rows, 250), "cpu")
        assert outcome.passed, outcome.line
    assert PARTS.keys() == {"tests", *TINY}
