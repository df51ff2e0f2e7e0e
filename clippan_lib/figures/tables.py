"""From numbers to tables with units and the best marked, and the picture of paired differences over seeds."""

import math
from collections.abc import Mapping
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pandas.io.formats.style import Styler

from clippan_lib.evaluation.intervals import confidence_interval, difference_text
from clippan_lib.evaluation.scores import DIFFERENCE
from clippan_lib.figures.style import PALETTE, WIDTH, headed, panels, plots_across, styled
from clippan_lib.figures.text import plain
from clippan_lib.metrics import BETTER, UNITS

# `underline` is for LaTeX alone: pandas translates bold, but not HTML's way to underline
_CSS = {1: "font-weight: bold", 2: "text-decoration: underline; underline: --rwrap--latex"}
# Decimals that tell methods apart
DIGITS = dict.fromkeys(BETTER, 4) | {"MPSNR": 3, "ERGAS": 3, "SAM": 3}
_ARROWS = {"high": "↑", "low": "↓"}
_FIGURES, _MOST_DIGITS = 4, 6  # of a column that is no known metric
_LABEL = 24  # characters of a line beside a plot
_MARKDOWN = {1: "**{}**", 2: "_{}_"}


def unit_of(metric: str) -> str | None:
    """The unit of a metric, or of a difference of it; None if it has none, or is not known."""
    return UNITS.get(metric.removesuffix(DIFFERENCE))


def with_unit(metric: str, unit: str | None) -> str:
    """ "MPSNR (dB)"; a metric without a unit stays as it is."""
    return f"{metric} ({unit})" if unit else metric


def header(metric: str, unit: str | None = None) -> str:
    """Name, unit and direction of a column, e.g. "SAM (°) ↓".

    Args:
        metric: its name, of `metrics.BETTER` or another, which then has no arrow.
        unit: if not that of `unit_of`.
    """
    better = BETTER.get(metric.removesuffix(DIFFERENCE))
    return f"{with_unit(metric, unit or unit_of(metric))} {_ARROWS.get(better, '')}".rstrip()


def precision(metric: str, values: pd.Series) -> tuple[int, int]:
    """How a column is printed so that its numbers can be read.

    Args:
        metric: its name; those of `DIGITS` have their decimals, any other has four where its largest value is between
            0.01 and 10, and otherwise those that show four figures of it.
        values: finite or NaN.
    Returns: the power of ten, 0 or a negative multiple of 3, in which a column of tiny numbers is given; and the
        decimals, 0 to 6, of what is divided by it.
    """
    known = DIGITS.get(metric.removesuffix(DIFFERENCE))
    largest = values.abs().max()
    if not largest > 0:  # NaN: there is no value
        return 0, known or 0
    if known is None and (values.dropna() % 1 == 0).all():
        return 0, 0
    size = math.log10(largest)
    if size < 1 - (known or _FIGURES):
        power = 3 * round(size / 3)
        return power, max(0, _FIGURES - 2 - math.floor(size - power))
    plain = _FIGURES if -2 <= size < 1 else min(max(0, _FIGURES - 1 - math.floor(size)), _MOST_DIGITS)
    return 0, plain if known is None else known


def _refuse_unknown(columns: pd.Index, better: Mapping[str, str]) -> None:
    for column in columns:
        if better.get(column) not in ("high", "low"):
            raise ValueError(
                f"column {column!r}: say whether 'high' or 'low' is better; known are {dict(better)}"
            )


def as_text(
    scores: pd.DataFrame,
    digits: int | Mapping[str, int] = 4,
    spread: pd.DataFrame | None = None,
    no_zeros: bool = False,
) -> pd.DataFrame:
    """The table as text.

    Args:
        scores: one row per method, one column per metric; NaN where a method has no score.
        digits: decimals printed, of all columns or by column.
        spread: same rows and columns, printed as `± spread`; NaN where there is one seed only.
        no_zeros: print "<0.001" where a number that is not 0 would look like it.
    Returns: strings, the same rows and columns; "-" for NaN.
    Raises: ValueError on a spread that does not fit.
    """
    if spread is not None and not (
        spread.index.equals(scores.index) and spread.columns.equals(scores.columns)
    ):
        raise ValueError(
            f"spread has columns {list(spread)} and {len(spread)} rows; scores {list(scores)}, {len(scores)}"
        )
    text = pd.DataFrame("-", index=scores.index, columns=scores.columns, dtype=object)
    for place, column in enumerate(scores):
        printed = digits if isinstance(digits, int) else digits[column]
        for row in np.flatnonzero(scores[column].notna()):
            known = spread is not None and pd.notna(spread.iat[row, place])
            extra = f" ± {_number(spread.iat[row, place], printed, no_zeros)}" if known else ""
            text.iat[row, place] = f"{_number(scores.iat[row, place], printed, no_zeros)}{extra}"
    return text


