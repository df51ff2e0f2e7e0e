"""Where an index finds fault: maps of several methods side by side, one scale per index."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from clippan_lib.figures.images import draw
from clippan_lib.figures.style import WIDTH, fitted, headed, new_figure, styled

_COLOURS = "magma"
_SHOWN = 99  # percentile at which the colours end
_BAR = 0.9  # inches of the colour bar with its numbers and label


@styled
def index_maps(
    maps: Mapping[str, Mapping[str, Float[Tensor, "H W"]]], title: str = "", width: float = WIDTH
) -> Figure:
    """One row per index, one column per method; maps of an index share a scale, and the mean stands below.

    Args:
        maps: index (with its unit, if it has one) to method to map; every index has the same methods.
        title: of the whole figure.
        width: inches: `WIDTH`, or `COLUMN` for one column of a paper.
    Raises: ValueError on no maps, or on an index with other methods than the first.
    """
    methods = [*next(iter(maps.values()), {})]
    if not methods or any([*row] != methods for row in maps.values()):
        raise ValueError(f"maps of {[*maps]}: give every index the same methods, at least one")
    first = maps[next(iter(maps))][methods[0]]
    cell = (width - _BAR) / len(methods)
    figure = new_figure((cell * first.shape[0] / first.shape[1] + 0.35) * len(maps) + 0.5, width)
    grid = figure.subplots(len(maps), len(methods), squeeze=False)
    for axes, (index, row) in zip(grid, maps.items(), strict=True):
        limit = float(np.percentile(np.stack([row[name].numpy() for name in methods]), _SHOWN)) or 1.0
        for ax, name in zip(axes, methods, strict=True):
            drawn = draw(ax, row[name].numpy(), tuple(row[name].shape), cmap=_COLOURS, vmin=0.0, vmax=limit)
            ax.set_xlabel(fitted(f"mean {row[name].mean():.3g}", cell - 0.1))
        bar = figure.colorbar(drawn, ax=axes, extend="max", label=index, shrink=0.9)
        bar.solids.set_rasterized(True)
    for ax, name in zip(grid[0], methods, strict=True):
        ax.set_title(fitted(name, cell - 0.1))
    headed(figure, title)
    return figure
