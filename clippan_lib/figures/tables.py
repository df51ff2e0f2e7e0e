"""Tables of scores with the best marked, and the picture of paired differences over seeds."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pandas.io.formats.style import Styler
from scipy import stats

from clippan_lib.figures.style import PALETTE, panels, styled


def _refuse_unknown(columns: pd.Index, better: Mapping[str, str]) -> None:
    for column in columns:
        if better.get(column) not in ("high", "low"):
            raise ValueError(
                f"column {column!r}: say whether 'high' or 'low' is better; known are {dict(better)}"
            )


def mark_best(
    scores: pd.DataFrame, better: Mapping[str, str], digits: int = 4, spread: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The table as text, the best of each column marked `*`; values equal as printed are equally best.

    Args:
        scores: one row per method, one column per metric; NaN where a method has no score.
        better: metric to "high" or "low".
        digits: decimals printed.
        spread: same rows and columns, printed as `± spread`; NaN where there is one seed only.
    Returns: strings, the same rows and columns; "-" for NaN.
    Raises: ValueError on a column without a direction, or a spread that does not fit.
    """
    _refuse_unknown(scores.columns, better)
    if spread is not None and not (
        spread.index.equals(scores.index) and spread.columns.equals(scores.columns)
    ):
        raise ValueError(
            f"spread has columns {list(spread)} and {len(spread)} rows; scores {list(scores)}, {len(scores)}"
        )
    marked = pd.DataFrame("-", index=scores.index, columns=scores.columns, dtype=object)
    for column in scores:
        shown = scores[column].round(digits)
        best = shown.max() if better[column] == "high" else shown.min()
        for row in np.flatnonzero(shown.notna()):
            known = spread is not None and pd.notna(spread[column].iloc[row])
            extra = f" ± {spread[column].iloc[row]:.{digits}f}" if known else ""
            star = " *" if shown.iloc[row] == best else ""
            marked.iloc[row, marked.columns.get_loc(column)] = f"{shown.iloc[row]:.{digits}f}{extra}{star}"
    return marked


def best_in_bold(scores: pd.DataFrame, better: Mapping[str, str], digits: int = 4) -> Styler:
    """The table with the best of each column in bold: shown by a notebook, and `.to_latex(...)` for a paper.

    Args:
        scores: one row per method, one column per metric; NaN where a method has no score.
        better: metric to "high" or "low"; a column without a direction stays plain.
        digits: decimals printed; values equal as printed are equally best.
    """
    styler = Styler(scores, precision=digits, na_rep="-", uuid_len=0)
    for column in scores.columns.intersection(list(better)):
        shown = scores[column].round(digits)
        best = shown.max() if better[column] == "high" else shown.min()
        styler.map(lambda value, best=best: _bold(value, best, digits), subset=[column])
    return styler


def _bold(value: float, best: float, digits: int) -> str:
    return "font-weight: bold" if round(value, digits) == best else ""


def confidence_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Mean and half width of Student's t interval of the mean.

    Args:
        values: (n,), one per seed.
        level: of confidence, between 0 and 1.
    Returns: mean, half width; the half width is NaN for fewer than two values.
    Raises: ValueError on no values or on NaN.
    """
    if values.size == 0 or np.isnan(values).any():
        raise ValueError(f"values {values}: give at least one and no NaN (are the same seeds in both runs?)")
    n = values.size
    half = stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return float(values.mean()), float(half)


def _draw_metric(ax: Axes, metric: str, differences: Mapping[str, pd.DataFrame], direction: str) -> None:
    for row, table in enumerate(differences.values()):
        values = table[metric].to_numpy(dtype=float)
        mean, half = confidence_interval(values)
        colour = PALETTE[row % len(PALETTE)]
        ax.scatter(values, np.full(values.size, row + 0.2), s=22, color=colour, alpha=0.6, linewidth=0)
        ax.errorbar(
            mean, row, xerr=None if np.isnan(half) else half, fmt="D", color=colour, capsize=4, markersize=6
        )
        ax.annotate(
            f"{mean:+.3g}".replace("-", "−"),
            (mean, row),
            (0, 7),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=9,
        )
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_ylim(len(differences) - 0.5, -0.6)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.margins(x=0.15)
    ax.set_title(f"{metric} ({'right' if direction == 'high' else 'left'} is better)")
    ax.set_xlabel("difference")


@styled
def paired_differences(
    differences: Mapping[str, pd.DataFrame], better: Mapping[str, str], columns: int = 3, title: str = ""
) -> Figure:
    """What a change does, seed by seed: dots are seeds, the diamond their mean with its 95 % t interval.

    Args:
        differences: comparison ("language - none") to a table of differences, one row per seed and one column
            per metric; the metrics of the first table are drawn.
        better: metric to "high" or "low".
        columns: panels side by side.
        title: of the whole figure.
    Raises: ValueError on an empty request, a missing metric, a metric without direction, or NaN.
    """
    if not differences:
        raise ValueError("no comparisons to draw: give at least one")
    metrics = next(iter(differences.values())).columns
    _refuse_unknown(metrics, better)
    for label, table in differences.items():
        missing = [metric for metric in metrics if metric not in table]
        if missing:
            raise ValueError(f"comparison {label!r} lacks {missing}; it has {list(table)}")
    figure, axes = panels(len(metrics), columns, 1.3 + 0.6 * len(differences))
    for place, (ax, metric) in enumerate(zip(axes, metrics, strict=True)):
        _draw_metric(ax, metric, differences, better[metric])
        first = place % min(columns, len(metrics)) == 0
        ax.set_yticks(range(len(differences)), list(differences) if first else [])
    figure.suptitle(title or "paired by seed: dots are seeds, diamonds the mean with its 95 % interval")
    return figure
