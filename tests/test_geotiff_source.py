"""GeoTIFF pairs as datasets: values, splits, holes, areas, and reduced resolution read by windows."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from layouts import SHARES, manifest
from rasterio import Affine
from rasters import grid, save

from clippan_lib.audit import audit, offsets
from clippan_lib.data import Manifest, load_manifest, open_dataset, readers, wald
from clippan_lib.data.geotiff import apart
from clippan_lib.data.pair import ScenePair, open_pair
from clippan_lib.data.synthetic import render
from clippan_lib.errors import DataError
from clippan_lib.evaluation.scores import classical_methods, evaluate
from clippan_lib.mtf import filter_image, mtf_kernel
from clippan_lib.runs.run import open_run
from clippan_lib.sensors import get_sensor

QB = get_sensor("QB")
MANIFESTS = Path(__file__).parents[1] / "data_manifests"
HEIGHT, WIDTH = 97, 160  # LRMS px; columns 0..64 are for training, 80..112 for validation, 128..160 for tests
FILES = {"kind": "geotiff", "ms": "ms.tif", "pan": "pan.tif"}


def images(height: int = HEIGHT, width: int = WIDTH, bands: int = 4, ratio: int = 4, high: int = 2047):
    rng = np.random.default_rng(0)
    sizes = (bands, height, width), (1, ratio * height, ratio * width)
    return [rng.integers(high // 4, 3 * high // 4, size).astype(np.uint16) for size in sizes]


def opened(folder: Path, ms: np.ndarray, pan: np.ndarray, at=(0.0, 0.0), nodata: float | None = 0, **fields):
    """A dataset of ratio 4, pixel areas aligned unless MS is put elsewhere (`at`, PAN px)."""
    save(folder / "ms.tif", ms, grid(4, *at), nodata=nodata)
    save(folder / "pan.tif", pan, grid(), nodata=nodata)
    source = FILES | fields.pop("source", {})
    return open_dataset(manifest(source, **{"split": SHARES, **fields}), folder)


def pair_in(folder: Path) -> ScenePair:
    return open_pair(folder / "ms.tif", folder / "pan.tif", sensor=QB)


def whole(folder: Path, columns: slice, max_value: float = 2047.0) -> tuple[torch.Tensor, torch.Tensor]:
    window = pair_in(folder).read(slice(None), columns)
    return (window.lrms / max_value).clamp(0, 1), window.pan / max_value


def dn(image: torch.Tensor, max_value: int = 2047) -> np.ndarray:
    return np.rint(image[0].double().numpy() * max_value)


def refused(action, *said: str) -> None:
    with pytest.raises(DataError) as refusal:
        action()
    for words in said:
        assert words in str(refusal.value)


@pytest.mark.parametrize("axis", ["columns", "rows"])
def test_patches_and_scenes_are_the_pixels_of_the_pair_over_the_largest_value(tmp_path, axis):
    arrays = images() if axis == "columns" else [image.transpose(0, 2, 1) for image in images()]
    dataset, pair = opened(tmp_path, *arrays, split={**SHARES, "axis": axis}), pair_in(tmp_path)
    for split, start, stop in (("train", 0, 64), ("val", 80, 112), ("test", 128, 160)):
        patches = dataset.patches(split, "full", 16)
        assert len(patches) == HEIGHT // 16 * ((stop - start) // 16) and not patches.has_gt
        batch = patches.batch([1, len(patches) - 1])
        last = {"columns": (80, stop - 16), "rows": (start + (stop - start) // 16 * 16 - 16, 80)}[axis]
        second = {"columns": (0, start + 16), "rows": (start, 16)}[axis]
        for row, (top, left) in enumerate((second, last)):
            window = pair.read(slice(top, top + 16), slice(left, left + 16))
            assert torch.equal(batch.lrms[row], window.lrms[0] / 2047)
            assert torch.equal(batch.pan[row], window.pan[0] / 2047)
    [scene] = dataset.scenes("train", "full")
    assert (scene.name, scene.height, scene.width) == ("mine_train_0_0", 64, 64)
    assert torch.equal(scene.read().pan, pair.read(slice(0, 64), slice(0, 64)).pan / 2047)
    assert torch.equal(scene.read(5, 7, 3, 2).lrms, scene.read().lrms[..., 5:8, 7:9])


@pytest.mark.parametrize("at", [(0.0, 0.0), (-1.4, 0.5), (2.0, 0.8)])
@pytest.mark.parametrize(("resolution", "size"), [("full", 16), ("reduced", 4)])
def test_no_stored_pixel_reaches_two_splits(tmp_path, at, resolution, size):
    def batches(ms, pan):
        dataset = opened(tmp_path, ms, pan, at)
        found = {split: dataset.patches(split, resolution, size) for split in SHARES}
        return {split: patches.batch(range(len(patches))) for split, patches in found.items()}

    before = batches(*images())
    for cut in (72, 120):  # LRMS px, in the middle of the gaps
        for side in ("left", "right"):
            changed = images()
            for image, scale in zip(changed, (1, 4), strict=True):
                part = image[..., : scale * cut] if side == "left" else image[..., scale * cut :]
                part[:] = part[..., ::-1].copy()
            after = batches(*changed)
            untouched = [split for split, end in (("train", 64), ("val", 112), ("test", 160)) if end < cut]
            if side == "left":
                untouched = [split for split in SHARES if split not in untouched]
            for split in SHARES:
                same = [
                    torch.equal(getattr(before[split], key), getattr(after[split], key))
                    for key in ("lrms", "pan")
                ]
                assert same == [split in untouched] * 2


def with_holes() -> list[np.ndarray]:
    """Six of the 24 training patches of 16 LRMS px touch NoData: 0 in MS, or in one pixel of PAN."""
    ms, pan = images()
    ms[2, 20:23, 5:8] = 0  # one band of the patch in row 1, column 0
    pan[0, 4 * 50 + 3, 4 * 40] = 0  # row 3, column 2
    ms[:, 79:81, 47:49] = 0  # where rows 4 and 5, columns 2 and 3 meet
    return [ms, pan]


LEFT_OUT = [(1, 0), (3, 2), (4, 2), (4, 3), (5, 2), (5, 3)]


@pytest.mark.parametrize("resolution", ["full", "reduced"])
def test_patches_that_touch_nodata_are_left_out(tmp_path, resolution):
    dataset, pair = opened(tmp_path, *with_holes()), pair_in(tmp_path)
    patches = dataset.patches("train", resolution, {"full": 16, "reduced": 4}[resolution])
    kept = [place for place in np.ndindex(6, 4) if place not in LEFT_OUT]
    assert len(patches) == len(kept) == 18
    batch = patches.batch(range(18))
    measured = batch.lrms if resolution == "full" else batch.gt
    for image, (row, column) in zip(measured, kept, strict=True):
        window = pair.read(slice(16 * row, 16 * row + 16), slice(16 * column, 16 * column + 16))
        assert window.lrms_valid.all() and window.pan_valid.all()
        assert torch.equal(image, window.lrms[0].clamp(0, 2047) / 2047)
    assert {patches.scene_of(index) for index in range(18)} == {0}
    refused(lambda: patches.batch([18]), "within 0..17")


def test_overlapping_patches_are_left_out_by_the_same_rule(tmp_path):
    patches = opened(tmp_path, *with_holes()).patches("train", "full", 16, 8)
    valid = np.ones((HEIGHT, 64), bool)
    valid[20:23, 5:8] = valid[50, 40] = valid[79:81, 47:49] = False
    corners = [(top, left) for top in range(0, 82, 8) for left in range(0, 49, 8)]
    assert len(patches) == sum(valid[top : top + 16, left : left + 16].all() for top, left in corners)


def test_a_split_in_which_every_patch_touches_nodata_is_refused(tmp_path):
    ms, pan = images()
    ms[:, ::20, ::20] = 0
    dataset = opened(tmp_path, ms, pan)
    said = "mine_train: no window of 32 x 32 LRMS px (full resolution) is free of NoData"
    refused(lambda: dataset.patches("train", "full", 32), said, "choose a smaller one")
    refused(lambda: dataset.scenes("train", "full"), said)
    assert len(dataset.patches("train", "full", 8)) > 0


def test_one_scale_down_a_scene_may_be_too_small_to_be_judged_and_is_refused(tmp_path):
    lowered = opened(tmp_path, *images(100, 100), split={"train": 0, "val": 0, "test": 1}).lowered(
        judged=True
    )
    assert lowered.size("test", "full") == (25, 25)
    refused(lambda: lowered.scenes("test", "full"), "no window of 32 x 32 LRMS px (full resolution)")


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize(("size", "stride"), [(3, 2), (7, 5), (8, 8)])
def test_reduced_patches_are_cut_from_the_whole_split_degraded(tmp_path, holes, size, stride):
    dataset = opened(tmp_path, *(with_holes() if holes else images()))
    expected, patches = (
        wald(*whole(tmp_path, slice(0, 64)), QB),
        dataset.patches("train", "reduced", size, stride),
    )
    assert patches.has_gt and (patches.stack.height, patches.stack.width) == (24, 16)
    at = [divmod(place, (16 - size) // stride + 1) for place in patches.stack.usable(size, stride).numbers]
    assert len(at) == len(patches)
    batch = patches.batch(range(len(patches)))
    for row, corner in enumerate(at):
        for image, of_all, scale in (
            (batch.lrms, expected.lrms, 1),
            (batch.pan, expected.pan, 4),
            (batch.gt, expected.gt, 4),
        ):
            rows, columns = (slice(scale * stride * k, scale * (stride * k + size)) for k in corner)
            np.testing.assert_allclose(image[row], of_all[0, :, rows, columns], rtol=0, atol=1e-6)


def test_areas_are_the_same_ground_at_both_resolutions_free_of_nodata_and_evenly_spread(tmp_path):
    dataset = opened(tmp_path, *with_holes())
    full, reduced = (dataset.scenes("train", resolution) for resolution in ("full", "reduced"))
    # the only square of 64 px has holes; of the six of 32 px, those at the top right and the left are whole
    names = ["mine_train_0_32", "mine_train_32_0", "mine_train_64_0"]
    assert [scene.name for scene in full] == [scene.name for scene in reduced] == names
    expected = wald(*whole(tmp_path, slice(0, 64)), QB)
    for one, other in zip(full, reduced, strict=True):
        assert (one.height, other.height) == (32, 8)
        assert torch.equal(one.read().lrms, other.read().gt)
    np.testing.assert_allclose(reduced[1].read().lrms, expected.lrms[..., 8:16, :8], rtol=0, atol=1e-6)
    for most, at in ((1, [0]), (2, [0, 2]), (3, [0, 1, 2]), (9, [0, 1, 2])):
        few = opened(tmp_path, *with_holes(), source={"areas": most}).scenes("train", "full")
        assert [scene.name for scene in few] == [names[place] for place in at]


def footprint(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Images that hold data in a band of 60 px along the diagonal only, as a rotated scene does."""
    ms, pan = images(height, width)
    rows, columns = np.mgrid[:height, :width]
    inside = abs(rows - columns + 16) < 60 / 2**0.5
    return ms * inside, pan * inside.repeat(4, 0).repeat(4, 1)


