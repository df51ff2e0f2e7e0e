"""How every figure looks: one palette, one text size, two widths; the reader's own settings stay untouched.

Figures are laid out for the screen. A paper shrinks them to both columns (7 inch) or one (3.3 inch): `WIDTH` and
`COLUMN` are such that 10 points, the smallest text, become 7 in either.
"""

import functools
import io
import threading
from collections.abc import Callable
from math import ceil
from typing import ParamSpec

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, ScalarFormatter

# Okabe and Ito 2008 [okabe2008color], told apart with any colour vision; grey stands for their yellow, too pale on
# white.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#999999")
LINES = ("-", "--", "-.", ":")
BOX = "#00FF00"
WIDTH = 10.0  # inches, a figure across the screen or both columns of a paper
COLUMN = 4.7  # inches, one column
_PLOT = 3.0  # inches, about the width of a plot beside others
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


def plots_across(width: float) -> int:
    """How many plots stand side by side: three over the whole width, two in a column."""
    return round(width / _PLOT)


def panels(
    count: int, columns: int, panel_height: float, width: float = WIDTH
) -> tuple[NotebookFigure, list[Axes]]:
    """A figure with `count` panels in rows of at most `columns`; places left over stay empty."""
    columns = min(columns, count)
    rows = ceil(count / columns)
    figure = new_figure(panel_height * rows, width)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in axes[count:]:
        spare.remove()
    return figure, list(axes[:count])


def bare(axes: Axes) -> None:
    """No ticks; the frame stays."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
