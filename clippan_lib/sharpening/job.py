"""A scene, a method and the size of tiles: checked before anything is read."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import lcm
from pathlib import Path

import torch

from clippan_lib.data.pair.scene import ScenePair, open_pair
from clippan_lib.data.pair.sources import states_read
from clippan_lib.errors import DataError
from clippan_lib.files import file_digest, library_digest
from clippan_lib.fusion import CLASSICAL, as_staged, staged_method
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.sensors import Sensor
from clippan_lib.sharpening.output import BLOCK, DTYPES
from clippan_lib.sharpening.tiles import TileFuser

MIN_TILE = 64  # PAN px
WIDE_APRON = 16  # LRMS px, for methods whose reach has no end


@dataclass(frozen=True)
class Job:
    """All that decides the pixels of an output; made and checked by `plan_job`.

    Args:
        files: MS and PAN.
        fuser: the scene and the method.
        side: of a tile, LRMS px.
        title: the method, in words.
        exact: whether the output is that of a single tile that holds all; if not, the method looks at its whole
            image in such a way that every tile is an image of its own, and the output depends on `side`.
        key: SHA-256 of all this, of the state of the files and of the library itself.
    """

    files: tuple[Path, Path]
    fuser: TileFuser
    side: int
    title: str
    exact: bool
    key: str

    @property
    def pair(self) -> ScenePair:
        return self.fuser.pair

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the output."""
        return self.pair.ratio * self.pair.height, self.pair.ratio * self.pair.width


def plan_job(
    ms: str | Path,
    pan: str | Path,
    method: str | Path = "gsa",
    *,
    sensor: Sensor | None = None,
    bands: Sequence[int] | Sequence[str] | None = None,
    tile: int = 1024,
    device: str | torch.device = "cpu",
) -> Job:
    """Check what can be checked before pixels are read; nothing is written.

    Args:
        ms, pan, bands: as for `open_pair`.
        method: a name of `fusion.CLASSICAL`, or a file of a run's folder networks/.
        sensor: whose MTF gains a classical method uses; a trained network brings its own.
        tile: largest side of a tile, PAN px; memory grows with its square.
        device: where to compute.
    Raises: DataError, CheckpointError or another ValueError naming what was seen and what to do.
    """
    if tile < MIN_TILE:
        raise DataError(f"a tile of {tile} PAN px is too small; give {MIN_TILE} or more")
    paths, device = (Path(ms).resolve(), Path(pan).resolve()), torch.device(device)
    if method in CLASSICAL:
        pair = open_pair(*paths, bands=bands, sensor=sensor)
        staged, max_value, title = staged_method(method, sensor, pair.ratio), 1.0, method
        identity = [method, sensor and asdict(sensor)]
    else:
        trained = TrainedNetwork.load(method)
        if sensor not in (None, trained.sensor):
            raise DataError(
                f"{method} was trained for sensor {trained.sensor.name}, not {sensor.name}; leave the sensor out"
            )
        pair = open_pair(*paths, bands=bands, sensor=trained.sensor)
        staged = as_staged(trained.network.to(device).to(memory_format=torch.channels_last))
        max_value, title = trained.max_value, f"{trained.name} of {method}"
        identity = [file_digest(Path(method))]
    if pair.dtype not in DTYPES:
        raise DataError(f"{paths[0]}: values are {pair.dtype}; convert them to one of {', '.join(DTYPES)}")
    apron = -(-(WIDE_APRON if staged.reach is None else staged.reach) // staged.align) * staged.align
    # borders on those of the output's blocks, so that none is compressed twice, if tiles are large enough
    step = lcm(pair.ratio * staged.align, BLOCK)
    step = step if tile >= step else pair.ratio * staged.align
    side = max(tile // step, 1) * step // pair.ratio
    decisive = [library_digest(), states_read(paths), bands, identity, apron, side]
    key = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    fuser = TileFuser(pair, staged, apron, max_value, device)
    return Job(paths, fuser, side, title, staged.reach is not None, key)
