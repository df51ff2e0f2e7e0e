"""What the files say of their values and of their place is true of the output as well, whatever its format."""

import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.rpc import RPC
from rasters import grid, noise, save, stacked

from clippan_lib import __version__
from clippan_lib.data.pair import open_pair
from clippan_lib.data.pair.carried import common_dtype, common_nodata
from clippan_lib.data.synthetic import render
from clippan_lib.errors import DataError
from clippan_lib.fusion import CLASSICAL, STACK, get_method
from clippan_lib.fusion.registry import BANDWISE
from clippan_lib.sensors import get_sensor
from clippan_lib.sharpening import plan_job, sharpen
from clippan_lib.sharpening.job import ANY_OFFSET

SIDE = 24
IDENTITY = pytest.mark.filterwarnings("ignore:.*(identity|no geotransform)")
UTM = CRS.from_epsg(32632)
DRIVERS = pytest.mark.parametrize("driver", ["GTiff", "COG"])
C = ColorInterp


def files(folder: Path, bands: int = 4, at=(0.0, 0.0), dtype=np.uint16, **options) -> tuple[Path, Path]:
    """MS and PAN; MS begins at these PAN pixels."""
    return (
        save(folder / "ms.tif", noise(bands, SIDE, SIDE, dtype=dtype), grid(4, *at), **options),
        save(folder / "pan.tif", noise(1, 4 * SIDE, 4 * SIDE, dtype=dtype, seed=1), grid()),
    )


def fused(paths: tuple[Path, Path], driver="GTiff", method="exp", **options) -> Path:
    out = paths[0].with_name("o.tif")
    sharpen(plan_job(*paths, method, tile=64, **options), out, driver=driver)
    return out


@DRIVERS
def test_each_band_keeps_what_ms_says_of_it_and_the_file_what_ms_says_of_the_scene(tmp_path, driver):
    paths = files(tmp_path, nodata=0)
    with rasterio.open(paths[0], "r+") as ms:
        ms.scales, ms.offsets = (0.5, 1.0, 2.75e-5, 4.0), (0.0, 7.0, -0.2, 0.0)
        ms.units = ("W", "", "reflectance", "µm")
        ms.descriptions = ("B-2 (490 nm)", "ignored", "Rot, größer", "x")
        ms.update_tags(SENSOR="moon", STATISTICS_NOTE="no", NODATA_VALUES="0 0 0 0", CLIPPAN_SHIFT="1 1")
        ms.update_tags(ns="IMAGERY", CLOUDCOVER="3")
        ms.update_tags(ns="OUR DOMAIN", key="value")
        ms.update_tags(1, wavelength="490", wavelength_units="Nanometers", STATISTICS_MEAN="60")
        ms.update_tags(3, ns="IMAGERY", CENTRAL_WAVELENGTH_UM="0.65")
    with rasterio.open(paths[1], "r+") as pan:
        pan.scales, pan.units = (3.0,), ("PAN's",)
        pan.update_tags(OF_PAN="1")
    with rasterio.open(fused(paths, driver, bands=(3, 1))) as out:
        assert (out.scales, out.offsets) == ((2.75e-5, 0.5), (-0.2, 0.0))
        assert (out.units, out.descriptions) == (("reflectance", "W"), ("Rot, größer", "B-2 (490 nm)"))
        assert out.nodata == 0 and out.driver == "GTiff"
        own = {"CLIPPAN_METHOD": "exp", "CLIPPAN_VERSION": __version__}
        kept = {key: value for key, value in out.tags().items() if not key.startswith("OVR_")}
        assert kept == {"SENSOR": "moon", "AREA_OR_POINT": "Area"} | own
        assert out.tags(ns="IMAGERY") == {"CLOUDCOVER": "3"} and out.tags(ns="OUR DOMAIN") == {"key": "value"}
        assert out.tags(2) == {"wavelength": "490", "wavelength_units": "Nanometers"} and out.tags(1) == {}
        assert out.tags(1, ns="IMAGERY") == {"CENTRAL_WAVELENGTH_UM": "0.65"}


