"""A small scene as delivered, with the truth at full resolution that it was degraded from."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from rasters import grid, save

from clippan_lib.data.synthetic import render
from clippan_lib.mtf import degrade
from clippan_lib.sensors import get_sensor

HEIGHT, WIDTH = 75, 84  # LRMS px
SOFT = (0.1, 0.1, 0.12, 0.1)


@cache
def land() -> tuple[torch.Tensor, torch.Tensor]:
    """Four bands at full size, and a PAN that they explain but for a little."""
    gt = render(13, get_sensor("IKONOS"), 384)["gt"][None, ..., : 4 * HEIGHT + 8, : 4 * WIDTH + 8]
    pan = torch.einsum("bchw,c->bhw", gt, torch.tensor((0.1, 0.35, 0.35, 0.2)))[:, None]
    return gt, pan + 0.2 * gt[:, :1] * gt[:, 3:]


def scene(folder: Path, shift=(0, 0), gains=SOFT, hole: int = 0, other_place: bool = False):
    """The land through these gains, as GeoTIFFs; PAN too far down and right by whole pixels."""
    gt, pan = land()
    lrms = degrade(gt, gains, 4)[..., 1:-1, 1:-1]
    pan = (pan.mT.flip(-1)[..., : pan.shape[-2], : pan.shape[-2]] if other_place else pan).roll(shift, (2, 3))
    ms, pan = (
        (2047 * image[0]).round().numpy().astype(np.uint16) + 1 for image in (lrms, pan[..., 4:-4, 4:-4])
    )
    pan[:, :, :hole] = 0
    # deliveries align pixel areas, which is half a PAN pixel off the phase of `degrade`
    return (
        save(folder / "ms.tif", ms, grid(4, 0.5, 0.5), nodata=0),
        save(folder / "pan.tif", pan, grid(), nodata=0),
    )
