"""Files that claim more than there is, or than fits into memory, are refused before anything is allocated."""

import struct
import tracemalloc
from math import prod

import h5py
import numpy as np
import pytest
import rasterio
from layouts import SHARES, h5_dataset, manifest, mat_dataset, pair, save_v5, save_v73
from rasters import grid, noise, save
from test_data_refusals import read_train, refused

from clippan_lib.data import bounds, open_dataset
from clippan_lib.data.pair import open_pair


@pytest.fixture(autouse=True)
def little_is_allocated():
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**27


def sparse_h5(path, shapes: dict[str, tuple[int, ...]], dtype: str, chunked: bool = True) -> None:
    with h5py.File(path, "w", userblock_size=512 if path.suffix == ".mat" else 0) as file:
        for key, shape in shapes.items():
            file.create_dataset(
                key, shape, dtype, chunks=tuple(min(64, side) for side in shape) if chunked else None
            )


@pytest.mark.parametrize("side", [8, 10**5])
@pytest.mark.parametrize("chunked", [True, False])
def test_arrays_of_hdf5_that_were_never_written_are_refused_with_their_size(tmp_path, side, chunked):
    shapes = {"ms": (6, 4, side, side), "pan": (6, 1, 4 * side, 4 * side), "gt": (6, 4, 4 * side, 4 * side)}
    sparse_h5(tmp_path / "train_reduced.h5", shapes, "f8", chunked)
    size = "1.79e+03 GiB" if side > 8 else "GiB"
    refused(
        lambda: h5_dataset(tmp_path).scenes("train", "reduced"),
        f"train_reduced.h5: key 'ms' has shape {shapes['ms']}",
        size,
        "blocks were written",
        f"{bounds.in_gib(bounds.memory())} of memory",
    )


def test_a_count_of_scenes_that_nobody_stored_is_refused_before_they_get_names(tmp_path):
    shapes = {"ms": (10**9, 4, 8, 8), "pan": (10**9, 1, 32, 32), "gt": (10**9, 4, 32, 32)}
    sparse_h5(tmp_path / "train_reduced.h5", shapes, "f8")
    refused(
        lambda: h5_dataset(tmp_path).scenes("train", "reduced"),
        "(1000000000, 4, 8, 8)",
        "blocks were written",
    )


def test_arrays_of_matlab_7_3_that_were_never_written_are_refused(tmp_path):
    def made(path, **_):
        sparse_h5(path, {"I_MS": (4, 10**6, 10**6), "I_PAN": (4 * 10**6, 4 * 10**6)}, "u2")

    refused(
        lambda: mat_dataset(tmp_path, *pair(), made), "scene.mat: key 'I_MS'", "7.45e+03 GiB", "of memory"
    )


def test_an_array_without_a_shape_is_refused(tmp_path):
    def made(path, **_):
        with h5py.File(path, "w", userblock_size=512) as file:
            file["I_MS"] = h5py.Empty("u2")

    refused(lambda: mat_dataset(tmp_path, *pair(), made), "key 'I_MS' holds no array at all")


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def claiming(path, **shapes: tuple[int, ...]) -> None:
    """A .mat file of version 5 whose headers claim arrays that are not there."""
    whole = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49)
    for key, shape in shapes.items():
        head = element(6, struct.pack("<II", 11, 0)) + element(5, struct.pack(f"<{len(shape)}i", *shape))
        whole += element(
            14,
            head + element(1, key.encode()) + struct.pack("<II", 4, min(2 * prod(shape), 2**31)) + bytes(64),
        )
    path.write_bytes(whole)


def test_a_header_of_matlab_5_that_claims_more_than_the_memory_is_refused(tmp_path):
    def made(path, **_):
        claiming(path, I_MS=(100_000, 100_000, 4), I_PAN=(400_000, 400_000))

    refused(
        lambda: mat_dataset(tmp_path, *pair(), made),
        "scene.mat: (100000, 100000, 4) and (400000, 400000) values take 745 GiB",
        f"this machine has {bounds.in_gib(bounds.memory())} of memory",
    )


def test_a_header_of_matlab_5_that_claims_what_is_not_there_is_refused_when_it_is_read(tmp_path):
    def made(path, **_):
        claiming(path, I_MS=(24, 32, 4), I_PAN=(96, 128))

    refused(lambda: read_train(mat_dataset(tmp_path, *pair(), made)), "scene.mat", "get it again")


@pytest.mark.parametrize(("save_mat", "size"), [(save_v5, 30_000), (save_v73, 30_000)])
def test_a_scene_that_does_not_fit_into_memory_is_refused_with_both_sizes(
    tmp_path, monkeypatch, save_mat, size
):
    monkeypatch.setattr(bounds, "memory", lambda: size)
    refused(
        lambda: mat_dataset(tmp_path, *pair(), save_mat),
        "(24, 32, 4) and (96, 128) values",
        "of memory",
        "cut",
    )


