"""Which part of a scene is seen, which part is kept at hand around it, and explorers that move it."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from ipywidgets import IntSlider

from clippan_lib.explore.base import Explorer
from clippan_lib.explore.canvas import Canvas

Area = tuple[int, int, int]  # top, left and side, px


def area_around(centre: tuple[int, int], size: int, sides: tuple[int, int], grid: int) -> Area:
    """The square around a pixel, moved so that it lies inside, with its corner on the grid.

    Args:
        centre: row and column.
        size: side of the square; at most the shorter side of the scene.
        sides: height and width of the scene.
        grid: corners are multiples of it.
    """
    top, left = (
        min(max(at - size // 2, 0), side - size) // grid * grid
        for at, side in zip(centre, sides, strict=True)
    )
    return top, left, size


class Cover(NamedTuple):
    """A rectangle of a scene, and how many of its pixels (a square of `factor`) become one of the picture."""

    top: int
    left: int
    height: int
    width: int
    factor: int

    def shows(self, area: Area, factor: int) -> bool:
        """Whether it shows all of an area, at least as finely."""
        top, left, size = area
        inside = self.top <= top and self.left <= left
        enough = top + size <= self.top + self.height and left + size <= self.left + self.width
        return inside and enough and self.factor <= factor


def cover_of(area: Area, sides: tuple[int, int], screen: int, grid: int, before: Cover | None) -> Cover:
    """An area and half its side around it: what a drag can show without asking for more.

    Args:
        area: what is seen.
        sides: height and width of the scene.
        screen: px of the screen across the area; what has twice as many is averaged down.
        grid: corners are multiples of it.
        before: the cover so far; it stays as long as it shows the area.
    """
    top, left, size = area
    factor = 1
    while size // (2 * factor) >= screen:
        factor *= 2
    # One that is far finer than the screen would be large for nothing
    if before is not None and before.shows(area, factor) and 2 * before.factor >= factor:
        return before
    step = max(factor, grid)
    starts = [max(at - size // 2, 0) // step * step for at in (top, left)]
    ends = [
        min(-(-(at + size + size // 2) // step) * step, side)
        for at, side in zip((top, left), sides, strict=True)
    ]
    return Cover(*starts, *(end - start for start, end in zip(starts, ends, strict=True)), factor)


def area_sliders(sides: tuple[int, int], size: tuple[int, int, int, int]) -> dict[str, IntSlider]:
    """Controls of an area: row and column of its centre, and its side.

    Args:
        sides: height and width of the scene, px.
        size: the side at first, the least, the largest, and the step between two sides.
    """
    (height, width), (first, least, largest, step) = sides, size
    return {
        "row": IntSlider(height // 2, 0, height - 1, description="row (px)"),
        "column": IntSlider(width // 2, 0, width - 1, description="column (px)"),
        "size": IntSlider(first, least, largest, step, description="size (px)"),
    }


class AreaExplorer(Explorer):
    """An explorer with the controls row, column and size, which canvases move, too."""

    @property
    @abstractmethod
    def area(self) -> Area:
        """Top, left and side of what is seen, px."""

    def _listen(self, canvas: Canvas) -> Canvas:
        """Let a canvas move the area, and tell what its pointer is on."""
        canvas.observe(lambda change: self._look(change.new), names="wanted")
        canvas.on_msg(lambda _, content, __: self._answer(canvas, content))
        return canvas

    def _look(self, wanted: Sequence[float | int]) -> None:
        _, top, left, size = wanted
        size = round(size)
        self.set(row=int(top) + size // 2, column=int(left) + size // 2, size=size)

    def _answer(self, canvas: Canvas, content: dict[str, Any]) -> None:
        if content["kind"] == "hover":
            canvas.say(self._said(content["frame"], int(content["row"]), int(content["column"])))

    @abstractmethod
    def _said(self, frame: int, row: int, column: int) -> str:
        """What a pixel of a frame holds, in a line."""
