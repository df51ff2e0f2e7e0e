"""Whether the shift between MS and PAN changes over a scene as an affine map does: measured window by window."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.special import fdtrc

from clippan_lib.data.pair.grid import Shift
from clippan_lib.data.pair.scene import ScenePair
from clippan_lib.optics import measure_optics
from clippan_lib.optics.measure import LEAST_R2
from clippan_lib.sharpening.windows import SIDE, far_windows, held, scaled

_PARTS = 4  # along a side of a window
_LEAST_SIDE = 36  # LRMS px of a part: fewer tell a shift too badly
_LEAST = 8  # parts that agree with PAN: an affine map has six numbers
_WORTH = 0.25  # PAN px: what the farthest corner must gain
_CHANCE = 1e-3  # that parts which only scatter pass for a map
_AGREE = 0.5  # PAN px: root mean square of what the map leaves


class Grown(NamedTuple):
    """An affine shift of the common grid.

    Args:
        middle: rows and columns, PAN px, by which PAN lies too far down and right at the middle of the grid.
        grown: what is added to the rows from one MS row, and one MS column, to the next, and to the columns likewise.
        left: root mean square of what it leaves, PAN px.
        parts: how many windows it was found from.
    """

    middle: tuple[float, float]
    grown: Float64[np.ndarray, "2 2"]
    left: float
    parts: int


def affine_shift(pair: ScenePair) -> Grown | None:
    """The affine map that parts of a scene agree on; None where one translation says as much.

    Each part of a few windows far apart is measured alone (`measure_optics`); those without texture, and clouds,
    explain too little of PAN and have no say. A map is taken where it leaves clearly less than a translation does (F
    test), its own residue is small, and the farthest corner gains a quarter of a PAN pixel.

    Args:
        pair: the scene, moved by the best translation.
    """
    places, shifts = _measured(pair)
    if len(places) < _LEAST:
        return None
    extent = np.array([pair.height, pair.width], dtype=float)
    away = (np.array(places) - extent / 2) / extent  # from -1/2 to 1/2
    design = np.column_stack([np.ones(len(away)), away])
    if np.linalg.matrix_rank(design, tol=0.1) < 3:
        return None
    found = np.array(shifts)
    coefficients, *_ = np.linalg.lstsq(design, found, rcond=None)
    residue = ((found - design @ coefficients) ** 2).sum()
    before = ((found - found.mean(0)) ** 2).sum()
    freedom = 2 * len(found) - 6
    f = (before - residue) / 4 / max(residue / freedom, 1e-12)
    left = float(np.sqrt(residue / found.size))
    gain = np.abs(coefficients[1:]).sum(0).max() / 2
    if fdtrc(4, freedom, f) > _CHANCE or left > _AGREE or gain < _WORTH:
        return None
    grown = (coefficients[1:] / extent[:, None]).T
    middle = (round(float(coefficients[0, 0]), 3), round(float(coefficients[0, 1]), 3))
    return Grown(middle, grown, left, len(found))


def _measured(pair: ScenePair) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Where the parts lie, LRMS px, and by how much PAN is off in each."""
    places, shifts = [], []
    for window in far_windows(pair):
        sides = window.lrms.shape[-2:]
        parts = [max(1, min(_PARTS, side // _LEAST_SIDE)) for side in sides]
        for part in np.ndindex(*parts):
            rows, columns = (
                slice(side * at // count, side * (at + 1) // count)
                for side, at, count in zip(sides, part, parts, strict=True)
            )
            fine = [slice(pair.ratio * each.start, pair.ratio * each.stop) for each in (rows, columns)]
            try:
                found = measure_optics(
                    scaled(window.lrms[..., rows, columns]),
                    scaled(window.pan[..., fine[0], fine[1]]),
                    pair.ratio,
                    held(window)[..., rows, columns],
                    wide=True,
                    side=SIDE,
                )
            except ValueError:  # NoData, or no texture
                continue
            if found.r2 >= LEAST_R2 and max(map(abs, found.shift)) < found.reach:
                top, left = window.corner
                places.append((top + (rows.start + rows.stop) / 2, left + (columns.start + columns.stop) / 2))
                shifts.append(found.shift)
    return places, shifts


def with_growth(pair: ScenePair, shift: Shift, found: Grown) -> Shift:
    """The shift of the files that moves MS as `found` says, beyond a translation that was made already.

    Args:
        pair: moved by `shift`.
        shift: two numbers.
        found: on the grid of the pair.
    """
    middle = pair.in_file((pair.height / 2, pair.width / 2))
    at_zero = np.array(shift) + np.array(found.middle) - found.grown @ np.array(middle)
    down, right = (round(float(value), 3) for value in at_zero)
    a, b, c, d = (round(float(value), 8) for value in found.grown.flatten())
    return down, right, a, b, c, d