def _number(value: float, printed: int, no_zeros: bool) -> str:
    rounded = round(value, printed)
    if no_zeros and value == 0:
        return "0"
    if no_zeros and rounded == 0:
        least = f"{10**-printed:.{printed}f}"
        return f"<{least}" if value > 0 else f">-{least}"
    return f"{rounded:.{printed}f}"


def places(
    scores: pd.DataFrame, better: Mapping[str, str], digits: int | Mapping[str, int] = 4
) -> pd.DataFrame:
    """1 where a score is the best of its column, 2 where it is the second best, else 0; one alone is not best.

    Args:
        scores: one row per method, one column per metric; NaN where a method has no score.
        better: metric to "high" or "low".
        digits: decimals printed, of all columns or by column; values equal as printed share a place.
    Raises: ValueError on a column without a direction.
    """
    _refuse_unknown(scores.columns, better)
    shown = scores.round(digits if isinstance(digits, int) else dict(digits))
    ranks = {
        column: shown[column].rank(method="dense", ascending=better[column] == "low") for column in shown
    }
    ranks = pd.DataFrame(ranks, index=scores.index, columns=scores.columns)
    return ranks.where((ranks <= 2) & (shown.notna().sum() > 1), 0).astype(int)


def placed_where_known(
    scores: pd.DataFrame, better: Mapping[str, str], digits: int | Mapping[str, int] = 4
) -> pd.DataFrame:
    """As `places`, with 0 in a column without a direction."""
    known = scores.columns.intersection(list(better))
    printed = digits if isinstance(digits, int) else {column: digits[column] for column in known}
    return places(scores[known], better, printed).reindex(columns=scores.columns, fill_value=0)


def starred(text: pd.DataFrame, placed: pd.DataFrame) -> pd.DataFrame:
    """A table of text with `*` after the best of each column; `placed` is from `places`."""
    return text.mask(placed == 1, text + " *")


