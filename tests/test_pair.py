"""GeoTIFF pairs: what is read lies where the phase convention says, whatever the files' grids, types and holes."""

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scipy.io
import torch
from rasterio import Affine
from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT
from rasters import CORNER, PIXEL, grid, noise, save

from clippan_lib.data.pair import PairWindow, ScenePair, open_pair
from clippan_lib.errors import DataError
from clippan_lib.sensors import get_sensor

ALL = slice(None)
QB = get_sensor("QB")
IDENTITY = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")


def pair(
    folder: Path, side: int = 24, ratio: int = 4, bands: int = 4, at=(0.0, 0.0), **ms_options
) -> ScenePair:
    """Random values, aligned by pixel areas unless MS is put elsewhere (`at`, PAN px)."""
    return open_pair(*files(folder, side, ratio, bands, at, **ms_options))


def files(folder: Path, side: int = 24, ratio: int = 4, bands: int = 4, at=(0.0, 0.0), **ms_options):
    ms = save(folder / "ms.tif", noise(bands, side, side), grid(ratio, *at), **ms_options)
    return ms, save(folder / "pan.tif", noise(1, ratio * side, ratio * side), grid())


def scene(transform: Affine, height: int, width: int) -> np.ndarray:
    """(2, h, w): a smooth scene at the pixels' centres; its blobs are too wide for MS to alias."""
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = transform.c + transform.a * columns, transform.f + transform.e * rows
    blobs = np.random.default_rng(3).uniform(0, 1, (2, 30, 3))
    image = np.full((2, height, width), 300.0)
    reach = 2.2 * 4 * PIXEL
    for band in range(2):
        for right, down, strength in blobs[band]:
            dx, dy = x - CORNER[0] - 130 * PIXEL * right, y - CORNER[1] + 130 * PIXEL * down
            image[band] += 900 * strength * np.exp(-(dx**2 + dy**2) / (2 * reach**2))
    return image


def whole(of: ScenePair) -> PairWindow:
    return of.read(ALL, ALL)


def same(one: PairWindow, other: PairWindow) -> bool:
    images = [{**vars(window), "corner": torch.tensor(window.corner)} for window in (one, other)]
    return all(torch.equal(images[0][name], images[1][name]) for name in images[0])


def refused(action: Callable, *said: str) -> None:
    with pytest.raises(DataError) as refusal:
        action()
    for words in said:
        assert words in str(refusal.value)


