"""MS put where PAN shows it: by hand, or measured on the scene. PAN is never resampled."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import torch
from jaxtyping import Bool
from torch import Tensor

from clippan_lib.data.pair.scene import Opening, ScenePair, open_pair
from clippan_lib.errors import DataError
from clippan_lib.metrics.spatial import box_mean
from clippan_lib.mtf import degrade
from clippan_lib.optics import Optics, measure_optics
from clippan_lib.optics.measure import LEAST_R2
from clippan_lib.sensors import Sensor
from clippan_lib.shapes import LRMS, PAN
from clippan_lib.sharpening.windows import SIDE, WINDOWS, far_windows, held, scaled

REACHES = (4, 16, 48)  # PAN px: the search widens until the best place is not at its edge
_STILL = 0.05  # PAN px
_ROUNDS = 3
_DETAIL = 5  # LRMS px: side of the mean that is taken off


@dataclass(frozen=True)
class Placed:
    """A pair, and how it was put together.

    Args:
        pair: MS moved by `shift`.
        shift: rows and columns, PAN px, by which PAN lay too far down and right of MS.
        remark: why it was moved, in words; "" if it was not.
    """

    pair: ScenePair
    shift: tuple[float, float]
    remark: str = ""


def place(
    ms: Path,
    pan: Path,
    *,
    sensor: Sensor | None = None,
    register: bool = False,
    shift: tuple[float, float] = (0.0, 0.0),
    **opening: Unpack[Opening],
) -> Placed:
    """Open a pair as delivered, or with MS moved onto PAN.

    The shift is that of `measure_optics`, one translation for the scene, from a few windows far apart. MS is
    interpolated once, at its new place (`open_pair`); where one file no longer covers the other the scene is cut.

    Args:
        ms, pan, sensor, opening: as for `open_pair`.
        register: measure the shift and correct it.
        shift: correct this shift, rows and columns in PAN px.
    Raises: DataError where both are asked for, where MS and PAN show no common structure within the last of
        `REACHES`, or one is the other's negative, or as `open_pair` does.
    """
    if not register:
        by_hand = f"MS was moved by {shift[0]:+g} rows and {shift[1]:+g} columns (PAN px), as given"
        pair = open_pair(ms, pan, sensor=sensor, shift=shift, **opening)
        return Placed(pair, shift, by_hand if shift != (0.0, 0.0) else "")
    if shift != (0.0, 0.0):
        raise DataError(f"register measures the shift, and {shift} is given; leave one of the two out")
    pair = open_pair(ms, pan, sensor=sensor, **opening)
    found = _found(pair, ms, pan)
    down, right = found.shift
    left = found.shift
    for _ in range(_ROUNDS):
        pair = open_pair(ms, pan, sensor=sensor, shift=(down, right), **opening)
        left = _measured(pair, REACHES[0]).shift
        if max(map(abs, left)) < _STILL:
            break
        down, right = round(down + left[0], 3), round(right + left[1], 3)
    else:
        pair = open_pair(ms, pan, sensor=sensor, shift=(down, right), **opening)
    _refuse_inverted(pair, pan)
    remark = (
        f"registered: PAN lay {down:+.2f} rows and {right:+.2f} columns (PAN px) off MS (R² {found.r2:.2f}); MS was "
        "moved by that, PAN is as it was"
    )
    return Placed(pair, (down, right), remark)


def _found(pair: ScenePair, ms: Path, pan: Path) -> Optics:
    """The shift as delivered, by a search that widens."""
    for reach in REACHES:
        found = _measured(pair, reach)
        if found.good:
            return found
    if found.r2 < LEAST_R2:
        raise DataError(
            f"{ms} and {pan} show no common structure within {REACHES[-1]} PAN px of where they should: R² is "
            f"{found.r2:.2f}, and pairs that belong together have .8 and more. Is PAN of another place? Look at both, "
            "or give the shift by hand"
        )
    down, right = found.shift
    raise DataError(
        f"{ms} and {pan}: the shift could not be told ({down:+.1f} rows, {right:+.1f} columns, R² {found.r2:.2f}, "
        f"common gain {found.common:.2f}); give it by hand"
    )


def _refuse_inverted(pair: ScenePair, pan: Path) -> None:
    """The fit takes PAN for its negative just as well."""
    lrms, high, valid = _read(pair)
    low = degrade(high, (0.3,), pair.ratio)
    ours, theirs = (image - box_mean(image, _DETAIL) for image in (lrms.mean(1, keepdim=True), low))
    both = (ours * theirs)[valid].sum() / ((ours[valid].norm() * theirs[valid].norm()).item() or 1.0)
    if both < 0:
        raise DataError(
            f"{pan}: is bright where MS is dark (correlation of their detail {both:.2f}); it is no PAN of this scene, "
            "or was turned for display"
        )


def _read(pair: ScenePair) -> tuple[LRMS, PAN, Bool[Tensor, "_ 1 _ _"]]:
    windows = far_windows(pair)
    if not windows:
        raise DataError("no pixel that was read holds data in both files; they cannot be registered")
    lrms, pan = (torch.cat([getattr(window, name) for window in windows]) for name in ("lrms", "pan"))
    return lrms, pan, torch.cat([held(window) for window in windows])


def _measured(pair: ScenePair, reach: int) -> Optics:
    lrms, pan, valid = _read(pair)
    try:
        found = measure_optics(
            scaled(lrms), scaled(pan), pair.ratio, valid, reach=reach, windows=WINDOWS, side=SIDE
        )
    except ValueError as error:
        raise DataError(f"the pair cannot be registered: {error}; give the shift by hand") from error
    down, right = (round(by, 3) for by in found.shift)  # so that numbers of threads do not tell
    return replace(found, shift=(down, right))
