"""Stacks of scenes in one HDF5 file, PanCollection's layout, read by windows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clippan_lib.data.arrays import check_ratio, hdf5_arrays, open_hdf5, to_unit
from clippan_lib.data.bounds import refuse_unheld
from clippan_lib.data.stacks import Batch, Resolution, SceneStack, Windows
from clippan_lib.errors import DataError
from clippan_lib.sensors import Sensor

OVERSHOOT = 0.1  # share of the range by which bicubically simulated PAN may leave it


class Hdf5Stack(SceneStack):
    """Scenes of one file of keys ms, pan and (reduced resolution) gt, NCHW; only the box asked for is read.

    Args:
        path: the file.
        sensor: gives the band count and the ratio.
        resolution: "full" files have no gt.
        max_value: what stored values are divided by.
    Raises: DataError for a file, key or shape that does not fit.
    """

    def __init__(self, path: Path, sensor: Sensor, resolution: Resolution, max_value: float) -> None:
        self.path, self.file = path, open_hdf5(path)
        self.has_gt = resolution == "reduced"
        self.slack = OVERSHOOT if resolution == "reduced" else 0.0
        self.arrays = dict(zip(self.keys, hdf5_arrays(self.file, path, self.keys), strict=True))
        shapes = {key: array.shape for key, array in self.arrays.items()}
        count, height, width = self._check_layout(shapes, sensor)
        scene = [shape[1:] for shape in shapes.values()]
        refuse_unheld(f"{path}: one scene", scene, "cut the scenes into smaller ones")
        names = tuple(f"{path.stem}_{index}" for index in range(count))
        super().__init__(names, sensor, resolution, height, width, self.has_gt, max_value)

    @property
    def keys(self) -> tuple[str, ...]:
        """Of the file, those that are read."""
        return ("ms", "pan", "gt") if self.has_gt else ("ms", "pan")

    def _check_layout(self, shapes: dict[str, tuple[int, ...]], sensor: Sensor) -> tuple[int, int, int]:
        """Count, rows and columns of the scenes."""
        for key, shape in shapes.items():
            bands = 1 if key == "pan" else sensor.n_bands
            if 0 in shape:
                raise DataError(
                    f"{self.path}: key {key!r} has shape {shape}, not one pixel; scenes and sides "
                    "must be not zero, get it again"
                )
            if len(shape) != 4 or shape[1] != bands:
                hint = "looks like NHWC; store it as" if len(shape) == 4 and shape[3] == bands else "must be"
                raise DataError(
                    f"{self.path}: key {key!r} has shape {shape}; {hint} (scene, {bands} bands, row, column) "
                    f"for sensor {sensor.name}. Correct the file or the manifest's sensor"
                )
        counts = {key: shape[0] for key, shape in shapes.items()}
        if len(set(counts.values())) > 1:
            raise DataError(f"{self.path}: scenes per key are {counts}; must be equal, get it again")
        for key in self.keys[1:]:
            check_ratio(self.path, shapes["ms"][2:], shapes[key][2:], sensor)
        count, _, rows, columns = shapes["ms"]
        return count, rows, columns

    def read(self, windows: Windows) -> Batch:
        scenes, row = np.unique(windows.scenes, return_inverse=True)
        top, left = min(windows.tops), min(windows.lefts)
        bottom, right = max(windows.tops) + windows.height, max(windows.lefts) + windows.width
        tops, lefts = [t - top for t in windows.tops], [x - left for x in windows.lefts]
        inside = replace(windows, tops=tops, lefts=lefts)
        images = {}
        for key in self.keys:
            scale = 1 if key == "ms" else self.sensor.ratio
            slab = self._slab(key, scenes, *(scale * edge for edge in (top, bottom, left, right)))
            images[key] = inside.cut([slab[position] for position in row], scale)
        return Batch(images["ms"], images["pan"], images.get("gt"), torch.tensor(windows.scenes))

    def _slab(self, key: str, scenes: np.ndarray, top: int, bottom: int, left: int, right: int) -> Tensor:
        """The box around all windows, of the scenes asked for (HDF5 wants them sorted and once each)."""
        try:
            array = self.arrays[key][scenes, :, top:bottom, left:right]
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{self.path}: key {key!r} cannot be read ({error}); corrupt, get it again"
            ) from error
        where = f"{self.path}: key {key!r}, scenes {scenes[0]}..{scenes[-1]}"
        return to_unit(array, where, self.max_value, self.slack if key == "pan" else 0.0)
