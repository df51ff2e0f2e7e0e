"""What all explorers share: controls above one picture, one redraw per change, errors where the user looks."""

import asyncio
import base64
import html
import io
import struct
import traceback
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pandas as pd
import PIL.Image
from ipywidgets import HTML, HBox, Image, Layout, ValueWidget, VBox
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from clippan_lib.figures.style import styled

STILL = (
    "This is a still image: open the notebook in JupyterLab (make lab) and run the cell to move its controls."
)
Update = Callable[[], None]


def _pixels(figure: Figure) -> np.ndarray:
    """The figure as red, green, blue, alpha; without what is animated."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def _png(pixels: np.ndarray) -> bytes:
    """PNG with every row as its difference to the one above: half the time of a writer that tries all filters."""
    rgb = pixels[..., :3]
    height, width, _ = rgb.shape
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = 2  # filter "up"
    rows[0, 1:], rows[1:, 1:] = rgb[0].ravel(), (rgb[1:] - rgb[:-1]).reshape(height - 1, -1)
    packer = zlib.compressobj(1, strategy=zlib.Z_RLE)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", packer.compress(rows) + packer.flush()), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def _still(figure: Figure) -> bytes:
    """The figure as PNG with a line below it: this much every viewer shows."""
    line = Figure((figure.get_figwidth(), 0.3), dpi=figure.dpi, facecolor="white")
    line.text(0.5, 0.5, STILL, ha="center", va="center", fontsize=10)
    file = io.BytesIO()
    rgb = np.vstack((_pixels(figure), _pixels(line)))[..., :3]
    # Stored in the notebook, so made small rather than fast
    PIL.Image.fromarray(rgb).save(file, "PNG", optimize=True)
    return file.getvalue()


class _Live:
    """A figure that is drawn again and again: what is not animated only once."""

    def __init__(self, figure: Figure, update: Update) -> None:
        # Places are found once: finding them is slower than all the rest of a redraw
        figure.set_layout_engine("none")
        self.figure, self.update, self.canvas = figure, update, FigureCanvasAgg(figure)
        self.moving = figure.findobj(lambda artist: artist.get_animated())
        self.moving.sort(key=lambda artist: artist.get_zorder())
        self.canvas.draw()
        self.still = self.canvas.copy_from_bbox(figure.bbox)

    def png(self) -> bytes:
        if not self.moving:
            return _png(_pixels(self.figure))
        self.canvas.restore_region(self.still)
        for artist in self.moving:
            (artist.axes or self.figure).draw_artist(artist)
        return _png(np.asarray(self.canvas.buffer_rgba()))


class Explorer(ABC):
    """Controls, a picture of their state, and numbers below it.

    Moving a control redraws once; a browser that drags faster than that sends only the latest value. Plain Python
    does the same through `set`, or through `controls`, with or without a browser. An error in a redraw is shown
    above the picture and raised.

    A subclass makes its own state, then calls `__init__`, and says how to draw:

    * `_build` makes a new figure and the function that brings it up to date with the controls, quickly. If some
      artists are animated (`artist.set_animated(True)`), a redraw draws only these over the rest, much faster;
    * `_layout` names what a figure cannot follow (how many panels): when it changes, a new one is built;
    * `_follow` changes the controls that depend on another; `_settle` prepares a redraw; `_numbers` is the HTML below,
      awaited until the controls have rested for `_rest` seconds if it takes longer than a drag allows.
    """

    _rest = 0.0

    def __init__(self, controls: Mapping[str, ValueWidget]) -> None:
        """
        Args:
            controls: name to a widget with a `value`, in the order shown; each redraws when it changes.
        """
        self.controls = dict(controls)
        self.picture = Image(format="png", layout=Layout(width="auto", height="auto", max_width="100%"))
        self.alarm, self.numbers = HTML(), HTML()
        self._held, self._live, self._waiting = False, None, None
        for name, control in self.controls.items():
            control.observe(lambda _, name=name: self._changed(name), names="value")
        rows = HBox(list(self.controls.values()), layout=Layout(flex_flow="row wrap"))
        self.widget = VBox([rows, self.alarm, self.picture, self.numbers])
        self.redraw()

    @abstractmethod
    def _build(self) -> tuple[Figure, Update]:
        """A new figure for the current layout, and what brings it up to date with the controls."""

    def _layout(self) -> Hashable:
        """What decides which panels the figure has; a figure is kept while this stays equal."""
        return None

    def _follow(self, name: str) -> None:
        """Change the controls that depend on this one, which has just changed."""
        return

    def _settle(self) -> None:
        """Compute what the picture shows."""
        return

    def _numbers(self) -> str:
        """HTML shown below the picture."""
        return ""

    def __getitem__(self, name: str) -> object:
        """The value of a control."""
        return self.controls[name].value

    def set(self, **values: object) -> None:
        """Give controls these values, in this order, and redraw once.

        Raises: ValueError on an unknown control or a value that a control does not take; all keep their values.
        """
        unknown = [name for name in values if name not in self.controls]
        if unknown:
            raise ValueError(f"no control {unknown}; there are: {', '.join(self.controls)}")
        with self.held():
            before = {name: self[name] for name in values}
            try:
                for name, value in values.items():
                    self._give(name, value)
            except ValueError:
                for name, value in before.items():
                    self.controls[name].value = value
                raise

    def _give(self, name: str, value: object) -> None:
        control = self.controls[name]
        value = tuple(value) if isinstance(value, list) else value
        try:
            control.value = value
        except Exception as error:  # of whatever kind its validation raises: nothing else runs while held
            known = f"choose from {list(control.options)}" if hasattr(control, "options") else str(error)
            raise ValueError(f"{name} cannot be {value!r}: {known}") from None
        if control.value != value:  # sliders move what lies outside to their ends
            raise ValueError(f"{name} cannot be {value!r}: it lies between {control.min} and {control.max}")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Change several controls inside; one redraw follows."""
        outer, self._held = self._held, True
        try:
            yield
        finally:
            self._held = outer
        self.redraw()

    def redraw(self) -> None:
        """Draw the current state; inside `held` it waits for the end.

        Raises: whatever drawing raises, after showing it above the picture.
        """
        if self._held:
            return
        with self._told():
            self._settle()
            self.picture.value = self._render()
            self.alarm.value = ""
        self._later()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Show an error before raising it; what changes controls inside does not redraw."""
        outer, self._held = self._held, True
        try:
            yield
        except Exception as error:
            self.alarm.value = _alarm(error)
            raise
        finally:
            self._held = outer

    def _later(self) -> None:
        """The numbers, once the controls rest; at once where nobody can drag them."""
        if self._waiting is not None:
            self._waiting.cancel()
        try:
            loop = asyncio.get_running_loop() if self._rest else None
        except RuntimeError:
            loop = None
        if loop is None:
            self._tell()
        else:
            self.numbers.value = f'<div style="opacity:0.3">{self.numbers.value}</div>'
            self._waiting = loop.call_later(self._rest, self._tell)

    def _tell(self) -> None:
        self._waiting = None
        with self._told():
            self.numbers.value = self._numbers()

    def _changed(self, name: str) -> None:
        with self._told():
            self._follow(name)
        self.redraw()

    def _render(self) -> bytes:
        layout = self._layout()
        if self._live is None or self._live[0] != layout:
            self._live = layout, _Live(*self._new())
        else:
            self._live[1].update()
        return self._live[1].png()

    def _new(self) -> tuple[Figure, Update]:
        update = None

        @styled
        def build() -> Figure:
            nonlocal update
            figure, update = self._build()
            update()
            return figure

        return build(), update

    def figure(self) -> Figure:
        """The current state as a figure of its own, to save or to print."""
        figure = self._new()[0]
        for artist in figure.findobj(lambda artist: artist.get_animated()):
            artist.set_animated(False)
        return figure

    def _repr_mimebundle_(self, **_: object) -> dict[str, object]:
        """The live view, and for a viewer without widgets (GitHub, a papermill log) a still image that says so."""
        return {
            **self.widget._repr_mimebundle_(),
            "image/png": base64.b64encode(_still(self.figure())).decode(),
            "text/plain": STILL,
        }


def _alarm(error: Exception) -> str:
    """The error in red, its traceback folded away."""
    told = html.escape(f"{type(error).__name__}: {error}")
    trace = html.escape("".join(traceback.format_exception(error)))
    return (
        f'<div role="alert" style="color:#a00000"><b>{told}</b><br>The picture still shows the state before.'
        f"<details><summary>traceback</summary><pre>{trace}</pre></details></div>"
    )


def scrolled(table: pd.DataFrame) -> str:
    """A table as HTML whose lines stay whole: where it is wider than the page, it can be moved."""
    shown = table.to_html(border=0, index_names=False)
    return f'<div style="overflow-x:auto; white-space:nowrap">{shown}</div>'