@DRIVERS
@pytest.mark.parametrize("meaning", ["Area", "Point"])
def test_coordinates_are_those_of_pan_whether_pixels_are_areas_or_points(tmp_path, driver, meaning):
    paths = files(tmp_path, at=(8, 12))
    for path in paths:
        with rasterio.open(path, "r+") as file:
            file.update_tags(AREA_OR_POINT=meaning)
    with rasterio.open(fused(paths, driver)) as out, rasterio.open(paths[1]) as pan:
        assert out.tags()["AREA_OR_POINT"] == meaning
        assert out.xy(0, 0) == pan.xy(8, 12) and out.shape == (88, 84)
        assert (out.bounds.right, out.bounds.bottom) == (pan.bounds.right, pan.bounds.bottom)


RGBN = ("Red", "Green", "Blue", "NIR")
COLOURS = [
    # of MS, of the output, and what the bands are described as
    ((C.blue, C.green, C.red, C.nir), (C.blue, C.green, C.red, C.nir), ()),
    ((C.coastal, C.rededge, C.swir, C.pan), (C.coastal, C.rededge, C.swir, C.pan), ()),
    ((C.gray, C.undefined, C.undefined, C.undefined), (C.red, C.green, C.blue, C.undefined), RGBN),
    ((C.nir, C.undefined, C.undefined, C.undefined), (C.nir, C.green, C.blue, C.undefined), ("x", *RGBN[1:])),
]


@DRIVERS
@pytest.mark.parametrize(("given", "expected", "names"), COLOURS)
def test_bands_keep_their_colours(tmp_path, driver, given, expected, names):
    paths = files(tmp_path, names=names, meanings=given)
    with rasterio.open(fused(paths, driver)) as out:
        assert out.colorinterp == expected


@DRIVERS
def test_a_band_of_data_that_ms_calls_alpha_is_none_in_the_output(tmp_path, driver):
    paths = files(tmp_path, dtype=np.uint8, meanings=(C.red, C.green, C.blue, C.alpha))
    with rasterio.open(fused(paths, driver, bands=(1, 2, 3, 4))) as out:
        assert out.count == 4 and C.alpha not in out.colorinterp
        assert out.mask_flag_enums[3] == [MaskFlags.all_valid]


def rpcs(line: float, samp: float, line_scale: float, samp_scale: float) -> RPC:
    """Of a line and a sample that grow with latitude and longitude."""
    one, north, east = ([float(at == place) for at in range(20)] for place in (0, 2, 1))
    return RPC(
        90.0,
        500.0,
        47.5,
        0.1,
        one,
        north,
        line,
        line_scale,
        11.25,
        0.2,
        one,
        east,
        samp,
        samp_scale,
        1.5,
        0.5,
    )


@DRIVERS
def test_rpcs_of_pan_count_from_where_the_output_begins(tmp_path, driver):
    paths = files(tmp_path, at=(8, 12), rpcs=rpcs(1, 2, 3, 4))
    with rasterio.open(paths[1], "r+") as pan:
        pan.rpcs = rpcs(47.25, 50.5, 48, 49)
    with rasterio.open(fused(paths, driver)) as out:
        assert out.rpcs == rpcs(39.25, 38.5, 48, 49)
        assert out.transform == grid(1, 8, 12)


def test_rpcs_of_ms_alone_are_in_pan_pixels_and_move_with_it(tmp_path):
    # by hand: the centre of MS pixel 11.75 lies 12.25 MS pixels, 49 PAN pixels, below the edge: on PAN pixel 48.5
    paths = files(tmp_path, at=(8, 12), rpcs=rpcs(11.75, 2, 12, 13))
    assert open_pair(*paths).carried.rpcs == rpcs(48.5, 9.5, 48, 52)
    moved = open_pair(*paths, shift=(1.0, -2.0))
    expected = rpcs(48.5 + 8 + 1, 9.5 + 12 - 2, 48, 52)  # in PAN pixels of the file
    first = round((grid().f - moved.transform.f) / 0.5), round((moved.transform.c - grid().c) / 0.5)
    expected.line_off, expected.samp_off = expected.line_off - first[0], expected.samp_off - first[1]
    assert first != (8, 12)
    for name, value in expected.to_dict().items():
        np.testing.assert_allclose(getattr(moved.carried.rpcs, name), value)


def points(*places: tuple[float, float]) -> list[GroundControlPoint]:
    return [
        GroundControlPoint(row, column, 5e5 + 0.5 * number, 4e6, 30.0 + number, str(number))
        for number, (row, column) in enumerate(places)
    ]