def test_where_no_square_of_the_regular_grid_is_whole_areas_lie_beside_it_without_overlap(tmp_path):
    ms, pan = footprint(140, 140)
    valid = ms[0] > 0
    blocks = valid[:128, :128].reshape(4, 32, 4, 32).all((1, 3))
    assert not blocks.any()
    dataset = opened(tmp_path, ms, pan, split={"train": 0.0, "val": 0.0, "test": 1.0})
    full, reduced = (dataset.scenes("test", resolution) for resolution in ("full", "reduced"))
    assert [scene.name for scene in full] == [scene.name for scene in reduced]
    corners = [tuple(map(int, scene.name.split("_")[2:])) for scene in full]
    assert len(corners) >= 3 and all(top % 4 == left % 4 == 0 for top, left in corners)
    covered = np.zeros_like(valid, int)
    for (top, left), one, other in zip(corners, full, reduced, strict=True):
        covered[top : top + 32, left : left + 32] += 1
        batch = one.read()
        assert batch.lrms.shape[-2:] == (32, 32) and torch.equal(batch.lrms, other.read().gt)
        window = pair_in(tmp_path).read(slice(top, top + 32), slice(left, left + 32))
        assert window.lrms_valid.all() and torch.equal(batch.lrms, window.lrms.clamp(0, 2047) / 2047)
    assert covered.max() == 1 and valid[covered == 1].all()
    patches = dataset.patches("test", "full", 32)
    assert len(patches) == len(corners)
    np.testing.assert_array_equal(patches.batch([1]).lrms, full[1].read().lrms)


