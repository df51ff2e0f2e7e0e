"""The file of a fused scene: what went in comes out, NoData stays NoData, only a whole file has its name."""

import math
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasters import grid, noise

from clippan_lib.errors import OutputError
from clippan_lib.sharpening.cog import copy_optimised
from clippan_lib.sharpening.output import DTYPES, SceneTile, to_dtype, write_scene

UTM = CRS.from_epsg(32632)
SPAWN = multiprocessing.get_context("spawn")
IDENTITY = pytest.mark.filterwarnings("ignore:.*identity")


def cut(image: np.ndarray, valid: np.ndarray | None, high: int, wide: int) -> Iterator[SceneTile]:
    for row in range(0, image.shape[1], high):
        for column in range(0, image.shape[2], wide):
            part = slice(row, row + high), slice(column, column + wide)
            yield SceneTile(row, column, image[:, *part], None if valid is None else valid[part])


def write(path: Path, image: np.ndarray, valid: np.ndarray | None = None, tile=(300, 450), **changes) -> Path:
    bands, height, width = image.shape
    options = {
        "height": height,
        "width": width,
        "bands": [f"band_{band}" for band in range(1, bands + 1)],
        "dtype": image.dtype.name,
        "nodata": None,
        "crs": UTM,
        "transform": grid(),
        "tags": {},
    }
    if changes.get("nodata") is not None:
        changes["nodata"] = float(changes["nodata"])
    write_scene(path, changes.pop("tiles", cut(image, valid, *tile)), **options | changes)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    return path