def seen(found: tuple[GroundControlPoint, ...]) -> list[tuple[float, ...]]:
    return [(point.row, point.col, point.x, point.y, point.z) for point in found]


@IDENTITY
@DRIVERS
@pytest.mark.parametrize("meaning", ["Area", "Point"])
def test_points_of_pan_count_from_where_the_output_begins_and_no_transform_stands_beside_them(
    tmp_path, driver, meaning
):
    paths = files(tmp_path)
    save(paths[0], noise(4, SIDE, SIDE), None, gcps=points((1, 1)))
    save(paths[1], noise(1, 4 * SIDE, 4 * SIDE), None, gcps=points((0, 0), (0, 96), (96, 0.25)))
    for path in paths:
        with rasterio.open(path, "r+") as file:
            file.update_tags(AREA_OR_POINT=meaning)
    with rasterio.open(paths[1]) as pan:
        given = [(point.row, point.col) for point in pan.gcps[0]]
    with rasterio.open(fused(paths, driver, shift=(6.0, 9.0), georeference=False)) as out:
        found, crs = out.gcps
        assert (crs, out.crs, out.shape) == (UTM, None, (88, 84)) and out.transform.is_identity
        # MS lies 6 rows and 9 columns further down and right, and the grid begins there
        assert seen(found) == seen(points(*((row - 6, column - 9) for row, column in given)))


@IDENTITY
def test_a_scene_that_only_rpcs_place_has_no_transform(tmp_path):
    paths = files(tmp_path)
    # those of MS are of the same ground: a line of it is four of PAN's
    save(paths[0], noise(4, SIDE, SIDE), None, rpcs=rpcs(30.5 / 4 - 0.5, 31.5 / 4 - 0.5, 1, 1.25))
    save(paths[1], noise(1, 4 * SIDE, 4 * SIDE), None, rpcs=rpcs(30, 31, 4, 5))
    with rasterio.open(fused(paths, shift=(6.0, 9.0), georeference=False)) as out:
        assert out.transform.is_identity and out.rpcs == rpcs(24, 22, 4, 5)


@IDENTITY
def test_points_of_ms_alone_are_in_pan_pixels(tmp_path):
    paths = files(tmp_path)
    save(paths[0], noise(4, SIDE, SIDE), None, gcps=points((0, 0), (24, 12), (2.5, 3.25)))
    save(paths[1], noise(1, 4 * SIDE, 4 * SIDE), None)
    with rasterio.open(fused(paths, georeference=False)) as out:
        assert seen(out.gcps[0]) == seen(points((0, 0), (96, 48), (10, 13)))


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (("uint8", "uint8"), "uint8"),
        (("uint8", "uint16", "uint16"), "uint16"),
        (("uint8", "int8"), "int16"),
        (("uint16", "int16"), "int32"),
        (("uint32", "int16"), "float64"),
        (("uint16", "float32"), "float32"),
        (("int32", "float32"), "float64"),
        (("uint8", "uint64"), "uint64"),
    ],
)
def test_the_common_type_holds_every_band(dtypes, expected):
    assert common_dtype(dtypes) == common_dtype(dtypes[::-1]) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((None, None), None),
        ((0.0, 0.0), 0.0),
        ((None, 65535.0, None), 65535.0),
        ((0.0, 65535.0, None), None),
    ],
)
def test_nodata_is_common_to_the_bands_that_have_one(values, expected):
    assert common_nodata(values) == common_nodata(values[::-1]) == expected
    assert math.isnan(common_nodata((math.nan, None, math.nan))) and common_nodata((math.nan, 0.0)) is None


def single(folder: Path, kinds: list[str], nodata=()) -> tuple[Path, Path]:
    """MS as a VRT of bands of these types, each larger than the type before holds."""
    types = {"uint8": "Byte", "uint16": "UInt16", "float32": "Float32"}
    for number, kind in enumerate(kinds):
        scale = {"uint8": 1, "uint16": 500, "float32": 1000.5}[kind]
        save(folder / f"b{number}.tif", (scale * noise(1, SIDE, SIDE, seed=number)).astype(kind), grid(4))
    sources = [f"b{number}.tif" for number in range(len(kinds))]
    ms = stacked(folder / "ms.vrt", sources, SIDE, [types[kind] for kind in kinds], nodata)
    return ms, save(folder / "pan.tif", noise(1, 4 * SIDE, 4 * SIDE), grid())


