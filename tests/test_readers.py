"""Readers against small files of each true layout: what is read is what was written."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from layouts import SHARES, h5_dataset, manifest, mat_dataset, nbu_dataset, pair, save_h5, save_v5, save_v73

from clippan_lib.data import load_manifest, open_dataset, readers, wald
from clippan_lib.data.synthetic import render
from clippan_lib.errors import DataError
from clippan_lib.sensors import get_sensor

MANIFESTS = Path(__file__).parents[1] / "data_manifests"


def dn(tensor: torch.Tensor, max_value: int = 2047) -> np.ndarray:
    return np.rint(tensor.double().numpy() * max_value)


@pytest.mark.parametrize("save", [save_v5, save_v73])
def test_a_mat_pair_gives_the_stored_numbers_over_the_largest_one(tmp_path, save):
    lrms, pan = pair()
    dataset = mat_dataset(tmp_path, lrms, pan, save)
    left = 0
    for split, width in (("train", 16), ("val", 8), ("test", 8)):
        (scene,) = dataset.scenes(split, "full")
        batch = scene.read()
        assert (scene.height, scene.width, scene.has_gt, batch.gt) == (24, width, False, None)
        assert batch.lrms.dtype == torch.float32
        np.testing.assert_array_equal(dn(batch.lrms[0]), lrms[:, left : left + width].transpose(2, 0, 1))
        np.testing.assert_array_equal(dn(batch.pan[0, 0]), pan[:, 4 * left : 4 * (left + width)])
        left += width


def test_the_axis_of_the_split_can_be_rows(tmp_path):
    lrms, pan = pair(32, 24)
    dataset = mat_dataset(tmp_path, lrms, pan, split={**SHARES, "axis": "rows"})
    batch = dataset.scenes("val", "full")[0].read()
    np.testing.assert_array_equal(dn(batch.lrms[0]), lrms[16:24].transpose(2, 0, 1))


@pytest.mark.parametrize("resolution", ["full", "reduced"])
def test_a_window_is_that_part_of_the_whole_scene(tmp_path, resolution):
    scene = mat_dataset(tmp_path, *pair(40, 64)).scenes("train", resolution)[0]
    whole, part = scene.read(), scene.read(top=1, left=2, height=3, width=5)
    assert part.lrms.shape == (1, 4, 3, 5)
    assert torch.equal(part.lrms, whole.lrms[:, :, 1:4, 2:7])
    assert torch.equal(part.pan, whole.pan[:, :, 4:16, 8:28])
    if resolution == "reduced":
        assert torch.equal(part.gt, whole.gt[:, :, 4:16, 8:28])


def test_reduced_resolution_has_the_measured_lrms_as_reference_cropped_to_the_ratio(tmp_path):
    lrms, pan = pair(27, 32)
    scene = mat_dataset(tmp_path, lrms, pan).scenes("train", "reduced")[0]
    batch = scene.read()
    assert (scene.height, scene.width, scene.has_gt) == (6, 4, True)
    assert batch.lrms.shape == (1, 4, 6, 4) and batch.pan.shape == (1, 1, 24, 16)
    np.testing.assert_array_equal(dn(batch.gt[0]), lrms[:24, :16].transpose(2, 0, 1))


def test_reduced_resolution_is_the_measured_region_degraded(tmp_path):
    dataset = mat_dataset(tmp_path, *pair(24, 64))
    full, reduced = (dataset.scenes("val", resolution)[0].read() for resolution in ("full", "reduced"))
    expected = wald(full.lrms, full.pan, dataset.sensor)
    assert torch.equal(reduced.lrms, expected.lrms) and torch.equal(reduced.pan, expected.pan)


def test_a_scene_is_read_once_for_both_resolutions(monkeypatch):
    dataset, made = open_dataset(load_manifest(MANIFESTS / "synthetic_wv3.yaml")), []
    monkeypatch.setattr(readers, "render", lambda seed, *given: made.append(seed) or render(seed, *given))
    full, reduced = (dataset.scenes("test", resolution)[0].read() for resolution in ("full", "reduced"))
    assert torch.equal(reduced.gt, full.lrms) and len(made) == 1


def test_float_data_is_divided_by_the_manifests_own_max_value(tmp_path):
    lrms, pan = (array / 4000 for array in pair())
    batch = mat_dataset(tmp_path, lrms, pan, max_value=1.0).scenes("train", "full")[0].read()
    np.testing.assert_allclose(batch.pan[0, 0], pan[:, :64], rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "expected"), [(None, 2047.0), (255.0, 255.0), (10_000.0, 10_000.0), (1.0, 2047.0)]
)
def test_a_scene_is_taken_to_digital_numbers_by_the_manifests_value_unless_it_holds_fractions(
    tmp_path, given, expected
):
    lrms, pan = (array / 4000 for array in pair())
    dataset = mat_dataset(tmp_path, lrms, pan, max_value=given)
    scenes = [dataset.scenes("train", resolution)[0] for resolution in ("full", "reduced")]
    assert [scene.dn_max for scene in scenes] == [expected] * 2


def test_wald_equals_the_toolbox_on_a_real_scene(shared):
    data = np.load(shared / "reference" / "WV2_RR.npz")
    gt = torch.from_numpy(data["gt"]).permute(2, 0, 1)[None].double()
    batch = wald(gt, torch.from_numpy(data["pan_hr"].astype(np.float64))[None, None], get_sensor("WV2"))
    np.testing.assert_allclose(batch.lrms[0].permute(1, 2, 0), data["ms_lr"], atol=1e-4)
    np.testing.assert_allclose(batch.pan[0, 0], data["pan_lr"], atol=1e-4)


@pytest.mark.parametrize(("name", "bands", "file"), [("wv2_grip", 8, "imgWV2"), ("ikonos_grip", 4, "imgIK")])
def test_the_real_scenes_are_the_files_their_manifests_describe(shared, name, bands, file):
    dataset = open_dataset(load_manifest(MANIFESTS / f"{name}.yaml"), shared / "data")
    stored = scipy.io.loadmat(shared / "data" / f"{file}.mat")
    batch = dataset.scenes("test", "full")[0].read()
    assert dataset.n_bands == bands and dataset.sensor.bits == stored["L"].item()
    assert batch.lrms.shape == (1, bands, 320, 64)
    np.testing.assert_array_equal(dn(batch.lrms[0]), stored["I_MS"][:, 256:].transpose(2, 0, 1))
    assert tuple(stored["RGB_indexes"][0] - 1) == dataset.sensor.rgb


def test_pancollection_gives_the_stored_numbers_and_no_reference_at_full_resolution(tmp_path):
    stored = save_h5(tmp_path / "train_reduced.h5")
    full = save_h5(tmp_path / "test_full.h5", side=12, full=True)
    dataset = h5_dataset(tmp_path)
    assert dataset.available == (("train", "reduced"), ("test", "full"))
    scenes = dataset.scenes("train", "reduced")
    assert len(scenes) == 6 and scenes[0].has_gt
    for position in (5, 0):
        batch = scenes[position].read()
        for key, image in (("ms", batch.lrms), ("pan", batch.pan), ("gt", batch.gt)):
            np.testing.assert_array_equal(dn(image[0]), stored[key][position])
    batch = dataset.scenes("test", "full")[2].read(top=1, left=3, height=2, width=4)
    assert batch.gt is None
    np.testing.assert_array_equal(dn(batch.lrms[0]), full["ms"][2, :, 1:3, 3:7])
    np.testing.assert_array_equal(dn(batch.pan[0]), full["pan"][2, :, 4:12, 12:28])


def test_simulated_pan_may_overshoot_a_little_and_a_measured_one_may_not(tmp_path):
    save_h5(tmp_path / "train_reduced.h5", count=1, pan=np.full((1, 1, 32, 32), 2100.0))
    save_h5(tmp_path / "test_full.h5", count=1, full=True, pan=np.full((1, 1, 32, 32), 2100.0))
    dataset = h5_dataset(tmp_path)
    assert dataset.scenes("train", "reduced")[0].read().pan.max() > 1
    with pytest.raises(DataError, match="holds 2100, above the largest value 2047"):
        dataset.scenes("test", "full")[0].read()


def test_nbu_files_are_paired_by_name_and_sorted_by_number(tmp_path):
    dataset = nbu_dataset(tmp_path, 12)
    names = {split: [scene.name for scene in dataset.scenes(split, "full")] for split in SHARES}
    assert sorted(sum(names.values(), []), key=int) == [str(n) for n in range(1, 13)]
    assert {split: len(of) for split, of in names.items()} == {"train": 6, "val": 3, "test": 3}
    assert names["train"] == sorted(names["train"], key=int)
    for scene in dataset.scenes("test", "full"):
        lrms, pan = pair(8, 8, seed=int(scene.name))
        np.testing.assert_array_equal(dn(scene.read().lrms[0]), lrms.transpose(2, 0, 1))
        np.testing.assert_array_equal(dn(scene.read().pan[0, 0]), pan)
    assert dataset.scenes("val", "reduced")[0].read().lrms.shape == (1, 4, 2, 2)


def test_synthetic_scenes_have_ground_truth_and_no_seed_twice():
    seeds = set()
    for seed in (0, 1, 39):
        counts = {"train": 3, "val": 2, "test": 2}
        source = {"kind": "synthetic", "scenes": counts, "size": 32, "seed": seed}
        dataset = open_dataset(manifest(source))
        for split, count in counts.items():
            drawn = {int(scene.name.removeprefix("seed_")) for scene in dataset.scenes(split, "full")}
            assert len(drawn) == count and max(drawn) < 100_000
            assert not drawn & seeds
            seeds |= drawn
    full, reduced = (dataset.scenes("val", resolution)[0].read() for resolution in ("full", "reduced"))
    assert full.lrms.shape == (1, 4, 8, 8) and full.gt.shape == (1, 4, 32, 32)
    assert reduced.lrms.shape == (1, 4, 2, 2) and torch.equal(reduced.gt, full.lrms)