def test_windows_beside_the_grid_are_taken_row_by_row_as_far_apart_as_told():
    found = torch.zeros(5, 6, dtype=torch.bool)
    found[1, 1:5] = found[2, 3] = found[3, 0] = found[4, 5] = True
    assert apart(found, 2) == [7, 9, 18, 29]
    assert apart(found, 1) == found.flatten().nonzero().flatten().tolist()


def test_what_is_read_at_once_does_not_grow_with_the_scene(tmp_path, monkeypatch):
    asked, read = [], ScenePair.read
    monkeypatch.setattr(readers, "SCAN", 20)

    def watched(pair, rows, columns):
        asked.append((rows.stop - rows.start, columns.stop - columns.start))
        return read(pair, rows, columns)

    monkeypatch.setattr(ScenePair, "read", watched)
    dataset = opened(tmp_path, *with_holes())
    assert dataset.available and not asked
    assert len(dataset.patches("train", "full", 16)) == len(dataset.patches("train", "reduced", 4)) == 18
    assert len(asked) == 5 * 4 and max(map(max, asked)) == 20  # 97 x 64 px, once for both resolutions
    asked.clear()
    dataset.patches("train", "full", 16).batch([3, 5])
    assert asked == [(16, 16)] * 2
    asked.clear()
    dataset.patches("train", "reduced", 4).batch([0])
    assert asked == [(36, 36)]  # 16 px and an apron of 20 on the sides that are inside the split


