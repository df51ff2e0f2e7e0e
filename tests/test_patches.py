"""Patches tile each split, and nothing of one split is ever found in another."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import h5_dataset, manifest, mat_dataset, nbu_dataset, pair, save_h5

from clippan_lib.data import load_manifest, open_dataset
from clippan_lib.data.splits import cut_side, deal
from clippan_lib.errors import DataError

SYNTHETIC = Path(__file__).resolve().parents[1] / "data_manifests" / "synthetic_wv3.yaml"
SPLITS = ("train", "val", "test")
SHARES = st.tuples(*[st.integers(1, 20)] * 3).map(
    lambda parts: dict(zip(SPLITS, (part / sum(parts) for part in parts), strict=True))
)
SIXTEEN_BITS = {
    "name": "TOY",
    "bands": ("green", "red", "nir"),
    "bits": 16,
    "ratio": 4,
    "gnyq": (0.3, 0.35, 0.25),
    "gnyq_pan": 0.15,
    "rgb": (1, 0, 0),
    "gbnir": (0, 0, 2),
}
HEIGHT, WIDTH = 12, 20


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """A scene in which every PAN pixel, and every LRMS pixel, holds its own number."""
    folder = tmp_path_factory.mktemp("numbered")
    pan = np.arange(16 * HEIGHT * WIDTH, dtype=np.uint16).reshape(4 * HEIGHT, 4 * WIDTH)
    lrms = np.stack([np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH)] * 3, -1)
    scipy.io.savemat(folder / "a.mat", {"I_MS": lrms, "I_PAN": pan})
    return folder


def opened(folder, axis, shares):
    source = {"kind": "mat_pair", "path": "a.mat", "keys": {"lrms": "I_MS", "pan": "I_PAN"}}
    return open_dataset(manifest(source, SIXTEEN_BITS, split={"axis": axis, **shares}), folder)


def numbers(image: torch.Tensor) -> set[int]:
    return set(torch.round(image.double() * 65535).long().flatten().tolist())


@settings(max_examples=20, deadline=None)
@given(shares=SHARES, axis=st.sampled_from(["columns", "rows"]), size=st.integers(1, 4))
def test_patches_of_different_splits_share_no_pixel(numbered, shares, axis, size):
    dataset = opened(numbered, axis, shares)
    seen_pan, seen_ms, covered = set(), set(), 0
    for split in SPLITS:
        whole = dataset.scenes(split, "full")[0].read()
        covered += whole.lrms[0, 0].numel()
        side = min(size, *whole.lrms.shape[-2:])
        patches = dataset.patches(split, "full", side)
        batch = patches.batch(range(len(patches)))
        assert not numbers(batch.pan) & seen_pan and not numbers(batch.lrms) & seen_ms
        assert numbers(batch.pan) <= numbers(whole.pan)
        seen_pan |= numbers(whole.pan)
        seen_ms |= numbers(whole.lrms)
    assert covered == len(seen_ms) == HEIGHT * WIDTH and len(seen_pan) == 16 * HEIGHT * WIDTH


@settings(max_examples=15, deadline=None)
@given(shares=SHARES, axis=st.sampled_from(["columns", "rows"]))
def test_degraded_patches_do_not_see_the_pixels_of_other_splits(numbered, shares, axis):
    whole = opened(numbered, axis, shares)
    for split, region in whole._reader.parts.items():
        stored = scipy.io.loadmat(numbered / "a.mat")
        ms, pan = np.zeros_like(stored["I_MS"]), np.zeros_like(stored["I_PAN"])
        columns = axis == "columns"
        place = (slice(None), region) if columns else (region, slice(None))
        high = tuple(s if s == slice(None) else slice(4 * s.start, 4 * s.stop) for s in place)
        ms[place], pan[high] = stored["I_MS"][place], stored["I_PAN"][high]
        (numbered / "alone").mkdir(exist_ok=True)
        scipy.io.savemat(numbered / "alone" / "a.mat", {"I_MS": ms, "I_PAN": pan})
        try:
            patches = whole.patches(split, "reduced", 1)
        except DataError as refusal:
            assert "too few to degrade" in str(refusal)
            continue
        alone = opened(numbered / "alone", axis, shares).patches(split, "reduced", 1)
        one, other = (each.batch(range(len(each))) for each in (patches, alone))
        assert torch.equal(one.lrms, other.lrms) and torch.equal(one.pan, other.pan)
        assert torch.equal(one.gt, other.gt)


@settings(max_examples=60, deadline=None)
@given(side=st.integers(3, 2000), shares=SHARES, ratio=st.integers(2, 5))
def test_the_regions_of_a_side_adjoin_cover_it_and_keep_to_their_shares(side, shares, ratio):
    regions = cut_side(side, shares, ratio)
    assert list(regions) == list(SPLITS)
    ends = [0, *(region.stop for region in regions.values())]
    assert [region.start for region in regions.values()] == ends[:-1] and ends[-1] == side
    for split, region in regions.items():
        assert region.stop > region.start
        assert abs(region.stop - region.start - shares[split] * side) <= 2 * 32
        if min(shares.values()) * side >= 32 and split != "train":
            assert (region.stop - region.start) % 32 == 0


def test_a_side_of_320_is_cut_into_192_64_and_64():
    regions = cut_side(320, {"train": 0.6, "val": 0.2, "test": 0.2}, 4)
    assert regions == {"train": slice(0, 192), "val": slice(192, 256), "test": slice(256, 320)}


def test_a_split_without_a_share_gets_nothing():
    assert cut_side(64, {"train": 0.0, "val": 0.0, "test": 1.0}, 4) == {"test": slice(0, 64)}
    assert deal(["a", "b"], {"train": 0.0, "val": 0.0, "test": 1.0}) == {"test": ["a", "b"]}


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 200), shares=SHARES)
def test_scenes_are_dealt_once_each_and_by_their_shares(count, shares):
    names = [str(number) for number in range(count)]
    hands = deal(names, shares)
    assert sorted(sum(hands.values(), []), key=int) == names
    for split in SPLITS:
        assert abs(len(hands.get(split, [])) - shares[split] * count) < 2


def test_patches_are_the_windows_of_their_scene_row_by_row(tmp_path):
    dataset = mat_dataset(tmp_path, *pair(10, 64))
    patches, scene = dataset.patches("train", "full", 3), dataset.scenes("train", "full")[0]
    assert len(patches) == 3 * 10  # 10 x 32 LRMS px, the edges left out
    batch = patches.batch([0, 11, 29])
    for row, (top, left) in enumerate([(0, 0), (3, 3), (6, 27)]):
        window = scene.read(top, left, 3, 3)
        assert torch.equal(batch.lrms[row], window.lrms[0]) and torch.equal(batch.pan[row], window.pan[0])
    assert batch.index.tolist() == [0, 11, 29] and batch.lrms.shape == (3, 4, 3, 3)


def any_patches(folder, kind):
    if kind == "hdf5":
        save_h5(folder / "train_reduced.h5")
        return h5_dataset(folder).patches("train", "reduced", 4)
    if kind == "nbu":
        return nbu_dataset(folder, 8, size=32).patches("train", "reduced", 4)
    return mat_dataset(folder, *pair(40, 64)).patches("train", "reduced", 4)


@pytest.mark.parametrize("kind", ["hdf5", "nbu", "mat_pair"])
def test_indices_may_come_in_any_order_and_more_than_once(tmp_path, kind):
    patches = any_patches(tmp_path, kind)
    every = [patches.batch([index]) for index in range(len(patches))]
    assert len({one.lrms.numpy().tobytes() for one in every}) == len(patches)
    last = len(patches) - 1
    order = [last, 0, last, 2, 1, 0, last]
    for indices in (order, torch.tensor(order)):
        batch = patches.batch(indices)
        assert batch.index.tolist() == order
        for row, index in enumerate(order):
            assert torch.equal(batch.lrms[row], every[index].lrms[0])
            assert torch.equal(batch.pan[row], every[index].pan[0])
            assert torch.equal(batch.gt[row], every[index].gt[0])


@pytest.mark.parametrize("kind", ["hdf5", "nbu", "mat_pair"])
def test_scene_of_names_the_scene_a_patch_came_from(tmp_path, kind):
    patches = any_patches(tmp_path, kind)
    per_scene = len(patches) // len(patches.stack.names)
    assert [patches.scene_of(i) for i in (0, per_scene - 1, len(patches) - 1)] == [
        0,
        0,
        len(patches.stack.names) - 1,
    ]


def test_changing_a_batch_leaves_the_data_as_it_is(tmp_path):
    patches = any_patches(tmp_path, "mat_pair")
    before = patches.batch([0]).lrms.clone()
    patches.batch([0]).lrms.zero_()
    assert torch.equal(patches.batch([0]).lrms, before)


def test_a_batch_moves_to_a_device_whole(tmp_path):
    batch = any_patches(tmp_path, "mat_pair").batch([0, 1]).to("meta")
    assert {image.device.type for image in (batch.lrms, batch.pan, batch.gt, batch.index)} == {"meta"}


def test_a_patch_set_says_what_it_holds(tmp_path):
    patches = any_patches(tmp_path, "hdf5")
    assert (patches.size, patches.ratio, patches.resolution, patches.has_gt) == (4, 4, "reduced", True)
    assert patches.sensor.name == "QB" and len(patches) == 6 * 4


@pytest.mark.parametrize("size", [0, 9, -1])
def test_a_patch_that_does_not_fit_is_refused(tmp_path, size):
    dataset = mat_dataset(tmp_path, *pair(8, 32))
    with pytest.raises(DataError, match=f"patch size {size} does not fit 8 x 8 LRMS px .*choose 1 to 8"):
        dataset.patches("val", "full", size)


@pytest.mark.parametrize("indices", [[], [0, 80], [-1], torch.tensor([[0, 1]])])
def test_indices_outside_the_set_are_refused(tmp_path, indices):
    dataset = mat_dataset(tmp_path, *pair(40, 64))
    with pytest.raises(DataError, match=r"must be a list, not empty, within 0\.\.79"):
        dataset.patches("train", "full", 4).batch(indices)


def test_what_a_dataset_cannot_give_is_refused_with_what_it_can(tmp_path):
    save_h5(tmp_path / "train_reduced.h5")
    dataset = h5_dataset(tmp_path)
    with pytest.raises(DataError, match="mine: no train at full resolution; there is: train reduced"):
        dataset.patches("train", "full", 4)
    with pytest.raises(DataError, match="split 'tset' is unknown; choose one of train, val, test"):
        dataset.scenes("tset", "full")
    with pytest.raises(DataError, match="resolution 'half' is unknown; choose one of full, reduced"):
        dataset.scenes("train", "half")


def test_a_synthetic_split_of_no_scenes_does_not_exist():
    source = {"kind": "synthetic", "scenes": {"train": 1, "val": 0, "test": 1}, "size": 32, "seed": 0}
    with pytest.raises(
        DataError, match="no val at full resolution; there is: train full, train reduced, test"
    ):
        open_dataset(manifest(source)).scenes("val", "full")


def test_a_shortened_dataset_has_the_first_scenes_and_patches_also_with_other_gains_or_one_scale_down():
    whole = open_dataset(load_manifest(SYNTHETIC))
    gains = (0.2,) * 8
    short = whole.shortened(2, 40)
    for found in (short, short.through(gains), short.lowered(), short.through(gains).sharpened_truth()):
        assert [scene.name for scene in found.scenes("test", "full")] == ["seed_80000", "seed_80001"]
        assert len(found.patches("train", "full", 4)) == 40
    few, every = (dataset.patches("train", "full", 16) for dataset in (short, whole))
    assert len(few) == 40 < len(every) and [few.scene_of(number) for number in (0, 35, 36)] == [0, 0, 1]
    assert len(whole.scenes("test", "full")) == 5
    assert len(whole.shortened(9, None).scenes("test", "full")) == 5
    assert len(whole.shortened(None, 9000).patches("train", "full", 16)) == len(every)
