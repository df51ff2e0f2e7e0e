"""What the files of a scene may be called: one per band, in archives, parts of files, and what is refused."""

import json
import pickle
import shutil
import tarfile
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
import yaml
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasters import grid, noise, save
from scenes import scene

from clippan_lib.cli import main
from clippan_lib.data import open_dataset
from clippan_lib.data.manifest import load_manifest
from clippan_lib.data.pair import open_pair
from clippan_lib.data.pair.inputs import located
from clippan_lib.data.pair.sources import files_read, states_read
from clippan_lib.errors import DataError, OutputError
from clippan_lib.sensors import get_sensor
from clippan_lib.sharpening import plan_job, sharpen
from clippan_lib.sharpening.adapt import plan_adaptation, scene_manifest
from clippan_lib.sharpening.contest import plan_contest
from clippan_lib.sharpening.delivered import score_fused

STILL = {"shift": (0.0, 0.0)}
ALL = slice(None), slice(None)


@pytest.fixture(autouse=True)
def _no_word_of_georeferences():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


def split(folder: Path, numbers=(1, 2, 3, 4), side: int = 24, **options) -> tuple[list[Path], Path]:
    """Files of a band each, as a provider calls them, and their PAN."""
    image = noise(len(numbers), side, side + 2, seed=5)
    files = [
        save(folder / f"LC08_SR_B{number}.TIF", band[None], grid(2), **options)
        for number, band in zip(numbers, image, strict=True)
    ]
    return files, save(folder / "LC08_B8.TIF", noise(1, 2 * side, 2 * side + 4, seed=6), grid())


def apart(folder: Path, path: Path) -> list[Path]:
    """The bands of a file, as files."""
    with rasterio.open(path) as file:
        return [
            save(
                folder / f"band_{number}.tif",
                file.read([number]),
                file.transform,
                file.crs,
                nodata=file.nodata,
            )
            for number in file.indexes
        ]


def same(one, other) -> bool:
    windows = [pair.read(*ALL) for pair in (one, other)]
    return all(
        np.array_equal(getattr(windows[0], name), getattr(windows[1], name))
        for name in ("lrms", "pan", "lrms_valid", "pan_valid")
    )


def refused(act, *said: str):
    with pytest.raises(DataError) as refusal:
        act()
    for words in said:
        assert words in str(refusal.value)
    assert "<VRT" not in str(refusal.value)


def archived(folder: Path, *files: Path) -> Path:
    with zipfile.ZipFile(folder / "scene.zip", "w") as archive:
        for file in files:
            archive.write(file, f"in/{file.name}")
    return folder / "scene.zip"


def test_files_of_a_band_each_are_read_as_one_file_of_all_bands_is(tmp_path):
    ms, pan = scene(tmp_path)
    together = open_pair(ms, pan)
    assert same(open_pair(apart(tmp_path, ms), pan), together)


def test_a_name_of_each_file_tells_its_band_to_a_sensor_that_numbers_bands(tmp_path):
    files, pan = split(tmp_path, (4, 2, 3))
    pair = open_pair(files, pan, sensor=get_sensor("L8"), bands=["blue", "green", "red"])
    assert [band.number for band in pair.carried.bands] == [2, 3, 1]
    assert [band.description for band in pair.carried.bands] == ["LC08_SR_B2", "LC08_SR_B3", "LC08_SR_B4"]


def test_a_file_that_describes_its_band_is_not_called_by_its_name(tmp_path):
    files, pan = split(tmp_path, (1, 2), names=("water vapour",))
    assert open_pair(files, pan).band_names == ("water_vapour", "water_vapour")


def test_all_bands_of_a_file_of_several_come_with_those_of_the_others(tmp_path):
    (first, _), pan = split(tmp_path, (1, 2))
    rgb = save(tmp_path / "rgb.tif", noise(3, 24, 26), grid(2), names=("red", "green", ""))
    pair = open_pair([first, rgb], pan)
    assert pair.band_names == ("lc08_sr_b1", "red", "green", "band_4")


