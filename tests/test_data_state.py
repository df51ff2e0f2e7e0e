"""What tells that data are still the same: every file that is read, as GDAL reads it."""

import os
from pathlib import Path

import pytest
import rasterio
import torch
from layouts import h5_dataset, mat_dataset, nbu_dataset, pair, save_h5
from rasters import grid, noise, save

from clippan_lib.data import load_manifest, open_dataset
from clippan_lib.data.pair.sources import files_read, states_read
from clippan_lib.files import file_digest, file_state
from clippan_lib.sensors import get_sensor
from clippan_lib.sharpening import plan_job, sharpen
from clippan_lib.sharpening.adapt import plan_adaptation
from clippan_lib.sharpening.parts import Parts

QB = get_sensor("QB")
BAND = (
    '<VRTRasterBand dataType="UInt16" band="{band}"><SimpleSource><SourceFilename relativeToVRT="1">{name}'
    "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
)


def vrt(path: Path, names: list[str], width: int, height: int = 64) -> Path:
    """A VRT on the grid of MS whose bands are these files."""
    bands = "".join(BAND.format(band=band, name=name) for band, name in enumerate(names, 1))
    place = ", ".join(map(str, grid(4).to_gdal()))
    path.write_text(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>EPSG:32632</SRS>'
        f"<GeoTransform>{place}</GeoTransform>{bands}</VRTDataset>"
    )
    return path


@pytest.fixture
def scene(tmp_path) -> Path:
    """PAN, and MS as a VRT of single bands, large enough to be trained on."""
    save(tmp_path / "pan.tif", noise(1, 256, 1408), grid())
    for band in range(1, 5):
        save(tmp_path / f"b{band}.tif", noise(1, 64, 352, seed=band), grid(4))
    vrt(tmp_path / "ms.vrt", [f"b{band}.tif" for band in range(1, 5)], 352)
    return tmp_path


def names(path: Path) -> set[str]:
    return {Path(name).name for name in files_read(path)}


def test_of_a_vrt_all_that_lies_behind_it_is_read_headers_beside_its_sources_too(scene):
    vrt(scene / "outer.vrt", ["ms.vrt"], 352)
    bands = {f"b{band}.tif" for band in range(1, 5)}
    assert names(scene / "outer.vrt") == {"outer.vrt", "ms.vrt"} | bands
    (scene / "b2.tif.aux.xml").write_text("<PAMDataset></PAMDataset>")
    assert names(scene / "outer.vrt") == {"outer.vrt", "ms.vrt", "b2.tif.aux.xml"} | bands
    assert files_read(scene / "outer.vrt")[0] == str(scene / "outer.vrt")


def test_what_gdal_cannot_read_is_a_file_of_its_own_and_what_is_not_there_has_no_state(tmp_path):
    (tmp_path / "weights.safetensors").write_text("no raster")
    assert files_read(tmp_path / "weights.safetensors") == [str(tmp_path / "weights.safetensors")]
    found = states_read([tmp_path / "weights.safetensors", tmp_path / "gone.tif"])
    assert found[str(tmp_path / "gone.tif")] is None
    stat = (tmp_path / "weights.safetensors").stat()
    assert found[str(tmp_path / "weights.safetensors")] == [9, stat.st_mtime_ns]


def test_a_source_that_was_missing_and_appears_is_another_state(scene):
    (scene / "b3.tif").rename(scene / "away.tif")
    before = states_read([scene / "ms.vrt"])
    (scene / "away.tif").rename(scene / "b3.tif")
    assert states_read([scene / "ms.vrt"]) != before


def geotiff(folder: Path):
    (folder / "own.yaml").write_text(
        "name: own\ntitle: t\nsensor: QB\nsource: {kind: geotiff, ms: ms.vrt, pan: pan.tif}\n"
        "split: {train: 0.4, val: 0.2, test: 0.4}\nlicence: l\ncitation: c\nhomepage: h\nhow_to_get: g\n"
    )
    return open_dataset(load_manifest(folder / "own.yaml"))


