"""The parts of the figures of `compare`, `degrade` and `words`, and a plot of spectra that is quick to change."""

from math import ceil
from textwrap import fill
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from clippan_lib.figures.style import BOX, LINES, PALETTE, WIDTH, bare, new_figure

_ACROSS = 4  # panels in a row, at most
_LARGEST = 4.5  # inches, a panel; the heights of the line above all, the colour bar and the plot follow
_LINE, _BAR, _PLOT = 0.15, 0.12, 2.1
_COLOURS = 6  # of the palette: black is the truth
_LETTER = 0.09  # inches, the mean width of a letter of a title


class Places(NamedTuple):
    """Where the parts of a comparison stand; `bar` is None without error maps."""

    figure: Figure
    heading: Text
    pictures: list[Axes]
    errors: list[Axes]
    bar: Axes | None
    plot: Axes


def places(count: int, maps: bool, swipe: bool) -> Places:
    """A figure with a heading, `count` pictures, their error maps and colour bar if wanted, and a plot below.

    Error maps lie below their pictures; in a swipe, whose only picture is large, beside it.
    """
    columns = 2 if swipe else min(count, _ACROSS)
    blocks, side = ceil(count / columns), min(WIDTH / columns, _LARGEST)
    deep = 2 if maps and not swipe else 1
    heights = [_LINE, *[side] * (blocks * deep), *([_BAR] if maps else []), _PLOT]
    figure = new_figure(sum(heights) + 0.25 * blocks * deep + (0.9 if maps else 0.5))
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    head = figure.add_subplot(grid[0, :])
    head.set_axis_off()
    heading = head.text(0.5, 0.5, "", ha="center", va="center")
    rows = [(1 + place // columns * deep, place % columns) for place in range(count)]
    if swipe:
        cells, below = [grid[1, 0] if maps else grid[1, :]], [grid[1, 1]]
    else:
        cells, below = [grid[at] for at in rows], [grid[row + 1, column] for row, column in rows]
    pictures, errors = (
        [figure.add_subplot(cell) for cell in found] for found in (cells, below if maps else [])
    )
    bar = figure.add_subplot(grid[-2, :]) if maps else None
    return Places(figure, heading, pictures, errors, bar, figure.add_subplot(grid[-1, :]))


class Panel:
    """A picture with a title; of a comparison also the cross of the pixel chosen, and the line of a swipe."""

    def __init__(self, ax: Axes) -> None:
        bare(ax)
        # Known only once the figure is laid out, but panels share the width equally
        self.letters = int(WIDTH / ax.get_gridspec().ncols / _LETTER)
        self.image = ax.imshow(np.zeros((1, 1, 3), np.uint8), extent=(0, 1, 1, 0), interpolation="nearest")
        self.split = ax.axvline(-1, color=BOX, linewidth=1)
        (self.spot,) = ax.plot([], [], "+", color=BOX, markersize=12, markeredgewidth=1.5)
        ax.set(xlim=(0, 1), ylim=(1, 0))
        self.title = ax.set_title("")

    def show(self, picture: np.ndarray, title: str) -> None:
        """
        Args:
            picture: (H, W, 3 or 4) of bytes.
            title: broken into lines where it is wider than the picture.
        """
        self.image.set_data(picture)
        self.title.set_text("\n".join(fill(line, self.letters) for line in title.split("\n")))

    def mark(self, spot: tuple[float, float], split: float) -> None:
        """The cross at x and y, the line at x, all in shares of the picture."""
        self.spot.set_data([spot[0]], [spot[1]])
        self.split.set_xdata([split, split])


class Spectra:
    """Spectra of the chosen pixel; an image keeps its colour whatever else is shown."""

    def __init__(self, ax: Axes, spectra: pd.DataFrame, titles: list[str]) -> None:
        self.ax = ax
        self.lines = {title: self._line(title, titles, spectra) for title in spectra}
        ax.set_xticks(range(len(spectra)), spectra.index)
        ax.set(xlabel="band", ylabel="digital number")
        ax.figure.legend(loc="outside lower center", ncols=min(_ACROSS, len(self.lines)), frameon=False)
        self.title = ax.set_title("")
        ax.yaxis.set_animated(True)
        self.title.set_animated(True)

    def _line(self, title: str, titles: list[str], spectra: pd.DataFrame) -> Line2D:
        place = titles.index(title)
        how = {"color": PALETTE[place % _COLOURS], "linestyle": LINES[place % len(LINES)]}
        if title == "GT":
            how = {"color": "black", "linestyle": "-"}
        (line,) = self.ax.plot(
            range(len(spectra)), spectra[title], marker="o", markersize=4, label=title, **how
        )
        line.set_animated(True)
        return line

    def show(self, spectra: pd.DataFrame, pixel: str) -> None:
        for title, line in self.lines.items():
            line.set_ydata(spectra[title])
        top = float(spectra.to_numpy().max(initial=1.0))
        self.ax.set_ylim(min(0.0, float(spectra.to_numpy().min(initial=0.0))), 1.08 * top)
        self.title.set_text(f"spectra at {pixel} (the cross)")


class Errors(NamedTuple):
    """Error maps of a comparison.

    Args:
        pictures: (H, W, 3 or 4) of bytes, one per image.
        notes: one per image.
        scale: from error to colour; None: there are no maps.
        against: what the errors are taken from.
    """

    pictures: list[np.ndarray]
    notes: list[str]
    scale: ScalarMappable | None
    against: str


def comparison(
    heading: str,
    titles: list[str],
    pictures: list[np.ndarray],
    errors: Errors,
    spot: tuple[float, float],
    split: float | None,
    spectra: tuple[pd.DataFrame, list[str], str],
) -> Figure:
    """A comparison to print.

    Args:
        heading: a line above all.
        titles: one per picture.
        pictures: (H, W, 3 or 4) of bytes; their sides are multiples of one another.
        errors: their maps.
        spot: the cross, at x and y in shares of a picture.
        split: where a swipe parts its two pictures, in shares of the width; None: they stand side by side.
        spectra: of the pixel at the cross, all titles in the order of their colours, and where the pixel is.
    """
    notes, maps = errors.notes, errors.pictures if errors.scale else []
    if split is not None:
        pictures, titles, notes = [_swiped(pictures, split)], [" | ".join(titles)], [" | ".join(notes)]
        maps = [_swiped(maps, split)] if maps else []
    parts = places(len(pictures), bool(maps), split is not None)
    if errors.scale:
        label = f"absolute difference to {errors.against}, mean over bands (DN)"
        parts.figure.colorbar(
            errors.scale, cax=parts.bar, orientation="horizontal", extend="max", label=label
        )
    parts.heading.set_text(heading)
    for ax, picture, title in zip(
        (*parts.pictures, *parts.errors), (*pictures, *maps), (*titles, *notes), strict=False
    ):
        panel = Panel(ax)
        panel.show(picture, title)
        panel.mark(spot, -1.0 if split is None else split)
    table, every, pixel = spectra
    Spectra(parts.plot, table, every).show(table, pixel)
    return parts.figure


def _swiped(both: list[np.ndarray], split: float) -> np.ndarray:
    side = max(map(len, both))
    left, right = (image.repeat(side // len(image), 0).repeat(side // len(image), 1) for image in both)
    column = round(side * split)
    return np.concatenate((left[:, :column], right[:, column:]), axis=1)