def test_what_each_file_says_of_its_band_is_carried(tmp_path):
    files, pan = split(tmp_path, (1, 2, 3), nodata=7)
    for number, (file, colour) in enumerate(zip(files, ("coastal", "blue", "nir"), strict=True), 1):
        with rasterio.open(file, "r+") as band:
            band.scales, band.offsets, band.units = [number / 8], [-number], [f"unit {number}"]
            band.colorinterp = [ColorInterp[colour]]
            band.update_tags(SCENE="LC08", CENTRE=f"0.{number}")
            band.update_tags(1, gain=number)
            band.update_tags(ns="IMAGERY", ACQUIRED="2026")
    pair = open_pair(files, pan)
    found = pair.carried
    assert found.tags == {"": {"AREA_OR_POINT": "Area", "SCENE": "LC08"}, "IMAGERY": {"ACQUIRED": "2026"}}
    assert [band.tags[""] for band in found.bands] == [
        {"CENTRE": f"0.{n}", "gain": str(n)} for n in (1, 2, 3)
    ]
    assert [(band.scale, band.offset, band.unit) for band in found.bands] == [
        (n / 8, -n, f"unit {n}") for n in (1, 2, 3)
    ]
    assert [band.colour.name for band in found.bands] == ["coastal", "blue", "nir"]
    assert pair.nodata == 7


@pytest.mark.parametrize("value", [np.nan, -9999.0, 3.5])
def test_the_nodata_value_of_one_file_counts_for_its_band(tmp_path, value):
    files, pan = split(tmp_path, (1, 2))
    odd = noise(1, 24, 26, seed=9).astype(np.float32)
    odd[0, 3, 4] = value
    save(files[1], odd, grid(2), nodata=value)
    valid = open_pair([*files], pan, **STILL).read(*ALL).lrms_valid[0, 0]
    assert (~valid).nonzero().tolist() == [[3, 4]]


def test_the_mask_of_one_file_counts(tmp_path):
    files, pan = split(tmp_path, (1, 2, 3))
    mask = np.full((24, 26), 255, np.uint8)
    mask[5:9, 7:12] = 0
    save(files[1], noise(1, 24, 26), grid(2), mask=mask)
    assert (~open_pair(files, pan).read(*ALL).lrms_valid).sum() == 4 * 5


def test_gcps_that_all_files_have_are_those_of_the_scene(tmp_path):
    points = [GroundControlPoint(r, c, 9 + c / 99, 48 - r / 99) for r, c in ((0, 0), (0, 26), (24, 0))]
    image = noise(3, 24, 26)
    files = [save(tmp_path / f"b{n}.tif", image[[n]], None, "EPSG:4326", gcps=points) for n in range(3)]
    pan = save(tmp_path / "pan.tif", noise(1, 48, 52), None)
    found = open_pair(files, pan, georeference=False).carried
    assert [(point.x, point.y) for point in found.gcps] == [(point.x, point.y) for point in points]
    moved = [GroundControlPoint(p.row, p.col, p.x + 1, p.y) for p in points]
    save(files[2], image[[2]], None, "EPSG:4326", gcps=moved)
    refused(lambda: located(files), "b0.tif and", "b2.tif are not on one grid", "GCPs differ", "gdal_edit.py")


@pytest.mark.parametrize(
    ("image", "transform", "crs", "said"),
    [
        ((1, 12, 13), grid(4), "EPSG:32632", "24 x 26 px of 1 x 1 from"),
        ((1, 24, 26), grid(2, rows=1), "EPSG:32632", "gdalbuildvrt -separate -resolution highest"),
        ((1, 24, 26), grid(2.01), "EPSG:32632", "gdalwarp -tr"),
        ((1, 24, 26), grid(2), "EPSG:32633", "EPSG:32632, the other in EPSG:32633"),
        ((1, 24, 26), None, None, "are not on one grid"),
    ],
)
def test_files_on_different_grids_are_refused_by_their_names(tmp_path, image, transform, crs, said):
    files, pan = split(tmp_path, (1, 2, 3))
    save(files[2], noise(*image), transform, crs)
    refused(lambda: open_pair(files, pan), f"{files[0]} and {files[2]} are not on one grid", said)


def test_files_whose_systems_are_called_differently_are_on_one_grid(tmp_path):
    files, pan = split(tmp_path, (1, 2))
    save(files[1], noise(1, 24, 26), grid(2), "+proj=utm +zone=32 +datum=WGS84 +units=m")
    assert open_pair(files, pan).n_bands == 2


def test_no_file_the_same_file_twice_and_one_of_one_band_are_refused(tmp_path):
    (first, second), pan = split(tmp_path, (1, 2))
    refused(lambda: open_pair([], pan), "no file of MS is named")
    refused(lambda: open_pair([first, second, first], pan), f"{first}: is given twice")
    refused(lambda: open_pair([first], pan), f"{first}: MS has 1 band", "--ms B2.TIF --ms B3.TIF")


