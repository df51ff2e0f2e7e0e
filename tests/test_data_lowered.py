"""One scale down: which scenes and patches there are then, who may see the truth, and a truth that is made sharp."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from layouts import h5_dataset, manifest, mat_dataset, pair, save_h5
from rasters import grid, save

from clippan_lib.data import Dataset, open_dataset, wald
from clippan_lib.data.stacks import Windows, step_down
from clippan_lib.errors import DataError
from clippan_lib.mtf import degrade, imresize
from clippan_lib.sensors import get_sensor

QB, WV3, GE1 = (get_sensor(name) for name in ("QB", "WV3", "GE1"))


def measured(b=2, c=4, h=35, w=42, seed=0):
    """LRMS of odd sides, a multiple of neither 4 nor 8, and its PAN."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(b, c, h, w, generator=generator), torch.rand(b, 1, 4 * h, 4 * w, generator=generator)


def equal(first, second) -> bool:
    return all(torch.equal(getattr(first, key), getattr(second, key)) for key in ("lrms", "pan", "gt"))


# ---------------------------------------------------------------- a sharp truth


def test_the_truth_of_a_soft_sensor_is_the_pair_halved_degraded_with_the_gains_before_halving():
    lrms, pan = measured()
    batch = wald(lrms, pan, GE1, sharp=True)
    # 35 x 42 holds 4 x 5 pixels of 8
    gt = imresize(lrms[..., :32, :40], (16, 20)).clamp(0, 1)
    half = imresize(pan[..., :128, :160], (64, 80))
    assert torch.equal(batch.gt, gt)
    assert torch.equal(batch.lrms, degrade(gt, GE1.gnyq, 4)) and batch.lrms.shape == (2, 4, 4, 5)
    assert torch.equal(batch.pan, imresize(half, (16, 20)))


def test_the_truth_of_a_sharp_sensor_is_the_delivered_one():
    lrms, pan = measured(c=8)
    assert equal(wald(lrms, pan, WV3, sharp=True), wald(lrms, pan, WV3))


def test_only_gains_that_are_below_a_quarter_on_average_halve_the_truth():
    for (first, second), step in {
        (0.375, 0.0625): 8,
        (0.24, 0.25): 8,
        (0.25, 0.25): 4,
        (0.125, 0.5): 4,
    }.items():
        sensor = replace(QB, gnyq=(first, first, second, second))
        assert (step_down(sensor, True), step_down(sensor, False)) == (step, 4)


