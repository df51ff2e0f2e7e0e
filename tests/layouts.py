"""Small files of every layout a dataset comes in, and datasets on them."""

from pathlib import Path

import h5py
import numpy as np
import scipy.io

from clippan_lib.data import Manifest, open_dataset
from clippan_lib.sensors import read_sensor

TEXT = {"title": "t", "licence": "l", "citation": "c", "homepage": "h", "how_to_get": "g"}
SHARES = {"train": 0.5, "val": 0.25, "test": 0.25}
REDUCED = ("train_reduced", "val_reduced", "test_reduced")


def manifest(source: dict, sensor: str | dict = "QB", **fields) -> Manifest:
    split = SHARES if source["kind"] in ("mat_pair", "nbu") else None
    sensor = read_sensor(sensor) if isinstance(sensor, dict) else sensor
    content = {"name": "mine", "sensor": sensor, "source": source, "split": split, **TEXT, **fields}
    return Manifest.model_validate(content)


def pair(height: int = 24, width: int = 32, bands: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """LRMS (row, column, band) and PAN (row, column), 11 bits."""
    rng = np.random.default_rng(seed)
    lrms = rng.integers(1, 2048, (height, width, bands), dtype=np.uint16)
    return lrms, rng.integers(1, 2048, (4 * height, 4 * width), dtype=np.uint16)


def save_v5(path: Path, **arrays) -> None:
    scipy.io.savemat(path, arrays, do_compression=True)


def save_v73(path: Path, **arrays) -> None:
    """As MATLAB does: HDF5 behind a 512-byte text header, axes reversed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, array in arrays.items():
            file[key] = array.T
            file[key].attrs["MATLAB_class"] = np.bytes_("uint16")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))


def mat_dataset(folder: Path, lrms: np.ndarray, pan: np.ndarray, save=save_v5, sensor="QB", **fields):
    save(folder / "scene.mat", I_MS=lrms, I_PAN=pan)
    source = {"kind": "mat_pair", "path": "scene.mat", "keys": {"lrms": "I_MS", "pan": "I_PAN"}}
    source |= fields.pop("source", {})
    return open_dataset(manifest(source, sensor, **fields), folder)


def save_h5(path: Path, count: int = 6, side: int = 8, bands: int = 4, full: bool = False, **replace) -> dict:
    """PanCollection's layout: float64 NCHW digital numbers; no gt at full resolution."""
    rng = np.random.default_rng(count)
    shapes = {"ms": (bands, side), "pan": (1, 4 * side), "lms": (bands, 4 * side), "gt": (bands, 4 * side)}
    arrays = {k: rng.integers(0, 2048, (count, c, n, n)).astype(np.float64) for k, (c, n) in shapes.items()}
    if full:
        del arrays["gt"]
    arrays |= replace
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            if array is not None:
                file[key] = array
    return arrays


def h5_dataset(folder: Path, sensor: str = "QB", **fields):
    files = {key: f"{key}.h5" for key in (*REDUCED, "test_full") if (folder / f"{key}.h5").exists()}
    return open_dataset(manifest({"kind": "pancollection", "files": files}, sensor, **fields), folder)


def nbu_dataset(folder: Path, count: int, size: int = 8):
    for name in ("MS", "PAN"):
        (folder / name).mkdir(exist_ok=True)
    for number in range(1, count + 1):
        lrms, pan = pair(size, size, seed=number)
        save_v5(folder / "MS" / f"{number}.mat", imgMS=lrms)
        save_v5(folder / "PAN" / f"{number}.mat", imgPAN=pan)
    return open_nbu(folder)


def open_nbu(folder: Path):
    keys = {"lrms": "imgMS", "pan": "imgPAN"}
    return open_dataset(manifest({"kind": "nbu", "lrms_dir": "MS", "pan_dir": "PAN", "keys": keys}), folder)