@pytest.mark.parametrize(
    ("bands", "dtype"), [((1, 2, 3), "float32"), ((1, 2), "uint16"), ((2, 1), "uint16"), ((3, 2), "float32")]
)
def test_bands_of_several_types_come_out_with_their_values(tmp_path, bands, dtype):
    paths = single(tmp_path, ["uint8", "uint16", "float32"])
    pair = open_pair(*paths, bands=bands)
    assert pair.dtype == dtype
    window = pair.read(slice(None), slice(None))
    for number, lrms in zip(bands, window.lrms[0], strict=True):
        with rasterio.open(tmp_path / f"b{number - 1}.tif") as file:
            stored = file.read(1)
        assert abs(lrms.mean() / stored.mean() - 1) < 0.02
        assert number == 3 or lrms.min() >= 0  # none below what an integer holds, whatever the others are
    with rasterio.open(fused(paths, bands=bands)) as out:
        assert set(out.dtypes) == {dtype}
        for image, lrms in zip(out.read(), window.lrms[0], strict=True):
            assert abs(image.mean() / lrms.mean() - 1) < 0.02


def test_values_of_nodata_that_differ_become_a_mask_and_one_that_is_common_stays(tmp_path):
    paths = single(tmp_path, ["uint16"] * 3, nodata=(0, 65535))
    hole = slice(4, 8), slice(10, 14)
    for number, value in ((0, 0), (1, 65535), (2, 0)):
        with rasterio.open(tmp_path / f"b{number}.tif", "r+") as file:
            image = file.read()
            image[0, hole[0], 8 * number + 1 : 8 * number + 5] = value
            file.write(image)
    with rasterio.open(fused(paths)) as out:
        assert out.nodata is None and out.mask_flag_enums[0] == [MaskFlags.per_dataset]
        invalid = out.dataset_mask() == 0
        assert invalid[16:32, 4:20].all() and invalid[16:32, 36:52].all() and not invalid[:, 64:].any()
    with rasterio.open(fused(paths, bands=(1, 3))) as out:
        assert out.nodata == 0
        assert invalid[16:32, 4:20].all() and out.dataset_mask()[:, 36:].all()


@pytest.mark.parametrize("nested", [False, True])
def test_files_of_a_vrt_that_are_missing_are_named_before_anything_is_read(tmp_path, nested):
    ms, pan = single(tmp_path, ["uint16"] * 5)
    (tmp_path / "b3.tif").unlink()
    opened = stacked(tmp_path / "outer.vrt", ["ms.vrt"] * 2, SIDE, ["UInt16"] * 2) if nested else ms
    with pytest.raises(DataError, match=r"\.vrt: refers to .*b3\.tif, which cannot be found; put the files"):
        open_pair(opened, pan)
    for number in (0, 1, 4):
        (tmp_path / f"b{number}.tif").unlink()
    with pytest.raises(DataError, match=r"b0\.tif, .*b1\.tif, .*b3\.tif and 1 more, which"):
        open_pair(ms, pan)


def test_a_vrt_of_itself_is_refused_and_not_looked_into_for_ever(tmp_path):
    _, pan = single(tmp_path, ["uint16"] * 2)
    opened = stacked(tmp_path / "ms.vrt", ["ms.vrt"] * 2, SIDE, ["UInt16"] * 2)
    with pytest.raises(DataError, match=r"ms\.vrt: .*cannot be read"):
        open_pair(opened, pan).read(slice(None), slice(None))


def test_an_image_that_claims_more_pixels_than_memory_holds_is_read_where_the_other_lies(tmp_path):
    ms, pan = single(tmp_path, ["uint16"] * 2)
    before = open_pair(ms, pan)
    text = ms.read_text().replace(f'rasterXSize="{SIDE}"', 'rasterXSize="2000000000"')
    ms.write_text(text)
    assert open_pair(ms, pan).width == before.width