def holes(height: int, width: int) -> np.ndarray:
    """Valid, but for a slanting collar, an island wider than a block of an overview, and single pixels."""
    row, column = np.mgrid[:height, :width]
    island = (row - height // 2) ** 2 + (column - width // 2) ** 2 < (min(height, width) // 3) ** 2
    return ~((row + 3 * column < width // 2) | island | ((row * 31 + column * 17) % 97 == 0))


def full_range(*shape: int, dtype: str) -> np.ndarray:
    """Noise over all that dtype holds, its limits among it."""
    draw = np.random.default_rng(2)
    if dtype.startswith("float"):
        image = draw.normal(0, 1e5, shape).astype(dtype)
        image.flat[:2] = np.finfo(dtype).min, np.finfo(dtype).max
        return image
    limits = np.iinfo(dtype)
    image = draw.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    image.flat[:2] = limits.min, limits.max
    return image


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_comes_back_compressed_in_blocks(tmp_path, dtype):
    image = full_range(4, 601, 523, dtype=dtype)
    with rasterio.open(write(tmp_path / "o.tif", image)) as file:
        assert file.dtypes == (dtype,) * 4 and (file.crs, file.transform) == (UTM, grid())
        np.testing.assert_array_equal(file.read(), image)
        layout = file.tags(ns="IMAGE_STRUCTURE")
        assert (layout["COMPRESSION"], layout["INTERLEAVE"]) == ("DEFLATE", "PIXEL")
        assert layout["PREDICTOR"] == ("3" if dtype.startswith("float") else "2")
        assert file.block_shapes == [(256, 256)] * 4
        assert file.mask_flag_enums == ([MaskFlags.all_valid],) * 4 and file.nodata is None


@pytest.mark.parametrize("size", [(1, 1), (17, 1400), (1025, 511), (1024, 1024)])
@pytest.mark.parametrize("tile", [(512, 512), (97, 131), (700, 333), (2000, 2000)])
@pytest.mark.parametrize("nodata", [0, None])
def test_no_size_of_scene_or_tile_loses_a_pixel(tmp_path, size, tile, nodata):
    image, valid = noise(2, *size, dtype=np.uint8), holes(*size)
    with rasterio.open(write(tmp_path / "o.tif", image, valid, tile, nodata=nodata)) as file:
        assert file.shape == size
        np.testing.assert_array_equal(file.read()[:, valid], image[:, valid])
        np.testing.assert_array_equal(file.dataset_mask() > 0, valid)


NODATA = [
    # dtype, NoData, as stored, the value that a valid pixel of that value takes; by hand
    ("uint8", 0, 0, 1),
    ("uint8", 255, 255, 254),
    ("int8", -128, -128, -127),
    ("uint16", 0.0, 0, 1),
    ("uint16", 65535, 65535, 65534),
    ("int16", -9999, -9999, -9998),
    ("uint32", 4294967295, 4294967295, 4294967294),
    ("int32", -(2**31), -(2**31), 1 - 2**31),
    ("float32", 0, 0, 2.0**-126),
    ("float32", -9999, -9999, np.float32(-9999 * (1 - 2.0**-19))),
    ("float32", -9999.9, float(np.float32(-9999.9)), np.float32(-9999.9) * np.float32(1 - 2.0**-19)),
    ("float32", float(np.finfo(np.float32).min), float(np.finfo(np.float32).min), None),
    ("float64", 1e300, 1e300, 1e300 * (1 - 2.0**-19)),
    ("float32", math.nan, math.nan, None),
    ("float64", -math.inf, -math.inf, None),
]


@pytest.mark.parametrize(("dtype", "nodata", "stored", "beside"), NODATA)
def test_nodata_marks_invalid_pixels_and_no_valid_one(tmp_path, dtype, nodata, stored, beside):
    image, valid = noise(3, 330, 290, dtype=dtype), holes(330, 290)
    clash = np.zeros_like(valid)
    if beside is not None:
        clash[200:260, 3:9], clash[0, 289] = True, True
        image[1, clash] = nodata
    clash &= valid
    with rasterio.open(write(tmp_path / "o.tif", image, valid, nodata=nodata)) as file:
        assert file.nodata == stored or math.isnan(stored) and math.isnan(file.nodata)
        seen, masks = file.read(), file.read_masks()
    np.testing.assert_array_equal(masks > 0, np.broadcast_to(valid, masks.shape))
    np.testing.assert_array_equal(seen[:, ~valid], np.full_like(seen[:, ~valid], stored))
    if beside is not None:
        assert clash.sum() > 200 and (seen[1, clash] == np.dtype(dtype).type(beside)).all()
        image[1, clash] = seen[1, clash]
    np.testing.assert_array_equal(seen[:, valid], image[:, valid])


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("uint16", -9999), ("uint8", 256), ("int16", 0.5), ("uint16", math.nan), ("float32", 1e300)],
)
def test_nodata_that_the_type_cannot_hold_becomes_a_mask(tmp_path, dtype, nodata):
    image, valid = noise(2, 90, 80, dtype=dtype), holes(90, 80)
    with rasterio.open(write(tmp_path / "o.tif", image, valid, nodata=nodata)) as file:
        assert file.nodata is None and file.mask_flag_enums[0] == [MaskFlags.per_dataset]
        np.testing.assert_array_equal(file.dataset_mask() > 0, valid)


def test_a_mask_is_written_only_if_a_pixel_is_invalid_even_the_last(tmp_path):
    image, valid = noise(3, 1100, 600), np.ones((1100, 600), bool)
    with rasterio.open(write(tmp_path / "o.tif", image, valid)) as file:
        assert file.mask_flag_enums[0] == [MaskFlags.all_valid]
    valid[1099, 599] = False
    with rasterio.open(write(tmp_path / "o.tif", image, valid)) as file:
        assert file.mask_flag_enums[0] == [MaskFlags.per_dataset]
        np.testing.assert_array_equal(file.dataset_mask() > 0, valid)
        np.testing.assert_array_equal(file.read(), image)


@pytest.mark.parametrize(
    ("size", "factors"), [((255, 900), []), ((256, 300), [2]), ((511, 511), [2]), ((1030, 1024), [2, 4, 8])]
)
def test_overviews_go_down_to_less_than_256_px(tmp_path, size, factors):
    image = noise(3, *size)
    path = write(tmp_path / "o.tif", image)
    with rasterio.open(path) as file:
        assert [file.overviews(band) for band in (1, 2, 3)] == [factors] * 3
    for level, factor in enumerate(factors):
        with rasterio.open(path, overview_level=level) as file:
            assert file.shape == tuple(-(-side // factor) for side in size)
            assert file.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "2"


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("uint16", 0), ("uint16", 61), ("float32", -9999.0), ("float32", None), ("uint8", None)],
)
def test_overviews_average_valid_pixels_alone(tmp_path, dtype, nodata):
    image, valid = noise(2, 1200, 1024, dtype=dtype), holes(1200, 1024)
    image[:, ~valid] = 100
    path = write(tmp_path / "o.tif", image, valid, nodata=nodata)
    image = np.where(image == nodata, image + 1, image)
    total = np.where(valid, image, 0.0).reshape(2, 600, 2, 512, 2).sum((2, 4))
    number = valid.reshape(600, 2, 512, 2).sum((1, 3))
    alive = number > 0
    expected = total[:, alive] / number[alive]
    with rasterio.open(path, overview_level=0) as file:
        seen, masks = file.read(), file.read_masks()
    np.testing.assert_array_equal(masks > 0, np.broadcast_to(alive, masks.shape))
    # rounded, and one off where the average is NoData
    tolerance = 1e-4 if dtype == "float32" else 1.5 if nodata == 61 else 0.5
    np.testing.assert_allclose(seen[:, alive], expected, rtol=0, atol=tolerance)
    for level in (1, 2):
        with rasterio.open(path, overview_level=level) as file:
            seen, mask = file.read(), file.dataset_mask() > 0
        factor = 2 ** (level + 1)
        np.testing.assert_array_equal(mask, valid.reshape(1200 // factor, factor, -1, factor).any((1, 3)))
        # all values are 1 to 119
        assert seen[:, mask].min() > 0 and seen[:, mask].max() < 120


R, G, B, OTHER = ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize(
    ("bands", "colours"),
    [
        (("blue", "green", "red", "nir"), (B, G, R, OTHER)),
        (("red", "green", "blue", "nir"), (R, G, B, OTHER)),
        (("coastal", "blue", "green", "yellow", "red"), (OTHER, B, G, OTHER, R)),
        (("red", "green", "blue"), (R, G, B)),
        (("band_1", "band_2", "band_3"), None),
        (("band_1", "band_2", "band_3", "band_4"), None),
    ],
)
def test_bands_have_their_names_and_colours_and_none_is_alpha(tmp_path, dtype, bands, colours):
    path = write(tmp_path / "o.tif", noise(len(bands), 30, 20, dtype=dtype), bands=bands)
    with rasterio.open(path) as file:
        assert file.descriptions == bands
        assert colours is None or file.colorinterp == colours
        assert not {R, G, B, ColorInterp.alpha} & set(file.colorinterp) or colours
        assert file.mask_flag_enums[0] == [MaskFlags.all_valid]


def test_tags_say_what_the_work_was(tmp_path):
    tags = {"CLIPPAN_METHOD": "gsa", "CLIPPAN_NOTE": "a=b, 'c' <d> & ü"}
    with rasterio.open(write(tmp_path / "o.tif", noise(2, 30, 20), tags=tags)) as file:
        assert file.tags().items() >= tags.items()


COG_MASKS = [("uint16", 0), ("uint16", None), ("float32", -9999.0), ("int8", None)]


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize(("dtype", "nodata"), COG_MASKS)
def test_a_cloud_optimised_file_holds_the_same_and_begins_with_its_smallest_overview(tmp_path, dtype, nodata):
    image, valid = noise(3, 1100, 1030, dtype=dtype), holes(1100, 1030)
    plain = write(tmp_path / "o.tif", image, valid, nodata=nodata)
    (tmp_path / "cog").mkdir()
    path = write(tmp_path / "cog" / "o.tif", image, valid, nodata=nodata, driver="COG")
    same_content(path, plain)
    with rasterio.open(path) as file, rasterio.open(plain) as other:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.profile.items() >= {"tiled": True, "blockxsize": 256, "compress": "deflate"}.items()
        assert (file.mask_flag_enums, file.nodata) == (other.mask_flag_enums, other.nodata)
        assert file.overviews(1) == other.overviews(1) == [2, 4, 8]
        assert (file.crs, file.transform, file.descriptions) == (
            other.crs,
            other.transform,
            other.descriptions,
        )
    # all directories before all pixels, and the pixels of the smallest image first
    assert b"GDAL_STRUCTURAL_METADATA_SIZE" in path.read_bytes()[:64]
    starts = {}
    for number in range(1, 5 if nodata is not None else 9):
        with rasterio.open(f"GTIFF_DIR:{number}:{path}") as part:
            offsets = [
                int(found)
                for (row, column), _ in part.block_windows(1)
                if (found := part.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=1))
            ]
            starts[part.shape, part.dtypes[0] == "uint8"] = min(offsets)
    images = [starts[shape, False] for shape in sorted({shape for shape, mask in starts if not mask})]
    assert len(images) == 4 and images == sorted(images)


def test_blocks_of_a_cloud_optimised_file_are_compressed_once(tmp_path, monkeypatch):
    seen = []

    def watched(source: Path, *arguments) -> None:
        for level in ({}, {"overview_level": 0}):
            with rasterio.open(source, **level) as file:
                seen.append(file.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION"))
        copy_optimised(source, *arguments)

    monkeypatch.setattr("clippan_lib.sharpening.output.copy_optimised", watched)
    write(tmp_path / "o.tif", noise(3, 600, 520), driver="COG")
    assert seen == [None, None]


def test_a_cloud_optimised_copy_that_fails_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "o.tif"
    path.write_bytes(b"older")

    def full(source: Path, to: Path, *_) -> None:
        to.write_bytes(source.read_bytes()[:1000])
        raise rasterio.errors.RasterioIOError("no space left")

    monkeypatch.setattr("clippan_lib.sharpening.output.copy_optimised", full)
    with pytest.raises(OutputError, match=r"o\.tif: cannot be written \(no space left\); make room"):
        write(path, noise(2, 300, 300), driver="COG")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"older"]


@IDENTITY
def test_a_scene_without_georeference_stays_without(tmp_path):
    path = write(tmp_path / "o.tif", noise(2, 600, 20), crs=None, transform=Affine.identity())
    with rasterio.open(path) as file:
        assert file.crs is None and file.transform == Affine.identity()


def test_progress_counts_rows(tmp_path):
    told = []
    write(tmp_path / "o.tif", noise(2, 1100, 20), progress=lambda *now: told.append(now))
    assert told == [("writing", rows, 1100, {}) for rows in (300, 600, 900, 1100)]


@pytest.mark.parametrize("name", ["with space.tif", "ü!&?.tif", "no_suffix", "GTIFF_DIR:1:x.tif"])
def test_any_name_will_do(tmp_path, name):
    image = noise(2, 300, 300)
    with rasterio.open((write(tmp_path / name, image)).open("rb")) as file:
        np.testing.assert_array_equal(file.read(), image)


ROUNDED = [
    (
        "uint16",
        [65535.4, 65535.5, 70000, -3.2, -0.5, 0.5, 1.5, 2.5, 7.49],
        [65535, 65535, 65535, 0, 0, 0, 2, 2, 7],
    ),
    ("uint8", [254.5, 255.5, 256, -1], [254, 255, 255, 0]),
    ("int8", [-128.6, 127.5, -1.5, -2.5], [-128, 127, -2, -2]),
    ("int16", [-32769, 32768, -0.6], [-32768, 32767, -1]),
    ("int32", [3e9, -3e9, 16777216, -2.5], [2**31 - 1, -(2**31), 16777216, -2]),
    ("uint32", [5e9, -1, 4294967040.0], [2**32 - 1, 0, 4294967040]),
    ("float32", [-3.25, 1e30, 0.1], [-3.25, np.float32(1e30), np.float32(0.1)]),
    ("float64", [-3.25, 1e30, 0.1], [-3.25, np.float32(1e30), np.float32(0.1)]),
]


@pytest.mark.parametrize(("dtype", "values", "stored"), ROUNDED)
def test_values_are_rounded_and_clipped_to_the_type(dtype, values, stored):
    image = torch.tensor(values).reshape(1, 1, 1, -1).expand(1, 2, 3, -1)
    seen = to_dtype(image, dtype)
    assert seen.dtype == dtype and seen.shape == (2, 3, len(values))
    assert seen[1, 2].tolist() == stored


def test_double_precision_is_kept():
    image = torch.tensor([[[[0.1, 123456789.4]]]], dtype=torch.float64)
    assert to_dtype(image, "float64").tolist() == [[[0.1, 123456789.4]]]
    assert to_dtype(image, "int32").tolist() == [[[0, 123456789]]]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_values_that_are_no_numbers_are_refused(dtype, value):
    image = torch.zeros(1, 2, 3, 4)
    image[0, 1, :2, 3] = value
    with pytest.raises(ValueError, match="2 fused values are NaN or infinite"):
        to_dtype(image, dtype)


@pytest.mark.parametrize("dtype", ["int64", "uint64", "float16", "bool", "complex64"])
def test_types_that_cannot_be_written_are_refused_by_name(tmp_path, dtype):
    with pytest.raises(ValueError, match=f"'{dtype}' cannot be written; choose one of uint8, int8, uint16"):
        to_dtype(torch.zeros(1, 1, 2, 2), dtype)
    with pytest.raises(ValueError, match=f"'{dtype}' cannot be written"):
        write(tmp_path / "o.tif", noise(1, 2, 2), dtype=dtype)


def changed(tiles: list[SceneTile], index: int, **what) -> list[SceneTile]:
    return [SceneTile(**vars(tile) | what) if n == index else tile for n, tile in enumerate(tiles)]


WRONG_TILES = {
    "out of order": (
        lambda tiles: [tiles[1], tiles[0], *tiles[2:]],
        r"at \(0, 30\) is not the one at \(0, 0\)",
    ),
    "one missing": (lambda tiles: tiles[:3] + tiles[4:], r"at \(40, 30\) is not the one at \(40, 0\)"),
    "the last missing": (lambda tiles: tiles[:-1], "tiles end at row 40, column 60 of 70 x 80 px"),
    "none": (lambda tiles: [], "tiles end at row 0, column 0"),
    "one too many": (lambda tiles: [*tiles, SceneTile(70, 0, noise(2, 5, 80), None)], r"\(70, 0\)"),
    "lower than its row": (
        lambda tiles: changed(tiles, 1, image=noise(2, 39, 30)),
        r"shape \(2, 39, 30\), uint16, at \(0, 30\)",
    ),
    "beyond the edge": (lambda tiles: changed(tiles, 2, image=noise(2, 40, 21)), r"\(2, 40, 21\)"),
    "other bands": (lambda tiles: changed(tiles, 0, image=noise(3, 40, 30)), r"scene of shape \(2, 70, 80\)"),
    "other type": (lambda tiles: changed(tiles, 0, image=noise(2, 40, 30, dtype=np.int16)), "int16, at"),
    "empty": (lambda tiles: [*tiles, SceneTile(70, 0, noise(2, 0, 80), None)], r"\(2, 0, 80\)"),
}


@pytest.mark.parametrize("how", WRONG_TILES)
def test_tiles_that_do_not_make_up_the_scene_are_refused(tmp_path, how):
    image = noise(2, 70, 80)
    spoil, said = WRONG_TILES[how]
    with pytest.raises(ValueError, match=said):
        write(tmp_path / "o.tif", image, tiles=spoil(list(cut(image, None, 40, 30))))
    assert not [*tmp_path.iterdir()]


def breaking(image: np.ndarray, error: BaseException) -> Iterator[SceneTile]:
    yield from [*cut(image, None, 600, 300)][:3]
    raise error


@pytest.mark.parametrize(
    "error", [RuntimeError("tile 3"), FileNotFoundError("tile 3"), KeyboardInterrupt("tile 3")]
)
def test_a_tile_that_fails_leaves_the_folder_as_it_was(tmp_path, error):
    path, image = tmp_path / "o.tif", noise(2, 1800, 600)
    for before in (None, b"older"):
        if before:
            path.write_bytes(before)
        with pytest.raises(type(error), match="tile 3"):
            write(path, image, tiles=breaking(image, error))
        assert [file.read_bytes() for file in tmp_path.iterdir()] == ([before] if before else [])


def kill_while_writing(path: Path) -> None:
    image = noise(2, 1800, 600)

    def tiles() -> Iterator[SceneTile]:
        yield from [*cut(image, None, 600, 600)][:2]
        os.kill(os.getpid(), signal.SIGKILL)

    write(path, image, tiles=tiles())


def test_a_killed_writer_leaves_the_older_file_and_the_next_one_clears_up(tmp_path):
    path = write(tmp_path / "o.tif", noise(2, 600, 600))
    before = path.read_bytes()
    writer = SPAWN.Process(target=kill_while_writing, args=(path,))
    writer.start()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL and path.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == [f".o.tif.{writer.pid}.part", "o.tif"]
    write(path, noise(2, 300, 300))


def test_what_belongs_to_the_older_file_goes_and_other_files_stay(tmp_path):
    path = tmp_path / "o.tif"
    for name in (
        "o.tif.aux.xml",
        "o.tif.ovr",
        "o.tif.msk",
        "o.clippan.json",
        ".o.tif.7.part",
        ".o.tif.7.cog.part",
    ):
        (tmp_path / name).write_text("of the older file")
    write(path, noise(2, 300, 300))
    others = ["o.json", "p.clippan.json", ".o.tif.x.tif.7.part", ".o.tif.tiles", "O.tif.aux.xml"]
    for name in others:
        (tmp_path / name).write_text("of another")
    with pytest.raises(AssertionError):
        write(path, noise(2, 300, 300))
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*others, "o.tif"])


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(
        OutputError, match=r"gone/o\.tif: cannot be written .*No such file.* in a folder that can"
    ):
        write(tmp_path / "gone" / "o.tif", noise(2, 30, 30))


