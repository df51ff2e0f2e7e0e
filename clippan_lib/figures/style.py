"""How every figure looks: one palette, one text size, two widths; the reader's own settings stay untouched.

Figures are laid out for the screen, and a paper shrinks them. A figure of `WIDTH` goes over both columns of a page
(7.16 inch at IEEE), and a figure of `COLUMN` into one column (3.5 inch): 10 points become 7 in either.
"""

import functools
import io
import threading
from collections.abc import Callable, Sequence
from math import ceil
from textwrap import wrap
from typing import Any, ParamSpec

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.textpath import TextToPath
from matplotlib.ticker import LogFormatter, ScalarFormatter

# Okabe and Ito 2008 [okabe2008color], told apart with any colour vision; grey stands for their yellow, too pale on
# white.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#999999")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v")
BOX = "#00FF00"
WIDTH = 10.0  # inches, a figure across the screen or both columns of a paper
COLUMN = 4.7  # inches, one column
_PLOT = 3.0  # inches, about the width of a plot beside others
WIDE = 4.5  # inches, about the width of a plot with long labels beside others
_HANDLE = 0.85  # inches, what stands beside the text of a legend
_LINE = 0.22  # inches
_PERIOD = 14  # of dashes, in widths of their line
_INCH = 72  # points
P = ParamSpec("P")

_SETTINGS = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "figure.titlesize": 12,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "axes.grid": False,
    "lines.linewidth": 2.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.usetex": False,
}


class NotebookFigure(Figure):
    """A figure that a notebook displays although pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def new_figure(height: float, width: float = WIDTH) -> NotebookFigure:
    return NotebookFigure(figsize=(width, height), dpi=110, layout="constrained")


# Matplotlib's settings are the process's: two threads would give back one another's
_DRAWING = threading.RLock()


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw under the package's settings, whatever the reader's are; names are text, not formulas."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with _DRAWING, rc_context(_SETTINGS):
            figure = draw(*args, **kwargs)
            for text in _names_in(figure):
                text.set_parse_math(False)
            # Tick labels take their settings when first drawn, which must happen in here.
            figure.draw_without_rendering()
        return figure

    return wrapped


def _names_in(figure: Figure) -> set[Text]:
    """All texts but numbers beside axes, which matplotlib itself writes as formulas where they are powers of ten."""
    axes = [axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
    scales = [axis for axis in axes if isinstance(axis.get_major_formatter(), ScalarFormatter | LogFormatter)]
    numbers = {text for axis in scales for text in axis.findobj(Text) if text is not axis.label}
    return {*figure.findobj(Text)} - numbers


def plots_across(width: float, least: float = _PLOT) -> int:
    """How many plots stand side by side: three over the whole width and two in a column, if they are not wider.

    Args:
        width: inches of the figure.
        least: inches of a plot, about.
    """
    return max(1, round(width / least))


def panels(
    count: int, columns: int, panel_height: float, width: float = WIDTH, sharey: bool = False
) -> tuple[NotebookFigure, list[Axes]]:
    """A figure with `count` panels in rows of at most `columns`; places left over stay empty."""
    columns = min(columns, count)
    rows = ceil(count / columns)
    figure = new_figure(panel_height * rows, width)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=sharey).ravel()
    for spare in axes[count:]:
        spare.remove()
    return figure, list(axes[:count])


def looks(count: int) -> list[dict[str, Any]]:
    """Colour and dashes of each line of a plot: no two of 64 share both.

    All dashes have one period, and each line's are shorter than those of the line below it. Where lines coincide, each
    is seen in turn.
    """
    levels = min(count, len(PALETTE))
    shorter = [place * levels // count * _PERIOD / levels for place in range(count)]
    dashes = [(0, (_PERIOD - gap, gap)) if gap else "-" for gap in shorter]
    return [{"color": PALETTE[place % len(PALETTE)], "linestyle": dash} for place, dash in enumerate(dashes)]


def marked(place: int) -> dict[str, str]:
    """Colour and marker of a dot: no two of 40 share both."""
    turn = place // len(PALETTE)
    return {"color": PALETTE[place % len(PALETTE)], "marker": MARKERS[(place + turn) % len(MARKERS)]}


def inches(text: str, size: float | int | None = None) -> float:
    """The width of the longest line of a text, in the current font.

    Args:
        text: of one line or more.
        size: of its letters, in points; None is the size of all texts.
    """
    font = FontProperties(size=size)
    widths = [TextToPath().get_text_width_height_descent(line, font, False)[0] for line in text.split("\n")]
    return max(widths) / _INCH


def fitted(text: str, width: float, size: float | int | None = None) -> str:
    """The text on as many lines as its width needs; a word is broken only where it is too wide alone.

    Args:
        text: its own ends of lines stay.
        width: inches.
        size: of its letters, in points; None is the size of all texts.
    """
    lines = []
    for line in text.split("\n"):
        letters = len(line)
        while letters > 1 and inches("\n".join(wrap(line, letters)), size) > width:
            letters -= 1
        lines += wrap(line, letters) if line else [""]
    return "\n".join(lines)


def headed(figure: Figure, title: str) -> None:
    """The title above all plots, on as many lines as it needs; each but the first makes the figure taller."""
    lines = fitted(title, figure.get_figwidth() - 0.2, 12)
    figure.suptitle(lines)
    figure.set_figheight(figure.get_figheight() + _LINE * lines.count("\n"))


def legend_below(figure: Figure, handles: Sequence[Any], labels: Sequence[str], most: int = 8) -> Legend:
    """A legend below all plots, in rows of about equal length; each row but the first makes the figure taller.

    Args:
        figure: of a width that no longer changes.
        handles: one per label.
        labels: broken into lines where they are wider than the figure.
        most: labels of a row.
    """
    width = figure.get_figwidth()
    labels = [fitted(label, width - 2 * _HANDLE) for label in labels]
    columns = max(1, min(most, int(width / (max(map(inches, labels)) + _HANDLE))))
    rows = ceil(len(labels) / columns)
    figure.set_figheight(figure.get_figheight() + _LINE * (rows - 1))
    columns = ceil(len(labels) / rows)
    # handles that show a whole period of dashes
    return figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False, handlelength=2.8
    )


def bare(axes: Axes) -> None:
    """No ticks; the frame stays."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
