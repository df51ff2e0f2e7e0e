"""Arrays out of .mat and HDF5 files, refused unless they are what a dataset must hold."""

from collections.abc import Collection, Sequence
from pathlib import Path

import h5py
import numpy as np
import scipy.io
import torch
from torch import Tensor

from clippan_lib.errors import DataError
from clippan_lib.sensors import Sensor

Region = tuple[slice, slice]


def check_exists(path: Path) -> None:
    """Raises: DataError if there is no such file."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; see the manifest's how_to_get, and check data_root")


def open_hdf5(path: Path) -> h5py.File:
    """Raises: DataError if the file is missing, truncated or no HDF5 at all."""
    check_exists(path)
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(
            f"{path}: truncated or corrupt, cannot be opened as HDF5 ({error}); get it again"
        ) from error


def hdf5_shapes(file: h5py.File) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the arrays at the top of an HDF5 file."""
    return {key: item.shape for key, item in file.items() if isinstance(item, h5py.Dataset)}


def mat_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a .mat file's variables, as MATLAB shows them, without reading their values.

    Args:
        path: a .mat file of version 5, 7 or 7.3.
    Raises: DataError if the file is missing or not readable.
    """
    check_exists(path)
    if h5py.is_hdf5(path):
        with open_hdf5(path) as file:
            return {key: shape[::-1] for key, shape in hdf5_shapes(file).items()}
    try:
        return {key: shape for key, shape, _ in scipy.io.whosmat(path)}
    except Exception as error:  # scipy raises a dozen kinds on bad files
        raise _unreadable_mat(path, error) from error


def read_mat(path: Path, key: str, region: Region) -> np.ndarray:
    """One variable of a .mat file, axes in MATLAB's order (HDF5, that is v7.3, holds them reversed).

    Args:
        path: a .mat file of version 5, 7 or 7.3.
        key: the variable's name.
        region: rows and columns; of a v7.3 file only these are read.
    Raises: DataError if the file is not readable, naming the variables it has if `key` is not one.
    """
    require_key(path, key, mat_shapes(path))
    try:
        if h5py.is_hdf5(path):
            with open_hdf5(path) as file:
                return file[key][..., region[1], region[0]].T
        return scipy.io.loadmat(path, variable_names=[key])[key][region]
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise _unreadable_mat(path, error) from error


def _unreadable_mat(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path}: truncated or corrupt, cannot be read as a .mat file ({type(error).__name__}: {error}); "
        "get it again"
    )


def require_key(path: Path, key: str, keys: Collection[str]) -> None:
    """Raises: DataError listing the keys there if `key` is not among them."""
    if key not in keys:
        raise DataError(
            f"{path}: has no key {key!r}; it has {sorted(keys)}. "
            "Correct the key in the manifest, or, if the file is truncated, get it again"
        )


def check_mat_layout(path: Path, key: str, shape: tuple[int, ...], sensor: Sensor) -> tuple[int, int]:
    """The rows and columns of an LRMS variable, which must be (row, column, band).

    Raises: DataError if it has another band count than the sensor, or its axes in another order.
    """
    if len(shape) == 3 and shape[2] == sensor.n_bands:
        return shape[:2]
    found = f"{path}: key {key!r} has shape {shape}"
    if len(shape) == 3 and shape[0] == sensor.n_bands:
        raise DataError(f"{found}, which looks like (band, row, column); store it as (row, column, band)")
    raise DataError(
        f"{found}; sensor {sensor.name} needs (row, column, {sensor.n_bands} bands). "
        "Correct the manifest's sensor or key"
    )


def check_ratio(path: Path, lrms: Sequence[int], pan: Sequence[int], sensor: Sensor) -> None:
    """Refuse rows and columns of PAN that are not `ratio` times those of LRMS.

    Raises: DataError naming both sizes and what was expected.
    """
    if tuple(pan) == tuple(sensor.ratio * side for side in lrms):
        return
    found = f"{path}: LRMS is {lrms[0]} x {lrms[1]} and PAN {' x '.join(map(str, pan))}"
    if tuple(pan[::-1]) == tuple(sensor.ratio * side for side in lrms):
        raise DataError(f"{found}: rows and columns of one look exchanged; transpose it")
    seen = pan[0] // lrms[0] if lrms[0] else 0
    if tuple(pan) == tuple(seen * side for side in lrms):
        raise DataError(f"{found}: ratio {seen}, but sensor {sensor.name} has {sensor.ratio}; correct sensor")
    raise DataError(
        f"{found}: PAN must be {sensor.ratio} times LRMS on both sides; crop or resample the files"
    )


def to_unit(array: np.ndarray, where: str, max_value: float, slack: float = 0.0) -> Tensor:
    """Stored values as float32 in [0, 1]: checked, then divided once by `max_value`.

    Args:
        array: any real dtype.
        where: file and key, for the messages.
        max_value: the largest value the sensor can give.
        slack: share of `max_value` by which values may leave [0, max_value].
    Raises: DataError on values that are no real numbers, not finite, negative or above `max_value`.
    """
    if array.dtype.kind not in "uif":
        raise DataError(f"{where}: values are {array.dtype}, not real numbers; store uint16 or float")
    low, high = float(array.min()), float(array.max())  # both are NaN if any value is
    if not np.isfinite([low, high]).all():
        bad = int((~np.isfinite(array)).sum())
        raise DataError(f"{where}: {bad} of {array.size} values are NaN or infinite; cut them out first")
    if low < -slack * max_value:
        raise DataError(f"{where}: holds {low:g}, a negative value; check nodata and dtype")
    if high > (1 + slack) * max_value:
        raise DataError(
            f"{where}: holds {high:g}, above the largest value {max_value:g}; "
            "correct the manifest's sensor (bits), or give its `max_value`"
        )
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)) / max_value