def test_the_state_of_every_kind_of_data_names_the_files_that_are_read(tmp_path, scene):
    wanted = {"ms.vrt", "pan.tif", *(f"b{band}.tif" for band in range(1, 5))}
    found = geotiff(scene).state()
    assert found == {name: file_state(scene / name) for name in wanted}
    (tmp_path / "nbu").mkdir()
    nbu = nbu_dataset(tmp_path / "nbu", 4).state()
    assert nbu.keys() == {f"{folder}/{number}.mat" for folder in ("MS", "PAN") for number in range(1, 5)}
    save_h5(tmp_path / "train_reduced.h5")
    assert h5_dataset(tmp_path).state() == {"train_reduced.h5": file_state(tmp_path / "train_reduced.h5")}
    synthetic = Path(__file__).resolve().parents[1] / "data_manifests" / "synthetic_qb.yaml"
    assert open_dataset(load_manifest(synthetic)).state() == {}


def test_a_digest_that_was_compared_on_opening_stands_for_the_file(tmp_path):
    arrays = pair(64, 64)
    assert mat_dataset(tmp_path, *arrays).state() == {"scene.mat": file_state(tmp_path / "scene.mat")}
    digest = file_digest(tmp_path / "scene.mat")
    dataset = mat_dataset(tmp_path, *arrays, save=lambda *_, **__: None, source={"sha256": digest})
    assert dataset.state() == {"scene.mat": digest}


def stopped(folder: Path, monkeypatch, after: int) -> None:
    """Fuse with EXP and stop once some tiles are kept, as a power cut would."""
    save_tile, kept = Parts.save, []

    def failing(parts, tile, fused):
        if len(kept) == after:
            raise KeyboardInterrupt
        kept.append(tile)
        save_tile(parts, tile, fused)

    with monkeypatch.context() as patched:
        patched.setattr(Parts, "save", failing)
        with pytest.raises(KeyboardInterrupt):
            sharpen(job(folder), folder / "out.tif")


def job(folder: Path):
    return plan_job(folder / "ms.vrt", folder / "pan.tif", "exp", tile=128, shift=(0.0, 0.0))


def test_a_stopped_scene_whose_bands_were_replaced_behind_the_vrt_holds_the_new_ones_alone(
    scene, monkeypatch
):
    stopped(scene, monkeypatch, 9)
    for band in range(1, 5):
        save(scene / f"b{band}.tif", noise(1, 64, 352, seed=band) + 1000, grid(4))
    sharpen(job(scene), scene / "out.tif")
    sharpen(job(scene), scene / "anew.tif")
    with rasterio.open(scene / "out.tif") as out, rasterio.open(scene / "anew.tif") as anew:
        image = torch.from_numpy(out.read().astype(int))
        assert torch.equal(image, torch.from_numpy(anew.read().astype(int)))
    assert image.min() > 900


def test_nodata_that_a_sidecar_adds_is_seen_in_the_whole_of_a_stopped_scene(scene, monkeypatch):
    stopped(scene, monkeypatch, 9)
    for band in range(1, 5):
        text = '<PAMDataset><PAMRasterBand band="1"><NoDataValue>7</NoDataValue></PAMRasterBand></PAMDataset>'
        (scene / f"b{band}.tif.aux.xml").write_text(text)
    assert job(scene).key != job_key_before(scene)


def job_key_before(folder: Path) -> str:
    """The key without the sidecars."""
    for path in folder.glob("*.aux.xml"):
        path.rename(path.with_suffix(".away"))
    try:
        return job(folder).key
    finally:
        for path in folder.glob("*.away"):
            path.rename(path.with_suffix(".xml"))


def test_an_adaptation_to_other_bands_behind_a_vrt_has_another_folder(scene):
    def folder() -> Path:
        files = (scene / "ms.vrt", scene / "pan.tif", scene / "out.tif")
        return plan_adaptation(*files, sensor=QB, preset="smoke", device="cpu", runs=scene / "runs").folder

    first = folder()
    assert folder() == first
    os.utime(scene / "b4.tif", (1, 1))
    assert folder().parent != first.parent