@pytest.mark.skipif(
    not Path("/proc/self").is_dir(), reason="no folder is known in which not even root may write"
)
def test_a_folder_in_which_nobody_may_write_is_refused():
    with pytest.raises(OutputError, match=r"/proc/self/o\.tif: cannot be written"):
        write(Path("/proc/self/o.tif"), noise(2, 30, 30))


def test_a_folder_under_the_files_name_is_refused_and_stays(tmp_path):
    (tmp_path / "o.tif").mkdir()
    with pytest.raises(OutputError, match=r"o\.tif: cannot be written .*[Dd]irectory"):
        write(tmp_path / "o.tif", noise(2, 30, 30))
    assert [file.is_dir() for file in tmp_path.iterdir()] == [True]


def fill_disks(folder: Path, masked: bool, limits: list[int], outcomes) -> None:
    image = noise(2, 1100, 1030)
    valid = holes(1100, 1030) if masked else None
    for limit in limits:
        path = folder / f"{limit}.tif"
        path.write_bytes(b"older")
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        try:
            write_scene(
                path,
                cut(image, valid, 300, 450),
                height=1100,
                width=1030,
                bands=("a", "b"),
                dtype="uint16",
                nodata=None,
                crs=UTM,
                transform=grid(),
                tags={},
            )
        except OutputError as error:
            outcomes.put((limit, str(error)))
        else:
            outcomes.put((limit, None))


