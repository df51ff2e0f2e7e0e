"""What a manifest reads lies in the folder of the data: paths, links, and what files refer to."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from layouts import SHARES, h5_dataset, manifest, mat_dataset, nbu_dataset, open_nbu, pair, save_h5, save_v73
from rasters import grid, noise, save
from test_data_refusals import refused

from clippan_lib.data import open_dataset
from clippan_lib.data.below import below_root
from clippan_lib.data.fetch import fetch
from clippan_lib.data.pair import open_pair

KEYS = {"lrms": "I_MS", "pan": "I_PAN"}
SOURCES = {
    "path": lambda path: {"kind": "mat_pair", "path": path, "keys": KEYS},
    "lrms_dir": lambda path: {"kind": "nbu", "lrms_dir": path, "pan_dir": "PAN", "keys": KEYS},
    "pan_dir": lambda path: {"kind": "nbu", "lrms_dir": "MS", "pan_dir": path, "keys": KEYS},
    "train_reduced": lambda path: {"kind": "pancollection", "files": {"train_reduced": path}},
    "val_reduced": lambda path: {"kind": "pancollection", "files": {"val_reduced": path}},
    "test_reduced": lambda path: {"kind": "pancollection", "files": {"test_reduced": path}},
    "test_full": lambda path: {"kind": "pancollection", "files": {"test_full": path}},
    "ms": lambda path: {"kind": "geotiff", "ms": path, "pan": "pan.tif"},
    "pan": lambda path: {"kind": "geotiff", "ms": ("a.tif", "b.tif"), "pan": path},
}
OUTSIDE = [
    "/etc/passwd",
    "../a",
    "in/../../a",
    "C:/a",
    "..\\a",
    "",
    ".",
    "a\0b",
    "a\nb",
    "/vsicurl/http://x.org/a.tif",
]


@pytest.mark.parametrize("path", [*OUTSIDE, "x" * 300, "d/" * 600])
@pytest.mark.parametrize("field", SOURCES)
def test_no_kind_of_source_takes_a_path_that_could_leave_the_data_folder(field, path):
    with pytest.raises(ValueError, match=rf"(?s){field}.*(below data_root|has signs|a name has \d+ bytes)"):
        manifest(SOURCES[field](path), split=SHARES if field in ("ms", "pan") else None)


def test_paths_of_usual_names_are_taken_as_they_are():
    for path in ("a.mat", "./a.mat", "3 Gaofen-1/MS_256", "ö/日本.tif", "~/a", "x" * 255):
        assert below_root(path) == path


@pytest.fixture
def away(tmp_path) -> Path:
    (tmp_path / "away").mkdir()
    (tmp_path / "data").mkdir()
    return tmp_path / "away"


@pytest.fixture
def data(away) -> Path:
    return away.parent / "data"


def moved(data: Path, away: Path, name: str) -> None:
    """Put a file elsewhere, and a link in its place."""
    (data / name).rename(away / name.replace("/", "_"))
    (data / name).symlink_to(away / name.replace("/", "_"))


def test_a_link_that_leads_out_of_the_data_folder_is_refused_by_name_for_every_kind(data, away):
    mat_dataset(data, *pair())
    moved(data, away, "scene.mat")
    refused(
        lambda: open_dataset(manifest(SOURCES["path"]("scene.mat")), data),
        "scene.mat: is a link to",
        str(away),
    )
    save_h5(data / "train_reduced.h5")
    moved(data, away, "train_reduced.h5")
    refused(lambda: h5_dataset(data), "train_reduced.h5: is a link to", str(away))
    nbu_dataset(data, 3)
    moved(data, away, "PAN/2.mat")
    refused(lambda: open_nbu(data), "PAN/2.mat: is a link to", str(away))
    moved(data, away, "MS")
    refused(lambda: open_nbu(data), "MS: is a link to", str(away))


def test_a_link_within_the_data_folder_is_followed_and_the_folder_may_be_a_link(data, away):
    mat_dataset(data, *pair())
    (data / "named.mat").symlink_to("scene.mat")
    (away / "root").symlink_to(data)
    opened = open_dataset(manifest(SOURCES["path"]("named.mat")), away / "root")
    assert opened.scenes("train", "full")[0].read().lrms.shape == (1, 4, 24, 16)


def test_nothing_is_downloaded_through_a_link_that_leads_out_of_the_data_folder(data, away):
    (data / "in").symlink_to(away)
    wanted = manifest(SOURCES["path"]("in/a.mat"), downloads={"in/a.mat": {"url": "http://127.0.0.1:9/a"}})
    refused(lambda: fetch(wanted, data, lambda text: None), "in/a.mat: is a link to", str(away))
    assert [*away.iterdir()] == []


def vrt(path: Path, *names: str) -> Path:
    bands = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{band}"><SimpleSource><SourceFilename relativeToVRT="1">{name}'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for band, name in enumerate(names, 1)
    )
    place = ", ".join(map(str, grid(4).to_gdal()))
    path.write_text(
        f'<VRTDataset rasterXSize="160" rasterYSize="64"><SRS>EPSG:32632</SRS><GeoTransform>{place}</GeoTransform>'
        f"{bands}</VRTDataset>"
    )
    return path


def open_tiffs(data: Path, ms="ms.vrt", **source):
    source = {"kind": "geotiff", "ms": ms, "pan": "pan.tif", **source}
    return open_dataset(manifest(source, split=SHARES), data)


@pytest.fixture
def bands(data) -> list[str]:
    """PAN, and MS as four files of a band."""
    save(data / "pan.tif", noise(1, 256, 640), grid())
    for band in range(1, 5):
        save(data / f"b{band}.tif", noise(1, 64, 160, seed=band), grid(4))
    return [f"b{band}.tif" for band in range(1, 5)]


def test_a_vrt_is_read_whose_files_lie_in_the_data_folder(data, bands):
    vrt(data / "ms.vrt", *bands)
    assert open_tiffs(data).size("train", "full")[0] == 64


@pytest.mark.parametrize("way", ["../away/b2.tif", "link.tif", "inner.vrt", "/vsigzip/../away/b2.tif.gz"])
def test_a_vrt_that_refers_to_what_lies_outside_of_the_data_folder_is_refused(data, away, bands, way):
    shutil.copy(data / "b2.tif", away / "b2.tif")
    shutil.copy(data / "b2.tif", away / "b2.tif.gz")
    (data / "link.tif").symlink_to(away / "b2.tif")
    vrt(data / "inner.vrt", "../away/b2.tif")
    vrt(data / "ms.vrt", bands[0], way.replace("../away", str(away)) if way[0] == "/" else way, *bands[2:])
    refused(lambda: open_tiffs(data), "ms.vrt: refers to", "no file of the data folder")


def test_files_beside_an_image_that_gdal_reads_are_looked_at_too(data, away, bands):
    vrt(data / "ms.vrt", *bands)
    (away / "aux.xml").write_text("<PAMDataset></PAMDataset>")
    (data / "pan.tif.aux.xml").symlink_to(away / "aux.xml")
    refused(
        lambda: open_tiffs(data), "pan.tif: refers to", "pan.tif.aux.xml, which is no file of the data folder"
    )


@pytest.mark.parametrize(
    "name", ["/vsicurl/http://127.0.0.1:9/b.tif", "http://127.0.0.1:9/b.tif", "/vsis3/b/b.tif"]
)
def test_a_vrt_of_files_on_other_machines_is_refused_before_they_are_asked(data, bands, name):
    vrt(data / "ms.vrt", name, *bands[1:])
    refused(lambda: open_tiffs(data), "ms.vrt: refers to", name, "lies on another machine")
    refused(lambda: open_pair(data / "ms.vrt", data / "pan.tif"), "lies on another machine")


def test_a_file_that_only_says_where_on_the_net_the_pixels_are_is_refused(data, bands):
    (data / "ms.vrt").write_text(
        "<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:9/${z}/${x}/${y}.png</ServerUrl></Service><DataWindow>"
        "<UpperLeftX>-20037508</UpperLeftX><UpperLeftY>20037508</UpperLeftY><LowerRightX>20037508</LowerRightX>"
        "<LowerRightY>-20037508</LowerRightY><TileLevel>3</TileLevel></DataWindow><BandsCount>3</BandsCount></GDAL_WMS>"
    )
    refused(lambda: open_tiffs(data), "ms.vrt: lies on another machine")


LRMS, _ = pair()


def leading_out(away: Path) -> dict:
    """Ways in which the values of a key can lie in another file."""
    save_v73(away / "other.mat", I_MS=LRMS)
    LRMS.T.tofile(away / "raw.bin")
    stored = LRMS.T.shape
    virtual = h5py.VirtualLayout(stored, "u2")
    virtual[:] = h5py.VirtualSource(str(away / "other.mat"), "I_MS", stored)

    def through_a_group(file):
        file["deep"] = h5py.ExternalLink(str(away / "other.mat"), "/")
        file["soft"] = h5py.SoftLink("deep/I_MS")
        file["I_MS"] = h5py.SoftLink("/soft")

    def without_end(file):
        file["I_MS"] = h5py.SoftLink("/I_MS")

    raw = [(str(away / "raw.bin"), 0, h5py.h5f.UNLIMITED)]
    return {
        "external link": (
            lambda file: file.update({"I_MS": h5py.ExternalLink(str(away / "other.mat"), "/I_MS")}),
            "leads to another file",
        ),
        "soft link": (through_a_group, "leads to another file"),
        "soft link without end": (without_end, "behind 16 others"),
        "raw": (
            lambda file: file.create_dataset("I_MS", stored, "u2", external=raw),
            "has its values in other files",
        ),
        "virtual": (lambda file: file.create_virtual_dataset("I_MS", virtual), "is a virtual array of"),
    }


@pytest.mark.parametrize("way", ["external link", "soft link", "soft link without end", "raw", "virtual"])
def test_an_array_of_hdf5_that_lies_in_another_file_is_refused_by_key(data, away, way):
    make, said = leading_out(away)[way]

    def made(path, I_MS, I_PAN):  # noqa: N803
        save_v73(path, I_PAN=I_PAN)
        with h5py.File(path, "a") as file:
            make(file)

    refused(lambda: mat_dataset(data, *pair(), made), "scene.mat: key 'I_MS'", said)


def test_the_same_holds_for_the_files_of_pancollection(data, away):
    save_h5(away / "other.h5")
    save_h5(data / "train_reduced.h5", pan=None)
    with h5py.File(data / "train_reduced.h5", "a") as file:
        file["pan"] = h5py.ExternalLink(str(away / "other.h5"), "/pan")
    refused(
        lambda: h5_dataset(data).scenes("train", "reduced"),
        "train_reduced.h5: key 'pan' leads to",
        "other.h5",
    )


def test_a_soft_link_within_the_file_is_followed(data):
    def made(path, I_MS, I_PAN):  # noqa: N803
        save_v73(path, I_PAN=I_PAN)
        with h5py.File(path, "a") as file:
            file["deep/MS"] = I_MS.T
            file["I_MS"] = h5py.SoftLink("deep/./MS")

    scene = mat_dataset(data, *pair(), made).scenes("train", "full")[0].read()
    assert np.array_equal((scene.lrms[0] * 2047).round().numpy(), pair()[0].transpose(2, 0, 1)[:, :, :16])


def test_a_link_to_what_is_not_there_or_is_no_array_is_a_missing_key(data):
    for link in ("/gone", "/group"):

        def made(path, I_MS, I_PAN, link=link):  # noqa: N803
            save_v73(path, I_PAN=I_PAN)
            with h5py.File(path, "a") as file:
                file.create_group("group")
                file["I_MS"] = h5py.SoftLink(link)

        refused(lambda: mat_dataset(data, *pair(), made), "scene.mat: has no key 'I_MS'")  # noqa: B023
