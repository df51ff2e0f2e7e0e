"""Arrays out of .mat and HDF5 files, refused unless they are what a dataset must hold."""

from collections.abc import Iterable, Sequence
from math import prod
from os.path import isfile
from pathlib import Path

import h5py
import numpy as np
import scipy.io
import torch
from torch import Tensor

from clippan_lib.data.bounds import in_gib, memory, refuse_hollow
from clippan_lib.data.links import array_in
from clippan_lib.errors import DataError
from clippan_lib.sensors import Sensor

Region = tuple[slice, slice]


def check_exists(path: Path) -> None:
    """Raises: DataError if there is no such file, or little more of it than its length."""
    if not isfile(path):
        raise DataError(f"{path}: no such file; see the manifest's how_to_get, and check data_root")
    refuse_hollow(path, path.stat().st_size, [path])


def open_hdf5(path: Path) -> h5py.File:
    """Raises: DataError if the file is missing, truncated or no HDF5 at all."""
    check_exists(path)
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(
            f"{path}: truncated or corrupt, cannot be opened as HDF5 ({error}); get it again"
        ) from error


def hdf5_arrays(file: h5py.File, path: Path, keys: Sequence[str]) -> list[h5py.Dataset]:
    """Arrays at the top of an HDF5 file, their values not read.

    Args:
        file: open.
        path: path of the file, for messages.
        keys: keys of the arrays.
    Raises: DataError if one is not there, lies in another file, or was not written as a whole.
    """
    found = []
    for key in keys:
        array = array_in(file, path, key)
        if array is None:
            raise _no_key(path, key, file)
        _refuse_unwritten(path, key, array)
        found.append(array)
    return found


def _refuse_unwritten(path: Path, key: str, array: h5py.Dataset) -> None:
    """HDF5 gives zeros for what was never written, and a few bytes can claim any size."""
    if array.shape is None:
        raise DataError(f"{path}: key {key!r} holds no array at all; get it again")
    whole, stored = 1, int(array.id.get_storage_size() > 0)
    if array.chunks and array.size:
        whole = prod(-(-side // chunk) for side, chunk in zip(array.shape, array.chunks, strict=True))
        stored = array.id.get_num_chunks()
    if array.size and stored < whole:
        raise DataError(
            f"{path}: key {key!r} has shape {array.shape}, which is {in_gib(array.nbytes)}, but {stored} of its "
            f"{whole} blocks were written; get it again. (This machine has {in_gib(memory())} of memory)"
        )


def mat_shapes(path: Path, *keys: str) -> list[tuple[int, ...]]:
    """Shapes of variables of a .mat file, as MATLAB shows them, without reading their values.

    Args:
        path: a .mat file of version 5, 7 or 7.3.
        keys: the variables' names.
    Raises: DataError if the file is missing or not readable, or naming the variables it has if a key is not one.
    """
    check_exists(path)
    if h5py.is_hdf5(path):
        with open_hdf5(path) as file:
            return [array.shape[::-1] for array in hdf5_arrays(file, path, keys)]
    try:
        found = {key: shape for key, shape, _ in scipy.io.whosmat(path)}
    except Exception as error:  # scipy raises a dozen kinds on bad files
        raise _unreadable_mat(path, error) from error
    for key in keys:
        if key not in found:
            raise _no_key(path, key, found)
    return [found[key] for key in keys]


def read_mat(path: Path, key: str, region: Region) -> np.ndarray:
    """One variable of a .mat file, axes in MATLAB's order (HDF5, that is v7.3, holds them reversed).

    Args:
        path: a .mat file of version 5, 7 or 7.3.
        key: the variable's name.
        region: rows and columns; of a v7.3 file only these are read.
    Raises: DataError if the file is not readable, naming the variables it has if `key` is not one.
    """
    mat_shapes(path, key)
    try:
        if h5py.is_hdf5(path):
            with open_hdf5(path) as file:
                [array] = hdf5_arrays(file, path, [key])
                return array[..., region[1], region[0]].T
        return scipy.io.loadmat(path, variable_names=[key])[key][region]
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{path}: key {key!r} does not fit into memory ({error}); cut the scene") from error
    except Exception as error:
        raise _unreadable_mat(path, error) from error


def _unreadable_mat(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path}: truncated or corrupt, cannot be read as a .mat file ({type(error).__name__}: {error}); "
        "get it again"
    )


def _no_key(path: Path, key: str, keys: Iterable[str]) -> DataError:
    return DataError(
        f"{path}: has no key {key!r}; it has {sorted(keys)}. "
        "Correct the key in the manifest, or, if the file is truncated, get it again"
    )


def check_mat_layout(path: Path, key: str, shape: tuple[int, ...], sensor: Sensor) -> tuple[int, int]:
    """The rows and columns of an LRMS variable, which must be (row, column, band).

    Raises: DataError if it has no pixel, another band count than the sensor, or its axes in another order.
    """
    found = f"{path}: key {key!r} has shape {shape}"
    if shape and min(shape) < 1:
        raise DataError(f"{found}, which is no pixel at all; get the file again, or correct the key")
    if len(shape) == 3 and shape[2] == sensor.n_bands:
        return shape[:2]
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