def mark_best(
    scores: pd.DataFrame, better: Mapping[str, str], digits: int = 4, spread: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The table as text, the best of each column marked `*`; values equal as printed are equally best.

    Args: as of `as_text` and `places`.
    Returns: strings, the same rows and columns; "-" for NaN.
    Raises: ValueError on a column without a direction, or a spread that does not fit.
    """
    return starred(as_text(scores, digits, spread), places(scores, better, digits))


def best_in_bold(scores: pd.DataFrame, better: Mapping[str, str], digits: int = 4) -> Styler:
    """The table with the best of each column in bold: shown by a notebook, and `.to_latex(...)` for a paper.

    Args:
        scores: one row per method, one column per metric; NaN where a method has no score.
        better: metric to "high" or "low"; a column without a direction stays plain.
        digits: decimals printed; values equal as printed are equally best.
    """
    best = placed_where_known(scores, better, digits)
    return dressed(scores, best.where(best == 1, 0), digits)


def dressed(table: pd.DataFrame, placed: pd.DataFrame, digits: int = 4) -> Styler:
    """A table with the best in bold and the second best underlined, in HTML and by `results.save_latex`.

    Its texts and names stay text in both.

    Args:
        table: numbers or text.
        placed: from `places`, the same rows and columns.
        digits: decimals of numbers.
    """
    styler = Styler(table, precision=digits, na_rep="-", uuid_len=0, escape="html")
    styler = styler.format_index(escape="html").format_index(escape="html", axis="columns")
    return styler.apply(lambda _: placed.apply(lambda column: column.map(_CSS).fillna("")), axis=None)


def markdown(text: pd.DataFrame, placed: pd.DataFrame) -> str:
    """A table of text for GitHub: the best in bold, the second best in italics; what looks like markup stays text.

    Args:
        text: strings.
        placed: from `places`, the same rows and columns.
    """
    text = text.map(plain)
    cells = text.copy()
    for place, form in _MARKDOWN.items():
        cells = cells.mask(placed == place, text.map(form.format))
    headers = [plain(" ".join(name) if isinstance(name, tuple) else name) for name in text.columns]
    lines = [["", *headers], ["---", *["---:"] * len(headers)]]
    lines += [[plain(row), *values] for row, values in zip(cells.index, cells.to_numpy(), strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def difference_table(differences: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The paired differences as text: mean ± half width of Student's 95 % interval over the seeds.

    Args:
        differences: variant to a table from `evaluation.scores.paired`.
    Returns: one row per variant, one column per metric; no ± where there is one seed only, "-" where there is no score.
    """
    cells = {
        variant: {
            header(metric): difference_text(*confidence_interval(values.to_numpy()), DIGITS.get(metric, 4))
            if values.notna().any()
            else "-"
            for metric, values in table.items()
        }
        for variant, table in differences.items()
    }
    return pd.DataFrame(cells).T.rename_axis("variant")


def _draw_metric(ax: Axes, metric: str, differences: Mapping[str, pd.DataFrame], direction: str) -> None:
    for row, table in enumerate(differences.values()):
        values = table[metric].to_numpy(dtype=float)
        if np.isnan(values).all():
            ax.annotate("no score", (0.5, row), xycoords=("axes fraction", "data"), ha="center", va="center")
            continue
        mean, half = confidence_interval(values)
        colour = PALETTE[row % len(PALETTE)]
        ax.scatter(values, np.full(values.size, row + 0.2), s=22, color=colour, alpha=0.6, linewidth=0)
        ax.errorbar(
            mean, row, xerr=None if np.isnan(half) else half, fmt="D", color=colour, capsize=4, markersize=6
        )
        ax.annotate(
            f"{mean:+.2g}".replace("-", "−"),
            (mean, row),
            (0, 7),
            textcoords="offset points",
            ha="center",
            va="bottom",
        )
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_ylim(len(differences) - 0.5, -0.6)
    ax.xaxis.set_major_locator(MaxNLocator(3))
    ax.ticklabel_format(axis="x", scilimits=(-2, 3))
    ax.margins(x=0.35)
    ax.set_title(
        f"{with_unit(metric, unit_of(metric))}\n({'right' if direction == 'high' else 'left'} is better)"
    )
    ax.set_xlabel("difference", loc="left")  # to the right stands the axis' power of ten


@styled
def paired_differences(
    differences: Mapping[str, pd.DataFrame], better: Mapping[str, str], title: str = "", width: float = WIDTH
) -> Figure:
    """What a change does, seed by seed: dots are seeds, the diamond their mean with its 95 % t interval.

    Args:
        differences: comparison ("language - none") to a table of differences, one row per seed and one column
            per metric; the metrics of the first table are drawn.
        better: metric to "high" or "low".
        title: of the whole figure.
        width: inches: `WIDTH`, or `COLUMN` for one column of a paper.
    Raises: ValueError on an empty request, a missing metric, a metric without direction, or NaN for some seeds only.
    """
    if not differences:
        raise ValueError("no comparisons to draw: give at least one")
    metrics = next(iter(differences.values())).columns
    _refuse_unknown(metrics, better)
    for label, table in differences.items():
        missing = [metric for metric in metrics if metric not in table]
        if missing:
            raise ValueError(f"comparison {label!r} lacks {missing}; it has {list(table)}")
    across = plots_across(width)
    figure, axes = panels(len(metrics), across, 1.3 + 0.45 * len(differences), width)
    labels = [fill(label, _LABEL) for label in differences]
    for place, (ax, metric) in enumerate(zip(axes, metrics, strict=True)):
        _draw_metric(ax, metric, differences, better[metric])
        ax.set_yticks(range(len(labels)), labels if place % across == 0 else [])
    headed(figure, title or "paired by seed: dots are seeds, diamonds the mean with its 95 % interval")
    return figure
