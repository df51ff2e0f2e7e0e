"""Areas of one value: a sea cut to 0, saturated clouds, a lost band. They are left out, and nothing stops at them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from layouts import manifest
from rasters import grid, save
from scenes import land

from clippan_lib import figures
from clippan_lib.campaign.engine import _line
from clippan_lib.campaign.grid import Entry
from clippan_lib.campaign.task import Task
from clippan_lib.data import Batch, Scene, open_dataset
from clippan_lib.data.flat import flat
from clippan_lib.data.pair import open_pair
from clippan_lib.data.stacks import MemoryStack
from clippan_lib.errors import DataError, NoWindow, Refusal
from clippan_lib.evaluation.scores import classical_methods, evaluate, paired, summary
from clippan_lib.fusion import get_method
from clippan_lib.metrics import BETTER, WITH_TRUTH, WITHOUT_TRUTH
from clippan_lib.mtf import degrade
from clippan_lib.runs.plan import plan_run
from clippan_lib.sensors import get_sensor
from clippan_lib.sharpening.adapt import plan_adaptation
from clippan_lib.sharpening.areas import choose_areas, settings_of
from clippan_lib.sharpening.contest import plan_contest, run_contest
from clippan_lib.sharpening.verdict import verdict

QB = get_sensor("QB")
CPU = torch.device("cpu")
INDEX = torch.zeros(1, dtype=torch.int64)
FILES = {"kind": "geotiff", "ms": "ms.tif", "pan": "pan.tif", "nodata": "none"}
SPLIT = {"train": 0.0, "val": 0.0, "test": 1.0}


def ground(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """MS and PAN of land, repeated by mirroring where more is asked for than there is."""
    gt, pan = land()
    ms = degrade(gt, QB.gnyq, 4)
    ms, pan = ((1500 * image[0]).round().numpy().astype(np.uint16) + 100 for image in (ms, pan))
    wider = [(0, 0), (0, max(0, height - ms.shape[1])), (0, max(0, width - ms.shape[2]))]
    ms, pan = np.pad(ms, wider, "symmetric"), np.pad(pan, [(4 * a, 4 * b) for a, b in wider], "symmetric")
    return ms[:, :height, :width], pan[:, : 4 * height, : 4 * width]


def sea(ms: np.ndarray, pan: np.ndarray, rows: slice, columns: slice, value: int) -> None:
    """One value in all of MS and PAN there."""
    ms[:, rows, columns] = value
    pan[
        :,
        slice(*(4 * at for at in rows.indices(ms.shape[1])[:2])),
        slice(*(4 * at for at in columns.indices(ms.shape[2])[:2])),
    ] = value


def saved(folder, ms, pan):
    # MS pixels lie on those of PAN: nothing is interpolated, and a band of one value stays one
    return save(folder / "ms.tif", ms, grid(4, 0.5, 0.5)), save(folder / "pan.tif", pan, grid())


def dataset_of(folder, ms, pan):
    saved(folder, ms, pan)
    return open_dataset(manifest(FILES, split=SPLIT), folder)


# What is flat


def test_a_band_of_one_value_is_named_and_so_is_pan():
    lrms, pan = torch.rand(5, 3, 8, 12), torch.rand(5, 1, 32, 48)
    lrms[1, 2], lrms[2, :2], pan[2], pan[3] = 0.3, 1.0, 1.0, 0.0
    lrms[4] = torch.rand(()) * (1 + 1e-7 * torch.rand(3, 8, 12))  # what a filter leaves of one value
    said = flat(Batch(lrms, pan, None, torch.arange(5)), ("red", "green", "nir"))
    assert said == [
        "",
        "band nir is constant",
        "bands red, green and PAN are constant",
        "PAN is constant",
        "bands red, green, nir are constant",
    ]


def test_one_digital_number_of_sixteen_bits_is_a_difference():
    lrms, pan = torch.full((1, 1, 8, 8), 1.0), torch.rand(1, 1, 32, 32)
    lrms[0, 0, 3, 4] -= 1 / 65535
    assert flat(Batch(lrms, pan, None, INDEX), ("red",)) == [""]


def test_a_truth_of_one_value_counts_where_lrms_has_more():
    lrms, pan, gt = torch.rand(1, 2, 8, 8), torch.rand(1, 1, 32, 32), torch.rand(1, 2, 32, 32)
    gt[:, 1] = 0
    assert flat(Batch(lrms, pan, gt, INDEX), ("red", "nir")) == ["band nir is constant"]


# Areas of a data set


@pytest.mark.parametrize("value", [0, 700, 2047])
def test_areas_in_a_sea_are_left_out_by_name_at_both_resolutions(tmp_path, value):
    ms, pan = ground(62, 192)  # six areas beside one another
    sea(ms, pan, slice(0, 62), slice(64, 128), value)
    ms[3, :, 128:160] = 400
    dataset = dataset_of(tmp_path, ms, pan)
    for resolution in ("full", "reduced"):
        names = [scene.name for scene in dataset.scenes("test", resolution)]
        assert names == ["mine_test_0_0", "mine_test_0_32", "mine_test_0_160"]
    of_all = "is left out: bands blue, green, red, nir and PAN are constant"
    assert dataset.unscored() == (
        f"area mine_test_0_64 {of_all}",
        f"area mine_test_0_96 {of_all}",
        "area mine_test_0_128 is left out: band nir is constant",
    )
    table = evaluate(classical_methods(dataset), dataset.scenes("test", "reduced"), CPU)
    assert np.isfinite(table[list(WITH_TRUTH)]).all(axis=None) and table["Q2n"].min() > 0.3


def test_where_all_is_sea_the_areas_are_there_and_have_no_scores(tmp_path):
    ms, pan = ground(64, 66)
    sea(ms, pan, slice(0, 64), slice(0, 66), 0)
    dataset = dataset_of(tmp_path, ms, pan)
    scenes = dataset.scenes("test", "full")
    assert [scene.name for scene in scenes] == ["mine_test_0_0"]
    (said,) = dataset.unscored()
    assert said == "no area of mine_test can be scored: bands blue, green, red, nir and PAN are constant"
    with pytest.warns(
        UserWarning, match="mine_test_0_0 has no scores: bands blue, green, red, nir and PAN are"
    ):
        table = evaluate(classical_methods(dataset), scenes, CPU)
    assert table[list(WITHOUT_TRUTH)].isna().all(axis=None) and len(table) == 4
    assert (figures.mark_best(summary(table)[0], BETTER) == "-").all(axis=None)


def test_a_scene_of_one_value_of_any_source_is_skipped_by_the_means():
    lrms, pan = torch.rand(2, 1, 4, 16, 16).unbind(1)[0], torch.rand(2, 1, 64, 64)
    lrms[1, 2] = 0.5
    scene = [Batch(lrms[i : i + 1], pan[i : i + 1], torch.rand(1, 4, 64, 64), INDEX) for i in (0, 1)]
    stack = MemoryStack(("a", "b"), QB, "full", 16, 16, True, 2047.0, lambda number: scene[number])
    exp = {"EXP": get_method("exp", QB, 4)}
    with pytest.warns(UserWarning, match="^b has no scores: band red is constant"):
        both = evaluate(exp, [Scene(stack, 0), Scene(stack, 1)], CPU)
    alone = evaluate(exp, [Scene(stack, 0)], CPU)
    pd.testing.assert_frame_equal(summary(both)[0], summary(alone)[0])
    mine = both.melt(["method", "seed", "scene", "resolution"], var_name="metric")
    task = Task("03_experiment", manifest(FILES, split=SPLIT), None, "smoke", 0, "cpu")
    entry = Entry("mine", "EXP", "", 0, "full", task)
    assert _line(entry, "done", mine)["SAM"] == pytest.approx(alone["SAM"].item())


def test_differences_of_scores_that_are_not_there_are_drawn_and_told_as_such():
    rows = [
        {"method": name, "seed": seed, "scene": "s", "resolution": "full", "QNR": value, "D_s": np.nan}
        for name, value in (("one", 0.5), ("other", 0.75))
        for seed in (0, 1)
    ]
    difference = paired(pd.DataFrame(rows), "other", "one")
    figure = figures.paired_differences({"other": difference}, BETTER)
    said = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert said == ["+0.25", "no score"]
    assert figures.difference_table({"other": difference}).iloc[0].tolist() == ["+0.2500 ± 0.0000", "-"]


# What is planned


def test_a_plan_names_what_has_no_scores_and_the_command_says_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ms, pan = ground(64, 352)
    sea(ms, pan, slice(0, 64), slice(250, 352), 2047)
    files = saved(tmp_path, ms, pan)
    plan = plan_adaptation(
        *files, tmp_path / "o.tif", sensor=QB, preset="smoke", device="cpu", runs=tmp_path / "runs"
    )
    (said,) = plan.remarks
    assert said.endswith("_test can be scored: bands blue, green, red, nir and PAN are constant")


def test_a_part_without_a_square_of_data_is_refused_at_planning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ms, pan = ground(64, 352)
    ms[:, :, 300:][:, ::20, ::20] = 0  # patches of 16 px fit between
    save(tmp_path / "ms.tif", ms, grid(4, 0.5, 0.5), nodata=0)
    save(tmp_path / "pan.tif", pan, grid())
    options = {"preset": "smoke", "device": "cpu", "runs": tmp_path / "runs"}
    with pytest.raises(DataError, match=r"(?s)_test: no window of .* is free of NoData.*own_scene.yaml"):
        plan_adaptation(tmp_path / "ms.tif", tmp_path / "pan.tif", tmp_path / "o.tif", sensor=QB, **options)
    own = manifest({**FILES, "nodata": None}, split={"train": 0.6, "val": 0.2, "test": 0.2})
    (tmp_path / "own.yaml").write_text(own.model_dump_json(exclude_none=True))
    with pytest.raises((NoWindow, Refusal), match="mine_test: no window of "):
        plan_run(tmp_path / "own.yaml", changes={"truth": "delivered"}, **options)


# Methods compared on a scene


def test_squares_of_one_value_are_not_compared_and_are_named(tmp_path):
    ms, pan = ground(100, 340)
    sea(ms, pan, slice(0, 80), slice(80, 240), 2047)
    areas = choose_areas(open_pair(*saved(tmp_path, ms, pan), sensor=QB), QB)
    assert sorted(areas.corners) == [(0, 0), (0, 240)]
    assert areas.in_words.startswith(
        "2 areas of 80 x 80 LRMS px, 38% of the scene; the area at row 0, column "
    )
    assert areas.in_words.count("is left out: bands blue, green, red, nir and PAN are constant") == 2


def test_a_scene_of_one_value_is_not_compared(tmp_path):
    ms, pan = ground(64, 72)
    ms[2] = 300
    with pytest.raises(
        DataError, match="on this scene: band red is constant; leave constant bands out by --bands"
    ):
        choose_areas(open_pair(*saved(tmp_path, ms, pan), sensor=QB), QB)
    ms, pan = ground(64, 400)
    pan[:] = 9
    with pytest.raises(
        DataError, match="column 0 is left out: PAN is constant; .*; and 6 more; leave constant"
    ):
        choose_areas(open_pair(*saved(tmp_path, ms, pan), sensor=QB), QB)


def test_at_full_resolution_a_corner_is_judged_where_the_middle_is_flat(tmp_path):
    ms, pan = ground(176, 176)
    sea(ms, pan, slice(8, 168), slice(8, 168), 0)
    pair = open_pair(*saved(tmp_path, ms, pan), sensor=QB, nodata="none")
    full = settings_of(choose_areas(pair, QB), QB)[-1]
    areas = choose_areas(pair, QB)
    assert full.lrms.shape == (1, 4, 160, 160)
    assert torch.equal(full.lrms, areas.lrms[..., :160, :160]) and torch.equal(
        full.pan, areas.pan[..., :640, :640]
    )


@pytest.mark.parametrize("value", [0, 2047])
def test_blocks_in_a_sea_take_no_part_in_the_interval_and_stop_nothing(tmp_path, value):
    ms, pan = ground(72, 80)
    sea(ms, pan, slice(0, 72), slice(24, 80), value)
    saved(tmp_path, ms, pan)
    contest = plan_contest(
        tmp_path / "ms.tif",
        tmp_path / "pan.tif",
        sensor=QB,
        methods=["exp", "gsa", "brovey"],
        gains="table",
        shift=(0.0, 0.0),
        nodata="none",
    )
    table = run_contest(contest, tmp_path / "kept.json")
    assert np.isfinite(table.value).all()
    blocks = table[(table.setting == "reduced") & (table.metric == "MPSNR")].blocks
    assert {len(each) for each in blocks} == {2} and np.isfinite(np.stack(blocks)).all()
    assert "2 parts of the scene" in verdict(table).sentence
    assert replace(contest, entrants=[]).areas.left_out == ()
