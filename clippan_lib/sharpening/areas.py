"""The part of a scene that methods are compared on, and the settings in which they are: with a truth, and without."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from clippan_lib.data import wald
from clippan_lib.data.pair.scene import PairWindow, ScenePair
from clippan_lib.data.stacks import is_soft, sharpness_of_truth, step_down
from clippan_lib.errors import DataError
from clippan_lib.sensors import Sensor
from clippan_lib.shapes import HRMS, LRMS, PAN
from clippan_lib.sharpening.windows import far_apart, held

Setting = Literal["reduced", "as_delivered", "full"]

LARGEST = 320  # LRMS px: a scene of this side is compared as a whole
SIDES = (160, 80, 40)  # of the areas of a larger one, or of one with holes
WITHOUT_TRUTH = (
    160  # LRMS px: as much, along a side, is judged at full resolution, where each pixel costs 16 times more
)
_BLOCK = 32  # PAN px that block-wise scores need
_LEAST = 8  # LRMS px one scale lower, for which a truth is halved


@dataclass(frozen=True)
class Areas:
    """Equal parts of a scene without NoData.

    Args:
        lrms: (b, c, h, w), [0, 1].
        pan: (b, 1, ratio*h, ratio*w), in the units of lrms.
        corners: top and left of each, LRMS px.
        largest: the digital number that is 1 here.
        share: of the scene's pixels, in (0, 1].
    """

    lrms: LRMS
    pan: PAN
    corners: list[tuple[int, int]]
    largest: float
    share: float

    @property
    def in_words(self) -> str:
        """What is compared of the scene."""
        count, (height, width) = len(self.corners), self.lrms.shape[-2:]
        which = "one area" if count == 1 else f"{count} areas"
        return f"{which} of {height} x {width} LRMS px, {self.share:.0%} of the scene"


def choose_areas(pair: ScenePair, sensor: Sensor | None) -> Areas:
    """The whole scene if it is small and holds no NoData; else squares, far apart, that hold none.

    Args:
        pair: the scene.
        sensor: its largest digital number is the peak of MPSNR, if no pixel is larger; else the largest pixel is.
    Raises: DataError if no square of `SIDES` is free of NoData, or the scene is smaller than the smallest.
    """
    whole = _rows_and_columns(pair)
    if max(whole) <= LARGEST and min(whole) >= min(SIDES):
        window = pair.read(slice(0, whole[0]), slice(0, whole[1]))
        if held(window).all():
            return _gathered(pair, sensor, [window], [(0, 0)])
    for side in SIDES:
        corners = [
            (top, left)
            for top in range(0, pair.height - side + 1, side)
            for left in range(0, pair.width - side + 1, side)
        ]
        windows: dict[tuple[int, int], PairWindow] = {}
        for top, left in far_apart(corners):
            window = pair.read(slice(top, top + side), slice(left, left + side))
            if held(window).all():
                windows[top, left] = window
            if len(windows) == (LARGEST // SIDES[0]) ** 2:
                break
        if windows:
            return _gathered(pair, sensor, [*windows.values()], [*windows])
    raise DataError(
        f"no square of {min(SIDES)} x {min(SIDES)} LRMS px of the scene ({pair.height} x {pair.width}) is free of "
        "NoData in both files; methods cannot be compared on it"
    )


def _rows_and_columns(pair: ScenePair) -> tuple[int, int]:
    """The largest that blocks tile at full resolution."""
    step = max(_BLOCK // pair.ratio, 1)
    return pair.height // step * step, pair.width // step * step


def _gathered(
    pair: ScenePair, sensor: Sensor | None, windows: list[PairWindow], corners: list[tuple[int, int]]
) -> Areas:
    lrms, pan = (torch.cat([getattr(window, name) for window in windows]) for name in ("lrms", "pan"))
    seen = max(lrms.max().item(), pan.max().item())
    largest = float(sensor.max_value) if sensor and 1 < seen <= sensor.max_value else seen
    if not largest > 0:
        raise DataError(f"the largest value of MS and PAN is {largest}; nothing can be compared")
    share = lrms[:, 0].numel() / (pair.height * pair.width)
    return Areas((lrms / largest).clamp(min=0), (pan / largest).clamp(min=0), corners, largest, share)


@dataclass(frozen=True)
class Judged:
    """What methods see in a setting, and what judges them.

    Args:
        setting: "reduced": one scale down, the truth made as sharp as PAN; "as_delivered": one scale down, the MS as it
            is; "full": no truth.
        lrms, pan: what methods are given.
        gt: the truth, None at full resolution.
        sharpness: of the truth relative to PAN, see `fusion.consistency.consistent_with_both`.
    """

    setting: Setting
    lrms: LRMS
    pan: PAN
    gt: HRMS | None
    sharpness: float


def settings_of(areas: Areas, sensor: Sensor) -> list[Judged]:
    """Every setting that the areas allow: "as_delivered" only where it differs from "reduced".

    Args:
        areas: from `choose_areas`.
        sensor: with the gains that were measured, or the table's.
    """
    sharp = is_soft(sensor) and min(areas.lrms.shape[-2:]) // step_down(sensor, True) >= _LEAST
    found = [_lower(areas, sensor, "reduced", sharp)]
    if sharp:
        found.append(_lower(areas, sensor, "as_delivered", False))
    height, width = areas.lrms.shape[-2:]
    # the middle of each area
    step = max(_BLOCK // sensor.ratio, 1)
    limit = WITHOUT_TRUTH // int(np.ceil(np.sqrt(len(areas.corners))))
    rows, columns = (min(side, max(limit // step, 1) * step) // step * step for side in (height, width))
    top, left = (height - rows) // 2, (width - columns) // 2
    ratio = sensor.ratio
    lrms = areas.lrms[..., top : top + rows, left : left + columns]
    pan = areas.pan[..., ratio * top : ratio * (top + rows), ratio * left : ratio * (left + columns)]
    return [*found, Judged("full", lrms, pan, None, 1.0)]


def _lower(areas: Areas, sensor: Sensor, setting: Setting, sharp: bool) -> Judged:
    batch = wald(areas.lrms, areas.pan, sensor, sharp)
    return Judged(setting, batch.lrms, batch.pan, batch.gt, sharpness_of_truth(sensor, sharp))