def test_complex_values_of_any_band_are_refused_with_its_number(tmp_path):
    paths = single(tmp_path, ["uint16"] * 3)
    stacked(paths[0], ["b0.tif", "b1.tif", "b2.tif"], SIDE, ["UInt16", "UInt16", "CFloat32"])
    with pytest.raises(DataError, match=r"ms\.vrt: values of band 3 are complex64, not real numbers"):
        open_pair(*paths)


@pytest.mark.parametrize(
    ("stored", "wanted", "least", "largest"),
    [
        ("uint16", "uint8", 200, 255),
        ("uint16", "float32", 200, 600),
        ("int16", "uint16", 0, 600),
        (None, None, 200, 600),
    ],
)
def test_the_output_has_the_type_that_is_asked_for_and_values_are_clipped_to_it(
    tmp_path, stored, wanted, least, largest
):
    paths = files(tmp_path, dtype=stored or "uint16")
    with rasterio.open(paths[0], "r+") as ms:
        image = np.full((4, SIDE, SIDE), 600, ms.dtypes[0])
        image[:, :, :12] = -200 if stored == "int16" else 200
        ms.write(image)
    with rasterio.open(fused(paths, dtype=wanted)) as out:
        values = out.read()[:, 30:60]
        assert set(out.dtypes) == {wanted or "uint16"}
        assert values[:, :, :16].mean() == pytest.approx(least, abs=3)
        assert values[:, :, -16:].mean() == pytest.approx(largest, abs=3)


def test_a_nodata_value_that_the_asked_type_lacks_becomes_a_mask(tmp_path):
    paths = files(tmp_path, nodata=65535)
    with rasterio.open(paths[0], "r+") as ms:
        image = ms.read()
        image[:, :5, :5] = 65535
        ms.write(image)
    with rasterio.open(fused(paths, dtype="uint8")) as out:
        assert out.nodata is None and (out.dataset_mask() == 0).sum() == 400


@pytest.mark.parametrize(
    ("stored", "wanted", "said"),
    [
        ("float32", "uint16", "values are float32, and would be lost in uint16; convert MS and PAN"),
        ("uint16", "int64", "the output cannot be int64; choose one of uint8, int8"),
        ("int64", None, "values are int64; convert them to one of uint8"),
    ],
)
def test_types_that_would_lose_the_values_are_refused(tmp_path, stored, wanted, said):
    with pytest.raises(DataError, match=said):
        plan_job(*files(tmp_path, dtype=stored), "exp", dtype=wanted)


def test_another_type_is_another_job(tmp_path):
    paths = files(tmp_path)
    keys = [plan_job(*paths, "exp", dtype=dtype).key for dtype in (None, "uint16", "float32")]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("method", [*CLASSICAL, BANDWISE, STACK])
def test_it_is_known_which_methods_give_the_same_whatever_the_offset(method):
    quickbird = get_sensor("QB")
    image = render(3, quickbird, 128)
    lrms, pan = (1000 * image[name][None] for name in ("lrms", "pan"))
    fuse, offset = get_method(method, quickbird, 4), torch.tensor([300.0, 500, 100, 700])[None, :, None, None]
    with torch.no_grad():
        plain, moved = fuse(lrms, pan), fuse(lrms + offset, pan + 400) - offset
    assert ((moved - plain).abs().max() / plain.std() < 0.02) == (method in ANY_OFFSET)


@pytest.mark.parametrize(
    ("method", "of_ms", "of_pan", "said"),
    [
        (
            "brovey",
            -0.2,
            -0.1,
            "Note: brovey works on stored numbers; the headers' offsets (MS -0.2, 0; PAN -0.1) are",
        ),
        ("brovey", 0.0, -0.1, "(PAN -0.1) are not applied"),
        ("brovey", 0.0, 0.0, None),
        ("gsa", -0.2, -0.1, None),
    ],
)
def test_a_method_that_would_need_the_offset_says_that_it_is_not_applied(
    tmp_path, method, of_ms, of_pan, said
):
    paths = files(tmp_path)
    with rasterio.open(paths[0], "r+") as ms, rasterio.open(paths[1], "r+") as pan:
        ms.offsets, pan.offsets = (of_ms, of_ms, 0, 0), (of_pan,)
    remarks = [remark for remark in plan_job(*paths, method, shift=(0.0, 0.0)).remarks if "offset" in remark]
    assert [said in remark for remark in remarks] == [True] if said else remarks == []
