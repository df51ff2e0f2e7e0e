"""Pixels without data that no tag declares: found where they are, and land, water and saturation left as they are."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from layouts import SHARES, manifest
from rasterio.enums import ColorInterp, Resampling
from rasters import grid, save
from scipy.ndimage import gaussian_filter

from clippan_lib import cli
from clippan_lib.data import open_dataset
from clippan_lib.data.pair import ScenePair, open_pair
from clippan_lib.data.pair.raster import Raster
from clippan_lib.data.pair.sample import take_sample
from clippan_lib.errors import DataError
from clippan_lib.sharpening import plan_job, sharpen

ALL = slice(None)
KEEPS = "; --nodata none keeps it"


def land(height: int = 60, width: int = 84, ratio: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """MS of three bands and PAN, float64, 300 to 3000 or so."""
    rng = np.random.default_rng(5)
    fields = gaussian_filter(rng.normal(size=(3, ratio * height, ratio * width)), (0, 9, 9))
    fields = 1500 + 9000 * (0.3 * fields + 0.7 * fields[:1]) + rng.normal(0, 20, fields.shape)
    ms = fields.clip(300).reshape(3, height, ratio, width, ratio).mean((2, 4))
    return ms, fields.clip(300).mean(0, keepdims=True)


def turned(height: int, width: int, half: float = 0.4) -> np.ndarray:
    """What lies outside of a turned frame."""
    row, column = (np.mgrid[:height, :width].T / (height, width) - 0.5).T
    return np.maximum(abs(row + 0.2 * column), abs(column - 0.2 * row)) > half


def lake(height: int, width: int) -> np.ndarray:
    """A fourth of the scene, at its left and lower border."""
    return np.add.outer(np.arange(height)[::-1] / height, np.arange(width) / width) < 0.7


def fine(hole: np.ndarray, ratio: int = 4) -> np.ndarray:
    return hole.repeat(ratio, 0).repeat(ratio, 1)


def put(image: np.ndarray, hole: np.ndarray, value: float) -> np.ndarray:
    return np.where(hole, np.array(value, image.dtype), image)


def opened(folder: Path, ms: np.ndarray, pan: np.ndarray, tags: dict | None = None, **opening) -> ScenePair:
    tags = {"photometric": "minisblack"} | (tags or {})
    return open_pair(
        save(folder / "ms.tif", ms, grid(4), **tags), save(folder / "pan.tif", pan, grid(), **tags), **opening
    )


def as_type(dtype: str) -> list[np.ndarray]:
    if dtype == "uint8":
        return [(image / 12).clip(1, 255).astype(np.uint8) for image in land()]
    return [(image / 1e4 if dtype == "float32" else image).astype(dtype) for image in land()]


FILLS = [
    ("uint8", 0, ", up to the border"),
    ("uint16", 0, ", up to the border"),
    ("int16", 0, ", up to the border"),
    ("float32", 0, ", up to the border"),
    ("float32", -0.02, ", up to the border"),
    ("int16", -32768, " and lies far outside of all other values"),
    ("int16", -9999, " and lies far outside of all other values"),
    ("float32", -9999, " and lies far outside of all other values"),
    ("float32", 9999, " and lies far outside of all other values"),
]


@pytest.mark.parametrize(("dtype", "value", "how"), FILLS)
def test_a_collar_that_no_tag_declares_is_said_and_gives_what_a_tag_gives(tmp_path, dtype, value, how):
    ms, pan = as_type(dtype)
    hole = turned(*ms.shape[1:])
    ms, pan = put(ms, hole, value), put(pan, fine(hole), value)
    found = opened(tmp_path, ms, pan)
    declared = opened(tmp_path, ms, pan, {"nodata": value})
    share = f"{hole.mean():.0%}"
    assert found.remarks == (
        f"{value} is taken for NoData: it fills {share} of MS and {share} of PAN{how}{KEEPS}",
    )
    assert declared.remarks == () and found.nodata == pytest.approx(declared.nodata)
    for ours, tagged in zip(
        vars(found.read(ALL, ALL)).values(), vars(declared.read(ALL, ALL)).values(), strict=True
    ):
        assert ours == tagged if isinstance(ours, tuple) else torch.equal(ours, tagged)
    assert not found.read(ALL, ALL).valid.all()
    refused = opened(tmp_path, ms, pan, nodata="none")
    assert refused.remarks == () and refused.nodata is None and refused.read(ALL, ALL).valid.all()


@pytest.mark.parametrize("value", [1e20, -3.4028234663852886e38])
def test_values_whose_squares_overflow_never_are_data(tmp_path, value):
    ms, pan = as_type("float32")
    hole = turned(*ms.shape[1:])
    found = opened(tmp_path, put(ms, hole, value), put(pan, fine(hole), value))
    assert found.remarks[0].startswith(f"{value:.6g} is taken for NoData: it fills ")
    assert found.nodata == np.float32(value)
    for nodata in (None, "none", -5.0):
        window = opened(tmp_path, put(ms, hole, value), put(pan, fine(hole), value), nodata=nodata).read(
            ALL, ALL
        )
        np.testing.assert_array_equal(window.valid[0, 0], ~fine(hole))
        assert window.lrms.abs().max() < 2 and window.pan.abs().max() < 2


def test_float64_beyond_what_float32_holds_is_no_data(tmp_path):
    ms, pan = land()
    ms[:, 3, 4] = 1e300
    assert np.argwhere(~opened(tmp_path, ms, pan).read(ALL, ALL).lrms_valid[0, 0].numpy()).tolist() == [
        [3, 4]
    ]


HOLES = {
    "both, inside": ("inner", "inner"),
    "only MS, inside": ("inner", None),
    "only PAN, inside": (None, "inner"),
    "only MS, to the border": ("outer", None),
    "only PAN, to the border": (None, "outer"),
    "a masked sea": ("lake", "lake"),
    "one line": ("line", "line"),
}


@pytest.mark.parametrize("name", HOLES)
def test_gaps_of_one_file_or_both_are_found_in_those_that_have_them(tmp_path, name):
    ms, pan = as_type("uint16")
    size = ms.shape[1:]
    holes = {
        "outer": turned(*size),
        "lake": lake(*size),
        "inner": np.zeros(size, bool),
        "line": np.zeros(size, bool),
    }
    holes["inner"][20:40, 30:60], holes["line"][:, -1] = True, True
    none = np.zeros(size, bool)
    of_ms, of_pan = (holes.get(hole, none) for hole in HOLES[name])
    found = opened(tmp_path, put(ms, of_ms, 0), put(pan, fine(of_pan), 0))
    window = found.read(ALL, ALL)
    np.testing.assert_array_equal(window.lrms_valid[0, 0], ~of_ms)
    np.testing.assert_array_equal(window.pan_valid[0, 0], ~fine(of_pan))
    assert len(found.remarks) == 1 and found.nodata == (0 if of_ms.any() else None)
    assert ("of MS" in found.remarks[0], "of PAN" in found.remarks[0]) == (of_ms.any(), of_pan.any())


def test_bands_may_have_fills_of_their_own(tmp_path):
    ms, pan = as_type("float32")
    hole = turned(*ms.shape[1:])
    for band, value in zip(ms, (-0.01, -0.02, -0.03), strict=True):
        band[hole] = value
    found = opened(tmp_path, ms, pan)
    assert found.nodata is None and found.remarks[0].startswith("(-0.01, -0.02, -0.03) is taken for NoData")
    np.testing.assert_array_equal(found.read(ALL, ALL).lrms_valid[0, 0], ~hole)


def test_a_collar_is_seen_beside_what_the_file_declares(tmp_path):
    ms, pan = as_type("float32")
    hole, gap = turned(*ms.shape[1:]), np.zeros(ms.shape[1:], bool)
    gap[25:35, 40:50] = True
    images = [
        put(put(image, hole_of(gap), -1), hole_of(hole), 0)
        for image, hole_of in ((ms, np.array), (pan, fine))
    ]
    found = opened(tmp_path, *images, {"nodata": -1})
    assert found.nodata == -1 and found.remarks[0].startswith("0 is taken")
    np.testing.assert_array_equal(found.read(ALL, ALL).valid[0, 0], ~fine(hole | gap))


def test_a_far_value_in_one_band_is_enough_and_a_common_one_must_be_in_all(tmp_path):
    ms, pan = as_type("float32")
    ms[1, 5:9, 5:9], ms[2, 20:24, 20:24] = -9999, 0
    found = opened(tmp_path, ms, pan)
    assert found.remarks[0].startswith("-9999 is taken for NoData: it fills less than 1% of MS and lies far")
    assert found.nodata == -9999
    valid = found.read(ALL, ALL).lrms_valid[0, 0]
    assert not valid[5:9, 5:9].any() and valid.sum() == valid.numel() - 16
    given = opened(tmp_path, ms, pan, nodata=-9999.0)
    assert torch.equal(given.read(ALL, ALL).lrms_valid[0, 0], valid) and given.nodata == -9999
    assert opened(tmp_path, ms, pan, nodata=0.0).read(ALL, ALL).lrms_valid.all()


def dark_water(photons: float) -> list[np.ndarray]:
    """A lake in which few pixels differ from 0."""
    ms, pan = as_type("uint16")
    rng = np.random.default_rng(1)
    for image, hole in ((ms, lake(*ms.shape[1:])), (pan, fine(lake(*ms.shape[1:])))):
        image[:, hole] = rng.poisson(photons, (len(image), int(hole.sum())))
    return [ms, pan]


def constant_lake(value: int) -> list[np.ndarray]:
    ms, pan = as_type("uint16")
    hole = lake(*ms.shape[1:])
    return [put(ms, hole, value), put(pan, fine(hole), value)]


def map_of_fields() -> list[np.ndarray]:
    """Sixteen fields, each of one colour; that of the first is black."""
    fields = np.kron(np.arange(16).reshape(4, 4), np.ones((15, 21), int)).astype(np.uint16)
    return [np.stack([fields, 2 * fields, 3 * fields]), fine(fields)[None]]


def clipped_band() -> list[np.ndarray]:
    """Of over-corrected water one band is 0 throughout."""
    ms, pan = as_type("float32")
    ms[2][lake(*ms.shape[1:])] = 0
    return [ms, pan]


def clouds(value: int, dtype: str) -> list[np.ndarray]:
    ms, pan = as_type(dtype)
    hole = turned(*ms.shape[1:], 0.45)
    return [put(ms, hole, value), put(pan, fine(hole), value)]


def stretched(percent: float, levels: int) -> list[np.ndarray]:
    """As programs store it for display: from one percentile to the other, in so many levels."""
    found = []
    for image in land():
        low, high = np.percentile(image, (percent, 100 - percent), (1, 2), keepdims=True)
        unit = ((image - low) / (high - low)).clip(0, 1)
        found.append((np.rint(unit * (levels - 1)) * (255 // (levels - 1))).astype(np.uint8))
    return found


def dark_in_pan_alone() -> list[np.ndarray]:
    """A lake that is 0 in PAN, and dark in MS."""
    ms, pan = as_type("uint16")
    hole = lake(*ms.shape[1:])
    return [np.where(hole, ms // 10, ms), put(pan, fine(hole), 0)]


def flat(value: int) -> list[np.ndarray]:
    return [np.full_like(image, value) for image in as_type("uint16")]


def one_flat_band() -> list[np.ndarray]:
    ms, pan = as_type("uint16")
    ms[1] = 0
    return [ms, pan]


def hot() -> list[np.ndarray]:
    """A few pixels of a broken detector."""
    ms, pan = as_type("uint16")
    ms[0, 4, 4:6], pan[0, 90, :] = 4095, 16383
    return [ms, pan]


LAND = {
    "dark water": lambda: dark_water(0.7),
    "darker water": lambda: dark_water(0.05),
    "a lake of one level": lambda: constant_lake(250),
    "a map": map_of_fields,
    "one band clipped to 0": clipped_band,
    "clouds of 11 bits": lambda: clouds(2047, "uint16"),
    "clouds of 16 bits": lambda: clouds(65535, "uint16"),
    "clouds of 8 bits": lambda: clouds(255, "uint8"),
    "clouds of reflectance": lambda: clouds(1, "float32"),
    "stretched by 2 %": lambda: stretched(2, 256),
    "stretched by 10 %": lambda: stretched(10, 256),
    "four levels": lambda: stretched(2, 4),
    "sixteen levels": lambda: stretched(2, 16),
    "two levels": lambda: stretched(0, 2),
    "a lake that PAN alone has as 0": dark_in_pan_alone,
    "nothing but 0": lambda: flat(0),
    "nothing but 7": lambda: flat(7),
    "one band of 0": one_flat_band,
    "hot pixels": hot,
    "land with negative values": lambda: [image / 1e4 - 0.1 for image in land()],
    "decibels": lambda: [10 * np.log10(image / 1e4) for image in land()],
}


@pytest.mark.parametrize("name", LAND)
@pytest.mark.parametrize("side", [None, 16])
def test_what_land_looks_like_is_taken_for_data(tmp_path, name, side):
    ms, pan = LAND[name]()
    if side:
        ms, pan = ms[:, :side, :side], pan[:, : 4 * side, : 4 * side]
    seen = opened(tmp_path, ms, pan)
    assert seen.remarks == () and seen.nodata is None and seen.read(ALL, ALL).valid.all()


@pytest.mark.parametrize("name", ["clouds of 11 bits", "stretched by 2 %"])
def test_saturation_and_few_levels_do_not_hide_a_collar(tmp_path, name):
    ms, pan = LAND[name]()
    hole = turned(*ms.shape[1:], 0.35)
    found = opened(tmp_path, put(ms, hole, 0), put(pan, fine(hole), 0))
    assert "of MS and" in found.remarks[0] and not found.read(ALL, ALL).lrms_valid[0, 0].numpy()[hole].any()


def test_real_scenes_hold_no_undeclared_fill(shared):
    for folder in sorted((shared / "scenes").iterdir()):
        if (folder / "pan.tif").is_file():
            seen = open_pair(folder / "ms.tif", folder / "pan.tif")
            declared = {"l7_marburg": -32768, "l8_marburg": -32768, "cbers4a_forest": 0}.get(folder.name)
            assert (folder.name, seen.remarks, seen.nodata) == (folder.name, (), declared)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_never_is_data_is_refused(tmp_path, value):
    with pytest.raises(
        DataError, match=f"nodata is {value}: NaN and infinite values never are data; give a number"
    ):
        opened(tmp_path, *as_type("uint16"), nodata=value)


def test_copies_in_other_processes_know_the_fill(tmp_path):
    ms, pan = as_type("uint16")
    hole = turned(*ms.shape[1:])
    found = opened(tmp_path, put(ms, hole, 0), put(pan, fine(hole), 0))
    copy = pickle.loads(pickle.dumps(found))
    assert (
        torch.equal(copy.read(ALL, ALL).valid, found.read(ALL, ALL).valid) and copy.remarks == found.remarks
    )


LAYOUTS = [
    {"tiled": True, "blockxsize": 256, "blockysize": 128, "compress": "deflate"},
    {"blockysize": 1},
    {"blockysize": 2000},
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_large_file_is_sampled_at_its_stored_values_ends_included(tmp_path, layout):
    rows, columns = np.mgrid[:3000, :2100]
    image = np.stack([rows, columns, rows % 2]).astype(np.uint16)
    path = save(tmp_path / "o.tif", image, grid(), **layout)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4, 8], Resampling.average)
    sample = take_sample(Raster(path, (1, 2, 3), (), True, (3000, 2100)))
    assert sample.valid.all() and sample.valid.size < 1.3e6
    for at, last, side in ((sample.rows, 2999, 0), (sample.columns, 2099, 1)):
        assert (at[0], at[-1]) == (0, last) and (np.diff(at) > 0).all() and 250 <= len(at) < 1300
        stored = sample.image[side] if side else sample.image[side].T
        assert (stored == at).all()
    assert set(np.unique(sample.image[2])) == {0, 1}


def test_what_is_corrupt_is_left_to_those_who_read_it(tmp_path):
    image = np.random.default_rng(0).integers(1, 9, (1, 2048, 1500)).astype(np.uint16)
    path = save(tmp_path / "o.tif", image, grid(), tiled=True, blockxsize=256, blockysize=256)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    sample = take_sample(Raster(path, (1,), (), True, (2048, 1500)))
    assert sample.valid[0].all() and not sample.valid[-1].any()


def test_the_output_inside_an_undeclared_collar_is_that_of_a_declared_one(tmp_path, capsys):
    ms, pan = as_type("uint16")
    hole = turned(*ms.shape[1:])
    images = []
    for name, nodata in (("found", None), ("declared", 0)):
        paths = (
            save(tmp_path / f"ms_{name}.tif", put(ms, hole, 0), grid(4), nodata=nodata),
            save(tmp_path / f"pan_{name}.tif", put(pan, fine(hole), 0), grid(), nodata=nodata),
        )
        out = tmp_path / f"{name}.tif"
        line = ["sharpen", "--ms", paths[0], "--pan", paths[1], "--out", out, "--tile", "128"]
        assert cli.main([str(word) for word in line]) == 0
        assert ("0 is taken for NoData" in capsys.readouterr().err) == (nodata is None)
        with rasterio.open(out) as file:
            assert file.nodata == 0
            images.append(file.read())
    assert np.array_equal(*images) and (images[0][0] == 0).mean() == pytest.approx(hole.mean(), abs=0.01)


def test_the_command_and_manifests_take_a_value_or_none(tmp_path, capsys):
    ms, pan = as_type("uint16")
    hole = np.zeros(ms.shape[1:], bool)
    hole[20:22, 30:32] = True
    for path, image, transform in (("ms", put(ms, hole, 9), grid(4)), ("pan", pan, grid())):
        save(tmp_path / f"{path}.tif", image, transform)
    files = ["--ms", str(tmp_path / "ms.tif"), "--pan", str(tmp_path / "pan.tif")]
    assert cli.main(["sharpen", *files, "--out", str(tmp_path / "o.tif"), "--nodata", "9"]) == 0
    with rasterio.open(tmp_path / "o.tif") as out:
        assert out.nodata == 9 and (out.read(1, masked=True).mask == fine(hole)).all()
    assert cli.main(["sharpen", *files, "--out", str(tmp_path / "o.tif"), "--nodata", "nan"]) == 2
    assert "nodata is nan" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["sharpen", *files, "--out", "o.tif", "--nodata", "nought"])
    assert "nought: give a number, or none" in capsys.readouterr().err
    source = {"kind": "geotiff", "ms": "ms.tif", "pan": "pan.tif", "bands": ("blue", "green", "red")}
    for given, invalid in ((9, 4), ("none", 0), (None, 0)):
        described = manifest(
            source | {"nodata": given}, split={**SHARES, "train": 1.0, "val": 0.0, "test": 0.0}
        )
        dataset = open_dataset(described, tmp_path)
        assert (~dataset._reader.pair.read(ALL, ALL).lrms_valid).sum() == invalid


def masked_by(kind: str, folder: Path, name: str, image: np.ndarray, hole: np.ndarray, transform) -> Path:
    """A file that says in its own way where there is no data; the values there are land's."""
    path, mask = folder / name, np.where(hole, 0, 255).astype(np.uint8)
    options = {"photometric": "minisblack"}
    if kind == "alpha":
        # partly transparent pixels are valid
        feathered = np.arange(hole.size).reshape(hole.shape) % 3 == 0
        alpha = np.where(
            hole, 0, np.where(feathered, np.arange(hole.size).reshape(hole.shape) % 255 + 1, 255)
        )
        meanings = [ColorInterp.undefined] * len(image) + [ColorInterp.alpha]
        image = np.concatenate([image, alpha[None].astype(image.dtype)])
        return save(path, image, transform, meanings=meanings, **options)
    if kind == "nodata per band":
        image = image.copy()
        for number, band in enumerate(image):
            band[hole] = 40001 + number
        plain = save(folder / f"plain_{name}", image, transform, **options)
        with rasterio.open(plain) as file:
            bands = "".join(
                f'<VRTRasterBand dataType="UInt16" band="{n}"><NoDataValue>{40000 + n}</NoDataValue><SimpleSource>'
                f'<SourceFilename relativeToVRT="1">{plain.name}</SourceFilename><SourceBand>{n}</SourceBand>'
                "</SimpleSource></VRTRasterBand>"
                for n in file.indexes
            )
            where = ", ".join(map(repr, file.transform.to_gdal()))
            text = f'<VRTDataset rasterXSize="{file.width}" rasterYSize="{file.height}"><SRS>{file.crs.to_wkt()}</SRS>'
            path.with_suffix(".vrt").write_text(
                f"{text}<GeoTransform>{where}</GeoTransform>{bands}</VRTDataset>"
            )
        return path.with_suffix(".vrt")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=kind == "internal mask"):
        save(path, image, transform, mask=mask, **options)
    assert path.with_name(f"{name}.msk").exists() == (kind == "mask beside the file")
    return path


KINDS = ["alpha", "nodata per band", "internal mask", "mask beside the file"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_pixel_is_valid_where_pan_is_and_the_ms_pixel_that_covers_it(tmp_path, kind):
    ms, pan = as_type("uint16")
    of_ms, of_pan = np.zeros(ms.shape[1:], bool), np.zeros(pan.shape[1:], bool)
    of_ms[10:13, 20:22], of_ms[:, 80:], of_pan[100:103, 7:20] = True, True, True
    paths = (
        masked_by(kind, tmp_path, "ms.tif", ms, of_ms, grid(4)),
        masked_by(kind, tmp_path, "pan.tif", pan, of_pan, grid()),
    )
    seen = open_pair(*paths)
    expected = ~(fine(of_ms) | of_pan)
    np.testing.assert_array_equal(seen.read(ALL, ALL).valid[0, 0], expected)
    assert seen.remarks == () and seen.nodata is None
    sharpen(plan_job(*paths, "exp"), tmp_path / "o.tif")
    with rasterio.open(tmp_path / "o.tif") as out:
        np.testing.assert_array_equal(out.dataset_mask() > 0, expected)
