"""What all explorers share: controls at the side, pictures and numbers beside them, errors where the user looks."""

import asyncio
import base64
import html
import io
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import PIL.Image
from ipywidgets import HTML, HBox, Layout, Tab, ValueWidget, VBox, Widget
from matplotlib.figure import Figure

from clippan_lib.explore.plot import pixels_of
from clippan_lib.figures.style import styled

STILL = (
    "This is a still image: open the notebook in JupyterLab (make lab) and run the cell to move its controls."
)
_SIDE = "250px"  # of the controls
_NAMES = "84px"  # of a control's name


@dataclass(frozen=True)
class View:
    """A widget, and what brings it up to date.

    Args:
        widget: what is shown.
        draw: shows the present state.
    """

    widget: Widget
    draw: Callable[[], None]


class Explorer(ABC):
    """Controls at the side; pictures, numbers and tabs of their state beside them.

    A moved control redraws once; a browser that drags faster than that sends only the latest value. Plain Python
    does the same through `set`, or through `controls`, with or without a browser. An error in a redraw is shown
    above the pictures and raised.

    A subclass makes its own state, then calls `__init__`, and says how to draw:

    * `_draw` brings the pictures up to date; `_print` makes a figure of the same state;
    * `_follow` changes the controls that depend on another; `_settle` prepares a redraw;
    * `_numbers` is the HTML below the pictures. It is made when `_counted` changes, and not before the controls have
      rested for `_rest` seconds.
    """

    _rest = 0.0

    def __init__(
        self,
        controls: Mapping[str, ValueWidget],
        pictures: Sequence[Widget],
        tabs: Mapping[str, View] | None = None,
        buttons: Sequence[Widget] = (),
    ) -> None:
        """
        Args:
            controls: name to a widget with a `value`, in the order shown; each redraws when it changes.
            pictures: what `_draw` brings up to date.
            tabs: title to what is shown below the numbers, one at a time.
            buttons: stand below the controls.
        """
        self.controls = dict(controls)
        self.alarm, self.busy, self.numbers = HTML(), HTML(), HTML()
        self._held, self._waiting, self._told_of = False, None, object()
        self._tabs = list((tabs or {}).items())
        for name, control in self.controls.items():
            _dress(control)
            control.observe(lambda _, name=name: self._changed(name), names="value")
        side = VBox([*self.controls.values(), *buttons], layout=Layout(width=_SIDE, flex=f"0 0 {_SIDE}"))
        shown = [self.busy, self.alarm, *pictures, self.numbers]
        if self._tabs:
            self.tab = Tab([view.widget for _, view in self._tabs], titles=[title for title, _ in self._tabs])
            self.tab.observe(lambda _: self._draw_tab(), names="selected_index")
            shown.append(self.tab)
        main = VBox(shown, layout=Layout(flex="1 1 auto", min_width="0", overflow="hidden"))
        self.widget = HBox([side, main])
        self.widget.add_class("clippan-explorer")
        self.redraw()

    @abstractmethod
    def _draw(self) -> None:
        """Bring the pictures up to date with the controls."""

    @abstractmethod
    def _print(self) -> Figure:
        """A new figure of the state; it is drawn in the package's style."""

    def _follow(self, name: str) -> None:
        """Change the controls that depend on this one, which has just changed."""
        return

    def _settle(self) -> None:
        """Compute what the pictures show."""
        return

    def _numbers(self) -> str:
        """HTML shown below the pictures."""
        return ""

    def _counted(self) -> Hashable:
        """What the numbers depend on; unless a subclass says it, they are made at each redraw."""
        return object()

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

        Raises: whatever drawing raises, after showing it above the pictures.
        """
        if self._held:
            return
        with self._told():
            self._settle()
            self._draw()
            self._draw_tab()
            self.alarm.value = ""
        self._later()

    def _draw_tab(self) -> None:
        """The tab that is open; the others wait until they are opened."""
        if self._tabs:
            with self._told():
                self._tabs[self.tab.selected_index or 0][1].draw()

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Say what is being done for as long as it takes.

        Args:
            what: such as "embedding 300 patches".
        """
        self.busy.value = f'<progress style="width:60px"></progress> {html.escape(what)} …'
        try:
            yield
        finally:
            self.busy.value = ""

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
        if (counted := self._counted()) == self._told_of:
            return
        self._told_of = counted
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
        # Numbers that fail are tried again at the next redraw
        self._waiting, counted, self._told_of = None, self._told_of, object()
        with self._told():
            self.numbers.value = self._numbers()
        self._told_of = counted

    def _changed(self, name: str) -> None:
        with self._told():
            self._follow(name)
        self.redraw()

    def figure(self) -> Figure:
        """The current state as a figure of its own, to save or to print."""
        figure = styled(self._print)()
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


def _still(figure: Figure) -> bytes:
    """The figure as PNG with a line below it: this much every viewer shows."""
    line = Figure((figure.get_figwidth(), 0.3), dpi=figure.dpi, facecolor="white")
    line.text(0.5, 0.5, STILL, ha="center", va="center", fontsize=10)
    file = io.BytesIO()
    rgb = np.vstack((pixels_of(figure), pixels_of(line)))[..., :3]
    # Stored in the notebook, so made small rather than fast
    PIL.Image.fromarray(rgb).save(file, "PNG", optimize=True)
    return file.getvalue()


def _alarm(error: Exception) -> str:
    """The error in red, its traceback folded away."""
    told = html.escape(f"{type(error).__name__}: {error}")
    trace = html.escape("".join(traceback.format_exception(error)))
    return (
        f'<div role="alert" style="color:#a00000"><b>{told}</b><br>The pictures still show the state before.'
        f"<details><summary>traceback</summary><pre>{trace}</pre></details></div>"
    )


def _dress(control: ValueWidget) -> None:
    """As wide as the side, with names of one width."""
    control.layout.width = "auto"
    if "description_width" in control.style.trait_names():
        control.style.description_width = _NAMES


def scrolled(table: pd.DataFrame) -> str:
    """A table as HTML whose lines stay whole: where it is wider than the page, it can be moved."""
    shown = table.to_html(border=0, index_names=False)
    return f'<div style="overflow-x:auto; white-space:nowrap; font-size:11px; line-height:1.3">{shown}</div>'
