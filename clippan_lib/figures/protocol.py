"""The protocol laboratory's pictures: who ranks where and how surely, and which spoiling is seen at all."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from clippan_lib.figures.style import (
    PALETTE,
    WIDE,
    WIDTH,
    fitted,
    headed,
    legend_below,
    panels,
    plots_across,
    styled,
)

_PANEL, _ROW = 1.5, 0.27  # inches of a panel without its rows, and of a row


@styled
def protocol_ranking(
    rankings: Mapping[str, pd.DataFrame],
    chance: Mapping[str, Float[Tensor, " r"]],
    ceiling: Mapping[str, float],
    title: str = "",
    width: float = WIDTH,
) -> Figure:
    """How often each candidate prefers the true fusion, with its interval, beside what chance does.

    Args:
        rankings: panel title to a table of `protocol.rank`; the same candidates in each, drawn in the order of
            the last.
        chance: the same titles to the shares of random directions; their central 95 % is the grey band.
        ceiling: the same titles to the share of the fitted direction, a dashed line.
        title: of the whole figure.
        width: inches: `WIDTH`, or `COLUMN` for one column of a paper.
    Raises: ValueError on no rankings, or other titles or candidates in one than in another.
    """
    if not rankings or not rankings.keys() == chance.keys() == ceiling.keys():
        raise ValueError(
            f"panels {[*rankings]}, chance {[*chance]}, ceiling {[*ceiling]}: give the same, not none"
        )
    order = [*rankings.values()][-1].index
    across = plots_across(width, WIDE)
    figure, axes = panels(len(rankings), across, _PANEL + _ROW * len(order), width, sharey=True)
    for colour, ax, (name, table) in zip(PALETTE, axes, rankings.items(), strict=False):
        if set(table.index) != set(order):
            raise ValueError(
                f"{name!r} ranks {list(table.index)}, the last panel {list(order)}: give the same"
            )
        table = table.loc[order]
        low, high = np.quantile(chance[name].numpy(), [0.025, 0.975])
        ax.axvspan(low, high, color="0.92", linewidth=0, label="95 % of random directions")
        ax.axvline(0.5, color="black", linewidth=0.8, label="a coin")
        ax.axvline(
            ceiling[name], color="0.4", linewidth=1.2, linestyle="--", label="fitted on training patches"
        )
        ax.hlines(range(len(order)), table["wins_low"], table["wins_high"], color=colour, linewidth=2)
        ax.plot(table["wins"], range(len(order)), "o", color=colour, markersize=6)
        ax.set(title=name, xlim=(0, 1))
        ax.set_xlabel(fitted("true fusion preferred (share of comparisons)", width / across - 1.4))
        ax.xaxis.set_major_formatter(PercentFormatter(1))
    axes[0].set_yticks(range(len(order)), list(order))
    axes[0].invert_yaxis()
    legend_below(figure, *axes[0].get_legend_handles_labels())
    headed(figure, title)
    return figure


@styled
def protocol_spoilings(wins: Mapping[str, pd.DataFrame], title: str = "", width: float = WIDTH) -> Figure:
    """Per candidate and spoiling, the share of patches whose true fusion is preferred; white is a coin.

    Args:
        wins: panel title to a table, one row per candidate and one column per spoiling, in [0, 1]; all panels
            have the rows of the first.
        title: of the whole figure.
        width: inches: `WIDTH`, or `COLUMN` for one column of a paper.
    Raises: ValueError on no tables, or other rows or columns in one than in the first.
    """
    if not wins:
        raise ValueError("no shares to draw: give at least one table")
    first = next(iter(wins.values()))
    across = plots_across(width, WIDE)
    figure, axes = panels(len(wins), across, _PANEL + _ROW * len(first), width, sharey=True)
    for ax, (name, table) in zip(axes, wins.items(), strict=True):
        if not (table.index.equals(first.index) and table.columns.equals(first.columns)):
            raise ValueError(f"{name!r} has other rows or columns than the first panel: give the same")
        drawn = ax.imshow(table.to_numpy(), cmap="PuOr_r", vmin=0, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(table.to_numpy()):
            colour = "white" if abs(value - 0.5) > 0.35 else "black"
            ax.text(column, row, f"{value:.0%}", ha="center", va="center", color=colour, fontsize=10)
        ax.set_xticks(range(table.shape[1]), list(table), rotation=25, ha="right", rotation_mode="anchor")
        ax.set_title(name)
    axes[0].set_yticks(range(len(first)), list(first.index))
    figure.colorbar(drawn, ax=axes, label="true fusion preferred", format=PercentFormatter(1))
    headed(figure, title)
    return figure


@styled
def steering(
    changes: Mapping[str, pd.DataFrame],
    own: Mapping[str, str] | None = None,
    title: str = "",
    width: float = WIDTH,
) -> Figure:
    """Per text and axis, by how many per cent a walk along the text moves the axis; white is not at all.

    Args:
        changes: panel title to a table, one row per text and one column per axis; all have the columns of the first.
        own: row to the axis that its words speak of, which gets a frame.
        title: of the whole figure.
        width: inches: `WIDTH`, or `COLUMN` for one column of a paper.
    Raises: ValueError on no tables, or other columns in one than in the first.
    """
    if not changes:
        raise ValueError("no changes to draw: give at least one table")
    first = next(iter(changes.values()))
    limit = max(float(np.nanquantile(np.abs(table.to_numpy()), 0.95)) for table in changes.values()) or 1.0
    tall = _PANEL + _ROW * max(map(len, changes.values()))
    figure, axes = panels(len(changes), plots_across(width, WIDE), tall, width)
    for ax, (name, table) in zip(axes, changes.items(), strict=True):
        if not table.columns.equals(first.columns):
            raise ValueError(f"{name!r} has other columns than the first panel: give the same")
        drawn = ax.imshow(table.to_numpy(), cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
        for (row, column), value in np.ndenumerate(table.to_numpy()):
            colour = "white" if abs(value) > 0.7 * limit else "black"
            ax.text(column, row, f"{value:+.1f}", ha="center", va="center", color=colour, fontsize=9)
        for row, text in enumerate(table.index):
            if own and text in own:
                place = list(table).index(own[text]) - 0.5, row - 0.5
                ax.add_patch(Rectangle(place, 1, 1, fill=False, edgecolor="black", linewidth=1.5))
        ax.set_xticks(range(table.shape[1]), list(table), rotation=25, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(len(table)), list(table.index))
        ax.set_title(name)
    figure.colorbar(drawn, ax=axes, label="change of the axis (%)", extend="both")
    headed(figure, title)
    return figure