@pytest.mark.parametrize(
    ("bands", "names", "order"),
    [
        ([4, 3, 2, 1], (), [3, 2, 1, 0]),
        (["blue", "green", "vis-red", "nir"], ("Blue", "NIR", "Green", "VIS red"), [0, 2, 3, 1]),
        (None, ("Blue", "NIR", "Green", "Red"), [0, 2, 3, 1]),
    ],
)
def test_bands_say_where_those_of_the_sensor_are(tmp_path, bands, names, order):
    ms, pan = images()
    # MS pixels lie on PAN pixels: the stored values come back
    save(tmp_path / "ms.tif", ms, grid(4, 0.5, 0.5), names=names)
    save(tmp_path / "pan.tif", pan, grid())
    content = manifest(FILES, split=SHARES).model_dump(mode="json") | {"source": {**FILES, "bands": bands}}
    dataset = open_dataset(Manifest.model_validate_json(json.dumps(content)), tmp_path)
    np.testing.assert_array_equal(dn(dataset.scenes("train", "full")[0].read().lrms), ms[order, :64, :64])


def test_interpolated_ms_is_clipped_to_the_range_and_stored_values_beyond_it_are_refused(tmp_path):
    ms, pan = images()
    ms[:, :, :30] = 2047
    ms[:, :, 30:64] = 1
    scene = opened(tmp_path, ms, pan).scenes("train", "full")[0].read()
    assert pair_in(tmp_path).read(slice(0, 64), slice(0, 64)).lrms.max() > 2100
    assert (scene.lrms.min(), scene.lrms.max()) == (0, 1)

    def read():
        opened(tmp_path, ms, pan).patches("train", "full", 16)

    ms[1, 30:40, 30:40] = 4095
    refused(read, "ms.tif", "above the largest value 2047", "max_value")
    ms, pan = (image.astype(np.int16) for image in images())
    pan[0, 3, 5] = 2048
    refused(read, "pan.tif", "holds 2048, above the largest value 2047")
    pan[0, 3, 5] = -1
    refused(read, "pan.tif: rows 0..97, columns 0..64 (LRMS px)", "holds -1, a negative value; check nodata")
    assert len(opened(tmp_path, ms, pan, nodata=-1).patches("train", "full", 16)) == 23


