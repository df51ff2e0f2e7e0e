"""The part of a scene that methods are compared on, and the settings in which they are: with a truth, and without."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import torch

from clippan_lib.data import wald
from clippan_lib.data.flat import flat
from clippan_lib.data.pair.scene import PairWindow, ScenePair
from clippan_lib.data.stacks import Batch, Windows, is_soft, sharpness_of_truth, step_down
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
_REMEDY = "leave constant bands out by --bands, or give another scene"
_BLOCK = 32  # PAN px that block-wise scores need
_NAMED = 4  # areas that are left out, in words; of a large sea there are many
_LEAST = 8  # LRMS px one scale lower, for which a truth is halved


@dataclass(frozen=True)
class Areas:
    """Equal parts of a scene without NoData, on which methods can be scored.

    Args:
        lrms: (b, c, h, w), [0, 1].
        pan: (b, 1, ratio*h, ratio*w), in the units of lrms.
        corners: top and left of each, LRMS px.
        largest: the digital number that is 1 here.
        share: share of the scene's pixels, in (0, 1].
        left_out: others in words, and why nothing can be scored there.
    """

    lrms: LRMS
    pan: PAN
    corners: list[tuple[int, int]]
    largest: float
    share: float
    left_out: tuple[str, ...] = ()

    @property
    def in_words(self) -> str:
        """What is compared of the scene."""
        count, (height, width) = len(self.corners), self.lrms.shape[-2:]
        which = "one area" if count == 1 else f"{count} areas"
        compared = f"{which} of {height} x {width} LRMS px, {self.share:.0%} of the scene"
        return "; ".join([compared, *_shortened(self.left_out)])


def choose_areas(pair: ScenePair, sensor: Sensor | None) -> Areas:
    """The whole scene if it is small and holds no NoData; else squares, far apart, that hold none and are not `flat`.

    Args:
        pair: the scene.
        sensor: its largest digital number is the peak of MPSNR, if no pixel is larger; else the largest pixel is.
    Raises: DataError if no square of `SIDES` is free of NoData, all those that are have a band or PAN of one value, or
        the scene is smaller than the smallest.
    """
    whole = _rows_and_columns(pair)
    if max(whole) <= LARGEST and min(whole) >= min(SIDES):
        window = pair.read(slice(0, whole[0]), slice(0, whole[1]))
        if held(window).all():
            if fault := _flat(pair, window):
                raise DataError(f"methods cannot be compared on this scene: {fault}; {_REMEDY}")
            return _gathered(pair, sensor, [window], [(0, 0)], [])
    for side in SIDES:
        corners = [
            (top, left)
            for top in range(0, pair.height - side + 1, side)
            for left in range(0, pair.width - side + 1, side)
        ]
        windows, left_out = dict[tuple[int, int], PairWindow](), list[str]()
        for top, left in far_apart(corners):
            window = pair.read(slice(top, top + side), slice(left, left + side))
            if held(window).all():
                if fault := _flat(pair, window):
                    left_out.append(f"the area at row {top}, column {left} is left out: {fault}")
                    continue
                windows[top, left] = window
            if len(windows) == (LARGEST // SIDES[0]) ** 2:
                break
        if windows:
            return _gathered(pair, sensor, [*windows.values()], [*windows], left_out)
    if left_out:
        said = "; ".join(_shortened(left_out))
        raise DataError(f"methods cannot be compared on this scene: {said}; {_REMEDY}")
    raise DataError(
        f"no square of {min(SIDES)} x {min(SIDES)} LRMS px of the scene ({pair.height} x {pair.width}) is free of "
        "NoData in both files; methods cannot be compared on it"
    )


def _shortened(remarks: Sequence[str]) -> list[str]:
    more = len(remarks) - _NAMED
    return [*remarks[:_NAMED], *([f"and {more} more"] if more > 0 else [])]


def _flat(pair: ScenePair, window: PairWindow) -> str:
    return flat(Batch(window.lrms, window.pan, None, torch.zeros(1, dtype=torch.int64)), pair.band_names)[0]


def _rows_and_columns(pair: ScenePair) -> tuple[int, int]:
    """The largest that blocks tile at full resolution."""
    step = max(_BLOCK // pair.ratio, 1)
    return pair.height // step * step, pair.width // step * step


def _gathered(
    pair: ScenePair,
    sensor: Sensor | None,
    windows: list[PairWindow],
    corners: list[tuple[int, int]],
    left_out: list[str],
) -> Areas:
    lrms, pan = (torch.cat([getattr(window, name) for window in windows]) for name in ("lrms", "pan"))
    seen = max(lrms.max().item(), pan.max().item())
    largest = float(sensor.max_value) if sensor and 1 < seen <= sensor.max_value else seen
    if not largest > 0:
        raise DataError(f"the largest value of MS and PAN is {largest}; nothing can be compared")
    share = lrms[:, 0].numel() / (pair.height * pair.width)
    return Areas(
        (lrms / largest).clamp(min=0), (pan / largest).clamp(min=0), corners, largest, share, tuple(left_out)
    )


@dataclass(frozen=True)
class Judged:
    """What methods see in a setting, and what judges them.

    Args:
        setting: "reduced": one scale down, the truth made as sharp as PAN; "as_delivered": one scale down, the MS as it
            is; "full": no truth.
        lrms, pan: what methods are given.
        gt: the truth, None at full resolution.
        sharpness: sharpness of the truth relative to PAN, see `fusion.consistency.consistent_with_both`.
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
    step = max(_BLOCK // sensor.ratio, 1)
    limit = WITHOUT_TRUTH // int(np.ceil(np.sqrt(len(areas.corners))))
    rows, columns = (min(side, max(limit // step, 1) * step) // step * step for side in (height, width))
    # of each area the middle, or where that is flat a corner
    tops, lefts = (((side - part) // 2, 0, side - part) for side, part in ((height, rows), (width, columns)))
    corners = [(tops[0], lefts[0]), *product(tops[1:], lefts[1:])]
    parts = [_part(areas, number, corners, (rows, columns), sensor) for number in range(len(areas.corners))]
    lrms, pan = (torch.cat([getattr(part, name) for part in parts]) for name in ("lrms", "pan"))
    return [*found, Judged("full", lrms, pan, None, 1.0)]


def _part(
    areas: Areas, number: int, corners: Sequence[tuple[int, int]], sides: tuple[int, int], sensor: Sensor
) -> Batch:
    """The first part of an area that is not flat, or the first if all are; corners and sides in LRMS px."""
    parts = []
    for top, left in corners:
        window = Windows([number], [top], [left], *sides)
        lrms, pan = (
            window.cut(areas.lrms[number : number + 1], 1),
            window.cut(areas.pan[number : number + 1], sensor.ratio),
        )
        parts.append(Batch(lrms, pan, None, torch.tensor([number])))
        if not flat(parts[-1], [""] * lrms.shape[1])[0]:
            return parts[-1]
    return parts[0]


def _lower(areas: Areas, sensor: Sensor, setting: Setting, sharp: bool) -> Judged:
    batch = wald(areas.lrms, areas.pan, sensor, sharp)
    return Judged(setting, batch.lrms, batch.pan, batch.gt, sharpness_of_truth(sensor, sharp))