def test_a_file_that_is_little_more_than_its_length_is_refused(tmp_path):
    def made(path, **arrays):
        save_v5(path, **arrays)
        with path.open("r+b") as file:
            file.truncate(2**42)

    refused(
        lambda: mat_dataset(tmp_path, *pair(), made), "scene.mat: claims 4.1e+03 GiB", "bytes are on the disk"
    )


def open_tiffs(folder):
    source = {"kind": "geotiff", "ms": "ms.tif", "pan": "pan.tif"}
    return open_dataset(manifest(source, split=SHARES), folder)


def test_a_geotiff_whose_tiles_were_never_written_is_refused_with_its_size(tmp_path):
    options = {"driver": "GTiff", "dtype": "uint16", "crs": "EPSG:32632", "tiled": True, "BIGTIFF": "YES"}
    options |= {"SPARSE_OK": "TRUE", "blockxsize": 4096, "blockysize": 4096}
    for name, side, count, size in (("ms.tif", 60_000, 4, 4), ("pan.tif", 240_000, 1, 1)):
        shape = {"width": side, "height": side, "count": count}
        with rasterio.open(tmp_path / name, "w", transform=grid(size), **shape, **options):
            pass
    said = "ms.tif: claims 26.8 GiB of values", "bytes are on the disk", "of memory"
    refused(lambda: open_tiffs(tmp_path), *said)
    refused(lambda: open_pair(tmp_path / "ms.tif", tmp_path / "pan.tif"), *said)


def test_a_pair_of_vrts_that_is_larger_than_all_it_refers_to_is_refused(tmp_path):
    save(tmp_path / "b.tif", noise(1, 64, 160), grid(4))
    source = "<SimpleSource><SourceFilename relativeToVRT='1'>b.tif</SourceFilename></SimpleSource>"
    for name, bands, side, size in (("ms.tif", 4, 1_000_000, 4), ("pan.tif", 1, 4_000_000, 1)):
        of_bands = (
            f'<VRTRasterBand dataType="UInt16" band="{band + 1}">{source}</VRTRasterBand>'
            for band in range(bands)
        )
        (tmp_path / name).write_text(
            f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><SRS>EPSG:32632</SRS><GeoTransform>'
            f"{', '.join(map(str, grid(size).to_gdal()))}</GeoTransform>{''.join(of_bands)}</VRTDataset>"
        )
    refused(lambda: open_tiffs(tmp_path), "ms.tif: claims 7.45e+03 GiB")


@pytest.mark.parametrize(
    ("lrms", "pan"),
    [((0, 32, 4), (0, 128)), ((0, 0, 4), (0, 0)), ((8, 0, 4), (32, 0)), ((8, 8, 0), (32, 32))],
)
@pytest.mark.parametrize("save_mat", [save_v5, save_v73])
def test_arrays_without_a_pixel_are_refused_by_key_and_shape(tmp_path, save_mat, lrms, pan):
    arrays = np.ones(lrms, np.uint16), np.ones(pan, np.uint16)
    refused(
        lambda: mat_dataset(tmp_path, *arrays, save_mat), f"key 'I_MS' has shape {lrms}", "no pixel at all"
    )


@pytest.mark.parametrize("shape", [(32,), (2, 2, 2, 2, 4), (4,)])
def test_arrays_of_one_or_five_axes_are_refused_by_key_and_shape(tmp_path, shape):
    arrays = np.ones(shape, np.uint16), np.ones((96, 128), np.uint16)
    refused(
        lambda: mat_dataset(tmp_path, *arrays, save_v73),
        f"key 'I_MS' has shape {shape}",
        "needs (row, column, 4",
    )
    refused(
        lambda: mat_dataset(tmp_path, *arrays, save_v5),
        "key 'I_MS' has shape",
        "needs (row, column, 4 bands)",
    )


@pytest.mark.parametrize("side", [0, 8])
def test_pancollection_without_a_pixel_is_refused_by_key_and_shape(tmp_path, side):
    count = 6 if side == 0 else 0
    shapes = {
        "ms": (count, 4, side, side),
        "pan": (count, 1, 4 * side, 4 * side),
        "gt": (count, 4, 4 * side, 4 * side),
    }
    with h5py.File(tmp_path / "train_reduced.h5", "w") as file:
        for key, shape in shapes.items():
            file[key] = np.ones(shape)
    refused(
        lambda: h5_dataset(tmp_path).scenes("train", "reduced"), f"key 'ms' has shape {shapes['ms']}", "zero"
    )