def test_float_values_are_divided_by_the_manifests_own_max_value(tmp_path):
    ms, pan = (image.astype(np.float32) / 10_000 for image in images())
    pan[0, 100, 100] = np.nan
    dataset = opened(tmp_path, ms, pan, nodata=None, max_value=1.0)
    assert {dataset.scenes("train", at)[0].dn_max for at in ("full", "reduced")} == {2047.0}
    patches = dataset.patches("train", "full", 16)
    np.testing.assert_array_equal(patches.batch([0]).pan[0, 0], pan[0, :64, :64])
    assert len(patches) == 23


@pytest.mark.parametrize("satellite", ["landsat8", "landsat9"])
def test_the_true_grids_of_landsat_give_the_stored_values(tmp_path, satellite):
    """B8 begins 7.5 m inside the others, and has an odd number of rows and columns."""
    (bands, pan), height, width = images(41, 201, 7, 2, 65535), 41, 201
    bands[:, :8, 190:] = 0
    pan = pan[:, 1:, 1:]
    utm = {"crs": "EPSG:32630", "nodata": 0}
    # GDAL tells formats by their content, so that the file itself may stand for pan.vrt
    save(tmp_path / "pan.vrt", pan, Affine(15, 0, 193_192.5, 0, -15, 4_109_407.5), **utm)
    rows = []
    for number, band in enumerate(bands, 1):
        save(tmp_path / f"LC0X_B{number}.TIF", band[None], Affine(30, 0, 193_185, 0, -30, 4_109_415), **utm)
        rows.append(
            f'<VRTRasterBand dataType="UInt16" band="{number}"><NoDataValue>0</NoDataValue><ComplexSource>'
            f'<SourceFilename relativeToVRT="1">LC0X_B{number}.TIF</SourceFilename><SourceBand>1</SourceBand>'
            "<NODATA>0</NODATA></ComplexSource></VRTRasterBand>"
        )
    (tmp_path / "ms.vrt").write_text(  # what gdalbuildvrt -separate writes
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>EPSG:32630</SRS>'
        f"<GeoTransform>193185, 30, 0, 4109415, 0, -30</GeoTransform>{''.join(rows)}</VRTDataset>"
    )
    dataset = open_dataset(load_manifest(MANIFESTS / f"{satellite}.yaml"), tmp_path)
    patches = dataset.patches("train", "full", 8)
    assert len(patches) == 5 * 13 and dataset.n_bands == 7  # 168 = 104 + 32 + 32 columns
    batch = patches.batch([14])
    np.testing.assert_array_equal(dn(batch.lrms, 65535), bands[:, 9:17, 9:17])
    np.testing.assert_array_equal(dn(batch.pan, 65535), pan[:, 17:33, 17:33])
    assert len(dataset.patches("test", "full", 8)) == 5 * 4 - 2  # columns 169 to 200 of the files; two have 0


def test_the_template_for_an_own_scene_reads_one(tmp_path):
    save(tmp_path / "ms.tif", images(32, 192)[0], grid(4))
    save(tmp_path / "pan.tif", images(32, 192)[1], grid())
    dataset = open_dataset(load_manifest(MANIFESTS / "own_scene.yaml"), tmp_path)
    assert [len(dataset.scenes(split, "full")) for split in SHARES] == [3, 1, 1]


@pytest.mark.parametrize("name", ["ms.tif", "pan.tif"])
def test_a_missing_file_is_refused_with_how_to_get_it(tmp_path, name):
    opened(tmp_path, *images())
    (tmp_path / name).unlink()
    described = manifest(FILES, split=SHARES)
    refused(lambda: open_dataset(described, tmp_path), f"{name}: no such file", "how_to_get", "data_root")


def test_a_dataset_may_have_some_bands_of_its_sensor(tmp_path):
    ms, pan = images()
    dataset = opened(tmp_path, ms, pan, source={"bands": ("red", "green", "blue")})
    assert dataset.sensor == QB.only(["red", "green", "blue"])
    batch, of_all = (each.scenes("train", "full")[0].read() for each in (dataset, opened(tmp_path, ms, pan)))
    assert torch.equal(batch.lrms, of_all.lrms[:, [2, 1, 0]])


