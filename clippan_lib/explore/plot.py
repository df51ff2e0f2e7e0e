"""A figure in an explorer that is drawn again and again: what is not animated only once."""

from collections.abc import Callable, Hashable

import numpy as np
from ipywidgets import Image, Layout
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from clippan_lib.explore.canvas import png
from clippan_lib.figures.style import styled

Update = Callable[[], None]
Build = Callable[[], tuple[Figure, Update]]


def pixels_of(figure: Figure) -> np.ndarray:
    """The figure as red, green, blue, alpha; without what is animated."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def built(build: Build) -> tuple[Figure, Update]:
    """A new figure in the package's style, up to date, and what brings it up to date again."""
    update: Update | None = None

    @styled
    def make() -> Figure:
        nonlocal update
        figure, update = build()
        update()
        return figure

    figure = make()
    assert update is not None
    return figure, update


class Plot:
    """A figure as a picture in the browser.

    If some artists are animated (`artist.set_animated(True)`), a redraw draws only these over the rest, much faster.

    Args:
        build: makes a new figure and what brings it up to date.
        layout: what the figure cannot follow, such as the number of its panels; when it changes, a new one is built.
    """

    def __init__(self, build: Build, layout: Callable[[], Hashable] = lambda: None) -> None:
        self._build, self._layout, self._now = build, layout, None
        self.widget = Image(format="png", layout=Layout(width="auto", height="auto", max_width="100%"))

    def draw(self) -> None:
        """Show the present state."""
        layout = self._layout()
        if self._now is None or self._now[0] != layout:
            self._now = layout, _Live(*built(self._build))
        else:
            self._now[1].update()
        self.widget.value = self._now[1].png()


class _Live:
    def __init__(self, figure: Figure, update: Update) -> None:
        # Places are found once: finding them is slower than all the rest of a redraw
        figure.set_layout_engine("none")
        self.figure, self.update, self.canvas = figure, update, FigureCanvasAgg(figure)
        self.moving = figure.findobj(lambda artist: artist.get_animated())
        self.moving.sort(key=lambda artist: artist.get_zorder())
        if self.moving:
            self.canvas.draw()
            self.still = self.canvas.copy_from_bbox(figure.bbox)

    def png(self) -> bytes:
        if not self.moving:
            return png(pixels_of(self.figure))
        self.canvas.restore_region(self.still)
        for artist in self.moving:
            (artist.axes or self.figure).draw_artist(artist)
        return png(np.asarray(self.canvas.buffer_rgba()))