@pytest.mark.parametrize("ratio", [2, 3, 4])
@pytest.mark.parametrize("at", [(0.0, 0.0), (0.3, -1.4), (-2.75, 5.5), (1.0, 2.0)])
def test_ms_lies_where_the_phase_convention_says(tmp_path, ratio, at):
    size, margin = 120, 14
    low = grid(ratio, at[0] - ratio * margin, at[1] - ratio * margin)
    side = size // ratio + 2 * margin
    stored = scene(low, side, side)
    pan = save(tmp_path / "pan.tif", scene(grid(), size, size)[:1], grid())
    seen = open_pair(save(tmp_path / "ms.tif", stored, low), pan)
    assert seen.ratio == ratio and size - 2 * ratio < ratio * seen.height <= size
    window, expected = whole(seen), scene(seen.transform, ratio * seen.height, ratio * seen.width)
    np.testing.assert_allclose(window.pan[0], expected[:1], atol=1e-4)
    at_convention = expected[:, ratio // 2 :: ratio, ratio // 2 :: ratio]
    tolerance = 7e-4 * np.ptp(stored)
    np.testing.assert_allclose(window.lrms[0], at_convention, rtol=0, atol=tolerance)
    offsets = (seen.transform.f - low.f) / low.e, (seen.transform.c - low.c) / low.a
    top, left = (offset + (ratio // 2 + 0.5) / ratio for offset in offsets)
    naive = stored[:, int(top) : int(top) + seen.height, int(left) : int(left) + seen.width]
    shift = max(abs(top % 1 - 0.5), abs(left % 1 - 0.5))
    assert shift < 0.5 / ratio + 1e-6
    if shift > 1e-6:
        assert np.abs(naive - at_convention).max() > 10 * tolerance
    else:
        np.testing.assert_array_equal(window.lrms[0], naive.astype(np.float32))


def test_ms_lies_where_gdal_puts_it(tmp_path):
    pan, ms = save(tmp_path / "pan.tif", noise(1, 120, 120), grid()), tmp_path / "ms.tif"
    seen = open_pair(save(ms, scene(grid(4, -40, -40), 50, 50).astype(np.float32), grid(4, -40, -40)), pan)
    to = grid(4, 0.5, 0.5)
    lanczos = {"resampling": Resampling.lanczos, "tolerance": 1e-6}
    with rasterio.open(ms) as file, WarpedVRT(file, transform=to, width=30, height=30, **lanczos) as warped:
        expected = warped.read()
    np.testing.assert_allclose(whole(seen).lrms[0], expected, rtol=0, atol=2e-3 * np.ptp(expected))


def test_a_real_scene_comes_back_bit_by_bit_from_a_larger_and_shifted_ms(tmp_path, shared):
    stored = scipy.io.loadmat(shared / "data" / "imgWV2.mat")
    ms, pan = stored["I_MS"].transpose(2, 0, 1), stored["I_PAN"][None]
    around = np.pad(ms, ((0, 0), (7, 5), (3, 11)), mode="symmetric")
    save(tmp_path / "ms.tif", around, grid(4, -4 * 7 + 0.5, -4 * 3 + 0.5), tiled=True, compress="deflate")
    sensor = get_sensor("WV2")
    seen = open_pair(tmp_path / "ms.tif", save(tmp_path / "pan.tif", pan, grid()), sensor=sensor)
    assert (seen.ratio, seen.height, seen.width, seen.band_names) == (4, 320, 320, sensor.bands)
    assert (seen.dtype, seen.nodata, seen.crs.to_epsg()) == ("uint16", None, 32632)
    assert seen.transform.almost_equals(grid())
    window = whole(seen)
    np.testing.assert_array_equal(window.lrms[0], ms.astype(np.float32))
    np.testing.assert_array_equal(window.pan[0], pan.astype(np.float32))
    assert window.lrms_valid.all() and window.pan_valid.all()


@pytest.mark.parametrize("noise_of_transform", [1e-9, -1e-9, 3e-6, -3e-6])
def test_rounded_transforms_neither_move_nor_lose_a_pixel(tmp_path, noise_of_transform):
    off = 0.5 + noise_of_transform
    _, pan = files(tmp_path)
    low = grid(4 * (1 + noise_of_transform / 100), off, off)
    ms = save(tmp_path / "ms.tif", noise(4, 24, 24), low)
    seen = open_pair(ms, pan)
    assert (seen.height, seen.width) == (24, 24)
    np.testing.assert_array_equal(whole(seen).lrms[0], noise(4, 24, 24))
    aligned = pair(tmp_path, at=(noise_of_transform, noise_of_transform))
    assert (aligned.height, aligned.width) == (24, 24)


@pytest.mark.parametrize("ratio", range(2, 9))
def test_aligned_files_lose_nothing(tmp_path, ratio):
    seen = pair(tmp_path, 17, ratio)
    assert (seen.ratio, seen.height, seen.width) == (ratio, 17, 17)
    np.testing.assert_array_equal(whole(seen).pan[0], noise(1, 17 * ratio, 17 * ratio))


def test_a_shifted_ms_loses_less_than_one_of_its_pixels_at_each_edge(tmp_path):
    seen = pair(tmp_path, 24, at=(-3.0, 2.0))
    # by hand: rows -3 + 4k + 1.5 + 2 - 2 begin at PAN rows 1, 5, ...; columns at 2, 6, ..., the last at 90
    assert seen.transform.almost_equals(grid(1, 1, 2)) and (seen.height, seen.width) == (23, 23)
    pan = noise(1, 96, 96)
    np.testing.assert_array_equal(whole(seen).pan[0], pan[:, 1:93, 2:94])


def test_pixel_sizes_that_are_not_quite_a_whole_multiple_do_not_drift(tmp_path):
    size = 4 * (1 + 8e-4)
    low = grid(size, -56, -56)
    save(tmp_path / "pan.tif", scene(grid(), 600, 120)[:1], grid())
    seen = open_pair(save(tmp_path / "ms.tif", scene(low, 180, 58), low), tmp_path / "pan.tif")
    expected = scene(seen.transform, 4 * seen.height, 4 * seen.width)[:, 2::4, 2::4]
    assert seen.height == 150
    np.testing.assert_allclose(whole(seen).lrms[0], expected, rtol=0, atol=5e-4 * np.ptp(expected))


def holes(height: int, width: int) -> np.ndarray:
    """Where data is missing: a slanting collar, an island wider than what is filled, single pixels."""
    row, column = np.mgrid[:height, :width]
    island = (row - height // 2) ** 2 + (column - width // 2) ** 2 < (width // 4) ** 2
    return (row + 3 * column < width // 2) | island | ((row * 31 + column * 17) % 97 == 0)


def test_windows_are_cut_outs_of_the_whole_bit_by_bit_in_any_thread_and_process(tmp_path):
    pan, ms = noise(1, 700, 700, dtype=np.int16), noise(3, 175, 175, dtype=np.int16)
    pan[:, holes(700, 700)], ms[:, holes(175, 175)] = -9, -9
    save(tmp_path / "pan.tif", pan, grid(), nodata=-9, tiled=True, blockxsize=128, blockysize=128)
    seen = open_pair(save(tmp_path / "ms.tif", ms, grid(4, 1.3, -0.2), nodata=-9), tmp_path / "pan.tif")
    of_all, shape = whole(seen), (seen.height, seen.width)
    cuts = [
        (slice(t, min(t + 23, shape[0])), slice(f, min(f + 41, shape[1])))
        for t in range(0, shape[0], 23)
        for f in range(0, shape[1], 41)
    ]
    cuts += [(slice(0, 1), slice(5, 6)), (slice(80, 95), slice(80, 95)), (ALL, slice(170, None))]
    with ThreadPoolExecutor(4) as threads:
        windows = list(threads.map(lambda cut: pickle.loads(pickle.dumps(seen)).read(*cut), cuts[::3]))
        windows = list(threads.map(lambda cut: seen.read(*cut), cuts)) + windows
    for (rows, columns), window in zip(cuts + cuts[::3], windows, strict=True):
        high = [slice(4 * (s.start or 0), 4 * s.stop if s.stop else None) for s in (rows, columns)]
        part = PairWindow(
            of_all.lrms[..., rows, columns],
            of_all.pan[..., *high],
            of_all.lrms_valid[..., rows, columns],
            of_all.pan_valid[..., *high],
            (rows.start or 0, columns.start or 0),
        )
        assert same(window, part)


def test_readers_at_work_at_the_same_time_share_no_handle(tmp_path):
    file = pair(tmp_path)._pan
    with file._handle() as one, file._handle() as other:
        assert one is not other
    with file._handle() as again:
        assert again in (one, other)


@pytest.mark.parametrize("kind", ["value", "nan", "mask", "alpha"])
def test_missing_pixels_are_marked_filled_with_the_nearest_and_never_smeared(tmp_path, kind):
    hole = np.zeros((24, 24), bool)
    hole[8:14, 5:12], hole[20:, :] = True, True
    ms = np.full((4, 24, 24), 1000.0, np.float32)
    ms[:, :, 12:] = 1100
    ms[:, hole] = {"value": 0, "nan": np.nan}.get(kind, 60000)
    options = {"nodata": 0} if kind == "value" else {}
    if kind == "mask":
        options["mask"] = np.where(hole, 0, 255).astype(np.uint8)
    if kind == "alpha":
        ms = np.concatenate([ms, ~hole[None] * np.float32(255)])
        options["meanings"] = [ColorInterp.undefined] * 4 + [ColorInterp.alpha]
    _, pan = files(tmp_path)
    seen = open_pair(save(tmp_path / "ms.tif", ms, grid(4), **options), pan)
    window = whole(seen)
    assert seen.n_bands == 4 and seen.nodata == options.get("nodata")
    np.testing.assert_array_equal(window.lrms_valid[0, 0], ~hole)
    assert window.pan_valid.all()
    assert window.lrms.min() > 950 and window.lrms.max() < 1150
    # by hand: (10, 10) is 2 px from column 12, and 4 or more from the other valid sides
    assert abs(window.lrms[0, 0, 10, 10] - 1100) < 50 and abs(window.lrms[0, 0, 10, 6] - 1000) < 10


def test_missing_pan_is_marked_and_filled_and_far_inside_it_is_zero(tmp_path):
    pan = noise(1, 320, 320).astype(np.float32)
    pan[:, :, :200], pan[0, 5, 300] = np.nan, np.inf
    ms, _ = files(tmp_path, side=80)
    window = whole(open_pair(ms, save(tmp_path / "pan.tif", pan, grid())))
    np.testing.assert_array_equal(window.pan_valid[0, 0], np.isfinite(pan[0]))
    assert torch.equal(window.pan[0, 0, :, 136], window.pan[0, 0, :, 200]) and window.pan[0, 0, 5, 300] in pan
    assert not window.pan[..., :136].any() and window.lrms_valid.all()
    nothing = np.full((1, 320, 320), np.nan, np.float32)
    window = whole(open_pair(ms, save(tmp_path / "pan.tif", nothing, grid())))
    assert not window.pan_valid.any() and not window.pan.any()


def test_a_pixel_missing_in_one_band_is_missing(tmp_path):
    ms = noise(4, 24, 24)
    ms[2, 3, 4] = 0
    _, pan = files(tmp_path)
    seen = open_pair(save(tmp_path / "ms.tif", ms, grid(4, 0.5, 0.5), nodata=0), pan)
    assert np.argwhere(~whole(seen).lrms_valid[0, 0].numpy()).tolist() == [[3, 4]]
    others = open_pair(tmp_path / "ms.tif", tmp_path / "pan.tif", bands=(1, 2, 4))
    assert whole(others).lrms_valid.all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize(
    "layout",
    [
        {"ENDIANNESS": "BIG", "interleave": "band"},
        {"ENDIANNESS": "LITTLE", "interleave": "pixel", "blockysize": 5},
        {"tiled": True, "blockxsize": 32, "blockysize": 16, "compress": "deflate", "predictor": 2},
        {"compress": "lzw", "ENDIANNESS": "BIG"},
        {"BIGTIFF": "YES"},
    ],
)
def test_every_type_and_layout_gives_the_stored_numbers(tmp_path, dtype, layout):
    if dtype == "float32":
        layout = {key: value for key, value in layout.items() if key != "predictor"}
    ms, pan = noise(3, 24, 24, dtype=dtype), noise(1, 96, 96, dtype=dtype, seed=1)
    paths = (
        save(tmp_path / "ms.tif", ms, grid(4, 0.5, 0.5), **layout),
        save(tmp_path / "pan.tif", pan, grid(), **layout),
    )
    for path in paths:
        with rasterio.open(path, "r+") as file:
            file.build_overviews([2, 4], Resampling.average)
    seen = open_pair(*paths)
    assert seen.dtype == dtype and whole(seen).lrms.dtype == whole(seen).pan.dtype == torch.float32
    np.testing.assert_array_equal(whole(seen).lrms[0], ms)
    np.testing.assert_array_equal(whole(seen).pan[0], pan)


def test_interpolation_stays_within_the_stored_type(tmp_path):
    steps = np.where(np.arange(24) % 12 < 6, 0, 255).astype(np.uint8)
    ms = np.broadcast_to(steps, (2, 24, 24)).copy()
    for dtype, low, high in ((np.uint8, 0, 255), (np.float32, -20, 275)):
        _, pan = files(tmp_path)
        seen = open_pair(save(tmp_path / "ms.tif", ms.astype(dtype), grid(4)), pan)
        lrms = whole(seen).lrms
        assert low <= lrms.min() < 1 and 254 < lrms.max() <= high
        assert (lrms.min() < 0) == (dtype == np.float32)


ORDERS = [
    # descriptions, bands, sensor, names, 0-based places
    ((), None, None, ("band_1", "band_2", "band_3", "band_4"), (0, 1, 2, 3)),
    ((), (3, 1), None, ("band_3", "band_1"), (2, 0)),
    ((), None, QB, QB.bands, (0, 1, 2, 3)),
    ((), ("red", "green", "blue"), QB, ("red", "green", "blue"), (2, 1, 0)),
    ((), (3, 2, 1, 4), QB, QB.bands, (2, 1, 0, 3)),
    (("Red", "Green", "Blue", "NIR"), None, QB, QB.bands, (2, 1, 0, 3)),
    (("Red", "Green", "Blue", "NIR"), ("nir", "Red"), QB, ("nir", "red"), (3, 0)),
    (("Red", "Red-Edge", "Blue", "NIR"), ("red edge", "blue"), None, ("red_edge", "blue"), (1, 2)),
]


@pytest.mark.parametrize(("names", "bands", "sensor", "seen_names", "places"), ORDERS)
def test_bands_are_chosen_and_ordered_by_number_name_or_sensor(
    tmp_path, names, bands, sensor, seen_names, places
):
    paths = files(tmp_path, at=(0.5, 0.5), names=names)
    seen = open_pair(*paths, bands=bands, sensor=sensor)
    assert seen.band_names == seen_names and seen.n_bands == len(places)
    np.testing.assert_array_equal(whole(seen).lrms[0], noise(4, 24, 24)[[*places]])


@pytest.mark.parametrize(
    ("bands", "sensor", "said"),
    [
        (None, get_sensor("WV2"), ["coastal, blue", "sensor WV2 of 8 bands", "has 4", "correct `sensor`"]),
        ((1, 2, 3), get_sensor("WV3"), ["1, 2, 3", "WV3 of 8 bands", "give names"]),
        ((1, 5), None, ["1, 5", "has 4 (band_1"]),
        ((0, 1), None, ["0, 1", "count from 1", "numbers from 1 to 4"]),
        ((2, 2, 3), None, ["2, 2, 3", "band 2 of the file twice"]),
        (("red", "swir1"), QB, ["red, swir1", "number in the file, from 1"]),
        (("red", "blue"), None, ["red, blue", "band_1, band_2, band_3, band_4"]),
        ((2,), None, ["MS has 4 band", "1 is wanted", "two or more"]),
    ],
)
def test_bands_that_ms_lacks_are_refused(tmp_path, bands, sensor, said):
    paths = files(tmp_path)
    refused(lambda: open_pair(*paths, bands=bands, sensor=sensor), "ms.tif", *said)


def test_pan_may_have_an_alpha_channel_but_no_second_band(tmp_path):
    ms, pan = files(tmp_path)
    image = noise(2, 96, 96)
    save(pan, image, grid(), alpha="yes")
    np.testing.assert_array_equal(whole(open_pair(ms, pan)).pan[0], image[:1])
    save(pan, image, grid(), alpha="no")
    refused(lambda: open_pair(ms, pan), "pan.tif: PAN has 2 bands, not one")


def test_one_band_ms_is_refused(tmp_path):
    refused(lambda: pair(tmp_path, bands=1), "ms.tif: MS has 1 band", "gdalbuildvrt -separate")


@pytest.mark.parametrize("which", ["pan", "ms"])
def test_complex_values_are_refused(tmp_path, which):
    paths = dict(zip(("ms", "pan"), files(tmp_path), strict=True))
    save(paths[which], noise(1, 24, 24, dtype=np.complex64), grid())
    refused(lambda: open_pair(**paths), f"{which}.tif", "complex64", "not real numbers")


def test_another_crs_is_refused_and_both_are_named(tmp_path):
    refused(lambda: pair(tmp_path, crs="EPSG:32633"), "EPSG:32632", "EPSG:32633", "gdalwarp")
    refused(lambda: pair(tmp_path, crs=None), "EPSG:32632", "no CRS", "assign")


@IDENTITY
def test_files_without_georeference_must_be_whole_multiples(tmp_path):
    ms, pan = files(tmp_path)
    save(ms, noise(4, 24, 24), None)
    refused(lambda: open_pair(ms, pan), "ms.tif: has no georeference, but", "pan.tif has")
    save(pan, noise(1, 96, 96), None)
    seen = open_pair(ms, pan)
    assert (seen.ratio, seen.height, seen.width, seen.crs) == (4, 24, 24, None)
    save(tmp_path / "located.tif", noise(4, 24, 24), grid(4))
    save(tmp_path / "high.tif", noise(1, 96, 96), grid())
    assert same(whole(seen), whole(open_pair(tmp_path / "located.tif", tmp_path / "high.tif")))
    save(pan, noise(1, 96, 97), None)
    refused(lambda: open_pair(ms, pan), "96 x 97 px is no whole multiple of MS of 24 x 24 px")


@pytest.mark.parametrize("which", ["pan", "ms"])
@pytest.mark.parametrize("transform", [Affine(0, 0, 4e5, 0, 0, 5e6), Affine(0.5, 0, np.nan, 0, -0.5, 5e6)])
def test_grids_whose_pixels_have_no_size_or_no_place_are_refused(tmp_path, which, transform):
    paths = dict(zip(("ms", "pan"), files(tmp_path), strict=True))
    image = {"pan": noise(1, 96, 96), "ms": noise(4, 24, 24)}[which]
    save(paths[which], image, transform)
    refused(lambda: open_pair(**paths), f"{which}.tif: has pixels of", "write its georeference anew")


def rotated(transform: Affine) -> Affine:
    return Affine(transform.a, 0.01, transform.c, -0.01, transform.e, transform.f)


@pytest.mark.parametrize("which", ["pan", "ms"])
def test_rotated_grids_are_refused(tmp_path, which):
    paths = dict(zip(("ms", "pan"), files(tmp_path), strict=True))
    image = {"pan": noise(1, 96, 96), "ms": noise(4, 24, 24)}[which]
    save(paths[which], image, rotated(grid({"pan": 1, "ms": 4}[which])))
    refused(lambda: open_pair(**paths), f"{which}.tif: is rotated or sheared", "0.01 and -0.01", "gdalwarp")


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (3.7, ["pixels of 0.5 x 0.5", "1.85 x 1.85", "3.7 x 3.7", "from 2 to 8"]),
        (4.01, ["4.01 x 4.01"]),
        (9, ["9 x 9"]),
        (1, ["1 x 1"]),
        (0.25, ["0.25 x 0.25", "MS is finer than PAN; are the two swapped?"]),
    ],
)
def test_ratios_that_are_no_whole_number_are_refused(tmp_path, size, said):
    ms, pan = files(tmp_path)
    save(ms, noise(4, 24, 24), grid(size))
    refused(lambda: open_pair(ms, pan), "pan.tif", "ms.tif", *said)


def test_a_ratio_that_is_no_whole_number_is_refused_with_the_command_that_resamples_ms(tmp_path):
    ms, pan = files(tmp_path)
    save(ms, noise(4, 24, 24), grid(2.5))
    refused(
        lambda: open_pair(ms, pan),
        "ratios 2.5 x 2.5",
        f"to 2 times PAN's pixel: gdalwarp -tr 1 1 -r cubic {ms} ",
    )
    # as told: pixels of 1 m, and the pair fits
    save(tmp_path / "resampled.tif", noise(4, 60, 60), grid(2))
    assert open_pair(tmp_path / "resampled.tif", pan).ratio == 2
    save(ms, noise(4, 24, 24), grid(9.7))
    refused(lambda: open_pair(ms, pan), "to 8 times PAN's pixel: gdalwarp -tr 4 4")
    # nothing to resample where one side of a pixel is smaller than PAN's
    save(ms, noise(4, 24, 24), Affine(2.0, 0, CORNER[0], 0, -0.3, CORNER[1]))
    with pytest.raises(DataError, match="check the georeference$"):
        open_pair(ms, pan)


def test_pixels_that_are_not_square_alike_are_refused(tmp_path):
    ms, pan = files(tmp_path)
    save(ms, noise(4, 24, 24), Affine(1.0, 0, CORNER[0], 0, -2.0, CORNER[1]))
    refused(lambda: open_pair(ms, pan), "ratios 4 x 2", "one whole number")


def test_another_ratio_than_the_sensors_is_refused(tmp_path):
    paths = files(tmp_path, ratio=2)
    refused(lambda: open_pair(*paths, sensor=QB), "have ratio 2, but sensor QB has 4")


@pytest.mark.parametrize("at", [(400, 0), (-400, 0), (0, 97), (0, -97)])
def test_files_that_do_not_overlap_are_refused_with_their_corners(tmp_path, at):
    refused(
        lambda: pair(tmp_path, at=at), "pan.tif (corners 448123.4, 5412678.9, ", "ms.tif", "do not overlap"
    )


def test_an_overlap_too_small_to_be_of_use_is_refused(tmp_path):
    refused(lambda: pair(tmp_path, at=(0, 40)), "only 24 x 14 MS px in common", "16 x 16 are needed")


def test_a_missing_file_is_refused(tmp_path):
    _, pan = files(tmp_path)
    refused(lambda: open_pair(tmp_path / "gone.tif", pan), "gone.tif: no such file")


@pytest.mark.parametrize("which", ["pan", "ms"])
@pytest.mark.parametrize("content", [b"", b"II*\0garbage" * 9, b"not an image" * 99])
def test_what_is_no_tiff_is_refused(tmp_path, which, content):
    paths = dict(zip(("ms", "pan"), files(tmp_path), strict=True))
    paths[which].write_bytes(content)
    refused(lambda: open_pair(**paths), f"{which}.tif: truncated or corrupt", "get it again")


@pytest.mark.parametrize(
    "options", [{}, {"compress": "deflate", "tiled": True, "blockxsize": 64, "blockysize": 64}]
)
@pytest.mark.parametrize("which", ["pan", "ms"])
def test_a_truncated_tiff_is_refused_where_it_is_read_and_serves_the_rest(tmp_path, which, options):
    paths = {
        "pan": save(tmp_path / "pan.tif", noise(1, 800, 800), grid(), **options),
        "ms": save(tmp_path / "ms.tif", noise(2, 200, 200), grid(4), **options),
    }
    content = paths[which].read_bytes()
    paths[which].write_bytes(content[: int(0.6 * len(content))])
    seen = open_pair(**paths)
    for _ in range(2):
        refused(
            lambda: seen.read(slice(150, 200), ALL), f"{which}.tif: rows", "cannot be read", "get it again"
        )
    assert seen.read(slice(0, 16), slice(0, 16)).lrms.shape == (1, 2, 16, 16)


@pytest.mark.parametrize(
    ("rows", "columns", "said"),
    [
        (slice(0, 25), ALL, "rows 0..25"),
        (ALL, slice(-2, 3), "columns -2..3"),
        (ALL, slice(4, 4), "columns 4..4"),
        (slice(0, 8, 2), ALL, "step 2"),
    ],
)
def test_a_window_that_leaves_the_scene_is_refused(tmp_path, rows, columns, said):
    seen = pair(tmp_path)
    refused(lambda: seen.read(rows, columns), "ms.tif", said, "24 x 24 MS px")
