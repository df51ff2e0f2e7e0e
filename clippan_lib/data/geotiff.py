"""One scene that is too large to hold and may have holes: read by windows, looked at and judged by areas."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from clippan_lib.data.flat import flat
from clippan_lib.data.stacks import Batch, Places, SceneStack, Windows, step_down, wald
from clippan_lib.errors import NoWindow

AREA_SIDES = (256, 128, 64, 32)  # LRMS px at full resolution; the block-wise metrics need 32
# px of the truth to which the MTF filter reaches, the widest of those that degrade, and what halving reaches beyond
MTF_REACH, HALVING_REACH = 20, 4
Mask = Bool[Tensor, "h w"]


def least_side(ratio: int, step: int) -> int:
    """Measured LRMS px, along a side, of the smallest area that is judged at reduced resolution.

    Args:
        ratio: PAN-to-MS scale.
        step: step of `stacks.step_down`.
    """
    return AREA_SIDES[-1] // ratio * step


def complete(valid: Mask, size: int, stride: int) -> Bool[Tensor, "rows columns"]:
    """Which windows of a regular tiling are valid throughout.

    Args:
        valid: pixels.
        size, stride: size and stride of the square windows, px; a rest at the bottom and right is left out.
    """
    if min(valid.shape) < size:
        return valid.new_zeros(0, 0)
    return valid.unfold(0, size, stride).all(-1).unfold(1, size, stride).all(-1)


def apart(found: Bool[Tensor, "rows columns"], reach: int) -> list[int]:
    """Numbers of places, row by row, each `reach` or more rows or columns away from those taken before it.

    Args:
        found: places that may be taken.
        reach: at least 1.
    """
    free, taken = found.numpy().copy(), []
    for number in found.flatten().nonzero().flatten().tolist():
        row, column = divmod(number, free.shape[1])
        if free[row, column]:
            taken.append(number)
            free[row : row + reach, max(0, column - reach + 1) : column + reach] = False
    return taken


@dataclass(eq=False)
class LargeStack(SceneStack):
    """One scene; nothing of it is kept.

    Args:
        load: a window (rows and columns, LRMS px) as a batch of one.
        valid: LRMS pixels that hold no NoData, neither themselves nor in PAN (nor in the reference).
        most: areas at most.
        step: how many measured LRMS px, along a side, are one of this stack's.
    """

    load: Callable[[slice, slice], Batch]
    valid: Mask
    most: int
    step: int = 1

    def read(self, windows: Windows) -> Batch:
        found = [
            self.load(slice(top, top + windows.height), slice(left, left + windows.width))
            for top, left in zip(windows.tops, windows.lefts, strict=True)
        ]
        lrms, pan = (torch.cat([getattr(batch, key) for batch in found]) for key in ("lrms", "pan"))
        references = [batch.gt for batch in found if batch.gt is not None]
        gt = torch.cat(references) if self.has_gt else None
        return Batch(lrms, pan, gt, torch.tensor(windows.scenes))

    @property
    def _pixel(self) -> int:
        """One px of reduced resolution, in px of this stack: areas are whole ones, the same at both resolutions."""
        return self.sensor.ratio if self.resolution == "full" else 1

    def usable(self, size: int, stride: int) -> Places:
        """The windows of a regular tiling that hold no NoData; where there is none, windows beside it, without overlap.

        Raises: NoWindow if there is none at all.
        """
        regular = complete(self.valid, size, stride)
        if regular.any():
            return Places(stride, regular.flatten().nonzero().flatten().tolist())
        fine = self._pixel
        if numbers := apart(complete(self.valid, size, fine), -(-size // fine)):
            return Places(fine, numbers)
        raise NoWindow(
            f"{self.names[0]}: no window of {size} x {size} LRMS px ({self.resolution} resolution) is "
            "free of NoData; choose a smaller one, or give the split a larger share"
        )

    def areas(self) -> "AreaStack":
        """The largest squares of `AREA_SIDES` of which one at least holds no NoData, evenly spread.

        Both resolutions give the same ground, if no truth is halved first: twice as long a side otherwise. Names end in
        the top and left of an area, in measured LRMS px. Those that are `flat` are left out, unless all are.
        """
        for side in (side // self.sensor.ratio * self._pixel for side in AREA_SIDES):
            if side <= min(self.height, self.width) and complete(self.valid, side, side).any():
                break
        stride, places = self.usable(side, side)
        columns = (self.width - side) // stride + 1
        chosen = torch.linspace(0, len(places) - 1, min(self.most, len(places))).round().long()
        at = (divmod(places[place], columns) for place in chosen)
        corners = [(stride * row, stride * column) for row, column in at]
        faults = {
            corner: flat(self.read(Windows([0], [corner[0]], [corner[1]], side, side)), self.sensor.bands)[0]
            for corner in corners
        }
        return self._of(side, faults)

    def _of(self, side: int, faults: dict[tuple[int, int], str]) -> "AreaStack":
        """Args: side of areas; their corners with what `flat` says."""
        names = {(top, left): f"{self.names[0]}_{self.step * top}_{self.step * left}" for top, left in faults}
        kept = [corner for corner, fault in faults.items() if not fault]
        if kept:
            left_out = {f"area {names[at]} is left out": why for at, why in faults.items() if why}
        else:
            kept, why = [*faults], "; ".join(dict.fromkeys(faults.values()))
            left_out = {f"no area of {self.names[0]} can be scored": why}
        return AreaStack(
            tuple(names[corner] for corner in kept),
            self.sensor,
            self.resolution,
            side,
            side,
            self.has_gt,
            self.max_value,
            self,
            kept,
            left_out,
        )

    def degraded(self, sharp: bool = False) -> "LargeStack":
        """The scene at reduced resolution; a window is the same part of the whole scene degraded by `wald`.

        Nothing but filled NoData can reach into a window from outside the scene.

        Args:
            sharp: see `wald`.
        """
        ratio, step = self.sensor.ratio, step_down(self.sensor, sharp)
        valid, reach = complete(self.valid, step, step), MTF_REACH + (step > ratio) * HALVING_REACH

        def load(rows: slice, columns: slice) -> Batch:
            apron = -(-reach // ratio)
            wide = [
                slice(max(0, part.start - apron), min(length, part.stop + apron))
                for part, length in zip((rows, columns), valid.shape, strict=True)
            ]
            measured = self.load(*(slice(step * part.start, step * part.stop) for part in wide))
            batch = wald(measured.lrms, measured.pan, self.sensor, sharp)
            top, left = rows.start - wide[0].start, columns.start - wide[1].start
            inner = Windows([0], [top], [left], rows.stop - rows.start, columns.stop - columns.start)
            lrms, pan = inner.cut(batch.lrms, 1), inner.cut(batch.pan, ratio)
            gt = None if batch.gt is None else inner.cut(batch.gt, ratio)
            return Batch(lrms, pan, gt, batch.index)

        height, width = valid.shape
        return LargeStack(
            self.names,
            self.sensor,
            "reduced",
            height,
            width,
            True,
            self.max_value,
            load,
            valid,
            self.most,
            self.step * step,
        )


@dataclass(eq=False)
class AreaStack(SceneStack):
    """Equal areas of the one scene of another stack.

    Args:
        stack: the other one.
        corners: top and left of each area, LRMS px.
        faults: what is not among them in words, to why.
    """

    stack: SceneStack
    corners: list[tuple[int, int]]
    faults: Mapping[str, str]

    @property
    def left_out(self) -> Mapping[str, str]:
        return self.faults

    def read(self, windows: Windows) -> Batch:
        corners = [self.corners[area] for area in windows.scenes]
        tops = [top + below for (top, _), below in zip(corners, windows.tops, strict=True)]
        lefts = [left + beside for (_, left), beside in zip(corners, windows.lefts, strict=True)]
        return self.stack.read(replace(windows, tops=tops, lefts=lefts))
