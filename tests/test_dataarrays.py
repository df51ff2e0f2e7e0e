"""DataArrays fused as the files that hold the same values, whole or in Dask's chunks."""

import json
import warnings

import numpy as np
import pytest
import rasterio
import rioxarray
from rasters import grid, save
from scenes import scene

from clippan_lib.errors import DataError, OutputError
from clippan_lib.sensors import get_sensor
from clippan_lib.sharpening import plan_job, sharpen
from clippan_lib.sharpening.dataarrays import sharpen_dataarrays


@pytest.fixture
def files(tmp_path):
    return scene(tmp_path)


def opened(files, **options):
    return [rioxarray.open_rasterio(file, **options) for file in files]


def as_files(files, tmp_path, method="gsa", **options):
    sharpen(plan_job(*files, method, **options), tmp_path / "expected.tif")
    return rasterio.open(tmp_path / "expected.tif")


def test_arrays_in_memory_become_what_files_become(files, tmp_path):
    with as_files(files, tmp_path, sensor=get_sensor("QB")) as expected:
        fused = sharpen_dataarrays(*opened(files), sensor=get_sensor("QB"))
        np.testing.assert_array_equal(fused.values, expected.read())
        assert fused.dims == ("band", "y", "x") and fused.dtype == np.uint16
        assert fused.rio.transform() == expected.transform and fused.rio.crs == expected.crs
        assert fused.rio.nodata == 0 == expected.nodata
    assert fused.attrs["CLIPPAN_METHOD"] == "gsa"
    assert {path.name for path in tmp_path.iterdir()} == {
        *("ms.tif", "pan.tif", "expected.tif", "expected.clippan.json")
    }


def test_a_masked_array_is_fused_as_its_valid_pixels_and_nan(tmp_path):
    files = scene(tmp_path, hole=40)
    with as_files(files, tmp_path, dtype="float32") as expected:
        there = np.ma.filled(expected.read(masked=True), np.nan)
        fused = sharpen_dataarrays(*opened(files, masked=True))
        assert fused.dtype == np.float32 and np.isnan(fused.values).any()
        np.testing.assert_allclose(fused.values, there, rtol=1e-6)


def test_a_float_array_keeps_the_value_that_marks_its_holes(tmp_path):
    files = scene(tmp_path, hole=40)
    ms, pan = (
        array.where(array != 0, -9999).astype("float32").rio.write_nodata(-9999) for array in opened(files)
    )
    fused = sharpen_dataarrays(ms, pan)
    assert fused.rio.nodata == -9999 and (fused == -9999).any() and not np.isnan(fused.values).any()


@pytest.mark.parametrize("lazy", ["both", "ms", "pan"])
def test_dask_arrays_are_fused_chunk_by_chunk_and_read_when_asked_for(files, tmp_path, lazy):
    (ms, pan), out = opened(files), tmp_path / "out.tif"
    ms = ms.chunk({"band": 3, "y": 17, "x": 30}) if lazy != "pan" else ms
    pan = pan.chunk({"band": 1, "y": 70, "x": 200}) if lazy != "ms" else pan
    fused = sharpen_dataarrays(ms, pan[0], out=out)
    assert fused.chunks is not None
    with as_files(files, tmp_path) as expected:
        np.testing.assert_array_equal(fused.values, expected.read())
    assert json.loads((tmp_path / "out.clippan.json").read_text())["method"] == "gsa"


def test_no_chunk_is_computed_twice(files, tmp_path):
    ms, pan = opened(files)
    seen = []

    def noted(block, block_info=None):
        seen.append(block_info[0]["array-location"])
        return block

    lazy = pan.chunk({"y": 64, "x": 100})
    lazy = lazy.copy(data=lazy.data.map_blocks(noted, meta=lazy.data._meta))
    sharpen_dataarrays(ms, lazy, "exp", out=tmp_path / "out.tif")
    assert len(seen) == len({str(place) for place in seen}) == np.prod(lazy.data.numblocks)


def test_bands_have_the_names_of_their_coordinate(files):
    ms, pan = opened(files)
    ms = ms.assign_coords(band=["red", "green", "blue", "nir"]).rename("radiance")
    chosen = ms.assign_attrs(units="W/m2", STATISTICS_MEAN=3)
    fused = sharpen_dataarrays(chosen, pan, "exp", bands=["blue", "red"])
    assert fused["band"].values.tolist() == ["blue", "red"]
    assert fused.name == "radiance" and fused.attrs["units"] == "W/m2"
    assert "STATISTICS_MEAN" not in fused.attrs
    of_all = sharpen_dataarrays(ms, pan, "exp")
    np.testing.assert_array_equal(fused.values, of_all.sel(band=["blue", "red"]).values)


def test_scale_and_offset_are_carried(tmp_path):
    files = scene(tmp_path)
    with rasterio.open(files[0], "r+") as dataset:
        dataset.scales, dataset.offsets = [0.5] * 4, [-3.0] * 4
    fused = sharpen_dataarrays(*opened(files), "exp")
    assert (fused.attrs["scale_factor"], fused.attrs["add_offset"]) == (0.5, -3.0)


def test_warnings_are_given(tmp_path):
    files = scene(tmp_path, shift=(2, 0))
    with pytest.warns(UserWarning, match=r"^PAN lies 1\.99 down"):
        sharpen_dataarrays(*opened(files), "exp")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        sharpen_dataarrays(*opened(files), "exp", register=True)


def test_an_array_without_coordinates_has_the_corner_of_the_other(files, tmp_path):
    bare = [array.drop_vars(["x", "y", "spatial_ref"]) for array in opened(files)]
    fused = sharpen_dataarrays(*(array[:, : len(array["y"]), :] for array in bare), "exp", shift=(0.0, 0.0))
    assert fused.shape[1:] == bare[1].shape[1:] and fused.rio.crs is None


@pytest.mark.parametrize(
    "broken, message",
    [
        (lambda ms, pan: (ms.chunk(), pan), "is a Dask array, .* name a file for it"),
        (lambda ms, pan: (ms.expand_dims(time=2), pan), r"MS has dimensions \('time', .*isel\(time=0\)"),
        (lambda ms, pan: (ms, pan.rename(x="a", y="b")), "PAN has dimensions .* rio.set_spatial_dims"),
        (
            lambda ms, pan: (ms.isel(x=[0, 1, 2, 4, 5]), pan),
            "MS: coordinates x grow by 2 to 4, and not evenly",
        ),
        (lambda ms, pan: (pan, ms), "PAN has 4 bands"),
    ],
)
def test_refusals(files, tmp_path, broken, message):
    with pytest.raises(DataError, match=message):
        sharpen_dataarrays(*broken(*opened(files)), "exp")


def test_a_folder_that_is_missing_is_named(files, tmp_path):
    with pytest.raises(OutputError, match="missing: no such folder"):
        sharpen_dataarrays(*opened(files), "exp", out=tmp_path / "missing" / "out.tif")


def test_nothing_is_left_of_a_refused_job(tmp_path):
    ms, pan = scene(tmp_path)
    other = save(tmp_path / "other.tif", np.ones((1, 400, 400), np.uint16), grid(1, 9000, 9000))
    with pytest.raises(DataError, match="do not overlap"):
        sharpen_dataarrays(*opened((ms, other)), out=tmp_path / "out.tif")
    assert {path.name for path in tmp_path.iterdir()} == {"ms.tif", "pan.tif", "other.tif"}
