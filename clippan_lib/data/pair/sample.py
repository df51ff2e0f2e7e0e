"""Some pixels of a file, spread over all of it, from few of its blocks."""

from dataclasses import dataclass

import numpy as np

from clippan_lib.data.pair.raster import Raster, open_raster
from clippan_lib.errors import DataError

SIDE = 1024  # px of a sample; a file that is no larger is read whole
BUDGET = 2**23  # values that are decoded, if a few blocks do not hold more
PIECES = (16, 256)  # blocks that are read, at least and at most
LARGEST = 2**22  # px of a piece of a block


@dataclass(frozen=True)
class Sample:
    """Stored values where some rows and columns of a file cross, among them the first and the last.

    Args:
        image: (c, h, w) float32.
        valid: (h, w), as far as the file says.
        rows, columns: which they are: px, increasing.
    """

    image: np.ndarray
    valid: np.ndarray
    rows: np.ndarray
    columns: np.ndarray


def take_sample(raster: Raster) -> Sample:
    """Read a sample; overviews, which may hold means, are not used. What is corrupt counts as invalid."""
    rows, columns = _places(raster)
    image = np.zeros((len(raster.bands), sum(map(len, rows)), sum(map(len, columns))), np.float32)
    valid = np.zeros(image.shape[1:], bool)
    top = 0
    for of_row in rows:
        left = 0
        for of_column in columns:
            to = slice(top, top + len(of_row)), slice(left, left + len(of_column))
            part = tuple(range(at[0], at[-1] + 1) for at in (of_row, of_column))
            crossings = np.ix_(of_row - of_row[0], of_column - of_column[0])
            left = to[1].stop
            try:
                stored, there = raster.declared(*part)
            except DataError:  # to be said where it is read: other parts of the scene may still be of use
                continue
            image[:, *to], valid[to] = stored[:, *crossings], there[crossings]
        top += len(of_row)
    return Sample(image, valid, np.concatenate(rows), np.concatenate(columns))


def _places(raster: Raster) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Rows and columns, piece by piece."""
    height, width = raster.size
    if max(raster.size) <= SIDE:
        return [np.arange(height)], [np.arange(width)]
    with open_raster(raster.path) as file:
        high, wide = file.block_shapes[raster.bands[0] - 1]
    high = min(high, max(1, LARGEST // wide))
    in_file = -(-height // high), -(-width // wide)
    count = int(np.clip(BUDGET // (high * wide * len(raster.bands)), *PIECES))
    down = min(in_file[0], max(round(count**0.5), count // in_file[1]))
    right = min(in_file[1], max(1, count // down))
    return _along(height, high, down), _along(width, wide, right)


def _along(length: int, piece: int, count: int) -> list[np.ndarray]:
    """Positions in so many of the pieces of a side, evenly spread; its ends are among them."""
    chosen = np.unique(np.linspace(0, -(-length // piece) - 1, count).round().astype(int))
    each = -(-SIDE // len(chosen))
    spans = [(piece * number, min(piece * (number + 1), length)) for number in chosen.tolist()]
    return [
        np.unique(np.linspace(start, stop - 1, min(each, stop - start)).round().astype(int))
        for start, stop in spans
    ]