def test_a_file_that_has_some_bands_of_its_sensor_wants_them_named(tmp_path):
    ms, pan = images(bands=3)
    opened(tmp_path, ms, pan, source={"bands": ("blue", "green", "red")})
    with rasterio.open(tmp_path / "ms.tif", "r+") as file:
        file.descriptions = ["Blue", "Green", "Red"]
    described = manifest(FILES, split=SHARES)
    refused(
        lambda: open_dataset(described, tmp_path),
        "has bands blue, green, red of sensor QB",
        "give as `bands` the names",
    )


def test_files_that_do_not_fit_the_sensor_are_refused(tmp_path):
    refused(lambda: opened(tmp_path, *images(), sensor="WV3"), "ms.tif", "WV3 of 8 bands", "the file has 4")
    refused(lambda: opened(tmp_path, *images(bands=7), sensor="L8"), "ratio 4", "sensor L8 has 2")


@pytest.mark.parametrize(
    ("height", "width", "split"),
    [(31, 160, SHARES), (40, 159, SHARES), (40, 200, {"train": 0.9, "val": 0.0, "test": 0.1})],
)
def test_a_scene_too_small_for_its_splits_is_refused(tmp_path, height, width, split):
    dataset = opened(tmp_path, *images(height, width), split=split)
    refused(
        lambda: dataset.available, "ms.tif", f"{height} x {width} LRMS px", "less than 32 x 32", "larger one"
    )


def scene_of_a_sensor(folder: Path, seed: int = 0, size: int = 768) -> tuple[np.ndarray, np.ndarray]:
    """DN of MS as delivered, its pixels centred on those of PAN (aligned areas), and of PAN."""
    scene = render(seed, QB, size)
    fine = filter_image(scene["gt"][None], mtf_kernel(QB.gnyq, 4))[0]
    between = sum(fine[:, i::4, j::4] for i in (1, 2) for j in (1, 2)) / 4  # 4k + 1.5
    return [(image.clamp(0, 1) * 2047).round().numpy().astype(np.uint16) for image in (between, scene["pan"])]


def test_the_audit_finds_ms_of_aligned_pixel_areas_on_its_place(tmp_path):
    dataset = opened(tmp_path, *scene_of_a_sensor(tmp_path))
    outcome = audit(dataset.manifest, tmp_path, sample=12)
    assert outcome.passed, [finding for finding in outcome.findings if finding.severity == "fault"]
    measured, reduced = (
        next(part for part in outcome.parts if (part.split, part.resolution) == ("train", resolution))
        for resolution in ("full", "reduced")
    )
    assert offsets(measured).median(0).values.tolist() == pytest.approx([0, 0], abs=0.1)
    assert reduced.phases[0, 0] == reduced.phases.total() == 3


def test_stage_two_and_the_tables_work_on_a_geotiff_pair(tmp_path):
    split = {"train": 0.6, "val": 0.0, "test": 0.4}
    dataset = opened(tmp_path, *scene_of_a_sensor(tmp_path, size=512), split=split)
    (tmp_path / "mine.yaml").write_text(dataset.manifest.model_dump_json())
    run = open_run(
        tmp_path / "mine.yaml",
        "",
        tmp_path / "run",
        "smoke",
        0,
        "cpu",
        {"stage2_iterations": 2, "n_seeds": 1},
    )
    run.stage1(run.new_supervisor(), "supervisor")
    [trained] = run.stage2({"C": run.adapted_supervisor()}, run.pseudo_supervisor(), "full")["C"]
    assert len(trained.history.rows) == 2 and all(
        np.isfinite(row["language"]) for row in trained.history.rows
    )
    methods = classical_methods(dataset, ("exp", "gsa")) | {"C": trained.network}
    for resolution in ("full", "reduced"):
        scores = evaluate(methods, run.dataset.scenes("test", resolution), torch.device("cpu"))
        assert len(scores) == 3 * len(run.dataset.scenes("test", resolution))
        assert np.isfinite(
            scores.drop(columns=["method", "seed", "scene", "resolution"]).to_numpy(float)
        ).all()