def test_halving_leaves_a_soft_truth_with_more_of_its_finest_detail():
    """White noise seen through a gain of .06 at Nyquist: what is left near Nyquist, before and after halving."""
    fine = torch.rand(1, 4, 256, 256, generator=torch.Generator().manual_seed(0))
    soft = replace(QB, gnyq=(0.06,) * 4)
    lrms, pan = degrade(fine, soft.gnyq, 2), fine.mean(1, keepdim=True)
    pan = imresize(pan, (512, 512))

    def finest(image: torch.Tensor) -> float:
        power = torch.fft.rfft2(image - image.mean((-1, -2), keepdim=True)).abs() ** 2
        n = image.shape[-1] // 2
        return (power[..., 0, n - n // 8 :].mean() / power[..., 0, 1 : n // 8].mean()).item()

    delivered, sharp = (wald(lrms, pan, soft, sharp=kind).gt for kind in (False, True))
    assert finest(sharp) > 10 * finest(delivered)


def tif_dataset(folder, sensor="QB", hole=None) -> Dataset:
    """Of 512 x 520 LRMS px; a hole of NoData in MS, if there is one, is given as its rows and columns."""
    rng = np.random.default_rng(0)
    sizes = (4, 512, 520), (1, 2048, 2080)
    ms, pan = (rng.integers(500, 1500, size).astype(np.uint16) for size in sizes)
    if hole:
        ms[(slice(None), *hole)] = 0
    save(folder / "ms.tif", ms, grid(4), nodata=0)
    save(folder / "pan.tif", pan, grid(), nodata=0)
    split = {"train": 0.5, "val": 0.0, "test": 0.5}
    source = {"kind": "geotiff", "ms": "ms.tif", "pan": "pan.tif"}
    return open_dataset(manifest(source, sensor, split=split), folder)


@pytest.mark.parametrize("sensor", ["GE1", "WV2_of_four"])
def test_windows_of_a_large_scene_are_parts_of_the_whole_scene_made_sharp_and_degraded(tmp_path, sensor):
    facts = GE1 if sensor == "GE1" else replace(GE1, gnyq=(0.35,) * 4)
    dataset = Dataset(*opened_again(tif_dataset(tmp_path, "GE1"), facts)).sharpened_truth()
    step = step_down(facts, True)
    patches = dataset.patches("test", "reduced", 11, 7)
    rows, columns = dataset.size("test", "full")
    assert dataset.size("test", "reduced") == (rows // step, columns // step)
    full = whole(dataset, "test", "full")
    parts = wald(full.lrms, full.pan, facts, sharp=True)
    for number in (0, len(patches) // 2, len(patches) - 1):
        batch = patches.batch([number])
        per_row = (columns // step - 11) // 7 + 1
        top, left = (7 * at for at in divmod(number, per_row))
        assert (batch.lrms - parts.lrms[..., top : top + 11, left : left + 11]).abs().max() < 1e-5
        rest = (slice(4 * top, 4 * top + 44), slice(4 * left, 4 * left + 44))
        assert (batch.gt - parts.gt[..., rest[0], rest[1]]).abs().max() < 1e-5
        assert (batch.pan - parts.pan[..., rest[0], rest[1]]).abs().max() < 1e-5


def opened_again(dataset: Dataset, sensor):
    """A manifest and the reader of its source, with other optics."""
    return dataset.manifest, dataset._reader.again(sensor=sensor)


def test_a_source_with_its_own_reduced_resolution_refuses_a_sharp_truth(tmp_path):
    save_h5(tmp_path / "train_reduced.h5", side=16)
    with pytest.raises(DataError, match=r"mine: truth='sharp' .*kind pancollection brings.*'delivered'"):
        h5_dataset(tmp_path).sharpened_truth()
    with pytest.raises(DataError, match="truth='sharp'"):
        h5_dataset(tmp_path).lowered().sharpened_truth()


# ---------------------------------------------------------------- one scale down


def datasets(folder):
    """One of each way to hold scenes, by name: with its smallest split's LRMS sides one scale down."""
    lrms, pan = pair(70, 140)
    (folder / "mat").mkdir()
    (folder / "h5").mkdir()
    (folder / "tif").mkdir()
    for split in ("train", "test"):
        save_h5(folder / "h5" / f"{split}_reduced.h5", count=3, side=21)
    yield "mat", mat_dataset(folder / "mat", lrms, pan)
    yield "h5", h5_dataset(folder / "h5")
    yield "tif", tif_dataset(folder / "tif")


def whole(dataset: Dataset, split: str, resolution: str):
    """The first scene, all of it, also of one that is shown by areas."""
    stack = dataset._open(split, resolution)
    return stack.read(Windows([0], [0], [0], stack.height, stack.width))


def test_the_lowered_scenes_are_the_reduced_ones_and_these_degraded_once_more(tmp_path):
    for name, dataset in datasets(tmp_path):
        lowered = dataset.lowered()
        for split in ("train", "test"):
            before, now = dataset.patches(split, "reduced", 4, 3), lowered.patches(split, "full", 4, 3)
            assert (len(before), now.resolution) == (len(now), "full") and len(now) > 1, name
            first, second = (patches.batch([0, len(now) - 1]) for patches in (before, now))
            assert torch.equal(first.lrms, second.lrms) and torch.equal(first.pan, second.pan), name
            scene, reduced = whole(lowered, split, "full"), whole(lowered, split, "reduced")
            expected = wald(scene.lrms, scene.pan, QB)
            for key in ("lrms", "pan", "gt"):
                torch.testing.assert_close(getattr(reduced, key), getattr(expected, key), atol=1e-5, rtol=0)
            [scene, *_] = lowered.scenes(split, "reduced")
            assert (scene.resolution, scene.has_gt) == ("reduced", True), name


def test_the_truth_one_scale_down_is_the_delivered_lrms_of_those_who_judge_alone(tmp_path):
    for name, dataset in datasets(tmp_path):
        lowered = dataset.lowered()
        assert lowered.has_gt("test", "full") and not lowered.has_gt("train", "full"), name
        assert lowered.patches("train", "full", 4).batch([0, 1]).gt is None
        truth = lowered.scenes("test", "full")[0].read().gt
        assert truth.shape[-1] == 4 * lowered.scenes("test", "full")[0].width
        if name == "mat":
            measured = dataset.scenes("test", "full")[0].read().lrms
            assert torch.equal(truth, measured[..., : truth.shape[-2], : truth.shape[-1]])
        # the scenes before are as they were
        assert dataset.scenes("train", "reduced")[0].read().gt is not None, name


def test_a_lowered_large_scene_leaves_out_whatever_nodata_reaches(tmp_path):
    # one pixel and its neighbours, to which interpolation reaches: in the middle of a patch, and of one a scale lower
    holed = tif_dataset(tmp_path, hole=(slice(240, 241), slice(48, 49))).lowered()
    counts = {
        size: len(holed.patches("train", where, size)) for where, size in (("full", 24), ("reduced", 6))
    }
    (tmp_path / "whole").mkdir()
    untouched = tif_dataset(tmp_path / "whole").lowered()
    for where, size in (("full", 24), ("reduced", 6)):
        assert len(untouched.patches("train", where, size)) - counts[size] == 1, where
    [scene, *_] = holed.scenes("test", "full")
    assert (scene.has_gt, scene.resolution, scene.read().gt.shape[-1]) == (True, "full", 4 * scene.width)


def test_training_on_the_judged_scenes_leaves_nothing_to_judge_one_scale_lower(tmp_path):
    for name, dataset in datasets(tmp_path):
        lowered = dataset.lowered(judged=True)
        train, test = lowered.patches("train", "full", 4), lowered.patches("test", "full", 4)
        assert len(train) == len(test) and torch.equal(train.batch([0, 2]).lrms, test.batch([0, 2]).lrms), (
            name
        )
        assert train.batch([0]).gt is None and test.batch([0]).gt is not None
        assert lowered.has_gt("train", "reduced") and ("test", "reduced") not in lowered.available
        for action in (lowered.scenes, lowered.size, lowered.has_gt):
            with pytest.raises(
                DataError, match=r"no test at reduced.*with that very truth.*there is: train full"
            ):
                action("test", "reduced")


def test_scenes_too_small_to_be_degraded_twice_are_refused_with_their_size(tmp_path):
    save_h5(tmp_path / "test_reduced.h5", side=3)
    lowered = h5_dataset(tmp_path).lowered()
    with pytest.raises(DataError, match="3 x 3 LRMS px are too few to degrade by 4"):
        lowered.scenes("test", "reduced")


def test_variants_can_be_made_in_any_order(tmp_path):
    lrms, pan = pair(70, 280)
    dataset = mat_dataset(tmp_path, lrms, pan, sensor="GE1")
    rows, columns = dataset.size("train", "full")
    for lowered in (dataset.sharpened_truth().lowered(), dataset.lowered().sharpened_truth()):
        assert lowered.size("train", "full") == (rows // 8, columns // 8) == (8, columns // 8)
        assert lowered.size("train", "reduced") == (1, columns // 64)
    assert dataset.size("train", "reduced") == (rows // 4, columns // 4)


def test_a_lowered_dataset_is_made_of_the_same_files(tmp_path):
    for _, dataset in datasets(tmp_path):
        lowered = dataset.lowered()
        assert (lowered.state(), lowered.name, lowered.sensor) == (
            dataset.state(),
            dataset.name,
            dataset.sensor,
        )