@pytest.mark.skipif(sys.platform == "win32", reason="sizes of files cannot be limited")
@pytest.mark.parametrize("masked", [False, True])
def test_a_disk_that_is_full_at_any_moment_is_told(tmp_path, masked):
    image = noise(2, 1100, 1030)
    size = write(tmp_path / "o.tif", image, holes(1100, 1030) if masked else None).stat().st_size
    # before the first block, while GDAL's threads compress, at closing, in overviews, in the directories
    limits = [20, 5000, *range(size // 9, size, size // 9), *range(size - 4500, size, 900), 2 * size]
    outcomes = SPAWN.Queue()
    writer = SPAWN.Process(target=fill_disks, args=(tmp_path, masked, limits, outcomes))
    writer.start()
    said = dict(outcomes.get(timeout=60) for _ in limits)
    writer.join()
    # how much GDAL writes differs by some bytes from time to time: just below the size all may have fitted
    whole = [limit for limit, message in said.items() if message is None]
    assert 2 * size in whole and min(whole) > size - 2000
    for limit in whole:
        same_content(tmp_path / f"{limit}.tif", tmp_path / "o.tif")
    for limit in said.keys() - whole:
        assert f"{limit}.tif: cannot be written (" in said[limit] and "make room on its disk" in said[limit]
        assert (tmp_path / f"{limit}.tif").read_bytes() == b"older"
    assert not [file for file in tmp_path.iterdir() if file.suffix != ".tif"]


def same_content(path: Path, expected: Path) -> None:
    for options in ({}, {"overview_level": 0}, {"overview_level": 1}, {"overview_level": 2}):
        with rasterio.open(path, **options) as one, rasterio.open(expected, **options) as other:
            np.testing.assert_array_equal(one.read(), other.read())
            np.testing.assert_array_equal(one.dataset_mask(), other.dataset_mask())


def test_a_block_that_gdal_lost_is_told(tmp_path, monkeypatch):
    def item(file, name: str, domain: str, bidx: int) -> str | None:
        return None if name == "BLOCK_SIZE_1_0" else "0"

    monkeypatch.setattr(rasterio.DatasetReader, "get_tag_item", item)
    with pytest.raises(OutputError, match="block 0, 1 of image 1 of 1 was lost"):
        write(tmp_path / "o.tif", noise(2, 300, 600))
    assert not [*tmp_path.iterdir()]
