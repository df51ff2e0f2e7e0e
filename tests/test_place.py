"""How files say where they lie: systems that mean the same, RPCs and GCPs that are no transform, pixels alone."""

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC
from rasters import grid, noise, save

from clippan_lib import cli
from clippan_lib.data.pair import open_pair
from clippan_lib.data.pair.place import same_crs
from clippan_lib.errors import DataError

UTM = CRS.from_epsg(32632)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (UTM, True),
        (CRS.from_string("EPSG:32632+5773"), True),  # with heights above a geoid
        (CRS.from_wkt(UTM.to_wkt(version="WKT1_ESRI")), True),
        (CRS.from_wkt(UTM.to_wkt().replace("WGS 84 / UTM zone 32N", "of a provider")), True),
        (CRS.from_proj4("+proj=utm +zone=32 +ellps=WGS84 +towgs84=0,0,0 +units=m"), True),
        (CRS.from_epsg(32633), False),
        (CRS.from_epsg(25832), False),  # another datum, half a metre away
        (CRS.from_epsg(4326), False),
        (None, False),
    ],
)
def test_systems_are_the_same_where_they_mean_the_same_on_the_ground(other, same):
    assert same_crs(UTM, other) is same and same_crs(other, UTM) is same


def test_degrees_are_the_same_in_any_order_and_with_heights_and_no_system_is_the_same_as_none():
    degrees = CRS.from_epsg(4326)
    assert same_crs(degrees, CRS.from_string("OGC:CRS84")) and same_crs(degrees, CRS.from_epsg(4979))
    assert not same_crs(degrees, CRS.from_epsg(4258))
    assert same_crs(None, None) and same_crs(None, CRS())


def test_a_ms_with_heights_in_its_system_is_fused_with_a_pan_without(tmp_path):
    ms = save(tmp_path / "ms.tif", noise(4, 24, 24), grid(4), crs="EPSG:32632+5773")
    pair = open_pair(ms, save(tmp_path / "pan.tif", noise(1, 96, 96), grid()))
    assert (pair.height, pair.width) == (24, 24) and pair.crs == UTM


def rpcs(height: int, width: int, longitude: float = 9.0) -> RPC:
    """A place that is linear in the pixels: half a degree to each side."""
    one, rows, columns = [1.0] + [0.0] * 19, [0.0, 0.0, -1.0] + [0.0] * 17, [0.0, 1.0] + [0.0] * 18
    return RPC(
        height_off=50.0, height_scale=500.0, lat_off=48.0, lat_scale=0.5, line_den_coeff=one, line_num_coeff=rows,
        line_off=height / 2 - 0.5, line_scale=height / 2, long_off=longitude, long_scale=0.5, samp_den_coeff=one,
        samp_num_coeff=columns, samp_off=width / 2 - 0.5, samp_scale=width / 2, err_bias=1.0, err_rand=1.0,
    )  # fmt: skip


def points(height: int, width: int, size: float, east: float = 0.0) -> list[GroundControlPoint]:
    corners = [(row, column) for row in (0, height) for column in (0, width)]
    return [GroundControlPoint(r, c, 5e5 + east + size * c, 5.3e6 - size * r) for r, c in corners]