def test_messages_name_the_files_and_not_the_vrt_of_them(tmp_path):
    files, pan = split(tmp_path, (1, 2))
    words = f"{files[0]}, {files[1].name}"
    refused(lambda: open_pair(files, pan, bands=[1, 3]), f"{words}: bands 1, 3 are wanted")
    pair = open_pair(files, pan)
    data = files[1].read_bytes()
    files[1].write_bytes(data[: len(data) // 2])
    refused(lambda: pickle.loads(pickle.dumps(pair)).read(*ALL), words, "get it again")


def test_threads_read_bands_of_several_files_at_once(tmp_path):
    ms, pan = scene(tmp_path)
    pair = open_pair(apart(tmp_path, ms), pan)
    whole = pair.read(*ALL).lrms
    parts = [
        (slice(top, top + 10), slice(left, left + 10)) for top in range(0, 60, 5) for left in range(0, 70, 5)
    ]
    with ThreadPoolExecutor(4) as pool:
        windows = list(pool.map(lambda part: pair.read(*part).lrms, parts))
    assert all((window == whole[..., *part]).all() for window, part in zip(windows, parts, strict=True))


def test_kept_work_is_of_the_files_their_order_and_their_state(tmp_path):
    ms, pan = scene(tmp_path)
    files = apart(tmp_path, ms)

    def key(*paths):
        return plan_job(paths, pan, "gsa", **STILL).key

    assert key(*files) == key(*map(str, files))
    assert key(*files) != key(*files[::-1])
    before = key(*files)
    save(files[2], noise(1, 75, 84), grid(4, 0.5, 0.5), nodata=0)
    assert key(*files) != before


def test_an_output_of_several_files_says_which_they_were(tmp_path):
    ms, pan = scene(tmp_path)
    files, out = apart(tmp_path, ms), tmp_path / "out.tif"
    options = [text for file in files for text in ("--ms", str(file))]
    shared = ["--pan", str(pan), "--method", "brovey", "--shift=0,0", "--out"]
    assert main(["sharpen", *options, *shared, str(out)]) == 0
    assert main(["sharpen", "--ms", str(ms), *shared, str(tmp_path / "one.tif")]) == 0
    with rasterio.open(out) as made, rasterio.open(tmp_path / "one.tif") as one:
        assert np.array_equal(made.read(), one.read())
        assert made.descriptions == ("band_1", "band_2", "band_3", "band_4")
    record = json.loads((tmp_path / "out.clippan.json").read_text())
    assert record["inputs"][0]["path"] == [str(file) for file in files]
    assert [part["path"] for part in record["inputs"][0]["files"]] == [str(file) for file in files]
    assert all(part["sha256"] for part in record["inputs"][0]["files"])
    assert "VRT" not in json.dumps(record)


def test_an_output_is_not_written_over_one_of_several_files(tmp_path):
    ms, pan = scene(tmp_path)
    files = apart(tmp_path, ms)
    job = plan_job(files, pan, "brovey", **STILL)
    with pytest.raises(OutputError, match="band_3.tif: is one of the files that are read"):
        sharpen(job, files[2])


def test_scores_and_contests_take_several_files(tmp_path):
    ms, pan = scene(tmp_path)
    files, out = apart(tmp_path, ms), tmp_path / "out.tif"
    sharpen(plan_job(ms, pan, "gsa", **STILL), out)
    assert score_fused(out, files, pan, **STILL)[0] == score_fused(out, ms, pan, **STILL)[0]
    contests = [plan_contest(image, pan, methods=["exp", "gsa"], **STILL) for image in (files, ms)]
    assert contests[0].areas.corners == contests[1].areas.corners
    assert contests[0].files[0].name == "band_1.tif, band_2.tif, band_3.tif, band_4.tif"


def test_a_manifest_lists_the_files_of_bands(tmp_path):
    ms, pan = scene(tmp_path)
    names = [file.name for file in apart(tmp_path, ms)]
    content = {
        "name": "mine",
        "title": "mine",
        "sensor": "IKONOS",
        "source": {"kind": "geotiff", "ms": names, "pan": pan.name},
        "split": {"train": 0.0, "val": 0.0, "test": 1.0},
        "max_value": 2048,
        **dict.fromkeys(("licence", "citation", "homepage", "how_to_get"), "none"),
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    manifest = load_manifest(path)
    assert manifest.source.paths == (*names, "pan.tif")
    reader = open_dataset(manifest, tmp_path)
    assert reader.sensor.name == "IKONOS"
    for wrong in ([], ["../b.tif"], ["/b.tif"]):
        path.write_text(yaml.safe_dump(content | {"source": content["source"] | {"ms": wrong}}))
        with pytest.raises(ValueError, match="must lie below data_root"):
            load_manifest(path)


def test_files_in_archives_are_read_and_the_archive_tells_whether_they_changed(tmp_path, monkeypatch):
    ms, pan = scene(tmp_path)
    archive = archived(tmp_path, ms, pan)
    with tarfile.open(tmp_path / "scene.tar", "w") as tar:
        tar.add(ms, "ms.tif")
    plain = open_pair(ms, pan)
    monkeypatch.chdir(tmp_path)
    ways = [
        f"/vsizip/{archive}/in/ms.tif",
        f"/vsizip/{{{archive}}}/in/ms.tif",
        f"zip://{archive}!in/ms.tif",
        f"zip://{archive}!/in/ms.tif",
        "zip://scene.zip!in/ms.tif",
        "/vsizip/scene.zip/in/ms.tif",
        f"/vsitar/{tmp_path}/scene.tar/ms.tif",
        "tar://scene.tar!ms.tif",
        ms.as_uri(),
    ]
    for name in ways:
        assert same(open_pair(name, pan), plain), name
    name = "/vsizip/scene.zip/in/ms.tif"
    assert str(archive) in files_read(located(name))
    key = plan_job(name, f"zip://{archive}!in/pan.tif", "gsa", **STILL).key
    assert key == plan_job(name, f"zip://{archive}!in/pan.tif", "gsa", **STILL).key
    states = states_read([located(name)])
    ms.write_bytes(ms.read_bytes() + b"\0")
    archived(tmp_path, ms, pan)
    assert states_read([located(name)]) != states


def test_a_relative_name_in_an_archive_means_the_same_in_another_folder(tmp_path, monkeypatch):
    ms, pan = scene(tmp_path)
    archived(tmp_path, ms)
    monkeypatch.chdir(tmp_path)
    pair = open_pair("/vsizip/scene.zip/in/ms.tif", "pan.tif")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert pickle.loads(pickle.dumps(pair)).read(*ALL).lrms.shape[1] == 4


def test_the_record_of_an_output_names_the_archive_with_its_digest(tmp_path):
    ms, pan = scene(tmp_path)
    name = f"/vsizip/{archived(tmp_path, ms)}/in/ms.tif"
    sharpen(plan_job(name, pan, "exp", **STILL), tmp_path / "out.tif")
    inputs = json.loads((tmp_path / "out.clippan.json").read_text())["inputs"][0]
    assert inputs["path"] == name
    assert [(file["path"], bool(file["sha256"])) for file in inputs["files"]] == [
        (name, False),
        (str(tmp_path / "scene.zip"), True),
    ]


def test_subdatasets_are_read_and_their_file_tells_whether_they_changed(tmp_path):
    ms, pan = (rasterio.open(path) for path in scene(tmp_path))
    with h5py.File(tmp_path / "scene.h5", "w") as file:
        file["bands"], file["pan"] = ms.read()[..., :75, :80], pan.read(1)[:300, :320]
    names = [f'HDF5:"{tmp_path}/scene.h5"://{key}' for key in ("bands", "pan")]
    pair = open_pair(*names)
    assert (pair.n_bands, pair.ratio, pair.height, pair.width) == (4, 4, 75, 80)
    assert str(tmp_path / "scene.h5") in states_read([located(names[0])])
    assert same(pair, pickle.loads(pickle.dumps(pair)))
    refused(lambda: open_pair(tmp_path / "scene.h5", names[1]), "holds several images", "://bands", "://pan")


def test_a_page_of_a_tiff_and_bands_of_a_netcdf_are_read(tmp_path):
    ms, pan = scene(tmp_path)
    assert same(open_pair(f"GTIFF_DIR:1:{ms}", pan), open_pair(ms, pan))
    with rasterio.open(ms) as file:
        shutil.copy(ms, tmp_path / "copy.tif")
        rasterio.shutil.copy(file, tmp_path / "bands.nc", driver="netCDF")
    names = [f'NETCDF:"{tmp_path}/bands.nc":Band{number}' for number in (1, 2, 3, 4)]
    pair = open_pair(names, pan)
    assert pair.n_bands == 4
    assert str(tmp_path / "bands.nc") in files_read(located(names))


@pytest.mark.parametrize("driver", ["JP2OpenJPEG", "NITF"])
def test_jpeg_2000_and_nitf_are_read_as_geotiff_is(tmp_path, driver):
    with rasterio.Env() as env:
        if driver not in env.drivers():
            pytest.skip(f"this GDAL has no {driver}")
    ms, pan = scene(tmp_path)
    options = {"QUALITY": "100", "REVERSIBLE": "YES"} if driver == "JP2OpenJPEG" else {}
    for path in (ms, pan):
        with rasterio.open(path) as file:
            rasterio.shutil.copy(file, path.with_suffix(f".{driver}"), driver=driver, **options)
    copies = [path.with_suffix(f".{driver}") for path in (ms, pan)]
    by_corner = {"georeference": False}  # NITF rounds coordinates to whole metres
    assert same(open_pair(*copies, **by_corner), open_pair(ms, pan, **by_corner))


@pytest.mark.parametrize(
    "name",
    [
        "https://example.org/ms.tif",
        "http://example.org/ms.tif",
        "HTTPS://example.org/ms.tif",
        "s3://bucket/ms.tif",
        "gs://bucket/ms.tif",
        "zip+https://example.org/a.zip!ms.tif",
        "/vsicurl/https://example.org/ms.tif",
        "/vsicurl?url=https%3A%2F%2Fexample.org%2Fms.tif",
        "/vsis3/bucket/ms.tif",
        "/vsigs_streaming/bucket/ms.tif",
        "/vsizip//vsicurl/https://example.org/a.zip/ms.tif",
        "/vsizip/{/vsis3/bucket/a.zip}/ms.tif",
        'NETCDF:"https://example.org/a.nc":red',
    ],
)
def test_what_lies_on_other_machines_is_refused_by_its_own_name(tmp_path, name):
    _, pan = split(tmp_path)
    for act in (lambda: open_pair(name, pan), lambda: plan_job(name, pan), lambda: plan_contest(name, pan)):
        refused(act, f"{name}: lies on another machine; download it first")
    refused(lambda: open_pair(pan, name), name)
    refused(lambda: open_pair([pan, name], pan), name)


def test_an_address_that_was_made_a_path_is_refused_all_the_same(tmp_path):
    refused(lambda: open_pair(Path("https://example.org/ms.tif"), tmp_path), "lies on another machine")


def test_a_file_whose_name_looks_like_an_address_is_read(tmp_path):
    ms, pan = scene(tmp_path)
    odd = tmp_path / "NETCDF:2026,{ms}.tif"
    shutil.copy(ms, odd)
    assert same(open_pair(odd, pan), open_pair(ms, pan))
    assert open_pair([odd, *apart(tmp_path, ms)], pan).n_bands == 8


def test_memory_archives_and_names_of_nothing_are_refused_with_what_to_give(tmp_path):
    ms, pan = scene(tmp_path)
    archive = archived(tmp_path, ms)
    refused(lambda: open_pair("/vsimem/ms.tif", pan), "/vsimem/ms.tif: lies in memory", "write it to a file")
    refused(lambda: open_pair(archive, pan), "is an archive", f"/vsizip/{archive}/NAME.tif")
    refused(
        lambda: open_pair(f"/vsizip/{archive}/no.tif", pan), f"/vsizip/{archive}/no.tif: GDAL finds nothing"
    )
    refused(lambda: open_pair("/vsizip/no.zip/ms.tif", pan), "with // before an absolute path")
    refused(lambda: open_pair("x" * 5000, pan), "no such file")


def test_a_driver_that_gdal_lacks_is_named(tmp_path):
    with rasterio.Env() as env:
        if "HDF4" in env.drivers():
            pytest.skip("this GDAL has HDF4")
    _, pan = split(tmp_path)
    old = tmp_path / "MOD.hdf"
    old.write_bytes(b"\x0e\x03\x13\x01" + bytes(100))
    for name in (str(old), f'HDF4_SDS:UNKNOWN:"{old}":0'):
        refused(lambda name=name: open_pair(name, pan), name, "has no driver HDF4", "gdal_translate")


def test_training_on_a_scene_in_an_archive_is_refused(tmp_path):
    ms, pan = scene(tmp_path)
    name = f"/vsizip/{archived(tmp_path, ms)}/in/ms.tif"
    refused(
        lambda: plan_adaptation(name, pan, tmp_path / "out.tif", sensor=get_sensor("IKONOS"), runs=tmp_path),
        name,
        "unpack the file",
    )


def test_training_takes_several_files(tmp_path):
    ms, pan = scene(tmp_path)
    files = apart(tmp_path, ms)
    made, root = scene_manifest(
        [located(files), located(pan)], tmp_path / "out.tif", get_sensor("IKONOS"), {}, (0.0, 0.0), 2048.0
    )
    assert root == tmp_path
    assert made.source.ms == tuple(file.name for file in files)
    assert same(open_dataset(made, root)._reader.pair, open_pair(ms, pan))