def raw(tmp_path, by: str, ms_rows=30, pan_rows=120, longitude=9.0, east=0.0):
    """A pair in the sensor's own geometry."""
    paths = []
    for name, image, size in (("ms", noise(4, ms_rows, 28), 2.0), ("pan", noise(1, pan_rows, 112), 0.5)):
        shape = image.shape[1:]
        off = name == "ms"
        how = (
            {"rpcs": rpcs(*shape, longitude if off else 9.0)}
            if by == "rpcs"
            else {"gcps": points(*shape, size, east if off else 0.0), "crs": UTM}
        )
        paths.append(tmp_path / f"{name}.tif")
        profile = dict(zip(("count", "height", "width"), image.shape, strict=True))
        with rasterio.open(paths[-1], "w", driver="GTiff", dtype=image.dtype, **profile, **how) as file:
            file.write(image)
    return paths


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ("rpcs", r"pan.tif says where it lies by RPCs only.*gdalwarp -rpc .*--no-georeference"),
        (
            "gcps",
            r"pan.tif says where it lies by 4 GCPs only.*gdalwarp -order 1 -t_srs EPSG:32632 .*--no-geor",
        ),
    ],
)
def test_files_with_rpcs_or_gcps_only_are_refused_with_what_to_do_and_fused_on_their_pixels(
    tmp_path, by, said
):
    ms, pan = raw(tmp_path, by)
    with pytest.raises(DataError, match=said):
        open_pair(ms, pan)
    pair = open_pair(ms, pan, georeference=False)
    assert (pair.ratio, pair.height, pair.width) == (4, 30, 28)
    window = pair.read(slice(None), slice(None))
    with rasterio.open(pan) as file:
        assert np.array_equal(window.pan[0, 0].numpy(), file.read(1))


def test_one_file_with_a_transform_does_not_make_gcps_of_the_other_one(tmp_path):
    ms, _ = raw(tmp_path, "gcps")
    pan = save(tmp_path / "placed.tif", noise(1, 120, 112), grid())
    with pytest.raises(DataError, match=r"ms.tif says where it lies by 4 GCPs only"):
        open_pair(ms, pan)
    pair = open_pair(ms, pan, georeference=False)
    assert pair.transform == grid() and pair.crs == UTM  # PAN's own stay


def test_a_pan_cut_by_some_lines_is_fused_where_both_are(tmp_path):
    ms, pan = raw(tmp_path, "rpcs", pan_rows=118)
    assert open_pair(ms, pan, georeference=False).height == 29
    ms, pan = raw(tmp_path, "rpcs", pan_rows=60)
    with pytest.raises(DataError, match=r"60 x 112 px is 2 x 4 times MS of 30 x 28 px; .* cut the files"):
        open_pair(ms, pan, georeference=False)
    bare = [save(tmp_path / f"{name}.tif", noise(*shape), None) for name, shape in SIZES.items()]
    with pytest.raises(DataError, match="no whole multiple .*--no-georeference, which fuses what they have"):
        open_pair(*bare)
    assert open_pair(*bare, georeference=False).height == 29


SIZES = {"ms": (4, 30, 28), "pan": (1, 118, 112)}


@pytest.mark.parametrize(
    ("by", "where", "off"),
    [("rpcs", {"longitude": 9.6}, 112 * 0.6), ("gcps", {"east": 25.0}, 50)],
)
def test_files_whose_rpcs_or_gcps_say_two_places_are_refused_with_the_distance(tmp_path, by, where, off):
    with pytest.raises(
        DataError, match=rf"ms.tif lies \+0 rows and \+{off:.0f} columns \(PAN px\) away from"
    ):
        open_pair(*raw(tmp_path, by, **where), georeference=False)
    open_pair(
        *raw(tmp_path, by, **{key: 9.01 if key == "longitude" else 1.0 for key in where}), georeference=False
    )


def test_the_pixels_count_alone_where_one_asks_for_it_though_the_files_lie_apart(tmp_path):
    ms = save(tmp_path / "ms.tif", noise(4, 24, 24), Affine.translation(5e4, 0) @ grid(4))
    pan = save(tmp_path / "pan.tif", noise(1, 96, 96), grid())
    with pytest.raises(DataError, match="do not overlap"):
        open_pair(ms, pan)
    assert open_pair(ms, pan, georeference=False).height == 24


def test_the_command_takes_the_option(tmp_path, capsys):
    ms, pan = raw(tmp_path, "gcps")
    asked = [
        "sharpen",
        "--ms",
        str(ms),
        "--pan",
        str(pan),
        "--out",
        str(tmp_path / "o.tif"),
        "--method",
        "exp",
    ]
    assert cli.main(asked) == 2 and not (tmp_path / "o.tif").exists()
    assert "GCPs only" in capsys.readouterr().err
    assert cli.main([*asked, "--no-georeference", "--shift=0,0"]) == 0
